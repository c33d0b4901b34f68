//! What a file says of itself: in the catalog (to skip it unopened) and in its tail (to skip pages).

use crate::filter::{BLOCK_BYTES, BLOCKS_MAX, block_of};
use crate::parts;
use br_std::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

pub(crate) const FORMAT: u32 = 2;
/// Rows of one page, in all columns; only the last page of a segment has fewer.
pub(crate) const PAGE_ROWS: usize = 8192;
/// Pages of one segment, at most.
pub(crate) const SEGMENT_PAGES: usize = 64;
/// The data before the tail is checked in blocks of this size.
pub(crate) const CHECK_BYTES: usize = 4096;
/// Names of services and operations listed in the catalog and in the tail, at most; beyond that the list counts as open.
pub(crate) const NAMES_MAX: usize = 1000;
/// Keys of attributes listed in the catalog, at most.
pub(crate) const KEYS_MAX: usize = 1000;

/// A key of attributes, the letter of its type, and how many rows have it.
pub(crate) type KeyRows = (String, char, u64);

/// The statistics of a file in the catalog (`FileEntry::stats`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FileStats {
    pub format: u32,
    /// Sorted; empty when there are too many to list.
    pub services: Vec<String>,
    /// Streams (resources) in the file.
    pub streams: u64,
    /// Rows by severity word (logs) or by status (spans).
    pub levels: BTreeMap<String, u64>,
    /// Rows of kind `error`.
    pub errors: u64,
    /// Keys of attributes with the letter of their type and the rows that have them: those with a column of their own in the order of
    /// the columns, then the others, the most frequent first.
    pub keys: Vec<KeyRows>,
    /// How many of the keys have a column of their own.
    pub columns: usize,
    /// Of these keys those that stand in the map as well: of records that repeat them.
    pub split: Vec<String>,
    /// Keys of resource attributes.
    pub resource_keys: Vec<String>,
    /// The last record of the journal that may be in the file; 0 where that is not known.
    #[serde(default)]
    pub last_record: u64,
    /// Erasures up to this record of the journal were carried out on the file.
    #[serde(default)]
    pub erased_to: u64,
    /// Where the tail begins.
    pub tail_offset: u64,
    /// CRC-32 of everything from there to the end.
    pub tail_crc: u32,
}

impl FileStats {
    pub(crate) fn new(summary: &Summary, tail_offset: u64, tail_crc: u32) -> Result<Self> {
        let mut resource_keys = BTreeSet::new();
        for stream in &summary.streams {
            let resource = crate::json::decode_resource(&stream.resource)?;
            resource_keys.extend(resource.attributes.0.into_iter().map(|(key, _)| key));
        }
        let is_open = summary.services.len() > NAMES_MAX;
        Ok(Self {
            format: summary.format,
            services: if is_open { Vec::new() } else { summary.services.clone() },
            streams: summary.streams.len() as u64,
            levels: summary.levels.clone(),
            errors: summary.errors,
            keys: summary.keys.clone(),
            columns: summary.columns,
            split: summary.split.clone(),
            resource_keys: resource_keys.into_iter().take(NAMES_MAX).collect(),
            last_record: 0,
            erased_to: 0,
            tail_offset,
            tail_crc,
        })
    }

    /// Whether the map of a row may have an attribute of this key.
    pub(crate) fn may_have_in_map(&self, key: &str) -> bool {
        let rest = self.keys.get(self.columns..).unwrap_or_default();
        self.keys.len() >= KEYS_MAX || self.split.iter().chain(rest.iter().map(|(known, ..)| known)).any(|known| known == key)
    }

    /// Whether a row may have an attribute of this key and type.
    pub(crate) fn may_have_key(&self, key: &str, letter: u8) -> bool {
        self.keys.len() >= KEYS_MAX || self.keys.iter().any(|(known, of, _)| known == key && *of == char::from(letter))
    }

