//! What chunks of histograms have in common, and those with whole counts.

use super::bits::{BitReader, BitWriter};
use super::xor::XorValue;
use crate::{Result, WireError};
use br_model::histogram::CUSTOM_BUCKETS_SCHEMA;
use br_model::metrics::is_stale;
use br_model::{BucketSpan, CounterResetHint, FloatHistogram};
use std::sync::Arc;

/// Buckets of one histogram, both sides together.
const BUCKETS_MAX: u64 = 16_384;
/// What the samples of one chunk may take in memory.
const CHUNK_BYTES_MAX: usize = 64 << 20;

/// What the first byte after the count says of all histograms of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ResetHeader {
    Unknown = 0b0000_0000,
    NotReset = 0b0100_0000,
    Reset = 0b1000_0000,
    Gauge = 0b1100_0000,
}

impl ResetHeader {
    pub(super) fn of(flags: u8) -> Self {
        let all = [Self::Unknown, Self::NotReset, Self::Reset, Self::Gauge];
        all.into_iter().find(|header| *header as u8 == flags & 0b1100_0000).unwrap_or(Self::Unknown)
    }

    /// As Prometheus reads it: what comes after the first histogram of a chunk is no reset, or it would begin another.
    pub(super) fn hint(self, is_first: bool) -> CounterResetHint {
        match self {
            Self::Gauge => CounterResetHint::Gauge,
            _ if !is_first => CounterResetHint::NotReset,
            Self::Reset => CounterResetHint::Reset,
            Self::Unknown | Self::NotReset => CounterResetHint::Unknown,
        }
    }
}

/// What all histograms of a chunk share.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Layout {
    pub(super) schema: i32,
    pub(super) zero_threshold: f64,
    pub(super) positive_spans: Vec<BucketSpan>,
    pub(super) negative_spans: Vec<BucketSpan>,
    pub(super) custom_values: Vec<f64>,
}

/// Bounds with up to three decimals are written as whole thousandths.
const BOUND_SCALE: f64 = 1000.0;
const BOUND_MAX: f64 = 33_554_430.0;

impl Layout {
    pub(super) fn of(histogram: &FloatHistogram) -> Self {
        Self {
            schema: histogram.schema,
            zero_threshold: histogram.zero_threshold,
            positive_spans: histogram.positive_spans.clone(),
            negative_spans: histogram.negative_spans.clone(),
            custom_values: histogram.custom_values.clone(),
        }
    }

    pub(super) fn read(reader: &mut BitReader<'_>) -> Result<Self> {
        let zero_threshold = read_zero_threshold(reader)?;
        let schema = i32::try_from(reader.varbit_int()?).map_err(|_| WireError::malformed("a schema out of range"))?;
        let positive_spans = read_spans(reader)?;
        let negative_spans = read_spans(reader)?;
        let mut custom_values = Vec::new();
        if schema == CUSTOM_BUCKETS_SCHEMA {
            for _ in 0..limited(reader.varbit_uint()?)? {
                custom_values.push(match reader.varbit_uint()? {
                    0 => reader.f64()?,
                    thousandths => (thousandths - 1) as f64 / BOUND_SCALE,
                });
            }
        }
        Ok(Self { schema, zero_threshold, positive_spans, negative_spans, custom_values })
    }

    pub(super) fn write(&self, writer: &mut BitWriter) {
        write_zero_threshold(self.zero_threshold, writer);
        writer.varbit_int(i64::from(self.schema));
        write_spans(&self.positive_spans, writer);
        write_spans(&self.negative_spans, writer);
        if self.schema == CUSTOM_BUCKETS_SCHEMA {
            writer.varbit_uint(self.custom_values.len() as u64);
            for bound in &self.custom_values {
                let thousandths = bound * BOUND_SCALE;
                if (0.0..=BOUND_MAX).contains(&thousandths) && thousandths.round() / BOUND_SCALE == *bound {
                    writer.varbit_uint(thousandths.round() as u64 + 1);
                } else {
                    writer.bit(false);
                    writer.f64(*bound);
                }
            }
        }
    }

