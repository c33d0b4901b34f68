//! The front of the journal: open, append, replay, truncate.

use crate::format::EncodedRecord;
use crate::queue::{Gate, Queue};
use crate::recovery::{Recovery, START_FILE, encode_start, recover};
use crate::shared::{Damage, FOLDER, Files, Segment, Shared, path_of};
use crate::space::{is_full, release_ballast};
use crate::{Options, Record, Replay, State, Status, Ticket, Writer};
use br_env::Env;
use br_env::disk::write_atomically;
use br_std::{Error, Result};
use br_storage::JournalPosition;
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// Damaged segments that are kept for inspection after the stores no longer need them.
const QUARANTINE_FOLDER: &str = "journal/quarantine";
const QUARANTINE_SEGMENTS_MAX: usize = 8;

/// Takes records and makes them durable. Share it behind an `Arc`.
///
/// Only one journal may be open on a data directory at a time; the caller sees to it.
pub struct Journal {
    shared: Arc<Shared>,
    truncating: Mutex<()>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Journal {
    /// Opens the journal below the data directory and starts its writer thread.
    ///
    /// Records are accepted as soon as this returns, whatever the old segments hold: only names, sizes and the last segment are
    /// read. Damage and a full disk do not fail it; an unreadable folder does.
    pub fn open(env: Env, options: Options) -> Result<(Self, Recovery)> {
        let (journal, writer, recovery) = Self::open_unattended(env, options)?;
        let thread = std::thread::Builder::new().name("journal-writer".to_owned()).spawn(move || writer.run());
        let thread = thread.map_err(|error| Error::from(error).context("starting the journal's writer"))?;
        *journal.thread.lock() = Some(thread);
        Ok((journal, recovery))
    }

    /// The same without a thread: the caller runs or steps the writer. Nothing becomes durable by itself.
    pub fn open_unattended(env: Env, options: Options) -> Result<(Self, Writer, Recovery)> {
        let mut damage = Damage::default();
        let scan = recover(&env, options.position_floor, &mut damage)?;
        let last_position = scan.recovery.last_position;
        let next_ordinal = scan.segments.last().map_or(1, |segment| segment.id.ordinal.saturating_add(1));
        let files = Files {
            segments: scan.segments,
            durable: last_position,
            start: scan.recovery.start,
            poisoned_segments: 0,
            failed_records: 0,
            records_written: 0,
            groups_written: 0,
            has_ballast: false,
            last_error: None,
        };
        let queue = Queue::new(last_position.next(), options.queued_bytes_max, options.group_bytes_max);
        let shared = Arc::new(Shared {
            env,
            options,
            queue: Mutex::new(queue),
            queue_changed: Condvar::new(),
            files: Mutex::new(files),
            damage: Mutex::new(damage),
            wants_segment: AtomicBool::new(false),
        });
        let writer = Writer::start(shared.clone(), next_ordinal);
        let journal = Self { shared, truncating: Mutex::new(()), thread: Mutex::new(None) };
        Ok((journal, writer, scan.recovery))
    }

    /// Gives the record its position and hands it to the writer. Does not wait for the disk: the ticket does.
    ///
    /// Fails with `OverLimit` when the record is too large, with `Retry` when too much waits already, the disk is full or
    /// refuses writes, and with `Closed`.
    pub fn append(&self, record: &Record) -> Result<Ticket> {
        self.append_with(record, |_| ()).map(|(ticket, ())| ticket)
    }

    /// Like [`Self::append`], and calls `in_order` in the order of positions: no other record gets one meanwhile.
    /// It must be brief, and must not call the journal.
    pub fn append_with<R>(&self, record: &Record, in_order: impl FnOnce(&Ticket) -> R) -> Result<(Ticket, R)> {
        // Nothing is compressed for what will be refused: under overload that is what keeps refusals cheap.
        self.check_accepting()?;
        let options = &self.shared.options;
        let encoded = EncodedRecord::new(record, options.body_bytes_max, options.compress)?;
        let mut queue = self.shared.queue.lock();
        let ticket = queue.push(encoded)?;
        let result = in_order(&ticket);
        drop(queue);
        self.shared.queue_changed.notify_one();
        Ok((ticket, result))
    }

    /// Whether an append would be refused now, before its body is even read.
    pub fn check_accepting(&self) -> Result<()> {
        self.shared.queue.lock().check()
    }

    /// All records up to here are on stable storage, except those whose tickets failed.
    pub fn durable_position(&self) -> JournalPosition {
        self.shared.files.lock().durable
    }

    /// The records from `from` on that are durable now, in order.
    pub fn replay(&self, from: JournalPosition) -> Replay {
        Replay::new(self.shared.clone(), from)
    }

    /// Deletes the segments that hold only records before `position`, and returns the bytes that this freed.
    /// Damaged ones are set aside instead, the last few of them.
    pub fn truncate_before(&self, position: JournalPosition) -> Result<u64> {
        let _one_at_a_time = self.truncating.lock();
        let (doomed, start) = {
            let files = self.shared.files.lock();
            let position = position.min(files.durable.next());
            let pairs = files.segments.windows(2);
            let count = pairs.take_while(|pair| pair.get(1).is_some_and(|next| next.id.first <= position)).count();
            (files.segments.iter().take(count).copied().collect::<Vec<_>>(), position.max(files.start))
        };
        if doomed.is_empty() {
            return Ok(0);
        }
        // The start moves first: a crash in between leaves segments that nobody needs, never a need for segments that are gone.
        self.write_start(start)?;
        {
            let mut files = self.shared.files.lock();
            files.start = start;
            files.segments.drain(..doomed.len());
        }
        let mut freed = 0;
        for segment in doomed {
            freed += self.discard(segment)?;
        }
        self.shared.env.disk.sync_dir(FOLDER)?;
        Ok(freed)
    }

    /// Records before this are in no segment any more.
    pub fn first_kept(&self) -> JournalPosition {
        let files = self.shared.files.lock();
        files.segments.first().map_or(files.durable.next(), |segment| segment.id.first)
    }

    /// Ends the segment that is being written, so that what it holds can be deleted without waiting until it is full.
    pub fn end_segment(&self) {
        self.shared.wants_segment.store(true, Ordering::SeqCst);
        let _queue = self.shared.queue.lock();
        self.shared.queue_changed.notify_all();
    }

    pub fn status(&self) -> Status {
        let (state, last_position, queued_bytes) = {
            let queue = self.shared.queue.lock();
            (State::from(&queue.gate), JournalPosition(queue.next.0.saturating_sub(1)), queue.bytes)
        };
        let (quarantined, quarantined_ranges, torn_bytes) = {
            let damage = self.shared.damage.lock();
            (damage.quarantined(), damage.quarantined_ranges(), damage.torn_bytes())
        };
        let files = self.shared.files.lock();
        Status {
            state,
            segments: files.segments.len(),
            bytes: files.segments.iter().map(|segment| segment.bytes).sum(),
            last_position,
            durable_position: files.durable,
            start: files.start,
            queued_bytes,
            poisoned_segments: files.poisoned_segments,
            failed_records: files.failed_records,
            records_written: files.records_written,
            groups_written: files.groups_written,
            torn_bytes,
            quarantined,
            quarantined_ranges,
            has_ballast: files.has_ballast,
            last_error: files.last_error.clone(),
        }
    }

    /// Refuses new records, waits until those that were taken are settled, and leaves a mark of the orderly end.
    /// A writer that is not on the journal's own thread is stepped to its end by whoever has it.
    pub fn close(&self) {
        self.shared.queue.lock().gate = Gate::Closed;
        self.shared.queue_changed.notify_all();
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            self.shared.files.lock().last_error = Some("the journal's writer panicked".to_owned());
        }
    }

