//! Single rows of the columns of a chunk, by the pages that hold them.
//!
//! The Parquet library's stream of batches decompresses the pages that a batch touches, and those of the next batch anew. Here a page
//! is decompressed once: a query keeps it for its next rows, and a small query leaves it for the queries after it.

use super::cache::{FileNumber, PageCache};
use super::io::{IntoStoreError, wait};
use super::read::OpenBlock;
use super::row::{Aggregates, ChunkRow, RowHead};
use super::schema::column;
use br_std::{Error, Result};
use bytes::buf::Reader;
use bytes::{Buf, Bytes};
use parking_lot::Mutex;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::basic::Compression;
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::column::reader::{get_column_reader, get_typed_column_reader};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType, Int32Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::page_index::offset_index::PageLocation;
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::serialized_reader::SerializedPageReader;
use parquet::file::statistics::Statistics;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use zstd::bulk::Decompressor;
use zstd::zstd_safe::get_frame_content_size;

/// A row as it stands in its page.
pub(crate) type PageRow = ChunkRow<ByteArray>;

/// Where a page stands in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PageAddress {
    pub(crate) group: u32,
    /// Counted among the leaves of the schema.
    pub(crate) column: u32,
    /// `None` is the dictionary.
    pub(crate) page: Option<u32>,
}

/// Of each column the dictionary and the page that were read last: rows are asked for in ascending order.
#[derive(Default)]
pub(crate) struct RecentPages {
    by_column: BTreeMap<(FileNumber, u32, bool), (PageAddress, Page)>,
    /// Made once for a query: the library makes one for each column that is read, and to make it takes as long as to decompress a page.
    decompressor: Option<Decompressor<'static>>,
}

/// Where the pages of a file are looked for before they are read.
pub(crate) struct KeptPages<'a> {
    pub(crate) file: FileNumber,
    pub(crate) recent: &'a mut RecentPages,
    /// For the queries that come after.
    pub(crate) shared: Option<&'a Mutex<PageCache>>,
}

impl KeptPages<'_> {
    fn find(&self, address: PageAddress) -> Option<Page> {
        let recent = self.recent.by_column.get(&(self.file, address.column, address.page.is_none()));
        if let Some((_, page)) = recent.filter(|(known, _)| *known == address) {
            return Some(page.clone());
        }
        self.shared?.lock().find(&(self.file, address)).map(|page| (*page).clone())
    }

    fn keep(&mut self, address: PageAddress, page: &Page) {
        if let Some(shared) = self.shared {
            shared.lock().insert((self.file, address), Arc::new(page.clone()), page.buffer().len());
        }
        self.recent.by_column.insert((self.file, address.column, address.page.is_none()), (address, page.clone()));
    }
}

/// Pages of one column that are decompressed before their rows are taken: rows far from each other shall not take memory without bound.
const PAGES_AT_ONCE: usize = 16;

/// With so many rows for each page that is read their bytes stay where they are.
const DENSE_ROWS: usize = 8;

/// The chunks at these rows (ascending) whose heads are known, each with the checksum that the file has for it.
pub(crate) fn read_chunks(block: &OpenBlock, rows: &[(u32, RowHead)], kept: &mut KeptPages<'_>) -> Result<Vec<(PageRow, u32)>> {
    let mut chunks = Vec::with_capacity(rows.len());
    let mut rest = rows;
    while let Some((first, _)) = rest.first() {
        let group = RowGroup::of(block, *first).ok_or_else(|| missing(block))?;
        let count = group.portion(rest);
        let (portion, others) = rest.split_at(count);
        group.read(portion, kept, &mut chunks)?;
        rest = others;
    }
    Ok(chunks)
}

fn missing(block: &OpenBlock) -> Error {
    Error::corrupt(format!("{}: a row that its series name is not there", block.path))
}

struct RowGroup<'a> {
    block: &'a OpenBlock,
    number: u32,
    /// Numbers in the file.
    rows: Range<u32>,
    columns: Vec<Column<'a>>,
}

