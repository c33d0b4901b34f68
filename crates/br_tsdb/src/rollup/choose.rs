//! Which files a query reads: of each day the raw samples, or one rollup of them.

use crate::block::file::BlockFile;
use crate::head::SealNumber;
use crate::options::DAY_SECS;
use br_std::Nanos;
use br_storage::RollupUse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

#[derive(Default)]
pub(super) struct Day {
    pub(super) raw: Vec<Arc<BlockFile>>,
    /// Finest first.
    pub(super) rollups: Vec<Arc<BlockFile>>,
}

pub(super) fn by_day(files: Vec<Arc<BlockFile>>) -> BTreeMap<Nanos, Day> {
    let mut days: BTreeMap<Nanos, Day> = BTreeMap::new();
    for file in files {
        let day = days.entry(file.entry.window.window(Duration::from_secs(u64::from(DAY_SECS)))).or_default();
        if file.rollup.is_raw() { day.raw.push(file) } else { day.rollups.push(file) }
    }
    for day in days.values_mut() {
        day.rollups.sort_by_key(|file| file.rollup.interval_ms);
    }
    days
}

impl Day {
    /// Whether a rollup holds what the raw files do.
    pub(super) fn is_fresh(&self, rollup: &BlockFile) -> bool {
        let sources = &rollup.rollup.sources;
        self.raw.len() == sources.len() && self.raw.iter().all(|file| sources.contains(&file.entry.path))
    }
}

impl Day {
    /// Whether the raw samples that rollups were made of are gone, and what raw files there are came later: of few samples, such
    /// as were accepted just before their day was over. A rollup must not be made anew of these alone.
    pub(super) fn is_bereft(&self) -> bool {
        let first_raw = self.raw.iter().map(|file| file.first_record()).min();
        self.rollups.iter().any(|rollup| first_raw.is_none_or(|first| first > rollup.first_record()))
    }
}

/// Of all files of a tenant those that answer. Samples that are in memory as well are taken raw: one kind at a time.
pub(crate) fn choose(files: Vec<Arc<BlockFile>>, held: &BTreeSet<SealNumber>, rollups: RollupUse) -> Vec<Arc<BlockFile>> {
    if files.iter().all(|file| file.rollup.is_raw()) {
        return files;
    }
    let mut chosen = Vec::with_capacity(files.len());
    for day in by_day(files).into_values() {
        let is_readable = |file: &&Arc<BlockFile>| file.damage().is_none();
        let is_in_memory = day.raw.iter().any(|file| file.is_partly_held(held));
        let is_allowed = |file: &&Arc<BlockFile>| rollups.allows(file.rollup.interval_ms);
        // Where raw samples are there, they answer for a rollup with damage.
        let instead = day.rollups.iter().rev().find(|file| file.is_sound() && is_allowed(file) && day.is_fresh(file));
        let alone = || day.rollups.iter().find(|file| is_readable(file) && rollups != RollupUse::Never);
        // What answers no more is chosen all the same, so that the query finds out and says so.
        let broken = || day.rollups.iter().find(|_| rollups != RollupUse::Never);
        match instead {
            _ if day.is_bereft() => {
                let coarsest = day.rollups.iter().rev().filter(is_readable).find(is_allowed);
                chosen.extend(coarsest.or_else(alone).or_else(broken).cloned());
                chosen.extend(day.raw);
            }
            Some(rollup) if !is_in_memory => chosen.push(rollup.clone()),
            _ => chosen.extend(day.raw),
        }
    }
    // As before: what was stored first comes first.
    chosen.sort_by(|one, other| one.order(other));
    chosen
}