    fn write_start(&self, start: JournalPosition) -> Result<()> {
        let disk = &*self.shared.env.disk;
        let write = || write_atomically(disk, &path_of(START_FILE), &encode_start(start));
        let written = write().or_else(|error| {
            // What is about to be deleted makes room for more than this takes.
            if is_full(&error) && release_ballast(&self.shared)? { write() } else { Err(error) }
        });
        written.map_err(|error| Error::from(error).context("moving the start of the journal"))
    }

    fn discard(&self, segment: Segment) -> Result<u64> {
        let disk = &*self.shared.env.disk;
        let name = segment.id.file_name();
        if self.shared.damage.lock().is_damaged(segment.id) && self.set_aside(&name).is_ok() {
            return Ok(0);
        }
        match disk.remove(&path_of(&name)) {
            Ok(()) => Ok(segment.bytes),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(Error::from(error).context(format!("deleting {name}"))),
        }
    }

    /// Moves a damaged segment out of the way, and of those set aside before keeps the youngest.
    fn set_aside(&self, name: &str) -> std::io::Result<()> {
        let disk = &*self.shared.env.disk;
        disk.create_dir(QUARANTINE_FOLDER)?;
        let kept = disk.list(QUARANTINE_FOLDER)?;
        let surplus = (kept.len() + 1).saturating_sub(QUARANTINE_SEGMENTS_MAX);
        for old in kept.iter().take(surplus) {
            disk.remove(&format!("{QUARANTINE_FOLDER}/{old}"))?;
        }
        disk.rename(&path_of(name), &format!("{QUARANTINE_FOLDER}/{name}"))?;
        disk.sync_dir(QUARANTINE_FOLDER)
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.close();
    }
}
