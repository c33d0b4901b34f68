//! Finding traces, newest first.

use crate::ast::{Expr, Field, FieldKind, Pipeline, Root, Spanset, Stage};
use crate::attribute::{View, holds, is_local};
use crate::hints::{leaves, span_hints};
use crate::spanset::{Evaluation, Set};
use crate::trace::Trace;
use br_model::{AttributeValue, SpanId, SpanStatus, TraceId};
use br_std::{Error, Nanos, Result};
use br_storage::{Budget, SpanHint, SpanParts, SpanQuery, SpanSource, StoredSpan, TimeRange};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

#[derive(Clone, Copy, Debug)]
pub struct SearchOptions {
    /// Traces with a matching span that starts in it.
    pub range: TimeRange,
    /// So many traces.
    pub limit: usize,
    /// So many spans of each spanset are shown.
    pub spans_per_spanset: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub struct TraceMatch {
    pub trace_id: TraceId,
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

/// Sources hand out spans newest first by windows of this width; candidates of one window are looked at together.
const WINDOW: Duration = Duration::from_hours(1);

/// A trace is read this far around the span that gave it away.
const AROUND: Duration = Duration::from_hours(2);

/// A trace's memory beside its spans' own, roughly, for each span.
const SPAN_BYTES: u64 = 1024;

/// The newest traces that match, by their start; the same question gets the same answer.
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
    let mut search = Search { source, expr, text, pipeline, options, budget, found: Vec::new(), seen: HashSet::new() };
    let query = SpanQuery { range: options.range, hints: span_hints(pipeline), parts: SpanParts::ALL };
    let is_answered = match local_filters(pipeline) {
        Some(filters) => search.by_spans_alone(&query, &filters)?,
        None => false,
    };
    if !is_answered {
        search.by_windows(&query)?;
    }
    Ok(search.finish())
}

/// The filters of a query that looks at each span alone: one matches when all of them hold, and its trace with it.
fn local_filters(pipeline: &Pipeline) -> Option<Vec<&Field>> {
    let mut filters = Vec::new();
    for stage in &pipeline.stages {
        match stage {
            Stage::Spanset(Spanset::Filter(field)) if is_local(field) => filters.push(field),
            Stage::Select(_) => {}
            _ => return None,
        }
    }
    (!filters.is_empty()).then_some(filters)
}

/// What a store may skip when only spans that [`may_match`] are wanted.
pub fn hints_of(expr: &Expr) -> Vec<SpanHint> {
    match &expr.root {
        Root::Search(pipeline) => span_hints(pipeline),
        Root::Metrics(_) => Vec::new(),
    }
}

/// Whether a span, looked at alone, satisfies one of the query's filters. What depends on the rest of its trace is not decided:
/// such spans count as matching.
pub fn may_match(expr: &Expr, stored: &StoredSpan) -> bool {
    match &expr.root {
        Root::Search(pipeline) => is_candidate(stored, &leaves(pipeline), expr),
        Root::Metrics(_) => true,
    }
}

fn is_candidate(stored: &StoredSpan, leaves: &[&Field], expr: &Expr) -> bool {
    let view = View { stored, trace: None, regexes: &expr.regexes };
    leaves.is_empty() || leaves.iter().any(|field| !is_local(field) || holds(view, field))
}

struct Search<'a> {
    source: &'a dyn SpanSource,
    expr: &'a Expr,
    text: &'a str,
    pipeline: &'a Pipeline,
    options: &'a SearchOptions,
    budget: &'a Budget,
    found: Vec<TraceMatch>,
    seen: HashSet<TraceId>,
}

fn services(trace: &Trace) -> Vec<(String, usize)> {
    let mut services: BTreeMap<&str, usize> = BTreeMap::new();
    for stored in &trace.spans {
        *services.entry(stored.resource.service_name()).or_default() += 1;
    }
    services.into_iter().map(|(name, spans)| (name.to_owned(), spans)).collect()
}

/// The traces with the newest matching spans, no more than asked for.
struct Newest {
    traces_max: usize,
    starts: HashMap<TraceId, Nanos>,
    /// The same, the newest first.
    ordered: BTreeSet<(Reverse<Nanos>, TraceId)>,
    /// Whether there were more.
    is_cut: bool,
}

impl Newest {
    fn new(traces_max: usize) -> Self {
        Self { traces_max, starts: HashMap::new(), ordered: BTreeSet::new(), is_cut: false }
    }

    fn offer(&mut self, id: TraceId, start: Nanos) {
        match self.starts.get_mut(&id) {
            Some(known) if *known >= start => return,
            Some(known) => {
                self.ordered.remove(&(Reverse(*known), id));
                *known = start;
            }
            None => {
                self.starts.insert(id, start);
            }
        }
        self.ordered.insert((Reverse(start), id));
        if self.ordered.len() > self.traces_max
            && let Some((_, oldest)) = self.ordered.pop_last()
        {
            self.starts.remove(&oldest);
            self.is_cut = true;
        }
    }

    /// Whether spans that start no later than this cannot change anything.
    fn is_settled(&self, newest_left: Option<Nanos>) -> bool {
        let (Some((Reverse(oldest), _)), Some(left)) = (self.ordered.last(), newest_left) else { return false };
        self.ordered.len() >= self.traces_max && left < *oldest
    }
}

