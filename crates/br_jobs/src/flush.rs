//! Heads to files: seal at a position, write, publish in one catalog transaction, and only then forget the journal.

use br_catalog::{Catalog, Lease, Store};
use br_env::Clock;
use br_env::real::give_way;
use br_events::{EventStore, SealedEvents};
use br_ingest::Intake;
use br_ingest::appliers::Sealed;
use br_std::{Error, Kind, Nanos, Result};
use br_storage::{FileEntry, JournalPosition};
use br_tsdb::{SealedHead, Tsdb};
use object_store::{ObjectStore, ObjectStoreExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{MappedMutexGuard, Mutex, MutexGuard, oneshot};

/// What a flusher works with.
pub struct FlusherParts {
    pub intake: Arc<Intake>,
    pub catalog: Arc<Catalog>,
    pub metrics: Arc<Tsdb>,
    pub events: Arc<EventStore>,
    /// What the lanes have sealed and nobody has written yet.
    pub sealed: Arc<Sealed>,
    pub files: Arc<dyn ObjectStore>,
    pub clock: Arc<dyn Clock>,
    /// Where the copy of the catalog is kept.
    pub catalog_copy: PathBuf,
    /// Nothing is left of what is erased within this.
    pub erased_within: Duration,
}

/// What one flush wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flushed {
    pub files: u64,
    pub bytes: u64,
}

/// What a flush needs of a store's sealed head.
trait Head: Send + 'static {
    fn position(&self) -> JournalPosition;
    fn write(&self, objects: &Arc<dyn ObjectStore>) -> Result<Vec<FileEntry>>;
}

impl Head for SealedHead {
    fn position(&self) -> JournalPosition {
        self.position()
    }

    fn write(&self, objects: &Arc<dyn ObjectStore>) -> Result<Vec<FileEntry>> {
        self.write(objects)
    }
}

impl Head for SealedEvents {
    fn position(&self) -> JournalPosition {
        self.position()
    }

    fn write(&self, objects: &Arc<dyn ObjectStore>) -> Result<Vec<FileEntry>> {
        self.write(objects)
    }
}

/// Writes heads, one flush at a time.
pub struct Flusher {
    pub(crate) parts: FlusherParts,
    /// Held while the manifest is changed. Without a lease until the catalog could write one.
    turn: Mutex<Option<Lease>>,
    /// Held by who works on files that are listed: merges, deletions, retention. Taken before the turn, which such work takes only
    /// to publish what it made: flushes go on meanwhile.
    tending: Mutex<()>,
    copied: parking_lot::Mutex<Copied>,
}

/// What the copy of the catalog knows: until then the journal is kept, and files that the catalog has let go of.
#[derive(Clone, Copy, Debug, Default)]
struct Copied {
    position: JournalPosition,
    /// When it was begun.
    at: Nanos,
    /// Of the clock that never goes back.
    next_at: Duration,
    is_failing: bool,
}

/// A copy takes about this much of the time, and writes about so many bytes in a second, at the most.
const COPY_SHARE: u32 = 20;
const COPY_BYTES_PER_SECOND: u64 = 128 << 10;

const LEASE: &str = "files";
/// The only holder on one machine: an earlier life of the server is shut out by taking the lease anew.
const HOLDER: &str = "local";
pub(crate) const LEASE_DURATION: Duration = Duration::from_mins(10);

impl Flusher {
    /// On a full disk the catalog cannot be written: the server starts all the same, and tries again with every flush.
    pub async fn new(parts: FlusherParts) -> Result<Self> {
        let lease = match acquire(&parts).await {
            Ok(Some(lease)) => Some(lease),
            Ok(None) => return Err(taken()),
            Err(error) if error.kind() == Kind::Retry => {
                tracing::error!(event = "LeaseError", "nothing is written to files yet: {error}");
                None
            }
            Err(error) => return Err(error),
        };
        Ok(Self { parts, turn: Mutex::new(lease), tending: Mutex::default(), copied: parking_lot::Mutex::default() })
    }

