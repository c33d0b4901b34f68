//! One series for all steps of a query.

use br_model::labels::METRIC_NAME;
use br_model::{FloatHistogram, Labels, Value};
use smallvec::{SmallVec, smallvec};
use std::sync::Arc;

/// Labels that say what a series is, and that go when something else is made of it.
const METADATA_LABELS: [&str; 3] = [METRIC_NAME, "__type__", "__unit__"];

pub(crate) fn is_metadata_label(name: &str) -> bool {
    METADATA_LABELS.contains(&name)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Absent = 0,
    Float,
    Histogram,
}

/// A value at one step.
#[derive(Clone, Debug)]
pub(crate) enum Sample {
    Float(f64),
    Histogram(Arc<FloatHistogram>),
}

impl From<Value> for Sample {
    fn from(value: Value) -> Self {
        match value {
            Value::Float(value) => Self::Float(value),
            Value::Histogram(histogram) => Self::Histogram(histogram),
        }
    }
}

impl From<FloatHistogram> for Sample {
    fn from(histogram: FloatHistogram) -> Self {
        Self::Histogram(Arc::new(histogram))
    }
}

/// Values by step.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    /// An instant query has one step: it is kept in place.
    kinds: SmallVec<[Kind; 8]>,
    floats: SmallVec<[f64; 1]>,
    /// Empty until there is one.
    histograms: Vec<Option<Arc<FloatHistogram>>>,
}

/// Steps that are looked at together: a query often goes back farther than its series do.
const STRIDE: usize = 32;

fn has_any(kinds: &[Kind]) -> bool {
    kinds.iter().fold(0, |any, kind| any | *kind as u8) != Kind::Absent as u8
}

impl Column {
    pub(crate) fn absent(steps: usize) -> Self {
        Self { kinds: smallvec![Kind::Absent; steps], floats: smallvec![0.0; steps], histograms: Vec::new() }
    }

