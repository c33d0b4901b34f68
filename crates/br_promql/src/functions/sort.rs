//! Orders for the answer of an instant query; a range query's answer is in the order of labels whatever these do.

use super::call::{Sink, argument, text};
use crate::annotations::Annotation;
use crate::engine::{Context, StepSeries, vector};
use crate::syntax::ast::Expr;
use br_std::Result;
use std::cmp::Ordering;

/// NaN comes last in both directions.
pub(super) fn by_value(context: &Context, name: &'static str, arguments: &[Expr], sink: &mut Sink) -> Result<()> {
    let expr = argument(arguments, 0, name)?;
    let mut all = vector(context, expr)?;
    for series in &mut all {
        if series.points.drop_histograms() {
            context.note(&Annotation::HistogramIgnoredInAggregation { operation: name }, expr.span);
        }
    }
    all.retain(|series| !series.points.is_all_absent());
    let descending = name == "sort_desc";
    let value = |series: &StepSeries| series.points.float(0).unwrap_or(f64::NAN);
    all.sort_by(|left, right| {
        let (left, right) = (value(left), value(right));
        match (left.is_nan(), right.is_nan()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            _ if descending => right.total_cmp(&left),
            _ => left.total_cmp(&right),
        }
    });
    all.into_iter().try_for_each(sink)
}

pub(super) fn by_label(context: &Context, name: &'static str, arguments: &[Expr], sink: &mut Sink) -> Result<()> {
    let mut names = Vec::new();
    for at in 1..arguments.len() {
        names.push(text(arguments, at, name)?);
    }
    let mut all = vector(context, argument(arguments, 0, name)?)?;
    let descending = name == "sort_by_label_desc";
    all.sort_by(|left, right| {
        let value = |series: &'_ StepSeries, label: &str| series.labels.get(label).unwrap_or("").to_owned();
        let by_names = names.iter().map(|label| natural(&value(left, label), &value(right, label)));
        let order = by_names.fold(Ordering::Equal, Ordering::then).then_with(|| left.labels.cmp(&right.labels));
        if descending { order.reverse() } else { order }
    });
    all.into_iter().try_for_each(sink)
}

/// The order that people expect: runs of digits compare as numbers.
fn natural(left: &str, right: &str) -> Ordering {
    let (mut left, mut right) = (left, right);
    while !left.is_empty() && !right.is_empty() {
        let (left_run, left_digits) = run(left);
        let (right_run, right_digits) = run(right);
        let order = if left_digits && right_digits {
            let (left_number, right_number) = (left_run.trim_start_matches('0'), right_run.trim_start_matches('0'));
            left_number.len().cmp(&right_number.len()).then_with(|| left_number.cmp(right_number))
        } else {
            left_run.cmp(right_run)
        };
        if order != Ordering::Equal {
            return order;
        }
        left = &left[left_run.len()..];
        right = &right[right_run.len()..];
    }
    left.len().cmp(&right.len())
}

/// The digits, or the characters up to the next digit, at the start of a text that is not empty.
fn run(text: &str) -> (&str, bool) {
    let is_digits = text.starts_with(|c: char| c.is_ascii_digit());
    let end = text.find(|c: char| c.is_ascii_digit() != is_digits).unwrap_or(text.len());
    (&text[..end], is_digits)
}
