//! The write-ahead log: what Prometheus has taken in and not yet put into a block.
//!
//! A log is a row of files. Each is cut into pages, a record may go over several of them but stays within its file.

use super::input::{Cursor, wrong};
use crate::decompress::{Encoding, decompress};
use crate::remote_write::v1::metric_type;
use crate::{Limits, Result, WireError};
use br_model::histogram::CUSTOM_BUCKETS_SCHEMA;
use br_model::{BucketSpan, CounterResetHint, Exemplar, FloatHistogram, Labels, Metadata};
use br_std::crc32c::crc32c;
use std::borrow::Cow;
use std::sync::Arc;

pub const PAGE_BYTES: usize = 32 << 10;
const FRAGMENT_HEADER_BYTES: usize = 7;
/// A record, before and after it is unpacked.
const RECORD_BYTES_MAX: usize = 256 << 20;
/// Buckets of one histogram, both sides together.
const BUCKETS_MAX: usize = 16_384;

/// Puts the records of one file together from its pages.
#[derive(Default)]
pub struct Pages {
    record: Vec<u8>,
    /// What the flags of the record's first fragment say.
    flags: u8,
    is_open: bool,
    offset: u64,
}

const SNAPPY: u8 = 1 << 3;
const ZSTD: u8 = 1 << 4;

impl Pages {
    /// Reads the next page, which is shorter than the others only at the end of a file, and hands out the records that end in it,
    /// each with the place in the file of its last fragment.
    ///
    /// After an error the rest of the file makes no sense.
    pub fn read(&mut self, page: &[u8], mut take: impl FnMut(u64, &[u8]) -> Result<()>) -> Result<()> {
        let mut rest = page;
        while !rest.is_empty() {
            let at = self.offset + (page.len() - rest.len()) as u64;
            if rest[0] == 0 {
                break;
            }
            let Some((header, behind)) = rest.split_first_chunk::<FRAGMENT_HEADER_BYTES>() else {
                return Err(wrong(at, "the file ends inside a record"));
            };
            let length = usize::from(u16::from_be_bytes([header[1], header[2]]));
            let sum = u32::from_be_bytes([header[3], header[4], header[5], header[6]]);
            let Some((data, next)) = behind.split_at_checked(length) else {
                return Err(wrong(at, "the file ends inside a record"));
            };
            if crc32c(data) != sum {
                return Err(wrong(at, "the checksum of a record does not fit"));
            }
            if self.add(header[0], data, at)? {
                let unpacked = unpack(&self.record, self.flags).map_err(|error| error.context(format_args!("at byte {at}")))?;
                take(at, &unpacked)
                    .map_err(|error| error.context(format_args!("in the record that ends in byte {at} and following")))?;
            }
            rest = next;
        }
        self.offset += page.len() as u64;
        Ok(())
    }

    /// True when the file may end here.
    pub fn is_between_records(&self) -> bool {
        !self.is_open
    }

    /// True when the record is whole.
    fn add(&mut self, flags: u8, data: &[u8], at: u64) -> Result<bool> {
        let kind = flags & 7;
        let begins = matches!(kind, 1 | 2);
        if begins == self.is_open || !(1..=4).contains(&kind) {
            return Err(wrong(at, format_args!("a fragment of kind {kind} does not belong here")));
        }
        if begins {
            self.record.clear();
            self.flags = flags;
        }
        if self.record.len() + data.len() > RECORD_BYTES_MAX {
            return Err(wrong(at, format_args!("a record of more than {RECORD_BYTES_MAX} bytes")));
        }
        self.record.extend_from_slice(data);
        self.is_open = matches!(kind, 2 | 3);
        Ok(!self.is_open)
    }
}

fn unpack(record: &[u8], flags: u8) -> Result<Cow<'_, [u8]>> {
    let encoding = match flags {
        flags if flags & SNAPPY != 0 => Encoding::Snappy,
        flags if flags & ZSTD != 0 => Encoding::Zstd,
        _ => return Ok(record.into()),
    };
    let bytes = RECORD_BYTES_MAX;
    decompress(
        record,
        encoding,
        &Limits { body_bytes_max: bytes, decoded_bytes_max: bytes, ratio_max: 10_000, ..Limits::default() },
    )
}