/// One column of a row group.
struct Column<'a> {
    number: u32,
    chunk: &'a ColumnChunkMetaData,
    pages: &'a [PageLocation],
    row_count: usize,
}

impl<'a> RowGroup<'a> {
    /// The one that has this row.
    fn of(block: &'a OpenBlock, row: u32) -> Option<Self> {
        let metadata = block.metadata.metadata();
        let index = metadata.offset_index()?;
        let mut start = 0u32;
        for (number, group) in metadata.row_groups().iter().enumerate() {
            let end = start.checked_add(u32::try_from(group.num_rows()).ok()?)?;
            if row < end {
                let of_group = index.get(number)?;
                let column = |leaf: usize| {
                    let (chunk, pages) = (group.columns().get(leaf)?, of_group.get(leaf)?.page_locations());
                    Some(Column { number: leaf as u32, chunk, pages, row_count: (end - start) as usize })
                };
                let columns = column::CHUNK_LEAVES.map(column).collect::<Option<Vec<_>>>()?;
                return Some(Self { block, number: number as u32, rows: start..end, columns });
            }
            start = end;
        }
        None
    }

    /// How many of these rows, of which the first is in here, are read at once.
    fn portion(&self, rows: &[(u32, RowHead)]) -> usize {
        let here = rows.partition_point(|(row, _)| *row < self.rows.end);
        let Some(values) = self.columns.get(column::VALUES) else { return here };
        let mut pages = 0;
        let mut last = None;
        let is_full = |(row, _): &(u32, RowHead)| {
            let page = values.page_of(row - self.rows.start);
            pages += usize::from(last != page);
            last = page;
            pages > PAGES_AT_ONCE
        };
        rows[..here].iter().position(is_full).unwrap_or(here)
    }

    fn read(&self, rows: &[(u32, RowHead)], kept: &mut KeptPages<'_>, chunks: &mut Vec<(PageRow, u32)>) -> Result<()> {
        let numbers: Vec<u32> = rows.iter().map(|(row, _)| row - self.rows.start).collect();
        let pages = self.pages(&numbers, kept)?;
        let reader = GroupReader { group: self, numbers, pages };
        let [min, max, sum] = [0, 1, 2].map(|at| reader.column::<DoubleType>(at));
        let (mut min, mut max, mut sum) = (min?.into_iter(), max?.into_iter(), sum?.into_iter());
        let [timestamps, values, starts, exemplars] = [3, 4, 5, 6].map(|at| reader.column::<ByteArrayType>(at));
        let (mut timestamps, mut values) = (timestamps?.into_iter(), values?.into_iter());
        let (mut starts, mut exemplars) = (starts?.into_iter(), exemplars?.into_iter());
        let mut checksums = reader.column::<Int32Type>(7)?.into_iter();
        // Bytes are a view of their page and hold it whole: a few rows shall not hold a page each.
        let is_sparse = rows.len() < reader.pages.len() * DENSE_ROWS;
        let own = |bytes: ByteArray| if is_sparse { ByteArray::from(bytes.data()) } else { bytes };
        for (_, head) in rows {
            let aggregates = match (min.next().flatten(), max.next().flatten(), sum.next().flatten()) {
                (Some(min), Some(max), Some(sum)) => Some(Aggregates { min, max, sum }),
                _ => None,
            };
            let (Some(timestamps), Some(values), Some(crc32)) =
                (timestamps.next().flatten(), values.next().flatten(), checksums.next().flatten())
            else {
                return Err(missing(self.block));
            };
            let (starts, exemplars) = (starts.next().flatten(), exemplars.next().flatten());
            let [timestamps, values] = [timestamps, values].map(&own);
            let [starts, exemplars] = [starts, exemplars].map(|bytes| bytes.map(&own));
            chunks.push((ChunkRow { head: *head, aggregates, timestamps, values, starts, exemplars }, crc32.cast_unsigned()));
        }
        Ok(())
    }

