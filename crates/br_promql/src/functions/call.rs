//! From a call to the body of its function.

use super::{absent, histograms, info, labels, math, over_time, rate, sort, time};
use crate::engine::{
    Charge, Column, Context, Fit, RangeSeries, Sample, Scalars, StepSeries, ranges_each, scalar as scalar_of,
    vector_each as vector_of,
};
use crate::syntax::ast::{Expr, ExprKind, Extension};
use crate::syntax::span::Span;
use br_std::{Error, Result};

pub(crate) type Sink<'s> = dyn FnMut(StepSeries) -> Result<()> + 's;

/// What a function over a range needs beside the samples.
pub(crate) struct RangeCall<'c> {
    pub(crate) context: &'c Context<'c>,
    pub(crate) name: &'static str,
    /// Where the range vector stands.
    pub(crate) span: Span,
    /// The scalars beside the range vector, by step.
    pub(crate) scalars: &'c [Scalars<'c>],
    /// Where those stand.
    pub(crate) scalar_spans: &'c [Span],
}

/// The body of a function over a range: the value for one step of one series.
pub(crate) type RangeBody = fn(&RangeCall, &RangeSeries, usize) -> Option<Sample>;

/// A call that gives a scalar.
pub(crate) fn scalar<'b>(context: &Context<'b>, name: &str, arguments: &[Expr]) -> Result<Scalars<'b>> {
    let steps = context.steps();
    let secs = |millis: i64| millis as f64 / 1000.0;
    match (name, arguments) {
        ("time", []) => Scalars::of(context, || (0..steps).map(|step| secs(context.timeline.time_ms(step))).collect()),
        ("pi", []) => Scalars::same(context, std::f64::consts::PI),
        ("start", []) => Scalars::same(context, secs(context.query.start_ms)),
        ("end", []) => Scalars::same(context, secs(context.query.end_ms)),
        ("step", []) => Scalars::same(context, secs(context.query.step_ms)),
        ("range", []) => Scalars::same(context, secs(context.query.end_ms - context.query.start_ms)),
        ("scalar", [vector]) => scalar_of_vector(context, vector),
        ("min_of" | "max_of", [left, right]) => {
            let mut values = scalar_of(context, left)?;
            let others = scalar_of(context, right)?;
            for (value, other) in values.iter_mut().zip(&*others) {
                *value = match name {
                    _ if value.is_nan() || other.is_nan() => f64::NAN,
                    "min_of" => value.min(*other),
                    _ => value.max(*other),
                };
            }
            Ok(values)
        }
        _ => Err(unknown(name)),
    }
}

/// The value where exactly one series has one, else NaN.
fn scalar_of_vector<'b>(context: &Context<'b>, vector: &Expr) -> Result<Scalars<'b>> {
    let mut values = Scalars::same(context, f64::NAN)?;
    let mut counts = vec![0u32; context.steps()];
    vector_of(context, vector, &mut |series| {
        for step in 0..series.points.len() {
            if let Some(value) = series.points.float(step) {
                values[step] = value;
                counts[step] = counts[step].saturating_add(1);
            }
        }
        Ok(())
    })?;
    for (value, count) in values.iter_mut().zip(counts) {
        if count != 1 {
            *value = f64::NAN;
        }
    }
    Ok(values)
}

/// A call that gives a vector, series by series.
pub(crate) fn vector_each(context: &Context, name: &'static str, arguments: &[Expr], span: Span, sink: &mut Sink) -> Result<()> {
    if let Some(body) = over_time::body(name).or_else(|| rate::body(name)) {
        return over_range(context, name, arguments, body, sink);
    }
    if let Some(result) = math::evaluate(context, name, arguments, sink) {
        return result;
    }
    match name {
        "absent" | "absent_over_time" => absent::evaluate(context, arguments, sink),
        "histogram_count" | "histogram_sum" | "histogram_avg" | "histogram_stddev" | "histogram_stdvar" => {
            histograms::part(context, name, arguments, sink)
        }
        "histogram_fraction" => histograms::fraction(context, arguments, sink),
        "histogram_quantile" => histograms::quantile(context, arguments, sink),
        "histogram_quantiles" => histograms::quantiles(context, arguments, sink),
        "info" => info::evaluate(context, arguments, sink),
        "label_replace" => labels::replace(context, arguments, sink),
        "label_join" => labels::join(context, arguments, sink),
        "sort" | "sort_desc" => sort::by_value(context, name, arguments, sink),
        "sort_by_label" | "sort_by_label_desc" => sort::by_label(context, name, arguments, sink),
        "timestamp" | "start_timestamp" => time::of_samples(context, name, arguments, sink),
        "vector" => {
            let values = scalar_of(context, argument(arguments, 0, name)?)?;
            sink(StepSeries::new(br_model::Labels::empty(), Column::floats(values.into_values())))
        }
        _ => time::evaluate(context, name, arguments, sink)
            .unwrap_or_else(|| Err(Error::fix_request(format!("{span}: {}", unknown(name).message())))),
    }
}

