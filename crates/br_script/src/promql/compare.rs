//! Whether a value is what was expected, up to rounding.

use br_model::{FloatHistogram, Value};
use br_promql::Point;
use br_promql::histogram::compact;
use br_promrules::notation::Item;

const RELATIVE_DIFFERENCE: f64 = 1e-6;

pub(super) fn floats(expected: f64, actual: f64) -> bool {
    if br_model::is_stale(expected) || br_model::is_stale(actual) {
        return br_model::is_stale(expected) && br_model::is_stale(actual);
    }
    if (expected.is_nan() && actual.is_nan()) || expected == actual {
        return true;
    }
    let difference = (expected - actual).abs();
    let sum = expected.abs() + actual.abs();
    if expected == 0.0 || actual == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < RELATIVE_DIFFERENCE * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < RELATIVE_DIFFERENCE
}

pub(super) fn points(expected: &Item, actual: &Point) -> bool {
    match (&expected.value, actual) {
        (Value::Float(expected), Point::Float(actual)) => floats(*expected, *actual),
        (Value::Histogram(histogram), Point::Histogram(actual)) => histograms(histogram, actual, expected.has_hint),
        _ => false,
    }
}

fn histograms(expected: &FloatHistogram, actual: &FloatHistogram, with_hint: bool) -> bool {
    let (expected, actual) = (compact(expected), compact(actual));
    let all = |expected: &[f64], actual: &[f64]| {
        expected.len() == actual.len() && expected.iter().zip(actual).all(|(expected, actual)| floats(*expected, *actual))
    };
    expected.schema == actual.schema
        && floats(expected.count, actual.count)
        && floats(expected.sum, actual.sum)
        && (expected.uses_custom_buckets() || expected.zero_threshold == actual.zero_threshold)
        && floats(expected.zero_count, actual.zero_count)
        && expected.positive_spans == actual.positive_spans
        && expected.negative_spans == actual.negative_spans
        && all(&expected.positive_buckets, &actual.positive_buckets)
        && all(&expected.negative_buckets, &actual.negative_buckets)
        && expected.custom_values == actual.custom_values
        && (!with_hint || expected.counter_reset_hint == actual.counter_reset_hint)
}