    /// The pages that these rows (counted from the first of the group) need. Those that are not kept are read in one request.
    fn pages(&self, rows: &[u32], kept: &mut KeptPages<'_>) -> Result<BTreeMap<PageAddress, Page>> {
        let mut pages = BTreeMap::new();
        let mut absent: Vec<(PageAddress, Range<u64>)> = Vec::new();
        for column in &self.columns {
            for (page, bytes) in column.pages_of(rows).ok_or_else(|| missing(self.block))? {
                let address = PageAddress { group: self.number, column: column.number, page };
                match kept.find(address) {
                    Some(known) => _ = pages.insert(address, known),
                    None => absent.push((address, bytes)),
                }
            }
        }
        if absent.is_empty() {
            return Ok(pages);
        }
        let ranges: Vec<Range<u64>> = absent.iter().map(|(_, range)| range.clone()).collect();
        let read = wait(self.block.reader.clone().get_byte_ranges(ranges), &self.block.path)?;
        let pieces = absent.iter().zip(read).map(|((_, range), bytes)| (range.start, bytes)).collect();
        let pieces = Arc::new(Pieces { pieces, file_bytes: self.block.reader.size_bytes });
        for column in &self.columns {
            let of_column = absent.iter().map(|(address, _)| *address).filter(|address| address.column == column.number);
            let decoded = column
                .decode(&pieces, of_column, &mut kept.recent.decompressor)
                .map_err(|error| error.into_store_error(&self.block.path))?;
            for (address, page) in decoded {
                kept.keep(address, &page);
                pages.insert(address, page);
            }
        }
        Ok(pages)
    }
}

impl Column<'_> {
    /// The page that has this row of the group.
    fn page_of(&self, row: u32) -> Option<u32> {
        let after = self.pages.partition_point(|page| page.first_row_index <= i64::from(row));
        Some(after.checked_sub(1)? as u32)
    }

    /// Whether the file says that all rows are null.
    fn is_null(&self) -> bool {
        let nulls = self.chunk.statistics().and_then(Statistics::null_count_opt);
        nulls == Some(self.row_count as u64)
    }

    /// Where the dictionary stands in the file, if there is one: before the first page.
    fn dictionary_bytes(&self) -> Option<Range<u64>> {
        let start = self.chunk.byte_range().0;
        let first = u64::try_from(self.pages.first()?.offset).ok()?;
        (first > start).then_some(start..first)
    }

    /// The pages that hold these rows, with the dictionary if there is one, and where they stand in the file.
    fn pages_of(&self, rows: &[u32]) -> Option<Vec<(Option<u32>, Range<u64>)>> {
        let mut pages = Vec::new();
        if self.is_null() {
            return Some(pages);
        }
        pages.extend(self.dictionary_bytes().map(|bytes| (None, bytes)));
        let mut last = None;
        for row in rows {
            let page = self.page_of(*row)?;
            if last.replace(page) != Some(page) {
                let PageLocation { offset, compressed_page_size, .. } = self.pages.get(page as usize)?;
                let offset = u64::try_from(*offset).ok()?;
                pages.push((Some(page), offset..offset.checked_add(u64::try_from(*compressed_page_size).ok()?)?));
            }
        }
        Some(pages)
    }

    /// Decompresses pages of this column, which come in ascending order.
    fn decode(
        &self,
        pieces: &Arc<Pieces>,
        wanted: impl Iterator<Item = PageAddress>,
        decompressor: &mut Option<Decompressor<'static>>,
    ) -> std::result::Result<Vec<(PageAddress, Page)>, ParquetError> {
        let wanted: Vec<PageAddress> = wanted.collect();
        let mut pages = Vec::with_capacity(wanted.len());
        if wanted.is_empty() {
            return Ok(pages);
        }
        // By where the first page stands the reader tells how long the dictionary before it is.
        let of_column = std::iter::once(0).chain(wanted.iter().filter_map(|address| address.page).filter(|page| *page > 0));
        let numbers: Vec<u32> = of_column.collect();
        let locations = numbers.iter().filter_map(|page| self.pages.get(*page as usize).cloned()).collect();
        let as_they_are = self.chunk.clone().into_builder().set_compression(Compression::UNCOMPRESSED).build()?;
        let mut reader = SerializedPageReader::new(pieces.clone(), &as_they_are, self.row_count, Some(locations))?;
        let dictionary = self.dictionary_bytes().map(|_| None);
        let mut all = dictionary.into_iter().chain(numbers.into_iter().map(Some));
        for address in wanted {
            while all.next().is_some_and(|page| page < address.page) {
                reader.skip_next_page()?;
            }
            let page = reader.get_next_page()?.ok_or_else(|| ParquetError::EOF("a page is missing".to_owned()))?;
            let page =
                if self.chunk.compression() == Compression::UNCOMPRESSED { page } else { decompressed(page, decompressor)? };
            pages.push((address, page));
        }
        Ok(pages)
    }

    fn rows_of_page(&self, page: u32) -> Range<u32> {
        let first = |page: usize| self.pages.get(page).and_then(|page| u32::try_from(page.first_row_index).ok());
        let end = self.row_count as u32;
        first(page as usize).unwrap_or(end)..first(page as usize + 1).unwrap_or(end)
    }
}

