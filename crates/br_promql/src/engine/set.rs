//! `and`, `or` and `unless`.

use super::context::Context;
use super::eval::{Sink, vector};
use super::series::StepSeries;
use super::signature::Signatures;
use crate::syntax::ast::{BinaryOp, Expr, Matching};
use br_std::Result;

pub(super) fn evaluate(
    context: &Context,
    op: BinaryOp,
    matching: &Matching,
    lhs: &Expr,
    rhs: &Expr,
    sink: &mut Sink,
) -> Result<()> {
    let (left, right) = (vector(context, lhs)?, vector(context, rhs)?);
    if op == BinaryOp::Or {
        let mut present = Presence::new(context, &left, &right, matching)?;
        left.into_iter().try_for_each(&mut *sink)?;
        return present.filter(right, false, sink);
    }
    Presence::new(context, &right, &left, matching)?.filter(left, op == BinaryOp::And, sink)
}

/// For each signature, the steps at which any of the series has a value.
struct Presence<'m> {
    signatures: Signatures<'m>,
    /// Of one signature after the other.
    present: Vec<bool>,
    steps: usize,
}

impl<'m> Presence<'m> {
    /// Of `side`, for `other` to be filtered.
    fn new(context: &Context, side: &[StepSeries], other: &[StepSeries], matching: &'m Matching) -> Result<Self> {
        let steps = context.steps();
        let (mut signatures, mut present) = (Signatures::new(matching, [side, other]), Vec::new());
        for series in side {
            let (number, new_bytes) = signatures.number(&series.labels);
            if let Some(bytes) = new_bytes {
                context.budget.charge(steps as u64 + bytes)?;
                present.resize(signatures.len() * steps, false);
            }
            for (step, is_present) in present[number * steps..][..steps].iter_mut().enumerate() {
                *is_present |= series.points.is_present(step);
            }
        }
        Ok(Self { signatures, present, steps })
    }

    /// Keeps values at those steps where the signature's presence is `wanted`.
    fn filter(&mut self, side: Vec<StepSeries>, wanted: bool, sink: &mut Sink) -> Result<()> {
        for mut series in side {
            let number = self.signatures.find(&series.labels);
            let present = number.map(|number| &self.present[number * self.steps..][..self.steps]);
            for step in 0..series.points.len() {
                if present.is_some_and(|present| present[step]) != wanted {
                    series.points.set(step, None);
                }
            }
            if !series.points.is_all_absent() {
                sink(series)?;
            }
        }
        Ok(())
    }
}
