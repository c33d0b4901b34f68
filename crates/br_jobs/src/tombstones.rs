//! Deletions: kept in the catalog once the journal may forget them, and carried out on files.

use crate::flush::{Flusher, blocking};
use br_catalog::{Catalog, Lease};
use br_model::TenantId;
use br_std::{Error, Result};
use br_storage::{FileEntry, JournalPosition};
use br_tsdb::{Deletion, Tombstone, Tsdb};
use std::collections::BTreeMap;
use std::sync::Arc;

const PREFIX: &str = "metrics/tombstone/";
/// More than the stores of all tenants may have.
const KEYS_MAX: u32 = 1_000_000;

fn key(tombstone: &Tombstone) -> String {
    format!("{PREFIX}{}/{:020}", tombstone.tenant.0, tombstone.position.0)
}

/// Gives the store the deletions that the catalog keeps. The journal brings those that came later.
pub async fn restore(catalog: &Catalog, metrics: &Tsdb) -> Result<()> {
    for (key, value) in catalog.states(PREFIX, KEYS_MAX).await? {
        let damaged = || Error::corrupt(format!("the catalog's state {key:?} is no deletion"));
        let place = key.strip_prefix(PREFIX).and_then(|place| place.split_once('/')).ok_or_else(damaged)?;
        let tenant = TenantId(place.0.parse().map_err(|_| damaged())?);
        let position = JournalPosition(place.1.parse().map_err(|_| damaged())?);
        let deletion = Deletion::decode(&value).map_err(|error| error.context(&key))?;
        metrics.restore_tombstone(Tombstone { tenant, position, deletion });
    }
    Ok(())
}

impl Flusher {
    /// Makes the catalog's list that of the store. Before the store's position is committed: behind that the journal is not
    /// read again.
    pub(crate) async fn save_tombstones(&self) -> Result<()> {
        let catalog = &self.parts.catalog;
        let now: BTreeMap<String, Arc<Tombstone>> =
            self.parts.metrics.tombstones().into_iter().map(|tombstone| (key(&tombstone), tombstone)).collect();
        let saved = catalog.states(PREFIX, KEYS_MAX).await?;
        for (key, _) in saved.iter().filter(|(key, _)| !now.contains_key(key)) {
            catalog.remove_state(key).await?;
        }
        for (key, tombstone) in now.iter().filter(|(key, _)| !saved.iter().any(|(saved, _)| saved == *key)) {
            catalog.put_state(key, &tombstone.deletion.encode()).await?;
        }
        Ok(())
    }

    /// Writes a metric file anew without what was deleted or is past its time; false when there is none that needs it.
    pub(crate) async fn rewrite_metrics(&self) -> Result<bool> {
        let lease = self.take_turn().await?;
        let store = self.parts.metrics.clone();
        let planned = blocking(move || {
            let Some(job) = store.plan_rewrite()? else { return Ok(None) };
            let made = store.compact(&job)?;
            Ok::<_, Error>(Some((job.inputs, made)))
        });
        let Some((inputs, made)) = planned.await?? else { return Ok(false) };
        let made = self.commit_compaction(&lease, &inputs, &made).await?;
        self.parts.metrics.replace(&inputs, &made);
        let bytes = |files: &[FileEntry]| files.iter().map(|file| file.size_bytes).sum::<u64>();
        tracing::info!(event = "FileRewritten", bytes_before = bytes(&inputs), bytes_after = bytes(&made));
        Ok(true)
    }

    /// Makes one rollup; false when none is due.
    pub(crate) async fn roll_up_metrics(&self) -> Result<bool> {
        let lease = self.take_turn().await?;
        let (store, now) = (self.parts.metrics.clone(), self.parts.clock.now());
        let Some((job, replaced)) = store.plan_rollup(now) else { return Ok(false) };
        let made = blocking(move || store.compact(&job)).await??;
        let made = self.commit_compaction(&lease, &replaced, &made).await?;
        self.parts.metrics.replace(&replaced, &made);
        Ok(true)
    }

    /// Carries out all deletions that wait, heads included; says how many files were written anew.
    pub async fn clean_tombstones(self: &Arc<Self>) -> Result<u64> {
        self.flush().await?;
        let mut rewritten = 0;
        while self.rewrite_metrics().await? {
            rewritten += 1;
        }
        Ok(rewritten)
    }

    pub(crate) async fn commit_compaction(
        &self,
        lease: &Lease,
        inputs: &[FileEntry],
        made: &[FileEntry],
    ) -> Result<Vec<FileEntry>> {
        let parts = &self.parts;
        let ids: Vec<i64> = inputs.iter().map(|file| file.id).collect();
        let committed = parts.catalog.commit_compaction(lease, &ids, made, parts.clock.now()).await;
        if committed.is_err() {
            self.remove_unknown(made.iter().map(|file| file.path.clone()).collect()).await;
        }
        committed
    }
}
