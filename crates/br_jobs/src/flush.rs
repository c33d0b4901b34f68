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
        let flush = tokio::spawn(async move { this.flush_to_the_end().await });
        flush.await.map_err(|panic| Error::corrupt(format!("a flush failed inside: {panic}")))?
    }

    async fn flush_to_the_end(&self) -> Result<Flushed> {
        let mut lease = self.take_turn().await?;
        *lease = self.parts.catalog.renew_lease(&lease, self.parts.clock.now(), LEASE_DURATION).await?;
        let mut flushed = Flushed::default();
        let metrics = self.flush_metrics(&lease).await?;
        let events = self.flush_events(&lease).await?;
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

    async fn flush_metrics(&self, lease: &Lease) -> Result<Vec<FileEntry>> {
        let parts = &self.parts;
        let position = parts.intake.lanes.metrics.seal().await?;
        self.save_tombstones().await?;
        let mut all = Vec::new();
        while let Some(sealed) = parts.sealed.take_metrics() {
            let (sealed, committed) = self.write_and_commit(Store::Metrics, lease, sealed).await?;
            match committed {
                Ok(files) => {
                    all.extend(files.iter().cloned());
                    parts.metrics.publish(sealed, &files);
                }
                Err(error) => {
                    parts.sealed.put_back_metrics(sealed);
                    return Err(error.context("writing metrics"));
                }
            }
        }
        self.commit(Store::Metrics, lease, position, &[]).await?;
        Ok(all)
    }

    async fn flush_events(&self, lease: &Lease) -> Result<Vec<FileEntry>> {
        let parts = &self.parts;
        let position = parts.intake.lanes.events.seal().await?;
        let mut all = Vec::new();
        while let Some(sealed) = parts.sealed.take_events() {
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
        self.commit(Store::Events, lease, position, &[]).await?;
        Ok(all)
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
    async fn taken_in(&self) -> Result<JournalPosition> {
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

/// Runs work that computes or waits for the disk off the runtime's own threads.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|panic| Error::corrupt(format!("a background job failed inside: {panic}")))
}

/// The same for what can wait: such a thread leaves the processor to ingest, flushes and queries where they want it.
pub(crate) async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let (done, outcome) = oneshot::channel();
    let thread = std::thread::Builder::new().name("upkeep".to_owned()).spawn(move || {
        give_way();
        // Nobody waits any more when the server stops.
        let _ = done.send(work());
    });
    thread.map_err(|error| Error::retry(format!("a thread for a background job: {error}")))?;
    outcome.await.map_err(|_| Error::corrupt("a background job failed inside"))
}