/// What a page may take: more than any that is written here.
const PAGE_BYTES_MAX: u64 = 256 << 20;

/// The same page without its compression, which is zstd's as in all files that are written here.
fn decompressed(page: Page, decompressor: &mut Option<Decompressor<'static>>) -> std::result::Result<Page, ParquetError> {
    let decompressor = match decompressor {
        Some(decompressor) => decompressor,
        None => decompressor.insert(Decompressor::new()?),
    };
    let mut plain = |packed: Bytes| -> std::result::Result<Bytes, ParquetError> {
        if packed.is_empty() {
            return Ok(packed);
        }
        let size = get_frame_content_size(&packed).ok().flatten().filter(|size| *size <= PAGE_BYTES_MAX);
        let size = size.ok_or_else(|| ParquetError::General("a page does not say its size, or too large a one".to_owned()))?;
        Ok(Bytes::from(decompressor.decompress(&packed, size as usize)?))
    };
    Ok(match page {
        Page::DataPage { buf, num_values, encoding, def_level_encoding, rep_level_encoding, statistics } => {
            Page::DataPage { buf: plain(buf)?, num_values, encoding, def_level_encoding, rep_level_encoding, statistics }
        }
        Page::DictionaryPage { buf, num_values, encoding, is_sorted } => {
            Page::DictionaryPage { buf: plain(buf)?, num_values, encoding, is_sorted }
        }
        Page::DataPageV2 { .. } => return Err(ParquetError::General("a page of a version that is not written here".to_owned())),
    })
}

/// The pages of some rows of a group.
struct GroupReader<'a> {
    group: &'a RowGroup<'a>,
    /// Counted from the first of the group.
    numbers: Vec<u32>,
    pages: BTreeMap<PageAddress, Page>,
}

impl GroupReader<'_> {
    /// What a column has at the rows.
    fn column<T: DataType>(&self, at: usize) -> Result<Vec<Option<T::T>>> {
        let column = self.group.columns.get(at).ok_or_else(|| missing(self.group.block))?;
        if column.is_null() {
            return Ok(vec![None; self.numbers.len()]);
        }
        let mut values = Vec::with_capacity(self.numbers.len());
        let address = |page| PageAddress { group: self.group.number, column: column.number, page };
        let dictionary = self.pages.get(&address(None));
        for rows in self.numbers.chunk_by(|one, other| column.page_of(*one) == column.page_of(*other)) {
            let number = rows.first().and_then(|row| column.page_of(*row));
            let page = number.and_then(|number| self.pages.get(&address(Some(number))));
            let (Some(number), Some(page)) = (number, page) else { return Err(missing(self.group.block)) };
            let pages = PagesOfRows { dictionary: dictionary.cloned(), data: Some((page.clone(), column.rows_of_page(number))) };
            let read = read_rows::<T>(column, pages, rows, &mut values);
            read.map_err(|error| error.into_store_error(&self.group.block.path))?;
        }
        if values.len() == self.numbers.len() { Ok(values) } else { Err(missing(self.group.block)) }
    }
}