    pub(crate) fn parse(text: &str) -> Result<Self> {
        let stats: Self = serde_json::from_str(text).map_err(|error| Error::corrupt(format!("file statistics: {error}")))?;
        if stats.format != FORMAT {
            return Err(Error::corrupt(format!("file format {} is not known to this version", stats.format)));
        }
        Ok(stats)
    }
}

/// The summary in the tail of a file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Summary {
    pub(crate) format: u32,
    /// Sorted.
    pub(crate) services: Vec<String>,
    /// Sorted by service and id, as the rows of `logs` are.
    pub(crate) streams: Vec<StreamSummary>,
    /// Names of spans by service.
    pub(crate) operations: BTreeMap<String, Vec<String>>,
    /// As in [`FileStats`].
    pub(crate) keys: Vec<KeyRows>,
    pub(crate) columns: usize,
    pub(crate) split: Vec<String>,
    pub(crate) levels: BTreeMap<String, u64>,
    pub(crate) errors: u64,
    pub(crate) pages: Vec<PageSummary>,
    pub(crate) segments: Vec<Segment>,
    /// Where the counts by minute begin, and their length: 0 where there are none.
    #[serde(default)]
    pub(crate) counts: (u64, u64),
}

/// Pages that follow each other: a row group of Parquet's, and behind it their filters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Segment {
    pub(crate) first_page: usize,
    pub(crate) pages: usize,
    pub(crate) first_row: usize,
    pub(crate) rows: usize,
    pub(crate) filter_offset: u64,
    /// Blocks of each page.
    pub(crate) filter_blocks: usize,
    /// Where parts of words begin.
    #[serde(default)]
    pub(crate) parts_offset: u64,
    /// Bits of each page; 0 where parts are not known.
    #[serde(default)]
    pub(crate) parts_bits: usize,
    /// A bit for each page that has a long word with a digit.
    #[serde(default)]
    pub(crate) parts_long: u64,
    /// A bit for each page whose filter knows which words follow each other.
    #[serde(default)]
    pub(crate) follows: u64,
}

impl Segment {
    /// The rows of the file that make up a page of the segment.
    pub(crate) fn page_rows(&self, page: usize) -> Range<usize> {
        let end = self.first_row + self.rows;
        let from = self.first_row + (page - self.first_page) * PAGE_ROWS;
        from.min(end)..(from + PAGE_ROWS).min(end)
    }

    /// Where the blocks of a term stand, those of each page.
    pub(crate) fn filter_row(&self, term: u64) -> Range<u64> {
        let row_bytes = (self.pages * BLOCK_BYTES) as u64;
        let from = self.filter_offset + block_of(term, self.filter_blocks) as u64 * row_bytes;
        from..from + row_bytes
    }

    /// Where a bit of each page stands; parts must be known.
    pub(crate) fn parts_row(&self, bit: u32) -> Range<u64> {
        let row_bytes = parts::row_bytes(self.pages) as u64;
        let from = self.parts_offset + u64::from(bit) % self.parts_bits.max(1) as u64 * row_bytes;
        from..from + row_bytes
    }

    /// Where the last byte of the filters is behind us.
    pub(crate) fn filters_end(&self) -> u64 {
        let parts_end = self.parts_offset.saturating_add((self.parts_bits * parts::row_bytes(self.pages)) as u64);
        self.filter_row(u64::MAX).end.max(parts_end)
    }

    /// Whether the filter of a page of the segment knows which words follow each other.
    pub(crate) fn knows_follows(&self, page: usize) -> bool {
        self.follows >> (page - self.first_page).min(63) & 1 == 1
    }

    pub(crate) fn holds(&self, page: usize) -> bool {
        (self.first_page..self.first_page + self.pages).contains(&page)
    }
}

