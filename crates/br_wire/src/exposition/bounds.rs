//! How far an exposition is read: whoever serves it decides how large it is, not who reads it.

use crate::{Limits, Result, WireError};
use br_model::{Labels, MetricBatch};

/// What is read at the most, and for how long.
#[derive(Clone, Copy)]
pub struct Bounds<'a> {
    /// Of labels.
    pub limits: &'a Limits,
    /// Series, and families that are described. Some more may be read before it is seen.
    pub series_max: usize,
    /// Asked now and then; the reading ends when it says so.
    pub is_stopped: &'a dyn Fn() -> bool,
}

/// Lines or messages between two looks at the bounds.
pub(super) const BETWEEN_CHECKS: usize = 1024;

impl<'a> Bounds<'a> {
    /// As many series as a request may have records, in whatever time it takes.
    pub fn of(limits: &'a Limits) -> Self {
        Self { limits, series_max: limits.records_max, is_stopped: &|| false }
    }

    /// An error when there is too much already, or nobody waits for the rest.
    pub(super) fn check(&self, batch: &MetricBatch) -> Result<()> {
        if (self.is_stopped)() {
            return Err(WireError::TooLarge("nobody waits for the rest of it".into()));
        }
        for (count, what) in [(batch.series.len(), "series"), (batch.metadata.len(), "metric families")] {
            if count > self.series_max {
                return Err(WireError::TooLarge(format!("more than {} {what}: the rest is not read", self.series_max)));
            }
        }
        Ok(())
    }
}

/// Whether a label may come to `count` others.
pub(super) fn check_label(limits: &Limits, count: usize, name: &str, value: &str) -> Result<(), String> {
    // The metric's name is a label too.
    if count + 2 > limits.labels_max {
        return Err(format!("more than {} labels, with the metric's name", limits.labels_max));
    }
    if name.len() > limits.label_name_bytes_max {
        return Err(format!("a label name of {} bytes, at most {} are taken", name.len(), limits.label_name_bytes_max));
    }
    if value.len() > limits.label_value_bytes_max {
        let (name, length, max) = (shown(name), value.len(), limits.label_value_bytes_max);
        return Err(format!("the value of label {name:?} has {length} bytes, at most {max} are taken"));
    }
    Ok(())
}

/// The same for all labels of a series, once a scraper has put its own on it: what is taken here is taken everywhere.
pub fn check_labels(labels: &Labels, limits: &Limits) -> Result<()> {
    if labels.len() > limits.labels_max {
        return Err(WireError::TooLarge(format!("{} labels, at most {} are taken", labels.len(), limits.labels_max)));
    }
    labels.iter().try_for_each(|(name, value)| check_label(limits, 0, name, value)).map_err(WireError::TooLarge)
}

/// The beginning of a text that somebody else has written, for a message.
pub(super) fn shown(text: &str) -> &str {
    const CHARACTERS_MAX: usize = 100;
    text.char_indices().nth(CHARACTERS_MAX).map_or(text, |(at, _)| &text[..at])
}
