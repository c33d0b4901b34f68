//! Rollups: days of old samples again, thinned to one interval, in files of their own that are kept for longer.

mod choose;
mod plan;
pub(crate) mod thin;

pub(crate) use choose::choose;

use br_std::{Error, Result};
use std::time::Duration;

/// Samples of one interval are made of days that are old enough, and kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RollupLevel {
    pub interval: Duration,
    /// Age of a day from which on it has this rollup.
    pub after: Duration,
    pub keep: Duration,
}

/// What files of a rollup say of themselves; for raw samples the interval is 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RollupOf {
    pub interval_ms: i64,
    /// Paths of the files with raw samples that it was made of: of others it knows nothing.
    pub sources: Vec<String>,
    /// Native histograms are in it, of which sums are not kept.
    pub has_histograms: bool,
}

impl RollupOf {
    pub(crate) fn is_raw(&self) -> bool {
        self.interval_ms == 0
    }
}

const DAY: Duration = Duration::from_hours(24);
/// Intervals that a store may have.
const LEVELS_MAX: usize = 4;

/// Refuses levels that cannot be made of each other.
pub fn check_levels(levels: &[RollupLevel]) -> Result<()> {
    if levels.len() > LEVELS_MAX {
        return Err(Error::fix_request(format!("at most {LEVELS_MAX} rollups")));
    }
    let mut before = Duration::from_millis(1);
    for level in levels {
        let (interval, ms) = (level.interval, level.interval.as_millis());
        if interval <= before || !DAY.as_millis().is_multiple_of(ms) || !ms.is_multiple_of(before.as_millis()) {
            return Err(Error::fix_request(format!(
                "rollup of {interval:?}: intervals go up, each a multiple of the one before and a part of a day"
            )));
        }
        if level.keep <= level.after {
            return Err(Error::fix_request(format!("rollup of {interval:?}: it is kept for no longer than until it is made")));
        }
        before = interval;
    }
    Ok(())
}
