//! One immutable file: its tail, which pages a query needs, and the rows of these pages.

use crate::conditions::Conditions;
use crate::counters::EventCounters;
use crate::counts::{self, Cell};
use crate::filter::probe;
use crate::json::decode_resource;
use crate::mask::Mask;
use crate::numbers::NumberBetween;
use crate::object::{CheckedReader, get_range, read_error, wait};
use crate::origin::stream_labels;
use crate::parts::Probe;
use crate::schema::damaged;
use crate::stored::{from_stored, is_needed};
use crate::summary::{FileStats, PAGE_ROWS, PageSummary, Segment, Summary, decode_tail};
use crate::writer::POSITIONS_KEY;
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use br_model::Labels;
use br_std::{Error, Result};
use br_storage::{FileEntry, JournalPosition};
use bytes::Bytes;
use futures::TryStreamExt;
use hashbrown::{HashMap, HashSet};
use object_store::ObjectStore;
use object_store::path::Path;
use parking_lot::Mutex;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, RowSelection};
use parquet::arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask};
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaDataReader};
use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// So many terms are looked up before it is asked whether any page is left.
const TERMS_AT_ONCE: usize = 64;

/// What is needed to read from a file.
pub(crate) struct Tail {
    pub(crate) summary: Summary,
    metadata: ArrowReaderMetadata,
    reader: CheckedReader,
    labels: OnceLock<Vec<Labels>>,
}

impl Tail {
    /// The labels of each stream, decoded once.
    pub(crate) fn labels(&self) -> Result<&[Labels]> {
        if let Some(labels) = self.labels.get() {
            return Ok(labels);
        }
        let streams = self.summary.streams.iter();
        let labels = streams.map(|stream| Ok(stream_labels(&decode_resource(&stream.resource)?))).collect::<Result<_>>()?;
        Ok(self.labels.get_or_init(|| labels))
    }

    /// The first and the last record of the journal that may be in the file, when it says so.
    pub(crate) fn positions(&self) -> Option<(JournalPosition, JournalPosition)> {
        let pairs = self.metadata.metadata().file_metadata().key_value_metadata()?;
        JournalPosition::parse_range(pairs.iter().find(|pair| pair.key == POSITIONS_KEY)?.value.as_deref()?)
    }

    /// Whether a row of a page may have such a number in one of these columns.
    fn may_have_number(&self, page: usize, columns: &[usize], number: &NumberBetween) -> bool {
        let Some(at) = self.summary.segments.iter().position(|segment| segment.holds(page)) else { return true };
        let indexes = self.metadata.metadata().column_index().and_then(|indexes| indexes.get(at));
        let page = page - self.summary.segments[at].first_page;
        columns
            .iter()
            .any(|column| indexes.and_then(|indexes| indexes.get(*column)).is_none_or(|index| number.may_be_in(index, page)))
    }

    /// The rows of the file that make up a page.
    pub(crate) fn page_rows(&self, page: usize) -> Range<usize> {
        self.summary.segment_of(page).map_or(0..0, |segment| segment.page_rows(page))
    }
}

#[derive(Default)]
struct Tails {
    uses: u64,
    /// By path, with the number of the last use.
    by_path: HashMap<String, (u64, Arc<Tail>)>,
}

/// The tails that were read last.
pub(crate) struct TailCache {
    files_max: usize,
    tails: Mutex<Tails>,
}

impl TailCache {
    pub(crate) fn new(files_max: usize) -> Self {
        Self { files_max: files_max.max(1), tails: Mutex::default() }
    }

    fn get(&self, path: &str) -> Option<Arc<Tail>> {
        let mut guard = self.tails.lock();
        let Tails { uses, by_path: tails } = &mut *guard;
        *uses += 1;
        let (last_use, tail) = tails.get_mut(path)?;
        *last_use = *uses;
        Some(tail.clone())
    }

    fn insert(&self, path: &str, tail: Arc<Tail>) {
        let mut guard = self.tails.lock();
        let Tails { uses, by_path: tails } = &mut *guard;
        if tails.len() >= self.files_max {
            let oldest = tails.iter().min_by_key(|(_, (last_use, _))| *last_use).map(|(path, _)| path.clone());
            oldest.and_then(|path| tails.remove(&path));
        }
        tails.insert(path.to_owned(), (*uses, tail));
    }
}

