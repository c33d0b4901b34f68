//! The one writer: takes group after group, writes it, syncs it, and tells the tickets.

use crate::format::{SEGMENT_HEADER_BYTES, SegmentId, encode_segment_header};
use crate::options::WINDOW_MAX;
use crate::queue::{Gate, Group};
use crate::recovery::CLEAN_FILE;
use crate::shared::{FOLDER, Segment, Shared, path_of};
use crate::space::{BallastBuilder, has_ballast, is_full, release_ballast};
use crate::ticket::Settled;
use br_env::DiskFile;
use br_storage::JournalPosition;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// One call of the disk takes about this much; larger payloads go by themselves.
const WRITE_BYTES: usize = 1 << 20;
/// How often an idle writer looks after the disk.
const TICK_IDLE: Duration = Duration::from_secs(1);
/// The same while appends are refused.
const TICK_REFUSING: Duration = Duration::from_millis(100);
/// The same while the ballast is being written.
const TICK_BALLAST: Duration = Duration::from_millis(10);
/// Between two tries to write again after both tries for a group failed; doubles up to the last.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LAST: Duration = Duration::from_secs(5);

/// What a [`Writer::step`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A group was settled, for good or ill.
    Settled,
    /// Nothing waited.
    Idle,
    /// The journal is closed and nothing waits: this was the last step.
    Closed,
}

/// Writes what was appended. [`crate::Journal::open`] runs it on a thread of its own; a simulation steps it by hand.
pub struct Writer {
    shared: Arc<Shared>,
    active: Option<ActiveSegment>,
    next_ordinal: u64,
    ballast: BallastBuilder,
    retry_at: Duration,
    retry_wait: Duration,
    buffer: Vec<u8>,
}

struct ActiveSegment {
    id: SegmentId,
    file: Box<dyn DiskFile>,
    bytes: u64,
}

impl Writer {
    /// Begins a new segment at once, so that nothing depends on the state of the old ones.
    /// When the disk refuses, the journal starts in the read-only state and goes on trying.
    pub(crate) fn start(shared: Arc<Shared>, next_ordinal: u64) -> Self {
        let mut writer = Self {
            shared,
            active: None,
            next_ordinal,
            ballast: BallastBuilder::default(),
            retry_at: Duration::ZERO,
            retry_wait: RETRY_FIRST,
            buffer: Vec::new(),
        };
        let has_ballast = has_ballast(&writer.shared);
        writer.shared.files.lock().has_ballast = has_ballast;
        let first = writer.shared.queue.lock().next;
        let begun = writer.begin_segment(first).or_else(|error| {
            writer.make_room(&error);
            writer.begin_segment(first)
        });
        if let Err(error) = begun {
            writer.refuse(format!("beginning a segment: {error}"));
        }
        writer
    }

    /// Works until the journal is closed.
    pub fn run(mut self) {
        loop {
            self.await_work();
            if self.step() == Step::Closed {
                return;
            }
        }
    }

    /// Settles the group that waits first, if any. Never waits for anything but the disk.
    pub fn step(&mut self) -> Step {
        let free_bytes = self.mind_the_disk();
        let (group, is_closed) = {
            let mut queue = self.shared.queue.lock();
            (queue.pop(), queue.gate == Gate::Closed)
        };
        let Some(group) = group else {
            if is_closed {
                self.leave_clean_mark();
                return Step::Closed;
            }
            self.end_segment_if_wanted();
            self.ballast.grow(&self.shared, free_bytes);
            return Step::Idle;
        };
        self.settle(&group);
        Step::Settled
    }

    /// Returns when there is a group to write and its window has passed, or when it is time to look after the disk.
    fn await_work(&self) {
        let has_ballast_work = self.ballast.has_work(&self.shared);
        let window = self.shared.options.window.min(WINDOW_MAX);
        let mut queue = self.shared.queue.lock();
        if queue.is_empty() && queue.gate != Gate::Closed {
            let tick = match queue.gate {
                Gate::Open if has_ballast_work => TICK_BALLAST,
                Gate::Open | Gate::Closed => TICK_IDLE,
                Gate::DiskFull { .. } | Gate::ReadOnly { .. } => TICK_REFUSING,
            };
            self.shared.queue_changed.wait_for(&mut queue, tick);
        }
        if !window.is_zero() && !queue.is_empty() {
            let is_waiting = |queue: &mut crate::queue::Queue| !queue.has_full_group() && queue.gate != Gate::Closed;
            self.shared.queue_changed.wait_while_for(&mut queue, is_waiting, window);
        }
    }

