//! Arithmetic, comparison and set operations between vectors and numbers.

use super::metric::{Column, Node};
use crate::ast::{Binary, BinaryOp, Group, Matching};
use br_model::Labels;
use br_std::{Error, Result};
use std::collections::{BTreeMap, HashSet};

pub(super) fn evaluate(binary: &Binary, left: Node, right: Node, steps: usize) -> Result<Node> {
    Ok(match (left, right) {
        (Node::Scalar(left), Node::Scalar(right)) => Node::Scalar(number(binary.op, left, right)),
        (Node::Columns(left), Node::Scalar(right)) => Node::Columns(each(binary, left, |value| (value, right), |value| value)),
        (Node::Scalar(left), Node::Columns(right)) => Node::Columns(each(binary, right, |value| (left, value), |value| value)),
        (Node::Columns(left), Node::Columns(right)) => Node::Columns(match binary.op {
            BinaryOp::And | BinaryOp::Or | BinaryOp::Unless => set(binary, left, &right, steps),
            _ => matched(binary, &left, &right, steps)?,
        }),
    })
}

/// Comparisons give 1 or 0.
fn number(op: BinaryOp, left: f64, right: f64) -> f64 {
    match op {
        BinaryOp::Add => left + right,
        BinaryOp::Subtract => left - right,
        BinaryOp::Multiply => left * right,
        BinaryOp::Divide => left / right,
        BinaryOp::Modulo => left % right,
        BinaryOp::Power => left.powf(right),
        BinaryOp::Compare(compare) => f64::from(u8::from(compare.holds(left, right))),
        BinaryOp::And | BinaryOp::Or | BinaryOp::Unless => f64::NAN,
    }
}

/// The result for one pair; a comparison without `bool` keeps `kept` or nothing.
fn combine(binary: &Binary, left: f64, right: f64, kept: f64) -> Option<f64> {
    let result = number(binary.op, left, right);
    if matches!(binary.op, BinaryOp::Compare(_)) && !binary.returns_bool {
        return (result == 1.0).then_some(kept);
    }
    Some(result)
}

fn each(binary: &Binary, mut columns: Vec<Column>, sides: impl Fn(f64) -> (f64, f64), kept: impl Fn(f64) -> f64) -> Vec<Column> {
    for slot in columns.iter_mut().flat_map(|column| column.values.iter_mut()) {
        *slot = slot.and_then(|value| {
            let (left, right) = sides(value);
            combine(binary, left, right, kept(value))
        });
    }
    columns
}

fn signature(labels: &Labels, matching: &Matching) -> Labels {
    let is_named = |name: &str| matching.labels.iter().any(|wanted| wanted == name);
    if matching.on { labels.only(is_named) } else { labels.without(is_named) }
}

fn by_signature(columns: &[Column], matching: &Matching) -> BTreeMap<Labels, Vec<usize>> {
    let mut groups: BTreeMap<Labels, Vec<usize>> = BTreeMap::new();
    for (at, column) in columns.iter().enumerate() {
        groups.entry(signature(&column.labels, matching)).or_default().push(at);
    }
    groups
}

fn set(binary: &Binary, mut left: Vec<Column>, right: &[Column], steps: usize) -> Vec<Column> {
    let present = |columns: &[Column], members: Option<&Vec<usize>>, step: usize| {
        members.is_some_and(|members| members.iter().any(|at| columns[*at].values[step].is_some()))
    };
    if binary.op == BinaryOp::Or {
        let groups = by_signature(&left, &binary.matching);
        let mut added = right.to_vec();
        for column in &mut added {
            let members = groups.get(&signature(&column.labels, &binary.matching));
            for step in 0..steps {
                if present(&left, members, step) {
                    column.values[step] = None;
                }
            }
        }
        return merge(left, added);
    }
    let groups = by_signature(right, &binary.matching);
    for column in &mut left {
        let members = groups.get(&signature(&column.labels, &binary.matching));
        for step in 0..steps {
            if present(right, members, step) != (binary.op == BinaryOp::And) {
                column.values[step] = None;
            }
        }
    }
    left
}

/// Columns of the same labels become one; at most one has a value at a step.
fn merge(left: Vec<Column>, right: Vec<Column>) -> Vec<Column> {
    let mut merged: BTreeMap<Labels, Column> = BTreeMap::new();
    for column in left.into_iter().chain(right) {
        match merged.get_mut(&column.labels) {
            Some(known) => {
                for (slot, value) in known.values.iter_mut().zip(column.values) {
                    *slot = slot.or(value);
                }
            }
            None => drop(merged.insert(column.labels.clone(), column)),
        }
    }
    merged.into_values().collect()
}

fn matched(binary: &Binary, left: &[Column], right: &[Column], steps: usize) -> Result<Vec<Column>> {
    let matching = &binary.matching;
    let swapped = matching.group == Group::Right;
    let (many, one) = if swapped { (right, left) } else { (left, right) };
    let one_groups = by_signature(one, matching);
    let mut out = Vec::new();
    for (signature, members) in by_signature(many, matching) {
        let Some(partners) = one_groups.get(&signature) else { continue };
        for step in 0..steps {
            let duplicates =
                |columns: &[Column], list: &[usize]| list.iter().filter(|at| columns[**at].values[step].is_some()).count() > 1;
            if duplicates(one, partners) || (matching.group == Group::OneToOne && duplicates(many, &members)) {
                return Err(Error::fix_request(format!(
                    "found duplicate series for the match group {signature}: many-to-many matching not allowed: matching labels must be unique on one side"
                )));
            }
        }
        for (at, partner) in members.iter().flat_map(|at| partners.iter().map(move |partner| (*at, *partner))) {
            let mut column = Column::empty(result_labels(binary, &many[at].labels, &one[partner].labels), steps);
            for step in 0..steps {
                let (Some(of_many), Some(of_one)) = (many[at].values[step], one[partner].values[step]) else { continue };
                let (left, right) = if swapped { (of_one, of_many) } else { (of_many, of_one) };
                column.values[step] = combine(binary, left, right, left);
            }
            out.push(column);
        }
    }
    refuse_duplicates(&out, steps)?;
    Ok(merge(out, Vec::new()))
}

fn result_labels(binary: &Binary, many: &Labels, one: &Labels) -> Labels {
    let matching = &binary.matching;
    if matching.group == Group::OneToOne {
        return if matching.on || !matching.labels.is_empty() { signature(many, matching) } else { many.clone() };
    }
    let mut builder = many.to_builder();
    for name in &matching.include {
        builder.set(name, one.get(name).unwrap_or(""));
    }
    builder.build()
}

/// No two series of the same labels may have a value at the same step.
pub(super) fn refuse_duplicates(columns: &[Column], steps: usize) -> Result<()> {
    let mut distinct = HashSet::new();
    if columns.iter().all(|column| distinct.insert(&column.labels)) {
        return Ok(());
    }
    for step in 0..steps {
        let mut seen = HashSet::new();
        for column in columns.iter().filter(|column| column.values[step].is_some()) {
            if !seen.insert(&column.labels) {
                return Err(Error::fix_request(format!(
                    "vector cannot contain metrics with the same labelset: {}",
                    column.labels
                )));
            }
        }
    }
    Ok(())
}
