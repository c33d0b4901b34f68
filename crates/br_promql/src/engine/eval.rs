//! Evaluation by kind of expression.

use super::context::Context;
use super::series::{Column, StepSeries};
use super::{aggregate, binary, select, shared};
use crate::functions::call;
use crate::syntax::ast::{Expr, ExprKind, Type};
use br_std::{Error, Result};

/// The value of an expression at all steps.
pub(crate) enum Evaluated {
    Scalar(Vec<f64>),
    Text(String),
    Vector(Vec<StepSeries>),
}

pub(crate) type Sink<'s> = dyn FnMut(StepSeries) -> Result<()> + 's;

/// What is held is charged in portions of this size: single series of an instant query are too small to account for each.
const CHARGE_BYTES: u64 = 16 << 10;

/// A scalar at each step.
pub(crate) fn scalar(context: &Context, expr: &Expr) -> Result<Vec<f64>> {
    context.budget.check()?;
    match &expr.kind {
        ExprKind::Number { value, .. } => Ok(vec![*value; context.steps()]),
        ExprKind::Paren(inner) => scalar(context, inner),
        ExprKind::Unary { negative, expr } => {
            let mut values = scalar(context, expr)?;
            if *negative {
                for value in &mut values {
                    *value = -*value;
                }
            }
            Ok(values)
        }
        ExprKind::Binary { op, lhs, rhs, .. } => {
            let (lhs, rhs) = (scalar(context, lhs)?, scalar(context, rhs)?);
            Ok(lhs.iter().zip(&rhs).map(|(lhs, rhs)| binary::scalars(*op, *lhs, *rhs)).collect())
        }
        ExprKind::Call { function, arguments } => call::scalar(context, function.name, arguments),
        _ => Err(wrong_type(expr, Type::Scalar)),
    }
}

/// An instant vector, all of it. What it holds stays charged until the query ends.
pub(crate) fn vector(context: &Context, expr: &Expr) -> Result<Vec<StepSeries>> {
    let (mut all, mut owed) = (Vec::new(), 0);
    vector_each(context, expr, &mut |series| {
        owed += series.points.bytes();
        all.push(series);
        if owed >= CHARGE_BYTES {
            context.budget.charge(std::mem::take(&mut owed))?;
        }
        Ok(())
    })?;
    context.budget.charge(owed)?;
    Ok(all)
}

/// An instant vector, series by series.
pub(crate) fn vector_each(context: &Context, expr: &Expr, sink: &mut Sink) -> Result<()> {
    context.budget.check()?;
    if context.steps() > 1 && is_worth_once(expr) && is_step_invariant(expr) {
        let steps = context.steps();
        return vector_each(&context.at_step(0), expr, &mut |series| {
            sink(StepSeries { points: series.points.repeat(steps), ..series })
        });
    }
    shared::each(context, expr, sink, |context, sink| evaluate_each(context, expr, sink))
}

fn evaluate_each(context: &Context, expr: &Expr, sink: &mut Sink) -> Result<()> {
    match &expr.kind {
        ExprKind::Vector(selector) => select::instants_each(context, expr.span, selector, select::Wanted::Value, sink),
        ExprKind::Paren(inner) => vector_each(context, inner, sink),
        ExprKind::Unary { negative, expr } => {
            let delayed = context.options.delayed_name_removal;
            vector_each(context, expr, &mut |mut series| {
                if *negative {
                    negate(&mut series.points);
                    series.mark_name_dropped(delayed);
                }
                sink(series)
            })
        }
        ExprKind::Call { function, arguments } => call::vector_each(context, function.name, arguments, expr.span, sink),
        ExprKind::Aggregate { .. } => aggregate::evaluate(context, expr)?.into_iter().try_for_each(sink),
        ExprKind::Binary { .. } => binary::evaluate(context, expr, sink),
        _ => Err(wrong_type(expr, Type::Vector)),
    }
}

fn negate(points: &mut Column) {
    points.map_floats(|_, value| -value);
    if points.has_histograms() {
        for step in 0..points.len() {
            if let Some(histogram) = points.histogram(step) {
                let negated = crate::histogram::scale(histogram, -1.0);
                points.set_histogram(step, negated.into());
            }
        }
    }
}

/// Types were checked when the query was parsed.
fn wrong_type(expr: &Expr, expected: Type) -> Error {
    Error::fix_request(format!("{}: expected type {}, got {}", expr.span, expected.as_str(), expr.value_type().as_str()))
}

fn is_worth_once(expr: &Expr) -> bool {
    matches!(expr.kind, ExprKind::Vector(_) | ExprKind::Call { .. } | ExprKind::Aggregate { .. } | ExprKind::Binary { .. })
}

/// Whether the value is the same at every step: each selector has a fixed time, and nothing asks for the current one.
pub(crate) fn is_step_invariant(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Number { .. } | ExprKind::String { .. } => true,
        ExprKind::Vector(selector) => selector.at.is_some(),
        ExprKind::Subquery { at, .. } => at.is_some(),
        ExprKind::Call { function, arguments } => {
            let asks_time = match function.name {
                "time" | "timestamp" | "start_timestamp" | "predict_linear" => true,
                "minute" | "hour" | "day_of_month" | "day_of_week" | "day_of_year" | "days_in_month" | "month" | "year" => {
                    arguments.is_empty()
                }
                _ => false,
            };
            !asks_time && arguments.iter().all(is_step_invariant)
        }
        _ => expr.children().into_iter().all(is_step_invariant),
    }
}
