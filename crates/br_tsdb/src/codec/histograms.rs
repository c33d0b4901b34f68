//! Native histograms of one chunk: runs of equal bucket layout, inside a run one column per bucket.

use super::{CHUNK_SAMPLES_MAX, damaged, expect_end, put_f64, take_byte, take_count, take_f64, take_i64, take_u64, values};
use br_model::{BucketSpan, CounterResetHint, FloatHistogram};
use br_std::{Result, varint};
use std::sync::Arc;

pub(crate) fn encode(histograms: &[Arc<FloatHistogram>]) -> Vec<u8> {
    let mut out = Vec::new();
    for run in histograms.chunk_by(|one, other| has_same_layout(one, other)) {
        encode_run(run, &mut out);
    }
    out
}

fn encode_run(run: &[Arc<FloatHistogram>], out: &mut Vec<u8>) {
    let layout = &run[0];
    varint::put_u64(out, run.len() as u64);
    varint::put_i64(out, i64::from(layout.schema));
    put_f64(out, layout.zero_threshold);
    put_spans(out, &layout.positive_spans);
    put_spans(out, &layout.negative_spans);
    varint::put_u64(out, layout.custom_values.len() as u64);
    for bound in &layout.custom_values {
        put_f64(out, *bound);
    }
    varint::put_u64(out, layout.positive_buckets.len() as u64);
    varint::put_u64(out, layout.negative_buckets.len() as u64);
    out.extend(run.iter().map(|histogram| hint_code(histogram.counter_reset_hint)));
    let mut put_column = |value: &dyn Fn(&FloatHistogram) -> f64| {
        let column: Vec<f64> = run.iter().map(|histogram| value(histogram)).collect();
        values::encode(&column, out);
    };
    put_column(&|histogram| histogram.count);
    put_column(&|histogram| histogram.sum);
    put_column(&|histogram| histogram.zero_count);
    for at in 0..layout.positive_buckets.len() {
        put_column(&|histogram| histogram.positive_buckets[at]);
    }
    for at in 0..layout.negative_buckets.len() {
        put_column(&|histogram| histogram.negative_buckets[at]);
    }
}

/// Reads exactly `count` histograms.
pub(crate) fn decode(bytes: &[u8], count: usize) -> Result<Vec<Arc<FloatHistogram>>> {
    if count > CHUNK_SAMPLES_MAX {
        return Err(damaged("more samples than a chunk may hold"));
    }
    let mut input = bytes;
    let mut histograms = Vec::with_capacity(count);
    while histograms.len() < count {
        decode_run(&mut input, count, &mut histograms)?;
    }
    expect_end(input, "the histograms")?;
    Ok(histograms)
}

fn decode_run(input: &mut &[u8], count: usize, histograms: &mut Vec<Arc<FloatHistogram>>) -> Result<()> {
    let length = take_u64(input, "a run of histograms")?;
    if length == 0 || length > (count - histograms.len()) as u64 {
        return Err(damaged("the length of a run of histograms"));
    }
    let length = length as usize;
    let mut layout = FloatHistogram {
        schema: i32::try_from(take_i64(input, "a schema")?).map_err(|_| damaged("a schema"))?,
        zero_threshold: take_f64(input, "a zero threshold")?,
        positive_spans: take_spans(input)?,
        negative_spans: take_spans(input)?,
        ..FloatHistogram::default()
    };
    let bounds = take_count(input, 8, "custom bounds")?;
    layout.custom_values = (0..bounds).map(|_| take_f64(input, "a custom bound")).collect::<Result<_>>()?;
    let positive = take_count(input, 9, "positive buckets")?;
    let negative = take_count(input, 9, "negative buckets")?;
    let memory = (positive + negative + bounds).saturating_mul(length);
    if memory > RUN_BUCKETS_MAX {
        return Err(damaged("a run of histograms is too large"));
    }
    let mut run = vec![layout; length];
    for histogram in &mut run {
        histogram.counter_reset_hint = hint_of(take_byte(input, "a reset hint")?)?;
    }
    let mut take_column = |set: &mut dyn FnMut(&mut FloatHistogram, f64)| -> Result<()> {
        let column = values::decode(input, length)?;
        run.iter_mut().zip(column).for_each(|(histogram, value)| set(histogram, value));
        Ok(())
    };
    take_column(&mut |histogram, value| histogram.count = value)?;
    take_column(&mut |histogram, value| histogram.sum = value)?;
    take_column(&mut |histogram, value| histogram.zero_count = value)?;
    for _ in 0..positive {
        take_column(&mut |histogram, value| histogram.positive_buckets.push(value))?;
    }
    for _ in 0..negative {
        take_column(&mut |histogram, value| histogram.negative_buckets.push(value))?;
    }
    histograms.extend(run.into_iter().map(Arc::new));
    Ok(())
}

