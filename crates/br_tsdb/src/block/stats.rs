//! The summary of a file that the catalog keeps beside it.

use crate::mask::Reach;
use crate::rollup::RollupOf;
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
    /// Deletions up to this record of the journal were carried out on the file.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub deleted_to: u64,
    /// Of a rollup: see [`RollupOf`].
    #[serde(default, skip_serializing_if = "is_raw")]
    pub interval_ms: i64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_histograms: bool,
}

/// Most files were never written anew: they need not say so.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "the library hands over a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the library hands over a reference")]
fn is_raw(interval_ms: &i64) -> bool {
    *interval_ms == 0
}

impl BlockStats {
    pub fn of(entry: &FileEntry) -> Result<Self> {
        serde_json::from_str(&entry.stats)
            .map_err(|error| Error::corrupt(format!("{}: its summary in the catalog: {error}", entry.path)).with_source(error))
    }

    pub(crate) fn to_json(&self) -> String {
        // Numbers: the library has nothing to refuse.
        serde_json::to_string(self).unwrap_or_default()
    }

    pub(crate) fn rollup(&self) -> RollupOf {
        let Self { interval_ms, sources, has_histograms, .. } = self;
        RollupOf { interval_ms: *interval_ms, sources: sources.clone(), has_histograms: *has_histograms }
    }

    pub(crate) fn reach(&self) -> Reach {
        Reach {
            is_rollup: self.interval_ms != 0,
            last_record: JournalPosition(self.to_position),
            deleted_to: JournalPosition(self.deleted_to),
        }
    }

    pub(crate) fn positions(&self) -> (JournalPosition, JournalPosition) {
        (JournalPosition(self.from_position), JournalPosition(self.to_position))
    }
}
