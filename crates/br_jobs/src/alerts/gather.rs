//! Looks for evidence in the stores: which requests went wrong, with which errors, after which deploy.

use super::evidence::{DeployEvidence, ErrorEvidence, Evidence, EvidenceSources, PathEvidence, TraceEvidence};
use super::{CurveQuery, Evaluator};
use br_model::{Labels, LogKind, Span, SpanKind, SpanStatus, TenantId};
use br_std::{Nanos, Result};
use br_storage::{Budget, LogQuery, LogSource, Matcher, SpanHint, SpanParts, SpanQuery, SpanSource, TimeRange};
use std::collections::BTreeMap;
use std::time::Duration;

/// How far back evidence is looked for.
pub(super) const LOOKBACK: Duration = Duration::from_mins(15);
/// A curve has 31 points: of the last 15 minutes, or of the last one where the condition has hardly begun.
const CURVE_STEP: Duration = Duration::from_secs(30);
const YOUNG_CURVE: Duration = Duration::from_mins(1);
const YOUNG_CURVE_STEP: Duration = Duration::from_secs(2);
/// With fewer points a curve is looked at more closely: a ratio of errors exists only since the first error.
const CURVE_POINTS_MIN: usize = 5;
/// Spans that are looked at.
const SPANS_MAX: usize = 50_000;
const TRACES_MAX: usize = 5;
const PATHS_MAX: usize = 5;
/// Error events that are looked at, the newest first.
const ERROR_EVENTS_MAX: usize = 200;
/// Kinds of errors that are shown.
const ERRORS_MAX: usize = 8;
/// Of a log line this much is kept.
const LINE_BYTES_MAX: usize = 500;
/// Distinct paths that are told apart.
const PATHS_SEEN_MAX: usize = 1000;

impl Evidence {
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
        if let Err(error) = self.gather_causes(sources.spans.as_ref(), at, budget) {
            self.missing.push(format!("causes: {error}"));
        }
        if let Err(error) = self.gather_errors(sources.logs.as_ref(), range, budget) {
            self.missing.push(format!("errors: {error}"));
        }
        if let Some(path) = self.paths.first() {
            let finding = if path.errors > 0 {
                format!("{} of {} requests failed", path.errors, path.requests)
            } else {
                format!("none of {} requests failed, 95 % took up to {:.0} ms", path.requests, path.p95_ms)
            };
            self.next_steps.push(format!("Look at {}: {finding}.", path.path));
        }
        if let Some(deploy) = &self.deploy {
            self.next_steps.push(format!("Version {} appeared shortly before: consider rolling it back.", deploy.version));
        }
    }

    /// How the alert's value went before it fired.
    pub(super) fn gather_curve(
        &mut self,
        evaluator: &dyn Evaluator,
        tenant: TenantId,
        labels: &Labels,
        at: Nanos,
        budget: &Budget,
    ) {
        let expression = self.query.clone();
        let ask = |from: Nanos, step: Duration| {
            evaluator.curve(&CurveQuery { tenant, expression: &expression, labels, from, to: at, step }, budget)
        };
        let curve = ask(at - LOOKBACK, CURVE_STEP).and_then(|curve| {
            if curve.points.len() >= CURVE_POINTS_MIN {
                return Ok(curve);
            }
            let close = ask(at - YOUNG_CURVE, YOUNG_CURVE_STEP)?;
            Ok(if close.points.len() > curve.points.len() { close } else { curve })
        });
        match curve {
            Ok(curve) => self.take_curve(curve),
            Err(error) => self.missing.push(format!("curve: {error}")),
        }
    }

    fn gather_spans(&mut self, spans: &dyn SpanSource, range: TimeRange, budget: &Budget) -> Result<()> {
        let mut paths: BTreeMap<String, (PathEvidence, Vec<i64>)> = BTreeMap::new();
        let mut first_seen: BTreeMap<String, Nanos> = BTreeMap::new();
        let (mut of_path, mut of_service) = (Suspects::default(), Suspects::default());
        let mut seen = 0;
        let mut cursor = spans
            .scan(&SpanQuery { range, hints: vec![SpanHint::Service(self.service.clone())], parts: SpanParts::ALL }, budget)?;
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
                let path = path_of(span);
                of_service.look_at(span);
                if path == self.path {
                    of_path.look_at(span);
                }
                if paths.len() < PATHS_SEEN_MAX || paths.contains_key(path) {
                    let (evidence, durations) = paths.entry(path.to_owned()).or_default();
                    evidence.requests += 1;
                    evidence.errors += u64::from(span.status == SpanStatus::Error);
                    durations.push(span.duration_nanos());
                }
            }
        }
        let suspects = if of_path.is_empty() { of_service } else { of_path };
        self.traces = suspects.worst().iter().map(trace_of).collect();
        self.paths = worst(paths, &self.path);
        self.deploy = newest_version(&self.service, first_seen, range.from);
        Ok(())
    }

    fn gather_errors(&mut self, logs: &dyn LogSource, range: TimeRange, budget: &Budget) -> Result<()> {
        let query = LogQuery {
            streams: vec![Matcher::equal("service_name", &self.service)],
            kind: Some(LogKind::Error),
            rows_wanted: Some(ERROR_EVENTS_MAX),
            ..LogQuery::new(range)
        };
        let mut seen = 0;
        let mut cursor = logs.scan(&query, budget)?;
        while seen < ERROR_EVENTS_MAX
            && let Some(rows) = cursor.next_batch()?
        {
            for row in rows.iter().take(ERROR_EVENTS_MAX - seen) {
                seen += 1;
                let title = &row.line[..row.line.floor_char_boundary(LINE_BYTES_MAX)];
                if let Some(known) = self.errors.iter_mut().find(|error| error.title == title) {
                    known.count += 1;
                } else if self.errors.len() < ERRORS_MAX {
                    self.errors.push(ErrorEvidence {
                        at: row.timestamp.0,
                        title: title.to_owned(),
                        trace_id: if row.trace_id.is_none() { String::new() } else { row.trace_id.to_string() },
                        count: 1,
                        issue_id: String::new(),
                    });
                }
            }
        }
        Ok(())
    }
}

