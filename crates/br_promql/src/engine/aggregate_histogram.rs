//! Sums and averages of native histograms, cell by cell.

use super::context::Context;
use super::series::Column;
use crate::annotations::Annotation;
use crate::histogram::{HistogramSum, MixedLayout, compact};
use crate::syntax::span::Span;
use br_model::FloatHistogram;

/// Adds histograms up; once an average's sum would overflow, it goes on with the mean.
#[derive(Clone, Debug)]
pub(crate) struct HistogramFold {
    sum: HistogramSum,
    count: f64,
    is_avg: bool,
    is_incremental: bool,
    is_mixed: bool,
}

impl HistogramFold {
    pub(crate) fn new(first: &FloatHistogram, is_avg: bool) -> Self {
        Self { sum: HistogramSum::new(first), count: 1.0, is_avg, is_incremental: false, is_mixed: false }
    }

    pub(crate) fn add(&mut self, histogram: &FloatHistogram) -> Result<(), MixedLayout> {
        if self.is_mixed {
            return Ok(());
        }
        self.count += 1.0;
        let added = if self.is_avg { self.add_to_mean(histogram) } else { self.sum.add(histogram) };
        self.is_mixed = added.is_err();
        added
    }

    fn add_to_mean(&mut self, histogram: &FloatHistogram) -> Result<(), MixedLayout> {
        if !self.is_incremental {
            let mut next = self.sum.clone();
            next.add(histogram)?;
            if !next.overflowed() {
                self.sum = next;
                return Ok(());
            }
            self.is_incremental = true;
            self.sum.scale(1.0 / (self.count - 1.0));
        }
        self.sum.scale((self.count - 1.0) / self.count);
        self.sum.add_scaled(histogram, 1.0 / self.count)
    }

    /// `None` where custom and exponential buckets met.
    pub(crate) fn value(&self) -> Option<FloatHistogram> {
        if self.is_mixed {
            return None;
        }
        let mut sum = self.sum.clone();
        if self.is_avg && !self.is_incremental {
            sum.scale(1.0 / self.count);
        }
        Some(compact(&sum.value()))
    }

    pub(crate) fn note(&self, context: &Context, span: Span) {
        if self.sum.hints_conflict {
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
