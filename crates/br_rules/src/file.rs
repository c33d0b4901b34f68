//! Rule files as Prometheus has them: groups of recording and alerting rules.
//!
//! Source: the Prometheus documentation, "Recording rules" and "Alerting rules", version 3.

use crate::complaint::{Complaint, Position, Severity};
use crate::template::Template;
use std::fmt::Write as _;
use std::time::Duration;

/// One rule file, as far as it could be read.
#[derive(Clone, Debug, Default)]
pub struct RuleFile {
    /// The name under which it was loaded; part of the identity of its groups.
    pub name: String,
    pub groups: Vec<Group>,
}

/// Rules that are evaluated together, in order, at the same points in time.
#[derive(Clone, Debug)]
pub struct Group {
    pub name: String,
    /// `None`: the evaluation interval of the configuration.
    pub interval: Option<Duration>,
    /// Expressions are evaluated this much in the past, and what is recorded carries that time, as in Prometheus.
    /// `None`: as the configuration says.
    pub query_offset: Option<Duration>,
    /// A rule that yields more alerts or series than this fails; 0 is no limit.
    pub limit: usize,
    pub rules: Vec<Rule>,
    pub position: Position,
}

#[derive(Clone, Debug)]
pub struct Rule {
    pub kind: RuleKind,
    /// Kept as text: this crate knows no language.
    pub expression: String,
    /// Those of the group and of the rule together, sorted by name; the rule's own win.
    pub labels: Vec<LabelTemplate>,
    pub position: Position,
}

#[derive(Clone, Debug)]
pub enum RuleKind {
    Recording {
        /// The metric name of the result.
        record: String,
    },
    Alerting {
        /// The value of the label `alertname`.
        alert: String,
        /// How long the expression must hold before the alert fires (`for`).
        hold: Duration,
        /// How long the alert goes on firing after the expression no longer holds.
        keep_firing_for: Duration,
        /// Sorted by name.
        annotations: Vec<LabelTemplate>,
    },
}

/// A label or annotation whose value is a template. In recording rules the value is taken as it stands.
#[derive(Clone, Debug)]
pub struct LabelTemplate {
    pub name: String,
    pub template: Template,
}

impl Rule {
    /// `alert` or `record`.
    pub fn name(&self) -> &str {
        match &self.kind {
            RuleKind::Recording { record } => record,
            RuleKind::Alerting { alert, .. } => alert,
        }
    }

    /// The source text of a label's value, such as `severity`.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|label| label.name == name).map(|label| label.template.source())
    }

    /// What tells this rule from others of its group over a reload: kind, name and labels.
    pub(crate) fn identity(&self) -> String {
        let kind = if matches!(self.kind, RuleKind::Recording { .. }) { "record" } else { "alert" };
        let mut identity = format!("{kind} {:?}", self.name());
        for label in &self.labels {
            let _ = write!(identity, " {:?}={:?}", label.name, label.template.source());
        }
        identity
    }
}

/// A file and everything that is wrong with it.
#[derive(Clone, Debug, Default)]
pub struct Parsed {
    /// Without the rules and groups that have errors.
    pub file: RuleFile,
    /// In the order of the text.
    pub complaints: Vec<Complaint>,
}

impl Parsed {
    pub fn errors(&self) -> impl Iterator<Item = &Complaint> {
        self.complaints.iter().filter(|complaint| complaint.severity == Severity::Error)
    }
}
