//! What can be seen of a journal from outside.

use br_storage::JournalPosition;
use std::ops::Range;

/// Whether the journal takes records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    Accepting,
    /// Less is free on the disk than [`crate::Options::free_bytes_min`].
    DiskFull {
        free_bytes: u64,
    },
    /// The disk refuses writes; the writer tries again by itself.
    ReadOnly {
        reason: String,
    },
    Closed,
}

/// A range of a segment that could not be read. Its records are lost to the stores; the bytes stay for inspection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantined {
    /// The segment's file name.
    pub segment: String,
    pub bytes: Range<u64>,
    /// The record's position, where its header is legible.
    pub position: Option<JournalPosition>,
    pub reason: String,
}

#[derive(Clone, Debug)]
pub struct Status {
    pub state: State,
    pub segments: usize,
    /// In all segments.
    pub bytes: u64,
    /// The last position that was given out.
    pub last_position: JournalPosition,
    /// All records up to here are on stable storage, except those whose tickets failed.
    pub durable_position: JournalPosition,
    /// Positions before this one may have been deleted.
    pub start: JournalPosition,
    /// Waiting or being written.
    pub queued_bytes: usize,
    /// Segments given up after a write or sync failed.
    pub poisoned_segments: u64,
    /// Records whose tickets failed.
    pub failed_records: u64,
    pub records_written: u64,
    pub groups_written: u64,
    /// Bytes of unfinished records at the ends of segments, as a crash leaves them.
    pub torn_bytes: u64,
    /// The first thousand damaged ranges that were met.
    pub quarantined: Vec<Quarantined>,
    /// All damaged ranges that were met.
    pub quarantined_ranges: u64,
    /// Whether the ballast file is in its place.
    pub has_ballast: bool,
    /// What went wrong last while writing, if anything did.
    pub last_error: Option<String>,
}
