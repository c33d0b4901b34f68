//! Aggregations with a parameter, which look at all members of a group at once: topk, bottomk, limitk, limit_ratio, quantile,
//! count_values.

use super::aggregate::Groups;
use super::context::Context;
use super::eval::{scalar, vector};
use super::series::{Column, Sample, StepSeries, labels_bytes};
use crate::annotations::Annotation;
use crate::functions::quantile;
use crate::histogram::describe;
use crate::syntax::ast::{AggregateOp, Expr, ExprKind};
use br_model::Labels;
use br_std::{Error, Result};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

pub(super) fn evaluate(
    context: &Context,
    op: AggregateOp,
    parameter: &Expr,
    expr: &Expr,
    groups: Groups,
) -> Result<Vec<StepSeries>> {
    if op == AggregateOp::CountValues {
        return count_values(context, parameter, expr, &groups);
    }
    let parameters = scalar(context, parameter)?;
    match op {
        AggregateOp::Quantile => quantiles(context, &parameters, parameter, expr, groups),
        AggregateOp::LimitRatio => limit_ratio(context, &parameters, parameter, expr),
        _ => top(context, op, &parameters, expr, groups),
    }
}

/// Members by group, each group and the groups themselves in the order of labels, so that equal queries have equal answers.
fn members(context: &Context, expr: &Expr, groups: &mut Groups) -> Result<Vec<Vec<StepSeries>>> {
    let mut all = vector(context, expr)?;
    all.sort_by(|left, right| left.labels.cmp(&right.labels));
    let mut members: Vec<Vec<StepSeries>> = Vec::new();
    for series in all {
        let group = groups.of(&series);
        if group == members.len() {
            members.push(Vec::new());
        }
        members[group].push(series);
    }
    Ok(members)
}

fn count_of(parameter: f64) -> Result<usize> {
    if parameter.is_nan() {
        return Err(Error::fix_request("Parameter value is NaN"));
    }
    if parameter >= i64::MAX as f64 {
        return Err(Error::fix_request(format!("Scalar value {parameter} overflows int64")));
    }
    if parameter <= i64::MIN as f64 {
        return Err(Error::fix_request(format!("Scalar value {parameter} underflows int64")));
    }
    Ok(parameter.max(0.0) as usize)
}

/// NaN is worse than everything, in both directions.
fn better_first(op: AggregateOp, left: f64, right: f64) -> Ordering {
    match (left.is_nan(), right.is_nan()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        _ if op == AggregateOp::Topk => right.total_cmp(&left),
        _ => left.total_cmp(&right),
    }
}

/// topk, bottomk and limitk: series as they are, at the steps at which they are chosen.
fn top(context: &Context, op: AggregateOp, parameters: &[f64], expr: &Expr, mut groups: Groups) -> Result<Vec<StepSeries>> {
    let counts = parameters.iter().map(|parameter| count_of(*parameter)).collect::<Result<Vec<usize>>>()?;
    if counts.iter().all(|count| *count == 0) {
        return Ok(Vec::new());
    }
    let mut chosen = Vec::new();
    for members in members(context, expr, &mut groups)? {
        context.budget.charge(Column::absent_bytes(context.steps()) * members.len() as u64)?;
        let mut columns: Vec<Column> = members.iter().map(|series| Column::absent(series.points.len())).collect();
        let mut order: Vec<usize> = Vec::with_capacity(members.len());
        for (step, count) in counts.iter().enumerate() {
            context.budget.check()?;
            let had_histogram = choose(op, &members, step, *count, &mut order);
            if had_histogram && op != AggregateOp::Limitk {
                context.note(&Annotation::HistogramIgnoredInAggregation { operation: op.as_str() }, expr.span);
            }
            for at in &order {
                columns[*at].set(step, members[*at].points.get(step));
            }
        }
        // At an instant the answer is in the order of rank.
        let in_order: Vec<usize> = if context.steps() == 1 { order } else { (0..members.len()).collect() };
        let mut taken: Vec<Option<(StepSeries, Column)>> = members.into_iter().zip(columns).map(Some).collect();
        for at in in_order {
            if let Some((series, points)) = taken[at].take()
                && !points.is_all_absent()
            {
                chosen.push(StepSeries { points, ..series });
            }
        }
    }
    Ok(chosen)
}

