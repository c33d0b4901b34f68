//! What an alert carries: gathered once when it fires, then frozen in the ledger.

use super::Curve;
use br_incident::fact::service_of;
use br_model::Labels;
use br_rules::Alert;
use br_std::Nanos;
use br_storage::{LogSource, SpanSource};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Steps that a rule may write down; beyond it nobody reads.
const WRITTEN_STEPS_MAX: usize = 20;

/// Where evidence is found; one tenant's.
#[derive(Clone)]
pub struct EvidenceSources {
    pub logs: Arc<dyn LogSource>,
    pub spans: Arc<dyn SpanSource>,
}

/// Times are nanoseconds since the Unix epoch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    pub frozen_at: i64,
    pub what: String,
    #[serde(rename = "where")]
    pub place: String,
    pub why: String,
    pub since: i64,
    pub service: String,
    /// The path that the alert itself names; empty when it names none.
    #[serde(default)]
    pub path: String,
    pub owner: String,
    pub runbook: String,
    pub next_steps: Vec<String>,
    /// What the rule compares, and with what, where it compares with a number.
    pub query: String,
    #[serde(default)]
    pub threshold: Option<f64>,
    /// Time and value as text, of the 15 minutes before.
    pub points: Vec<(i64, String)>,
    pub traces: Vec<TraceEvidence>,
    pub paths: Vec<PathEvidence>,
    pub errors: Vec<ErrorEvidence>,
    /// Where the traces began to fail, the commonest first.
    #[serde(default)]
    pub causes: Vec<CauseEvidence>,
    pub deploy: Option<DeployEvidence>,
    /// What could not be gathered, and why.
    pub missing: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TraceEvidence {
    pub trace_id: String,
    pub root_name: String,
    pub duration_ms: f64,
    pub status: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PathEvidence {
    pub path: String,
    pub requests: u64,
    pub errors: u64,
    pub p95_ms: f64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ErrorEvidence {
    /// The newest of its kind.
    pub at: i64,
    pub title: String,
    pub trace_id: String,
    /// So many of the events that were looked at have this title.
    #[serde(default)]
    pub count: u64,
    /// As the list of issues has it; empty when the list does not know it yet.
    #[serde(default)]
    pub issue_id: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CauseEvidence {
    pub service: String,
    /// The name of the span that failed first.
    pub span: String,
    pub message: String,
    /// So many of the alert's traces.
    pub traces: u64,
    /// One of them.
    pub trace_id: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DeployEvidence {
    pub service: String,
    pub version: String,
    pub at: i64,
}

impl Evidence {
    /// What labels and annotations alone say: always at hand.
    pub fn of_alert(alert: &Alert, query: &str, at: Nanos) -> Self {
        let annotation = |names: &[&str]| {
            let found = names.iter().find_map(|name| alert.annotations.get(name).or_else(|| alert.labels.get(name)));
            found.unwrap_or("").to_owned()
        };
        let service = service_of(&alert.labels).to_owned();
        let name = alert.labels.get("alertname").unwrap_or("").to_owned();
        let summary = annotation(&["summary", "message", "description"]);
        let runbook = annotation(&["runbook_url", "runbook"]);
        let mut next_steps = written_steps(&annotation(&["next_steps"]));
        if !runbook.is_empty() {
            next_steps.push(format!("Follow the runbook: {runbook}"));
        }
        next_steps.push("Acknowledge the incident, so that others know that somebody looks at it.".to_owned());
        Self {
            frozen_at: at.0,
            what: if summary.is_empty() { name } else { summary },
            place: place_of(&alert.labels, &service),
            why: annotation(&["impact", "description"]),
            since: alert.active_at.0,
            path: label_of_path(&alert.labels),
            owner: annotation(&["owner", "team"]),
            query: query.to_owned(),
            points: vec![(at.0, alert.value.to_string())],
            service,
            runbook,
            next_steps,
            ..Self::default()
        }
    }

    /// Replaces the one point of the alert's own value.
    pub(super) fn take_curve(&mut self, curve: Curve) {
        self.query = curve.query;
        self.threshold = curve.threshold;
        if !curve.points.is_empty() {
            self.points = curve.points.into_iter().map(|(at, value)| (at.0, value.to_string())).collect();
        }
    }
}

/// One step a line; a number or a dash in front of it goes, as lists are numbered where they are shown.
fn written_steps(text: &str) -> Vec<String> {
    let steps = text.lines().map(|line| {
        let line = line.trim();
        let unnumbered = line.trim_start_matches(|character: char| character.is_ascii_digit());
        let rest = match unnumbered.strip_prefix(['.', ')']) {
            Some(rest) if unnumbered.len() < line.len() => rest,
            _ => line.strip_prefix(['-', '*']).unwrap_or(line),
        };
        // "1.5 % of …" and "-5 °C" are no list marks.
        if rest.starts_with(' ') { rest.trim() } else { line }.to_owned()
    });
    steps.filter(|step| !step.is_empty()).take(WRITTEN_STEPS_MAX).collect()
}

/// The service, and what else sets the alert apart: `shop-front, path=/checkout`.
fn place_of(labels: &Labels, service: &str) -> String {
    let told_elsewhere = |name: &str| matches!(name, "alertname" | "severity" | "owner" | "team");
    let names_service = |name: &str, value: &str| matches!(name, "service" | "service_name" | "job") && value == service;
    let rest = labels.iter().filter(|(name, value)| !told_elsewhere(name) && !names_service(name, value));
    let rest = rest.map(|(name, value)| format!("{name}={value}"));
    Some(service.to_owned()).filter(|service| !service.is_empty()).into_iter().chain(rest).collect::<Vec<_>>().join(", ")
}

fn label_of_path(labels: &Labels) -> String {
    let names = ["path", "http_route", "route", "handler", "endpoint"];
    names.iter().find_map(|name| labels.get(name)).unwrap_or("").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_steps_lose_their_marks() {
        let check = |text: &str, expect: &[&str]| assert_eq!(written_steps(text), expect, "{text}");
        check("1. Look.\n2) Fix.\n\n", &["Look.", "Fix."]);
        check("- a\n * b\nc", &["a", "b", "c"]);
        check("1.5 % is the limit\n-5 °C\n3", &["1.5 % is the limit", "-5 °C", "3"]);
        check("", &[]);
    }

    #[test]
    fn a_place_says_the_service_once() {
        let check = |labels: &[(&str, &str)], expect: &str| {
            let labels = Labels::from_pairs(labels.iter().copied());
            assert_eq!(place_of(&labels, service_of(&labels)), expect);
        };
        check(&[("alertname", "A"), ("job", "shop"), ("owner", "o"), ("path", "/x"), ("service", "shop")], "shop, path=/x");
        check(&[("job", "node"), ("service", "shop")], "shop, job=node");
        check(&[("alertname", "A"), ("instance", "i:1")], "instance=i:1");
        check(&[("alertname", "A"), ("severity", "page")], "");
    }
}
