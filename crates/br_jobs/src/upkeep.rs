//! What runs by itself: flushes, compaction, retention, removal of files that nobody reads any more.

use crate::delta;
use crate::flush::{Flusher, Pace, aside, blocking};
use crate::rescue::unlisted;
use br_std::{Nanos, Result};
use br_storage::{FileEntry, Table};
use object_store::ObjectStoreExt;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// How long each kind of data is kept.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    pub metrics: Duration,
    pub logs: Duration,
    pub spans: Duration,
}

pub struct Upkeep {
    pub flusher: Arc<Flusher>,
    pub retention: Retention,
    pub flush_interval: Duration,
    /// A file stays on the disk for this long after the catalog has let go of it: a query, or a reader beside us, may still read it.
    pub readers_grace: Duration,
    /// When the server started: what was written since then is no leftover.
    pub started: Nanos,
    /// The catalog is the one that the files were written with: of what was written since it was made, it knows all that counts.
    pub is_catalog_whole: bool,
}

const DELETE_AT_ONCE: u32 = 1000;
/// A file that the logs of tables could not be told to be gone stays for this long: they cannot be written on a full disk, which needs
/// the space.
const UNTOLD_KEPT: Duration = Duration::from_mins(15);
/// An issue outlives its last event by this at the least: one that was resolved and comes back is told as such.
const ISSUES_KEPT: Duration = Duration::from_hours(90 * 24);
/// Deploys of versions that were not heard of for so long are forgotten.
const DEPLOYS_KEPT: Duration = Duration::from_hours(400 * 24);
/// Between two tries of a flush that a large head wants.
const FLUSH_PATIENCE: Duration = Duration::from_secs(2);
/// Compactions between two looks at what is past its time.
const COMPACTIONS_AT_ONCE: usize = 8;

/// Begins the note that a chunk was told of.
const CHUNK_OF: &str = "chunk of ";

#[derive(Clone, Copy)]
enum Kept {
    Metrics,
    Events,
}

impl Upkeep {
    /// Until told to stop. A step that fails is told and tried again at the next beat.
    pub async fn run(self, stopped: watch::Receiver<bool>) {
        let flusher = self.flusher.clone();
        let sealed = flusher.parts.sealed.clone();
        let flush = move || {
            let flusher = flusher.clone();
            async move { flusher.flush().await.map(drop) }
        };
        if self.is_catalog_whole {
            report("OrphansError", self.remove_orphans().await);
        }
        let flushed = Notify::new();
        tokio::join!(
            self.keep_the_beat(&flushed, stopped.clone()),
            flush_when_wanted(&sealed.wanted, FLUSH_PATIENCE, flush, stopped.clone()),
            self.tend(&flushed, stopped)
        );
    }