fn unknown(name: &str) -> Error {
    Error::fix_request(format!("unknown function with name {name:?}"))
}

pub(crate) fn argument<'e>(arguments: &'e [Expr], at: usize, name: &str) -> Result<&'e Expr> {
    arguments.get(at).ok_or_else(|| Error::fix_request(format!("too few arguments in call to {name:?}")))
}

/// A string literal among the arguments.
pub(crate) fn text<'e>(arguments: &'e [Expr], at: usize, name: &str) -> Result<&'e str> {
    let expr = argument(arguments, at, name)?;
    match &expr.without_parens().kind {
        ExprKind::String { raw: Some(raw), .. } => Err(Error::fix_request(format!("string {raw} is not UTF-8"))),
        ExprKind::String { value, .. } => Ok(value),
        _ => Err(Error::fix_request(format!("{}: expected a string literal", expr.span))),
    }
}

/// Runs a body over all windows of a range vector.
fn over_range(context: &Context, name: &'static str, arguments: &[Expr], body: RangeBody, sink: &mut Sink) -> Result<()> {
    let is_range = |expr: &&Expr| expr.value_type() == crate::syntax::ast::Type::Matrix;
    let range = arguments.iter().find(is_range).ok_or_else(|| unknown(name))?;
    check_extension(name, range)?;
    let others: Vec<&Expr> = arguments.iter().filter(|expr| !is_range(expr)).collect();
    let scalars = others.iter().map(|expr| scalar_of(context, expr)).collect::<Result<Vec<_>>>()?;
    let scalar_spans: Vec<Span> = others.iter().map(|expr| expr.span).collect();
    let call = RangeCall { context, name, span: range.span, scalars: &scalars, scalar_spans: &scalar_spans };
    over_time::check_scalars(&call)?;
    let keeps_name = matches!(name, "last_over_time" | "first_over_time");
    let delayed = context.options.delayed_name_removal;
    let mut shapes = rate::Shapes::default();
    ranges_each(context, range, Fit::of_function(name), &mut |series| {
        let points = match rate::columns(&call, &series, &mut shapes) {
            Some(points) => points,
            None => by_step(&call, &series, body)?,
        };
        if points.is_all_absent() {
            return Ok(());
        }
        rate::note_non_counter(&call, &series, &points);
        let mut result = StepSeries { labels: series.labels, drop_name: series.drop_name, points };
        if !keeps_name {
            result.mark_name_dropped(delayed);
        }
        sink(result)
    })
}

/// The general way: a body for each window.
fn by_step(call: &RangeCall, series: &RangeSeries, body: RangeBody) -> Result<Column> {
    let mut points = Column::absent(call.context.steps());
    let mut made = Charge::new(call.context.budget);
    for step in 0..call.context.steps() {
        call.context.budget.check()?;
        if let Some(sample) = body(call, series, step) {
            made.set(&mut points, step, sample)?;
        }
    }
    Ok(points)
}

/// Only some functions know what to do with the ends of an extended range.
fn check_extension(name: &str, range: &Expr) -> Result<()> {
    let ExprKind::Matrix { vector, .. } = &range.without_parens().kind else { return Ok(()) };
    let ExprKind::Vector(selector) = &vector.kind else { return Ok(()) };
    let (word, allowed): (&str, &[&str]) = match selector.extension {
        Extension::None => return Ok(()),
        Extension::Anchored => ("anchored", &["changes", "delta", "increase", "rate", "resets"]),
        Extension::Smoothed => ("smoothed", &["delta", "increase", "rate"]),
    };
    if allowed.contains(&name) {
        return Ok(());
    }
    let list = allowed.join(", ");
    Err(Error::fix_request(format!("{word} modifier can only be used with: {list} - not with {name}")))
}
