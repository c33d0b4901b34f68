//! What the writer, the readers and the front of a journal share.

use crate::format::SegmentId;
use crate::queue::{Gate, Queue};
use crate::status::Quarantined;
use crate::{Options, State};
use br_env::Env;
use br_storage::JournalPosition;
use parking_lot::{Condvar, Mutex};
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

/// The folder of the journal below the data directory.
pub(crate) const FOLDER: &str = "journal";

/// Damaged ranges that are kept for display; beyond that they are only counted.
const QUARANTINED_SHOWN_MAX: usize = 1000;

pub(crate) struct Shared {
    pub(crate) env: Env,
    pub(crate) options: Options,
    /// The ordering lock. Taken before `files` where both are needed.
    pub(crate) queue: Mutex<Queue>,
    /// The queue has something for the writer, or was closed.
    pub(crate) queue_changed: Condvar,
    pub(crate) files: Mutex<Files>,
    pub(crate) damage: Mutex<Damage>,
    /// What is written from now on goes into a new segment.
    pub(crate) wants_segment: AtomicBool,
}

pub(crate) fn path_of(name: &str) -> String {
    format!("{FOLDER}/{name}")
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment {
    pub(crate) id: SegmentId,
    /// Bytes that may be read: for the segment that is being written, those that were synced.
    pub(crate) bytes: u64,
}

/// The segments and how far they are durable.
pub(crate) struct Files {
    /// By ordinal; the writer appends to the last one.
    pub(crate) segments: Vec<Segment>,
    pub(crate) durable: JournalPosition,
    pub(crate) start: JournalPosition,
    pub(crate) poisoned_segments: u64,
    pub(crate) failed_records: u64,
    pub(crate) records_written: u64,
    pub(crate) groups_written: u64,
    pub(crate) has_ballast: bool,
    pub(crate) last_error: Option<String>,
}

/// Damage that readers met, each range once however often it is read.
#[derive(Default)]
pub(crate) struct Damage {
    /// By ordinal of the segment and first byte.
    quarantined: BTreeMap<(u64, u64), Quarantined>,
    quarantined_beyond: u64,
    /// By ordinal of the segment.
    torn: BTreeMap<u64, u64>,
}

impl Damage {
    pub(crate) fn quarantine(&mut self, id: SegmentId, damaged: Quarantined) {
        let key = (id.ordinal, damaged.bytes.start);
        if self.quarantined.contains_key(&key) {
            return;
        }
        if self.quarantined.len() >= QUARANTINED_SHOWN_MAX {
            self.quarantined_beyond += 1;
            return;
        }
        self.quarantined.insert(key, damaged);
    }

    pub(crate) fn tear(&mut self, id: SegmentId, bytes: u64) {
        self.torn.insert(id.ordinal, bytes);
    }

    pub(crate) fn is_damaged(&self, id: SegmentId) -> bool {
        self.quarantined.range((id.ordinal, 0)..=(id.ordinal, u64::MAX)).next().is_some()
    }

    pub(crate) fn quarantined(&self) -> Vec<Quarantined> {
        self.quarantined.values().cloned().collect()
    }

    pub(crate) fn quarantined_ranges(&self) -> u64 {
        self.quarantined.len() as u64 + self.quarantined_beyond
    }

    pub(crate) fn torn_bytes(&self) -> u64 {
        self.torn.values().sum()
    }
}

impl From<&Gate> for State {
    fn from(gate: &Gate) -> Self {
        match gate {
            Gate::Open => Self::Accepting,
            Gate::DiskFull { free_bytes } => Self::DiskFull { free_bytes: *free_bytes },
            Gate::ReadOnly { reason } => Self::ReadOnly { reason: reason.clone() },
            Gate::Closed => Self::Closed,
        }
    }
}
