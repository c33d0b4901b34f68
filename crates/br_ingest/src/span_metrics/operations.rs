//! Rate, errors and durations of each operation: the spans of one service with one name, kind and status.

use super::durations::Durations;
use super::{OTHER, Written, shortened};
use br_model::{Exemplar, Labels, MetricType, Span, SpanId, SpanKind, SpanStatus, TraceId, Value};
use hashbrown::{Equivalent, HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Names of one service that are told apart: a service that puts ids into the names of its spans would else make a series of each.
const NAMES_MAX: usize = 2000;
/// Names of all services of a tenant.
const ALL_NAMES_MAX: usize = 50_000;

#[derive(PartialEq, Eq)]
struct Operation {
    service: Arc<str>,
    name: Arc<str>,
    kind: SpanKind,
    status: SpanStatus,
}

/// The same, borrowed of a span.
struct OperationOf<'a>(&'a str, &'a str, SpanKind, SpanStatus);

impl Hash for Operation {
    fn hash<H: Hasher>(&self, state: &mut H) {
        OperationOf(&self.service, &self.name, self.kind, self.status).hash(state);
    }
}

impl Hash for OperationOf<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.0, self.1, self.2, self.3).hash(state);
    }
}

impl Equivalent<Operation> for OperationOf<'_> {
    fn equivalent(&self, operation: &Operation) -> bool {
        let Operation { service, name, kind, status } = operation;
        (self.0, self.1, self.2, self.3) == (service, name, *kind, *status)
    }
}

#[derive(Default)]
struct Seen {
    durations: Durations,
    slowest: Option<Slowest>,
}

impl Seen {
    fn observe(&mut self, span: &Span, secs: f64) {
        self.durations.observe(secs);
        if !span.trace_id.is_none() && self.slowest.as_ref().is_none_or(|slowest| slowest.secs < secs) {
            self.slowest = Some(Slowest { secs, trace_id: span.trace_id, span_id: span.span_id });
        }
    }
}

/// The span of an interval that is kept as an example.
struct Slowest {
    secs: f64,
    trace_id: TraceId,
    span_id: SpanId,
}

#[derive(Default)]
pub(super) struct Operations {
    seen: HashMap<Operation, Seen>,
    /// The names of each service, since the start.
    names: HashMap<Arc<str>, HashSet<Arc<str>>>,
    name_count: usize,
}

impl Operations {
    pub(super) fn observe(&mut self, service: &str, span: &Span) {
        let secs = span.duration_nanos() as f64 / 1e9;
        let (service, name) = (shortened(service), shortened(&span.name));
        let known = OperationOf(service, name, span.kind, span.status);
        if let Some(seen) = self.seen.get_mut(&known) {
            return seen.observe(span, secs);
        }
        let (service, name) = self.known_name(service, name);
        self.seen.entry(Operation { service, name, kind: span.kind, status: span.status }).or_default().observe(span, secs);
    }

    /// As it is told apart from others.
    fn known_name(&mut self, service: &str, name: &str) -> (Arc<str>, Arc<str>) {
        let has_room = self.name_count < ALL_NAMES_MAX;
        if !self.names.contains_key(service) {
            if !has_room {
                return (OTHER.into(), OTHER.into());
            }
            self.names.insert(service.into(), HashSet::new());
        }
        let Some((service, names)) = self.names.get_key_value_mut(service) else { return (OTHER.into(), OTHER.into()) };
        if let Some(name) = names.get(name) {
            return (service.clone(), name.clone());
        }
        if !has_room || names.len() >= NAMES_MAX {
            return (service.clone(), OTHER.into());
        }
        self.name_count += 1;
        let name: Arc<str> = name.into();
        names.insert(name.clone());
        (service.clone(), name)
    }

    pub(super) fn write(&mut self, written: &mut Written) {
        const CALLS: &str = "traces_spanmetrics_calls_total";
        const LATENCY: &str = "traces_spanmetrics_latency";
        if self.seen.is_empty() {
            return;
        }
        written.describe(CALLS, MetricType::Counter, "Spans of an operation.", "");
        written.describe(LATENCY, MetricType::Histogram, "Durations of the spans of an operation.", "seconds");
        let at_ms = written.times.at_ms;
        for (Operation { service, name, kind, status }, Seen { durations, slowest }) in self.seen.drain() {
            let labels = [
                ("service", &*service),
                ("span_name", &*name),
                ("span_kind", kind_text(kind)),
                ("status_code", status_text(status)),
            ];
            written.push_count(CALLS, &labels, durations.count());
            let series = written.push(LATENCY, &labels, Value::Histogram(durations.histogram().into()));
            if let Some(Slowest { secs, trace_id, span_id }) = slowest {
                let (trace_id, span_id) = (trace_id.to_string(), span_id.to_string());
                let labels = Labels::from_pairs([("span_id", span_id.as_str()), ("trace_id", trace_id.as_str())]);
                series.exemplars.push(Exemplar { labels, value: secs, timestamp_ms: at_ms });
            }
        }
    }
}

/// As OTLP names the kinds.
fn kind_text(kind: SpanKind) -> &'static str {
    match kind {
        SpanKind::Unspecified => "SPAN_KIND_UNSPECIFIED",
        SpanKind::Internal => "SPAN_KIND_INTERNAL",
        SpanKind::Server => "SPAN_KIND_SERVER",
        SpanKind::Client => "SPAN_KIND_CLIENT",
        SpanKind::Producer => "SPAN_KIND_PRODUCER",
        SpanKind::Consumer => "SPAN_KIND_CONSUMER",
    }
}

fn status_text(status: SpanStatus) -> &'static str {
    match status {
        SpanStatus::Unset => "STATUS_CODE_UNSET",
        SpanStatus::Ok => "STATUS_CODE_OK",
        SpanStatus::Error => "STATUS_CODE_ERROR",
    }
}
