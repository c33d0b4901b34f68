//! The working form of a histogram: buckets as (index, count), sorted, without those that are empty.

use br_model::histogram::CUSTOM_BUCKETS_SCHEMA;
use br_model::{BucketSpan, FloatHistogram};

/// Buckets of one sign: ascending index, no index twice.
pub(crate) type Side = Vec<(i32, f64)>;

/// Lists the buckets that spans cover. Counts that no span covers are dropped, as are spans without counts.
pub(crate) fn side(spans: &[BucketSpan], counts: &[f64]) -> Side {
    let mut side = Side::with_capacity(counts.len());
    let mut counts = counts.iter();
    let mut index = 0i32;
    for (at, span) in spans.iter().enumerate() {
        index = if at == 0 { span.offset } else { index.saturating_add(span.offset) };
        for _ in 0..span.length {
            let Some(count) = counts.next() else { return side };
            if *count != 0.0 {
                side.push((index, *count));
            }
            index = index.saturating_add(1);
        }
    }
    side
}

/// Gaps of this many empty buckets are filled rather than starting a span.
const GAP_MAX: i32 = 0;

/// Spans and counts for the buckets of one sign; empty buckets are left out.
pub(crate) fn spans(side: &[(i32, f64)]) -> (Vec<BucketSpan>, Vec<f64>) {
    let mut spans: Vec<BucketSpan> = Vec::new();
    let mut counts = Vec::with_capacity(side.len());
    let mut next = 0i32;
    for (index, count) in side.iter().filter(|(_, count)| *count != 0.0) {
        let gap = index.saturating_sub(next);
        match spans.last_mut() {
            Some(span) if gap == GAP_MAX => span.length += 1,
            None => spans.push(BucketSpan { offset: *index, length: 1 }),
            Some(_) => spans.push(BucketSpan { offset: gap, length: 1 }),
        }
        counts.push(*count);
        next = index.saturating_add(1);
    }
    (spans, counts)
}

/// The same histogram with the spans that [`spans`] makes.
pub fn compact(histogram: &FloatHistogram) -> FloatHistogram {
    let mut compacted = histogram.clone();
    set_sides(
        &mut compacted,
        &side(&histogram.positive_spans, &histogram.positive_buckets),
        &side(&histogram.negative_spans, &histogram.negative_buckets),
    );
    compacted
}

pub(crate) fn set_sides(histogram: &mut FloatHistogram, positive: &[(i32, f64)], negative: &[(i32, f64)]) {
    (histogram.positive_spans, histogram.positive_buckets) = spans(positive);
    (histogram.negative_spans, histogram.negative_buckets) = spans(negative);
}

pub(crate) fn positive(histogram: &FloatHistogram) -> Side {
    side(&histogram.positive_spans, &histogram.positive_buckets)
}

pub(crate) fn negative(histogram: &FloatHistogram) -> Side {
    side(&histogram.negative_spans, &histogram.negative_buckets)
}

/// The index that a bucket of `schema` has in the coarser `target`.
pub(crate) fn coarser_index(index: i32, schema: i32, target: i32) -> i32 {
    let shift = (schema - target).clamp(0, 30) as u32;
    ((index - 1) >> shift) + 1
}

/// Upper bound of bucket `index` of an exponential schema, for positive buckets.
pub(crate) fn exponential_bound(index: i32, schema: i32) -> f64 {
    let exponent = if schema <= 0 { i64::from(index) << (-schema).clamp(0, 30) } else { i64::from(index) >> schema.clamp(0, 30) };
    let fraction = if schema > 0 {
        let buckets = 1i64 << schema.clamp(0, 30);
        (i64::from(index).rem_euclid(buckets) as f64 / buckets as f64).exp2()
    } else {
        1.0
    };
    // The largest bound is that of the largest number, so that the bucket of infinities lies above it.
    if exponent >= 1024 {
        return if exponent == 1024 && fraction == 1.0 { f64::MAX } else { f64::INFINITY };
    }
    if exponent < -1080 {
        return 0.0;
    }
    if exponent < -1000 {
        fraction * 2f64.powi(-1000) * 2f64.powi((exponent + 1000) as i32)
    } else {
        fraction * 2f64.powi(exponent as i32)
    }
}

/// Lower and upper bound of a positive bucket; the first and the last bucket of custom bounds reach to infinity.
pub(crate) fn bounds(index: i32, histogram: &FloatHistogram) -> (f64, f64) {
    if histogram.schema != CUSTOM_BUCKETS_SCHEMA {
        return (exponential_bound(index.saturating_sub(1), histogram.schema), exponential_bound(index, histogram.schema));
    }
    let bound = |at: i32| usize::try_from(at).ok().and_then(|at| histogram.custom_values.get(at).copied());
    (bound(index - 1).unwrap_or(f64::NEG_INFINITY), bound(index).unwrap_or(f64::INFINITY))
}
