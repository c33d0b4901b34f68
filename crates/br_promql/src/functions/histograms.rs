//! Functions on histograms, native ones and those of `le` buckets.

use super::call::{Sink, argument, text};
use crate::annotations::Annotation;
use crate::engine::{Column, Context, StepSeries, scalar, vector, vector_each};
use crate::histogram::{self, QuantileNote};
use crate::number::format_label_float;
use crate::syntax::ast::Expr;
use crate::syntax::span::Span;
use br_model::{FloatHistogram, Labels};
use br_std::Result;
use std::collections::HashMap;

/// `histogram_count`, `histogram_sum`, `histogram_avg`, `histogram_stddev`, `histogram_stdvar`. Floats are left out.
pub(super) fn part(context: &Context, name: &str, arguments: &[Expr], sink: &mut Sink) -> Result<()> {
    let read: fn(&FloatHistogram) -> f64 = match name {
        "histogram_count" => |histogram| histogram.count,
        "histogram_sum" => |histogram| histogram.sum,
        "histogram_avg" => |histogram| histogram.sum / histogram.count,
        "histogram_stddev" => |histogram| histogram::variance(histogram).sqrt(),
        _ => histogram::variance,
    };
    let stats_only = matches!(name, "histogram_count" | "histogram_sum" | "histogram_avg");
    let delayed = context.options.delayed_name_removal;
    vector_each(&context.with_histogram_stats(stats_only), argument(arguments, 0, name)?, &mut |series| {
        let mut points = Column::absent(series.points.len());
        for step in 0..series.points.len() {
            if let Some(histogram) = series.points.histogram(step) {
                points.set_float(step, read(histogram));
            }
        }
        if points.is_all_absent() {
            return Ok(());
        }
        let mut result = StepSeries { points, ..series };
        result.mark_name_dropped(delayed);
        sink(result)
    })
}

