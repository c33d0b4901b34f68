//! From which time on a tenant's samples may have changed since some moment: what keeps remembered answers right.
//!
//! Steady ingest changes what is newest, of all metrics. What comes late is told apart by metric, in groups of them, so that one
//! late sample does not cost the answers about all others.

use br_model::MetricBatch;
use br_std::Nanos;
use std::collections::{BTreeMap, VecDeque};

/// Times are rounded down to this, so that steady ingest adds an entry every few seconds only.
const GRAIN_MS: i64 = 5000;
/// Hours of steady ingest. What is older is known less exactly: as changed from an earlier time on.
const ENTRIES_MAX: usize = 4096;
/// The same of one group.
const GROUP_ENTRIES_MAX: usize = 256;
/// A sample that is so far behind the clock is late.
const LATE_MS: i64 = 120_000;
const GROUPS: usize = 64;

/// Metrics that are not told apart.
pub(crate) type Group = u8;

/// The group of a metric; series without a name are those of an empty one.
pub(crate) fn group_of(metric: &str) -> Group {
    (br_std::hash::hash128(metric.as_bytes()) % GROUPS as u128) as Group
}

/// From which times on samples change.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Change {
    /// Of any metric; [`NEVER`] where none does.
    pub(crate) from_ms: i64,
    by_group: [i64; GROUPS],
}

const NEVER: i64 = i64::MAX;

impl Default for Change {
    fn default() -> Self {
        Self::from(NEVER)
    }
}

impl Change {
    pub(crate) fn from(from_ms: i64) -> Self {
        Self { from_ms, by_group: [NEVER; GROUPS] }
    }

    /// What taking in a batch changes.
    pub(crate) fn of_batch(batch: &MetricBatch, now: Nanos) -> Self {
        let mut change = Self::default();
        for series in &batch.series {
            let mut group = None;
            for sample in &series.samples {
                change.sample(sample.timestamp_ms, now, || *group.get_or_insert_with(|| group_of(series.labels.metric_name())));
            }
        }
        change
    }

    /// The same of samples by themselves, each with the group of its metric.
    pub(crate) fn of_samples<T>(samples: &[T], now: Nanos, time_ms: impl Fn(&T) -> i64, group: impl Fn(&T) -> Group) -> Self {
        let mut change = Self::default();
        for sample in samples {
            change.sample(time_ms(sample), now, || group(sample));
        }
        change
    }

    fn sample(&mut self, time_ms: i64, now: Nanos, group: impl FnOnce() -> Group) {
        let is_late = time_ms < now.as_millis().saturating_sub(LATE_MS);
        let of_group = is_late.then(|| self.by_group.get_mut(usize::from(group()))).flatten();
        let from_ms = of_group.unwrap_or(&mut self.from_ms);
        *from_ms = time_ms.min(*from_ms);
    }

    fn is_nothing(&self) -> bool {
        self.from_ms == NEVER && self.by_group.iter().all(|from_ms| *from_ms == NEVER)
    }
}

#[derive(Default)]
pub(crate) struct ChangeLog {
    version: u64,
    of_all: Entries,
    by_group: BTreeMap<Group, Entries>,
}

impl ChangeLog {
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    pub(crate) fn record(&mut self, change: &Change) {
        if change.is_nothing() {
            return;
        }
        self.version += 1;
        if change.from_ms != NEVER {
            self.of_all.record(self.version, change.from_ms, ENTRIES_MAX);
        }
        for (group, from_ms) in (0..).zip(&change.by_group).filter(|(_, from_ms)| **from_ms != NEVER) {
            self.by_group.entry(group).or_default().record(self.version, *from_ms, GROUP_ENTRIES_MAX);
        }
    }

    /// The earliest time that may have changed after a version, of some groups or of all; `i64::MAX` when nothing did.
    pub(crate) fn since(&self, version: u64, groups: Option<&[Group]>) -> i64 {
        let is_asked = |group: &Group| groups.is_none_or(|groups| groups.contains(group));
        let of_groups = self.by_group.iter().filter(|(group, _)| is_asked(group)).map(|(_, entries)| entries);
        of_groups.chain([&self.of_all]).map(|entries| entries.since(version)).min().unwrap_or(i64::MAX)
    }
}

#[derive(Default)]
struct Entries {
    /// Versions with the earliest time that changed with them or after; both ascend.
    entries: VecDeque<(u64, i64)>,
}

impl Entries {
    /// Samples at this time and later may have changed.
    fn record(&mut self, version: u64, from_ms: i64, count_max: usize) {
        let from_ms = from_ms.div_euclid(GRAIN_MS).saturating_mul(GRAIN_MS);
        while self.entries.back().is_some_and(|(_, later_ms)| *later_ms >= from_ms) {
            self.entries.pop_back();
        }
        self.entries.push_back((version, from_ms));
        if self.entries.len() > count_max
            && let Some((_, earlier_ms)) = self.entries.pop_front()
            && let Some(first) = self.entries.front_mut()
        {
            first.1 = earlier_ms;
        }
    }

    fn since(&self, version: u64) -> i64 {
        let at = self.entries.partition_point(|(known, _)| *known <= version);
        self.entries.get(at).map_or(i64::MAX, |(_, from_ms)| *from_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const METRICS: [&str; 4] = ["a", "b", "c", ""];

    proptest! {
        #[test]
        fn never_later_than_what_changed(
            changes in proptest::collection::vec((0i64..100_000_000, 0..METRICS.len()), 1..60),
            since in 0usize..60,
            asked in proptest::collection::vec(0..METRICS.len(), 1..4),
        ) {
            let mut log = ChangeLog::default();
            let now = Nanos::from_millis(50_000_000);
            for (time, metric) in &changes {
                log.record(&Change::of_samples(&[*time], now, |time| *time, |_| group_of(METRICS[*metric])));
            }
            let groups: Vec<Group> = asked.iter().map(|metric| group_of(METRICS[*metric])).collect();
            let after = || changes.iter().skip(since);
            let is_asked = |metric: usize| groups.contains(&group_of(METRICS[metric]));
            let least = after().filter(|(_, metric)| is_asked(*metric)).map(|(time, _)| *time).min();
            let least_of_all = after().map(|(time, _)| *time).min();
            let told = log.since(since as u64, Some(&groups));
            prop_assert!(told <= least.unwrap_or(i64::MAX));
            // What is not late counts for all.
            let unrelated = after().map(|(time, _)| *time).filter(|time| *time >= 50_000_000 - LATE_MS).min();
            prop_assert!(told > least.into_iter().chain(unrelated).min().unwrap_or(i64::MAX).saturating_sub(GRAIN_MS));
            let told = log.since(since as u64, None);
            prop_assert!(told <= least_of_all.unwrap_or(i64::MAX) && told > least_of_all.unwrap_or(i64::MAX) - GRAIN_MS);
        }
    }

    #[test]
    fn forgets_exactness_and_no_change() {
        let mut log = ChangeLog::default();
        (0..10_000).for_each(|at| log.record(&Change::from(at * GRAIN_MS)));
        assert_eq!(log.of_all.entries.len(), ENTRIES_MAX);
        assert_eq!((log.since(0, None), log.since(5000, None), log.since(9990, Some(&[]))), (0, 0, 9990 * GRAIN_MS));
        log.record(&Change::default());
        assert_eq!(log.version(), 10_000, "nothing is no change");
    }
}
