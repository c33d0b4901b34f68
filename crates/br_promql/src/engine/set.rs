//! `and`, `or` and `unless`.

use super::context::Context;
use super::held::{Charge, Held};
use super::series::StepSeries;
use super::signature::Signatures;
use crate::syntax::ast::{BinaryOp, Matching};
use br_std::Result;

/// What the left has, and of the right what has no value there. `union` is the presence of the left, where it is known from
/// the `or` before; afterwards that of both.
pub(super) fn or<'b, 'm>(
    context: &Context<'b>,
    matching: &'m Matching,
    mut left: Held<'b>,
    mut right: Held<'b>,
    union: &mut Option<Presence<'m, 'b>>,
) -> Result<Held<'b>> {
    let mut presence = match union.take() {
        Some(known) if known.signatures.fit(right.series()) => known,
        _ => Presence::new(context, left.series(), right.series(), matching)?,
    };
    right.retain(|series| presence.filter(series, false));
    presence.add(right.series())?;
    *union = Some(presence);
    right.hand_on(&mut |series| left.push(series))?;
    left.settle()?;
    Ok(left)
}

/// What the left has where the right has a value with `and`, where it has none with `unless`.
pub(super) fn filter<'b>(
    context: &Context<'b>,
    op: BinaryOp,
    matching: &Matching,
    mut left: Held<'b>,
    right: &Held<'b>,
) -> Result<Held<'b>> {
    let mut presence = Presence::new(context, right.series(), left.series(), matching)?;
    left.retain(|series| presence.filter(series, op == BinaryOp::And));
    Ok(left)
}

/// For each signature, the steps at which any of the series has a value.
pub(super) struct Presence<'m, 'b> {
    signatures: Signatures<'m>,
    /// Of one signature after the other.
    present: Vec<bool>,
    steps: usize,
    charge: Charge<'b>,
}

impl<'m, 'b> Presence<'m, 'b> {
    /// Of `side`, for `other` to be filtered.
    fn new(context: &Context<'b>, side: &[StepSeries], other: &[StepSeries], matching: &'m Matching) -> Result<Self> {
        let signatures = Signatures::new(matching, [side, other]);
        let charge = Charge::new(context.budget);
        let mut presence = Self { signatures, present: Vec::new(), steps: context.steps(), charge };
        presence.add(side)?;
        Ok(presence)
    }

    /// Of these too.
    fn add(&mut self, side: &[StepSeries]) -> Result<()> {
        for series in side {
            let (number, new_bytes) = self.signatures.number(&series.labels);
            if let Some(bytes) = new_bytes {
                self.charge.add(self.steps as u64 + bytes)?;
                self.present.resize(self.signatures.len() * self.steps, false);
            }
            for (step, is_present) in self.present[number * self.steps..][..self.steps].iter_mut().enumerate() {
                *is_present |= series.points.is_present(step);
            }
        }
        Ok(())
    }

    /// Keeps values at those steps where the signature's presence is `wanted`; false when there are none.
    fn filter(&mut self, series: &mut StepSeries, wanted: bool) -> bool {
        let number = self.signatures.find(&series.labels);
        let present = number.map(|number| &self.present[number * self.steps..][..self.steps]);
        for step in 0..series.points.len() {
            if present.is_some_and(|present| present[step]) != wanted {
                series.points.set(step, None);
            }
        }
        !series.points.is_all_absent()
    }
}
