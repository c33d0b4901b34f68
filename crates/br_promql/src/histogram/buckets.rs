//! Buckets with their bounds.

use super::sparse;
use crate::number::format_short;
use br_model::FloatHistogram;
use std::fmt::Write as _;

/// One bucket that is not empty.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    pub lower: f64,
    pub upper: f64,
    pub lower_inclusive: bool,
    pub upper_inclusive: bool,
    pub count: f64,
    pub(crate) is_zero: bool,
}

/// All buckets that are not empty, from the lowest values to the highest.
pub fn buckets(histogram: &FloatHistogram) -> Vec<Bucket> {
    let custom = histogram.uses_custom_buckets();
    let mut all = Vec::new();
    for (index, count) in sparse::negative(histogram).into_iter().rev() {
        let (lower, upper) = sparse::bounds(index, histogram);
        all.push(Bucket { lower: -upper, upper: -lower, lower_inclusive: true, upper_inclusive: false, count, is_zero: false });
    }
    if histogram.zero_count != 0.0 && !custom {
        let width = histogram.zero_threshold;
        all.push(Bucket {
            lower: -width,
            upper: width,
            lower_inclusive: true,
            upper_inclusive: true,
            count: histogram.zero_count,
            is_zero: true,
        });
    }
    for (index, count) in sparse::positive(histogram) {
        let (lower, upper) = sparse::bounds(index, histogram);
        let lower_inclusive = custom && index == 0;
        all.push(Bucket { lower, upper, lower_inclusive, upper_inclusive: true, count, is_zero: false });
    }
    all
}

/// Those of [`buckets`] where the zero bucket of a one-sided histogram reaches to that side only.
pub(crate) fn biased(histogram: &FloatHistogram) -> Vec<Bucket> {
    let mut all = buckets(histogram);
    let has_negative = all.iter().any(|bucket| bucket.upper <= 0.0 && !bucket.is_zero);
    let has_positive = all.iter().any(|bucket| bucket.lower >= 0.0 && !bucket.is_zero);
    if let Some(zero) = all.iter_mut().find(|bucket| bucket.is_zero) {
        match (has_negative, has_positive) {
            (false, true) => zero.lower = 0.0,
            (true, false) => zero.upper = 0.0,
            _ => {}
        }
    }
    all
}

/// As Prometheus prints a histogram: `{count:4, sum:5, (0.5,1]:1, (1,2]:3}`.
pub fn describe(histogram: &FloatHistogram) -> String {
    let mut text = format!("{{count:{}, sum:{}", format_short(histogram.count), format_short(histogram.sum));
    for bucket in buckets(histogram) {
        let open = if bucket.lower_inclusive { '[' } else { '(' };
        let close = if bucket.upper_inclusive { ']' } else { ')' };
        let (lower, upper) = (format_short(bucket.lower), format_short(bucket.upper));
        let _ = write!(text, ", {open}{lower},{upper}{close}:{}", format_short(bucket.count));
    }
    text.push('}');
    text
}