/// The newest requests that failed, and the slowest of all.
#[derive(Default)]
struct Suspects {
    failed: Vec<Span>,
    slow: Vec<Span>,
}

impl Suspects {
    fn look_at(&mut self, span: &Span) {
        if span.status == SpanStatus::Error {
            keep(&mut self.failed, span, |span| span.start.0);
        }
        keep(&mut self.slow, span, Span::duration_nanos);
    }

    fn is_empty(&self) -> bool {
        self.slow.is_empty()
    }

    /// Where nothing failed, an alert can still be about slow requests.
    fn worst(self) -> Vec<Span> {
        if self.failed.is_empty() { self.slow } else { self.failed }
    }
}

/// Keeps the few spans with the greatest `rank`, the greatest first, and each trace once.
fn keep(spans: &mut Vec<Span>, span: &Span, rank: impl Fn(&Span) -> i64) {
    if spans.iter().any(|kept| kept.trace_id == span.trace_id) {
        return;
    }
    let at = spans.partition_point(|kept| rank(kept) >= rank(span));
    if at < TRACES_MAX {
        spans.insert(at, span.clone());
        spans.truncate(TRACES_MAX);
    }
}

fn path_of(span: &Span) -> &str {
    let route = ["http.route", "url.path", "http.target"].iter().find_map(|name| span.attributes.get_str(name));
    route.unwrap_or(&span.name)
}

fn trace_of(span: &Span) -> TraceEvidence {
    TraceEvidence {
        trace_id: span.trace_id.to_string(),
        root_name: span.name.clone(),
        duration_ms: span.duration_nanos() as f64 / 1e6,
        status: span.status.as_str().to_owned(),
    }
}

/// The path that the alert names, then those with most errors, then with most requests.
fn worst(paths: BTreeMap<String, (PathEvidence, Vec<i64>)>, named: &str) -> Vec<PathEvidence> {
    let mut worst: Vec<PathEvidence> = paths
        .into_iter()
        .map(|(path, (evidence, mut durations))| {
            durations.sort_unstable();
            let at = (durations.len() * 95).div_ceil(100).saturating_sub(1);
            let p95_ms = durations.get(at).map_or(0.0, |nanos| *nanos as f64 / 1e6);
            PathEvidence { path, p95_ms, ..evidence }
        })
        .collect();
    worst.sort_by_key(|path| std::cmp::Reverse((path.path == named, path.errors, path.requests)));
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
