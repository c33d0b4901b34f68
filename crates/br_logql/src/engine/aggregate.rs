//! Vector aggregations: many series to few, step by step.

use super::metric::Column;
use crate::ast::{Grouping, VectorAggregation, VectorOp};
use br_model::Labels;
use std::cmp::Ordering;
use std::collections::BTreeMap;

pub(super) fn evaluate(aggregation: &VectorAggregation, columns: Vec<Column>, steps: usize) -> Vec<Column> {
    match aggregation.op {
        VectorOp::Sort => sorted(columns, Ordering::Less),
        VectorOp::SortDesc => sorted(columns, Ordering::Greater),
        VectorOp::Topk | VectorOp::ApproxTopk => select(aggregation, columns, steps, Ordering::Greater),
        VectorOp::Bottomk => select(aggregation, columns, steps, Ordering::Less),
        op => reduce(op, aggregation.grouping.as_ref(), &columns, steps),
    }
}

fn group_of(labels: &Labels, grouping: Option<&Grouping>) -> Labels {
    let Some(grouping) = grouping else { return Labels::empty() };
    let is_named = |name: &str| grouping.labels.iter().any(|wanted| wanted == name);
    if grouping.without { labels.without(is_named) } else { labels.only(is_named) }
}

/// Positions of the columns of each group.
fn groups(columns: &[Column], grouping: Option<&Grouping>) -> BTreeMap<Labels, Vec<usize>> {
    let mut groups: BTreeMap<Labels, Vec<usize>> = BTreeMap::new();
    for (at, column) in columns.iter().enumerate() {
        groups.entry(group_of(&column.labels, grouping)).or_default().push(at);
    }
    groups
}

fn reduce(op: VectorOp, grouping: Option<&Grouping>, columns: &[Column], steps: usize) -> Vec<Column> {
    let reduced = |(labels, members): (Labels, Vec<usize>)| {
        let mut out = Column::empty(labels, steps);
        let mut values = Vec::with_capacity(members.len());
        for step in 0..steps {
            values.clear();
            values.extend(members.iter().filter_map(|at| columns[*at].values[step]));
            out.values[step] = (!values.is_empty()).then(|| value(op, &values));
        }
        out
    };
    groups(columns, grouping).into_iter().map(reduced).collect()
}

/// `values` is not empty.
fn value(op: VectorOp, values: &[f64]) -> f64 {
    let count = values.len() as f64;
    match op {
        VectorOp::Sum => values.iter().sum(),
        VectorOp::Avg => values.iter().sum::<f64>() / count,
        VectorOp::Min => values.iter().copied().reduce(|a, b| if a.is_nan() || b < a { b } else { a }).unwrap_or(f64::NAN),
        VectorOp::Max => values.iter().copied().reduce(|a, b| if a.is_nan() || b > a { b } else { a }).unwrap_or(f64::NAN),
        VectorOp::Count => count,
        VectorOp::Stdvar => variance(values),
        VectorOp::Stddev => variance(values).sqrt(),
        VectorOp::Topk | VectorOp::Bottomk | VectorOp::ApproxTopk | VectorOp::Sort | VectorOp::SortDesc => f64::NAN,
    }
}

/// By Welford's method.
fn variance(values: &[f64]) -> f64 {
    let (mut mean, mut spread) = (0.0, 0.0);
    for (at, value) in values.iter().enumerate() {
        let distance = value - mean;
        mean += distance / (at + 1) as f64;
        spread += distance * (value - mean);
    }
    spread / values.len() as f64
}

/// `first` says whether lower or higher values come first; NaN comes last in any case, ties go by labels.
fn by_value(first: Ordering) -> impl Fn(&(f64, &Labels), &(f64, &Labels)) -> Ordering {
    move |(left, left_labels), (right, right_labels)| {
        let ascending = match (left.is_nan(), right.is_nan()) {
            (false, false) => left.partial_cmp(right).unwrap_or(Ordering::Equal),
            (left, right) => return left.cmp(&right).then_with(|| left_labels.cmp(right_labels)),
        };
        let ordered = if first == Ordering::Greater { ascending.reverse() } else { ascending };
        ordered.then_with(|| left_labels.cmp(right_labels))
    }
}

/// By the value of the first step, which for an instant query is the only one.
fn sorted(mut columns: Vec<Column>, first: Ordering) -> Vec<Column> {
    let order = by_value(first);
    let key = |column: &Column| column.values.first().copied().flatten().unwrap_or(f64::NAN);
    columns.sort_by(|left, right| order(&(key(left), &left.labels), &(key(right), &right.labels)));
    columns
}

fn select(aggregation: &VectorAggregation, columns: Vec<Column>, steps: usize, first: Ordering) -> Vec<Column> {
    let count = aggregation.parameter.unwrap_or(1);
    let order = by_value(first);
    let mut selected: Vec<Column> = columns.iter().map(|column| Column::empty(column.labels.clone(), steps)).collect();
    for members in groups(&columns, aggregation.grouping.as_ref()).into_values() {
        for step in 0..steps {
            let mut present: Vec<(usize, f64)> =
                members.iter().filter_map(|at| columns[*at].values[step].map(|value| (*at, value))).collect();
            present.sort_by(|(left, left_value), (right, right_value)| {
                order(&(*left_value, &columns[*left].labels), &(*right_value, &columns[*right].labels))
            });
            for (at, value) in present.into_iter().take(count) {
                selected[at].values[step] = Some(value);
            }
        }
    }
    selected.retain(Column::has_value);
    sorted(selected, first)
}
