//! The series that a rule writes, and the markers for those that it no longer writes.

use br_model::{Labels, Value, stale_nan};
use std::collections::BTreeSet;

/// One element of the instant vector that an expression yields.
#[derive(Clone, Debug, PartialEq)]
pub struct ResultSample {
    pub labels: Labels,
    pub value: Value,
}

impl ResultSample {
    pub fn float(labels: Labels, value: f64) -> Self {
        Self { labels, value: Value::Float(value) }
    }

    /// A histogram counts as zero, as in Prometheus' alerts.
    pub(crate) fn as_float(&self) -> f64 {
        match self.value {
            Value::Float(value) => value,
            Value::Histogram(_) => 0.0,
        }
    }
}

/// A sample to write at the time of the evaluation; a staleness marker for a series that has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleSample {
    pub labels: Labels,
    pub value: Value,
}

/// Remembers which series the last evaluation wrote.
#[derive(Clone, Debug, Default)]
pub(crate) struct SeriesTracker {
    written: BTreeSet<Labels>,
}

impl SeriesTracker {
    /// Adds a staleness marker for each series that was written last time and is not among `samples`.
    pub(crate) fn step(&mut self, mut samples: Vec<RuleSample>) -> Vec<RuleSample> {
        let written: BTreeSet<Labels> = samples.iter().map(|sample| sample.labels.clone()).collect();
        samples.extend(self.written.difference(&written).map(marker));
        self.written = written;
        samples
    }

    /// Markers for everything: the rule is gone.
    pub(crate) fn end(self) -> Vec<RuleSample> {
        self.written.iter().map(marker).collect()
    }
}

fn marker(labels: &Labels) -> RuleSample {
    RuleSample { labels: labels.clone(), value: Value::Float(stale_nan()) }
}
