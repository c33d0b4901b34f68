//! `rate`, `increase`, `delta`, `irate` and `idelta`.

use super::call::{RangeBody, RangeCall};
use super::{extended, starts};
use crate::annotations::Annotation;
use crate::engine::{ByTimes, Column, RangeSeries, Sample, gain, mixed_note};
use crate::histogram;
use crate::syntax::ast::Extension;
use br_model::{CounterResetHint, FloatHistogram, Value};
use br_storage::Values;
use std::sync::Arc;

/// `None` when the function is not one of these.
pub(super) fn body(name: &str) -> Option<RangeBody> {
    match name {
        "rate" | "increase" | "delta" => Some(extrapolated),
        "irate" | "idelta" => Some(instant),
        _ => None,
    }
}

pub(super) fn is_counter(name: &str) -> bool {
    name != "delta" && name != "idelta"
}

/// All steps of a series of plain floats at once: where the counter was reset is found once, not once per window.
/// `None` where the general way is needed.
pub(super) fn columns(call: &RangeCall, series: &RangeSeries, shapes: &mut Shapes) -> Option<Column> {
    if !matches!(call.name, "rate" | "increase" | "delta") || series.extension != Extension::None {
        return None;
    }
    let Values::Floats(values) = &series.points.values else { return None };
    // Where samples were left out, what they added to a counter is in the weights.
    if series.points.weights.is_some() || (series.points.starts_ms.is_some() && call.context.options.start_timestamps) {
        return None;
    }
    let counter = is_counter(call.name);
    let is_reset = |at: &usize| values[*at] < values[at - 1];
    let resets: Vec<usize> = if counter { (1..values.len()).filter(is_reset).collect() } else { Vec::new() };
    let mut column = Column::absent(series.windows.len());
    let mut next_reset = 0;
    let per = per(call, series);
    for StepShape { step, from, to, shape, factor } in shapes.of(series, per) {
        let first = values[*from];
        let mut result = values[to - 1] - first;
        if !resets.is_empty() {
            while resets.get(next_reset).is_some_and(|at| at <= from) {
                next_reset += 1;
            }
            for at in resets[next_reset..].iter().take_while(|at| *at < to) {
                result += values[at - 1];
            }
        }
        let goes_up = counter && result > 0.0 && first >= 0.0;
        // Most counters are so far from zero that it does not matter where they were there: seen without dividing.
        let is_far = result > FAR_RESULT_MIN && first * shape.sampled > shape.to_start * result * FAR_MARGIN;
        let factor = if goes_up && !is_far { shape.factor(Some(first / result), per) } else { *factor };
        column.set_float(*step, result * factor);
    }
    Some(column)
}

/// Keeps rounding away from the question whether a counter is far from zero.
const FAR_MARGIN: f64 = 1.000_001;
const FAR_RESULT_MIN: f64 = 1e-200;

/// The windows of all steps. Of those that see two samples or more.
#[derive(Default)]
pub(super) struct Shapes(ByTimes<StepShape>);

struct StepShape {
    step: usize,
    /// Positions of the window's samples; the last one is not included.
    from: usize,
    to: usize,
    shape: Shape,
    /// The shape's factor for a counter that is far from zero.
    factor: f64,
}

impl Shapes {
    /// Of one call: its range and its steps stay the same.
    fn of(&mut self, series: &RangeSeries, per: Option<f64>) -> &[StepShape] {
        self.0.get(&series.points.timestamps_ms, || steps_of(series, per))
    }
}

fn steps_of(series: &RangeSeries, per: Option<f64>) -> Vec<StepShape> {
    let times = &series.points.timestamps_ms;
    let windows = series.windows.iter().map(|(from, to)| (*from as usize, *to as usize)).enumerate();
    let seen = windows.filter(|(_, (from, to))| *to >= from + 2);
    seen.map(|(step, (from, to))| {
        let window = Window {
            first_ms: times[from],
            last_ms: times[to - 1],
            intervals: (to - from - 1) as f64,
            end_ms: series.ends_ms[step],
            range_ms: series.range_ms,
            begins_ms: None,
        };
        let shape = window.shape();
        StepShape { step, from, to, factor: shape.factor(None, per), shape }
    })
    .collect()
}

