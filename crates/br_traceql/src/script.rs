//! Conformance of the parser: a YAML file with lists of queries under `valid`, `parse_fails`, `validate_fails` and `unsupported`.
//! What queries find is the matter of [`evaluate`].

mod eval;
mod load;

pub use eval::run as evaluate;

use crate::{Fault, parse};

/// What became of a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    pub passed: usize,
    pub failures: Vec<Failure>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// Counts from 1.
    pub line: usize,
    pub message: String,
}

/// Tries all queries. Those under `unsupported`, which Tempo refuses, may be accepted or refused, but not as wrong.
pub fn run(text: &str) -> Report {
    let mut report = Report::default();
    let mut section = "";
    for (at, line) in text.lines().enumerate() {
        if let Some(query) = line.strip_prefix("- ") {
            match check(section, &scalar(query)) {
                None => report.passed += 1,
                Some(message) => report.failures.push(Failure { line: at + 1, message }),
            }
        } else if let Some((name, _)) = line.split_once(':').filter(|_| !line.starts_with('#')) {
            section = name.trim();
        }
    }
    report
}

fn check(section: &str, query: &str) -> Option<String> {
    let result = parse(query);
    let fault = result.as_ref().err().map(|error| error.fault);
    let fits = match section {
        "valid" => fault.is_none(),
        "parse_fails" => fault == Some(Fault::Syntax),
        "validate_fails" => fault == Some(Fault::Invalid),
        "unsupported" => fault.is_none() || fault == Some(Fault::Unsupported),
        _ => return Some(format!("unknown section {section:?}")),
    };
    (!fits).then(|| match result {
        Ok(_) => format!("{section}: {query}: accepted"),
        Err(error) => format!("{section}: {query}: {:?}: {error}", error.fault),
    })
}

/// A YAML scalar on one line: plain, or in single or double quotes.
fn scalar(text: &str) -> String {
    let text = text.trim();
    if let Some(inside) = text.strip_prefix('\'').and_then(|text| text.strip_suffix('\'')) {
        return inside.replace("''", "'");
    }
    let Some(inside) = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) else { return text.to_owned() };
    let mut out = String::new();
    let mut characters = inside.chars();
    while let Some(character) = characters.next() {
        match (character, character == '\\') {
            (_, true) => match characters.next() {
                Some('t') => out.push('\t'),
                Some('n') => out.push('\n'),
                Some(other) => out.push(other),
                None => {}
            },
            (plain, false) => out.push(plain),
        }
    }
    out
}
