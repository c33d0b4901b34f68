//! Native histograms. The message is field for field the same in both versions, save for the number of the start timestamp.

use crate::amount::Room;
use crate::protobuf::{Field, Reader, put_f64, put_f64_always, put_int, put_message, put_packed_f64, put_varint, put_zigzag};
use crate::{Limits, Result, WireError};
use br_model::histogram::CUSTOM_BUCKETS_SCHEMA;
use br_model::{BucketSpan, CounterResetHint, FloatHistogram};

/// Buckets of one histogram, both sides together: beyond it the message is refused.
const BUCKETS_MAX: usize = 16_384;

/// A histogram with its times in milliseconds.
pub(super) struct Stamped {
    pub(super) timestamp_ms: i64,
    /// 0 where the sender does not say.
    pub(super) start_ms: i64,
    pub(super) histogram: FloatHistogram,
}

/// One side as it stands on the wire: deltas of whole counts, or float counts.
#[derive(Default)]
struct Side {
    spans: Vec<BucketSpan>,
    deltas: Vec<i64>,
    counts: Vec<f64>,
}

/// Takes one in: of what would be too many, one more than that is enough to tell.
fn keep<T>(all: &mut Vec<T>, one: T) {
    if all.len() <= BUCKETS_MAX {
        all.push(one);
    }
}

impl Side {
    /// Absolute counts, one for each bucket that the spans cover.
    fn buckets(self) -> Result<(Vec<BucketSpan>, Vec<f64>), String> {
        let covered: u64 = self.spans.iter().map(|span| u64::from(span.length)).sum();
        if self.spans.iter().skip(1).any(|span| span.offset < 0) {
            return Err("a bucket span with a negative offset".into());
        }
        let counts = if self.deltas.is_empty() { self.counts } else { absolute(&self.deltas)? };
        if covered != counts.len() as u64 {
            return Err(format!("the spans cover {covered} buckets, {} are sent", counts.len()));
        }
        if counts.iter().any(|count| *count < 0.0) {
            return Err("a bucket with a negative count".into());
        }
        Ok((self.spans, counts))
    }
}

fn absolute(deltas: &[i64]) -> Result<Vec<f64>, String> {
    let mut count = 0i64;
    let mut counts = Vec::with_capacity(deltas.len());
    for delta in deltas {
        count = count.checked_add(*delta).ok_or("the bucket counts overflow")?;
        counts.push(count as f64);
    }
    Ok(counts)
}

/// What one request has room for.
pub(super) struct Rooms {
    pub(super) samples: Room,
    /// A bucket may be a byte of the message, and is eight in memory.
    buckets: Room,
    /// Bytes of symbols that are copied: one symbol may be named by any number of exemplars and families.
    copies: Room,
    copy_bytes_max: usize,
}

impl Rooms {
    pub(super) fn new(limits: &Limits) -> Self {
        let buckets = Room::new(limits.decoded_bytes_max / size_of::<f64>(), "buckets of native histograms");
        let copies = Room::new(limits.decoded_bytes_max, "bytes of exemplars and metadata");
        let copy_bytes_max = limits.label_name_bytes_max + limits.label_value_bytes_max;
        Self { samples: Room::new(limits.records_max, "samples"), buckets, copies, copy_bytes_max }
    }

    /// Before texts of symbols are copied. The inner error is for an exemplar or a family alone.
    pub(super) fn copy(&mut self, bytes: usize, count: usize) -> Result<Result<(), String>> {
        if bytes > self.copy_bytes_max * count {
            return Ok(Err(format!("its texts take {bytes} bytes, at most {} are kept", self.copy_bytes_max * count)));
        }
        self.copies.take(bytes).map(Ok)
    }
}

/// Reads a histogram. The outer error is for bytes that are no message, the inner for a histogram that makes no sense.
pub(super) fn decode(bytes: &[u8], rooms: &mut Rooms) -> Result<Result<Stamped, String>> {
    let mut histogram = FloatHistogram::default();
    let (mut negative, mut positive) = (Side::default(), Side::default());
    let (mut timestamp_ms, mut start_ms, mut is_whole) = (0, 0, false);
    let mut reader = Reader::new(bytes);
    while let Some((number, field)) = reader.next()? {
        match number {
            1 => (histogram.count, is_whole) = (field.u64()? as f64, true),
            2 => histogram.count = field.f64()?,
            3 => histogram.sum = field.f64()?,
            4 => histogram.schema = schema(field)?,
            5 => histogram.zero_threshold = field.f64()?,
            6 => histogram.zero_count = field.u64()? as f64,
            7 => histogram.zero_count = field.f64()?,
            8 => keep(&mut negative.spans, span(field.bytes()?)?),
            9 => field.each_varint(|value| keep(&mut negative.deltas, br_std::varint::unzigzag(value)))?,
            10 => field.each_f64(|value| keep(&mut negative.counts, value))?,
            11 => keep(&mut positive.spans, span(field.bytes()?)?),
            12 => field.each_varint(|value| keep(&mut positive.deltas, br_std::varint::unzigzag(value)))?,
            13 => field.each_f64(|value| keep(&mut positive.counts, value))?,
            14 => histogram.counter_reset_hint = hint(field)?,
            15 => timestamp_ms = field.i64()?,
            16 => field.each_f64(|value| keep(&mut histogram.custom_values, value))?,
            17 => start_ms = field.i64()?,
            _ => {}
        }
    }
    let counts = |side: &Side| side.deltas.len().max(side.counts.len()) + side.spans.len();
    rooms.buckets.take(counts(&negative) + counts(&positive) + histogram.custom_values.len())?;
    let histogram = check(histogram, negative, positive);
    let histogram =
        histogram.and_then(|histogram| if is_whole { check_count(&histogram).map(|()| histogram) } else { Ok(histogram) });
    Ok(histogram.map(|histogram| Stamped { timestamp_ms, start_ms, histogram }))
}