/// What the result is divided by: the seconds of the range for `rate`.
fn per(call: &RangeCall, series: &RangeSeries) -> Option<f64> {
    (call.name == "rate").then(|| secs(series.range_ms))
}

fn secs(millis: i64) -> f64 {
    millis as f64 / 1000.0
}

/// Where the samples of a window lie.
struct Window {
    first_ms: i64,
    last_ms: i64,
    /// Number of samples less one.
    intervals: f64,
    end_ms: i64,
    range_ms: i64,
    /// When the counter began, where that is known and within the window.
    begins_ms: Option<i64>,
}

/// The same in seconds: what the samples cover, and by how much that is stretched at both ends.
struct Shape {
    sampled: f64,
    to_start: f64,
    to_end: f64,
}

/// Samples this much farther from the window's end than from each other mean that the series begins or ends there.
const GAP_FACTOR: f64 = 1.1;

impl Window {
    fn shape(&self) -> Shape {
        let sampled_from_ms = self.begins_ms.unwrap_or(self.first_ms);
        let between = if self.intervals > 0.0 { secs(self.last_ms - self.first_ms) / self.intervals } else { 0.0 };
        let threshold = between * GAP_FACTOR;
        let mut to_start = secs(sampled_from_ms - self.end_ms.saturating_sub(self.range_ms));
        if to_start >= threshold {
            to_start = between / 2.0;
        }
        if self.begins_ms.is_some() {
            to_start = 0.0;
        }
        let mut to_end = secs(self.end_ms - self.last_ms);
        if to_end >= threshold {
            to_end = between / 2.0;
        }
        Shape { sampled: secs(self.last_ms - sampled_from_ms), to_start, to_end }
    }
}

impl Shape {
    /// By how much the difference between the first and the last sample is stretched to cover the window.
    /// `to_zero` is the first value as a share of the increase: a counter is not taken below zero.
    fn factor(&self, to_zero: Option<f64>, per: Option<f64>) -> f64 {
        let to_start = to_zero.map_or(self.to_start, |share| self.to_start.min(self.sampled * share));
        let factor = (self.sampled + to_start + self.to_end) / self.sampled;
        per.map_or(factor, |per| factor / per)
    }
}

fn extrapolated(call: &RangeCall, series: &RangeSeries, step: usize) -> Option<Sample> {
    if series.extension != Extension::None {
        return extended::difference(call, series, step);
    }
    let (from, to) = series.windows[step];
    let (from, to) = (from as usize, to as usize);
    if to <= from {
        return None;
    }
    let counter = is_counter(call.name);
    let uses_starts = counter && call.context.options.start_timestamps && series.points.starts_ms.is_some();
    let end_ms = series.ends_ms[step];
    let start_ms = end_ms.saturating_sub(series.range_ms);
    let begins_ms = uses_starts.then(|| starts::beginning_within(&series.points, from, start_ms)).flatten();
    if to - from < 2 && begins_ms.is_none() {
        return None;
    }
    if uses_starts && (from + 1..to).any(|at| starts::overlaps(&series.points, at)) {
        let metric = series.labels.metric_name().to_owned();
        call.context.note(&Annotation::StartTimeOverlap { metric }, call.span);
    }
    let times = &series.points.timestamps_ms;
    let window = Window {
        first_ms: times[from],
        last_ms: times[to - 1],
        intervals: series.raw_count(from, to) - 1.0,
        end_ms,
        range_ms: series.range_ms,
        begins_ms,
    };
    let (shape, per) = (window.shape(), per(call, series));
    let reset_by_start = |at: usize| uses_starts && starts::is_reset(&series.points, at);
    let samples: Vec<Value> = (from..to).map(|at| series.points.value(at)).collect();
    if samples.iter().all(|sample| matches!(sample, Value::Float(_))) {
        let values: Vec<f64> = samples.iter().filter_map(float).collect();
        let mut result = values[values.len() - 1] - values[0];
        if begins_ms.is_some() {
            result += values[0];
        }
        for at in 1..values.len() {
            match gain(&series.points, from + at) {
                Some(gain) if counter => result += gain - (values[at] - values[at - 1]),
                _ if counter && (values[at] < values[at - 1] || reset_by_start(from + at)) => result += values[at - 1],
                _ => {}
            }
        }
        let to_zero = (counter && result > 0.0 && values[0] >= 0.0).then(|| values[0] / result);
        return Some(Sample::Float(result * shape.factor(to_zero, per)));
    }
    let histograms: Option<Vec<Arc<FloatHistogram>>> = samples.into_iter().map(as_histogram).collect();
    let Some(histograms) = histograms else {
        mixed_note(call.context, &series.labels, call.span);
        return None;
    };
    let result = histogram_difference(call, series, &histograms, begins_ms.is_some(), &|at| reset_by_start(from + at))?;
    let first_count = histograms[0].count;
    let to_zero = (counter && result.count > 0.0 && first_count >= 0.0).then(|| first_count / result.count);
    let mut result = histogram::scale(&result, shape.factor(to_zero, per));
    result.counter_reset_hint = CounterResetHint::Gauge;
    Some(histogram::compact(&result).into())
}

