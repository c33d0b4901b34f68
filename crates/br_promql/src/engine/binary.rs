//! What a binary operator does to two values, and to a vector and a scalar.

use super::context::Context;
use super::eval::{Scalars, scalar};
use super::held::Charge;
use super::series::{Column, Sample, StepSeries};
use crate::annotations::Annotation;
use crate::histogram::{self, Combined, Keep, MixedLayout};
use crate::syntax::ast::{BinaryOp, Expr, ExprKind};
use crate::syntax::span::Span;
use br_std::Result;

#[derive(Clone, Copy)]
pub(super) struct Operation {
    pub(super) op: BinaryOp,
    pub(super) return_bool: bool,
    pub(super) span: Span,
}

impl Operation {
    /// Whether the result is something else than the series that it came from.
    pub(super) fn drops_name(self) -> bool {
        self.return_bool || !(self.op.is_comparison() || self.op.is_trim())
    }

    /// What comes of two values; `None` where a comparison is false or the values do not go together.
    pub(super) fn apply(self, context: &Context, lhs: &Sample, rhs: &Sample) -> Option<Sample> {
        let outcome = self.outcome(context, lhs, rhs)?;
        match outcome {
            Outcome::Value(sample) => Some(sample),
            Outcome::Compared(is_true) if self.return_bool => Some(Sample::Float(f64::from(u8::from(is_true)))),
            Outcome::Compared(is_true) => is_true.then(|| lhs.clone()),
        }
    }

    fn outcome(self, context: &Context, lhs: &Sample, rhs: &Sample) -> Option<Outcome> {
        match (lhs, rhs) {
            (Sample::Float(left), Sample::Float(right)) => {
                if self.op.is_comparison() {
                    return Some(Outcome::Compared(compare(self.op, *left, *right)));
                }
                if !self.op.is_trim() {
                    return Some(Outcome::Value(Sample::Float(scalars(self.op, *left, *right))));
                }
            }
            (Sample::Histogram(left), Sample::Float(right)) => {
                let value = match self.op {
                    BinaryOp::Mul => Some(histogram::scale(left, *right)),
                    BinaryOp::Div => Some(histogram::divide(left, *right)),
                    BinaryOp::TrimUpper => Some(histogram::trim(left, *right, Keep::Below)),
                    BinaryOp::TrimLower => Some(histogram::trim(left, *right, Keep::Above)),
                    _ => None,
                };
                if let Some(value) = value {
                    return Some(Outcome::Value(value.into()));
                }
            }
            (Sample::Float(left), Sample::Histogram(right)) => {
                if self.op == BinaryOp::Mul {
                    return Some(Outcome::Value(histogram::scale(right, *left).into()));
                }
            }
            (Sample::Histogram(left), Sample::Histogram(right)) => match self.op {
                BinaryOp::Equal => return Some(Outcome::Compared(histogram::equal(left, right))),
                BinaryOp::NotEqual => return Some(Outcome::Compared(!histogram::equal(left, right))),
                BinaryOp::Add => return self.combined(context, histogram::add(left, right), "addition"),
                BinaryOp::Sub => return self.combined(context, histogram::subtract(left, right), "subtraction"),
                _ => {}
            },
        }
        let kind = |sample: &Sample| if matches!(sample, Sample::Float(_)) { "float" } else { "histogram" };
        context.note(&Annotation::IncompatibleTypes { lhs: kind(lhs), op: self.op, rhs: kind(rhs) }, self.span);
        None
    }

    fn combined(
        self,
        context: &Context,
        combined: std::result::Result<Combined, MixedLayout>,
        operation: &'static str,
    ) -> Option<Outcome> {
        let Ok(combined) = combined else {
            context.note(&Annotation::IncompatibleBucketLayout { op: self.op }, self.span);
            return None;
        };
        if combined.hints_conflict {
            context.note(&Annotation::CounterResetCollision { operation }, self.span);
        }
        if combined.bounds_reconciled {
            context.note(&Annotation::MismatchedCustomBuckets { operation }, self.span);
        }
        Some(Outcome::Value(combined.histogram.into()))
    }
}