    pub(crate) fn floats(values: Vec<f64>) -> Self {
        Self { kinds: smallvec![Kind::Float; values.len()], floats: values.into(), histograms: Vec::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.kinds.len()
    }

    pub(crate) fn is_present(&self, step: usize) -> bool {
        self.kinds[step] != Kind::Absent
    }

    pub(crate) fn is_all_absent(&self) -> bool {
        !self.kinds.chunks(STRIDE).any(has_any)
    }

    pub(crate) fn has_histograms(&self) -> bool {
        !self.histograms.is_empty()
    }

    #[inline]
    pub(crate) fn float(&self, step: usize) -> Option<f64> {
        (self.kinds[step] == Kind::Float).then(|| self.floats[step])
    }

    /// Each float with its step.
    #[inline]
    pub(crate) fn each_float(&self, mut each: impl FnMut(usize, f64)) {
        for (stride, kinds) in self.kinds.chunks(STRIDE).enumerate() {
            if !has_any(kinds) {
                continue;
            }
            let first = stride * STRIDE;
            for (step, (kind, value)) in (first..).zip(kinds.iter().zip(&self.floats[first..])) {
                if *kind == Kind::Float {
                    each(step, *value);
                }
            }
        }
    }

    pub(crate) fn histogram(&self, step: usize) -> Option<&Arc<FloatHistogram>> {
        if self.kinds[step] == Kind::Histogram { self.histograms[step].as_ref() } else { None }
    }

    pub(crate) fn get(&self, step: usize) -> Option<Sample> {
        match self.kinds[step] {
            Kind::Absent => None,
            Kind::Float => Some(Sample::Float(self.floats[step])),
            Kind::Histogram => self.histograms[step].clone().map(Sample::Histogram),
        }
    }

    #[inline]
    pub(crate) fn set_float(&mut self, step: usize, value: f64) {
        self.kinds[step] = Kind::Float;
        self.floats[step] = value;
    }

    pub(crate) fn set_histogram(&mut self, step: usize, histogram: Arc<FloatHistogram>) {
        if self.histograms.is_empty() {
            self.histograms.resize(self.kinds.len(), None);
        }
        self.kinds[step] = Kind::Histogram;
        self.histograms[step] = Some(histogram);
    }

    pub(crate) fn set(&mut self, step: usize, sample: Option<Sample>) {
        match sample {
            None => self.kinds[step] = Kind::Absent,
            Some(Sample::Float(value)) => self.set_float(step, value),
            Some(Sample::Histogram(histogram)) => self.set_histogram(step, histogram),
        }
    }

    /// What a value adds to [`Self::bytes`].
    pub(crate) fn bytes_added(&self, step: usize, sample: &Sample) -> u64 {
        let Sample::Histogram(histogram) = sample else { return 0 };
        let before = step.checked_sub(1).and_then(|before| self.histograms.get(before)?.as_ref());
        let is_shared = before.is_some_and(|before| Arc::ptr_eq(before, histogram));
        let places = if self.has_histograms() { 0 } else { self.len() as u64 * 8 };
        places + if is_shared { 0 } else { histogram.memory_bytes() as u64 }
    }

    /// Changes each float; histograms stay.
    pub(crate) fn map_floats(&mut self, mut change: impl FnMut(usize, f64) -> f64) {
        for step in 0..self.kinds.len() {
            if self.kinds[step] == Kind::Float {
                self.floats[step] = change(step, self.floats[step]);
            }
        }
    }

    /// Takes away histograms; true when there were any.
    pub(crate) fn drop_histograms(&mut self) -> bool {
        let mut found = false;
        for kind in &mut self.kinds {
            if *kind == Kind::Histogram {
                *kind = Kind::Absent;
                found = true;
            }
        }
        self.histograms = Vec::new();
        found
    }

    /// The value of the only step for all of `steps`.
    pub(crate) fn repeat(&self, steps: usize) -> Self {
        let mut repeated = Self::absent(steps);
        for step in 0..steps {
            repeated.set(step, self.get(0));
        }
        repeated
    }

    /// Roughly what a column without histograms holds.
    pub(crate) fn absent_bytes(steps: usize) -> u64 {
        steps as u64 * 9 + 64
    }

    /// Roughly what this holds. Steps in a row that share a histogram hold it once.
    pub(crate) fn bytes(&self) -> u64 {
        let mut bytes = Self::absent_bytes(self.kinds.len()) + self.histograms.len() as u64 * 8;
        let mut before: Option<&Arc<FloatHistogram>> = None;
        for histogram in self.histograms.iter().flatten() {
            if !before.is_some_and(|before| Arc::ptr_eq(before, histogram)) {
                bytes += histogram.memory_bytes() as u64;
            }
            before = Some(histogram);
        }
        bytes
    }
}

#[derive(Clone, Debug)]
pub(crate) struct StepSeries {
    pub(crate) labels: Labels,
    /// The name is still among the labels and goes at the end of the query.
    pub(crate) drop_name: bool,
    pub(crate) points: Column,
}

impl StepSeries {
    pub(crate) fn new(labels: Labels, points: Column) -> Self {
        Self { labels, drop_name: false, points }
    }

    /// The name must not be in the answer; `delayed` leaves it there for now.
    pub(crate) fn mark_name_dropped(&mut self, delayed: bool) {
        if delayed {
            self.drop_name = true;
        } else {
            self.labels = without_metadata(&self.labels);
        }
    }

    pub(crate) fn final_labels(&self) -> Labels {
        if self.drop_name { without_metadata(&self.labels) } else { self.labels.clone() }
    }
}

/// Roughly what a set of labels holds that was made of others: it shares their texts.
pub(crate) fn labels_bytes(labels: &Labels) -> u64 {
    (labels.len() * size_of::<br_model::Label>() + 64) as u64
}

pub(crate) fn without_metadata(labels: &Labels) -> Labels {
    labels.without(is_metadata_label)
}