    async fn keep_the_beat(&self, flushed: &Notify, mut stopped: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(self.flush_interval) => {}
                _ = stopped.wait_for(|stopped| *stopped) => return,
            }
            tokio::select! {
                outcome = self.flusher.flush() => report("FlushError", outcome.map(drop)),
                _ = stopped.wait_for(|stopped| *stopped) => return,
            }
            flushed.notify_one();
        }
    }

    /// Looks after the files after each beat; a long merge makes it skip some.
    async fn tend(&self, flushed: &Notify, mut stopped: watch::Receiver<bool>) {
        let mut told = BTreeSet::new();
        let mut published = Published::default();
        loop {
            self.tell_damages(&mut told);
            let steps = async {
                flushed.notified().await;
                self.publish(&mut published).await;
                report("RetentionError", self.retain().await);
                report("ErasureError", self.flusher.carry_out_erasures().await);
                report("CompactionError", self.compact(Kept::Events).await);
                self.publish(&mut published).await;
                report("CompactionError", self.compact(Kept::Metrics).await);
                report("DeleteError", self.delete_removed(&mut published).await);
            };
            tokio::select! {
                () = steps => {}
                _ = stopped.wait_for(|stopped| *stopped) => return,
            }
        }
    }

    /// Queries answer without a damaged file: that its records are missing is told here, once for each.
    fn tell_damages(&self, told: &mut BTreeSet<String>) {
        let parts = &self.flusher.parts;
        let events = parts.events.counters().damages().into_iter().map(|damage| (damage.path, damage.message));
        let metrics = parts.metrics.damaged_files().into_iter().map(|damage| (damage.path, damage.reason));
        let damages: Vec<(String, String)> = events.chain(metrics).collect();
        self.tell_damaged_chunks(told);
        let is_chunk = |told: &String| told.starts_with(CHUNK_OF);
        told.retain(|told| is_chunk(told) || damages.iter().any(|(path, _)| path == told));
        for (path, message) in damages {
            if told.insert(path.clone()) {
                tracing::error!(event = "FileDamagedError", path, "{message}");
            }
        }
    }

    /// Each chunk once, of so many of a file; all are counted.
    fn tell_damaged_chunks(&self, told: &mut BTreeSet<String>) {
        const TOLD_MAX: usize = 20;
        let damaged = self.flusher.parts.metrics.damaged_chunks();
        told.retain(|told| {
            let path = told.strip_prefix(CHUNK_OF).and_then(|rest| rest.rsplit_once(' ')).map(|(path, _)| path);
            path.is_none_or(|path| damaged.iter().any(|file| file.path == path))
        });
        for file in damaged {
            let (path, count) = (file.path.as_str(), file.rows.len());
            for row in file.rows.iter().take(TOLD_MAX) {
                if told.insert(format!("{CHUNK_OF}{path} {row}")) {
                    let message = "a chunk is damaged: answers lack its samples";
                    tracing::error!(event = "MetricChunkDamagedError", path, chunk = row, damaged_chunks = count, "{message}");
                }
            }
        }
    }

    /// Deletes what a flush or a merge has written that a crash kept from being published; its records are in the journal or in
    /// the files that were to be merged. Older files than the catalog are left alone, whatever they are.
    async fn remove_orphans(&self) -> Result<()> {
        let _turn = self.flusher.take_turn().await?;
        let parts = &self.flusher.parts;
        let since = parts.catalog.since(parts.clock.now()).await?;
        let mut orphans = Vec::new();
        for (path, _) in unlisted(&parts.catalog, &parts.files).await? {
            let found = parts.files.head(&object_store::path::Path::from(path.as_str())).await;
            let modified = found.ok().and_then(|found| found.last_modified.timestamp_nanos_opt());
            if modified.is_some_and(|modified| Nanos(modified) > since && Nanos(modified) < self.started) {
                orphans.push(path);
            }
        }
        let deleted = self.flusher.remove_unknown(orphans).await;
        if deleted > 0 {
            tracing::info!(event = "OrphansDeleted", files = deleted, "left behind by a crash before they counted");
        }
        Ok(())
    }

    /// Drops what is past its time, before anything is spent on compacting it. Needs no free space.
    async fn retain(&self) -> Result<()> {
        let _tending = self.flusher.tend().await;
        let parts = &self.flusher.parts;
        let now = parts.clock.now();
        for (table, kept) in
            [(Table::Metrics, self.retention.metrics), (Table::Logs, self.retention.logs), (Table::Spans, self.retention.spans)]
        {
            let expired = self.expired(parts.catalog.files(table).await?, now - kept, now).await?;
            if expired.is_empty() {
                continue;
            }
            let _turn = self.flusher.take_turn().await?;
            parts.catalog.remove_files(&ids(&expired), now).await?;
            self.forget(table, &expired);
            tracing::info!(event = "FilesExpired", table = table.as_str(), files = expired.len());
        }
        let expired = parts.catalog.expire_issues(now - self.retention.logs.max(ISSUES_KEPT)).await?;
        if expired > 0 {
            tracing::info!(event = "IssuesExpired", issues = expired);
        }
        parts.catalog.expire_deploys(now - DEPLOYS_KEPT).await?;
        Ok(())
    }

    /// The files that are past their time. What rules say of events may have to be looked up in the files.
    async fn expired(&self, files: Vec<FileEntry>, cutoff: Nanos, now: Nanos) -> Result<Vec<FileEntry>> {
        let (metrics, events): (Vec<FileEntry>, Vec<FileEntry>) =
            files.into_iter().partition(|file| file.table == Table::Metrics);
        let mut expired: Vec<FileEntry> = metrics.into_iter().filter(|file| self.is_over(file, cutoff, now)).collect();
        let store = self.flusher.parts.events.clone();
        let over = move || {
            let mut over = Vec::new();
            for file in events {
                if store.is_over(&file, cutoff)? {
                    over.push(file);
                }
            }
            Ok::<_, br_std::Error>(over)
        };
        expired.extend(blocking(over).await??);
        Ok(expired)
    }

    /// Whether a file of metrics is past its time. Raw samples that have rollups go a day at once: what answers for a day is of one kind.
    fn is_over(&self, file: &FileEntry, cutoff: Nanos, now: Nanos) -> bool {
        const DAY: Duration = Duration::from_hours(24);
        let metrics = &self.flusher.parts.metrics;
        if !metrics.has_rollups() {
            return file.max_time < cutoff;
        }
        let last = file.max_time.max(file.window.window(DAY) + DAY);
        metrics.rollup_keep(file).map_or(last < cutoff, |kept| file.max_time < now - kept)
    }

    fn forget(&self, table: Table, expired: &[FileEntry]) {
        let parts = &self.flusher.parts;
        match table {
            Table::Metrics => parts.metrics.replace(expired, &[]),
            Table::Logs | Table::Spans => parts.events.exchange(expired, Vec::new()),
        }
    }

    /// Each kind by itself: a damaged file of one does not hold up the other.
    async fn compact(&self, kept: Kept) -> Result<()> {
        for _ in 0..COMPACTIONS_AT_ONCE {
            let has_compacted = match kept {
                Kept::Metrics => {
                    let flusher = &self.flusher;
                    self.compact_metrics().await? || flusher.rewrite_metrics().await? || flusher.roll_up_metrics().await?
                }
                Kept::Events => self.compact_events().await?,
            };
            if !has_compacted {
                return Ok(());
            }
        }
        Ok(())
    }

    /// One compaction of metric files; false when there was nothing to do.
    async fn compact_metrics(&self) -> Result<bool> {
        let _tending = self.flusher.tend().await;
        let parts = &self.flusher.parts;
        let Some(job) = parts.metrics.plan_compaction(parts.clock.now()) else { return Ok(false) };
        let (store, inputs) = (parts.metrics.clone(), job.inputs.clone());
        let made = aside(Pace::of_merge(&inputs), move || store.compact(&job)).await??;
        self.flusher.exchange(&inputs, &made, |made| parts.metrics.replace(&inputs, &made)).await?;
        Ok(true)
    }

    /// One compaction of event files; false when there was nothing to do.
    async fn compact_events(&self) -> Result<bool> {
        let _tending = self.flusher.tend().await;
        let parts = &self.flusher.parts;
        let (store, now) = (parts.events.clone(), parts.clock.now());
        let job = match store.plan_compactions(now).into_iter().next() {
            Some(job) => Some(job),
            None => aside(Pace::GivesWay, move || store.plan_rewrite()).await??,
        };
        let Some(job) = job else { return Ok(false) };
        let (store, inputs) = (parts.events.clone(), job.inputs.clone());
        let made = aside(Pace::of_merge(&inputs), move || store.compact(&job)).await??;
        self.flusher.exchange(&inputs, &made, |made| parts.events.exchange(&inputs, made)).await?;
        Ok(true)
    }

    /// Tells readers beside us what the tables of events have come to.
    async fn publish(&self, published: &mut Published) {
        let parts = &self.flusher.parts;
        let begun = parts.clock.now();
        let outcome = delta::publish(parts).await;
        if outcome.is_ok() {
            published.times.push_back(begun);
        }
        report("DeltaLogError", outcome);
    }

    /// Deletes files that the catalog let go of long enough ago. A file that is gone already counts as deleted.
    async fn delete_removed(&self, published: &mut Published) -> Result<()> {
        let _turn = self.flusher.take_turn().await?;
        let parts = &self.flusher.parts;
        let before: Nanos = (parts.clock.now() - self.readers_grace).min(self.flusher.copied_at());
        let told_before = published.before(parts.clock.now() - self.readers_grace);
        let mut deleted = Vec::new();
        for (file, removed_at) in parts.catalog.files_to_delete(before, DELETE_AT_ONCE).await? {
            let is_told = file.table == Table::Metrics || removed_at < told_before;
            let is_waiting = !is_told && removed_at > parts.clock.now() - UNTOLD_KEPT;
            if is_waiting {
                continue;
            }
            match parts.files.delete(&object_store::path::Path::from(file.path.as_str())).await {
                // What was not told yet must still be known then.
                Ok(()) | Err(object_store::Error::NotFound { .. }) if is_told => deleted.push(file.id),
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => tracing::warn!(event = "FileDeleteError", path = file.path, "{error}"),
            }
        }
        parts.catalog.forget_files(&deleted).await?;
        Ok(())
    }
}

