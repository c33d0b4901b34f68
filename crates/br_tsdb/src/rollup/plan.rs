//! Making rollups of days that are old enough.

use super::choose::{Day, by_day};
use super::{RollupLevel, RollupOf};
use crate::block::stats::BlockStats;
use crate::options::DAY_SECS;
use crate::plan::CompactionJob;
use crate::store::Tsdb;
use br_model::TenantId;
use br_std::Nanos;
use br_storage::FileEntry;
use std::time::Duration;

impl Tsdb {
    /// From now on days are rolled up as these levels say; see [`super::check_levels`].
    pub fn set_rollups(&self, levels: Vec<RollupLevel>) {
        *self.shared.rollup_levels.write() = levels;
    }

    pub fn has_rollups(&self) -> bool {
        !self.shared.rollup_levels.read().is_empty()
    }

    /// How long a file is kept; `None` for raw samples. A rollup of a level that is no more goes when the raw samples would.
    pub fn rollup_keep(&self, file: &FileEntry) -> Option<Duration> {
        let interval_ms = BlockStats::of(file).map_or(0, |stats| stats.rollup().interval_ms);
        let levels = self.shared.rollup_levels.read();
        levels.iter().find(|level| level.interval.as_millis() == interval_ms.unsigned_abs().into()).map(|level| level.keep)
    }

    /// The next rollup that is due, and the files that it takes the place of: older ones of the same day. [`Tsdb::compact`] makes it.
    pub fn plan_rollup(&self, now: Nanos) -> Option<(CompactionJob, Vec<FileEntry>)> {
        let levels = self.shared.rollup_levels.read().clone();
        if levels.is_empty() {
            return None;
        }
        for tenant in self.shared.files.tenants() {
            for (start, day) in by_day(self.shared.files.of_tenant(tenant)) {
                let end = start + Duration::from_secs(u64::from(DAY_SECS));
                let mut due = levels.iter().filter(|level| end + level.after <= now && now < end + level.keep);
                if let Some(planned) = due.find_map(|level| plan_level(tenant, start, &day, *level)) {
                    return Some(planned);
                }
            }
        }
        None
    }
}

fn plan_level(tenant: TenantId, start: Nanos, day: &Day, level: RollupLevel) -> Option<(CompactionJob, Vec<FileEntry>)> {
    let interval_ms = i64::try_from(level.interval.as_millis()).ok()?;
    let (existing, others): (Vec<_>, Vec<_>) = day.rollups.iter().partition(|file| file.rollup.interval_ms == interval_ms);
    // Raw files of a day first become files of a day: each rollup is made once.
    let is_settled = day.raw.iter().all(|file| file.entry.window_secs == DAY_SECS && file.is_sound());
    let (inputs, sources) = if day.is_bereft() {
        let finer = others.iter().rev().find(|file| file.rollup.interval_ms < interval_ms && file.is_sound());
        if !existing.is_empty() {
            return None;
        }
        (vec![finer?.entry.clone()], Vec::new())
    } else if is_settled && !existing.iter().any(|file| day.is_fresh(file)) {
        let inputs: Vec<FileEntry> = day.raw.iter().map(|file| file.entry.clone()).collect();
        let sources = inputs.iter().map(|file| file.path.clone()).collect();
        (inputs, sources)
    } else {
        return None;
    };
    let rollup = RollupOf { interval_ms, sources, has_histograms: false };
    let job =
        CompactionJob { tenant, inputs, window: start, window_secs: DAY_SECS, level: 1, output_bytes_max: u64::MAX, rollup };
    Some((job, existing.iter().map(|file| file.entry.clone()).collect()))
}
