//! Traces in the profile that Jaeger publishes its figures for: ten spans each, ten services, 11 attributes of 97 keys with 1,000
//! values.
//!
//! Everything follows from a seed; which traces each question must find is noted as they are made.

use super::Period;
use super::known::Traces;
use crate::input::Seeded;
use br_model::{Attributes, Resource, ResourceSpans, Scope, Span, SpanBatch, SpanId, SpanKind, SpanStatus, TraceId};
use br_std::Nanos;
use std::sync::Arc;

pub(super) const SPANS_PER_TRACE: u64 = 10;
const TRACES_PER_REQUEST: u64 = 100;
const SERVICES: u64 = 10;
const NAMES: u64 = 20;
const KEYS: u64 = 97;
const VALUES: u64 = 1000;
const ATTRIBUTES: u64 = 11;
/// So many traces have a span that all filters together find, whatever chance brings beside them.
const PLANTED: u64 = 5;

/// What is asked for; the traces that match are [`KnownSpans`].
pub(super) const SERVICE: &str = "service-3";
pub(super) const NAME: &str = "op-7";
pub(super) const PARENT_NAME: &str = "op-3";
pub(super) const KEY: &str = "attr_17";
pub(super) const VALUE: &str = "value_423";
pub(super) const LONG_MS: u64 = 900;
pub(super) const LONGER_MS: u64 = 10;
/// Traces that a search answers with.
pub(super) const LIMIT: usize = 20;

pub(super) struct KnownSpans {
    pub(super) spans: u64,
    /// A trace from the middle, with its spans.
    pub(super) trace: Option<(TraceId, Vec<SpanId>)>,
    pub(super) of_service: Traces,
    pub(super) long: Traces,
    pub(super) attribute: Traces,
    /// In the second half of the time.
    pub(super) all_filters: Traces,
    pub(super) child: Traces,
    pub(super) all: Traces,
}

pub(super) struct SpanRecords {
    period: Period,
    count: u64,
    made: u64,
    seeded: Seeded,
    resources: Vec<Arc<Resource>>,
    scope: Arc<Scope>,
    keys: Vec<String>,
    names: Vec<String>,
    pub(super) known: KnownSpans,
}

/// A span with its service.
type Made = (usize, Span);

impl SpanRecords {
    pub(super) fn new(traces: u64, period: Period) -> Self {
        let newest = || Traces::new(LIMIT);
        let known = KnownSpans {
            spans: 0,
            trace: None,
            of_service: newest(),
            long: newest(),
            attribute: newest(),
            all_filters: newest(),
            child: newest(),
            all: newest(),
        };
        Self {
            period,
            count: traces.div_ceil(TRACES_PER_REQUEST) * TRACES_PER_REQUEST,
            made: 0,
            seeded: Seeded(12),
            resources: (0..SERVICES).map(resource).collect(),
            scope: Arc::new(Scope { name: "tracegen".into(), version: "1.0".into(), ..Scope::default() }),
            keys: (0..KEYS).map(|number| format!("attr_{number:02}")).collect(),
            names: (0..NAMES).map(|number| format!("op-{number}")).collect(),
            known,
        }
    }

    pub(super) fn half(&self) -> Nanos {
        half(self.period)
    }

    /// The next request, until all are made.
    pub(super) fn request(&mut self) -> Option<Vec<u8>> {
        let first = self.made;
        (first < self.count).then(|| {
            let starts: Vec<Nanos> =
                (first..first + TRACES_PER_REQUEST).map(|number| self.period.place(number, self.count)).collect();
            self.request_at(&starts)
        })
    }

    /// A request with a trace that begins at each of these times. Its spans come by service, as senders gather them.
    pub(super) fn request_at(&mut self, starts: &[Nanos]) -> Vec<u8> {
        let group = |resource: &Arc<Resource>| ResourceSpans {
            resource: resource.clone(),
            scope: self.scope.clone(),
            spans: Vec::with_capacity(2 * starts.len()),
        };
        let mut groups: Vec<ResourceSpans> = self.resources.iter().map(group).collect();
        for start in starts {
            let trace = self.trace(*start);
            self.note(&trace);
            for (service, span) in trace {
                groups[service].spans.push(span);
            }
        }
        groups.retain(|group| !group.spans.is_empty());
        br_wire::otlp::encode_traces(&SpanBatch { groups })
    }

    fn trace(&mut self, start: Nanos) -> Vec<Made> {
        let number = self.made;
        self.made += 1;
        let trace_id = TraceId(self.seeded.bytes());
        let mut trace: Vec<Made> = Vec::with_capacity(SPANS_PER_TRACE as usize);
        for step in 0..SPANS_PER_TRACE {
            let (parent_span_id, begin) = if step == 0 {
                (SpanId::default(), start)
            } else {
                let (_, parent) = self.seeded.pick(&trace);
                (parent.span_id, parent.start)
            };
            let mut span = self.span(trace_id, parent_span_id, begin);
            let mut service = self.seeded.below(SERVICES) as usize;
            let is_planted = (0..PLANTED).any(|at| number == self.count / 2 + self.count * at / (2 * PLANTED));
            if is_planted && step == SPANS_PER_TRACE - 1 {
                service = 3;
                NAME.clone_into(&mut span.name);
                span.end = Nanos(span.start.0 + 2 * LONGER_MS as i64 * 1_000_000);
                span.attributes = Attributes::from_iter([(KEY, VALUE)]);
            }
            trace.push((service, span));
        }
        trace
    }

