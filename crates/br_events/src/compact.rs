//! Many small files of a window into few, and what has outlived its retention.
//!
//! Nothing here decides alone: a plan is carried out by writing new files, the catalog accepts the exchange or refuses it
//! because an input has gone, and only then the store follows.

use crate::file::EventFile;
use crate::merge::Merge;
use crate::object::{store_error, wait};
use crate::promote::Promotion;
use crate::sealed::{Origin, Place, remove_files, write_files};
use crate::store::EventStore;
use br_model::TenantId;
use br_std::{Kind, Nanos, Result};
use br_storage::{FileEntry, JournalPosition, Table};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Files of one window that should become fewer.
#[derive(Clone, Debug, PartialEq)]
pub struct Compaction {
    pub tenant: TenantId,
    pub table: Table,
    pub window: Nanos,
    pub inputs: Vec<FileEntry>,
}

/// A window fills until so long after its end.
const WINDOW_GRACE: Duration = Duration::from_mins(10);
/// A file is compacted with smaller ones that have together at least its size over this: so each byte is rewritten a few times only.
const SIZE_RATIO: u64 = 2;

impl EventStore {
    /// What is worth compacting now, the window with the most files first.
    pub fn plan_compactions(&self, now: Nanos) -> Vec<Compaction> {
        let mut windows: BTreeMap<(TenantId, Table, Nanos), Vec<FileEntry>> = BTreeMap::new();
        // A damaged file stays as it is, for whoever can mend it: the others of its window are compacted without it.
        let is_fit =
            |entry: &FileEntry| entry.size_bytes < self.options.compact_bytes_max && !self.counters.is_damaged(&entry.path);
        for entry in self.files().into_iter().filter(is_fit) {
            windows.entry((entry.tenant, entry.table, entry.window)).or_default().push(entry);
        }
        let mut plans: Vec<Compaction> = Vec::new();
        for ((tenant, table, window), files) in windows {
            let is_over = window + self.options.window + WINDOW_GRACE < now;
            let files_min = if is_over { 2 } else { self.options.compact_files_min.max(2) };
            let inputs = self.fitting(files);
            if inputs.len() >= files_min {
                plans.push(Compaction { tenant, table, window, inputs });
            }
        }
        plans.sort_by_key(|plan| std::cmp::Reverse(plan.inputs.len()));
        plans
    }

    /// The smallest files, and larger ones as long as the smaller ones are worth it.
    fn fitting(&self, mut files: Vec<FileEntry>) -> Vec<FileEntry> {
        files.sort_by(|one, other| one.size_bytes.cmp(&other.size_bytes).then_with(|| one.path.cmp(&other.path)));
        let mut bytes = 0;
        let mut fits = |(at, entry): (usize, &FileEntry)| {
            let is_worth = at == 0 || entry.size_bytes <= bytes * SIZE_RATIO;
            bytes += entry.size_bytes;
            is_worth && at < self.options.compact_files_max
        };
        let count = files.iter().enumerate().take_while(|found| fits(*found)).count();
        files.truncate(count);
        files
    }

    /// Writes the inputs' rows as new files of the next level. An input that cannot be read fails the whole: nothing is lost by a merge.
    pub fn compact(&self, plan: &Compaction) -> Result<Vec<FileEntry>> {
        let (known, erased_to) = {
            let state = self.state.read();
            // Each of the files has these among what it hides.
            let erased = state.erased.iter().filter(|erased| erased.tenant == plan.tenant);
            let erased_to = erased.map(|erased| erased.position).max().unwrap_or_default();
            let files = state.files.get(&(plan.tenant, plan.table)).cloned().unwrap_or_default();
            let is_input = |file: &Arc<EventFile>| plan.inputs.iter().any(|input| input.path == file.entry.path);
            (files.into_iter().filter(is_input).collect::<Vec<_>>(), erased_to)
        };
        if known.len() != plan.inputs.len() {
            return Err(br_std::Error::new(Kind::NotFound, "an input of the compaction has gone"));
        }
        let level = known.iter().map(|file| file.entry.level).max().unwrap_or(0).saturating_add(1);
        let made_of = known.iter().map(|file| file.entry.path.clone()).collect();
        let erased_to = known.iter().map(|file| file.reach().erased_to).min().unwrap_or_default().max(erased_to);
        let origin = Origin { positions: merged_positions(&known)?, made_of, erased_to };
        let place = Place { tenant: plan.tenant, table: plan.table, window: plan.window, level, origin };
        let rows = known.iter().map(|file| file.entry.rows).sum();
        let keys = known.iter().map(|file| file.stats.keys.as_slice());
        let promotion = Promotion::choose_of_files(keys, rows, self.options.promoted_columns_max);
        let mut merge = Merge::new(plan.table, &known, &promotion)?;
        let mut files = Vec::new();
        let written = write_files(&place, &promotion, || merge.next_page(), &self.options, &self.store, &mut files);
        written.inspect_err(|_| remove_files(&self.store, &files))?;
        Ok(files)
    }

