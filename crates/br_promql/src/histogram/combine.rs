//! Sums, differences and multiples of histograms.

use super::sparse;
use super::sum::HistogramSum;
use br_model::{CounterResetHint, FloatHistogram};

/// Custom and exponential buckets cannot be combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MixedLayout;

/// A combination, and what had to be done for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Combined {
    pub histogram: FloatHistogram,
    /// Custom bounds differed; the result has those that both have.
    pub bounds_reconciled: bool,
    /// One says that there was a counter reset, the other that there was none.
    pub hints_conflict: bool,
}

pub fn add(lhs: &FloatHistogram, rhs: &FloatHistogram) -> Result<Combined, MixedLayout> {
    combine(lhs, rhs, 1.0)
}

/// The result is a gauge.
pub fn subtract(lhs: &FloatHistogram, rhs: &FloatHistogram) -> Result<Combined, MixedLayout> {
    let mut combined = combine(lhs, rhs, -1.0)?;
    combined.histogram.counter_reset_hint = CounterResetHint::Gauge;
    Ok(combined)
}

fn combine(lhs: &FloatHistogram, rhs: &FloatHistogram, factor: f64) -> Result<Combined, MixedLayout> {
    let mut sum = HistogramSum::new(lhs);
    sum.add_scaled(rhs, factor)?;
    Ok(Combined { bounds_reconciled: sum.bounds_reconciled, hints_conflict: sum.hints_conflict, histogram: sum.plain() })
}

/// A negative factor makes a gauge.
pub fn scale(histogram: &FloatHistogram, factor: f64) -> FloatHistogram {
    map(histogram, factor, |value| value * factor)
}

/// By zero, no bucket but that of zeros remains: there is no telling where infinitely many observations lie.
pub fn divide(histogram: &FloatHistogram, divisor: f64) -> FloatHistogram {
    let mut quotient = map(histogram, divisor, |value| value / divisor);
    if divisor == 0.0 {
        sparse::set_sides(&mut quotient, &[], &[]);
    }
    quotient
}

fn map(histogram: &FloatHistogram, sign: f64, change: impl Fn(f64) -> f64) -> FloatHistogram {
    let mut changed = histogram.clone();
    changed.zero_count = change(changed.zero_count);
    changed.count = change(changed.count);
    changed.sum = change(changed.sum);
    for count in changed.positive_buckets.iter_mut().chain(&mut changed.negative_buckets) {
        *count = change(*count);
    }
    if sign < 0.0 {
        changed.counter_reset_hint = CounterResetHint::Gauge;
    }
    changed
}

/// Whether two histograms hold the same, bit by bit for the floats; hints and empty buckets do not count.
pub fn equal(lhs: &FloatHistogram, rhs: &FloatHistogram) -> bool {
    let same = |a: f64, b: f64| a.to_bits() == b.to_bits() || a == b;
    let same_side =
        |a: &[(i32, f64)], b: &[(i32, f64)]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0 == b.0 && same(a.1, b.1));
    lhs.schema == rhs.schema
        && same(lhs.count, rhs.count)
        && same(lhs.sum, rhs.sum)
        && same(lhs.zero_count, rhs.zero_count)
        && (lhs.uses_custom_buckets() || same(lhs.zero_threshold, rhs.zero_threshold))
        && lhs.custom_values == rhs.custom_values
        && same_side(&sparse::positive(lhs), &sparse::positive(rhs))
        && same_side(&sparse::negative(lhs), &sparse::negative(rhs))
}

/// The hint of a sum; the flag says that they contradict each other.
pub(super) fn merge_hints(lhs: CounterResetHint, rhs: CounterResetHint) -> (CounterResetHint, bool) {
    use CounterResetHint::{Gauge, Unknown};
    match (lhs, rhs) {
        (a, b) if a == b => (a, false),
        (Gauge, _) | (_, Gauge) => (Gauge, false),
        (Unknown, _) | (_, Unknown) => (Unknown, false),
        _ => (Unknown, true),
    }
}
