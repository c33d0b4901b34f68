//! What happened to the store, for `/metrics` and for the page that shows its health.

use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts since the start.
#[derive(Debug, Default)]
pub struct EventCounters {
    pub logs_appended: AtomicU64,
    pub spans_appended: AtomicU64,
    /// Appends at a position that had already been sealed.
    pub appends_skipped: AtomicU64,
    pub bodies_cut: AtomicU64,
    pub attributes_cut: AtomicU64,
    pub attributes_dropped: AtomicU64,
    pub span_children_dropped: AtomicU64,
    /// Records that joined a window that is not theirs because there were too many windows.
    pub windows_joined: AtomicU64,
    pub files_written: AtomicU64,
    pub pages_read: AtomicU64,
    pub pages_pruned: AtomicU64,
    /// Reads that met a damaged file.
    pub damaged_reads: AtomicU64,
    damages: Mutex<VecDeque<Damage>>,
}

/// A file that could not be read, and why. The rest of the store answers without it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    pub path: String,
    pub message: String,
}

/// Damaged files are listed up to this number; the oldest make room.
const DAMAGES_MAX: usize = 256;

impl EventCounters {
    pub(crate) fn add(counter: &AtomicU64, count: usize) {
        counter.fetch_add(count as u64, Ordering::Relaxed);
    }

    pub(crate) fn damaged(&self, path: &str, message: &str) {
        self.damaged_reads.fetch_add(1, Ordering::Relaxed);
        let mut damages = self.damages.lock();
        if damages.iter().any(|damage| damage.path == path) {
            return;
        }
        if damages.len() >= DAMAGES_MAX {
            damages.pop_front();
        }
        damages.push_back(Damage { path: path.to_owned(), message: message.to_owned() });
    }

    pub(crate) fn is_damaged(&self, path: &str) -> bool {
        self.damages.lock().iter().any(|damage| damage.path == path)
    }

    /// The damaged files that reads have met, in the order of the first meeting.
    pub fn damages(&self) -> Vec<Damage> {
        self.damages.lock().iter().cloned().collect()
    }
}