/// Rows (ascending) of one page.
fn read_rows<T: DataType>(
    column: &Column<'_>,
    pages: PagesOfRows,
    rows: &[u32],
    out: &mut Vec<Option<T::T>>,
) -> std::result::Result<(), ParquetError> {
    let mut at = pages.data.as_ref().map_or(0, |(_, rows)| rows.start);
    let descriptor = column.chunk.column_descr_ptr();
    let is_optional = descriptor.max_def_level() > 0;
    let mut reader = get_typed_column_reader::<T>(get_column_reader(descriptor, Box::new(pages)));
    let (mut levels, mut values) = (Vec::new(), Vec::new());
    for run in rows.chunk_by(|one, other| one + 1 == *other) {
        let first = run.first().copied().unwrap_or(at);
        reader.skip_records(first.saturating_sub(at) as usize)?;
        levels.clear();
        values.clear();
        let (count, ..) = reader.read_records(run.len(), is_optional.then_some(&mut levels), None, &mut values)?;
        at = first.saturating_add(count as u32);
        if is_optional {
            let mut values = values.drain(..);
            out.extend(levels.iter().map(|level| if *level > 0 { values.next() } else { None }));
        } else {
            out.extend(values.drain(..).map(Some));
        }
    }
    Ok(())
}

/// A page and the dictionary before it, as the library's decoders want them.
struct PagesOfRows {
    dictionary: Option<Page>,
    data: Option<(Page, Range<u32>)>,
}

impl Iterator for PagesOfRows {
    type Item = std::result::Result<Page, ParquetError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for PagesOfRows {
    fn get_next_page(&mut self) -> std::result::Result<Option<Page>, ParquetError> {
        Ok(self.dictionary.take().or_else(|| self.data.take().map(|(page, _)| page)))
    }

    fn peek_next_page(&mut self) -> std::result::Result<Option<PageMetadata>, ParquetError> {
        if self.dictionary.is_some() {
            return Ok(Some(PageMetadata { num_rows: None, num_levels: None, is_dict: true }));
        }
        Ok(self.data.as_ref().map(|(_, rows)| PageMetadata { num_rows: Some(rows.len()), num_levels: None, is_dict: false }))
    }

    fn skip_next_page(&mut self) -> std::result::Result<(), ParquetError> {
        self.get_next_page().map(|_| ())
    }
}

/// What was read of a file.
struct Pieces {
    pieces: BTreeMap<u64, Bytes>,
    file_bytes: u64,
}

impl Length for Pieces {
    fn len(&self) -> u64 {
        self.file_bytes
    }
}

impl ChunkReader for Pieces {
    type T = Reader<Bytes>;

    fn get_read(&self, start: u64) -> std::result::Result<Self::T, ParquetError> {
        let piece = self.pieces.get(&start).cloned();
        piece.map(Buf::reader).ok_or_else(|| ParquetError::EOF(format!("byte {start} was not read")))
    }

    fn get_bytes(&self, start: u64, length: usize) -> std::result::Result<Bytes, ParquetError> {
        let piece = self.pieces.get(&start).filter(|piece| piece.len() >= length);
        piece.map(|piece| piece.slice(..length)).ok_or_else(|| ParquetError::EOF(format!("byte {start} was not read")))
    }
}

#[cfg(test)]
mod tests {
    use super::super::row::rows_of;
    use super::super::scan::BlockScan;
    use super::super::write::{BlockSpec, BlockWriter};
    use super::*;
    use crate::points;
    use crate::rollup::RollupOf;
    use br_env::Rng;
    use br_env::sim::Sim;
    use br_model::{Exemplar, Labels, TenantId};
    use br_storage::JournalPosition;
    use object_store::ObjectStore;
    use object_store::memory::InMemory;