fn float(sample: &Value) -> Option<f64> {
    match sample {
        Value::Float(value) => Some(*value),
        Value::Histogram(_) => None,
    }
}

pub(super) fn as_histogram(sample: Value) -> Option<Arc<FloatHistogram>> {
    match sample {
        Value::Float(_) => None,
        Value::Histogram(histogram) => Some(histogram),
    }
}

/// The last histogram less the first, with what resets in between took away. `None`, with a warning, where they do not go
/// together.
fn histogram_difference(
    call: &RangeCall,
    series: &RangeSeries,
    histograms: &[Arc<FloatHistogram>],
    from_zero: bool,
    reset_by_start: &dyn Fn(usize) -> bool,
) -> Option<FloatHistogram> {
    let counter = is_counter(call.name);
    let metric = || series.labels.metric_name().to_owned();
    let is_gauge = |histogram: &FloatHistogram| histogram.counter_reset_hint == CounterResetHint::Gauge;
    let (first, last) = (histograms.first()?, histograms.last()?);
    let looked_at = if counter { histograms } else { &histograms[histograms.len() - 1..] };
    if counter && looked_at.iter().any(|histogram| is_gauge(histogram)) {
        call.context.note(&Annotation::NotCounter { metric: metric() }, call.span);
    }
    let both_gauges = is_gauge(first) && is_gauge(last);
    if !counter && !both_gauges {
        call.context.note(&Annotation::NotGauge { metric: metric() }, call.span);
    }
    let is_reset = |at: usize| counter && (histogram::is_reset(&histograms[at], &histograms[at - 1]) || reset_by_start(at));
    // What the first holds does not matter where the counter was reset right after it.
    let forget_first = from_zero || (histograms.len() > 1 && is_reset(1));
    let relevant = if forget_first && !from_zero { &looked_at[1..] } else { looked_at };
    let custom = last.uses_custom_buckets();
    let layout_differs = relevant.iter().any(|histogram| histogram.uses_custom_buckets() != custom)
        || (!forget_first && first.uses_custom_buckets() != custom);
    if layout_differs {
        call.context.note(&Annotation::MixedExponentialCustom { metric: metric() }, call.span);
        return None;
    }
    let mixed = |_| call.context.note(&Annotation::MixedExponentialCustom { metric: metric() }, call.span);
    let mut result = FloatHistogram::clone(last);
    if !forget_first {
        let combined = histogram::subtract(&result, first).map_err(mixed).ok()?;
        if combined.bounds_reconciled {
            call.context.note(&Annotation::MismatchedCustomBuckets { operation: "subtraction" }, call.span);
        }
        result = combined.histogram;
    }
    let resets_from = if forget_first && !from_zero { 2 } else { 1 };
    for at in resets_from..histograms.len() {
        if is_reset(at) {
            let combined = histogram::add(&result, &histograms[at - 1]).map_err(mixed).ok()?;
            if combined.bounds_reconciled {
                call.context.note(&Annotation::MismatchedCustomBuckets { operation: "addition" }, call.span);
            }
            result = combined.histogram;
        }
    }
    Some(result)
}

