//! Deletions: kept in the catalog once the journal may forget them, and carried out on files.

use crate::flush::{Flusher, Pace, aside, to_the_end};
use br_catalog::Catalog;
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
        let _tending = self.tend().await;
        let store = self.parts.metrics.clone();
        let planned = aside(Pace::GivesWay, move || {
            let Some(job) = store.plan_rewrite()? else { return Ok(None) };
            let made = store.compact(&job)?;
            Ok::<_, Error>(Some((job.inputs, made)))
        });
        let Some((inputs, made)) = planned.await?? else { return Ok(false) };
        self.exchange(&inputs, &made, |made| self.parts.metrics.replace(&inputs, &made)).await?;
        let bytes = |files: &[FileEntry]| files.iter().map(|file| file.size_bytes).sum::<u64>();
        tracing::info!(event = "FileRewritten", bytes_before = bytes(&inputs), bytes_after = bytes(&made));
        Ok(true)
    }

    /// Makes one rollup; false when none is due.
    pub(crate) async fn roll_up_metrics(&self) -> Result<bool> {
        let _tending = self.tend().await;
        let (store, now) = (self.parts.metrics.clone(), self.parts.clock.now());
        let Some((job, replaced)) = store.plan_rollup(now) else { return Ok(false) };
        let made = aside(Pace::GivesWay, move || store.compact(&job)).await??;
        self.exchange(&replaced, &made, |made| self.parts.metrics.replace(&replaced, &made)).await?;
        Ok(true)
    }

    /// Carries out all deletions that wait, heads included; says how many files were written anew.
    pub async fn clean_tombstones(self: &Arc<Self>) -> Result<u64> {
        self.flush().await?;
        let this = self.clone();
        to_the_end(async move {
            let mut rewritten = 0;
            while this.rewrite_metrics().await? {
                rewritten += 1;
            }
            Ok(rewritten)
        })
        .await
    }

    /// Puts files in the place of others, in the catalog and then in the store. The caller tends the files.
    pub(crate) async fn exchange(
        &self,
        inputs: &[FileEntry],
        made: &[FileEntry],
        replace: impl FnOnce(Vec<FileEntry>),
    ) -> Result<()> {
        let exchanged = self.exchange_in_turn(inputs, made, replace).await;
        if exchanged.is_err() {
            self.remove_unknown(made.iter().map(|file| file.path.clone()).collect()).await;
        }
        exchanged
    }

    async fn exchange_in_turn(
        &self,
        inputs: &[FileEntry],
        made: &[FileEntry],
        replace: impl FnOnce(Vec<FileEntry>),
    ) -> Result<()> {
        let lease = self.take_turn().await?;
        let ids: Vec<i64> = inputs.iter().map(|file| file.id).collect();
        let (catalog, now) = (&self.parts.catalog, self.parts.clock.now());
        replace(catalog.commit_compaction(&lease, &ids, made, now).await?);
        Ok(())
    }
}
