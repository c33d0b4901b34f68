//! Range vectors: series with the window of samples that each step sees.

use super::by_times::ByTimes;
use super::context::{Context, Reference, Timeline};
use super::eval::vector;
use super::rollups::{Fit, rollup_use};
use super::select;
use super::series::{Column, Sample};
use crate::syntax::ast::{DurationExpr, Expr, ExprKind, Extension};
use br_model::{CounterResetHint, FloatHistogram, Labels, Value};
use br_std::{Error, Result};
use br_storage::{Points, Values};
use std::borrow::Cow;
use std::sync::Arc;

/// One series of a range vector, without staleness markers.
pub(crate) struct RangeSeries<'w> {
    pub(crate) labels: Labels,
    pub(crate) drop_name: bool,
    pub(crate) points: Points,
    /// For each step the samples of its window, as positions from (included) to (not included).
    pub(crate) windows: &'w [(u32, u32)],
    /// For each step the time at which its window ends, included.
    pub(crate) ends_ms: &'w [i64],
    pub(crate) range_ms: i64,
    pub(crate) extension: Extension,
}

/// The samples of one window by kind, each with its times.
pub(crate) struct Parts<'p> {
    pub(crate) float_times: Cow<'p, [i64]>,
    pub(crate) floats: Cow<'p, [f64]>,
    pub(crate) histogram_times: Vec<i64>,
    pub(crate) histograms: Vec<&'p Arc<FloatHistogram>>,
    /// When the counters behind the samples began, where the window has one kind only.
    pub(crate) starts_ms: Option<&'p [i64]>,
}

impl RangeSeries<'_> {
    /// What the window of a step holds; `None` when it holds nothing.
    pub(crate) fn parts(&self, step: usize) -> Option<Parts<'_>> {
        let (from, to) = self.windows[step];
        let (from, to) = (from as usize, to as usize);
        if from >= to {
            return None;
        }
        let times = &self.points.timestamps_ms[from..to];
        let mut parts = Parts {
            float_times: Cow::Borrowed(&[]),
            floats: Cow::Borrowed(&[]),
            histogram_times: Vec::new(),
            histograms: Vec::new(),
            starts_ms: self.points.starts_ms.as_ref().map(|starts| &starts[from..to]),
        };
        match &self.points.values {
            Values::Floats(values) => {
                parts.float_times = Cow::Borrowed(times);
                parts.floats = Cow::Borrowed(&values[from..to]);
            }
            Values::Histograms(values) => {
                parts.histogram_times = times.to_vec();
                parts.histograms = values[from..to].iter().collect();
            }
            Values::Mixed(values) => {
                for (time, value) in times.iter().zip(&values[from..to]) {
                    match value {
                        Value::Float(value) => {
                            parts.float_times.to_mut().push(*time);
                            parts.floats.to_mut().push(*value);
                        }
                        Value::Histogram(histogram) => {
                            parts.histogram_times.push(*time);
                            parts.histograms.push(histogram);
                        }
                    }
                }
                if !parts.floats.is_empty() && !parts.histograms.is_empty() {
                    parts.starts_ms = None;
                }
            }
        }
        Some(parts)
    }
}

/// Evaluates a range vector, series by series.
pub(crate) fn ranges_each(
    context: &Context,
    expr: &Expr,
    fit: Fit,
    each: &mut dyn FnMut(RangeSeries) -> Result<()>,
) -> Result<()> {
    match &expr.kind {
        ExprKind::Matrix { vector, range } => {
            let ExprKind::Vector(selector) = &vector.kind else {
                return Err(Error::fix_request("ranges only allowed for vector selectors"));
            };
            let reference = context.reference(selector.offset.as_ref(), selector.at)?;
            let range_ms = context.positive_millis(range)?;
            let mut windows = Windows::new(context, reference, range_ms);
            let ends_ms = windows.ends_ms.clone();
            let (first_ms, last_ms) = context.reference_bounds(reference);
            let lookback_ms = context.options.lookback_ms;
            let extension = selector.extension;
            let (before_ms, after_ms) = match extension {
                Extension::None => (0, 0),
                Extension::Anchored => (lookback_ms, 0),
                Extension::Smoothed => (lookback_ms, lookback_ms),
            };
            let from_ms = first_ms.saturating_sub(range_ms).saturating_sub(before_ms).saturating_add(1);
            let fit = if extension == Extension::None { fit } else { Fit::About };
            let rollups = rollup_use(context, reference, range_ms, fit);
            select::read_each(context, selector, from_ms, last_ms.saturating_add(after_ms), rollups, &mut |data| {
                let points = without_stale(data.points);
                let found = windows.of(&points.timestamps_ms);
                each(RangeSeries {
                    labels: data.labels,
                    drop_name: false,
                    points,
                    windows: found,
                    ends_ms: &ends_ms,
                    range_ms,
                    extension,
                })
            })
        }
        ExprKind::Subquery { expr, range, step, offset, at } => {
            let reference = context.reference(offset.as_ref(), *at)?;
            subquery_each(context, expr, range, step.as_ref(), reference, each)
        }
        ExprKind::Paren(inner) => ranges_each(context, inner, fit, each),
        _ => Err(Error::fix_request(format!("{}: expected a range vector", expr.span))),
    }
}

