//! One rule file held to the rules: what is wrong with it, and what is worth a look.

use br_rules::{Complaint, ParseOptions, RuleFile, Severity, parse_with};

/// What a rule file holds and what is to be said of it.
#[derive(Clone, Debug)]
pub struct Lint {
    /// Without what is wrong.
    pub file: RuleFile,
    /// In the order of the text.
    pub complaints: Vec<Complaint>,
}

impl Lint {
    pub fn count(&self, severity: Severity) -> usize {
        self.complaints.iter().filter(|complaint| complaint.severity == severity).count()
    }

    /// Rules that are right.
    pub fn rules(&self) -> usize {
        self.file.groups.iter().map(|group| group.rules.len()).sum()
    }
}

/// Checks the text of a rule file, expressions and templates included.
pub fn lint(name: &str, text: &str, options: ParseOptions) -> Lint {
    let parsed = parse_with(name, text, &crate::check, options);
    Lint { file: parsed.file, complaints: parsed.complaints }
}