    fn span(&mut self, trace_id: TraceId, parent_span_id: SpanId, begin: Nanos) -> Span {
        // No two spans of a trace start together, and none at the start of another trace.
        let start = Nanos(begin.0 + 1 + self.seeded.below(2_000_000) as i64);
        // From a tenth of a millisecond to a second, as many in each decade.
        let duration = (1e5 * 10f64.powf(4.0 * self.seeded.unit())) as i64;
        let mut attributes = Attributes::default();
        let (first, step) = (self.seeded.below(KEYS), 1 + self.seeded.below(KEYS - 1));
        for at in 0..ATTRIBUTES {
            // The number of keys is prime: whatever the step, no key comes twice.
            let key = &self.keys[((first + at * step) % KEYS) as usize];
            attributes.push(key, format!("value_{}", self.seeded.below(VALUES)));
        }
        Span {
            trace_id,
            span_id: SpanId(self.seeded.bytes()),
            parent_span_id,
            name: self.seeded.pick(&self.names).clone(),
            kind: if parent_span_id.is_none() { SpanKind::Server } else { SpanKind::Internal },
            start,
            end: Nanos(start.0 + duration),
            status: if self.seeded.percent(2) { SpanStatus::Error } else { SpanStatus::Unset },
            attributes,
            ..Span::default()
        }
    }

    fn note(&mut self, trace: &[Made]) {
        let known = &mut self.known;
        known.spans += trace.len() as u64;
        if known.trace.is_none() && self.made > self.count / 3 {
            known.trace = Some((trace[0].1.trace_id, trace.iter().map(|(_, span)| span.span_id).collect()));
        }
        let half = half(self.period);
        let is_longer = |span: &Span, ms: u64| span.duration_nanos() > ms as i64 * 1_000_000;
        let has_attribute = |span: &Span| span.attributes.get_str(KEY) == Some(VALUE);
        offer(&mut known.all, trace, |_| true);
        offer(&mut known.of_service, trace, |(service, _)| *service == 3);
        offer(&mut known.long, trace, |(_, span)| is_longer(span, LONG_MS));
        offer(&mut known.attribute, trace, |(_, span)| has_attribute(span));
        offer(&mut known.all_filters, trace, |(service, span)| {
            *service == 3 && span.name == NAME && has_attribute(span) && is_longer(span, LONGER_MS) && span.start >= half
        });
        let is_parent = |parent: SpanId| trace.iter().any(|(_, span)| span.span_id == parent && span.name == PARENT_NAME);
        if trace.iter().any(|(_, span)| span.name == NAME && is_parent(span.parent_span_id)) {
            // It ranks by its newest span of those that may come out, with such a parent or not.
            offer(&mut known.child, trace, |(_, span)| span.name == NAME);
        }
    }
}

fn half(period: Period) -> Nanos {
    Nanos(period.place(1, 2).as_secs() * 1_000_000_000)
}

/// The trace, by its newest span that is one of those.
fn offer(known: &mut Traces, trace: &[Made], is_it: impl Fn(&Made) -> bool) {
    if let Some(newest) = trace.iter().filter(|made| is_it(made)).map(|(_, span)| span.start).max() {
        known.offer((newest, trace[0].1.trace_id));
    }
}

fn resource(service: u64) -> Arc<Resource> {
    let mut attributes = Attributes::default();
    attributes.push("service.name", format!("service-{service}"));
    attributes.push("service.version", "1.4.2");
    attributes.push("telemetry.sdk.language", "python");
    Arc::new(Resource { attributes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use br_wire::otlp::{Encoding, decode_traces};
    use std::collections::{BTreeMap, BTreeSet};

    #[test]
    fn the_generator_knows_what_it_made() {
        let mut records = SpanRecords::new(1000, Period::until(Nanos::from_secs(1_700_000_000), 2));
        let (mut traces, mut bytes) = (BTreeMap::<TraceId, Vec<(String, Span)>>::new(), 0);
        while let Some(request) = records.request() {
            bytes += request.len();
            let limits = br_wire::Limits::default();
            let read = decode_traces(&request, Encoding::Protobuf, Nanos(0), &limits).expect("what was encoded");
            for group in read.value.groups {
                for span in group.spans {
                    traces.entry(span.trace_id).or_default().push((group.resource.service_name().to_owned(), span));
                }
            }
        }
        let known = &records.known;
        assert_eq!((traces.len() as u64, known.spans), (1000, 10_000));
        assert!(traces.values().all(|spans| spans.len() as u64 == SPANS_PER_TRACE));
        let per_span = bytes as f64 / known.spans as f64;
        assert!((300.0..400.0).contains(&per_span), "{per_span} B a span");
        let check = |name: &str, known: &Traces, is_it: &dyn Fn(&(String, Span)) -> bool| {
            let newest = |spans: &Vec<(String, Span)>| spans.iter().filter(|one| is_it(one)).map(|(_, span)| span.start).max();
            let all: BTreeSet<(Nanos, TraceId)> = traces.iter().filter_map(|(id, spans)| Some((newest(spans)?, *id))).collect();
            assert!(!all.is_empty(), "{name}");
            assert_eq!(known.count, all.len() as u64, "{name}");
            assert!(known.iter().eq(all.iter().skip(all.len().saturating_sub(LIMIT))), "{name}");
        };
        check("all", &known.all, &|_| true);
        check("service", &known.of_service, &|(service, _)| service == SERVICE);
        check("long", &known.long, &|(_, span)| span.duration_nanos() > LONG_MS as i64 * 1_000_000);
        check("attribute", &known.attribute, &|(_, span)| span.attributes.get_str(KEY) == Some(VALUE));
        assert!(known.all_filters.count >= PLANTED && known.child.count > 0);
        let (id, spans) = known.trace.as_ref().expect("from the middle");
        assert_eq!(traces[id].iter().map(|(_, span)| span.span_id).collect::<BTreeSet<_>>(), spans.iter().copied().collect());
    }
}