/// The last two samples only.
fn instant(call: &RangeCall, series: &RangeSeries, step: usize) -> Option<Sample> {
    let (from, to) = series.windows[step];
    let (from, to) = (from as usize, to as usize);
    if to < from + 2 {
        return None;
    }
    let counter = is_counter(call.name);
    let secs = (series.points.timestamps_ms[to - 1] - series.points.timestamps_ms[to - 2]) as f64 / 1000.0;
    if secs == 0.0 {
        return None;
    }
    let reset_by_start = counter && call.context.options.start_timestamps && starts::is_reset(&series.points, to - 1);
    let per_second = if counter { 1.0 / secs } else { 1.0 };
    match (series.points.value(to - 2), series.points.value(to - 1)) {
        (Value::Float(before), Value::Float(now)) => {
            let is_reset = counter && (now < before || reset_by_start);
            let difference = if is_reset { now } else { now - before };
            Some(Sample::Float(if counter { difference / secs } else { difference }))
        }
        (Value::Histogram(before), Value::Histogram(now)) => {
            let difference = instant_histogram(call, series, &before, &now, counter, reset_by_start)?;
            let mut result = histogram::scale(&difference, per_second);
            result.counter_reset_hint = CounterResetHint::Gauge;
            Some(histogram::compact(&result).into())
        }
        _ => {
            mixed_note(call.context, &series.labels, call.span);
            None
        }
    }
}

fn instant_histogram(
    call: &RangeCall,
    series: &RangeSeries,
    before: &FloatHistogram,
    now: &FloatHistogram,
    counter: bool,
    reset_by_start: bool,
) -> Option<FloatHistogram> {
    let metric = || series.labels.metric_name().to_owned();
    let gauges = [before, now].map(|histogram| histogram.counter_reset_hint == CounterResetHint::Gauge);
    if counter && gauges.contains(&true) {
        call.context.note(&Annotation::NotCounter { metric: metric() }, call.span);
    }
    if !counter && gauges.contains(&false) {
        call.context.note(&Annotation::NotGauge { metric: metric() }, call.span);
    }
    if counter && (reset_by_start || histogram::is_reset(now, before)) {
        return Some(now.clone());
    }
    if before.uses_custom_buckets() != now.uses_custom_buckets() {
        call.context.note(&Annotation::MixedExponentialCustom { metric: metric() }, call.span);
        return None;
    }
    let combined = histogram::subtract(now, before).ok()?;
    if combined.bounds_reconciled {
        call.context.note(&Annotation::MismatchedCustomBuckets { operation: "subtraction" }, call.span);
    }
    Some(combined.histogram)
}

/// A remark where `rate` or `increase` meets floats whose name or type says that they are no counter.
pub(super) fn note_non_counter(call: &RangeCall, series: &RangeSeries, points: &Column) {
    if !matches!(call.name, "rate" | "increase") {
        return;
    }
    let metric = series.labels.metric_name();
    if metric.is_empty() || series.drop_name {
        return;
    }
    let annotation = match series.labels.get("__type__") {
        Some("counter" | "histogram") => return,
        Some(metric_type) => {
            Annotation::PossibleNonCounterType { metric: metric.to_owned(), metric_type: metric_type.to_owned() }
        }
        None if ["_total", "_sum", "_count", "_bucket"].iter().any(|suffix| metric.ends_with(suffix)) => return,
        None => Annotation::PossibleNonCounter { metric: metric.to_owned() },
    };
    if (0..points.len()).any(|step| points.float(step).is_some()) {
        call.context.note(&annotation, call.span);
    }
}
