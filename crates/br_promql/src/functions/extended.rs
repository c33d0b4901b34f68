//! Ranges whose ends are filled: `anchored` takes the last sample before the window as the value at its start, `smoothed`
//! interpolates between the samples around each end. Source: Prometheus proposal 52.

use super::call::RangeCall;
use super::rate::{as_histogram, is_counter};
use crate::annotations::Annotation;
use crate::engine::{Context, RangeSeries, Sample, mixed_note};
use crate::histogram::{self, MixedLayout};
use crate::syntax::ast::Extension;
use crate::syntax::span::Span;
use br_model::{CounterResetHint, FloatHistogram, Value};
use br_storage::SeriesData;
use std::sync::Arc;

/// The value at one end of a window.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Edge {
    Sample(usize),
    /// Between the sample at this position and the next.
    After(usize),
}

/// The position of the last sample at or before a window's start, if it is not too old.
pub(super) fn anchor(call: &RangeCall, series: &RangeSeries, step: usize) -> Option<usize> {
    if series.extension == Extension::None {
        return None;
    }
    let at = (series.windows[step].0 as usize).checked_sub(1)?;
    let start_ms = series.ends_ms[step].saturating_sub(series.range_ms);
    let oldest_ms = start_ms.saturating_sub(call.context.options.lookback_ms);
    (series.points.timestamps_ms[at] > oldest_ms).then_some(at)
}

fn edges(call: &RangeCall, series: &RangeSeries, step: usize) -> Option<(Edge, Edge)> {
    let (from, to) = series.windows[step];
    let (from, to) = (from as usize, to as usize);
    let before = anchor(call, series, step);
    if series.extension == Extension::Anchored {
        return (to > from).then(|| (Edge::Sample(before.unwrap_or(from)), Edge::Sample(to - 1)));
    }
    let times = &series.points.timestamps_ms;
    let end_ms = series.ends_ms[step];
    let start_ms = end_ms.saturating_sub(series.range_ms);
    let latest_ms = end_ms.saturating_add(call.context.options.lookback_ms);
    let has_next = times.get(to).is_some_and(|time_ms| *time_ms <= latest_ms);
    if from == to && !has_next {
        return None;
    }
    let left = match before {
        Some(at) if times[at] == start_ms => Edge::Sample(at),
        Some(at) => Edge::After(at),
        None if from < to => Edge::Sample(from),
        None => return None,
    };
    let last = if to > from { to - 1 } else { before? };
    let right = if has_next && times[last] != end_ms { Edge::After(last) } else { Edge::Sample(last) };
    Some((left, right))
}

/// The share of the way from the sample at a position to the next at which a time lies.
fn share(times: &[i64], at: usize, time_ms: i64) -> f64 {
    (time_ms - times[at]) as f64 / (times[at + 1] - times[at]) as f64
}

/// `rate`, `increase` and `delta` over an extended window: nothing is extrapolated.
pub(super) fn difference(call: &RangeCall, series: &RangeSeries, step: usize) -> Option<Sample> {
    let (left, right) = edges(call, series, step)?;
    let (Edge::Sample(first) | Edge::After(first)) = left;
    let last = match right {
        Edge::Sample(at) => at,
        Edge::After(at) => at + 1,
    };
    let samples: Vec<Value> = (first..=last).map(|at| series.points.value(at)).collect();
    let end_ms = series.ends_ms[step];
    let ends = Ends {
        left,
        right,
        first,
        start_ms: end_ms.saturating_sub(series.range_ms),
        end_ms,
        times: &series.points.timestamps_ms,
        counter: is_counter(call.name),
    };
    let per_second = if call.name == "rate" { 1000.0 / series.range_ms as f64 } else { 1.0 };
    let floats: Option<Vec<f64>> =
        samples.iter().map(|sample| if let Value::Float(value) = sample { Some(*value) } else { None }).collect();
    if let Some(values) = floats {
        return Some(Sample::Float(ends.float_difference(&values) * per_second));
    }
    let histograms: Option<Vec<Arc<FloatHistogram>>> = samples.into_iter().map(as_histogram).collect();
    let Some(histograms) = histograms else {
        mixed_note(call.context, &series.labels, call.span);
        return None;
    };
    note_hints(call, series, &histograms);
    let Ok(difference) = ends.histogram_difference(&histograms) else {
        let metric = series.labels.metric_name().to_owned();
        call.context.note(&Annotation::MixedExponentialCustom { metric }, call.span);
        return None;
    };
    let mut result = histogram::scale(&difference, per_second);
    result.counter_reset_hint = CounterResetHint::Gauge;
    Some(histogram::compact(&result).into())
}

fn note_hints(call: &RangeCall, series: &RangeSeries, histograms: &[Arc<FloatHistogram>]) {
    let metric = || series.labels.metric_name().to_owned();
    let is_gauge = |histogram: &Arc<FloatHistogram>| histogram.counter_reset_hint == CounterResetHint::Gauge;
    if is_counter(call.name) {
        if histograms.iter().any(is_gauge) {
            call.context.note(&Annotation::NotCounter { metric: metric() }, call.span);
        }
    } else if !(histograms.first().is_some_and(is_gauge) && histograms.last().is_some_and(is_gauge)) {
        call.context.note(&Annotation::NotGauge { metric: metric() }, call.span);
    }
}

