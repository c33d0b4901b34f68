//! Evaluation by kind of expression.

use super::context::Context;
use super::held::{Charge, Held};
use super::series::{Column, StepSeries};
use super::{aggregate, chain, select, shared};
use crate::functions::call;
use crate::syntax::ast::{Expr, ExprKind, Type};
use br_std::{Error, Result};
use br_storage::Budget;
use std::ops::{Deref, DerefMut};

/// The value of an expression at all steps.
pub(crate) enum Evaluated {
    Scalar(Vec<f64>),
    Text(String),
    Vector(Vec<StepSeries>),
}

pub(crate) type Sink<'s> = dyn FnMut(StepSeries) -> Result<()> + 's;

/// A number for each step, charged to the query as long as it is held.
pub(crate) struct Scalars<'b> {
    values: Vec<f64>,
    budget: &'b Budget,
}

impl<'b> Scalars<'b> {
    pub(crate) fn same(context: &Context<'b>, value: f64) -> Result<Self> {
        Self::of(context, || vec![value; context.steps()])
    }

    /// Charges before anything is made.
    pub(crate) fn of(context: &Context<'b>, make: impl FnOnce() -> Vec<f64>) -> Result<Self> {
        let mut scalars = Self { values: Vec::new(), budget: context.budget };
        context.budget.charge(Self::bytes(context.steps()))?;
        scalars.values = make();
        Ok(scalars)
    }

    fn bytes(steps: usize) -> u64 {
        steps as u64 * size_of::<f64>() as u64
    }

    /// From now on whoever takes them charges.
    pub(crate) fn into_values(mut self) -> Vec<f64> {
        let values = std::mem::take(&mut self.values);
        self.budget.release(Self::bytes(values.len()));
        values
    }
}

impl Deref for Scalars<'_> {
    type Target = [f64];

    fn deref(&self) -> &[f64] {
        &self.values
    }
}

impl DerefMut for Scalars<'_> {
    fn deref_mut(&mut self) -> &mut [f64] {
        &mut self.values
    }
}

impl Drop for Scalars<'_> {
    fn drop(&mut self) {
        self.budget.release(Self::bytes(self.values.len()));
    }
}

/// A scalar at each step.
pub(crate) fn scalar<'b>(context: &Context<'b>, expr: &Expr) -> Result<Scalars<'b>> {
    context.budget.check()?;
    match &expr.kind {
        ExprKind::Number { value, .. } => Scalars::same(context, *value),
        ExprKind::Paren(inner) => scalar(context, inner),
        ExprKind::Unary { negative, expr } => {
            let mut values = scalar(context, expr)?;
            if *negative {
                for value in values.iter_mut() {
                    *value = -*value;
                }
            }
            Ok(values)
        }
        ExprKind::Binary { first, links } => chain::scalar_chain(context, first, links),
        ExprKind::Call { function, arguments } => call::scalar(context, function.name, arguments),
        _ => Err(wrong_type(expr, Type::Scalar)),
    }
}

/// An instant vector, all of it. What it holds stays charged until the query ends.
pub(crate) fn vector(context: &Context, expr: &Expr) -> Result<Vec<StepSeries>> {
    Ok(Held::of(context, expr)?.keep())
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
                    negate(context, &mut series.points)?;
                    series.mark_name_dropped(delayed);
                }
                sink(series)
            })
        }
        ExprKind::Call { function, arguments } => call::vector_each(context, function.name, arguments, expr.span, sink),
        ExprKind::Aggregate { .. } => aggregate::evaluate(context, expr)?.into_iter().try_for_each(sink),
        ExprKind::Binary { .. } => chain::evaluate(context, expr, sink),
        _ => Err(wrong_type(expr, Type::Vector)),
    }
}

fn negate(context: &Context, points: &mut Column) -> Result<()> {
    let mut made = Charge::new(context.budget);
    points.map_floats(|_, value| -value);
    if points.has_histograms() {
        for step in 0..points.len() {
            if let Some(histogram) = points.histogram(step) {
                let negated = crate::histogram::scale(histogram, -1.0);
                made.set(points, step, negated.into())?;
            }
        }
    }
    Ok(())
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