pub(crate) struct EventFile {
    pub(crate) entry: FileEntry,
    pub(crate) stats: FileStats,
    pub(crate) mask: Mask,
    store: Arc<dyn ObjectStore>,
    cache: Arc<TailCache>,
    counters: Arc<EventCounters>,
}

impl EventFile {
    /// An error when the catalog's statistics cannot be read.
    pub(crate) fn new(
        entry: FileEntry,
        store: Arc<dyn ObjectStore>,
        cache: Arc<TailCache>,
        counters: Arc<EventCounters>,
        mask: Mask,
    ) -> Result<Self> {
        let stats = FileStats::parse(&entry.stats).map_err(|error| error.context(&entry.path))?;
        Ok(Self { entry, stats, mask, store, cache, counters })
    }

    /// Whether the file can hold a row, by what the catalog knows.
    pub(crate) fn may_hold(&self, conditions: &Conditions) -> bool {
        let services = &self.stats.services;
        conditions.range.overlaps(self.entry.min_time, self.entry.max_time)
            && (services.is_empty() || services.iter().any(|service| conditions.allows_service(service)))
            && !(conditions.errors_only && self.stats.errors == 0)
    }

    pub(crate) fn tail(&self) -> Result<Arc<Tail>> {
        if let Some(tail) = self.cache.get(&self.entry.path) {
            return Ok(tail);
        }
        let tail = Arc::new(self.read_tail().map_err(|error| error.context(&self.entry.path))?);
        self.cache.insert(&self.entry.path, tail.clone());
        Ok(tail)
    }

    fn read_tail(&self) -> Result<Tail> {
        let (from, to) = (self.stats.tail_offset, self.entry.size_bytes);
        if from >= to {
            return Err(Error::corrupt("the catalog places the tail behind the end"));
        }
        let bytes = get_range(&self.store, &self.entry.path, from..to)?;
        if crc32fast::hash(&bytes) != self.stats.tail_crc {
            return Err(Error::corrupt("checksum of the tail does not match"));
        }
        let (summary, checksums) = decode_tail(&bytes)?;
        if summary.segments.iter().any(|segment| segment.filters_end() > from) {
            return Err(Error::corrupt("file summary: a filter lies behind the data"));
        }
        let counts_end = summary.counts.0.checked_add(summary.counts.1);
        if counts_end.is_none_or(|end| end > from) {
            return Err(Error::corrupt("file summary: counts lie behind the data"));
        }
        let mut parser = ParquetMetaDataReader::new()
            .with_column_index_policy(PageIndexPolicy::Optional)
            .with_offset_index_policy(PageIndexPolicy::Required);
        parser.try_parse_sized(&bytes, to).map_err(damaged)?;
        let parquet = Arc::new(parser.finish().map_err(damaged)?);
        let metadata = ArrowReaderMetadata::try_new(parquet.clone(), ArrowReaderOptions::new()).map_err(damaged)?;
        let reader = CheckedReader {
            store: self.store.clone(),
            path: Path::from(self.entry.path.as_str()),
            checksums: checksums.into(),
            data_bytes: from,
            metadata: parquet,
        };
        Ok(Tail { summary, metadata, reader, labels: OnceLock::new() })
    }

    /// The pages that can hold a row, ascending, and the ids of the streams that match.
    pub(crate) fn pages(&self, tail: &Tail, conditions: &Conditions) -> Result<Pages> {
        let summary = &tail.summary;
        let streams = if conditions.streams.is_empty() { None } else { Some(conditions.matching_streams(tail.labels()?)) };
        let allowed = |page: &PageSummary| conditions.allows_page(page, summary, streams.as_deref());
        let mut pages: Vec<usize> = (0..summary.pages.len()).filter(|page| allowed(&summary.pages[*page])).collect();
        for number in &conditions.numbers {
            if let Some(columns) = number.columns(&self.stats, tail.metadata.schema()) {
                pages.retain(|page| tail.may_have_number(*page, &columns, number));
            }
        }
        if !conditions.terms.is_empty() {
            let mut is_held = vec![true; summary.pages.len()];
            self.probe(tail, &conditions.terms.whole, &pages, |page, holds| is_held[page] &= holds)?;
            pages.retain(|page| is_held[*page]);
            let knows_follows = |page| summary.segment_of(page).is_some_and(|segment| segment.knows_follows(page));
            self.probe(tail, &conditions.terms.follows, &pages, |page, holds| is_held[page] &= holds || !knows_follows(page))?;
            pages.retain(|page| is_held[*page]);
            self.probe_parts(tail, conditions.terms.parts.as_slice(), &mut pages)?;
        }
        EventCounters::add(&self.counters.pages_pruned, summary.pages.len() - pages.len());
        let ids = streams
            .map(|numbers| numbers.iter().filter_map(|number| summary.streams.get(*number)).map(|stream| stream.id).collect());
        Ok(Pages { pages, streams: ids })
    }

