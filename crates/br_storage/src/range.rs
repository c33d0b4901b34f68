//! Ranges of time for events.

use br_std::Nanos;

/// `from` is included, `to` is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeRange {
    pub from: Nanos,
    pub to: Nanos,
}

impl TimeRange {
    pub const ALL: Self = Self { from: Nanos::MIN, to: Nanos::MAX };

    pub fn new(from: Nanos, to: Nanos) -> Self {
        Self { from, to }
    }

    pub fn contains(self, time: Nanos) -> bool {
        self.from <= time && time < self.to
    }

    /// Whether a file whose times lie between `min` and `max`, both included, can hold something of this range.
    pub fn overlaps(self, min: Nanos, max: Nanos) -> bool {
        min < self.to && self.from <= max
    }
}

/// In which order rows come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// Oldest first.
    Forward,
    /// Newest first.
    #[default]
    Backward,
}