    pub(crate) async fn take_turn(&self) -> Result<MappedMutexGuard<'_, Lease>> {
        let mut held = self.turn.lock().await;
        if held.is_none() {
            *held = Some(acquire(&self.parts).await?.ok_or_else(taken)?);
        }
        Ok(MutexGuard::map(held, |lease| lease.as_mut().expect("acquired above when there was none")))
    }

    /// Listed files stay listed while this is held.
    pub(crate) async fn tend(&self) -> MutexGuard<'_, ()> {
        self.tending.lock().await
    }

    /// Writes both heads, and lets go of the journal that they held.
    ///
    /// It goes on to its end when the caller no longer waits, because the server stops or a client has left: a head that was taken
    /// from the store and dropped would be passed over by the next commit, and lost.
    pub async fn flush(self: &Arc<Self>) -> Result<Flushed> {
        let this = self.clone();
        to_the_end(async move { this.flush_to_the_end().await }).await
    }

    async fn flush_to_the_end(&self) -> Result<Flushed> {
        let mut lease = self.take_turn().await?;
        *lease = self.parts.catalog.renew_lease(&lease, self.parts.clock.now(), LEASE_DURATION).await?;
        let mut flushed = Flushed::default();
        // One that cannot be written does not hold up the other.
        let (metrics, events) = (self.flush_metrics(&lease).await, self.flush_events(&lease).await);
        let (metrics, events) = (metrics?, events?);
        self.parts.intake.lanes.issues.seal().await?;
        for file in metrics.iter().chain(&events) {
            flushed.files += 1;
            flushed.bytes += file.size_bytes;
        }
        self.copy_catalog().await?;
        self.truncate_journal().await?;
        if flushed.files > 0 {
            tracing::info!(event = "HeadsFlushed", files = flushed.files, bytes = flushed.bytes);
        }
        Ok(flushed)
    }

    /// What an earlier try has left is written first: while it cannot be, nothing more is sealed, and what comes in gathers in one
    /// head that refuses more when it is full, instead of in ever more small parts.
    async fn flush_metrics(&self, lease: &Lease) -> Result<Vec<FileEntry>> {
        let parts = &self.parts;
        let mut all = Vec::new();
        self.write_metrics(lease, &mut all).await?;
        let position = parts.intake.lanes.metrics.seal().await?;
        self.write_metrics(lease, &mut all).await?;
        self.save_tombstones().await?;
        self.commit(Store::Metrics, lease, position, &[]).await?;
        Ok(all)
    }

    async fn write_metrics(&self, lease: &Lease, all: &mut Vec<FileEntry>) -> Result<()> {
        let parts = &self.parts;
        while let Some(sealed) = parts.sealed.take_metrics() {
            // While others were written deletions may have come, and this one may stand behind them.
            if let Err(error) = self.save_tombstones().await {
                parts.sealed.put_back_metrics(sealed);
                return Err(error);
            }
            let (sealed, committed) = self.write_and_commit(Store::Metrics, lease, sealed).await?;
            match committed {
                Ok(files) => {
                    all.extend(files.iter().cloned());
                    let metrics = parts.metrics.clone();
                    blocking(move || metrics.publish(sealed, &files)).await?;
                }
                Err(error) => {
                    parts.sealed.put_back_metrics(sealed);
                    return Err(error.context("writing metrics"));
                }
            }
        }
        Ok(())
    }

    /// As [`Self::flush_metrics`].
    async fn flush_events(&self, lease: &Lease) -> Result<Vec<FileEntry>> {
        let parts = &self.parts;
        let mut all = Vec::new();
        self.write_events(lease, &mut all).await?;
        let position = parts.intake.lanes.events.seal().await?;
        self.write_events(lease, &mut all).await?;
        self.save_erasures().await?;
        self.commit(Store::Events, lease, position, &[]).await?;
        Ok(all)
    }

    async fn write_events(&self, lease: &Lease, all: &mut Vec<FileEntry>) -> Result<()> {
        let parts = &self.parts;
        while let Some(sealed) = parts.sealed.take_events() {
            // While others were written erasures may have come, and this one may stand behind them.
            if let Err(error) = self.save_erasures().await {
                parts.sealed.put_back_events(sealed);
                return Err(error);
            }
            let (sealed, committed) = self.write_and_commit(Store::Events, lease, sealed).await?;
            match committed {
                Ok(files) => {
                    all.extend(files.iter().cloned());
                    parts.events.publish(&sealed, files);
                }
                Err(error) => {
                    parts.sealed.put_back_events(sealed);
                    return Err(error.context("writing events"));
                }
            }
        }
        Ok(())
    }

    /// Writes a sealed head and publishes its files. The head comes back whatever happens, a panic of the writer included: a head
    /// that got lost here would be passed over by the next commit.
    async fn write_and_commit<H: Head>(&self, store: Store, lease: &Lease, sealed: H) -> Result<(H, Result<Vec<FileEntry>>)> {
        let objects = self.parts.files.clone();
        let (sealed, written) = blocking(move || {
            let written = catch_unwind(AssertUnwindSafe(|| sealed.write(&objects)));
            (sealed, written.unwrap_or_else(|_| Err(Error::corrupt("the writer failed inside"))))
        })
        .await?;
        let committed = match written {
            Ok(files) => self.commit_or_remove(store, lease, sealed.position(), &files).await,
            Err(error) => Err(error),
        };
        Ok((sealed, committed))
    }

    /// The head is written again after a failure, under new names: what is there now would only fill the disk.
    async fn commit_or_remove(
        &self,
        store: Store,
        lease: &Lease,
        to: JournalPosition,
        files: &[FileEntry],
    ) -> Result<Vec<FileEntry>> {
        let committed = self.commit(store, lease, to, files).await;
        if committed.is_err() {
            self.remove_unknown(files.iter().map(|file| file.path.clone()).collect()).await;
        }
        committed
    }

    /// Deletes those objects that the catalog does not know. One that stays is found by the next start.
    pub(crate) async fn remove_unknown(&self, paths: Vec<String>) -> usize {
        let unknown = match self.parts.catalog.unknown_paths(&paths).await {
            Ok(unknown) => unknown,
            Err(error) => {
                tracing::warn!(event = "FileDeleteError", "{error}");
                return 0;
            }
        };
        let mut deleted = 0;
        for path in unknown {
            match self.parts.files.delete(&object_store::path::Path::from(path.as_str())).await {
                Ok(()) => deleted += 1,
                Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => tracing::warn!(event = "FileDeleteError", path, "{error}"),
            }
        }
        deleted
    }

    async fn commit(&self, store: Store, lease: &Lease, to: JournalPosition, files: &[FileEntry]) -> Result<Vec<FileEntry>> {
        let from = self.parts.catalog.progress(store).await?;
        if files.is_empty() && to <= from {
            return Ok(Vec::new());
        }
        self.parts.catalog.commit_flush(store, lease, from, to, files).await
    }

    /// Up to here every store has the journal in files.
    pub(crate) async fn taken_in(&self) -> Result<JournalPosition> {
        let catalog = &self.parts.catalog;
        let metrics = catalog.progress(Store::Metrics).await?;
        let events = catalog.progress(Store::Events).await?;
        Ok(metrics.min(events).min(catalog.errors_recorded().await?))
    }

    /// Replaces the copy of the catalog when it is time. A copy that cannot be made holds nothing up: on a full disk the journal
    /// must be cut all the same.
    async fn copy_catalog(&self) -> Result<()> {
        let parts = &self.parts;
        let (begun, last) = (parts.clock.monotonic(), *self.copied.lock());
        if begun < last.next_at {
            return Ok(());
        }
        // What comes in between here and the copy is in the copy all the more.
        let mut copied = Copied { position: self.taken_in().await?, at: parts.clock.now(), ..last };
        let outcome = parts.catalog.replace_copy(&parts.catalog_copy).await;
        let took = parts.clock.monotonic().saturating_sub(begun);
        let written = Duration::from_secs(outcome.as_ref().map_or(0, |bytes| bytes / COPY_BYTES_PER_SECOND));
        copied.next_at = begun.saturating_add((took * COPY_SHARE).max(written));
        copied.is_failing = outcome.is_err();
        if let Err(error) = outcome
            && !last.is_failing
        {
            tracing::error!(event = "CatalogCopyError", "{error}");
        }
        *self.copied.lock() = copied;
        Ok(())
    }

    /// The next flush replaces the copy of the catalog, and cuts the journal up to what is in files then.
    pub(crate) fn want_copy(&self) {
        self.copied.lock().next_at = Duration::ZERO;
    }

    pub(crate) async fn copy_catalog_now(&self) -> Result<()> {
        let _turn = self.take_turn().await?;
        self.want_copy();
        self.copy_catalog().await?;
        if self.copied.lock().is_failing { Err(Error::retry("the copy of the catalog cannot be written")) } else { Ok(()) }
    }

    /// Files that were let go of before this are not in the copy of the catalog either.
    pub(crate) fn copied_at(&self) -> Nanos {
        self.copied.lock().at
    }

    /// Deletes the segments that hold nothing any store still needs.
    async fn truncate_journal(&self) -> Result<()> {
        let needed = self.copied.lock().position.next();
        let journal = self.parts.intake.journal().clone();
        blocking(move || journal.truncate_before(needed)).await??;
        Ok(())
    }

    /// Files that the stores answer from, and their bytes.
    pub fn storage(&self) -> (u64, u64) {
        let metrics = self.parts.metrics.expired(Nanos::MAX);
        let events = self.parts.events.files();
        let files = || metrics.iter().chain(&events);
        (files().count() as u64, files().map(|file| file.size_bytes).sum())
    }
}

