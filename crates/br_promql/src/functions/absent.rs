//! `absent` and `absent_over_time`: a value where there is none.

use super::call::{Sink, argument};
use crate::engine::{Column, Context, Fit, StepSeries, ranges_each, vector_each};
use crate::syntax::ast::{Expr, ExprKind, Type};
use br_model::Labels;
use br_model::labels::METRIC_NAME;
use br_std::Result;
use br_storage::MatchOp;

pub(super) fn evaluate(context: &Context, arguments: &[Expr], sink: &mut Sink) -> Result<()> {
    let expr = argument(arguments, 0, "absent")?;
    let mut present = vec![false; context.steps()];
    if expr.value_type() == Type::Matrix {
        ranges_each(context, expr, Fit::Exact, &mut |series| {
            for (is_present, (from, to)) in present.iter_mut().zip(series.windows) {
                *is_present |= to > from;
            }
            Ok(())
        })?;
    } else {
        vector_each(context, expr, &mut |series| {
            for (step, is_present) in present.iter_mut().enumerate() {
                *is_present |= series.points.is_present(step);
            }
            Ok(())
        })?;
    }
    let mut points = Column::absent(context.steps());
    for (step, is_present) in present.into_iter().enumerate() {
        if !is_present {
            points.set_float(step, 1.0);
        }
    }
    if points.is_all_absent() {
        return Ok(());
    }
    sink(StepSeries::new(labels_of(expr), points))
}

/// What the selector fixes: labels with one equality matcher and no other.
fn labels_of(expr: &Expr) -> Labels {
    let vector = match &expr.kind {
        ExprKind::Matrix { vector, .. } => vector,
        _ => expr,
    };
    let ExprKind::Vector(selector) = &vector.kind else { return Labels::empty() };
    let fixed = selector.matchers.iter().filter(|matcher| {
        let same_name = selector.matchers.iter().filter(|other| other.name == matcher.name).count();
        matcher.op == MatchOp::Equal && matcher.name != METRIC_NAME && same_name == 1
    });
    Labels::from_pairs(fixed.map(|matcher| (matcher.name.as_str(), matcher.value.as_str())))
}
