//! `index`: the series of a block, their labels and chunks.

use super::input::{Cursor, ReadAt, checked, read, wrong};
use crate::Result;
use br_model::Labels;
use br_model::labels::METRIC_NAME;

const MAGIC: u32 = 0xbaaa_d700;
const HEADER_BYTES: u64 = 5;
/// Six offsets and a checksum.
const TOC_BYTES: u64 = 6 * 8 + 4;
/// In version 2, series begin at multiples of this, and are named by the multiple.
const SERIES_ALIGNMENT: u64 = 16;
/// Read at first for a series; most fit.
const SERIES_READ_BYTES: u64 = 1024;

/// An index whose symbols and table of metrics were read. Series are read one by one.
pub struct Index<R> {
    input: R,
    version: u8,
    symbols: Symbols,
    /// Metric names, sorted, and where the list of their series begins.
    metrics: Vec<(String, u64)>,
    /// Where the list of all series begins.
    all: Option<u64>,
}

/// Where samples of a series are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkPlace {
    /// Both included.
    pub min_ms: i64,
    pub max_ms: i64,
    /// The number of the chunk file, from zero.
    pub segment: u32,
    pub offset: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub struct IndexedSeries {
    pub labels: Labels,
    /// A name or value is not UTF-8: the labels are not those of the series.
    pub is_illegible: bool,
    pub chunks: Vec<ChunkPlace>,
}

/// Prometheus before 3 took texts that are not UTF-8: a series that has one costs no other.
struct Symbols {
    text: Vec<u8>,
    /// Where each ends in the text.
    ends: Vec<usize>,
    /// Version 1 names a symbol by its place in the file.
    places: Vec<u64>,
}

impl Symbols {
    /// `offset` is where the section's content begins in the file.
    fn parse(section: &[u8], offset: u64) -> Result<Self> {
        let mut cursor = Cursor::new(section, offset);
        let count = cursor.be32()? as usize;
        if count > cursor.rest_bytes() {
            return Err(wrong(offset, format_args!("{count} symbols cannot be in {} bytes", cursor.rest_bytes())));
        }
        let (mut text, mut ends, mut places) = (Vec::new(), Vec::with_capacity(count), Vec::with_capacity(count));
        for _ in 0..count {
            places.push(cursor.offset());
            text.extend_from_slice(cursor.text_bytes()?);
            ends.push(text.len());
        }
        Ok(Self { text, ends, places })
    }

    fn get(&self, reference: u64, version: u8) -> Option<&[u8]> {
        let at = if version == 1 { self.places.binary_search(&reference).ok()? } else { usize::try_from(reference).ok()? };
        let start = if at == 0 { 0 } else { *self.ends.get(at - 1)? };
        self.text.get(start..*self.ends.get(at)?)
    }
}

impl<R: ReadAt> Index<R> {
    pub fn open(input: R) -> Result<Self> {
        let head = read(&input, 0, HEADER_BYTES)?;
        let mut cursor = Cursor::new(&head, 0);
        if cursor.be32()? != MAGIC {
            return Err(wrong(0, "this is no index"));
        }
        let version = cursor.byte()?;
        if !matches!(version, 1 | 2) {
            return Err(wrong(4, format_args!("version {version} of the index; versions 1 and 2 are read")));
        }
        let toc_offset = input.size().checked_sub(TOC_BYTES).ok_or_else(|| wrong(0, "too short for an index"))?;
        let toc = checked(read(&input, toc_offset, TOC_BYTES)?, toc_offset)?;
        let mut cursor = Cursor::new(&toc, toc_offset);
        let symbols_offset = cursor.be64()?;
        let postings_offset = cursor.array::<{ 4 * 8 }>().and_then(|_| cursor.be64())?;
        let symbols = Symbols::parse(&section(&input, symbols_offset)?, symbols_offset.saturating_add(4))?;
        let table = section(&input, postings_offset)?;
        let (metrics, all) = metrics(&table, postings_offset.saturating_add(4))?;
        Ok(Self { input, version, symbols, metrics, all })
    }

    /// Metric names with a handle each, sorted, each once. Series without a name are under the empty one.
    pub fn metrics(&self) -> impl Iterator<Item = (&str, Postings)> {
        let unnamed = self.all.map(|_| ("", Postings(None)));
        unnamed.into_iter().chain(self.metrics.iter().map(|(name, offset)| (name.as_str(), Postings(Some(*offset)))))
    }