    /// Of the pages that can hold a row those that can hold one with any of the terms, ascending.
    pub(crate) fn pages_with_any(&self, tail: &Tail, conditions: &Conditions, terms: &[u64]) -> Result<Vec<usize>> {
        let summary = &tail.summary;
        let pages = self.pages(tail, conditions)?.pages;
        let mut holds = vec![false; summary.pages.len()];
        for some in terms.chunks(TERMS_AT_ONCE) {
            if pages.iter().all(|page| holds[*page]) {
                break;
            }
            self.probe(tail, some, &pages, |page, found| holds[page] |= found)?;
        }
        let kept: Vec<usize> = pages.iter().copied().filter(|page| holds[*page]).collect();
        EventCounters::add(&self.counters.pages_pruned, pages.len() - kept.len());
        Ok(kept)
    }

    /// Asks the filters of the segments that have one of the pages: `each` is told of every page of these and every term whether the page
    /// may have it.
    fn probe(&self, tail: &Tail, terms: &[u64], pages: &[usize], mut each: impl FnMut(usize, bool)) -> Result<()> {
        let segments = segments_of(&tail.summary, pages);
        let asked: Vec<(&Segment, u64)> =
            segments.iter().flat_map(|segment| terms.iter().map(move |term| (*segment, *term))).collect();
        let ranges: Vec<Range<u64>> = asked.iter().map(|(segment, term)| segment.filter_row(*term)).collect();
        let rows = self.read_ranges(tail, &ranges)?;
        for (row, (segment, term)) in rows.iter().zip(asked) {
            for (page, holds) in (segment.first_page..).zip(probe(row, term, segment.pages)?) {
                each(page, holds);
            }
        }
        Ok(())
    }

    /// Leaves of the pages those that can have a word with the parts.
    fn probe_parts(&self, tail: &Tail, probes: &[Probe], pages: &mut Vec<usize>) -> Result<()> {
        let mut segments = segments_of(&tail.summary, pages);
        segments.retain(|segment| segment.parts_bits > 0);
        let rows_of = |segment: &Segment| probes.iter().map(|probe| segment.parts_row(probe.bit)).collect::<Vec<_>>();
        let ranges: Vec<Range<u64>> = segments.iter().flat_map(|segment| rows_of(segment)).collect();
        if ranges.is_empty() {
            return Ok(());
        }
        let rows = self.read_ranges(tail, &ranges)?;
        let mut is_held = vec![true; tail.summary.pages.len()];
        for (segment, rows) in segments.iter().zip(rows.chunks(probes.len())) {
            let held = rows.iter().zip(probes).fold(u64::MAX, |held, (row, probe)| {
                let mut bits = [0; 8];
                bits[..row.len()].copy_from_slice(row);
                held & (u64::from_le_bytes(bits) | if probe.is_short { segment.parts_long } else { 0 })
            });
            for page in 0..segment.pages {
                is_held[segment.first_page + page] = held >> page & 1 == 1;
            }
        }
        pages.retain(|page| is_held[*page]);
        Ok(())
    }

    fn read_ranges(&self, tail: &Tail, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        wait(tail.reader.read(ranges)).map_err(|error| read_error(error).context(&self.entry.path))
    }

