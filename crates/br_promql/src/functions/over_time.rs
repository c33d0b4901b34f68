//! Functions over all samples of a window.

use super::call::{RangeBody, RangeCall};
use super::extended;
use super::quantile;
use super::starts;
use crate::annotations::Annotation;
use crate::engine::{Parts, RangeSeries, Sample};
use crate::histogram;
use crate::kahan::{Kahan, Mean};
use br_std::{Error, Result};

/// `None` when the function is not one of these.
pub(super) fn body(name: &str) -> Option<RangeBody> {
    Some(match name {
        "avg_over_time" => |call, series, step| fold(call, series, step, true),
        "sum_over_time" => |call, series, step| fold(call, series, step, false),
        "count_over_time" => |_, series, step| {
            let (from, to) = series.windows[step];
            (to > from).then(|| Sample::Float(series.raw_count(from as usize, to as usize)))
        },
        "present_over_time" => |_, series, step| {
            let (from, to) = series.windows[step];
            (to > from).then_some(Sample::Float(1.0))
        },
        "last_over_time" => |_, series, step| edge(series, step, false),
        "first_over_time" => |_, series, step| edge(series, step, true),
        "ts_of_last_over_time" => |_, series, step| edge_time(series, step, false),
        "ts_of_first_over_time" => |_, series, step| edge_time(series, step, true),
        "min_over_time" => |call, series, step| extreme(call, series, step, true).map(|(_, value)| Sample::Float(value)),
        "max_over_time" => |call, series, step| extreme(call, series, step, false).map(|(_, value)| Sample::Float(value)),
        "ts_of_min_over_time" => |call, series, step| extreme(call, series, step, true).map(|(time, _)| secs(time)),
        "ts_of_max_over_time" => |call, series, step| extreme(call, series, step, false).map(|(time, _)| secs(time)),
        "stddev_over_time" => |call, series, step| variance(call, series, step).map(|value| Sample::Float(value.sqrt())),
        "stdvar_over_time" => |call, series, step| variance(call, series, step).map(Sample::Float),
        "mad_over_time" => median_deviation,
        "quantile_over_time" => quantile_over_time,
        "deriv" => |call, series, step| regression(call, series, step).map(|(slope, _)| Sample::Float(slope)),
        "predict_linear" => predict_linear,
        "double_exponential_smoothing" => smoothing,
        "changes" => changes,
        "resets" => resets,
        _ => return None,
    })
}

/// Arguments that are wrong whatever the data.
pub(super) fn check_scalars(call: &RangeCall) -> Result<()> {
    match (call.name, call.scalars) {
        ("double_exponential_smoothing", [smoothing, trend]) => {
            for (what, values) in [("smoothing", smoothing), ("trend", trend)] {
                if let Some(value) = values.iter().find(|value| !(**value > 0.0 && **value < 1.0)) {
                    return Err(Error::fix_request(format!(
                        "invalid {what} factor. Expected: 0 < {} < 1, got: {value}",
                        if what == "smoothing" { "sf" } else { "tf" }
                    )));
                }
            }
        }
        ("quantile_over_time", [quantiles]) => {
            for quantile in quantiles.iter().filter(|quantile| !(0.0..=1.0).contains(*quantile)) {
                call.context.note(&Annotation::InvalidQuantile { quantile: *quantile }, call.scalar_spans[0]);
            }
        }
        _ => {}
    }
    Ok(())
}

fn secs(time_ms: i64) -> Sample {
    Sample::Float(time_ms as f64 / 1000.0)
}

fn metric(series: &RangeSeries) -> String {
    series.labels.metric_name().to_owned()
}

/// The window's floats; a remark where histograms stand among them.
fn floats<'p>(call: &RangeCall, series: &'p RangeSeries, step: usize) -> Option<Parts<'p>> {
    let parts = series.parts(step)?;
    if parts.floats.is_empty() {
        return None;
    }
    if !parts.histograms.is_empty() {
        call.context.note(&Annotation::HistogramIgnoredInMixedRange { metric: metric(series) }, call.span);
    }
    Some(parts)
}