    /// The references of the series behind a handle, ascending.
    pub fn postings(&self, postings: Postings) -> Result<Vec<u32>> {
        if let Some(offset) = postings.0 {
            return self.list(offset);
        }
        let Some(all) = self.all else { return Ok(Vec::new()) };
        let mut all = self.list(all)?;
        let mut named = Vec::new();
        for (_, offset) in &self.metrics {
            named.extend(self.list(*offset)?);
        }
        named.sort_unstable();
        all.retain(|series| named.binary_search(series).is_err());
        Ok(all)
    }

    fn list(&self, offset: u64) -> Result<Vec<u32>> {
        let bytes = section(&self.input, offset)?;
        let mut cursor = Cursor::new(&bytes, offset.saturating_add(4));
        let count = cursor.be32()? as usize;
        if count > cursor.rest_bytes() / 4 {
            return Err(wrong(offset, format_args!("{count} series cannot be in {} bytes", cursor.rest_bytes())));
        }
        (0..count).map(|_| cursor.be32()).collect()
    }

    pub fn series(&self, reference: u32) -> Result<IndexedSeries> {
        let offset = u64::from(reference) * if self.version == 1 { 1 } else { SERIES_ALIGNMENT };
        let available = self.input.size().saturating_sub(offset);
        let mut bytes = read(&self.input, offset, SERIES_READ_BYTES.min(available))?;
        let mut cursor = Cursor::new(&bytes, offset);
        let length = cursor.uvarint()?;
        let start = cursor.offset();
        let head = (start - offset) as usize;
        let whole = length.saturating_add(4);
        if whole > (bytes.len() - head) as u64 {
            bytes = read(&self.input, start, whole)?;
        } else {
            bytes.drain(..head);
            bytes.truncate(whole as usize);
        }
        self.parse_series(&checked(bytes, start)?, start)
    }

    fn parse_series(&self, bytes: &[u8], offset: u64) -> Result<IndexedSeries> {
        let mut cursor = Cursor::new(bytes, offset);
        let (mut pairs, mut is_illegible) = (Vec::new(), false);
        for _ in 0..cursor.count(2)? {
            let mut symbol = || {
                let reference = cursor.uvarint()?;
                let symbol = self.symbols.get(reference, self.version);
                symbol.ok_or_else(|| wrong(offset, format_args!("a series names symbol {reference}, which is not there")))
            };
            let (name, value) = (std::str::from_utf8(symbol()?), std::str::from_utf8(symbol()?));
            is_illegible |= name.is_err() || value.is_err();
            pairs.extend(name.ok().zip(value.ok()));
        }
        let count = cursor.count(3)?;
        let mut chunks = Vec::with_capacity(count);
        let (mut before_ms, mut place) = (0i64, 0u64);
        for at in 0..count {
            let min_ms = if at == 0 { cursor.varint()? } else { before_ms.wrapping_add(cursor.uvarint()? as i64) };
            let max_ms = min_ms.wrapping_add(cursor.uvarint()? as i64);
            place = if at == 0 { cursor.uvarint()? } else { place.wrapping_add(cursor.varint()? as u64) };
            before_ms = max_ms;
            chunks.push(ChunkPlace { min_ms, max_ms, segment: (place >> 32) as u32, offset: place as u32 });
        }
        Ok(IndexedSeries { labels: Labels::from_pairs(pairs), is_illegible, chunks })
    }
}

/// Which list of series.
#[derive(Clone, Copy, Debug)]
pub struct Postings(Option<u64>);

/// A part of the file with its length in front and its checksum behind.
fn section(input: &dyn ReadAt, offset: u64) -> Result<Vec<u8>> {
    let length = read(input, offset, 4)?;
    let length = Cursor::new(&length, offset).be32()?;
    let start = offset.saturating_add(4);
    checked(read(input, start, u64::from(length) + 4)?, start)
}

type Metrics = (Vec<(String, u64)>, Option<u64>);

/// What the table of postings has under the name of metrics, and under the empty name for all.
fn metrics(table: &[u8], offset: u64) -> Result<Metrics> {
    let mut cursor = Cursor::new(table, offset);
    let (mut metrics, mut all) = (Vec::new(), None);
    for _ in 0..cursor.be32()? {
        if cursor.uvarint()? != 2 {
            return Err(wrong(cursor.offset(), "an entry of the table of postings has not two parts"));
        }
        let (name, value, place) = (cursor.text_bytes()?, cursor.text_bytes()?, cursor.uvarint()?);
        match (name, std::str::from_utf8(value)) {
            (b"", Ok("")) => all = Some(place),
            // A name that is no text is found among the series without one.
            (name, Ok(value)) if name == METRIC_NAME.as_bytes() && !value.is_empty() => metrics.push((value.to_owned(), place)),
            _ => {}
        }
    }
    metrics.sort_unstable();
    metrics.dedup_by(|one, other| one.0 == other.0);
    Ok((metrics, all))
}
