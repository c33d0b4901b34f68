//! Many small files of a window into few, and what has outlived its retention.
//!
//! Nothing here decides alone: a plan is carried out by writing new files, the catalog accepts the exchange or refuses it
//! because an input has gone, and only then the store follows.

use crate::file::EventFile;
use crate::object::{store_error, wait};
use crate::promote::narrow;
use crate::sealed::{Origin, Place, remove_files, write_files};
use crate::store::EventStore;
use br_model::TenantId;
use br_std::{Kind, Nanos, Result};
use br_storage::{FileEntry, JournalPosition, Table};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Files of one window that should become fewer.
#[derive(Clone, Debug, PartialEq)]
pub struct Compaction {
    pub tenant: TenantId,
    pub table: Table,
    pub window: Nanos,
    pub inputs: Vec<FileEntry>,
}

impl EventStore {
    /// What is worth compacting now, the window with the most files first.
    pub fn plan_compactions(&self) -> Vec<Compaction> {
        let mut windows: BTreeMap<(TenantId, Table, Nanos), Vec<FileEntry>> = BTreeMap::new();
        // A damaged file stays as it is, for whoever can mend it: the others of its window are compacted without it.
        let options = &self.options;
        let is_small =
            |entry: &FileEntry| entry.size_bytes < options.compact_bytes_max && entry.rows < options.compact_rows_max.div_ceil(2);
        let is_fit = |entry: &FileEntry| is_small(entry) && !self.counters.is_damaged(&entry.path);
        for entry in self.files().into_iter().filter(is_fit) {
            windows.entry((entry.tenant, entry.table, entry.window)).or_default().push(entry);
        }
        let mut plans: Vec<Compaction> = windows
            .into_iter()
            .map(|((tenant, table, window), inputs)| Compaction { tenant, table, window, inputs: self.fitting(inputs) })
            .filter(|plan| plan.inputs.len() >= self.options.compact_files_min.max(2))
            .collect();
        plans.sort_by_key(|plan| std::cmp::Reverse(plan.inputs.len()));
        plans
    }

    /// The smallest files that fit into one.
    fn fitting(&self, mut inputs: Vec<FileEntry>) -> Vec<FileEntry> {
        inputs.sort_by(|one, other| one.rows.cmp(&other.rows).then_with(|| one.path.cmp(&other.path)));
        let mut rows = 0;
        inputs.retain(|entry| {
            rows += entry.rows;
            rows <= self.options.compact_rows_max
        });
        inputs
    }

    /// Writes the inputs' rows as new files of the next level. An input that cannot be read fails the whole: nothing is lost by a merge.
    pub fn compact(&self, plan: &Compaction) -> Result<Vec<FileEntry>> {
        let known: Vec<_> = {
            let state = self.state.read();
            let files = state.files.get(&(plan.tenant, plan.table)).cloned().unwrap_or_default();
            files.into_iter().filter(|file| plan.inputs.iter().any(|input| input.path == file.entry.path)).collect()
        };
        if known.len() != plan.inputs.len() {
            return Err(br_std::Error::new(Kind::NotFound, "an input of the compaction has gone"));
        }
        let mut batches = Vec::new();
        for file in &known {
            let read = file.read_all().inspect_err(|error| {
                file.is_damaged(error);
            })?;
            for batch in &read {
                batches.push(narrow(batch)?);
            }
        }
        let level = known.iter().map(|file| file.entry.level).max().unwrap_or(0).saturating_add(1);
        let made_of = known.iter().map(|file| file.entry.path.clone()).collect();
        let origin = Origin { positions: merged_positions(&known)?, made_of };
        let place = Place { tenant: plan.tenant, table: plan.table, window: plan.window, level, origin };
        let mut files = Vec::new();
        let written = write_files(&place, &batches, &self.options, &self.store, &mut files);
        written.inspect_err(|_| remove_files(&self.store, &files))?;
        Ok(files)
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