    /// A file to be written anew without what is past its time; [`Self::compact`] does it. Reads of files what it needs to tell.
    pub fn plan_rewrite(&self) -> Result<Option<Compaction>> {
        let files: Vec<Arc<EventFile>> = self.state.read().files.values().flatten().cloned().collect();
        for file in files.into_iter().filter(|file| !self.counters.is_damaged(&file.entry.path)) {
            let entry = &file.entry;
            match file.wants_rewrite() {
                Ok(false) => {}
                Ok(true) => {
                    let (tenant, table, window) = (entry.tenant, entry.table, entry.window);
                    return Ok(Some(Compaction { tenant, table, window, inputs: vec![entry.clone()] }));
                }
                Err(error) if file.is_damaged(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Whether all of a file is past its time. `cutoff` is for the files of a store without rules.
    pub fn is_over(&self, entry: &FileEntry, cutoff: Nanos) -> Result<bool> {
        let Some(rules) = &self.options.retention else { return Ok(entry.max_time < cutoff) };
        let last = entry.max_time.0;
        if last >= rules.first_cutoff(entry.table) || last < rules.last_cutoff(entry.table) {
            return Ok(last < rules.last_cutoff(entry.table));
        }
        let known = self
            .state
            .read()
            .files
            .get(&(entry.tenant, entry.table))
            .and_then(|files| files.iter().find(|file| file.entry.path == entry.path).cloned());
        let Some(file) = known else { return Ok(false) };
        match file.hides_all() {
            Err(error) if file.is_damaged(&error) => Ok(false),
            outcome => outcome,
        }
    }

    /// Follows the catalog after an exchange: `removed` (by path) are gone, `added` count. Doing it twice changes nothing more.
    pub fn exchange(&self, removed: &[FileEntry], added: Vec<FileEntry>) {
        let mut state = self.state.write();
        for entry in removed {
            if let Some(files) = state.files.get_mut(&(entry.tenant, entry.table)) {
                files.retain(|file| file.entry.path != entry.path);
            }
        }
        self.add_files(&mut state, added);
    }

    /// The files whose last record is older than `before`, for one tenant and table.
    pub fn expired(&self, tenant: TenantId, table: Table, before: Nanos) -> Vec<FileEntry> {
        let mine = |entry: &FileEntry| entry.tenant == tenant && entry.table == table && entry.max_time < before;
        self.files().into_iter().filter(mine).collect()
    }

    /// Deletes the objects of files that no longer count. One that is gone already is fine.
    pub fn delete_objects(&self, files: &[FileEntry]) -> Result<()> {
        for entry in files {
            match wait(self.store.delete(&Path::from(entry.path.as_str()))) {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(store_error(error).context(&entry.path)),
            }
        }
        Ok(())
    }
}

/// From the first record of the journal that may be in one of the files to the last; `None` when one of them does not say.
fn merged_positions(files: &[Arc<EventFile>]) -> Result<Option<(JournalPosition, JournalPosition)>> {
    let mut merged: Option<(JournalPosition, JournalPosition)> = None;
    for file in files {
        let Some((first, last)) = file.tail()?.positions() else { return Ok(None) };
        merged = Some(merged.map_or((first, last), |(from, to)| (from.min(first), to.max(last))));
    }
    Ok(merged)
}