/// One record. Series are named by a number that a series record gives them.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    Series(Vec<(u64, Labels)>),
    Floats(Vec<(u64, i64, f64)>),
    Histograms(Vec<(u64, i64, Arc<FloatHistogram>)>),
    Exemplars(Vec<(u64, Exemplar)>),
    /// What was deleted, both ends included.
    Tombstones(Vec<(u64, i64, i64)>),
    Metadata(Vec<(u64, Metadata)>),
    /// Of use to Prometheus only.
    Internal,
    /// Of a kind that is not read.
    Unknown(u8),
}

/// What a record has of texts that are not UTF-8, as Prometheus 2 took them: that is left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Illegible {
    /// Series by number: their labels.
    pub series: Vec<u64>,
    /// How many exemplars and descriptions of metrics.
    pub others: u64,
}

/// A record, and what of it makes no text.
pub fn parse(record: &[u8]) -> Result<(Record, Illegible)> {
    let mut illegible = Illegible::default();
    let record = parse_noting(record, &mut illegible)?;
    Ok((record, illegible))
}

fn parse_noting(record: &[u8], illegible: &mut Illegible) -> Result<Record> {
    let Some((kind, content)) = record.split_first() else { return Ok(Record::Internal) };
    let mut cursor = Cursor::new(content, 1);
    Ok(match kind {
        1 => {
            let mut series = Vec::new();
            for (reference, labels) in all(&mut cursor, |cursor| Ok((cursor.be64()?, labels(cursor)?)))? {
                match labels {
                    Some(labels) => series.push((reference, labels)),
                    None => illegible.series.push(reference),
                }
            }
            Record::Series(series)
        }
        2 => Record::Floats(stamped(&mut cursor, |cursor| cursor.be64().map(f64::from_bits))?),
        3 => Record::Tombstones(all(&mut cursor, |cursor| Ok((cursor.be64()?, cursor.varint()?, cursor.varint()?)))?),
        4 => {
            let found = stamped(&mut cursor, |cursor| Ok((cursor.be_f64()?, labels(cursor)?)))?;
            let count = found.len();
            let exemplar = |(series, timestamp_ms, (value, labels)): (u64, i64, (f64, Option<Labels>))| {
                Some((series, Exemplar { labels: labels?, value, timestamp_ms }))
            };
            let legible: Vec<_> = found.into_iter().filter_map(exemplar).collect();
            illegible.others += (count - legible.len()) as u64;
            Record::Exemplars(legible)
        }
        5 => Record::Internal,
        6 => {
            let found = all(&mut cursor, metadata)?;
            illegible.others += found.iter().filter(|found| found.is_none()).count() as u64;
            Record::Metadata(found.into_iter().flatten().collect())
        }
        7 | 9 => Record::Histograms(stamped(&mut cursor, |cursor| histogram(cursor, true))?),
        8 | 10 => Record::Histograms(stamped(&mut cursor, |cursor| histogram(cursor, false))?),
        other => Record::Unknown(*other),
    })
}

fn all<T>(cursor: &mut Cursor<'_>, mut take: impl FnMut(&mut Cursor<'_>) -> Result<T>) -> Result<Vec<T>> {
    let mut found = Vec::new();
    while !cursor.is_empty() {
        found.push(take(cursor)?);
    }
    Ok(found)
}

/// Things with a series and a time, which are differences to what stands in front.
fn stamped<T>(cursor: &mut Cursor<'_>, mut take: impl FnMut(&mut Cursor<'_>) -> Result<T>) -> Result<Vec<(u64, i64, T)>> {
    if cursor.is_empty() {
        return Ok(Vec::new());
    }
    let (series, time) = (cursor.be64()?, cursor.be64()? as i64);
    all(cursor, |cursor| {
        let series = series.wrapping_add(cursor.varint()? as u64);
        let time = time.wrapping_add(cursor.varint()?);
        Ok((series, time, take(cursor)?))
    })
}

