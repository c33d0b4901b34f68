//! What the catalog knows of each immutable file, and how far the journal has been taken into files.

use br_model::TenantId;
use br_std::Nanos;

/// The number of a record in the journal: 1 for the first, one more for each. 0 stands for "before the first".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JournalPosition(pub u64);

impl JournalPosition {
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// Reads `first,last`, as it stands in the footers of files.
    pub fn parse_range(text: &str) -> Option<(Self, Self)> {
        let (first, last) = text.split_once(',')?;
        Some((Self(first.parse().ok()?), Self(last.parse().ok()?)))
    }

    /// Writes `first,last`.
    pub fn format_range((first, last): (Self, Self)) -> String {
        format!("{},{}", first.0, last.0)
    }
}

/// The tables that are kept in files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    Metrics,
    Logs,
    Spans,
}

impl Table {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Metrics => "metrics",
            Self::Logs => "logs",
            Self::Spans => "spans",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Metrics, Self::Logs, Self::Spans].into_iter().find(|table| table.as_str() == name)
    }
}

/// One immutable file.
#[derive(Clone, Debug, PartialEq)]
pub struct FileEntry {
    /// Given by the catalog; 0 before that.
    pub id: i64,
    pub tenant: TenantId,
    pub table: Table,
    /// Below the root of the object store; never used twice.
    pub path: String,
    /// Start of the time window that the file belongs to.
    pub window: Nanos,
    /// Length of that window in seconds.
    pub window_secs: u32,
    /// 0 as flushed; one more for each compaction that it went through.
    pub level: u16,
    pub size_bytes: u64,
    pub rows: u64,
    /// Time of the first and the last row, both included.
    pub min_time: Nanos,
    pub max_time: Nanos,
    /// The store's own summary of the file, as JSON: for pruning without opening it.
    pub stats: String,
}

/// A file that was found without an entry, and what it says of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundFile {
    pub entry: FileEntry,
    /// The first and the last record of the journal that may be in it; files of older releases do not say.
    pub positions: Option<(JournalPosition, JournalPosition)>,
    /// Paths of the files that it was merged from.
    pub made_of: Vec<String>,
}