fn fold(call: &RangeCall, series: &RangeSeries, step: usize, is_avg: bool) -> Option<Sample> {
    let parts = series.parts(step)?;
    if !parts.floats.is_empty() && !parts.histograms.is_empty() {
        call.context.note(&Annotation::MixedFloatsHistograms { metric: metric(series) }, call.span);
        return None;
    }
    let Some((first, rest)) = parts.histograms.split_first() else {
        if let Some((count, sum)) = series.raw_sum(step) {
            return Some(Sample::Float(if is_avg { sum / count } else { sum }));
        }
        return Some(Sample::Float(fold_floats(&parts.floats, is_avg)));
    };
    let mut total = crate::engine::HistogramFold::new(first, is_avg);
    for histogram in rest {
        if total.add(histogram).is_err() {
            call.context.note(&Annotation::MixedExponentialCustom { metric: metric(series) }, call.span);
            return None;
        }
    }
    total.note(call.context, call.span);
    total.value().map(Sample::from)
}

fn fold_floats(values: &[f64], is_avg: bool) -> f64 {
    if is_avg {
        let mut mean = Mean::default();
        for value in values {
            mean.add(*value);
        }
        return mean.value();
    }
    let mut sum = Kahan::default();
    for value in values {
        sum.add(*value);
    }
    sum.value()
}

fn edge_position(series: &RangeSeries, step: usize, first: bool) -> Option<usize> {
    let (from, to) = series.windows[step];
    (to > from).then(|| if first { from as usize } else { to as usize - 1 })
}

fn edge(series: &RangeSeries, step: usize, first: bool) -> Option<Sample> {
    edge_position(series, step, first).map(|at| series.points.value(at).into())
}

fn edge_time(series: &RangeSeries, step: usize, first: bool) -> Option<Sample> {
    edge_position(series, step, first).map(|at| secs(series.points.timestamps_ms[at]))
}

/// Time and value of the least or the greatest float; of equal ones the last.
fn extreme(call: &RangeCall, series: &RangeSeries, step: usize, least: bool) -> Option<(i64, f64)> {
    let parts = floats(call, series, step)?;
    let mut best = (*parts.float_times.first()?, *parts.floats.first()?);
    for (time, value) in parts.float_times.iter().zip(parts.floats.iter()) {
        let better = if least { *value <= best.1 } else { *value >= best.1 };
        if better || best.1.is_nan() {
            best = (*time, *value);
        }
    }
    Some(best)
}

fn variance(call: &RangeCall, series: &RangeSeries, step: usize) -> Option<f64> {
    let parts = floats(call, series, step)?;
    let mut count = 0.0;
    let mut mean = Kahan::default();
    let mut squares = Kahan::default();
    for value in parts.floats.iter() {
        count += 1.0;
        let distance = value - mean.value();
        mean.add(distance / count);
        squares.add(distance * (value - mean.value()));
    }
    Some(squares.value() / count)
}

fn median_deviation(call: &RangeCall, series: &RangeSeries, step: usize) -> Option<Sample> {
    let parts = floats(call, series, step)?;
    if parts.floats.iter().any(|value| value.is_nan()) {
        return Some(Sample::Float(f64::NAN));
    }
    let mut values = parts.floats.to_vec();
    let median = quantile::of(0.5, &mut values);
    for value in &mut values {
        *value = (*value - median).abs();
    }
    Some(Sample::Float(quantile::of(0.5, &mut values)))
}

fn quantile_over_time(call: &RangeCall, series: &RangeSeries, step: usize) -> Option<Sample> {
    let parts = floats(call, series, step)?;
    let share = *call.scalars.first()?.get(step)?;
    Some(Sample::Float(quantile::of(share, &mut parts.floats.to_vec())))
}

/// Least squares through the window's floats: slope per second, and the value at `origin_ms`.
fn regress(parts: &Parts, origin_ms: i64) -> (f64, f64) {
    let first = parts.floats.first().copied().unwrap_or(f64::NAN);
    if parts.floats.iter().all(|value| *value == first) {
        return if first.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, first) };
    }
    let count = parts.floats.len() as f64;
    let mut sums = [Kahan::default(); 4];
    for (time, value) in parts.float_times.iter().zip(parts.floats.iter()) {
        let x = (time - origin_ms) as f64 / 1000.0;
        sums[0].add(x);
        sums[1].add(*value);
        sums[2].add(x * value);
        sums[3].add(x * x);
    }
    let [x, y, xy, xx] = sums.map(Kahan::value);
    let slope = (xy - x * y / count) / (xx - x * x / count);
    (slope, y / count - slope * x / count)
}

