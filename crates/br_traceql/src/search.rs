//! Finding traces, newest first.

mod candidates;

use crate::ast::{Expr, Field, Pipeline, Root, Spanset, Stage};
use crate::attribute::View;
use crate::hints::{Requirement, span_hints, visit_fields};
use crate::spanset::{Evaluation, Set};
use crate::trace::Trace;
use br_model::{AttributeValue, SpanId, SpanStatus, TraceId};
use br_std::{Error, Nanos, Result};
use br_storage::{Budget, Held, SpanHint, SpanParts, SpanSource, StoredSpan, TimeRange};
use candidates::find;
pub(crate) use candidates::side;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

#[derive(Clone, Copy, Debug)]
pub struct SearchOptions {
    /// Traces with a matching span that starts in it.
    pub range: TimeRange,
    /// So many traces.
    pub limit: usize,
    /// So many spans of each spanset are shown.
    pub spans_per_spanset: usize,
    /// Only traces that rank behind this one: where the search before stopped.
    pub after: Option<Rank>,
}

/// The place of a trace among those that match, the newest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    pub newest: Reverse<Nanos>,
    pub trace_id: TraceId,
}

impl Rank {
    fn new(newest: Nanos, trace_id: TraceId) -> Self {
        Self { newest: Reverse(newest), trace_id }
    }

    /// As [`Display`](std::fmt::Display) writes it.
    pub fn parse(text: &str) -> Option<Self> {
        let (nanos, id) = text.split_once('-')?;
        let id = TraceId::from_hex(id).filter(|id| !id.is_none())?;
        Some(Self::new(Nanos(nanos.parse().ok()?), id))
    }

    /// Where a search stopped that found these, when it may have left some out.
    pub fn of_last(found: &[TraceMatch], limit: usize) -> Option<Self> {
        let ranks = found.iter().map(|found| Self::new(found.newest, found.trace_id));
        ranks.max().filter(|_| found.len() >= limit)
    }
}

impl std::fmt::Display for Rank {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}-{}", self.newest.0.0, self.trace_id)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct TraceMatch {
    pub trace_id: TraceId,
    /// The start of the newest span that may have made it match: what traces rank by.
    pub newest: Nanos,
    /// Of the root span, or of the earliest span when the root is missing.
    pub root_service: String,
    pub root_name: String,
    pub start: Nanos,
    pub duration_nanos: i64,
    /// Spans of the whole trace, and those of them that failed.
    pub spans: usize,
    pub errors: usize,
    /// Services by name, each with the number of its spans.
    pub services: Vec<(String, usize)>,
    /// At least one.
    pub spansets: Vec<MatchedSpanset>,
}

