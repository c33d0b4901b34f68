//! How a journal is run.

use br_storage::JournalPosition;
use std::time::Duration;

/// The longest time that a record may wait for company before it is written.
pub(crate) const WINDOW_MAX: Duration = Duration::from_millis(100);

#[derive(Clone, Debug)]
pub struct Options {
    /// How long the writer waits for more records after the first of a group; at most 100 ms.
    /// Zero writes as soon as the writer is free: what comes in during one sync forms the next group.
    pub window: Duration,
    /// Bytes that may wait to be written, those being written among them. What comes on top is refused with `Retry`.
    pub queued_bytes_max: usize,
    /// One write and one sync take about this much at the most; a larger record has its own group.
    pub group_bytes_max: usize,
    /// A segment is closed when a group would take it past this. A larger group has its own segment.
    pub segment_bytes_max: u64,
    /// Larger bodies are refused with `OverLimit`; at most 256 MiB.
    pub body_bytes_max: usize,
    /// Bodies that the sender did not compress are compressed with lz4.
    pub compress: bool,
    /// While less than this is free on the disk, appends are refused, so that everything else can go on. Zero turns it off.
    pub free_bytes_min: u64,
    /// Size of a file that is given up when the disk is full all the same. Zero for none.
    pub ballast_bytes: u64,
    /// Positions up to this one were given out by an earlier life of the journal, whatever its files say; the stores know.
    pub position_floor: JournalPosition,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            window: Duration::ZERO,
            queued_bytes_max: 64 << 20,
            group_bytes_max: 8 << 20,
            segment_bytes_max: 128 << 20,
            body_bytes_max: 64 << 20,
            compress: true,
            free_bytes_min: 256 << 20,
            ballast_bytes: 64 << 20,
            position_floor: JournalPosition(0),
        }
    }
}
