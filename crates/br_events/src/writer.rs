//! Pages of rows, in the order of the file, to one Parquet file with filters and summary inside.
//!
//! Settings by measurement: exactly [`PAGE_ROWS`] rows for each `write`, no dictionary where values hardly repeat,
//! zstd-1 (docs/format/event-file.md).

use crate::attributes::parse_promoted;
use crate::counts::Counter;
use crate::describe::Describer;
use crate::numbers::is_number;
use crate::page_terms::{PageTerms, TermGatherer};
use crate::parts::PageParts;
use crate::promote::Promotion;
use crate::schema::{ATTRIBUTES, BODY, DURATION, KIND, OBSERVED, SEVERITY, STATUS, TRACE_ID, TS, column, damaged};
use crate::stored::{OBSERVED_NANOS, TS_NANOS, to_stored};
use crate::summary::{FileStats, KEYS_MAX, KeyRows, PAGE_ROWS, SEGMENT_PAGES, Segment, Summary, checksums, encode_tail};
use crate::{attributes, filter, parts};
use arrow::array::{RecordBatch, StringArray, UInt8Array};
use arrow::datatypes::Schema;
use br_model::Severity;
use br_std::{Error, Result};
use br_storage::Table;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use std::collections::BTreeMap;

/// The key in Parquet's metadata under which the place of the summary stands.
pub(crate) const SUMMARY_KEY: &str = "bellrock.summary";
/// Where the file came from, for the day when the catalog is gone.
pub(crate) const POSITIONS_KEY: &str = "bellrock.positions";
pub(crate) const MADE_OF_KEY: &str = "bellrock.made_of";
pub(crate) const ERASED_TO_KEY: &str = "bellrock.erased_to";

const DICTIONARY_BYTES_MAX: usize = 4 << 20;
/// A segment ends when its pages had so many bytes in memory: until then they are held, compressed.
const SEGMENT_BYTES_MAX: usize = 256 << 20;

/// A file's bytes and what the catalog keeps of it.
pub(crate) struct Written {
    pub(crate) bytes: Vec<u8>,
    pub(crate) stats: FileStats,
    pub(crate) rows: usize,
    pub(crate) min_ts: i64,
    pub(crate) max_ts: i64,
}

/// A file that is being written. What it holds in memory: the file so far, and the terms of one segment.
pub(crate) struct FileWriter {
    table: Table,
    promotion: Promotion,
    /// From the first page on: it says which columns there are.
    parquet: Option<ArrowWriter<Vec<u8>>>,
    describer: Describer,
    terms: TermGatherer,
    segments: Vec<Segment>,
    /// The terms of the pages of the segment that is being written.
    pages: Vec<PageTerms>,
    segment_rows: usize,
    segment_bytes: usize,
    counts: Counter,
    levels: BTreeMap<String, u64>,
    errors: u64,
}

impl FileWriter {
    pub(crate) fn new(table: Table, promotion: Promotion) -> Self {
        Self {
            table,
            promotion,
            parquet: None,
            describer: Describer::new(table),
            terms: TermGatherer::default(),
            segments: Vec::new(),
            pages: Vec::new(),
            segment_rows: 0,
            segment_bytes: 0,
            counts: Counter::new(),
            levels: BTreeMap::new(),
            errors: 0,
        }
    }

    /// Bytes that are written, about.
    pub(crate) fn bytes(&self) -> usize {
        self.parquet.as_ref().map_or(0, |writer| writer.bytes_written() + writer.in_progress_size())
    }

    pub(crate) fn rows(&self) -> usize {
        self.segments.last().map_or(0, |segment| segment.first_row + segment.rows) + self.segment_rows
    }

    /// Adds a page of the wide schema, with the columns of the promotion: at least one row and at most [`PAGE_ROWS`], that stand in the
    /// order of the file behind those before.
    pub(crate) fn push(&mut self, page: &RecordBatch) -> Result<()> {
        self.describer.add(page)?;
        self.count_levels(page)?;
        self.pages.push(self.terms.terms(page)?);
        let stored = to_stored(page)?;
        if self.parquet.is_none() {
            let properties = properties(stored.schema_ref())?;
            self.parquet = Some(ArrowWriter::try_new(Vec::new(), stored.schema(), Some(properties)).map_err(damaged)?);
        }
        if let Some(writer) = &mut self.parquet {
            writer.write(&stored).map_err(damaged)?;
        }
        self.segment_rows += page.num_rows();
        self.segment_bytes += page.get_array_memory_size();
        let is_full = self.pages.len() >= SEGMENT_PAGES || self.segment_bytes >= SEGMENT_BYTES_MAX;
        if is_full || page.num_rows() < PAGE_ROWS {
            self.end_segment()?;
        }
        Ok(())
    }

    fn end_segment(&mut self) -> Result<()> {
        let Some(writer) = self.parquet.as_mut().filter(|_| !self.pages.is_empty()) else { return Ok(()) };
        writer.flush().map_err(damaged)?;
        let before = self.segments.last().map_or((0, 0), |last| (last.first_page + last.pages, last.first_row + last.rows));
        let terms: Vec<&[u64]> = self.pages.iter().map(|page| page.terms.as_slice()).collect();
        let (filters, filter_blocks) = filter::build(&terms);
        let parts: Vec<PageParts> = self.pages.iter_mut().map(|page| std::mem::take(&mut page.parts)).collect();
        let parts = parts::build(&parts);
        let follows = self.pages.iter().enumerate().map(|(at, page)| u64::from(page.has_follows) << at).sum();
        let filter_offset = writer.bytes_written() as u64;
        self.segments.push(Segment {
            first_page: before.0,
            pages: self.pages.len(),
            first_row: before.1,
            rows: self.segment_rows,
            filter_offset,
            filter_blocks,
            parts_offset: filter_offset + filters.len() as u64,
            parts_bits: parts.bits,
            parts_long: parts.long,
            follows,
        });
        writer.write_all(&filters)?;
        writer.write_all(&parts.bytes)?;
        self.pages.clear();
        (self.segment_rows, self.segment_bytes) = (0, 0);
        Ok(())
    }

