//! Sums and averages of native histograms, cell by cell.

use super::context::Context;
use super::series::Column;
use crate::annotations::Annotation;
use crate::histogram::{HistogramSum, MixedLayout, compact, divide};
use crate::syntax::span::Span;
use br_model::{CounterResetHint, FloatHistogram};

/// By this an average's sum is scaled down once it would overflow. A power of two: nothing is rounded.
const SCALE_DOWN: f64 = 1.0 / (1u128 << 64) as f64;

/// Adds histograms up.
#[derive(Clone, Debug)]
pub(crate) struct HistogramFold {
    sum: HistogramSum,
    count: f64,
    is_avg: bool,
    is_scaled: bool,
    is_mixed: bool,
    reset_seen: bool,
    no_reset_seen: bool,
}

impl HistogramFold {
    pub(crate) fn new(first: &FloatHistogram, is_avg: bool) -> Self {
        let mut fold = Self {
            sum: HistogramSum::new(first),
            count: 1.0,
            is_avg,
            is_scaled: false,
            is_mixed: false,
            reset_seen: false,
            no_reset_seen: false,
        };
        fold.look_at_hint(first);
        fold
    }

    fn look_at_hint(&mut self, histogram: &FloatHistogram) {
        self.reset_seen |= histogram.counter_reset_hint == CounterResetHint::Reset;
        self.no_reset_seen |= histogram.counter_reset_hint == CounterResetHint::NotReset;
    }

    pub(crate) fn add(&mut self, histogram: &FloatHistogram) -> Result<(), MixedLayout> {
        if self.is_mixed {
            return Ok(());
        }
        self.look_at_hint(histogram);
        self.count += 1.0;
        let added = if self.is_avg { self.add_to_mean(histogram) } else { self.sum.add(histogram) };
        self.is_mixed = added.is_err();
        added
    }

    fn add_to_mean(&mut self, histogram: &FloatHistogram) -> Result<(), MixedLayout> {
        if !self.is_scaled {
            let mut next = self.sum.clone();
            next.add(histogram)?;
            if !next.overflowed() {
                self.sum = next;
                return Ok(());
            }
            self.is_scaled = true;
            self.sum.scale(SCALE_DOWN);
        }
        self.sum.add_scaled(histogram, SCALE_DOWN)
    }

    /// `None` where custom and exponential buckets met.
    pub(crate) fn value(&self) -> Option<FloatHistogram> {
        if self.is_mixed {
            return None;
        }
        let mut value = self.sum.value();
        if self.is_avg {
            let divisor = if self.is_scaled { self.count * SCALE_DOWN } else { self.count };
            value = divide(&value, divisor);
        }
        Some(compact(&value))
    }

    pub(crate) fn note(&self, context: &Context, span: Span) {
        if self.reset_seen && self.no_reset_seen {
            context.note(&Annotation::CounterResetCollision { operation: "aggregation" }, span);
        }
        if self.sum.bounds_reconciled {
            context.note(&Annotation::MismatchedCustomBuckets { operation: "aggregation" }, span);
        }
    }
}

/// One fold for each step of a group.
pub(super) struct HistogramCells {
    folds: Vec<Option<Box<HistogramFold>>>,
    is_avg: bool,
}

impl HistogramCells {
    pub(super) fn new(steps: usize, is_avg: bool) -> Self {
        Self { folds: vec![None; steps], is_avg }
    }

    pub(super) fn has(&self, step: usize) -> bool {
        self.folds[step].is_some()
    }

    pub(super) fn add(&mut self, step: usize, histogram: &FloatHistogram) -> Result<(), MixedLayout> {
        match &mut self.folds[step] {
            Some(fold) => fold.add(histogram),
            cell @ None => {
                *cell = Some(Box::new(HistogramFold::new(histogram, self.is_avg)));
                Ok(())
            }
        }
    }

    pub(super) fn finish(self, context: &Context, span: Span, has_float: &[bool], column: &mut Column) {
        for (step, fold) in self.folds.into_iter().enumerate() {
            let Some(fold) = fold else { continue };
            fold.note(context, span);
            if let (false, Some(histogram)) = (has_float[step], fold.value()) {
                column.set_histogram(step, histogram.into());
            }
        }
    }
}
