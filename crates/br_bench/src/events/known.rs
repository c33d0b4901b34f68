//! What the generator knows about what it made: the answers that a question must get.

use br_model::TraceId;
use br_std::Nanos;
use std::collections::BTreeSet;

/// The newest of what was offered, and how many there were.
#[derive(Clone, Debug)]
pub(super) struct Newest<T> {
    kept_max: usize,
    kept: BTreeSet<T>,
    pub(super) count: u64,
}

impl<T: Ord> Newest<T> {
    pub(super) fn new(kept_max: usize) -> Self {
        Self { kept_max, kept: BTreeSet::new(), count: 0 }
    }

    pub(super) fn offer(&mut self, one: T) {
        self.count += 1;
        self.kept.insert(one);
        if self.kept.len() > self.kept_max {
            self.kept.pop_first();
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.kept.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }
}

/// Lines, by their times, of which no two are the same.
pub(super) type Lines = Newest<Nanos>;

/// Traces, by the start of the newest span that may have made them match: what they rank by.
pub(super) type Traces = Newest<(Nanos, TraceId)>;

/// How often each whole number below a bound was seen.
#[derive(Clone, Debug)]
pub(super) struct Counted(Vec<u64>);

impl Counted {
    pub(super) fn below(bound: usize) -> Self {
        Self(vec![0; bound])
    }

    pub(super) fn add(&mut self, number: usize) {
        self.0[number] += 1;
    }

    pub(super) fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    /// As Prometheus and Loki reckon it: between the two that lie around the rank, in proportion. NaN of none.
    pub(super) fn quantile(&self, part: f64) -> f64 {
        let count = self.count();
        if count == 0 {
            return f64::NAN;
        }
        let rank = part * (count - 1) as f64;
        let (below, above) = (self.at(rank.floor() as u64), self.at(rank.ceil() as u64));
        below + (above - below) * rank.fract()
    }

    /// The number with this rank.
    fn at(&self, rank: u64) -> f64 {
        let mut passed = 0;
        let found = self.0.iter().position(|count| {
            passed += count;
            passed > rank
        });
        found.unwrap_or(self.0.len()) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_stay_and_all_are_counted() {
        let mut newest = Newest::new(2);
        for at in [5, 1, 9, 7] {
            newest.offer(Nanos(at));
        }
        assert_eq!((newest.iter().copied().collect::<Vec<_>>(), newest.count), (vec![Nanos(7), Nanos(9)], 4));
    }

    #[test]
    fn quantiles_lie_between_what_was_counted() {
        let mut counted = Counted::below(10);
        for number in [1, 3, 3, 9] {
            counted.add(number);
        }
        assert_eq!((counted.quantile(0.0), counted.quantile(0.5), counted.quantile(1.0)), (1.0, 3.0, 9.0));
        assert!((counted.quantile(0.99) - 8.82).abs() < 1e-9);
        assert!(Counted::below(3).quantile(0.5).is_nan());
    }
}
