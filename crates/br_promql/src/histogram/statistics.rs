//! Quantiles, fractions and variance.

use super::buckets::{Bucket, biased};
use crate::kahan::Kahan;
use br_model::FloatHistogram;

/// What observations of NaN did to a quantile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuantileNote {
    /// The quantile lies among them.
    NanResult,
    /// They count as the highest values.
    NanSkew,
}

/// The value below which the share `quantile` of all observations lies, interpolated within its bucket.
pub fn quantile(quantile: f64, histogram: &FloatHistogram) -> (f64, Option<QuantileNote>) {
    if quantile < 0.0 {
        return (f64::NEG_INFINITY, None);
    }
    if quantile > 1.0 {
        return (f64::INFINITY, None);
    }
    if histogram.count == 0.0 || quantile.is_nan() {
        return (f64::NAN, None);
    }
    let has_nan = histogram.sum.is_nan();
    let forward = has_nan || quantile < 0.5;
    let rank = if forward { quantile } else { 1.0 - quantile } * histogram.count;
    let mut all = biased(histogram);
    if !forward {
        all.reverse();
    }
    let Some((bucket, count)) = bucket_of_rank(&all, rank) else {
        return if has_nan { (f64::NAN, Some(QuantileNote::NanResult)) } else { (f64::NAN, None) };
    };
    if has_nan && count < rank {
        return (f64::NAN, Some(QuantileNote::NanResult));
    }
    let note = has_nan.then_some(QuantileNote::NanSkew);
    let mut bucket = bucket;
    if histogram.uses_custom_buckets() {
        if bucket.lower == f64::NEG_INFINITY {
            if bucket.upper <= 0.0 {
                return (bucket.upper, note);
            }
            bucket.lower = 0.0;
        }
        if bucket.upper == f64::INFINITY {
            return (bucket.lower, note);
        }
    }
    let count = count.min(histogram.count);
    if count < rank {
        return (if forward { bucket.upper } else { bucket.lower }, note);
    }
    let rank_in_bucket = if forward { rank - (count - bucket.count) } else { count - rank };
    let fraction = rank_in_bucket / bucket.count;
    (interpolate(&bucket, fraction, histogram.uses_custom_buckets()), note)
}

/// The bucket in which the sum of counts reaches `rank`, or the last; and the sum there.
fn bucket_of_rank(all: &[Bucket], rank: f64) -> Option<(Bucket, f64)> {
    let mut count = 0.0;
    for bucket in all {
        count += bucket.count;
        if count >= rank {
            return Some((*bucket, count));
        }
    }
    all.last().map(|bucket| (*bucket, count))
}

/// The value at a share of a bucket: linear in custom and zero buckets, exponential in others.
fn interpolate(bucket: &Bucket, fraction: f64, linear: bool) -> f64 {
    if linear || bucket.is_zero {
        return bucket.lower + (bucket.upper - bucket.lower) * fraction;
    }
    let lower = bucket.lower.abs().log2();
    let upper = bucket.upper.abs().log2();
    if bucket.lower > 0.0 {
        return (lower + (upper - lower) * fraction).exp2();
    }
    -(upper + (lower - upper) * (1.0 - fraction)).exp2()
}

/// The share of a bucket that lies below `value`, which is inside it. Of a bucket that reaches to infinity all lies at its
/// other bound.
pub(super) fn share_below(bucket: &Bucket, value: f64, linear: bool) -> f64 {
    if bucket.lower == f64::NEG_INFINITY {
        return 1.0;
    }
    if bucket.upper == f64::INFINITY {
        return 0.0;
    }
    if linear || bucket.is_zero {
        return (value - bucket.lower) / (bucket.upper - bucket.lower);
    }
    let lower = bucket.lower.abs().log2();
    let upper = bucket.upper.abs().log2();
    let at = value.abs().log2();
    if bucket.lower > 0.0 { (at - lower) / (upper - lower) } else { 1.0 - (at - upper) / (lower - upper) }
}

/// The share of all observations that lies between two values. The flag says that observations of NaN were left out.
pub fn fraction(lower: f64, upper: f64, histogram: &FloatHistogram) -> (f64, bool) {
    if histogram.count == 0.0 || lower.is_nan() || upper.is_nan() {
        return (f64::NAN, false);
    }
    let has_nan = histogram.sum.is_nan();
    if lower >= upper {
        return (0.0, has_nan);
    }
    let below = |value: f64| observations_below(value, histogram);
    ((below(upper) - below(lower)) / histogram.count, has_nan)
}

fn observations_below(value: f64, histogram: &FloatHistogram) -> f64 {
    let linear = histogram.uses_custom_buckets();
    let mut below = 0.0;
    for mut bucket in biased(histogram) {
        if linear && bucket.lower == f64::NEG_INFINITY && bucket.upper > 0.0 {
            bucket.lower = 0.0;
        }
        if bucket.lower >= value {
            break;
        }
        if bucket.upper > value {
            return below + bucket.count * share_below(&bucket, value, linear);
        }
        below += bucket.count;
    }
    below
}

/// The population variance, as far as buckets let one tell.
pub fn variance(histogram: &FloatHistogram) -> f64 {
    let mean = histogram.sum / histogram.count;
    let mut total = Kahan::default();
    for bucket in super::buckets(histogram) {
        let value = if bucket.is_zero {
            0.0
        } else if histogram.uses_custom_buckets() {
            f64::midpoint(bucket.lower, bucket.upper)
        } else {
            (bucket.lower * bucket.upper).sqrt().copysign(bucket.upper)
        };
        let distance = value - mean;
        total.add(bucket.count * distance * distance);
    }
    total.value() / histogram.count
}
