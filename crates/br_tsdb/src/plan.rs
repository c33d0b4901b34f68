//! Which files are merged next: small ones within their window of two hours first, then whole days.

use crate::block::stats::BlockStats;
use crate::options::{DAY_SECS, WINDOW_SECS};
use crate::rollup::RollupOf;
use br_model::TenantId;
use br_std::Nanos;
use br_storage::{FileEntry, Table};
use std::collections::BTreeMap;
use std::time::Duration;

/// This many files of one window and level are merged while the window is still being written. Fewer files cost who asks for many series
/// less, more merges cost who writes: with 4 an hour of minutes is some five files, and each sample is written once more than with 8.
const FAN_IN: usize = 4;
/// Files that one compaction reads.
const INPUTS_MAX: usize = 64;

/// Files to be merged, and what shall come out.
#[derive(Clone, Debug, PartialEq)]
pub struct CompactionJob {
    pub tenant: TenantId,
    pub inputs: Vec<FileEntry>,
    pub window: Nanos,
    pub window_secs: u32,
    pub level: u16,
    /// About how large an output may become before the next one is begun.
    pub output_bytes_max: u64,
    /// What comes out is this rollup; by default raw samples.
    pub rollup: RollupOf,
}

/// The next merge that is worth doing, oldest windows first; `None` when there is nothing to do.
///
/// A window counts as closed when there are samples that are `late` behind its end, those of times to come left aside. Files together larger than `bytes_max` stay as they
/// are. Carrying out a job and planning again comes to an end: each job leaves fewer files of its kind.
pub fn plan_compaction(files: &[FileEntry], bytes_max: u64, late: Duration, now: Nanos) -> Option<CompactionJob> {
    let mut by_tenant: BTreeMap<TenantId, Vec<&FileEntry>> = BTreeMap::new();
    for file in files.iter().filter(|file| file.table == Table::Metrics) {
        by_tenant.entry(file.tenant).or_default().push(file);
    }
    by_tenant.values().find_map(|files| plan_window(files, bytes_max, late, now).or_else(|| plan_day(files, bytes_max)))
}

fn plan_window(files: &[&FileEntry], bytes_max: u64, late: Duration, now: Nanos) -> Option<CompactionJob> {
    let newest = files.iter().map(|file| file.max_time).max()?.min(now);
    let is_closed = |window: Nanos| window + Duration::from_secs(u64::from(WINDOW_SECS)) + late < newest;
    let mut by_window: BTreeMap<Nanos, Vec<&FileEntry>> = BTreeMap::new();
    for file in files.iter().filter(|file| file.window_secs == WINDOW_SECS) {
        by_window.entry(file.window).or_default().push(file);
    }
    by_window.into_iter().find_map(|(window, files)| {
        if is_closed(window)
            && let Some(job) = job_of(files.clone(), 2, window, WINDOW_SECS, bytes_max)
        {
            return Some(job);
        }
        let mut by_level: BTreeMap<u16, Vec<&FileEntry>> = BTreeMap::new();
        for file in files {
            by_level.entry(file.level).or_default().push(file);
        }
        by_level.into_values().find_map(|files| job_of(files, FAN_IN, window, WINDOW_SECS, bytes_max))
    })
}

fn plan_day(files: &[&FileEntry], bytes_max: u64) -> Option<CompactionJob> {
    let day = Duration::from_secs(u64::from(DAY_SECS));
    let newest = files.iter().map(|file| file.window).max()?;
    let mut by_day: BTreeMap<Nanos, Vec<&FileEntry>> = BTreeMap::new();
    for file in files {
        by_day.entry(file.window.window(day)).or_default().push(file);
    }
    by_day.into_iter().filter(|(start, _)| *start + day < newest).find_map(|(start, files)| {
        let (small, whole): (Vec<_>, Vec<_>) = files.iter().copied().partition(|file| file.window_secs < DAY_SECS);
        let size: u64 = files.iter().map(|file| file.size_bytes).sum();
        if small.is_empty() {
            return None;
        }
        let inputs = if size <= bytes_max || whole.is_empty() { files } else { small };
        job_of(inputs, 2, start, DAY_SECS, bytes_max)
    })
}

/// A job over the files that were stored first, as many as the limits allow; `None` when these are too few.
fn job_of(
    mut files: Vec<&FileEntry>,
    count_min: usize,
    window: Nanos,
    window_secs: u32,
    bytes_max: u64,
) -> Option<CompactionJob> {
    let position = |file: &FileEntry| BlockStats::of(file).map_or(0, |stats| stats.from_position);
    files.sort_by(|one, other| (position(one), &one.path).cmp(&(position(other), &other.path)));
    let mut bytes = 0u64;
    files.retain(|file| file.size_bytes <= bytes_max / 2 || window_secs == DAY_SECS);
    let within = |file: &&&FileEntry| {
        bytes = bytes.saturating_add(file.size_bytes);
        bytes <= bytes_max.saturating_mul(if window_secs == DAY_SECS { 16 } else { 1 })
    };
    let inputs: Vec<FileEntry> = files.iter().take_while(within).take(INPUTS_MAX).map(|file| (*file).clone()).collect();
    if inputs.len() < count_min {
        return None;
    }
    let level = inputs.iter().map(|file| file.level).max().unwrap_or(0).saturating_add(1);
    let tenant = inputs.first()?.tenant;
    Some(CompactionJob { tenant, inputs, window, window_secs, level, output_bytes_max: bytes_max, rollup: RollupOf::default() })
}