/// Pairs of texts; `None` where one is not UTF-8.
fn pairs<'a>(cursor: &mut Cursor<'a>) -> Result<Option<Vec<(&'a str, &'a str)>>> {
    let count = cursor.count(2)?;
    let mut pairs = Some(Vec::with_capacity(count));
    for _ in 0..count {
        let texts = (std::str::from_utf8(cursor.text_bytes()?), std::str::from_utf8(cursor.text_bytes()?));
        match (texts, &mut pairs) {
            ((Ok(name), Ok(value)), Some(pairs)) => pairs.push((name, value)),
            _ => pairs = None,
        }
    }
    Ok(pairs)
}

fn labels(cursor: &mut Cursor<'_>) -> Result<Option<Labels>> {
    Ok(pairs(cursor)?.map(Labels::from_pairs))
}

fn metadata(cursor: &mut Cursor<'_>) -> Result<Option<(u64, Metadata)>> {
    let series = cursor.uvarint()?;
    let metric_type = metric_type(u64::from(cursor.byte()?));
    let mut found = Metadata { metric_type, ..Metadata::default() };
    let Some(pairs) = pairs(cursor)? else { return Ok(None) };
    for (name, value) in pairs {
        match name {
            "UNIT" => value.clone_into(&mut found.unit),
            "HELP" => value.clone_into(&mut found.help),
            _ => {}
        }
    }
    Ok(Some((series, found)))
}

/// With whole counts, buckets are differences to the bucket before.
fn histogram(cursor: &mut Cursor<'_>, has_whole_counts: bool) -> Result<Arc<FloatHistogram>> {
    let counter_reset_hint = match cursor.byte()? {
        1 => CounterResetHint::Reset,
        2 => CounterResetHint::NotReset,
        3 => CounterResetHint::Gauge,
        _ => CounterResetHint::Unknown,
    };
    let schema = i32::try_from(cursor.varint()?).map_err(|_| WireError::malformed("a schema out of range"))?;
    let zero_threshold = cursor.be_f64()?;
    let count = |cursor: &mut Cursor<'_>| if has_whole_counts { Ok(cursor.uvarint()? as f64) } else { cursor.be_f64() };
    let zero_count = count(cursor)?;
    let count = count(cursor)?;
    let sum = cursor.be_f64()?;
    let positive_spans = spans(cursor)?;
    let negative_spans = spans(cursor)?;
    let positive_buckets = buckets(cursor, has_whole_counts)?;
    let negative_buckets = buckets(cursor, has_whole_counts)?;
    for (spans, buckets) in [(&positive_spans, &positive_buckets), (&negative_spans, &negative_buckets)] {
        let covered: u64 = spans.iter().map(|span| u64::from(span.length)).sum();
        if covered != buckets.len() as u64 {
            return Err(WireError::malformed(format_args!("the spans cover {covered} buckets of {}", buckets.len())));
        }
    }
    let mut custom_values = Vec::new();
    if schema == CUSTOM_BUCKETS_SCHEMA {
        for _ in 0..cursor.count(8)?.min(BUCKETS_MAX) {
            custom_values.push(cursor.be_f64()?);
        }
    }
    Ok(Arc::new(FloatHistogram {
        counter_reset_hint,
        schema,
        zero_threshold,
        zero_count,
        count,
        sum,
        positive_spans,
        negative_spans,
        positive_buckets,
        negative_buckets,
        custom_values,
    }))
}

fn spans(cursor: &mut Cursor<'_>) -> Result<Vec<BucketSpan>> {
    let out_of_range = || WireError::malformed("a bucket span out of range");
    let count = cursor.count(2)?;
    (0..count)
        .map(|_| {
            let offset = i32::try_from(cursor.varint()?).map_err(|_| out_of_range())?;
            let length = u32::try_from(cursor.uvarint()?).map_err(|_| out_of_range())?;
            Ok(BucketSpan { offset, length })
        })
        .collect()
}

fn buckets(cursor: &mut Cursor<'_>, has_whole_counts: bool) -> Result<Vec<f64>> {
    let count = cursor.count(if has_whole_counts { 1 } else { 8 })?;
    if count > BUCKETS_MAX {
        return Err(WireError::TooLarge(format!("a histogram of {count} buckets; at most {BUCKETS_MAX} are taken")));
    }
    let mut whole = 0i64;
    (0..count)
        .map(|_| {
            if !has_whole_counts {
                return cursor.be_f64();
            }
            whole = whole.wrapping_add(cursor.varint()?);
            Ok(whole as f64)
        })
        .collect()
}
