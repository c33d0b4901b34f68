//! From which time on a tenant's samples may have changed since some moment: what keeps remembered answers right.

use std::collections::VecDeque;

/// Times are rounded down to this, so that steady ingest adds an entry every few seconds only.
const GRAIN_MS: i64 = 5000;
/// Hours of steady ingest. What is older is known less exactly: as changed from an earlier time on.
const ENTRIES_MAX: usize = 4096;

#[derive(Default)]
pub(crate) struct ChangeLog {
    version: u64,
    /// Versions with the earliest time that changed with them or after; both ascend.
    entries: VecDeque<(u64, i64)>,
}

impl ChangeLog {
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// Samples at this time and later may have changed.
    pub(crate) fn record(&mut self, from_ms: i64) {
        self.version += 1;
        let from_ms = from_ms.div_euclid(GRAIN_MS).saturating_mul(GRAIN_MS);
        while self.entries.back().is_some_and(|(_, later_ms)| *later_ms >= from_ms) {
            self.entries.pop_back();
        }
        self.entries.push_back((self.version, from_ms));
        if self.entries.len() > ENTRIES_MAX
            && let Some((_, earlier_ms)) = self.entries.pop_front()
            && let Some(first) = self.entries.front_mut()
        {
            first.1 = earlier_ms;
        }
    }

    /// The earliest time that may have changed after a version; `i64::MAX` when nothing did.
    pub(crate) fn since(&self, version: u64) -> i64 {
        let at = self.entries.partition_point(|(known, _)| *known <= version);
        self.entries.get(at).map_or(i64::MAX, |(_, from_ms)| *from_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn never_later_than_what_changed(times in proptest::collection::vec(0i64..100_000_000, 1..60), since in 0usize..60) {
            let mut log = ChangeLog::default();
            for time in &times {
                log.record(*time);
            }
            let least = times.iter().skip(since).min().copied();
            let told = log.since(since as u64);
            if let Some(least) = least {
                prop_assert!(told <= least && told > least - GRAIN_MS);
            } else {
                prop_assert_eq!(told, i64::MAX);
            }
        }
    }

    #[test]
    fn forgets_exactness_and_no_change() {
        let mut log = ChangeLog::default();
        (0..10_000).for_each(|at| log.record(at * GRAIN_MS));
        assert_eq!(log.entries.len(), ENTRIES_MAX);
        assert_eq!((log.since(0), log.since(5000), log.since(9990)), (0, 0, 9990 * GRAIN_MS));
    }
}