/// One histogram at one step.
enum Input<'i> {
    Native(&'i FloatHistogram),
    Classic(&'i mut Vec<ClassicBucket>),
}

#[derive(Clone, Copy, Debug)]
struct ClassicBucket {
    upper: f64,
    count: f64,
}

pub(super) fn quantile(context: &Context, arguments: &[Expr], sink: &mut Sink) -> Result<()> {
    let quantile_expr = argument(arguments, 0, "histogram_quantile")?;
    let quantiles = scalar(context, quantile_expr)?;
    let expr = argument(arguments, 1, "histogram_quantile")?;
    note_invalid(context, &quantiles, quantile_expr.span);
    let families = families(context, expr)?;
    for family in &families {
        let points = family
            .evaluate(context, expr.span, &mut |step, input| quantile_of(context, quantiles[step], input, family, expr.span));
        family.give(context, points, None, sink)?;
    }
    Ok(())
}

/// Several quantiles at once, told apart by a label.
pub(super) fn quantiles(context: &Context, arguments: &[Expr], sink: &mut Sink) -> Result<()> {
    let expr = argument(arguments, 0, "histogram_quantiles")?;
    let label = text(arguments, 1, "histogram_quantiles")?;
    let families = families(context, expr)?;
    for quantile_expr in arguments.iter().skip(2) {
        let quantiles = scalar(context, quantile_expr)?;
        note_invalid(context, &quantiles, quantile_expr.span);
        for family in &families {
            let mut by_value: Vec<(String, Column)> = Vec::new();
            let points = family
                .evaluate(context, expr.span, &mut |step, input| quantile_of(context, quantiles[step], input, family, expr.span));
            for (step, quantile) in quantiles.iter().enumerate() {
                let Some(value) = points.float(step) else { continue };
                let name = format_label_float(*quantile);
                let known = by_value.iter().position(|(known, _)| *known == name).unwrap_or_else(|| {
                    by_value.push((name, Column::absent(context.steps())));
                    by_value.len() - 1
                });
                by_value[known].1.set_float(step, value);
            }
            for (value, points) in by_value {
                family.give(context, points, Some((label, &value)), sink)?;
            }
        }
    }
    Ok(())
}

fn note_invalid(context: &Context, quantiles: &[f64], span: Span) {
    for quantile in quantiles.iter().filter(|quantile| !(0.0..=1.0).contains(*quantile)) {
        context.note(&Annotation::InvalidQuantile { quantile: *quantile }, span);
    }
}

fn quantile_of(context: &Context, quantile: f64, input: Input, family: &Family, span: Span) -> f64 {
    let metric = family.labels.metric_name().to_owned();
    match input {
        Input::Native(histogram) => {
            let (value, note) = histogram::quantile(quantile, histogram);
            match note {
                Some(QuantileNote::NanResult) => context.note(&Annotation::QuantileNanResult { metric }, span),
                Some(QuantileNote::NanSkew) => context.note(&Annotation::QuantileNanSkew { metric }, span),
                None => {}
            }
            value
        }
        Input::Classic(buckets) => {
            let (value, was_forced) = classic_quantile(quantile, buckets);
            if was_forced {
                context.note(&Annotation::ForcedMonotonicity { metric }, span);
            }
            value
        }
    }
}

pub(super) fn fraction(context: &Context, arguments: &[Expr], sink: &mut Sink) -> Result<()> {
    let name = "histogram_fraction";
    let lower = scalar(context, argument(arguments, 0, name)?)?;
    let upper = scalar(context, argument(arguments, 1, name)?)?;
    let expr = argument(arguments, 2, name)?;
    for family in &families(context, expr)? {
        let points = family.evaluate(context, expr.span, &mut |step, input| match input {
            Input::Native(histogram) => {
                let (value, has_nan) = histogram::fraction(lower[step], upper[step], histogram);
                if has_nan {
                    let metric = family.labels.metric_name().to_owned();
                    context.note(&Annotation::FractionNan { metric }, expr.span);
                }
                value
            }
            Input::Classic(buckets) => classic_fraction(lower[step], upper[step], buckets),
        });
        family.give(context, points, None, sink)?;
    }
    Ok(())
}

/// The series of one histogram: a native one, `le` buckets, or wrongly both.
struct Family {
    /// Without `le`.
    labels: Labels,
    drop_name: bool,
    native: Option<Column>,
    classic: Vec<(f64, Column)>,
}

fn families(context: &Context, expr: &Expr) -> Result<Vec<Family>> {
    let mut families: Vec<Family> = Vec::new();
    let mut by_labels: HashMap<(Labels, bool), usize> = HashMap::new();
    for series in vector(&context.with_histogram_stats(false), expr)? {
        let has_floats = (0..series.points.len()).any(|step| series.points.float(step).is_some());
        let le = series.labels.get("le").unwrap_or("");
        let upper = parse_bound(le);
        let has_histograms = series.points.has_histograms();
        if has_floats && upper.is_none() {
            let metric = series.labels.metric_name().to_owned();
            context.note(&Annotation::BadBucketLabel { metric, le: le.to_owned() }, expr.span);
            if !has_histograms {
                continue;
            }
        }
        // A native histogram keeps a label `le` of its own.
        let labels =
            if has_floats && upper.is_some() { series.labels.without(|name| name == "le") } else { series.labels.clone() };
        let at = *by_labels.entry((labels.clone(), series.drop_name)).or_insert_with(|| {
            families.push(Family { labels, drop_name: series.drop_name, native: None, classic: Vec::new() });
            families.len() - 1
        });
        if has_histograms {
            context.budget.charge(series.points.bytes())?;
            families[at].native = Some(series.points.clone());
        }
        if let (true, Some(upper)) = (has_floats, upper) {
            families[at].classic.push((upper, series.points));
        }
    }
    for family in &mut families {
        family.classic.sort_by(|left, right| left.0.total_cmp(&right.0));
    }
    Ok(families)
}

fn parse_bound(le: &str) -> Option<f64> {
    let looks_like_one = le.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'));
    if looks_like_one { le.parse().ok() } else { None }
}

impl Family {
    fn evaluate(&self, context: &Context, span: Span, read: &mut dyn FnMut(usize, Input) -> f64) -> Column {
        let mut points = Column::absent(context.steps());
        let mut buckets = Vec::with_capacity(self.classic.len());
        for step in 0..context.steps() {
            buckets.clear();
            buckets.extend(
                self.classic
                    .iter()
                    .filter_map(|(upper, column)| column.float(step).map(|count| ClassicBucket { upper: *upper, count })),
            );
            let native = self.native.as_ref().and_then(|column| column.histogram(step));
            match native {
                Some(_) if !buckets.is_empty() => {
                    let metric = self.labels.metric_name().to_owned();
                    context.note(&Annotation::MixedClassicNative { metric }, span);
                }
                Some(histogram) => points.set_float(step, read(step, Input::Native(histogram))),
                None if buckets.is_empty() => {}
                None => points.set_float(step, read(step, Input::Classic(&mut buckets))),
            }
        }
        points
    }

    fn give(&self, context: &Context, points: Column, label: Option<(&str, &str)>, sink: &mut Sink) -> Result<()> {
        if points.is_all_absent() {
            return Ok(());
        }
        let mut labels = self.labels.clone();
        if let Some((name, value)) = label {
            let mut builder = labels.to_builder();
            builder.set(name, value);
            labels = builder.build();
        }
        let mut series = StepSeries { labels, drop_name: self.drop_name, points };
        series.mark_name_dropped(context.options.delayed_name_removal);
        sink(series)
    }
}

/// Joins buckets of the same bound.
fn coalesce(buckets: &mut Vec<ClassicBucket>) {
    buckets.dedup_by(|next, kept| {
        let same = next.upper == kept.upper;
        if same {
            kept.count += next.count;
        }
        same
    });
}

/// Differences below this share are what rounding leaves.
const SMALL_DIFFERENCE: f64 = 1e-12;

/// Raises counts that are below those of a lower bound; true when one was by more than rounding leaves.
fn make_monotonic(buckets: &mut [ClassicBucket]) -> bool {
    let mut was_forced = false;
    let mut before = buckets.first().map_or(0.0, |bucket| bucket.count);
    for bucket in buckets.iter_mut().skip(1) {
        let difference = (before - bucket.count).abs();
        if difference == 0.0 || difference / (before.abs() + bucket.count.abs()).min(f64::MAX) < SMALL_DIFFERENCE {
            bucket.count = before;
        } else if bucket.count < before {
            bucket.count = before;
            was_forced = true;
        } else {
            before = bucket.count;
        }
    }
    was_forced
}

/// The quantile, and whether counts had to be made monotonic for it. `buckets` are sorted.
fn classic_quantile(quantile: f64, buckets: &mut Vec<ClassicBucket>) -> (f64, bool) {
    if quantile.is_nan() {
        return (f64::NAN, false);
    }
    if quantile < 0.0 {
        return (f64::NEG_INFINITY, false);
    }
    if quantile > 1.0 {
        return (f64::INFINITY, false);
    }
    if buckets.last().is_none_or(|bucket| bucket.upper != f64::INFINITY) {
        return (f64::NAN, false);
    }
    coalesce(buckets);
    let was_forced = make_monotonic(buckets);
    let (Some(last), true) = (buckets.last().copied(), buckets.len() >= 2) else {
        return (f64::NAN, was_forced);
    };
    if last.count == 0.0 {
        return (f64::NAN, was_forced);
    }
    let rank = quantile * last.count;
    let at = buckets[..buckets.len() - 1].iter().position(|bucket| bucket.count >= rank);
    let value = match at {
        None => buckets[buckets.len() - 2].upper,
        Some(0) if buckets[0].upper <= 0.0 => buckets[0].upper,
        Some(0) => buckets[0].upper * (rank / buckets[0].count),
        Some(at) => {
            let (below, bucket) = (buckets[at - 1], buckets[at]);
            below.upper + (bucket.upper - below.upper) * ((rank - below.count) / (bucket.count - below.count))
        }
    };
    (value, was_forced)
}

fn classic_fraction(lower: f64, upper: f64, buckets: &mut Vec<ClassicBucket>) -> f64 {
    coalesce(buckets);
    make_monotonic(buckets);
    let Some(last) = buckets.last().filter(|bucket| bucket.upper == f64::INFINITY) else { return f64::NAN };
    if last.count == 0.0 || last.count.is_nan() || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    (classic_below(upper, buckets) - classic_below(lower, buckets)) / last.count
}

/// The number of observations below a value, spread evenly within a bucket.
fn classic_below(value: f64, buckets: &[ClassicBucket]) -> f64 {
    let mut start = if buckets.first().is_some_and(|first| first.upper > 0.0) { 0.0 } else { f64::NEG_INFINITY };
    let mut count = 0.0;
    for bucket in buckets {
        if value <= start {
            return count;
        }
        if value < bucket.upper {
            let share = if start == f64::NEG_INFINITY {
                1.0
            } else if bucket.upper == f64::INFINITY {
                0.0
            } else {
                (value - start) / (bucket.upper - start)
            };
            return count + (bucket.count - count) * share;
        }
        count = bucket.count;
        start = bucket.upper;
    }
    count
}
