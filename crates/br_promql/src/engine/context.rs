//! What evaluation carries along: where it reads, for which times, and what it may use.

use super::Options;
use super::shared::Sharing;
use crate::annotations::{Annotation, Annotations};
use crate::syntax::ast::{At, DurationExpr};
use crate::syntax::duration::QuerySpan;
use crate::syntax::span::Span;
use br_std::{Error, Result};
use br_storage::{Budget, MetricSource};

/// The times for which an expression is evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Timeline {
    pub(crate) start_ms: i64,
    pub(crate) step_ms: i64,
    pub(crate) steps: usize,
}

impl Timeline {
    /// All multiples of the step from `start_ms` up to `end_ms`, included.
    pub(crate) fn between(start_ms: i64, end_ms: i64, step_ms: i64, steps_max: usize) -> Result<Self> {
        let span = end_ms.checked_sub(start_ms).ok_or_else(|| Error::fix_request("the time range is too wide"))?;
        let steps = if span < 0 { 0 } else { span / step_ms + 1 };
        match usize::try_from(steps) {
            Ok(steps) if steps <= steps_max => Ok(Self { start_ms, step_ms, steps }),
            _ => Err(Error::over_limit(format!(
                "the query needs {steps} steps where {steps_max} are allowed: raise the step or narrow the range"
            ))),
        }
    }

    pub(crate) fn time_ms(&self, step: usize) -> i64 {
        self.start_ms + self.step_ms * step as i64
    }
}

/// The query's own range; `step_ms` is 0 for an instant query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::struct_field_names, reason = "units end names")]
pub(crate) struct QueryRange {
    pub(crate) start_ms: i64,
    pub(crate) end_ms: i64,
    pub(crate) step_ms: i64,
}

/// The times that a selector looks at: those of the timeline, moved by its modifiers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reference {
    pub(crate) at_ms: Option<i64>,
    pub(crate) offset_ms: i64,
}

#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) options: &'a Options,
    pub(crate) source: &'a dyn MetricSource,
    pub(crate) budget: &'a Budget,
    pub(crate) notes: &'a Annotations,
    pub(super) sharing: Option<&'a Sharing<'a>>,
    pub(crate) timeline: Timeline,
    pub(crate) query: QueryRange,
    /// Only counts and sums of histograms are wanted: counter resets between samples are then found on reading.
    pub(crate) histogram_stats: bool,
}

impl Context<'_> {
    pub(crate) fn note(&self, annotation: &Annotation, span: Span) {
        self.notes.add(annotation, span);
    }

    pub(crate) fn steps(&self) -> usize {
        self.timeline.steps
    }

    fn query_span(&self) -> QuerySpan {
        QuerySpan {
            step_secs: self.query.step_ms as f64 / 1000.0,
            range_secs: (self.query.end_ms - self.query.start_ms) as f64 / 1000.0,
        }
    }

    pub(crate) fn millis(&self, duration: &DurationExpr) -> Result<i64> {
        duration.millis(self.query_span())
    }

    pub(crate) fn positive_millis(&self, duration: &DurationExpr) -> Result<i64> {
        duration.positive_millis(self.query_span())
    }

    pub(crate) fn reference(&self, offset: Option<&DurationExpr>, at: Option<At>) -> Result<Reference> {
        let at_ms = at.map(|at| match at {
            At::Millis(millis) => millis,
            At::Start => self.query.start_ms,
            At::End => self.query.end_ms,
        });
        let offset_ms = offset.map_or(Ok(0), |offset| self.millis(offset))?;
        Ok(Reference { at_ms, offset_ms })
    }

    /// The time that a selector looks at for a step.
    pub(crate) fn reference_ms(&self, reference: Reference, step: usize) -> i64 {
        reference.at_ms.unwrap_or_else(|| self.timeline.time_ms(step)).saturating_sub(reference.offset_ms)
    }

    /// The first and the last of those times.
    pub(crate) fn reference_bounds(&self, reference: Reference) -> (i64, i64) {
        (self.reference_ms(reference, 0), self.reference_ms(reference, self.timeline.steps.saturating_sub(1)))
    }

    /// The same for one step only.
    pub(crate) fn at_step(&self, step: usize) -> Self {
        let timeline = Timeline { start_ms: self.timeline.time_ms(step), step_ms: 0, steps: 1 };
        Self { timeline, ..*self }
    }

    pub(crate) fn with_histogram_stats(&self, histogram_stats: bool) -> Self {
        Self { histogram_stats, ..*self }
    }
}