fn regression(call: &RangeCall, series: &RangeSeries, step: usize) -> Option<(f64, f64)> {
    let parts = series.parts(step)?;
    if !parts.floats.is_empty() && !parts.histograms.is_empty() {
        call.context.note(&Annotation::HistogramIgnoredInMixedRange { metric: metric(series) }, call.span);
    }
    (parts.floats.len() >= 2).then(|| regress(&parts, parts.float_times[0]))
}

fn predict_linear(call: &RangeCall, series: &RangeSeries, step: usize) -> Option<Sample> {
    let parts = series.parts(step)?;
    if !parts.floats.is_empty() && !parts.histograms.is_empty() {
        call.context.note(&Annotation::HistogramIgnoredInMixedRange { metric: metric(series) }, call.span);
    }
    if parts.floats.len() < 2 {
        return None;
    }
    let ahead = *call.scalars.first()?.get(step)?;
    let (slope, intercept) = regress(&parts, call.context.timeline.time_ms(step));
    Some(Sample::Float(slope * ahead + intercept))
}

fn smoothing(call: &RangeCall, series: &RangeSeries, step: usize) -> Option<Sample> {
    let parts = series.parts(step)?;
    if !parts.floats.is_empty() && !parts.histograms.is_empty() {
        call.context.note(&Annotation::HistogramIgnoredInMixedRange { metric: metric(series) }, call.span);
    }
    let [smoothing, trend_factor] = call.scalars else { return None };
    let (smoothing, trend_factor) = (smoothing[step], trend_factor[step]);
    let (first, second) = (*parts.floats.first()?, *parts.floats.get(1)?);
    let (mut before, mut level, mut trend) = (0.0, first, second - first);
    for (at, value) in parts.floats.iter().enumerate().skip(1) {
        if at > 1 {
            trend = trend_factor * (level - before) + (1.0 - trend_factor) * trend;
        }
        let next = smoothing * value + (1.0 - smoothing) * (level + trend);
        before = level;
        level = next;
    }
    Some(Sample::Float(level))
}

/// The window with, for an anchored one, the sample before it.
fn counted_window(call: &RangeCall, series: &RangeSeries, step: usize) -> Option<(usize, usize)> {
    let (from, to) = series.windows[step];
    if to <= from {
        return None;
    }
    let anchor = extended::anchor(call, series, step);
    Some((anchor.unwrap_or(from as usize), to as usize))
}

fn changes(call: &RangeCall, series: &RangeSeries, step: usize) -> Option<Sample> {
    let (from, to) = counted_window(call, series, step)?;
    let mut count = 0.0;
    for at in from + 1..to {
        let same = match (Sample::from(series.points.value(at - 1)), Sample::from(series.points.value(at))) {
            (Sample::Float(before), Sample::Float(now)) => before == now || (before.is_nan() && now.is_nan()),
            (Sample::Histogram(before), Sample::Histogram(now)) => histogram::equal(&before, &now),
            _ => false,
        };
        if !same {
            count += 1.0;
        }
    }
    Some(Sample::Float(count))
}

fn resets(call: &RangeCall, series: &RangeSeries, step: usize) -> Option<Sample> {
    let (from, to) = counted_window(call, series, step)?;
    let mut count = 0.0;
    for at in from + 1..to {
        let is_reset = match (Sample::from(series.points.value(at - 1)), Sample::from(series.points.value(at))) {
            (Sample::Float(before), Sample::Float(now)) => now < before,
            (Sample::Histogram(before), Sample::Histogram(now)) => histogram::is_reset(&now, &before),
            _ => true,
        };
        if is_reset || (call.context.options.start_timestamps && starts::is_reset(&series.points, at)) {
            count += 1.0;
        }
    }
    Some(Sample::Float(count))
}