    /// `origin` are keys and values for the footer.
    pub(crate) fn finish(mut self, origin: &[(&str, String)]) -> Result<Written> {
        self.end_segment()?;
        let rows = self.rows();
        let Some(mut writer) = self.parquet.take() else {
            return Err(Error::corrupt("a file without rows"));
        };
        let ((keys, split), columns) = (self.keys(), self.promotion.columns().len());
        let described = self.describer.finish();
        let counts = self.counts.finish(described.streams.len());
        let counts_place = (writer.bytes_written() as u64, counts.len() as u64);
        writer.write_all(&counts)?;
        writer.sync()?;
        let (levels, errors, segments) = (self.levels, self.errors, self.segments);
        let summary = Summary { keys, columns, split, levels, errors, segments, counts: counts_place, ..described };
        let tail = encode_tail(&summary, &checksums(writer.inner()))?;
        let tail_offset = writer.bytes_written() as u64;
        writer.write_all(&tail)?;
        let place = format!("{tail_offset},{}", tail.len());
        writer.append_key_value_metadata(KeyValue::new(SUMMARY_KEY.to_owned(), place));
        for (key, value) in origin {
            writer.append_key_value_metadata(KeyValue::new((*key).to_owned(), value.clone()));
        }
        let bytes = writer.into_inner().map_err(damaged)?;
        let tail_crc = crc32fast::hash(bytes.get(tail_offset as usize..).unwrap_or_default());
        let stats = FileStats::new(&summary, tail_offset, tail_crc)?;
        let min_ts = summary.pages.iter().map(|page| page.min_ts).min().unwrap_or(0);
        let max_ts = summary.pages.iter().map(|page| page.max_ts).max().unwrap_or(0);
        Ok(Written { bytes, stats, rows, min_ts, max_ts })
    }

    /// Those with a column first, then those in the map; and those that are in both.
    fn keys(&self) -> (Vec<KeyRows>, Vec<String>) {
        let mut rest: BTreeMap<(&str, u8), u64> = BTreeMap::new();
        for key in self.terms.keys().iter() {
            rest.insert((&key.name, key.letter), key.rows);
        }
        let (mut keys, mut split) = (Vec::new(), Vec::new());
        for (key, letter) in self.promotion.columns() {
            let in_map = rest.remove(&(key, *letter));
            split.extend(in_map.map(|_| key.clone()));
            let rows = self.terms.rows(&attributes::promoted_name(key, *letter)) + in_map.unwrap_or(0);
            keys.push((key.clone(), char::from(*letter), rows));
        }
        let mut rest: Vec<_> = rest.into_iter().map(|((key, letter), rows)| (key.to_owned(), char::from(letter), rows)).collect();
        rest.sort_by_key(|(.., rows)| std::cmp::Reverse(*rows));
        keys.extend(rest);
        keys.truncate(KEYS_MAX);
        (keys, split)
    }

    fn count_levels(&mut self, page: &RecordBatch) -> Result<()> {
        if self.table == Table::Spans {
            let statuses: &StringArray = column(page, STATUS)?;
            for status in statuses.iter().flatten() {
                count(&mut self.levels, status);
                self.errors += u64::from(status == "error");
            }
            return Ok(());
        }
        self.counts.add(page)?;
        let severities: &UInt8Array = column(page, SEVERITY)?;
        let kinds: &StringArray = column(page, KIND)?;
        for (severity, kind) in severities.iter().zip(kinds) {
            count(&mut self.levels, Severity(severity.unwrap_or(0)).as_str());
            self.errors += u64::from(kind == Some("error"));
        }
        Ok(())
    }
}

fn count(levels: &mut BTreeMap<String, u64>, level: &str) {
    match levels.get_mut(level) {
        Some(count) => *count += 1,
        None => drop(levels.insert(level.to_owned(), 1)),
    }
}

fn properties(schema: &Schema) -> Result<WriterProperties> {
    let path = |name: &str| ColumnPath::from(name.to_owned());
    let mut builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1).map_err(damaged)?))
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_data_page_size_limit(1 << 30)
        .set_write_batch_size(PAGE_ROWS)
        .set_max_row_group_row_count(None)
        .set_dictionary_page_size_limit(DICTIONARY_BYTES_MAX)
        .set_statistics_enabled(EnabledStatistics::Chunk);
    for name in [BODY, TRACE_ID, "span_id", "parent_span_id", "error", "events", "links"] {
        builder = builder.set_column_dictionary_enabled(path(name), false);
        builder = builder.set_column_statistics_enabled(path(name), EnabledStatistics::None);
    }
    for name in [TS, TS_NANOS, OBSERVED, OBSERVED_NANOS, DURATION] {
        builder = builder.set_column_dictionary_enabled(path(name), false);
        builder = builder.set_column_encoding(path(name), Encoding::DELTA_BINARY_PACKED);
    }
    let map_values = ColumnPath::new(vec![ATTRIBUTES.into(), "entries".into(), "value".into()]);
    builder = builder.set_column_dictionary_enabled(map_values, false);
    let numbers =
        schema.fields().iter().filter(|field| parse_promoted(field.name()).is_some_and(|(_, letter)| is_number(letter)));
    for field in numbers {
        let column = ColumnPath::new(vec![field.name().clone()]);
        builder = builder.set_column_statistics_enabled(column, EnabledStatistics::Page);
    }
    Ok(builder.build())
}
