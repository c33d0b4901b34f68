//! The summary of a file that the catalog keeps beside it.

use br_std::{Error, Result};
use br_storage::{FileEntry, JournalPosition};
use serde::{Deserialize, Serialize};

/// In [`FileEntry::stats`], as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockStats {
    pub series: u64,
    pub samples: u64,
    /// The first record of the journal that may be in the file: of two files, the lower one holds what was stored first.
    pub from_position: u64,
    /// The last one.
    pub to_position: u64,
    /// CRC-32 of the whole file.
    pub crc32: u32,
}

impl BlockStats {
    pub fn of(entry: &FileEntry) -> Result<Self> {
        serde_json::from_str(&entry.stats)
            .map_err(|error| Error::corrupt(format!("{}: its summary in the catalog: {error}", entry.path)).with_source(error))
    }

    pub(crate) fn to_json(&self) -> String {
        // Five numbers: the library has nothing to refuse.
        serde_json::to_string(self).unwrap_or_default()
    }

    pub(crate) fn positions(&self) -> (JournalPosition, JournalPosition) {
        (JournalPosition(self.from_position), JournalPosition(self.to_position))
    }
}