impl Search<'_> {
    /// Decides by the spans alone which traces are the newest, and reads only these. False when that was not enough.
    fn by_spans_alone(&mut self, query: &SpanQuery, filters: &[&Field]) -> Result<bool> {
        let mut newest = Newest::new(self.options.limit);
        let mut cursor = self.source.scan(query, self.budget)?;
        let mut is_whole = true;
        while let Some(spans) = cursor.next_batch()? {
            self.budget.check()?;
            for stored in spans.iter().filter(|stored| self.options.range.contains(stored.span.start)) {
                let view = View { stored, trace: None, regexes: &self.expr.regexes };
                if filters.iter().all(|field| holds(view, field)) {
                    newest.offer(stored.span.trace_id, stored.span.start);
                }
            }
            if newest.is_settled(cursor.newest_left()) {
                is_whole = false;
                break;
            }
        }
        drop(cursor);
        let is_whole = is_whole && !newest.is_cut;
        self.look_at(&mut newest.starts)?;
        // A span that was sent twice, and not the same, may match alone and not in its trace: then older traces have to fill the gap.
        Ok(is_whole || self.found.len() >= self.options.limit)
    }

    /// Reads the trace of each span that may match, window by window.
    fn by_windows(&mut self, query: &SpanQuery) -> Result<()> {
        let leaves = leaves(self.pipeline);
        let mut cursor = self.source.scan(query, self.budget)?;
        let mut candidates: HashMap<TraceId, Nanos> = HashMap::new();
        let mut window = None;
        while let Some(spans) = cursor.next_batch()? {
            self.budget.check()?;
            for stored in &spans {
                if !self.options.range.contains(stored.span.start) {
                    continue;
                }
                let found = stored.span.start.window(WINDOW);
                if window.is_some_and(|window| found < window) {
                    self.look_at(&mut candidates)?;
                    if self.found.len() >= self.options.limit {
                        return Ok(());
                    }
                }
                window = Some(window.map_or(found, |window: Nanos| window.min(found)));
                if is_candidate(stored, &leaves, self.expr) {
                    let start = candidates.entry(stored.span.trace_id).or_insert(stored.span.start);
                    *start = (*start).max(stored.span.start);
                }
            }
        }
        self.look_at(&mut candidates)
    }

    /// Reads the candidates' traces, newest first, until there are enough.
    fn look_at(&mut self, candidates: &mut HashMap<TraceId, Nanos>) -> Result<()> {
        let mut ordered: Vec<(TraceId, Nanos)> = candidates.drain().collect();
        ordered.sort_by_key(|(id, start)| (Reverse(*start), *id));
        for (id, start) in ordered {
            if self.found.len() >= self.options.limit {
                break;
            }
            if !self.seen.insert(id) {
                continue;
            }
            self.budget.check()?;
            let around = TimeRange::new(start - AROUND, start + AROUND);
            let spans = self.source.trace(id, Some(around), self.budget)?;
            let bytes = spans.len() as u64 * SPAN_BYTES + spans.iter().map(StoredSpan::heap_bytes).sum::<u64>();
            self.budget.charge(bytes)?;
            let trace = Trace::new(spans);
            let sets = Evaluation { trace: &trace, regexes: &self.expr.regexes }.run(self.pipeline);
            if let Some(matched) = self.matched(id, &trace, &sets) {
                self.budget.charge(matched.heap_bytes())?;
                self.found.push(matched);
            }
            self.budget.release(bytes);
        }
        Ok(())
    }

    fn matched(&self, trace_id: TraceId, trace: &Trace, sets: &[Set]) -> Option<TraceMatch> {
        let root = trace.root()?;
        if sets.is_empty() {
            return None;
        }
        let (start, end) = trace.bounds();
        let fields = shown_fields(self.pipeline);
        let spansets = sets.iter().map(|set| self.spanset(trace, set, &fields)).collect();
        Some(TraceMatch {
            trace_id,
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

    fn finish(mut self) -> Vec<TraceMatch> {
        self.found.sort_by_key(|found| (Reverse(found.start), found.trace_id));
        self.found
    }
}

/// Attributes that filters, groups and `select` name.
fn shown_fields(pipeline: &Pipeline) -> Vec<&Field> {
    let mut fields = Vec::new();
    for leaf in leaves(pipeline) {
        attributes_of(leaf, &mut fields);
    }
    for stage in &pipeline.stages {
        match stage {
            Stage::By(field) => attributes_of(field, &mut fields),
            Stage::Select(selected) => selected.iter().for_each(|field| attributes_of(field, &mut fields)),
            _ => {}
        }
    }
    fields
}

fn attributes_of<'a>(field: &'a Field, out: &mut Vec<&'a Field>) {
    match &field.kind {
        FieldKind::Static(_) => {}
        FieldKind::Attribute(_) => out.push(field),
        FieldKind::Not(inner) | FieldKind::Negative(inner) => attributes_of(inner, out),
        FieldKind::Binary { left, right, .. } => {
            attributes_of(left, out);
            attributes_of(right, out);
        }
    }
}