    fn settle(&mut self, group: &Group) {
        let Some((first, last)) = group.positions() else {
            return;
        };
        let written = self.write_durably(first, group).or_else(|error| {
            // Of what was written since the last sync nothing may be assumed: the whole group goes into a new segment.
            self.poison(&error);
            self.write_durably(first, group)
        });
        let records = group.records.len() as u64;
        match written {
            Ok(()) => {
                self.retry_wait = RETRY_FIRST;
                let bytes = self.active.as_ref().map_or(0, |active| active.bytes);
                let mut files = self.shared.files.lock();
                files.durable = last;
                files.records_written += records;
                files.groups_written += 1;
                if let Some(segment) = files.segments.last_mut() {
                    segment.bytes = bytes;
                }
                drop(files);
                self.shared.queue.lock().bytes -= group.bytes;
                group.settle(Settled::Durable);
            }
            Err(error) => {
                self.poison(&error);
                let reason = format!("writing records {} to {}: {error}", first.0, last.0);
                self.shared.queue.lock().bytes -= group.bytes;
                self.shared.files.lock().failed_records += records;
                group.settle(Settled::Failed(reason.clone()));
                self.refuse(reason);
            }
        }
    }

    /// Writes and syncs the group, in a new segment when there is none or no room in it.
    fn write_durably(&mut self, first: JournalPosition, group: &Group) -> io::Result<()> {
        let bytes_max = self.shared.options.segment_bytes_max;
        let is_full = |active: &ActiveSegment| {
            active.bytes > SEGMENT_HEADER_BYTES as u64 && active.bytes.saturating_add(group.bytes as u64) > bytes_max
        };
        let is_wanted = self.shared.wants_segment.swap(false, Ordering::SeqCst);
        if is_wanted || self.active.as_ref().is_none_or(is_full) {
            self.active = None;
            self.begin_segment(first)?;
        }
        let Some(active) = &mut self.active else {
            return Err(io::Error::other("no segment is open"));
        };
        self.buffer.clear();
        for record in &group.records {
            let (header, payload) = record.parts(active.id.epoch);
            self.buffer.extend_from_slice(&header);
            if payload.len() >= WRITE_BYTES {
                active.file.append(&self.buffer)?;
                active.file.append(payload)?;
                self.buffer.clear();
                continue;
            }
            self.buffer.extend_from_slice(payload);
            if self.buffer.len() >= WRITE_BYTES {
                active.file.append(&self.buffer)?;
                self.buffer.clear();
            }
        }
        if !self.buffer.is_empty() {
            active.file.append(&self.buffer)?;
        }
        sync(&mut *active.file)?;
        active.bytes += group.bytes as u64;
        Ok(())
    }

    /// While nothing comes in, the new segment is begun empty. What cannot be begun is tried again with the next record.
    fn end_segment_if_wanted(&mut self) {
        if !self.shared.wants_segment.load(Ordering::SeqCst) {
            return;
        }
        let next = {
            let queue = self.shared.queue.lock();
            // What waits by now begins the segment itself.
            if !queue.is_empty() {
                return;
            }
            queue.next
        };
        let holds_records = self.shared.files.lock().segments.last().is_some_and(|last| last.bytes > SEGMENT_HEADER_BYTES as u64);
        if !holds_records || self.begin_segment(next).is_ok() {
            self.shared.wants_segment.store(false, Ordering::SeqCst);
        }
    }

    fn begin_segment(&mut self, first: JournalPosition) -> io::Result<()> {
        let env = &self.shared.env;
        let id = SegmentId { ordinal: self.next_ordinal, first, epoch: env.rng.next_u64() };
        let path = path_of(&id.file_name());
        let mut file = env.disk.create(&path)?;
        let header = encode_segment_header(id, env.clock.now());
        let written = file.append(&header).and_then(|()| sync(&mut *file)).and_then(|()| env.disk.sync_dir(FOLDER));
        if let Err(error) = written {
            if let Err(also) = env.disk.remove(&path) {
                self.shared.files.lock().last_error = Some(format!("removing {path}, which was only begun: {also}"));
            }
            return Err(error);
        }
        let bytes = header.len() as u64;
        self.next_ordinal += 1;
        self.shared.files.lock().segments.push(Segment { id, bytes });
        self.active = Some(ActiveSegment { id, file, bytes });
        Ok(())
    }