enum Outcome {
    Value(Sample),
    Compared(bool),
}

/// The scalar beside a vector.
pub(super) enum ScalarOperand<'b> {
    /// At all steps.
    Same(f64),
    ByStep(Scalars<'b>),
}

impl<'b> ScalarOperand<'b> {
    pub(super) fn of(context: &Context<'b>, expr: &Expr) -> Result<Self> {
        Ok(match expr.without_parens().kind {
            ExprKind::Number { value, .. } => Self::Same(value),
            _ => Self::ByStep(scalar(context, expr)?),
        })
    }

    fn at(&self, step: usize) -> f64 {
        match self {
            Self::Same(value) => *value,
            Self::ByStep(values) => values[step],
        }
    }
}

/// Each value of a vector with the scalar of its step. A filter keeps the vector's value, whichever side it stands on.
pub(super) struct WithScalar<'b> {
    pub(super) operation: Operation,
    pub(super) operand: ScalarOperand<'b>,
    pub(super) scalar_is_left: bool,
}

impl WithScalar<'_> {
    /// What is left may have no value at all. Histograms that were made stay charged until they are handed on.
    pub(super) fn apply<'c>(&self, context: &Context<'c>, series: &mut StepSeries) -> Result<Charge<'c>> {
        let mut made = Charge::new(context.budget);
        let operation = self.operation;
        let is_plain_float = !operation.op.is_comparison() && !operation.op.is_trim();
        if is_plain_float && !series.points.has_histograms() {
            series.points.map_floats(|step, value| {
                let other = self.operand.at(step);
                if self.scalar_is_left { scalars(operation.op, other, value) } else { scalars(operation.op, value, other) }
            });
        } else {
            series.points = self.slowly(context, &series.points, &mut made)?;
        }
        if operation.drops_name() {
            series.mark_name_dropped(context.options.delayed_name_removal);
        }
        Ok(made)
    }

    fn slowly(&self, context: &Context, points: &Column, made: &mut Charge) -> Result<Column> {
        let operation = self.operation;
        let mut changed = Column::absent(points.len());
        for step in 0..points.len() {
            let Some(sample) = points.get(step) else { continue };
            let scalar = Sample::Float(self.operand.at(step));
            let result = if self.scalar_is_left {
                operation.apply(context, &scalar, &sample)
            } else {
                operation.apply(context, &sample, &scalar)
            };
            let is_filter = operation.op.is_comparison() && !operation.return_bool;
            if let Some(result) = result {
                made.set(&mut changed, step, if is_filter { sample } else { result })?;
            }
        }
        Ok(changed)
    }
}

/// An arithmetic operator, or a comparison as 0 or 1.
pub(super) fn scalars(op: BinaryOp, lhs: f64, rhs: f64) -> f64 {
    match op {
        BinaryOp::Add => lhs + rhs,
        BinaryOp::Sub => lhs - rhs,
        BinaryOp::Mul => lhs * rhs,
        BinaryOp::Div => lhs / rhs,
        BinaryOp::Mod => lhs % rhs,
        BinaryOp::Pow => lhs.powf(rhs),
        BinaryOp::Atan2 => lhs.atan2(rhs),
        _ => f64::from(u8::from(compare(op, lhs, rhs))),
    }
}

fn compare(op: BinaryOp, lhs: f64, rhs: f64) -> bool {
    match op {
        BinaryOp::Equal => lhs == rhs,
        BinaryOp::NotEqual => lhs != rhs,
        BinaryOp::Less => lhs < rhs,
        BinaryOp::Greater => lhs > rhs,
        BinaryOp::LessEqual => lhs <= rhs,
        BinaryOp::GreaterEqual => lhs >= rhs,
        _ => false,
    }
}
