//! Reading a whole file from front to back, one series at a time, in little memory.

use super::footer::{check_format, read_metadata};
use super::io::guard;
use super::read::{BatchStream, ChunkColumns, HeadColumns, IdentityColumns, OpenBlock, next_batch};
use super::row::{ChunkRow, HeadsChecksum, RowHead};
use super::schema::KEY_INDEX_CRC32;
use super::series_table::hash_pairs;
use arrow::array::RecordBatch;
use br_model::labels::METRIC_NAME;
use br_model::{Labels, Metadata};
use br_std::{Error, Result};
use br_storage::FileEntry;
use object_store::ObjectStore;
use std::cmp::Ordering;
use std::sync::Arc;

pub(crate) struct BlockScan {
    pub(crate) metadata: Vec<(String, Metadata)>,
    block: OpenBlock,
    stream: BatchStream,
    /// `None` before the first rows.
    batch: Option<Arc<ScannedBatch>>,
    /// The next row, in the batch.
    at: usize,
    index_crc32: HeadsChecksum,
    is_at_end: bool,
}

/// Rows that are verified.
struct ScannedBatch {
    rows: RecordBatch,
    hashes: Vec<u128>,
    heads: Vec<RowHead>,
}

/// Whose a row is.
#[derive(Clone)]
pub(crate) struct SeriesTexts {
    batch: Arc<ScannedBatch>,
    at: usize,
}

impl BlockScan {
    pub(crate) fn new(store: Arc<dyn ObjectStore>, entry: &FileEntry) -> Result<Self> {
        let block = OpenBlock::open(store, &entry.path, entry.size_bytes)?;
        check_format(&block)?;
        let stream = guard(&entry.path, || block.stream_all())?;
        let (batch, index_crc32) = (None, HeadsChecksum::default());
        Ok(Self { metadata: read_metadata(&block)?, block, stream, batch, at: 0, index_crc32, is_at_end: false })
    }

    /// The hash of the labels of the next row; `None` at the end, where the checksum of the whole has been verified.
    pub(crate) fn peek_hash(&mut self) -> Result<Option<u128>> {
        self.fill()?;
        Ok(self.batch.as_ref().and_then(|batch| batch.hashes.get(self.at).copied()))
    }

    /// The same, and the labels unread.
    pub(crate) fn peek_texts(&mut self) -> Result<Option<(u128, SeriesTexts)>> {
        let Some(hash) = self.peek_hash()? else { return Ok(None) };
        Ok(self.batch.clone().map(|batch| (hash, SeriesTexts { batch, at: self.at })))
    }

    /// The next row, when it is of the series with this hash.
    pub(crate) fn next_row_of(&mut self, hash: u128) -> Result<Option<ChunkRow<&[u8]>>> {
        if self.peek_hash()? != Some(hash) {
            return Ok(None);
        }
        let Some(batch) = &self.batch else { return Ok(None) };
        let at = self.at;
        self.at += 1;
        let (row, _) = ChunkColumns::of(&batch.rows, &self.block.path)?.row(at, batch.heads[at]);
        Ok(Some(row))
    }

    /// Reads on when no row is at hand.
    fn fill(&mut self) -> Result<()> {
        while !self.is_at_end && self.batch.as_ref().is_none_or(|batch| self.at >= batch.hashes.len()) {
            let path = self.block.path.clone();
            self.at = 0;
            self.batch = guard(&path, || self.read_batch())?.map(Arc::new);
            self.is_at_end = self.batch.is_none();
        }
        Ok(())
    }

    fn read_batch(&mut self) -> Result<Option<ScannedBatch>> {
        let path = &self.block.path;
        let Some(rows) = next_batch(&mut self.stream, path)? else {
            let crc32 = format!("{:08x}", self.index_crc32.clone().finalize());
            let is_whole = self.block.footer_text(KEY_INDEX_CRC32) == Some(crc32.as_str());
            let damage = || Error::corrupt(format!("{path}: the checksum of its series does not fit"));
            return if is_whole { Ok(None) } else { Err(damage()) };
        };
        let (identities, columns) = (IdentityColumns::of(&rows, path)?, HeadColumns::of(&rows, path)?);
        let chunks = ChunkColumns::of(&rows, path)?;
        let (mut pairs, mut bytes) = (Vec::new(), Vec::new());
        let (mut hashes, mut heads) = (Vec::with_capacity(rows.num_rows()), Vec::with_capacity(rows.num_rows()));
        for at in 0..rows.num_rows() {
            identities.labels_at(at, &mut pairs);
            let hash = hash_pairs(&pairs, &mut bytes);
            let head = columns.head(at, path)?;
            let (row, crc32) = chunks.row(at, head);
            self.index_crc32.add(head, hash);
            if row.crc32(hash) != crc32 {
                return Err(Error::corrupt(format!("{path}: the checksum of a chunk does not fit")));
            }
            hashes.push(hash);
            heads.push(head);
        }
        Ok(Some(ScannedBatch { rows, hashes, heads }))
    }
}

impl SeriesTexts {
    /// Names and values, sorted by name, that of the metric among them.
    pub(crate) fn pairs(&self) -> Result<Vec<(&str, &str)>> {
        let mut pairs = Vec::with_capacity(16);
        IdentityColumns::of(&self.batch.rows, "a file that is read")?.labels_at(self.at, &mut pairs);
        Ok(pairs)
    }

    pub(crate) fn labels(&self) -> Result<Labels> {
        Ok(Labels::from_pairs(self.pairs()?))
    }

    /// As [`super::row::order`] has them.
    pub(crate) fn order(&self, other: &Self) -> Result<Ordering> {
        let (one, two) = (self.pairs()?, other.pairs()?);
        Ok(metric_of(&one).cmp(metric_of(&two)).then_with(|| one.cmp(&two)))
    }
}

/// The metric's name among these pairs; empty when there is none.
pub(crate) fn metric_of<'a>(pairs: &[(&str, &'a str)]) -> &'a str {
    pairs.iter().find(|(name, _)| *name == METRIC_NAME).map_or("", |(_, value)| value)
}
