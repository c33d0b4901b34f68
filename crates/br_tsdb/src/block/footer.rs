//! The footer of a file: what it is, where its metrics stand, and what it says about metric families.

use super::directory::Directory;
use super::read::{BatchStream, OpenBlock};
use super::schema::{FORMAT, FORMAT_ROLLUP, KEY_FORMAT, KEY_METADATA, KEY_METADATA_CRC32, KEY_SECTIONS, KEY_SECTIONS_CRC32};
use br_model::Metadata;
use br_std::{Error, Result};
use br_storage::FileEntry;
use object_store::ObjectStore;
use std::ops::Range;
use std::sync::Arc;

/// A file whose footer was read and verified.
pub(crate) struct OpenFile {
    pub(crate) block: OpenBlock,
    pub(crate) directory: Directory,
}

impl OpenFile {
    pub(crate) fn open(store: Arc<dyn ObjectStore>, entry: &FileEntry) -> Result<Self> {
        let block = OpenBlock::open(store, &entry.path, entry.size_bytes)?;
        check_format(&block)?;
        read_metadata(&block)?;
        if block.row_count() != entry.rows {
            return Err(Error::corrupt(format!("{}: has {} rows instead of {}", entry.path, block.row_count(), entry.rows)));
        }
        let text = checked_text(&block, KEY_SECTIONS, KEY_SECTIONS_CRC32, "[]")?;
        let directory = Directory::parse(text, entry.rows).map_err(|error| error.context(&entry.path))?;
        Ok(Self { block, directory })
    }

    /// The rows of some sections (ascending), with the columns at these positions of the schema.
    pub(crate) fn stream_sections(&self, columns: Range<usize>, sections: &[u32]) -> Result<BatchStream> {
        let ranges = sections.iter().map(|at| self.directory.rows(*at));
        self.block.stream_ranges(columns, ranges.map(|rows| rows.start as usize..rows.end as usize))
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.block.heap_bytes() + self.directory.heap_bytes()
    }
}

pub(crate) fn check_format(block: &OpenBlock) -> Result<()> {
    match block.footer_text(KEY_FORMAT) {
        Some(FORMAT | FORMAT_ROLLUP) => Ok(()),
        _ => Err(Error::corrupt(format!("{}: the format in its footer is not {FORMAT}", block.path))),
    }
}

/// A text of the footer that has a checksum beside it.
fn checked_text<'a>(block: &'a OpenBlock, key: &str, key_crc32: &str, default: &'static str) -> Result<&'a str> {
    let text = block.footer_text(key).unwrap_or(default);
    let crc32 = format!("{:08x}", crc32fast::hash(text.as_bytes()));
    if block.footer_text(key_crc32) != Some(crc32.as_str()) {
        return Err(Error::corrupt(format!("{}: the checksum of {key} does not fit", block.path)));
    }
    Ok(text)
}

/// Metadata in the footer of a file, sorted by family.
pub(crate) fn read_metadata(block: &OpenBlock) -> Result<Vec<(String, Metadata)>> {
    let text = checked_text(block, KEY_METADATA, KEY_METADATA_CRC32, "{}")?;
    let families: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text)
        .map_err(|error| Error::corrupt(format!("{}: its metadata: {error}", block.path)).with_source(error))?;
    let field = |value: &serde_json::Value, name| value.get(name).and_then(|text| text.as_str()).unwrap_or("").to_owned();
    let of_family = |(family, value): (String, serde_json::Value)| {
        let metric_type = field(&value, "type").parse().unwrap_or_default();
        (family, Metadata { metric_type, help: field(&value, "help"), unit: field(&value, "unit") })
    };
    Ok(families.into_iter().map(of_family).collect())
}
