//! When a group is evaluated: at multiples of its interval, shifted by a hash of its name so that groups spread out.

use br_std::Nanos;
use br_std::hash::hash64;
use std::time::Duration;

/// The beat of one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    interval_nanos: i64,
    /// Below the interval.
    offset_nanos: i64,
}

impl Schedule {
    /// An interval of zero is taken as a millisecond.
    pub fn new(file: &str, group: &str, interval: Duration) -> Self {
        let interval_nanos = i64::try_from(interval.as_nanos()).unwrap_or(i64::MAX).max(1_000_000);
        let hash = hash64(format!("{file}\u{1f}{group}").as_bytes());
        // Whole milliseconds: samples have no finer time.
        let offset_ms = hash % (interval_nanos as u64 / 1_000_000).max(1);
        Self { interval_nanos, offset_nanos: offset_ms as i64 * 1_000_000 }
    }

    pub fn interval(&self) -> Duration {
        Duration::from_nanos(self.interval_nanos as u64)
    }

    /// The last evaluation time that is not after `now`.
    pub fn at_or_before(&self, now: Nanos) -> Nanos {
        let beat = now.0.saturating_sub(self.offset_nanos).div_euclid(self.interval_nanos);
        Nanos(beat.saturating_mul(self.interval_nanos).saturating_add(self.offset_nanos))
    }

    /// The first evaluation time after `now`.
    pub fn after(&self, now: Nanos) -> Nanos {
        Nanos(self.at_or_before(now).0.saturating_add(self.interval_nanos))
    }

    /// How many evaluation times lie between the two, both excluded: those that a slow evaluation missed.
    pub fn missed(&self, last: Nanos, next: Nanos) -> u64 {
        let beats = next.0.saturating_sub(last.0) / self.interval_nanos;
        u64::try_from(beats - 1).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beats_are_regular_and_spread() {
        let minute = Duration::from_mins(1);
        let schedule = Schedule::new("rules.yml", "a", minute);
        let first = schedule.after(Nanos::from_secs(1_000_000));
        assert!(first > Nanos::from_secs(1_000_000) && first <= Nanos::from_secs(1_000_060));
        assert_eq!(schedule.after(first), first + minute);
        assert_eq!(schedule.at_or_before(first), first);
        assert_eq!(schedule.at_or_before(first - Duration::from_nanos(1)), first - minute);
        assert_eq!(schedule.missed(first, first + minute), 0);
        assert_eq!(schedule.missed(first, first + 3 * minute), 2);
        let offsets: std::collections::BTreeSet<i64> =
            (0..100).map(|group| Schedule::new("rules.yml", &group.to_string(), minute).offset_nanos).collect();
        assert!(offsets.len() > 95, "{} different offsets", offsets.len());
    }
}