impl TraceMatch {
    /// What it takes in memory, about.
    fn heap_bytes(&self) -> u64 {
        let services: usize = self.services.iter().map(|(name, _)| 64 + name.len()).sum();
        let of_spanset = |set: &MatchedSpanset| {
            let groups: usize = set.groups.iter().map(|group| 64 + group.heap_bytes()).sum();
            groups + set.spans.iter().map(MatchedSpan::heap_bytes).sum::<usize>()
        };
        let spansets: usize = self.spansets.iter().map(of_spanset).sum();
        (size_of::<Self>() + self.root_service.len() + self.root_name.len() + services + spansets) as u64
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct MatchedSpanset {
    /// How many spans matched, shown or not.
    pub matched: usize,
    /// What the query grouped by.
    pub groups: Vec<AttributeValue>,
    /// The earliest ones.
    pub spans: Vec<MatchedSpan>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct MatchedSpan {
    pub span_id: SpanId,
    pub name: String,
    pub start: Nanos,
    pub duration_nanos: i64,
    /// Fields that the query names, as it writes them; those that are missing are left out.
    pub attributes: Vec<(String, AttributeValue)>,
}

impl MatchedSpan {
    fn heap_bytes(&self) -> usize {
        let attributes: usize = self.attributes.iter().map(|(name, value)| 64 + name.len() + value.heap_bytes()).sum();
        size_of::<Self>() + self.name.len() + attributes
    }
}

/// A trace is read this far around the span that gave it away.
pub(crate) const AROUND: Duration = Duration::from_hours(2);

/// A trace's memory beside its spans' own, roughly, for each span.
pub(crate) const SPAN_BYTES: u64 = 1024;

/// The newest traces that match, by the start of their newest span that may have made them match; the same question gets the same
/// answer.
pub fn search(
    source: &dyn SpanSource,
    expr: &Expr,
    text: &str,
    options: &SearchOptions,
    budget: &Budget,
) -> Result<Vec<TraceMatch>> {
    let Root::Search(pipeline) = &expr.root else {
        return Err(Error::fix_request("this is a metrics query: it answers with series, not with traces"));
    };
    if options.limit == 0 {
        return Ok(Vec::new());
    }
    let matcher = Matcher { expr, text, pipeline, options };
    let mut found = find(source, &matcher, budget)?;
    found.sort_by_key(|found| (Reverse(found.start), found.trace_id));
    Ok(found)
}

/// What a store may skip when only spans that [`may_match`] are wanted.
pub fn hints_of(expr: &Expr) -> Vec<SpanHint> {
    match &expr.root {
        Root::Search(pipeline) => span_hints(pipeline),
        Root::Metrics(_) => Vec::new(),
    }
}

/// Adds what [`may_match`] looks at.
pub fn add_parts_of(expr: &Expr, parts: &mut SpanParts) {
    let Root::Search(pipeline) = &expr.root else { return };
    if let Some(clause) = Requirement::of(pipeline).main() {
        clause.add_parts(parts);
    }
}

/// Whether a span, looked at alone, may be one that the query finds. What depends on the rest of its trace is not decided: such spans
/// count as matching.
pub fn may_match(expr: &Expr, stored: &StoredSpan) -> bool {
    match &expr.root {
        Root::Search(pipeline) => Requirement::of(pipeline).main().is_none_or(|clause| clause.may_hold(stored, &expr.regexes)),
        Root::Metrics(_) => true,
    }
}

/// Judges whole traces.
struct Matcher<'a> {
    expr: &'a Expr,
    text: &'a str,
    pipeline: &'a Pipeline,
    options: &'a SearchOptions,
}

fn services(trace: &Trace) -> Vec<(String, usize)> {
    let mut services: BTreeMap<&str, usize> = BTreeMap::new();
    for stored in &trace.spans {
        *services.entry(stored.resource.service_name()).or_default() += 1;
    }
    services.into_iter().map(|(name, spans)| (name.to_owned(), spans)).collect()
}

impl Matcher<'_> {
    /// Whether a trace matches as soon as one of its spans does.
    fn is_plain(&self) -> bool {
        self.pipeline.stages.iter().all(|stage| matches!(stage, Stage::Spanset(Spanset::Filter(_)) | Stage::Select(_)))
    }

    /// What the trace has of what is looked for. `newest` is what it ranks by.
    fn look_at(&self, id: TraceId, newest: Nanos, spans: Vec<StoredSpan>, budget: &Budget) -> Result<Option<TraceMatch>> {
        budget.check()?;
        let mut held = Held::new(budget);
        held.add(spans.len() as u64 * SPAN_BYTES + spans.iter().map(StoredSpan::heap_bytes).sum::<u64>())?;
        let trace = Trace::new(spans);
        let sets = Evaluation { trace: &trace, regexes: &self.expr.regexes }.run(self.pipeline);
        let matched = self.matched(id, newest, &trace, &sets);
        if let Some(matched) = &matched {
            budget.charge(matched.heap_bytes())?;
        }
        Ok(matched)
    }

    fn matched(&self, trace_id: TraceId, newest: Nanos, trace: &Trace, sets: &[Set]) -> Option<TraceMatch> {
        let root = trace.root()?;
        if sets.is_empty() {
            return None;
        }
        let (start, end) = trace.bounds();
        let fields = shown_fields(self.pipeline);
        let spansets = sets.iter().map(|set| self.spanset(trace, set, &fields)).collect();
        Some(TraceMatch {
            trace_id,
            newest,
            root_service: root.resource.service_name().to_owned(),
            root_name: root.span.name.clone(),
            start: Nanos(start),
            duration_nanos: end.saturating_sub(start),
            spans: trace.spans.len(),
            errors: trace.spans.iter().filter(|stored| stored.span.status == SpanStatus::Error).count(),
            services: services(trace),
            spansets,
        })
    }

    fn spanset(&self, trace: &Trace, set: &Set, fields: &[&Field]) -> MatchedSpanset {
        let show = |at: &usize| {
            let span = &trace.spans[*at].span;
            let view = View::of_trace(trace, *at, &self.expr.regexes);
            let named = |field: &&Field| {
                let value = view.field(field).to_attribute();
                let name = self.text.get(field.span.clone()).unwrap_or_default().to_owned();
                (value != AttributeValue::Empty).then_some((name, value))
            };
            let mut attributes: Vec<(String, AttributeValue)> = fields.iter().filter_map(named).collect();
            attributes.sort_by(|left, right| left.0.cmp(&right.0));
            attributes.dedup_by(|left, right| left.0 == right.0);
            MatchedSpan {
                span_id: span.span_id,
                name: span.name.clone(),
                start: span.start,
                duration_nanos: span.duration_nanos(),
                attributes,
            }
        };
        let spans = set.spans.iter().take(self.options.spans_per_spanset).map(show).collect();
        MatchedSpanset { matched: set.spans.len(), groups: set.groups.clone(), spans }
    }
}

/// Attributes that filters, groups and `select` name.
fn shown_fields(pipeline: &Pipeline) -> Vec<&Field> {
    let mut fields = Vec::new();
    visit_fields(pipeline, false, &mut |field| fields.push(field));
    fields
}