/// Fills `order` with the members chosen at a step, best first; true when a histogram was passed over.
fn choose(op: AggregateOp, members: &[StepSeries], step: usize, count: usize, order: &mut Vec<usize>) -> bool {
    order.clear();
    if op == AggregateOp::Limitk {
        order.extend((0..members.len()).filter(|at| members[*at].points.is_present(step)).take(count));
        return false;
    }
    let value = |at: usize| members[at].points.float(step);
    order.extend((0..members.len()).filter(|at| value(*at).is_some()));
    let compare = |left: &usize, right: &usize| {
        let (left_value, right_value) = (value(*left).unwrap_or(f64::NAN), value(*right).unwrap_or(f64::NAN));
        better_first(op, left_value, right_value).then(left.cmp(right))
    };
    if count > 0 && count < order.len() {
        order.select_nth_unstable_by(count - 1, compare);
    }
    order.truncate(count);
    order.sort_by(compare);
    members.iter().any(|series| series.points.histogram(step).is_some())
}

fn limit_ratio(context: &Context, ratios: &[f64], parameter: &Expr, expr: &Expr) -> Result<Vec<StepSeries>> {
    let mut limits = Vec::with_capacity(ratios.len());
    for ratio in ratios {
        if ratio.is_nan() {
            return Err(Error::fix_request("Ratio value is NaN"));
        }
        let capped = ratio.clamp(-1.0, 1.0);
        if capped != *ratio {
            context.note(&Annotation::InvalidRatio { ratio: *ratio, capped }, parameter.span);
        }
        limits.push(capped);
    }
    let mut chosen = Vec::new();
    for mut series in vector(context, expr)? {
        let place = (series.labels.hash128() >> 64) as u64 as f64 / u64::MAX as f64;
        for (step, limit) in limits.iter().enumerate() {
            let is_chosen = if *limit >= 0.0 { place < *limit } else { place >= 1.0 + limit };
            if !is_chosen {
                series.points.set(step, None);
            }
        }
        if !series.points.is_all_absent() {
            chosen.push(series);
        }
    }
    Ok(chosen)
}

fn quantiles(context: &Context, quantiles: &[f64], parameter: &Expr, expr: &Expr, mut groups: Groups) -> Result<Vec<StepSeries>> {
    for quantile in quantiles {
        if !(0.0..=1.0).contains(quantile) {
            context.note(&Annotation::InvalidQuantile { quantile: *quantile }, parameter.span);
        }
    }
    let members = members(context, expr, &mut groups)?;
    let mut result = Vec::with_capacity(members.len());
    let mut values = Vec::new();
    for (group, members) in members.iter().enumerate() {
        context.budget.charge(Column::absent_bytes(context.steps()) + members.len() as u64 * 8)?;
        let mut points = Column::absent(context.steps());
        for (step, quantile) in quantiles.iter().enumerate() {
            context.budget.check()?;
            values.clear();
            values.extend(members.iter().filter_map(|series| series.points.float(step)));
            if members.iter().any(|series| series.points.histogram(step).is_some()) {
                context.note(&Annotation::HistogramIgnoredInAggregation { operation: "quantile" }, expr.span);
            }
            if !values.is_empty() {
                points.set_float(step, quantile::of(*quantile, &mut values));
            }
        }
        if !points.is_all_absent() {
            result.push(StepSeries { labels: groups.labels[group].clone(), drop_name: groups.drop_name[group], points });
        }
    }
    Ok(result)
}

fn count_values(context: &Context, parameter: &Expr, expr: &Expr, groups: &Groups) -> Result<Vec<StepSeries>> {
    let ExprKind::String { value: label, raw } = &parameter.without_parens().kind else {
        return Err(Error::fix_request(format!("{}: expected a string literal", parameter.span)));
    };
    if raw.is_some() || label.is_empty() {
        return Err(Error::fix_request(format!("invalid label name {parameter}")));
    }
    let mut counted: BTreeMap<Labels, Column> = BTreeMap::new();
    for series in vector(context, expr)? {
        let group = groups.labels_of(&series.labels);
        for step in 0..series.points.len() {
            let value = match series.points.get(step) {
                None => continue,
                Some(Sample::Float(value)) => plain_float(value),
                Some(Sample::Histogram(histogram)) => describe(&histogram),
            };
            let mut labels = group.to_builder();
            labels.set(label, &value);
            context.budget.check()?;
            let labels = labels.build();
            let column = match counted.entry(labels) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => {
                    let bytes = Column::absent_bytes(context.steps()) + labels_bytes(new.key()) + value.len() as u64;
                    context.budget.charge(bytes)?;
                    new.insert(Column::absent(context.steps()))
                }
            };
            let count = column.float(step).unwrap_or(0.0);
            column.set_float(step, count + 1.0);
        }
    }
    Ok(counted.into_iter().map(|(labels, points)| StepSeries::new(labels, points)).collect())
}

/// Without an exponent, however long.
fn plain_float(value: f64) -> String {
    if value.is_infinite() { crate::number::format_float(value) } else { format!("{value}") }
}