    /// Gives up the segment that an error came from; its file is never written to again.
    fn poison(&mut self, error: &io::Error) {
        let mut files = self.shared.files.lock();
        files.last_error = Some(error.to_string());
        if self.active.take().is_some() {
            files.poisoned_segments += 1;
        }
        drop(files);
        self.make_room(error);
    }

    /// Throws the ballast overboard when the disk is full.
    fn make_room(&self, error: &io::Error) {
        if is_full(error)
            && let Err(also) = release_ballast(&self.shared)
        {
            self.shared.files.lock().last_error = Some(format!("removing the ballast: {also}"));
        }
    }

    /// Closes the gate until [`Self::try_again`] succeeds. What waits behind a failed group fails with it.
    fn refuse(&mut self, reason: String) {
        let mut queue = self.shared.queue.lock();
        let groups = queue.take_all();
        if queue.gate != Gate::Closed {
            queue.gate = Gate::ReadOnly { reason: reason.clone() };
        }
        drop(queue);
        for group in &groups {
            group.settle(Settled::Failed(reason.clone()));
        }
        let mut files = self.shared.files.lock();
        files.failed_records += groups.iter().map(|group| group.records.len() as u64).sum::<u64>();
        files.last_error = Some(reason);
        drop(files);
        self.retry_at = self.shared.env.clock.monotonic().saturating_add(self.retry_wait);
        self.retry_wait = self.retry_wait.saturating_mul(2).min(RETRY_LAST);
    }

    /// Opens and closes the gate with the space on the disk, and returns what is free.
    fn mind_the_disk(&mut self) -> u64 {
        // A disk that does not say counts as empty: a write will tell.
        let free_bytes = self.shared.env.disk.free_bytes().unwrap_or(u64::MAX);
        let min = self.shared.options.free_bytes_min;
        let enough_again = min.saturating_add(min / 4);
        let gate = self.shared.queue.lock().gate.clone();
        match gate {
            Gate::Open if free_bytes < min => self.set_gate(Gate::DiskFull { free_bytes }),
            Gate::DiskFull { .. } if free_bytes >= enough_again => self.set_gate(Gate::Open),
            Gate::DiskFull { .. } => self.set_gate(Gate::DiskFull { free_bytes }),
            Gate::ReadOnly { .. } if free_bytes >= min => self.try_again(),
            Gate::Open | Gate::ReadOnly { .. } | Gate::Closed => {}
        }
        free_bytes
    }

    fn set_gate(&self, gate: Gate) {
        let mut queue = self.shared.queue.lock();
        if queue.gate != Gate::Closed {
            queue.gate = gate;
        }
    }

    fn try_again(&mut self) {
        let now = self.shared.env.clock.monotonic();
        if now < self.retry_at {
            return;
        }
        // Nothing is given a position while the gate is closed.
        let next = self.shared.queue.lock().next;
        match self.begin_segment(next) {
            Ok(()) => self.set_gate(Gate::Open),
            Err(error) => self.refuse(format!("beginning a segment: {error}")),
        }
    }

    /// Says to the next start that nothing was cut short.
    fn leave_clean_mark(&self) {
        if let Err(error) = br_env::disk::write_atomically(&*self.shared.env.disk, &path_of(CLEAN_FILE), b"") {
            self.shared.files.lock().last_error = Some(format!("leaving the mark of an orderly end: {error}"));
        }
    }
}

/// Whoever still waits when the writer goes, in order or by a panic, must hear of it.
impl Drop for Writer {
    fn drop(&mut self) {
        let mut queue = self.shared.queue.lock();
        queue.gate = Gate::Closed;
        let groups = queue.take_all();
        drop(queue);
        // Dropping a group settles it.
        drop(groups);
    }
}

/// The feature is there for the mutation test: with it, tests that cut the power must find losses.
fn sync(file: &mut dyn DiskFile) -> io::Result<()> {
    if cfg!(feature = "no_fsync") {
        return Ok(());
    }
    file.sync()
}
