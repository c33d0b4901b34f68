//! Log files that are followed: those of services, of Docker's and of Kubernetes' containers.
//!
//! What is read goes the way of every request, into the journal; then how far each file was read is written down. A crash in between
//! repeats what was read since, and loses nothing. While the journal does not take more, the files wait.

mod chunk;
mod config;
mod disk;
mod follower;
mod gather;
mod origin;
mod pattern;
mod positions;
#[cfg(test)]
mod tests;

pub use config::{FileSource, FilesConfig, Format};

use crate::intake::{AcceptError, Incoming, Intake};
use br_env::{Clock, Disk, Env};
use br_journal::Protocol;
use br_std::{Kind, Nanos, Result};
use bytes::Bytes;
use follower::Follower;
use gather::Gather;
use parking_lot::Mutex;
use positions::Saved;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;

/// Counts for `/metrics`.
#[derive(Debug, Default)]
pub struct FileCounters {
    pub lines: AtomicU64,
    pub records: AtomicU64,
    /// Files as they are: followed, open, packed and left alone; bytes that are not read yet.
    pub followed: AtomicU64,
    pub open: AtomicU64,
    pub left_alone: AtomicU64,
    pub behind_bytes: AtomicU64,
    /// Files whose name went to another, and such that were cut or written anew.
    pub rotations: AtomicU64,
    pub truncations: AtomicU64,
    /// Bytes that went with their file before they were read.
    pub missed_bytes: AtomicU64,
    /// Lines that were no text, and such that are not what their file is made of.
    pub mended: AtomicU64,
    pub unwrapped: AtomicU64,
    /// Failed reads.
    pub unreadable: AtomicU64,
    /// Requests that waited because the journal or a store took no more.
    pub waits: AtomicU64,
    /// Records that were refused: too old, or a fault of ours.
    pub refused: AtomicU64,
    pub positions_written: AtomicU64,
    pub positions_failed: AtomicU64,
    status: Mutex<Vec<FileStatus>>,
    complaints: Mutex<Vec<String>>,
}

impl FileCounters {
    /// The files that are furthest behind or in trouble, at the most [`STATUS_FILES_MAX`].
    pub fn status(&self) -> Vec<FileStatus> {
        self.status.lock().clone()
    }

    /// What stood in the way of the last look for files.
    pub fn complaints(&self) -> Vec<String> {
        self.complaints.lock().clone()
    }
}

/// One followed file, for people.
#[derive(Clone, Debug)]
pub struct FileStatus {
    pub path: String,
    /// The patterns that name it.
    pub source: String,
    /// Empty until it has a line.
    pub service: String,
    pub size: u64,
    pub offset: u64,
    pub lines: u64,
    pub changed_at: Nanos,
    pub last_error: Option<String>,
}

/// Files in the status.
pub const STATUS_FILES_MAX: usize = 100;
/// Between two rounds when nothing has come.
const POLL_EVERY: Duration = Duration::from_millis(250);
/// Between two times that positions are written; longer where writing takes long.
const WRITE_EVERY: Duration = Duration::from_secs(1);
const WRITE_REST: u32 = 20;
/// Until a request that was not taken is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Follows until told to stop.
pub async fn serve(sources: Vec<FileSource>, intake: Arc<Intake>, env: Env, mut stopped: watch::Receiver<bool>) {
    let counters = intake.counters.files.clone();
    let (saved, is_first_start) = match positions::read(&*env.disk) {
        Ok((saved, broken)) => {
            if broken > 0 {
                tracing::error!(event = "FilePositionsDamagedError", broken, "these files are read from their beginning again");
            }
            let is_first = saved.is_empty() && broken == 0;
            (saved, is_first)
        }
        Err(error) => {
            tracing::error!(event = "FilePositionsReadError", "{error}: all files are read from their beginning again");
            (BTreeMap::new(), false)
        }
    };
    let sources = Arc::new(sources);
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let follower = Follower::new(sources.clone(), saved, is_first_start, host, env.clock.clone(), counters.clone());
    let positions = Positions { disk: env.disk.clone(), next: Duration::ZERO, last: BTreeMap::new() };
    let mut work = Work { follower, positions, clock: env.clock.clone(), counters };
    loop {
        let round = work.round(&intake).await;
        work = round.work;
        for request in round.requests {
            let source = &sources[request.source];
            if !deliver(&intake, source, request, &stopped).await {
                // What was not taken is read again by the next start.
                return;
            }
        }
        let is_last = *stopped.borrow();
        work = work.settle(is_last).await;
        if is_last {
            return;
        }
        if !round.has_more {
            tokio::select! {
                () = sleep(POLL_EVERY) => {}
                _ = stopped.wait_for(|stopped| *stopped) => {}
            }
        }
    }
}

/// What a round needs, on the pool for blocking work and back.
struct Work {
    follower: Follower,
    positions: Positions,
    clock: Arc<dyn Clock>,
    counters: Arc<FileCounters>,
}

