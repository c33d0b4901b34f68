//! What the HTTP layer shows of rules and alerts.

use br_rules::{Alert, Rule};
use br_std::Nanos;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleHealth {
    /// Not evaluated yet.
    Unknown,
    Good,
    Error(String),
}

impl RuleHealth {
    /// The word of the Prometheus API.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Good => "ok",
            Self::Error(_) => "err",
        }
    }
}

#[derive(Clone, Debug)]
pub struct GroupView {
    pub file: String,
    pub name: String,
    pub interval: Duration,
    pub limit: usize,
    pub last_evaluation: Option<Nanos>,
    pub evaluation_time: Duration,
    pub rules: Vec<RuleView>,
}

#[derive(Clone, Debug)]
pub struct RuleView {
    pub rule: Rule,
    pub health: RuleHealth,
    pub last_evaluation: Option<Nanos>,
    pub evaluation_time: Duration,
    /// Pending, firing and lately resolved; empty for a recording rule.
    pub alerts: Vec<Alert>,
}

/// One alert with the rule that it comes from.
#[derive(Clone, Debug)]
pub struct AlertView {
    pub alert: Alert,
    pub file: String,
    pub group: String,
    pub query: String,
    pub hold: Duration,
    pub incident_id: Option<String>,
}
