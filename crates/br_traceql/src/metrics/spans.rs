//! The spans that a pipeline leaves over: one by one where each can be judged alone, else trace by trace.

use crate::ast::{Expr, Field, MetricFunction, Pipeline, Spanset, Stage};
use crate::attribute::{View, is_local};
use crate::hints::{Clause, Requirement, add_parts, parts_of, visit, visit_spanset};
use crate::search::{AROUND, SPAN_BYTES, side};
use crate::spanset::Evaluation;
use crate::trace::Trace;
use br_model::TraceId;
use br_std::{Nanos, Result};
use br_storage::{Budget, Held, SpanParts, SpanQuery, SpanSource, StoredSpan, TimeRange};
use std::collections::BTreeMap;

/// What a trace that is looked for takes in memory, about.
const CANDIDATE_BYTES: u64 = 96;

pub(super) struct Spans<'a> {
    pub(super) source: &'a dyn SpanSource,
    pub(super) expr: &'a Expr,
    pub(super) range: TimeRange,
    pub(super) budget: &'a Budget,
}

/// What a metrics function looks at beside the pipeline.
pub(super) fn function_parts(pipeline: &Pipeline, function: &MetricFunction) -> SpanParts {
    let mut parts = parts_of(pipeline);
    let mut add = |field: &Field| add_parts(field, &mut parts);
    for field in function.by.iter().chain(&function.field) {
        visit(field, &mut add);
    }
    if let Some(selection) = &function.selection {
        visit_spanset(selection, true, &mut add);
    }
    parts
}

fn is_function_local(function: &MetricFunction) -> bool {
    let selection = match function.selection.as_deref() {
        Some(Spanset::Filter(field)) => Some(field),
        _ => None,
    };
    function.by.iter().chain(&function.field).chain(selection).all(is_local)
}

impl Spans<'_> {
    /// Goes over the spans that start in the range and come out of the pipeline.
    pub(super) fn each(
        &self,
        pipeline: &Pipeline,
        function: &MetricFunction,
        parts: &SpanParts,
        look: &mut dyn FnMut(View<'_>) -> Result<()>,
    ) -> Result<()> {
        let requirement = Requirement::of(pipeline);
        let is_plain = pipeline.stages.iter().all(|stage| match stage {
            Stage::Spanset(Spanset::Filter(field)) => is_local(field),
            stage => matches!(stage, Stage::Select(_)),
        });
        if is_plain && is_function_local(function) {
            self.one_by_one(&requirement, parts, look)
        } else {
            self.by_traces(pipeline, &requirement, parts, look)
        }
    }

    fn one_by_one(
        &self,
        requirement: &Requirement<'_>,
        parts: &SpanParts,
        look: &mut dyn FnMut(View<'_>) -> Result<()>,
    ) -> Result<()> {
        let regexes = &self.expr.regexes;
        self.scan(requirement, parts, &mut |stored| look(View { stored, trace: None, regexes }))
    }

    fn scan(
        &self,
        requirement: &Requirement<'_>,
        parts: &SpanParts,
        look: &mut dyn FnMut(&StoredSpan) -> Result<()>,
    ) -> Result<()> {
        let main = requirement.main();
        let hints = main.map(Clause::hints).unwrap_or_default();
        let mut cursor = self.source.scan(&SpanQuery { range: self.range, hints, parts: parts.clone() }, self.budget)?;
        while let Some(spans) = cursor.next_batch()? {
            self.budget.check()?;
            for stored in spans.iter().filter(|stored| self.range.contains(stored.span.start)) {
                if main.is_none_or(|clause| clause.may_hold(stored, &self.expr.regexes)) {
                    look(stored)?;
                }
            }
        }
        Ok(())
    }

    fn by_traces(
        &self,
        pipeline: &Pipeline,
        requirement: &Requirement<'_>,
        parts: &SpanParts,
        look: &mut dyn FnMut(View<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut held = Held::new(self.budget);
        let wide = TimeRange::new(self.range.from - AROUND, self.range.to + AROUND);
        let mut sides = Vec::new();
        for clause in requirement.others() {
            if let Some(ids) = side(self.source, clause, wide, &self.expr.regexes, self.budget)? {
                held.add(ids.len() as u64 * CANDIDATE_BYTES)?;
                sides.push(ids);
            }
        }
        // First and last of the spans that may come out.
        let mut candidates: BTreeMap<TraceId, (Nanos, Nanos)> = BTreeMap::new();
        let candidate_parts = requirement.main().map_or(SpanParts::NONE, Clause::parts);
        self.scan(requirement, &candidate_parts, &mut |stored| {
            let (id, start) = (stored.span.trace_id, stored.span.start);
            match candidates.get_mut(&id) {
                Some((first, last)) => (*first, *last) = ((*first).min(start), (*last).max(start)),
                None if sides.iter().all(|side| side.contains(&id)) => {
                    held.add(CANDIDATE_BYTES)?;
                    candidates.insert(id, (start, start));
                }
                None => {}
            }
            Ok(())
        })?;
        let place = |(id, (first, last)): (TraceId, (Nanos, Nanos))| (id, TimeRange::new(first - AROUND, last + AROUND));
        let wanted: Vec<(TraceId, TimeRange)> = candidates.into_iter().map(place).collect();
        self.source.traces(&wanted, parts, self.budget, &mut |_, spans| {
            self.budget.check()?;
            self.of_trace(pipeline, spans, look)?;
            Ok(true)
        })
    }

    fn of_trace(&self, pipeline: &Pipeline, spans: Vec<StoredSpan>, look: &mut dyn FnMut(View<'_>) -> Result<()>) -> Result<()> {
        let mut held = Held::new(self.budget);
        held.add(spans.len() as u64 * SPAN_BYTES + spans.iter().map(StoredSpan::heap_bytes).sum::<u64>())?;
        let regexes = &self.expr.regexes;
        let trace = Trace::new(spans);
        let sets = Evaluation { trace: &trace, regexes }.run(pipeline);
        let mut places: Vec<usize> = sets.into_iter().flat_map(|set| set.spans).collect();
        places.sort_unstable();
        places.dedup();
        for at in places.into_iter().filter(|at| self.range.contains(trace.spans[*at].span.start)) {
            look(View::of_trace(&trace, at, regexes))?;
        }
        Ok(())
    }
}