    /// Rows of more than one row group, and of each kind: with and without aggregates, starts and exemplars.
    fn block(level: u16) -> (OpenBlock, Vec<(PageRow, u32)>) {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let spec = BlockSpec {
            tenant: TenantId(1),
            window_ms: 0,
            window_secs: 7200,
            level,
            positions: Default::default(),
            deleted_to: JournalPosition(0),
            rollup: RollupOf::default(),
            made_of: Vec::new(),
            nonce: 7,
        };
        let mut writer = BlockWriter::new(store.clone(), spec).expect("a path");
        for number in 0..67_000i64 {
            let labels = Labels::from_pairs([("__name__", "m"), ("n", &*format!("{number:06}"))]);
            let times = [number % 5, 1000 + number % 3];
            let starts = (number > 66_000 && number % 7 == 0).then(|| vec![0, 5]);
            let samples = points::floats(times.into(), vec![number as f64, number as f64 * 1.5], starts);
            let exemplar = Exemplar { labels: Labels::from_pairs([("trace_id", "abc")]), value: 1.0, timestamp_ms: 3 };
            let exemplars = if number % 1000 == 999 { vec![exemplar] } else { Vec::new() };
            let rows = rows_of(Some(samples), &exemplars, level > 0);
            writer.push(&labels, labels.hash128(), &rows).expect("written");
        }
        let entry = writer.finish(&BTreeMap::new()).expect("written");
        let mut scan = BlockScan::new(store.clone(), &entry).expect("sound");
        let mut rows = Vec::new();
        while let Some(hash) = scan.peek_hash().expect("sound") {
            while let Some(row) = scan.next_row_of(hash).expect("sound") {
                let crc32 = row.crc32(hash);
                let ChunkRow { head, aggregates, timestamps, values, starts, exemplars } = row;
                let [timestamps, values] = [timestamps, values].map(ByteArray::from);
                let [starts, exemplars] = [starts, exemplars].map(|bytes| bytes.map(ByteArray::from));
                rows.push((ChunkRow { head, aggregates, timestamps, values, starts, exemplars }, crc32));
            }
        }
        (OpenBlock::open(store, &entry.path, entry.size_bytes).expect("sound"), rows)
    }

    #[test]
    fn any_rows_are_as_a_scan_of_the_whole_has_them() {
        let rng = Sim::new(5).rng.clone();
        for level in [0, 1] {
            let (block, all) = block(level);
            let shared = Mutex::new(PageCache::new(300_000));
            let mut recent = RecentPages::default();
            for round in 0..60u64 {
                let mut kept = KeptPages { file: 1, recent: &mut recent, shared: (round % 2 == 0).then_some(&shared) };
                let (first, step) = (rng.below(all.len() as u64), 1 + rng.below(1 << rng.below(14)));
                let numbers: Vec<u32> =
                    (first..all.len() as u64).step_by(step as usize).take(300).map(|row| row as u32).collect();
                let rows: Vec<(u32, RowHead)> = numbers.iter().map(|row| (*row, all[*row as usize].0.head)).collect();
                let read = read_chunks(&block, &rows, &mut kept).expect("sound");
                assert_eq!(read.len(), rows.len());
                for (number, (row, crc32)) in numbers.iter().zip(read) {
                    let (expected, expected_crc32) = &all[*number as usize];
                    assert_eq!(format!("{row:?}"), format!("{expected:?}"), "row {number}, level {level}");
                    assert_eq!(crc32, *expected_crc32, "row {number}");
                }
                assert!(shared.lock().bytes() <= 300_000);
            }
            let beyond = (all.len() as u32, all[0].0.head);
            let mut kept = KeptPages { file: 1, recent: &mut recent, shared: None };
            assert!(read_chunks(&block, &[beyond], &mut kept).is_err());
        }
    }

    #[test]
    fn columns_without_values_are_not_read() {
        let (block, _) = block(0);
        let group = RowGroup::of(&block, 0).expect("there");
        let null: Vec<bool> = group.columns.iter().map(Column::is_null).collect();
        assert_eq!(null, [true, true, true, false, false, true, false, false]);
    }
}