    /// Buckets of the positive and of the negative side.
    pub(super) fn bucket_counts(&self) -> Result<(usize, usize)> {
        let covered = |spans: &[BucketSpan]| spans.iter().map(|span| u64::from(span.length)).sum::<u64>();
        let (positive, negative) = (covered(&self.positive_spans), covered(&self.negative_spans));
        limited(positive + negative)?;
        Ok((positive as usize, negative as usize))
    }

    fn entries(&self) -> usize {
        self.positive_spans.len() + self.negative_spans.len() + self.custom_values.len()
    }

    /// A histogram without its figures. A stale one has no buckets, whatever the others have.
    pub(super) fn histogram(&self, hint: CounterResetHint, sum: f64) -> FloatHistogram {
        if is_stale(sum) {
            return FloatHistogram { sum, ..FloatHistogram::default() };
        }
        FloatHistogram {
            counter_reset_hint: hint,
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            sum,
            positive_spans: self.positive_spans.clone(),
            negative_spans: self.negative_spans.clone(),
            custom_values: self.custom_values.clone(),
            ..FloatHistogram::default()
        }
    }
}

fn limited(count: u64) -> Result<u64> {
    if count > BUCKETS_MAX {
        return Err(WireError::TooLarge(format!("a histogram of {count} buckets; at most {BUCKETS_MAX} are taken")));
    }
    Ok(count)
}

/// One byte for zero and for powers of two, which thresholds are.
fn read_zero_threshold(reader: &mut BitReader<'_>) -> Result<f64> {
    match reader.bits(8)? as i32 {
        0 => Ok(0.0),
        255 => reader.f64(),
        power => Ok(2f64.powi(power - 244)),
    }
}

fn write_zero_threshold(threshold: f64, writer: &mut BitWriter) {
    let power = (1..255).find(|power| 2f64.powi(power - 244).to_bits() == threshold.to_bits());
    match power {
        _ if threshold.to_bits() == 0 => writer.bits(0, 8),
        Some(power) => writer.bits(power as u64, 8),
        None => {
            writer.bits(255, 8);
            writer.f64(threshold);
        }
    }
}

fn read_spans(reader: &mut BitReader<'_>) -> Result<Vec<BucketSpan>> {
    let out_of_range = || WireError::malformed("a bucket span out of range");
    let mut spans = Vec::new();
    for at in 0..limited(reader.varbit_uint()?)? {
        let length = u32::try_from(reader.varbit_uint()?).map_err(|_| out_of_range())?;
        let offset = i32::try_from(reader.varbit_int()?).map_err(|_| out_of_range())?;
        if at > 0 && offset < 0 {
            return Err(out_of_range());
        }
        spans.push(BucketSpan { offset, length });
    }
    Ok(spans)
}

fn write_spans(spans: &[BucketSpan], writer: &mut BitWriter) {
    writer.varbit_uint(spans.len() as u64);
    for span in spans {
        writer.varbit_uint(u64::from(span.length));
        writer.varbit_int(i64::from(span.offset));
    }
}

/// The histograms of a chunk as they are decoded, within the memory that one chunk may take.
pub(super) struct Histograms {
    pub(super) times: Vec<i64>,
    pub(super) values: Vec<Arc<FloatHistogram>>,
    bytes: usize,
}

impl Histograms {
    pub(super) fn new() -> Self {
        Self { times: Vec::new(), values: Vec::new(), bytes: 0 }
    }

    /// To be asked before the next histogram is made.
    pub(super) fn reserve(&mut self, layout: &Layout, buckets: usize) -> Result<()> {
        self.bytes += size_of::<FloatHistogram>() + 8 * (layout.entries() + buckets);
        if self.bytes > CHUNK_BYTES_MAX {
            return Err(WireError::TooLarge(format!("a chunk of histograms that take more than {CHUNK_BYTES_MAX} bytes")));
        }
        Ok(())
    }

    pub(super) fn push(&mut self, time: i64, histogram: FloatHistogram) {
        self.times.push(time);
        self.values.push(Arc::new(histogram));
    }
}

/// The count, the flags, and what comes behind them.
pub(super) fn header(data: &[u8]) -> Result<(usize, ResetHeader, &[u8])> {
    let ([high, low, flags], stream) = data.split_first_chunk::<3>().ok_or_else(super::bits::cut)?;
    Ok((usize::from(u16::from_be_bytes([*high, *low])), ResetHeader::of(*flags), stream))
}