/// Bucket counts in one run; far above what an encoder of ours writes, which has the sender's limits in front of it.
const RUN_BUCKETS_MAX: usize = 1 << 24;

fn has_same_layout(one: &FloatHistogram, other: &FloatHistogram) -> bool {
    let same_bits = |one: &f64, other: &f64| one.to_bits() == other.to_bits();
    one.schema == other.schema
        && same_bits(&one.zero_threshold, &other.zero_threshold)
        && one.positive_spans == other.positive_spans
        && one.negative_spans == other.negative_spans
        && one.positive_buckets.len() == other.positive_buckets.len()
        && one.negative_buckets.len() == other.negative_buckets.len()
        && one.custom_values.len() == other.custom_values.len()
        && one.custom_values.iter().zip(&other.custom_values).all(|(one, other)| same_bits(one, other))
}

fn put_spans(out: &mut Vec<u8>, spans: &[BucketSpan]) {
    varint::put_u64(out, spans.len() as u64);
    for span in spans {
        varint::put_i64(out, i64::from(span.offset));
        varint::put_u64(out, u64::from(span.length));
    }
}

fn take_spans(input: &mut &[u8]) -> Result<Vec<BucketSpan>> {
    let count = take_count(input, 2, "bucket spans")?;
    let take_span = |_| {
        let offset = i32::try_from(take_i64(input, "a span")?).map_err(|_| damaged("a span's offset"))?;
        let length = u32::try_from(take_u64(input, "a span")?).map_err(|_| damaged("a span's length"))?;
        Ok(BucketSpan { offset, length })
    };
    (0..count).map(take_span).collect()
}

fn hint_code(hint: CounterResetHint) -> u8 {
    match hint {
        CounterResetHint::Unknown => 0,
        CounterResetHint::Reset => 1,
        CounterResetHint::NotReset => 2,
        CounterResetHint::Gauge => 3,
    }
}

fn hint_of(code: u8) -> Result<CounterResetHint> {
    Ok(match code {
        0 => CounterResetHint::Unknown,
        1 => CounterResetHint::Reset,
        2 => CounterResetHint::NotReset,
        3 => CounterResetHint::Gauge,
        _ => return Err(damaged("a reset hint")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use br_model::stale_nan;
    use proptest::prelude::*;

    fn any_histogram() -> impl Strategy<Value = Arc<FloatHistogram>> {
        let buckets = || prop::collection::vec((0u32..1000).prop_map(f64::from), 0..4);
        (0u8..4, -4i32..=8, buckets(), buckets(), prop::collection::vec(0i32..9, 0..3), any::<bool>()).prop_map(
            |(hint, schema, positive, negative, offsets, stale)| {
                Arc::new(FloatHistogram {
                    counter_reset_hint: hint_of(hint).expect("below 4"),
                    schema,
                    zero_threshold: 1e-128,
                    zero_count: 3.0,
                    count: 17.0,
                    sum: if stale { stale_nan() } else { 18.4 },
                    positive_spans: offsets.iter().map(|offset| BucketSpan { offset: *offset, length: 1 }).collect(),
                    negative_spans: vec![BucketSpan { offset: -3, length: 2 }],
                    positive_buckets: positive.clone(),
                    negative_buckets: negative,
                    custom_values: positive,
                })
            },
        )
    }

    proptest! {
        #[test]
        fn round_trip(histograms in prop::collection::vec(any_histogram(), 0..20)) {
            let decoded = decode(&encode(&histograms), histograms.len()).expect("own bytes");
            // NaN is not equal to itself; the debug form shows everything but its payload, which the next line checks.
            prop_assert_eq!(format!("{decoded:?}"), format!("{histograms:?}"));
            prop_assert!(decoded.iter().zip(&histograms).all(|(one, other)| one.sum.to_bits() == other.sum.to_bits()));
        }

        #[test]
        fn foreign_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), count in 0usize..50) {
            let _ = decode(&bytes, count);
        }
    }
}