impl Summary {
    /// The segment of a page; the last one for a page that there is not.
    pub(crate) fn segment_of(&self, page: usize) -> Option<&Segment> {
        let after = self.segments.partition_point(|segment| segment.first_page <= page);
        self.segments.get(after.saturating_sub(1))
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct StreamSummary {
    pub(crate) id: u64,
    /// Typed JSON of its attributes.
    pub(crate) resource: String,
    /// Time of its first and last record, both included.
    pub(crate) min_ts: i64,
    pub(crate) max_ts: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PageSummary {
    /// Time of the first and last row, both included.
    pub(crate) min_ts: i64,
    pub(crate) max_ts: i64,
    /// First and last service by number, both included.
    pub(crate) services: (usize, usize),
    /// First and last stream by number, both included; all streams for spans.
    pub(crate) streams: (usize, usize),
    /// Least and greatest severity number (logs) or duration in nanoseconds (spans).
    pub(crate) low: i64,
    pub(crate) high: i64,
    /// Whether a row is an error: of that kind (logs) or status (spans).
    pub(crate) errors: bool,
}

/// `length of JSON (u32 LE) | JSON | number of checksums (u32 LE) | CRC-32 of each block (u32 LE each)`
pub(crate) fn encode_tail(summary: &Summary, checksums: &[u32]) -> Result<Vec<u8>> {
    let json = serde_json::to_vec(summary).map_err(|error| Error::corrupt(format!("file summary: {error}")))?;
    let mut bytes = Vec::with_capacity(json.len() + checksums.len() * 4 + 8);
    bytes.extend_from_slice(&(json.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&json);
    bytes.extend_from_slice(&(checksums.len() as u32).to_le_bytes());
    for checksum in checksums {
        bytes.extend_from_slice(&checksum.to_le_bytes());
    }
    Ok(bytes)
}

/// Reads the start of a tail; what comes behind is Parquet's footer.
pub(crate) fn decode_tail(bytes: &[u8]) -> Result<(Summary, Vec<u32>)> {
    let cut_short = || Error::corrupt("file summary: cut short");
    let mut rest = bytes;
    let json = take_block(&mut rest, 1).ok_or_else(cut_short)?;
    let summary: Summary = serde_json::from_slice(json).map_err(|error| Error::corrupt(format!("file summary: {error}")))?;
    let checksums = take_block(&mut rest, 4).ok_or_else(cut_short)?;
    let number = |bytes: &[u8]| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    check_numbers(&summary)?;
    Ok((summary, checksums.chunks_exact(4).map(number).collect()))
}

/// A count, then as many items of `item_bytes`.
fn take_block<'a>(rest: &mut &'a [u8], item_bytes: usize) -> Option<&'a [u8]> {
    let (count, after) = rest.split_first_chunk::<4>()?;
    let length = (u32::from_le_bytes(*count) as usize).checked_mul(item_bytes)?;
    let (block, after) = after.split_at_checked(length)?;
    *rest = after;
    Some(block)
}

fn check_numbers(summary: &Summary) -> Result<()> {
    let fits = |(first, last): (usize, usize), count: usize| first <= last && last < count;
    let sound =
        summary.pages.iter().all(|page| fits(page.services, summary.services.len()) && fits(page.streams, summary.streams.len()));
    let (mut pages, mut rows) = (0, 0);
    let follow = summary.segments.iter().all(|segment| {
        let is_next = segment.first_page == pages && segment.first_row == rows && segment.pages > 0 && segment.filter_blocks > 0;
        (pages, rows) = (pages.saturating_add(segment.pages), rows.saturating_add(segment.rows));
        is_next
            && segment.pages <= SEGMENT_PAGES
            && segment.filter_blocks <= BLOCKS_MAX
            && segment.parts_bits <= parts::BITS_MAX
            && segment.rows <= segment.pages * PAGE_ROWS
    });
    if summary.format != FORMAT {
        Err(Error::corrupt(format!("file summary: format {} is not known to this version", summary.format)))
    } else if !sound {
        Err(Error::corrupt("file summary: numbers of services or streams out of bounds"))
    } else if !follow || pages != summary.pages.len() {
        Err(Error::corrupt("file summary: segments do not follow each other"))
    } else {
        Ok(())
    }
}

pub(crate) fn checksums(data: &[u8]) -> Vec<u32> {
    data.chunks(CHECK_BYTES).map(crc32fast::hash).collect()
}