fn check(mut histogram: FloatHistogram, negative: Side, positive: Side) -> Result<FloatHistogram, String> {
    let buckets = negative.deltas.len().max(negative.counts.len()) + positive.deltas.len().max(positive.counts.len());
    let spans = negative.spans.len().max(positive.spans.len());
    if buckets.max(histogram.custom_values.len()).max(spans) > BUCKETS_MAX {
        return Err(format!("{buckets} buckets, at most {BUCKETS_MAX} are taken"));
    }
    (histogram.negative_spans, histogram.negative_buckets) =
        negative.buckets().map_err(|error| format!("negative side: {error}"))?;
    (histogram.positive_spans, histogram.positive_buckets) =
        positive.buckets().map_err(|error| format!("positive side: {error}"))?;
    if !(-4..=8).contains(&histogram.schema) && histogram.schema != CUSTOM_BUCKETS_SCHEMA {
        return Err(format!("schema {} is not known; -4 to 8 and {CUSTOM_BUCKETS_SCHEMA} are", histogram.schema));
    }
    if histogram.uses_custom_buckets() {
        let bounds = &histogram.custom_values;
        if !bounds.is_sorted_by(|one, two| one < two) || bounds.iter().any(|bound| bound.is_nan()) {
            return Err("custom bucket bounds are not ascending".into());
        }
        if histogram.positive_buckets.len() > bounds.len() + 1 {
            return Err("more custom buckets than bounds".into());
        }
        if !histogram.negative_buckets.is_empty() || histogram.zero_count != 0.0 {
            return Err("custom buckets have neither a negative side nor a zero bucket".into());
        }
    } else if !histogram.custom_values.is_empty() {
        return Err("custom bucket bounds with an exponential schema".into());
    }
    if histogram.zero_count < 0.0 || histogram.count < 0.0 {
        return Err("a negative count".into());
    }
    Ok(histogram)
}

/// Whole counts add up, except that observations which are no number are in no bucket. Of floats nobody can ask that.
fn check_count(histogram: &FloatHistogram) -> Result<(), String> {
    /// Beyond this a float does not tell two whole numbers apart.
    const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;
    let buckets: f64 = histogram.positive_buckets.iter().chain(&histogram.negative_buckets).sum();
    let (all, count) = (buckets + histogram.zero_count, histogram.count);
    let is_right = if histogram.sum.is_nan() { all <= count } else { all == count };
    if is_right || br_model::is_stale(histogram.sum) || count.max(all) >= WHOLE_MAX {
        return Ok(());
    }
    Err(format!("{all} observations in the buckets, the count says {count}"))
}

fn span(bytes: &[u8]) -> Result<BucketSpan> {
    let mut span = BucketSpan { offset: 0, length: 0 };
    let mut reader = Reader::new(bytes);
    let out_of_range = || WireError::malformed("histogram: bucket span out of range");
    while let Some((number, field)) = reader.next()? {
        match number {
            1 => span.offset = i32::try_from(field.zigzag()?).map_err(|_| out_of_range())?,
            2 => span.length = u32::try_from(field.u64()?).map_err(|_| out_of_range())?,
            _ => {}
        }
    }
    Ok(span)
}

fn hint(field: Field<'_>) -> Result<CounterResetHint> {
    Ok(match field.u64()? {
        1 => CounterResetHint::Reset,
        2 => CounterResetHint::NotReset,
        3 => CounterResetHint::Gauge,
        _ => CounterResetHint::Unknown,
    })
}

/// Writes a histogram with float counts, which every count of the model is. `start_ms` is not written when 0.
pub(crate) fn encode(out: &mut Vec<u8>, histogram: &FloatHistogram, timestamp_ms: i64, start_ms: i64) {
    put_f64_always(out, 2, histogram.count);
    put_f64(out, 3, histogram.sum);
    put_zigzag(out, 4, i64::from(histogram.schema));
    put_f64(out, 5, histogram.zero_threshold);
    put_f64_always(out, 7, histogram.zero_count);
    put_spans(out, 8, &histogram.negative_spans);
    put_packed_f64(out, 10, &histogram.negative_buckets);
    put_spans(out, 11, &histogram.positive_spans);
    put_packed_f64(out, 13, &histogram.positive_buckets);
    let hint = match histogram.counter_reset_hint {
        CounterResetHint::Unknown => 0,
        CounterResetHint::Reset => 1,
        CounterResetHint::NotReset => 2,
        CounterResetHint::Gauge => 3,
    };
    put_varint(out, 14, hint);
    put_int(out, 15, timestamp_ms);
    put_packed_f64(out, 16, &histogram.custom_values);
    put_int(out, 17, start_ms);
}

fn put_spans(out: &mut Vec<u8>, number: u32, spans: &[BucketSpan]) {
    for span in spans {
        put_message(out, number, |out| {
            put_zigzag(out, 1, i64::from(span.offset));
            put_varint(out, 2, u64::from(span.length));
        });
    }
}

fn schema(field: Field<'_>) -> Result<i32> {
    i32::try_from(field.zigzag()?).map_err(|_| WireError::malformed("histogram: schema out of range"))
}
