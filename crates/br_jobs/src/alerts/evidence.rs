//! What an alert carries: gathered once when it fires, then frozen in the ledger.

use br_incident::fact::service_of;
use br_model::{LogKind, SpanKind, SpanStatus};
use br_rules::Alert;
use br_std::{Nanos, Result};
use br_storage::{Budget, Direction, LogQuery, LogSource, Matcher, SpanHint, SpanQuery, SpanSource, TimeRange};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How far back evidence is looked for.
const LOOKBACK: Duration = Duration::from_mins(15);
/// Spans that are looked at.
const SPANS_MAX: usize = 50_000;
const TRACES_MAX: usize = 5;
const PATHS_MAX: usize = 5;
const ERRORS_MAX: usize = 20;
/// Of a log line this much is kept.
const LINE_BYTES_MAX: usize = 500;
/// Distinct paths that are told apart.
const PATHS_SEEN_MAX: usize = 1000;

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
    pub owner: String,
    pub runbook: String,
    pub next_steps: Vec<String>,
    pub query: String,
    /// Time and value as text.
    pub points: Vec<(i64, String)>,
    pub traces: Vec<TraceEvidence>,
    pub paths: Vec<PathEvidence>,
    pub errors: Vec<ErrorEvidence>,
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
    pub at: i64,
    pub title: String,
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
        let mut next_steps = Vec::new();
        if !runbook.is_empty() {
            next_steps.push(format!("Follow the runbook: {runbook}"));
        }
        next_steps.push("Acknowledge the incident, so that others know that somebody looks at it.".to_owned());
        Self {
            frozen_at: at.0,
            what: if summary.is_empty() { name } else { summary },
            place: alert.labels.without(|name| matches!(name, "alertname" | "severity")).to_string(),
            why: annotation(&["impact", "description"]),
            since: alert.active_at.0,
            owner: annotation(&["owner", "team"]),
            query: query.to_owned(),
            points: vec![(at.0, alert.value.to_string())],
            service,
            runbook,
            next_steps,
            ..Self::default()
        }
    }

    /// Adds what the stores know of the service. A part that fails is named in `missing` and does not hold up the others.
    pub fn gather(&mut self, sources: &EvidenceSources, at: Nanos, budget: &Budget) {
        if self.service.is_empty() {
            self.missing.push("the alert has no label service, service_name or job".to_owned());
            return;
        }
        let range = TimeRange::new(at - LOOKBACK, at + Duration::from_nanos(1));
        if let Err(error) = self.gather_spans(sources.spans.as_ref(), range, budget) {
            self.missing.push(format!("spans: {error}"));
        }
        if let Err(error) = self.gather_errors(sources.logs.as_ref(), range, budget) {
            self.missing.push(format!("errors: {error}"));
        }
        if let Some(path) = self.paths.first() {
            self.next_steps.push(format!("Look at {}: {} of {} requests failed.", path.path, path.errors, path.requests));
        }
        if let Some(deploy) = &self.deploy {
            self.next_steps.push(format!("Version {} appeared shortly before: consider rolling it back.", deploy.version));
        }
    }

    fn gather_spans(&mut self, spans: &dyn SpanSource, range: TimeRange, budget: &Budget) -> Result<()> {
        let mut paths: BTreeMap<String, (PathEvidence, Vec<i64>)> = BTreeMap::new();
        let mut first_seen: BTreeMap<String, Nanos> = BTreeMap::new();
        let mut bad = Vec::new();
        let mut seen = 0;
        let mut cursor = spans.scan(&SpanQuery { range, hints: vec![SpanHint::Service(self.service.clone())] }, budget)?;
        while seen < SPANS_MAX
            && let Some(batch) = cursor.next_batch()?
        {
            budget.check()?;
            for stored in
                batch.iter().filter(|stored| stored.resource.service_name() == self.service && range.contains(stored.span.start))
            {
                seen += 1;
                let span = &stored.span;
                if let Some(version) = stored.resource.attributes.get_str("service.version") {
                    let first = first_seen.entry(version.to_owned()).or_insert(span.start);
                    *first = (*first).min(span.start);
                }
                if !matches!(span.kind, SpanKind::Server | SpanKind::Consumer) {
                    continue;
                }
                let is_error = span.status == SpanStatus::Error;
                if is_error {
                    bad.push(span.clone());
                    bad.sort_by_key(|span| std::cmp::Reverse(span.start));
                    bad.truncate(TRACES_MAX);
                }
                let route = ["http.route", "url.path", "http.target"].iter().find_map(|name| span.attributes.get_str(name));
                let path = route.unwrap_or(&span.name);
                if paths.len() < PATHS_SEEN_MAX || paths.contains_key(path) {
                    let (evidence, durations) = paths.entry(path.to_owned()).or_default();
                    evidence.requests += 1;
                    evidence.errors += u64::from(is_error);
                    durations.push(span.duration_nanos());
                }
            }
        }
        self.traces = bad.iter().map(trace_of).collect();
        self.paths = worst(paths);
        self.deploy = newest_version(&self.service, first_seen, range.from);
        Ok(())
    }

    fn gather_errors(&mut self, logs: &dyn LogSource, range: TimeRange, budget: &Budget) -> Result<()> {
        let query = LogQuery {
            range,
            streams: vec![Matcher::equal("service_name", &self.service)],
            kind: Some(LogKind::Error),
            hints: Vec::new(),
            direction: Direction::Backward,
            rows_wanted: Some(ERRORS_MAX),
        };
        let mut cursor = logs.scan(&query, budget)?;
        while self.errors.len() < ERRORS_MAX
            && let Some(rows) = cursor.next_batch()?
        {
            let room = ERRORS_MAX - self.errors.len();
            self.errors.extend(rows.iter().take(room).map(|row| ErrorEvidence {
                at: row.timestamp.0,
                title: row.line[..row.line.floor_char_boundary(LINE_BYTES_MAX)].to_owned(),
                trace_id: if row.trace_id.is_none() { String::new() } else { row.trace_id.to_string() },
            }));
        }
        Ok(())
    }
}

fn trace_of(span: &br_model::Span) -> TraceEvidence {
    TraceEvidence {
        trace_id: span.trace_id.to_string(),
        root_name: span.name.clone(),
        duration_ms: span.duration_nanos() as f64 / 1e6,
        status: span.status.as_str().to_owned(),
    }
}

/// The paths with most errors, then with most requests.
fn worst(paths: BTreeMap<String, (PathEvidence, Vec<i64>)>) -> Vec<PathEvidence> {
    let mut worst: Vec<PathEvidence> = paths
        .into_iter()
        .map(|(path, (evidence, mut durations))| {
            durations.sort_unstable();
            let at = (durations.len() * 95).div_ceil(100).saturating_sub(1);
            let p95_ms = durations.get(at).map_or(0.0, |nanos| *nanos as f64 / 1e6);
            PathEvidence { path, p95_ms, ..evidence }
        })
        .collect();
    worst.sort_by_key(|path| std::cmp::Reverse((path.errors, path.requests)));
    worst.truncate(PATHS_MAX);
    worst
}

/// A version that appeared within the range while another was there before.
fn newest_version(service: &str, first_seen: BTreeMap<String, Nanos>, from: Nanos) -> Option<DeployEvidence> {
    if first_seen.len() < 2 {
        return None;
    }
    let (version, at) = first_seen.into_iter().max_by_key(|(_, at)| *at).filter(|(_, at)| *at > from)?;
    Some(DeployEvidence { service: service.to_owned(), version, at: at.0 })
}