struct Round {
    work: Work,
    requests: Vec<Encoded>,
    has_more: bool,
}

/// A request as it goes out.
struct Encoded {
    source: usize,
    records: usize,
    policy: String,
    body: Bytes,
}

impl Work {
    /// Reads what there is.
    async fn round(mut self, intake: &Intake) -> Round {
        let request_bytes = intake.body_bytes_max() / 4;
        on_pool(move || {
            let mut gather = Gather::new(request_bytes);
            let has_more = self.follower.round(self.clock.now(), &mut gather);
            let encode = |request: gather::Request| {
                let (body, policy) = request.encode(self.follower.source(request.source));
                Encoded { source: request.source, records: request.logs.record_count(), policy, body: body.into() }
            };
            let requests = gather.requests.into_iter().map(encode).collect();
            Round { work: self, requests, has_more }
        })
        .await
    }

    /// The journal has all that was read: that may be written down.
    async fn settle(mut self, is_last: bool) -> Self {
        on_pool(move || {
            let began = self.clock.monotonic();
            if !is_last && began < self.positions.next {
                return self;
            }
            self.follower.count();
            *self.counters.status.lock() = self.follower.status(STATUS_FILES_MAX);
            *self.counters.complaints.lock() = self.follower.complaints().to_vec();
            match self.positions.write(self.follower.positions(self.clock.now())) {
                Ok(true) => self.counters.positions_written.fetch_add(1, Ordering::Relaxed),
                Ok(false) => 0,
                Err(error) => {
                    tracing::error!(event = "FilePositionsWriteError", "{error}: a start would read more again");
                    self.counters.positions_failed.fetch_add(1, Ordering::Relaxed)
                }
            };
            let ended = self.clock.monotonic();
            self.positions.next = ended + WRITE_EVERY.max(ended.saturating_sub(began) * WRITE_REST);
            self
        })
        .await
    }
}

/// A failure inside is one of the whole part.
async fn on_pool<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime ends, and this task with it.
            Err(_) => std::future::pending().await,
        },
    }
}

struct Positions {
    disk: Arc<dyn Disk>,
    /// Not before.
    next: Duration,
    last: BTreeMap<disk::FileId, Saved>,
}

impl Positions {
    /// True when there was something to write.
    fn write(&mut self, positions: BTreeMap<disk::FileId, Saved>) -> std::io::Result<bool> {
        let same = |(one, other): ((&disk::FileId, &Saved), (&disk::FileId, &Saved))| {
            one.0 == other.0 && Saved { seen: one.1.seen, ..other.1.clone() } == *one.1
        };
        if positions.len() == self.last.len() && positions.iter().zip(&self.last).all(same) {
            return Ok(false);
        }
        positions::write(&*self.disk, &positions)?;
        self.last = positions;
        Ok(true)
    }
}

/// Tries until it is taken: the files wait. False when the server ends before.
async fn deliver(intake: &Intake, source: &FileSource, request: Encoded, stopped: &watch::Receiver<bool>) -> bool {
    let Encoded { records, policy, body, .. } = request;
    let counters = &intake.counters.files;
    let mut stopped = stopped.clone();
    loop {
        let incoming = Incoming {
            tenant: source.tenant,
            protocol: Protocol::OTLP_LOGS,
            content_type: "application/x-protobuf".to_owned(),
            content_encoding: String::new(),
            context: vec![("enrich".to_owned(), policy.clone())],
            body: body.clone(),
        };
        let error = match intake.accept(incoming).await {
            Ok(receipt) => {
                let refused = receipt.rejected_count;
                if refused > 0 {
                    tracing::warn!(event = "FileRecordsRefused", refused, "{}", receipt.complaint());
                    counters.refused.fetch_add(refused, Ordering::Relaxed);
                }
                return true;
            }
            Err(error) => error,
        };
        if !is_temporary(&error) {
            tracing::error!(event = "FileRecordsLostError", records, "{error}");
            counters.refused.fetch_add(records as u64, Ordering::Relaxed);
            return true;
        }
        counters.waits.fetch_add(1, Ordering::Relaxed);
        tokio::select! {
            () = sleep(RETRY_AFTER) => {}
            _ = stopped.wait_for(|stopped| *stopped) => return false,
        }
    }
}

/// Only what the body itself is at fault for is given up.
fn is_temporary(error: &AcceptError) -> bool {
    match error {
        AcceptError::Wire(_) => false,
        AcceptError::Other(error) => !matches!(error.kind(), Kind::FixRequest | Kind::OverLimit),
    }
}

/// The entries of the configuration, checked.
pub fn sources(configs: &[FilesConfig], folder: &std::path::Path) -> Result<Vec<FileSource>> {
    let checked = configs.iter().enumerate();
    checked.map(|(at, config)| config.source(folder).map_err(|error| error.context(format!("bellrock.files[{at}]")))).collect()
}