    /// How many rows of each stream, minute and severity there are; `None` where the file does not say.
    pub(crate) fn counts(&self, tail: &Tail) -> Result<Option<Vec<Cell>>> {
        let (from, length) = tail.summary.counts;
        if length == 0 {
            return Ok(None);
        }
        let read = self.read_ranges(tail, std::slice::from_ref(&(from..from + length)))?;
        let bytes = read.first().map_or(&[][..], |bytes| bytes);
        counts::decode(bytes, tail.summary.streams.len()).map(Some).map_err(|error| error.context(&self.entry.path))
    }

    /// The rows of a page that hold, as numbers within the page, with their times where they had to be looked at.
    pub(crate) fn matching_rows(
        &self,
        tail: &Tail,
        page: usize,
        conditions: &Conditions,
        streams: Option<&HashSet<u64>>,
    ) -> Result<(RecordBatch, Vec<u32>)> {
        let rows = tail.page_rows(page);
        let batch = self.read(tail, std::slice::from_ref(&rows), &conditions.columns())?;
        let mut matching = conditions.rows(&batch, streams)?;
        self.retain_visible(tail, page, &mut matching)?;
        Ok((batch, matching))
    }

    /// Reads ranges of rows, ascending and apart, of the columns named; a column that the file lacks is left out.
    pub(crate) fn read(&self, tail: &Tail, rows: &[Range<usize>], columns: &[&str]) -> Result<RecordBatch> {
        self.read_selected(tail, rows, |name| columns.contains(&name))
    }

    /// Reads ranges of rows, ascending and apart, of the columns that `wants` names.
    pub(crate) fn read_selected(&self, tail: &Tail, rows: &[Range<usize>], wants: impl Fn(&str) -> bool) -> Result<RecordBatch> {
        EventCounters::add(&self.counters.pages_read, 1);
        let parquet = tail.metadata.metadata();
        let total = parquet.file_metadata().num_rows() as usize;
        let selection = RowSelection::from_consecutive_ranges(rows.iter().cloned(), total);
        let roots = tail.metadata.schema().fields().iter().enumerate();
        let wanted = roots.filter(|(_, field)| is_needed(field.name(), &wants)).map(|(at, _)| at);
        let mask = ProjectionMask::roots(tail.metadata.parquet_schema(), wanted);
        let builder = ParquetRecordBatchStreamBuilder::new_with_metadata(tail.reader.clone(), tail.metadata.clone())
            .with_row_selection(selection)
            .with_projection(mask)
            .with_batch_size(PAGE_ROWS);
        let named = |error| read_error(error).context(&self.entry.path);
        let stream = builder.build().map_err(named)?;
        let schema = stream.schema().clone();
        let batches: Vec<RecordBatch> = wait(stream.try_collect()).map_err(named)?;
        let stored = match batches.as_slice() {
            [one] => one.clone(),
            several => concat_batches(&schema, several).map_err(damaged)?,
        };
        from_stored(&stored).map_err(|error| error.context(&self.entry.path))
    }

    /// Whether a failed read is the file's own fault; then it is reported, and the rest answers without it.
    pub(crate) fn is_damaged(&self, error: &Error) -> bool {
        let damaged = matches!(error.kind(), br_std::Kind::Corrupt | br_std::Kind::NotFound);
        if damaged {
            self.counters.damaged(&self.entry.path, error.message());
        }
        damaged
    }
}

/// Those that have one of the pages, which are ascending.
fn segments_of<'s>(summary: &'s Summary, pages: &[usize]) -> Vec<&'s Segment> {
    let has_page = |segment: &&Segment| {
        let next = pages.partition_point(|page| *page < segment.first_page);
        pages.get(next).is_some_and(|page| segment.holds(*page))
    };
    summary.segments.iter().filter(has_page).collect()
}

/// The pages of a file that a query needs.
pub(crate) struct Pages {
    pub(crate) pages: Vec<usize>,
    pub(crate) streams: Option<HashSet<u64>>,
}

/// Ranges of the file's rows for rows of a page, ascending.
pub(crate) fn ranges_of(page: &Range<usize>, rows: &[u32]) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for row in rows {
        let at = page.start + *row as usize;
        match ranges.last_mut() {
            Some(last) if last.end == at => last.end += 1,
            _ => ranges.push(at..at + 1),
        }
    }
    ranges
}
