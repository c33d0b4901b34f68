//! Series that an operator holds, charged to the query as long as it does.

use super::context::Context;
use super::eval::vector_each;
use super::series::{Column, Sample, StepSeries};
use crate::syntax::ast::Expr;
use br_std::Result;
use br_storage::Budget;

/// What is held is charged in portions of this size: single series of an instant query are too small to account for each.
const CHARGE_BYTES: u64 = 16 << 10;

/// Bytes that are given back when this goes.
pub(crate) struct Charge<'b> {
    budget: &'b Budget,
    bytes: u64,
}

impl<'b> Charge<'b> {
    pub(crate) fn new(budget: &'b Budget) -> Self {
        Self { budget, bytes: 0 }
    }

    pub(crate) fn add(&mut self, bytes: u64) -> Result<()> {
        self.bytes += bytes;
        self.budget.charge(bytes)
    }

    /// Puts a value into a column of which what it takes without histograms is seen to: each of these may be made for its step alone.
    pub(crate) fn set(&mut self, column: &mut Column, step: usize, sample: Sample) -> Result<()> {
        let bytes = column.bytes_added(step, &sample);
        if bytes > 0 {
            self.add(bytes)?;
        }
        column.set(step, Some(sample));
        Ok(())
    }

    fn release(&mut self, bytes: u64) {
        self.bytes -= bytes;
        self.budget.release(bytes);
    }

    /// Charged until the query ends.
    fn keep(mut self) {
        self.bytes = 0;
    }
}

impl Drop for Charge<'_> {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.budget.release(self.bytes);
        }
    }
}

pub(super) struct Held<'b> {
    series: Vec<StepSeries>,
    charge: Charge<'b>,
    /// Of the series that came last, not charged yet.
    owed: u64,
}

impl<'b> Held<'b> {
    pub(super) fn new(budget: &'b Budget) -> Self {
        Self { series: Vec::new(), charge: Charge::new(budget), owed: 0 }
    }

    /// An instant vector, all of it.
    pub(super) fn of(context: &Context<'b>, expr: &Expr) -> Result<Self> {
        let mut held = Self::new(context.budget);
        vector_each(context, expr, &mut |series| held.push(series))?;
        held.settle()?;
        Ok(held)
    }

    pub(super) fn push(&mut self, series: StepSeries) -> Result<()> {
        self.owed += series.points.bytes();
        self.series.push(series);
        if self.owed >= CHARGE_BYTES { self.settle() } else { Ok(()) }
    }

    /// Charges what came last. Whoever pushed does this at the end.
    pub(super) fn settle(&mut self) -> Result<()> {
        self.charge.add(std::mem::take(&mut self.owed))
    }

    /// Series that were charged as they were made.
    pub(super) fn charged(series: Vec<StepSeries>, charge: Charge<'b>) -> Self {
        Self { series, charge, owed: 0 }
    }

    pub(super) fn series(&self) -> &[StepSeries] {
        &self.series
    }

    /// Lets series go, or changes them; none may take more than before.
    pub(super) fn retain(&mut self, keep: impl FnMut(&mut StepSeries) -> bool) {
        self.series.retain_mut(keep);
    }

    /// What stays charged until the query ends.
    pub(super) fn keep(self) -> Vec<StepSeries> {
        self.charge.keep();
        self.series
    }

    /// Hands the series on: who takes them charges them.
    pub(super) fn hand_on(mut self, sink: &mut dyn FnMut(StepSeries) -> Result<()>) -> Result<()> {
        let mut gone = 0;
        for series in self.series {
            gone += series.points.bytes();
            sink(series)?;
            if gone >= CHARGE_BYTES {
                self.charge.release(gone.min(self.charge.bytes));
                gone = 0;
            }
        }
        Ok(())
    }
}