/// When the logs of tables were brought up to date.
#[derive(Default)]
struct Published {
    /// Oldest first.
    times: VecDeque<Nanos>,
}

impl Published {
    /// What was removed before this has been told of for as long as readers may take.
    fn before(&mut self, then: Nanos) -> Nanos {
        let is_old = |at: &Nanos| *at < then;
        while self.times.get(1).is_some_and(is_old) {
            self.times.pop_front();
        }
        self.times.front().copied().filter(is_old).unwrap_or(Nanos::MIN)
    }
}

/// Between two beats, when a head has become large. After a failure it waits for a moment, since the disk may be full, and tries
/// again: who wanted the flush asks once.
async fn flush_when_wanted<F: Future<Output = Result<()>>>(
    wanted: &Notify,
    patience: Duration,
    flush: impl Fn() -> F,
    mut stopped: watch::Receiver<bool>,
) {
    loop {
        tokio::select! {
            () = wanted.notified() => {}
            _ = stopped.wait_for(|stopped| *stopped) => return,
        }
        let flushed = flush().await;
        let is_failing = flushed.is_err();
        report("FlushError", flushed);
        if is_failing {
            wanted.notify_one();
            tokio::select! {
                () = tokio::time::sleep(patience) => {}
                _ = stopped.wait_for(|stopped| *stopped) => return,
            }
        }
    }
}

fn ids(files: &[FileEntry]) -> Vec<i64> {
    files.iter().map(|file| file.id).collect()
}

fn report(event: &str, outcome: Result<()>) {
    if let Err(error) = outcome {
        tracing::error!(event, "{error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[tokio::test]
    async fn a_flush_that_fails_is_wanted_still() {
        let (wanted, (stop, stopped)) = (Notify::new(), watch::channel(false));
        let tries = AtomicU32::new(0);
        let (tried, stop) = (&tries, &stop);
        let flush = || async move {
            if tried.fetch_add(1, Ordering::Relaxed) < 3 {
                return Err(br_std::Error::retry("the catalog cannot be written"));
            }
            stop.send_replace(true);
            Ok(())
        };
        // Asked once.
        wanted.notify_one();
        flush_when_wanted(&wanted, Duration::from_millis(1), flush, stopped).await;
        assert_eq!(tries.into_inner(), 4);
    }
}
