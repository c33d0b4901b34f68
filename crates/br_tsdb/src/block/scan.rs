//! Reading a whole file from front to back, one series at a time, in little memory.

use super::footer::{check_format, read_metadata};
use super::io::guard;
use super::read::{BatchStream, ChunkColumns, HeadColumns, IdentityColumns, OpenBlock, next_batch};
use super::row::ChunkRow;
use super::schema::KEY_INDEX_CRC32;
use super::series_table::hash_pairs;
use br_model::{Labels, Metadata};
use br_std::{Error, Result};
use br_storage::FileEntry;
use object_store::ObjectStore;
use std::collections::VecDeque;
use std::sync::Arc;

pub(crate) struct BlockScan {
    pub(crate) metadata: Vec<(String, Metadata)>,
    block: OpenBlock,
    stream: BatchStream,
    rows: VecDeque<ScannedRow>,
    index_crc32: crc32fast::Hasher,
    is_at_end: bool,
}

struct ScannedRow {
    labels: Labels,
    hash: u128,
    row: ChunkRow,
}

/// The rows of one series.
pub(crate) struct ScannedSeries {
    pub(crate) hash: u128,
    pub(crate) rows: Vec<ChunkRow>,
}

impl BlockScan {
    pub(crate) fn new(store: Arc<dyn ObjectStore>, entry: &FileEntry) -> Result<Self> {
        let block = OpenBlock::open(store, &entry.path, entry.size_bytes)?;
        check_format(&block)?;
        let stream = guard(&entry.path, || block.stream_all())?;
        Ok(Self {
            metadata: read_metadata(&block)?,
            block,
            stream,
            rows: VecDeque::new(),
            index_crc32: crc32fast::Hasher::new(),
            is_at_end: false,
        })
    }

    /// The labels of the next series; `None` at the end, where the checksum of the whole has been verified.
    pub(crate) fn peek(&mut self) -> Result<Option<&Labels>> {
        self.fill()?;
        Ok(self.rows.front().map(|row| &row.labels))
    }

    pub(crate) fn next_series(&mut self) -> Result<Option<ScannedSeries>> {
        self.fill()?;
        let Some(first) = self.rows.pop_front() else { return Ok(None) };
        let hash = first.hash;
        let mut series = ScannedSeries { hash, rows: vec![first.row] };
        loop {
            self.fill()?;
            match self.rows.pop_front() {
                Some(next) if next.hash == hash => series.rows.push(next.row),
                Some(next) => {
                    self.rows.push_front(next);
                    return Ok(Some(series));
                }
                None => return Ok(Some(series)),
            }
        }
    }

    /// Reads on when no row is at hand.
    fn fill(&mut self) -> Result<()> {
        if !self.rows.is_empty() || self.is_at_end {
            return Ok(());
        }
        let path = self.block.path.clone();
        guard(&path, || self.read_batch())
    }

    fn read_batch(&mut self) -> Result<()> {
        let path = &self.block.path;
        let Some(batch) = next_batch(&mut self.stream, path)? else {
            self.is_at_end = true;
            let crc32 = format!("{:08x}", self.index_crc32.clone().finalize());
            let is_whole = self.block.footer_text(KEY_INDEX_CRC32) == Some(crc32.as_str());
            let damage = || Error::corrupt(format!("{path}: the checksum of its series does not fit"));
            return if is_whole { Ok(()) } else { Err(damage()) };
        };
        let (identities, heads) = (IdentityColumns::of(&batch, path)?, HeadColumns::of(&batch, path)?);
        let chunks = ChunkColumns::of(&batch, path)?;
        let (mut pairs, mut bytes) = (Vec::new(), Vec::new());
        for at in 0..batch.num_rows() {
            identities.labels_at(at, &mut pairs);
            let hash = hash_pairs(&pairs, &mut bytes);
            let (row, crc32) = chunks.row(at, heads.head(at, path)?);
            row.head.checksum(hash, &mut self.index_crc32);
            if row.crc32(hash) != crc32 {
                return Err(Error::corrupt(format!("{path}: the checksum of a chunk does not fit")));
            }
            let labels = match self.rows.back() {
                Some(before) if before.hash == hash => before.labels.clone(),
                _ => Labels::from_pairs(pairs.iter().copied()),
            };
            self.rows.push_back(ScannedRow { labels, hash, row });
        }
        Ok(())
    }
}
