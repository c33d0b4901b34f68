//! The series of one file, in memory.

use super::io::guard;
use super::read::{IndexColumns, OpenBlock, next_batch};
use super::row::RowHead;
use super::schema::{FORMAT, KEY_FORMAT, KEY_INDEX_CRC32, KEY_METADATA, KEY_METADATA_CRC32, column};
use crate::index::{LabelIndex, SymbolPairs};
use br_model::{Labels, Metadata};
use br_std::{Error, Result};
use br_storage::{FileEntry, Matcher};
use object_store::ObjectStore;
use roaring::RoaringBitmap;
use std::sync::Arc;

pub(crate) struct BlockIndex {
    pub(crate) block: OpenBlock,
    labels: LabelIndex,
    /// By number of the series, in the order of the file.
    series: Vec<BlockSeries>,
    heads: Vec<RowHead>,
}

struct BlockSeries {
    pairs: SymbolPairs,
    hash: u128,
    first_row: u32,
}

impl BlockIndex {
    /// Reads footer and index columns and verifies their checksums.
    pub(crate) fn load(store: Arc<dyn ObjectStore>, entry: &FileEntry) -> Result<Self> {
        let block = OpenBlock::open(store, &entry.path, entry.size_bytes)?;
        guard(&entry.path, || Self::read(block.clone(), entry))
    }

    fn read(block: OpenBlock, entry: &FileEntry) -> Result<Self> {
        if block.footer_text(KEY_FORMAT) != Some(FORMAT) {
            return Err(Error::corrupt(format!("{}: the format in its footer is not {FORMAT}", entry.path)));
        }
        read_metadata(&block)?;
        let mut index = Self { block, labels: LabelIndex::default(), series: Vec::new(), heads: Vec::new() };
        let mut hasher = crc32fast::Hasher::new();
        let mut stream = index.block.stream(column::OF_INDEX, None)?;
        while let Some(batch) = next_batch(&mut stream, &entry.path)? {
            index.add(&IndexColumns::of(&batch, &entry.path)?, batch.num_rows(), &mut hasher)?;
        }
        let crc32 = format!("{:08x}", hasher.finalize());
        if index.block.footer_text(KEY_INDEX_CRC32) != Some(crc32.as_str()) || index.heads.len() as u64 != entry.rows {
            return Err(Error::corrupt(format!("{}: the checksum of its series does not fit", entry.path)));
        }
        Ok(index)
    }

    fn add(&mut self, columns: &IndexColumns<'_>, rows: usize, hasher: &mut crc32fast::Hasher) -> Result<()> {
        let mut pairs = Vec::new();
        let mut bytes = Vec::new();
        for at in 0..rows {
            columns.labels_at(at, &mut pairs);
            let hash = hash_pairs(&pairs, &mut bytes);
            if self.series.last().is_none_or(|last| last.hash != hash) {
                let id = self.series.len() as u32;
                let pairs = self.labels.insert_pairs(id, pairs.iter().copied());
                self.series.push(BlockSeries { pairs, hash, first_row: self.heads.len() as u32 });
            }
            let head = columns.head_at(at, &self.block.path)?;
            head.checksum(hash, hasher);
            self.heads.push(head);
        }
        Ok(())
    }

    /// The series that match and have a chunk that touches the range.
    pub(crate) fn select(&self, matchers: &[Matcher], from_ms: i64, to_ms: i64) -> RoaringBitmap {
        let mut found = self.labels.resolve(matchers);
        let is_all_inside = self.heads.iter().all(|head| head.min_ms <= to_ms && head.max_ms >= from_ms);
        if !is_all_inside {
            found = found.iter().filter(|id| self.rows(*id, from_ms, to_ms).next().is_some()).collect();
        }
        found
    }

    /// Rows of a series that touch the range.
    pub(crate) fn rows(&self, series: u32, from_ms: i64, to_ms: i64) -> impl Iterator<Item = u32> {
        let at = series as usize;
        let first = self.series.get(at).map_or(0, |series| series.first_row);
        let end = self.series.get(at + 1).map_or(self.heads.len() as u32, |next| next.first_row);
        (first..end)
            .filter(move |row| self.heads.get(*row as usize).is_some_and(|head| head.min_ms <= to_ms && head.max_ms >= from_ms))
    }

    /// Hash of the label set of a series of this file.
    pub(crate) fn hash(&self, series: u32) -> u128 {
        self.series[series as usize].hash
    }

    pub(crate) fn labels(&self, series: u32) -> Labels {
        self.labels.labels(&self.series[series as usize].pairs)
    }

    pub(crate) fn label_index(&self) -> &LabelIndex {
        &self.labels
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let pairs: usize = self.series.iter().map(|series| series.pairs.len() * 8 + size_of::<BlockSeries>()).sum();
        pairs + self.heads.len() * size_of::<RowHead>() + self.labels.heap_bytes() + self.block.heap_bytes()
    }
}

/// The hash that [`Labels::hash128`] gives for the same labels.
pub(crate) fn hash_pairs(pairs: &[(&str, &str)], bytes: &mut Vec<u8>) -> u128 {
    bytes.clear();
    for (name, value) in pairs {
        bytes.extend_from_slice(name.as_bytes());
        bytes.push(0xff);
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(0xff);
    }
    br_std::hash::hash128(bytes)
}

/// Metadata in the footer of a file, sorted by family.
pub(crate) fn read_metadata(block: &OpenBlock) -> Result<Vec<(String, Metadata)>> {
    let text = block.footer_text(KEY_METADATA).unwrap_or("{}");
    let crc32 = format!("{:08x}", crc32fast::hash(text.as_bytes()));
    if block.footer_text(KEY_METADATA_CRC32) != Some(crc32.as_str()) {
        return Err(Error::corrupt(format!("{}: the checksum of its metadata does not fit", block.path)));
    }
    let families: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text)
        .map_err(|error| Error::corrupt(format!("{}: its metadata: {error}", block.path)).with_source(error))?;
    let field = |value: &serde_json::Value, name| value.get(name).and_then(|text| text.as_str()).unwrap_or("").to_owned();
    let of_family = |(family, value): (String, serde_json::Value)| {
        let metric_type = field(&value, "type").parse().unwrap_or_default();
        (family, Metadata { metric_type, help: field(&value, "help"), unit: field(&value, "unit") })
    };
    Ok(families.into_iter().map(of_family).collect())
}
