//! Carrying erasures out: memory loses what is meant at once, files are written anew one by one.

use crate::compact::Compaction;
use crate::erasure::{Erased, Erasure};
use crate::file::EventFile;
use crate::schema::damaged;
use crate::store::EventStore;
use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use br_model::TenantId;
use br_std::{Error, Result};
use br_storage::{JournalPosition, Table};
use std::sync::Arc;

/// Erasures of one tenant that wait for their files.
const ERASURES_MAX: usize = 1000;

/// What an erasure still has to be carried out on.
#[derive(Clone, Debug, PartialEq)]
pub enum Remains {
    /// This file holds something of it: [`EventStore::compact`] writes it anew.
    File(Compaction),
    /// Heads that were closed before it are still being written.
    Memory,
    /// Files that cannot be read may hold something of it.
    Damaged(Vec<String>),
    Nothing,
}

impl EventStore {
    /// An error when so many erasures wait for their files that another has to wait too.
    pub fn check_erasure(&self, tenant: TenantId) -> Result<()> {
        let waiting = self.state.read().erased.iter().filter(|erased| erased.tenant == tenant).count();
        if waiting < ERASURES_MAX {
            return Ok(());
        }
        Err(Error::over_limit(format!("{waiting} erasures wait to be carried out on files: try again later")))
    }

    /// Erases what was appended before this record of the journal. Called as [`Self::append_logs`] is, by the same thread.
    pub fn erase(&self, tenant: TenantId, position: JournalPosition, erasure: Erasure) -> Result<()> {
        if !self.is_sealed(position) {
            self.erase_in_memory(tenant, &erasure)?;
        }
        self.restore_erasure(Erased { tenant, position, erasure: Arc::new(erasure) });
        Ok(())
    }

    /// Takes back what a former life of the store had erased and not carried out.
    pub fn restore_erasure(&self, erased: Erased) {
        let mut state = self.state.write();
        if state.erased.iter().any(|known| known.tenant == erased.tenant && known.position == erased.position) {
            return;
        }
        for ((tenant, table), files) in &state.files {
            if *tenant == erased.tenant && erased.erasure.concerns(*table) {
                for file in files {
                    file.hide(&erased);
                }
            }
        }
        state.erased.push(erased);
    }

    /// Erasures that are not carried out yet: they have to be restored after a restart.
    pub fn erasures(&self) -> Vec<Erased> {
        self.state.read().erased.clone()
    }

    /// An erasure of which nothing remains.
    pub fn forget_erasure(&self, tenant: TenantId, position: JournalPosition) {
        self.state.write().erased.retain(|erased| erased.tenant != tenant || erased.position != position);
    }

    /// What an erasure has to be carried out on next. Reads of files what it needs to tell.
    pub fn remains(&self, erased: &Erased) -> Result<Remains> {
        let (is_in_memory, files) = {
            let state = self.state.read();
            // Memory is asked first: what it publishes meanwhile is then found among the files.
            let is_in_memory = state.sealed.iter().any(|sealed| sealed.position() < erased.position);
            let mine = state.files.iter().filter(|((tenant, _), _)| *tenant == erased.tenant);
            (is_in_memory, mine.flat_map(|(_, files)| files.iter().cloned()).collect::<Vec<Arc<EventFile>>>())
        };
        let mut unread = Vec::new();
        for file in files.into_iter().filter(|file| file.hides_by(erased.position)) {
            let entry = &file.entry;
            match file.holds_erased(erased.position) {
                Ok(false) => file.is_clean_of(erased.position),
                Ok(true) => {
                    let (tenant, table, window) = (entry.tenant, entry.table, entry.window);
                    return Ok(Remains::File(Compaction { tenant, table, window, inputs: vec![entry.clone()] }));
                }
                Err(error) if file.is_damaged(&error) => unread.push(entry.path.clone()),
                Err(error) => return Err(error),
            }
        }
        Ok(match (is_in_memory, unread.is_empty()) {
            (true, _) => Remains::Memory,
            (false, false) => Remains::Damaged(unread),
            (false, true) => Remains::Nothing,
        })
    }

    /// Only who appends and seals calls this: what is open or closed stays as it is but for what is published meanwhile.
    fn erase_in_memory(&self, tenant: TenantId, erasure: &Erasure) -> Result<()> {
        let (heads, sealed) = {
            let state = self.state.read();
            let mine = |key: &(TenantId, Table, br_std::Nanos)| key.0 == tenant && erasure.concerns(key.1);
            let heads: Vec<_> = state.heads.iter().filter(|(key, _)| mine(key)).map(|(key, head)| (*key, head.clone())).collect();
            (heads, state.sealed.clone())
        };
        let mut kept = Vec::with_capacity(heads.len());
        for (key, head) in heads {
            let of_head = head.iter().map(|batch| without(batch, key.1, erasure));
            kept.push((key, of_head.collect::<Result<Vec<_>>>()?));
        }
        for sealed in sealed {
            sealed.replace(|part_tenant, table, batch| {
                if part_tenant == tenant && erasure.concerns(table) { without(batch, table, erasure) } else { Ok(batch.clone()) }
            })?;
        }
        let mut state = self.state.write();
        for (key, head) in kept {
            let head: Vec<RecordBatch> = head.into_iter().filter(|batch| batch.num_rows() > 0).collect();
            if head.is_empty() {
                state.heads.remove(&key);
            } else {
                state.heads.insert(key, head);
            }
        }
        state.head_bytes = state.heads.values().flatten().map(RecordBatch::get_array_memory_size).sum();
        Ok(())
    }
}

/// A batch without what is meant.
pub(crate) fn without(batch: &RecordBatch, table: Table, erasure: &Erasure) -> Result<RecordBatch> {
    let rows = erasure.rows(table, batch)?;
    if rows.is_empty() {
        return Ok(batch.clone());
    }
    let mut is_kept = vec![true; batch.num_rows()];
    for row in rows {
        is_kept[row as usize] = false;
    }
    filter_record_batch(batch, &BooleanArray::from(is_kept)).map_err(damaged)
}
