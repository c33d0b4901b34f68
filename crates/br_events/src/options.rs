//! What the event store may use.

use crate::retention::EventRules;
use br_env::Rng;
use std::sync::Arc;
use std::time::Duration;

/// Bounds on what one record may bring. What is beyond is cut and counted, never refused: the sender already has its answer.
#[derive(Clone, Debug)]
pub struct RecordLimits {
    /// Bytes of a log's body; the rest is replaced by a marker that says how much is missing.
    pub body_bytes_max: usize,
    /// Attributes of one record, at most [`ATTRIBUTES_MAX`]; the rest is dropped.
    pub attributes_max: usize,
    /// Bytes of an attribute's text.
    pub attribute_bytes_max: usize,
    /// Events, and apart from them links, of one span.
    pub span_children_max: usize,
}

/// The order of a record's attributes is kept with one byte each.
pub const ATTRIBUTES_MAX: usize = 255;

impl Default for RecordLimits {
    fn default() -> Self {
        Self { body_bytes_max: 256 << 10, attributes_max: 128, attribute_bytes_max: 64 << 10, span_children_max: 1024 }
    }
}

/// How the store keeps its files.
#[derive(Clone)]
pub struct EventOptions {
    /// Makes the names of files unique.
    pub rng: Arc<dyn Rng>,
    pub limits: RecordLimits,
    /// Length of the time windows that files belong to.
    pub window: Duration,
    /// A file is ended when it has so many rows or bytes.
    pub file_rows_max: usize,
    pub file_bytes_max: usize,
    /// Files of like size of a window that still fills are compacted when there are so many; of one that is over, from two on.
    pub compact_files_min: usize,
    /// Files that one compaction takes at most: it holds a page of each.
    pub compact_files_max: usize,
    /// Files of this size and more stay as they are.
    pub compact_bytes_max: u64,
    /// Attribute columns of one file.
    pub promoted_columns_max: usize,
    /// Time windows that the head keeps apart for one table of one tenant; records beyond join the newest of them.
    pub head_windows_max: usize,
    /// Heads of this size, those included that are being written, are to be sealed and written before their time.
    pub head_bytes_wanted: usize,
    /// Heads take no more than about this; what comes then waits in the journal, and its sender is asked to come again.
    pub head_bytes_max: usize,
    /// Directories of files (footers, page summaries) kept in memory.
    pub open_files_max: usize,
    /// A query reads with its own thread and with as many of all these less one as no other query uses.
    pub threads: usize,
    /// For events that are not kept as long as others.
    pub retention: Option<Arc<EventRules>>,
}

impl EventOptions {
    pub fn new(rng: Arc<dyn Rng>) -> Self {
        Self {
            rng,
            limits: RecordLimits::default(),
            window: Duration::from_hours(1),
            file_rows_max: 4 << 20,
            file_bytes_max: 128 << 20,
            compact_files_min: 8,
            compact_files_max: 16,
            compact_bytes_max: 64 << 20,
            promoted_columns_max: 64,
            head_windows_max: 256,
            head_bytes_wanted: 128 << 20,
            head_bytes_max: 384 << 20,
            open_files_max: 512,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            retention: None,
        }
    }
}
