//! Cutting off observations above or below a value.

use super::buckets::Bucket;
use super::sparse;
use super::statistics::share_below;
use br_model::FloatHistogram;

/// Which part stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    Below,
    Above,
}

/// What is left of one bucket: how many observations, and their value in the middle.
struct Left {
    count: f64,
    middle: f64,
}

/// The histogram without the observations on the other side of `cut`. Within a bucket they are taken to be spread as in
/// quantiles. Where something is cut, the sum is estimated from what is left in the buckets.
pub fn trim(histogram: &FloatHistogram, cut: f64, keep: Keep) -> FloatHistogram {
    let custom = histogram.uses_custom_buckets();
    let negative = sparse::negative(histogram);
    let positive = sparse::positive(histogram);
    let mut sum = 0.0;
    let mut count = 0.0;
    let mut changed = false;
    let mut take = |bucket: Bucket| {
        let left = cut_bucket(bucket, cut, keep, custom);
        changed |= left.count != bucket.count;
        if left.count > 0.0 {
            sum += left.count * left.middle;
            count += left.count;
        }
        left.count
    };
    let plain = |lower: f64, upper: f64, count: f64, is_zero: bool| Bucket {
        lower,
        upper,
        lower_inclusive: false,
        upper_inclusive: true,
        count,
        is_zero,
    };
    let mut left_negative = sparse::Side::new();
    for (index, count) in negative.iter().rev() {
        let (lower, upper) = sparse::bounds(*index, histogram);
        left_negative.push((*index, take(plain(-upper, -lower, *count, false))));
    }
    left_negative.reverse();
    let mut zero_count = histogram.zero_count;
    if zero_count != 0.0 && !custom {
        let width = histogram.zero_threshold;
        let lower = if negative.is_empty() && !positive.is_empty() { 0.0 } else { -width };
        let upper = if positive.is_empty() && !negative.is_empty() { 0.0 } else { width };
        zero_count = take(plain(lower, upper, zero_count, true));
    }
    let mut left_positive = sparse::Side::new();
    for (index, count) in &positive {
        let (lower, upper) = sparse::bounds(*index, histogram);
        left_positive.push((*index, take(plain(lower, upper, *count, false))));
    }
    let mut trimmed = histogram.clone();
    if !changed {
        return trimmed;
    }
    sparse::set_sides(&mut trimmed, &left_positive, &left_negative);
    trimmed.zero_count = zero_count;
    trimmed.count = count;
    trimmed.sum = sum;
    trimmed
}

fn cut_bucket(mut bucket: Bucket, cut: f64, keep: Keep, custom: bool) -> Left {
    let is_first = custom && bucket.lower == f64::NEG_INFINITY;
    if is_first && bucket.upper > 0.0 && bucket.upper < f64::INFINITY && (keep == Keep::Below || cut >= 0.0) {
        bucket.lower = 0.0;
    }
    let nothing = Left { count: 0.0, middle: 0.0 };
    match keep {
        Keep::Below if cut >= bucket.upper => whole(&bucket, custom),
        Keep::Below if cut <= bucket.lower => nothing,
        Keep::Below => {
            let count = bucket.count * share_below(&bucket, cut, custom);
            // Of a bucket without a lower end everything up to the cut stays, unless it has no upper end either.
            let count = if bucket.lower.is_infinite() && bucket.upper.is_infinite() { 0.0 } else { count };
            Left { count, middle: middle(bucket.lower, cut, custom || bucket.is_zero) }
        }
        Keep::Above if cut <= bucket.lower => whole(&bucket, custom),
        Keep::Above if cut >= bucket.upper => nothing,
        Keep::Above => {
            let count =
                if bucket.lower == f64::NEG_INFINITY { 0.0 } else { bucket.count * (1.0 - share_below(&bucket, cut, custom)) };
            Left { count, middle: middle(cut, bucket.upper, custom || bucket.is_zero) }
        }
    }
}

fn whole(bucket: &Bucket, custom: bool) -> Left {
    Left { count: bucket.count, middle: middle(bucket.lower, bucket.upper, custom || bucket.is_zero) }
}

/// The arithmetic middle of custom and zero buckets, the geometric one of others; an end at infinity is not used.
fn middle(lower: f64, upper: f64, linear: bool) -> f64 {
    if lower == f64::NEG_INFINITY {
        return upper;
    }
    if upper == f64::INFINITY {
        return lower;
    }
    if linear {
        return f64::midpoint(lower, upper);
    }
    (lower * upper).sqrt().copysign(upper)
}