/// The timeline on which a subquery evaluates its inner expression: multiples of its step.
pub(crate) fn subquery_context<'a>(
    context: &Context<'a>,
    range_ms: i64,
    step: Option<&DurationExpr>,
    reference: Reference,
) -> Result<Context<'a>> {
    let step_ms = step.map_or(Ok(context.options.subquery_step_ms), |step| context.positive_millis(step))?.max(1);
    let (first_ms, last_ms) = context.reference_bounds(reference);
    let after_ms = first_ms.saturating_sub(range_ms);
    let start_ms = after_ms.div_euclid(step_ms).saturating_add(1).saturating_mul(step_ms);
    let timeline = Timeline::between(start_ms, last_ms, step_ms, context.options.steps_max)?;
    Ok(Context { timeline, histogram_stats: false, ..*context })
}

fn subquery_each(
    context: &Context,
    expr: &Expr,
    range: &DurationExpr,
    step: Option<&DurationExpr>,
    reference: Reference,
    each: &mut dyn FnMut(RangeSeries) -> Result<()>,
) -> Result<()> {
    let range_ms = context.positive_millis(range)?;
    let inner = subquery_context(context, range_ms, step, reference)?;
    if inner.steps() == 0 {
        return Ok(());
    }
    let all_times: Arc<[i64]> = (0..inner.steps()).map(|step| inner.timeline.time_ms(step)).collect();
    let mut windows = Windows::new(context, reference, range_ms);
    let ends_ms = windows.ends_ms.clone();
    context.budget.charge((inner.steps() * 8 + context.steps() * 16) as u64)?;
    for series in vector(&inner, expr)? {
        context.budget.check()?;
        let points = points_of(&series.points, &all_times);
        let found = windows.of(&points.timestamps_ms);
        each(RangeSeries {
            labels: series.labels,
            drop_name: series.drop_name,
            points,
            windows: found,
            ends_ms: &ends_ms,
            range_ms,
            extension: Extension::None,
        })?;
    }
    Ok(())
}

/// The steps that have a value, as samples.
fn points_of(column: &Column, times: &Arc<[i64]>) -> Points {
    let present: Vec<usize> = (0..column.len()).filter(|step| column.is_present(*step)).collect();
    let timestamps_ms =
        if present.len() == times.len() { times.clone() } else { present.iter().map(|step| times[*step]).collect() };
    let values = if column.has_histograms() {
        let value = |step: &usize| match column.get(*step) {
            Some(Sample::Histogram(histogram)) => Value::Histogram(without_hint(histogram)),
            Some(Sample::Float(value)) => Value::Float(value),
            None => Value::Float(f64::NAN),
        };
        Values::Mixed(present.iter().map(value).collect())
    } else {
        Values::Floats(present.iter().filter_map(|step| column.float(*step)).collect())
    };
    Points { timestamps_ms, values, starts_ms: None, weights: None }
}

/// What is known of resets holds between samples that follow each other in the store, not between steps.
fn without_hint(mut histogram: Arc<FloatHistogram>) -> Arc<FloatHistogram> {
    if matches!(histogram.counter_reset_hint, CounterResetHint::Reset | CounterResetHint::NotReset) {
        Arc::make_mut(&mut histogram).counter_reset_hint = CounterResetHint::Unknown;
    }
    histogram
}

fn without_stale(points: Points) -> Points {
    let is_stale = |at: usize| match &points.values {
        Values::Floats(values) => br_model::is_stale(values[at]),
        Values::Histograms(values) => br_model::is_stale(values[at].sum),
        Values::Mixed(values) => values[at].is_stale(),
    };
    if !(0..points.len()).any(is_stale) {
        return points;
    }
    let kept: Vec<usize> = (0..points.len()).filter(|at| !is_stale(*at)).collect();
    let values = match &points.values {
        Values::Floats(values) => Values::Floats(kept.iter().map(|at| values[*at]).collect()),
        Values::Histograms(values) => Values::Histograms(kept.iter().map(|at| values[*at].clone()).collect()),
        Values::Mixed(values) => Values::Mixed(kept.iter().map(|at| values[*at].clone()).collect()),
    };
    Points {
        timestamps_ms: kept.iter().map(|at| points.timestamps_ms[*at]).collect(),
        values,
        starts_ms: points.starts_ms.map(|starts| kept.iter().map(|at| starts[*at]).collect()),
        weights: points.weights.map(|weights| kept.iter().map(|at| weights[*at]).collect()),
    }
}

/// The windows of all steps. Computed once for series that share their timestamps.
struct Windows {
    /// For each step the time at which its window ends.
    ends_ms: Arc<[i64]>,
    range_ms: i64,
    found: ByTimes<(u32, u32)>,
}

impl Windows {
    fn new(context: &Context, reference: Reference, range_ms: i64) -> Self {
        let ends_ms = (0..context.steps()).map(|step| context.reference_ms(reference, step)).collect();
        Self { ends_ms, range_ms, found: ByTimes::default() }
    }

    fn of(&mut self, timestamps_ms: &Arc<[i64]>) -> &[(u32, u32)] {
        let Self { ends_ms, range_ms, found } = self;
        found.get(timestamps_ms, || windows(ends_ms, *range_ms, timestamps_ms))
    }
}

/// Windows do not include their start.
fn windows(ends_ms: &[i64], range_ms: i64, timestamps_ms: &[i64]) -> Vec<(u32, u32)> {
    let mut found = Vec::with_capacity(ends_ms.len());
    let (mut from, mut to) = (0, 0);
    for end_ms in ends_ms {
        let start_ms = end_ms.saturating_sub(range_ms);
        while timestamps_ms.get(from).is_some_and(|time| *time <= start_ms) {
            from += 1;
        }
        while timestamps_ms.get(to).is_some_and(|time| time <= end_ms) {
            to += 1;
        }
        found.push((from as u32, to as u32));
    }
    found
}