async fn acquire(parts: &FlusherParts) -> Result<Option<Lease>> {
    parts.catalog.acquire_lease(LEASE, HOLDER, parts.clock.now(), LEASE_DURATION).await
}

/// The right to change the manifest, for who works on a data directory that no server has open.
pub(crate) async fn acquire_lease(catalog: &Catalog, clock: &dyn Clock) -> Result<Lease> {
    catalog.acquire_lease(LEASE, HOLDER, clock.now(), LEASE_DURATION).await?.ok_or_else(taken)
}

fn taken() -> Error {
    Error::new(Kind::Unauthorized, "another server writes to this catalog")
}

/// Goes on to the end when the caller no longer waits, because the server stops or a client has left: what the catalog has taken in,
/// the store has to hear of.
pub(crate) async fn to_the_end<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    tokio::spawn(work).await.map_err(|panic| Error::corrupt(format!("a background job failed inside: {panic}")))?
}

/// Runs work that computes or waits for the disk off the runtime's own threads.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|panic| Error::corrupt(format!("a background job failed inside: {panic}")))
}

/// Whether a job leaves the processor to ingest, flushes and queries where they want it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    GivesWay,
    Full,
}

/// So many small files of one window wait for a merge only where merges do not keep up: then they give way no longer, for each file
/// more makes every query slower.
const BEHIND_FILES: usize = 32;

