//! From columns to the answer.

use super::context::Context;
use super::eval::{Evaluated, scalar, vector};
use super::range_series::ranges_each;
use super::rollups::Fit;
use super::series::{Sample, StepSeries, without_metadata};
use crate::output::{Point, Series, Value, VectorSample};
use crate::syntax::ast::{Expr, ExprKind, Type};
use br_model::{FloatHistogram, Labels};
use br_std::{Error, Result};
use br_storage::Points;
use foldhash::fast::RandomState;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

pub(super) const DUPLICATE: &str = "vector cannot contain metrics with the same labelset";

pub(super) fn value(context: &Context, expr: &Expr, is_range: bool) -> Result<Value> {
    if expr.value_type() == Type::Matrix {
        return matrix(context, expr);
    }
    let evaluated = match expr.value_type() {
        Type::Scalar => Evaluated::Scalar(scalar(context, expr)?.into_values()),
        Type::String => Evaluated::Text(text(expr)?),
        _ => Evaluated::Vector(vector(context, expr)?),
    };
    let timestamp_ms = context.timeline.start_ms;
    match evaluated {
        Evaluated::Text(value) => Ok(Value::String { timestamp_ms, value }),
        Evaluated::Scalar(values) if is_range => {
            let points = values.iter().enumerate().map(|(step, value)| (context.timeline.time_ms(step), Point::Float(*value)));
            Ok(Value::Matrix(vec![Series { labels: Labels::empty(), points: points.collect() }]))
        }
        Evaluated::Scalar(values) => Ok(Value::Scalar { timestamp_ms, value: values.first().copied().unwrap_or(f64::NAN) }),
        Evaluated::Vector(all) if is_range => merged(context, all),
        Evaluated::Vector(all) => instant(timestamp_ms, all),
    }
}

fn text(expr: &Expr) -> Result<String> {
    match &expr.without_parens().kind {
        ExprKind::String { value, .. } => Ok(value.clone()),
        _ => Err(Error::fix_request(format!("{}: expected a string literal", expr.span))),
    }
}

fn instant(timestamp_ms: i64, all: Vec<StepSeries>) -> Result<Value> {
    let mut seen = HashSet::with_capacity_and_hasher(all.len(), RandomState::default());
    let mut samples = Vec::with_capacity(all.len());
    for series in all {
        let Some(sample) = series.points.get(0) else { continue };
        let labels = series.final_labels().alone();
        if !seen.insert(labels.clone()) {
            return Err(Error::fix_request(DUPLICATE));
        }
        samples.push(VectorSample { labels, timestamp_ms, point: sample.into() });
    }
    Ok(Value::Vector(samples))
}

/// Series that become the same when their names go are one, unless both have a value at the same step.
fn merged(context: &Context, all: Vec<StepSeries>) -> Result<Value> {
    let mut by_labels: BTreeMap<Labels, Vec<(i64, Point)>> = BTreeMap::new();
    for series in all {
        let column_bytes = series.points.bytes();
        let points: Vec<(i64, Point)> = (0..series.points.len())
            .filter_map(|step| series.points.get(step).map(|sample| (context.timeline.time_ms(step), sample.into())))
            .collect();
        let spare = (points.capacity() - points.len()) * size_of::<(i64, Point)>();
        context.budget.charge(points_bytes(&points) + spare as u64)?;
        context.budget.release(column_bytes);
        if points.is_empty() {
            continue;
        }
        let merged = by_labels.entry(series.final_labels().alone()).or_default();
        let is_first = merged.is_empty();
        merged.extend(points);
        if !is_first {
            merged.sort_by_key(|(time_ms, _)| *time_ms);
            if merged.windows(2).any(|pair| pair[0].0 == pair[1].0) {
                return Err(Error::fix_request(DUPLICATE));
            }
        }
    }
    Ok(Value::Matrix(by_labels.into_iter().map(|(labels, points)| Series { labels, points }).collect()))
}

/// A range vector at one instant: the samples as they are.
fn matrix(context: &Context, expr: &Expr) -> Result<Value> {
    let mut all = Vec::new();
    ranges_each(context, expr, Fit::About, &mut |series| {
        let (from, to) = series.windows[0];
        let points = samples(&series.points, from as usize, to as usize);
        let labels = if series.drop_name { without_metadata(&series.labels) } else { series.labels.clone() };
        if !points.is_empty() {
            context.budget.charge(points_bytes(&points))?;
            all.push(Series { labels, points });
        }
        Ok(())
    })?;
    all.sort_by(|left, right| left.labels.cmp(&right.labels));
    if all.windows(2).any(|pair| pair[0].labels == pair[1].labels) {
        return Err(Error::fix_request(DUPLICATE));
    }
    Ok(Value::Matrix(all))
}

/// What points of one series hold. Points in a row that share a histogram hold it once.
pub fn points_bytes(points: &[(i64, Point)]) -> u64 {
    let mut bytes = size_of_val(points) as u64;
    let mut before: Option<&Arc<FloatHistogram>> = None;
    for (_, point) in points {
        let Point::Histogram(histogram) = point else { continue };
        if !before.is_some_and(|before| Arc::ptr_eq(before, histogram)) {
            bytes += histogram.memory_bytes() as u64;
        }
        before = Some(histogram);
    }
    bytes
}

fn samples(points: &Points, from: usize, to: usize) -> Vec<(i64, Point)> {
    (from..to).map(|at| (points.timestamps_ms[at], Sample::from(points.value(at)).into())).collect()
}

impl From<Sample> for Point {
    fn from(sample: Sample) -> Self {
        match sample {
            Sample::Float(value) => Self::Float(value),
            Sample::Histogram(histogram) => Self::Histogram(histogram),
        }
    }
}