/// The two ends of a window over samples that start at position `first`.
struct Ends<'e> {
    left: Edge,
    right: Edge,
    first: usize,
    start_ms: i64,
    end_ms: i64,
    times: &'e [i64],
    counter: bool,
}

impl Ends<'_> {
    /// The pairs of samples between which a reset must be made up for, as positions of the second, from `first`.
    fn pairs(&self) -> std::ops::RangeInclusive<usize> {
        let from = match self.left {
            Edge::Sample(at) => at + 1,
            Edge::After(at) => at + 2,
        };
        let to = match self.right {
            Edge::Sample(at) => at,
            Edge::After(at) => at + 1,
        };
        from - self.first..=to - self.first
    }

    fn float_difference(&self, values: &[f64]) -> f64 {
        let at_edge = |edge: Edge, time_ms: i64| match edge {
            Edge::Sample(at) => values[at - self.first],
            Edge::After(at) => {
                let (before, after) = (values[at - self.first], values[at + 1 - self.first]);
                interpolate(before, after, share(self.times, at, time_ms), self.counter)
            }
        };
        let mut difference = at_edge(self.right, self.end_ms) - at_edge(self.left, self.start_ms);
        if self.counter {
            for at in self.pairs() {
                if values[at] < values[at - 1] {
                    difference += values[at - 1];
                }
            }
        }
        difference
    }

    fn histogram_difference(&self, values: &[Arc<FloatHistogram>]) -> Result<FloatHistogram, MixedLayout> {
        let custom = values.first().is_some_and(|value| value.uses_custom_buckets());
        if values.iter().any(|value| value.uses_custom_buckets() != custom) {
            return Err(MixedLayout);
        }
        let at_edge = |edge: Edge, time_ms: i64| match edge {
            Edge::Sample(at) => Ok(FloatHistogram::clone(&values[at - self.first])),
            Edge::After(at) => {
                let (before, after) = (&values[at - self.first], &values[at + 1 - self.first]);
                interpolate_histograms(before, after, share(self.times, at, time_ms), self.counter)
            }
        };
        let (right, left) = (at_edge(self.right, self.end_ms)?, at_edge(self.left, self.start_ms)?);
        let mut difference = histogram::subtract(&right, &left)?.histogram;
        if self.counter {
            for at in self.pairs() {
                if histogram::is_reset(&values[at], &values[at - 1]) {
                    difference = histogram::add(&difference, &values[at - 1])?.histogram;
                }
            }
        }
        Ok(difference)
    }
}

/// A counter that was reset in between counts from zero.
fn interpolate(before: f64, after: f64, share: f64, counter: bool) -> f64 {
    let from = if counter && after < before { 0.0 } else { before };
    from + (after - from) * share
}

fn interpolate_histograms(
    before: &FloatHistogram,
    after: &FloatHistogram,
    share: f64,
    counter: bool,
) -> Result<FloatHistogram, MixedLayout> {
    if counter && histogram::is_reset(after, before) {
        return Ok(histogram::scale(after, share));
    }
    let difference = histogram::subtract(after, before)?.histogram;
    let mut between = histogram::add(before, &histogram::scale(&difference, share))?.histogram;
    between.counter_reset_hint = before.counter_reset_hint;
    Ok(between)
}

/// The value of a smoothed instant selector: between the samples before and after, or the one before where none follows.
/// `position` is the number of samples at or before `at_ms`.
pub(crate) fn smoothed_instant(context: &Context, data: &SeriesData, position: usize, at_ms: i64, span: Span) -> Option<Sample> {
    let points = &data.points;
    let at = position.checked_sub(1)?;
    let lookback_ms = context.options.lookback_ms;
    let times = &points.timestamps_ms;
    let before = points.value(at);
    if times[at] <= at_ms.saturating_sub(lookback_ms) || before.is_stale() {
        return None;
    }
    let has_next = times.get(at + 1).is_some_and(|next_ms| *next_ms <= at_ms.saturating_add(lookback_ms));
    if times[at] == at_ms || !has_next {
        return Some(before.into());
    }
    let after = points.value(at + 1);
    if after.is_stale() {
        return Some(before.into());
    }
    let share = share(times, at, at_ms);
    match (before, after) {
        (Value::Float(before), Value::Float(after)) => Some(Sample::Float(interpolate(before, after, share, false))),
        (Value::Histogram(before), Value::Histogram(after)) => {
            let counter = after.counter_reset_hint != CounterResetHint::Gauge;
            if before.uses_custom_buckets() == after.uses_custom_buckets()
                && let Ok(between) = interpolate_histograms(&before, &after, share, counter)
            {
                return Some(between.into());
            }
            let metric = data.labels.metric_name().to_owned();
            context.note(&Annotation::MixedExponentialCustom { metric }, span);
            None
        }
        _ => {
            mixed_note(context, &data.labels, span);
            None
        }
    }
}