/// A whole number that is written as the change of its change.
#[derive(Clone, Copy, Default)]
struct Whole {
    value: i64,
    change: i64,
}

impl Whole {
    fn read(&mut self, reader: &mut BitReader<'_>) -> Result<()> {
        self.change = self.change.wrapping_add(reader.varbit_int()?);
        self.value = self.value.wrapping_add(self.change);
        Ok(())
    }
}

/// What changes from one histogram with whole counts to the next.
struct WholeState {
    time: Whole,
    count: Whole,
    zero_count: Whole,
    sum: XorValue,
    /// Each is the difference to the bucket before it.
    positive: Vec<Whole>,
    negative: Vec<Whole>,
}

impl ChunkState for WholeState {
    fn first(reader: &mut BitReader<'_>, buckets: (usize, usize)) -> Result<Self> {
        let whole = |value| Whole { value, change: 0 };
        let time = whole(reader.varbit_int()?);
        let count = whole(reader.varbit_uint()? as i64);
        let zero_count = whole(reader.varbit_uint()? as i64);
        let sum = XorValue::new(reader.f64()?);
        let mut side = |buckets| (0..buckets).map(|_| reader.varbit_int().map(whole)).collect::<Result<Vec<_>>>();
        Ok(Self { time, count, zero_count, sum, positive: side(buckets.0)?, negative: side(buckets.1)? })
    }

    fn next(&mut self, reader: &mut BitReader<'_>, is_second: bool) -> Result<()> {
        if is_second {
            self.time.change = reader.varbit_uint()? as i64;
            self.time.value = self.time.value.wrapping_add(self.time.change);
        } else {
            self.time.read(reader)?;
        }
        self.count.read(reader)?;
        self.zero_count.read(reader)?;
        if is_stale(self.sum.read(reader)?) {
            return Ok(());
        }
        self.positive.iter_mut().chain(&mut self.negative).try_for_each(|bucket| bucket.read(reader))
    }

    fn time(&self) -> i64 {
        self.time.value
    }

    fn sum(&self) -> f64 {
        self.sum.value()
    }

    fn fill(&self, histogram: &mut FloatHistogram) {
        histogram.count = self.count.value as u64 as f64;
        histogram.zero_count = self.zero_count.value as u64 as f64;
        histogram.positive_buckets = absolute(&self.positive);
        histogram.negative_buckets = absolute(&self.negative);
    }
}

fn absolute(buckets: &[Whole]) -> Vec<f64> {
    let mut count = 0i64;
    let add = |bucket: &Whole| {
        count = count.wrapping_add(bucket.value);
        count as f64
    };
    buckets.iter().map(add).collect()
}

pub(super) fn decode(data: &[u8]) -> Result<Histograms> {
    decode_as::<WholeState>(data)
}

/// What changes from one histogram of a chunk to the next, in one way of writing counts.
pub(super) trait ChunkState: Sized {
    fn first(reader: &mut BitReader<'_>, buckets: (usize, usize)) -> Result<Self>;

    fn next(&mut self, reader: &mut BitReader<'_>, is_second: bool) -> Result<()>;

    fn time(&self) -> i64;

    fn sum(&self) -> f64;

    /// Sets counts and buckets.
    fn fill(&self, histogram: &mut FloatHistogram);
}

pub(super) fn decode_as<S: ChunkState>(data: &[u8]) -> Result<Histograms> {
    let (count, header, stream) = header(data)?;
    let mut histograms = Histograms::new();
    if count == 0 {
        return Ok(histograms);
    }
    let mut reader = BitReader::new(stream);
    let layout = Layout::read(&mut reader)?;
    let buckets = layout.bucket_counts()?;
    let mut state = S::first(&mut reader, buckets)?;
    for at in 0..count {
        if at > 0 {
            state.next(&mut reader, at == 1)?;
        }
        histograms.reserve(&layout, buckets.0 + buckets.1)?;
        let mut histogram = layout.histogram(header.hint(at == 0), state.sum());
        if !is_stale(histogram.sum) {
            state.fill(&mut histogram);
        }
        histograms.push(state.time(), histogram);
    }
    Ok(histograms)
}