impl Pace {
    pub(crate) fn of_merge(inputs: &[FileEntry]) -> Self {
        if inputs.len() < BEHIND_FILES { Self::GivesWay } else { Self::Full }
    }
}

/// As [`blocking`], for what can wait: on a thread of its own.
pub(crate) async fn aside<T: Send + 'static>(pace: Pace, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let (done, outcome) = oneshot::channel();
    let thread = std::thread::Builder::new().name("upkeep".to_owned()).spawn(move || {
        if pace == Pace::GivesWay {
            give_way();
        }
        // Nobody waits any more when the server stops.
        let _ = done.send(work());
    });
    thread.map_err(|error| Error::retry(format!("a thread for a background job: {error}")))?;
    outcome.await.map_err(|_| Error::corrupt("a background job failed inside"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::SyncedDirectory;
    use br_events::EventOptions;
    use br_ingest::appliers::{EventsApplier, IssuesApplier, MetricsApplier};
    use br_ingest::decode::DecodeLimits;
    use br_ingest::lane::{Applier, LaneStart};
    use br_journal::Journal;
    use br_model::{Labels, MetricBatch, Sample, SeriesSamples, TenantId};
    use br_tsdb::TsdbOptions;
    use std::path::Path;
    use tokio::runtime::Handle;

    const TENANT: TenantId = TenantId(1);

    async fn flusher(folder: &Path, options: TsdbOptions) -> Arc<Flusher> {
        let env = br_env::real::env(folder).expect("a folder");
        let files: Arc<dyn ObjectStore> = Arc::new(SyncedDirectory::open(&folder.join("files")).expect("opened"));
        let catalog = Arc::new(Catalog::open(folder.join("catalog.db")).await.expect("opened"));
        let journal = Arc::new(Journal::open(env.clone(), br_journal::Options::default()).expect("opened").0);
        let metrics = Arc::new(Tsdb::open(Vec::new(), files.clone(), env.rng.clone(), options));
        let events = EventStore::open(Vec::new(), files.clone(), EventOptions::new(env.rng.clone()));
        let sealed = Arc::new(Sealed::default());
        let limits = DecodeLimits::default();
        let events_applier =
            EventsApplier { store: events.clone(), sealed: sealed.clone(), tail: br_ingest::tail::Tail::default() };
        let lanes = [
            Box::new(MetricsApplier::new(metrics.clone(), sealed.clone(), limits.clone(), env.clock.clone())) as Box<dyn Applier>,
            Box::new(events_applier),
            Box::new(IssuesApplier::new(catalog.clone(), Handle::current())),
        ];
        let lanes = lanes.map(|applier| LaneStart { applier, progress: JournalPosition(0) });
        let intake = Intake::start(journal, env.clock.clone(), limits, metrics.clone(), lanes).expect("started");
        let (intake, clock, catalog_copy) = (Arc::new(intake), env.clock.clone(), folder.join("copy.db"));
        let erased_within = Duration::from_hours(1);
        let parts = FlusherParts { intake, catalog, metrics, events, sealed, files, clock, catalog_copy, erased_within };
        Arc::new(Flusher::new(parts).await.expect("a lease"))
    }

    async fn send(flusher: &Flusher, at: u32) {
        let now_ms = flusher.parts.clock.now().as_millis();
        let labels = Labels::from_pairs([("__name__", "m".to_owned()), ("i", at.to_string())]);
        let series = vec![SeriesSamples { labels, samples: vec![Sample::float(now_ms, 1.0)], exemplars: Vec::new() }];
        flusher.parts.intake.accept_samples(TENANT, MetricBatch { series, metadata: Vec::new() }).await.expect("taken");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_flush_does_not_wait_for_a_merge() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let flusher = flusher(folder.path(), TsdbOptions::default()).await;
        send(&flusher, 1).await;
        let merging = flusher.tend().await;
        let flushed = tokio::time::timeout(Duration::from_mins(1), flusher.flush()).await.expect("in time").expect("written");
        assert_eq!(flushed.files, 1);
        drop(merging);
        let intake = flusher.parts.intake.clone();
        blocking(move || intake.close()).await.expect("closed");
    }

    /// While files cannot be written, heads do not pile up, and memory has an end: records wait for room, and go on by themselves.
    #[tokio::test(flavor = "multi_thread")]
    #[allow(clippy::disallowed_methods, reason = "takes the disk away")]
    async fn failing_flushes_gather_one_head_up_to_its_limit() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let head_bytes_max = 4000;
        let flusher = flusher(folder.path(), TsdbOptions { head_bytes_max, ..TsdbOptions::default() }).await;
        let (files, aside) = (folder.path().join("files"), folder.path().join("aside"));
        let metrics = flusher.parts.metrics.clone();
        let rename = |from: &Path, to: &Path| std::fs::rename(from, to).expect("renamed");
        rename(&files, &aside);
        std::fs::write(&files, "not a folder").expect("written");
        for at in 0..5 {
            send(&flusher, at).await;
            flusher.flush().await.expect_err("nothing can be written");
        }
        let stats = metrics.tenant_stats(TENANT, 1);
        assert_eq!((stats.sealed_parts, stats.unflushed_samples), (1, 5));

        let sender = flusher.clone();
        let sending = tokio::spawn(async move {
            for at in 5..600 {
                send(&sender, at).await;
                if !sender.parts.metrics.has_room() {
                    return at;
                }
            }
            panic!("600 samples without an end");
        });
        let last = sending.await.expect("full at some time");
        let held = metrics.tenant_stats(TENANT, 1);
        assert!(held.unflushed_bytes < head_bytes_max as u64 * 2, "{held:?}");
        for at in 0..10 {
            // These are in the journal, and are not shown yet.
            let sender = flusher.clone();
            tokio::spawn(async move { send(&sender, last + 1 + at).await });
        }
        std::fs::remove_file(&files).expect("removed");
        rename(&aside, &files);
        let all = u64::from(last) + 11;
        while metrics.tenant_stats(TENANT, 1).file_samples < all {
            flusher.flush().await.expect("written");
        }
        assert_eq!(metrics.tenant_stats(TENANT, 1).file_samples, all, "each once");
        assert!(metrics.has_room());
        let intake = flusher.parts.intake.clone();
        blocking(move || intake.close()).await.expect("closed");
    }
}
