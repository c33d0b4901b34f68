//! Whether a counter was reset between two histograms.

use super::{sparse, sum};
use br_model::{CounterResetHint, FloatHistogram};

/// True when `current` cannot have grown out of `before`: a count fell, or the resolution rose, or the hint says so.
pub fn is_reset(current: &FloatHistogram, before: &FloatHistogram) -> bool {
    match current.counter_reset_hint {
        CounterResetHint::Reset => return true,
        CounterResetHint::NotReset => return false,
        CounterResetHint::Unknown | CounterResetHint::Gauge => {}
    }
    if current.uses_custom_buckets() != before.uses_custom_buckets() || current.count < before.count {
        return true;
    }
    if current.uses_custom_buckets() {
        return custom_reset(current, before);
    }
    if current.schema > before.schema || current.zero_threshold < before.zero_threshold {
        return true;
    }
    let mut zero_count = before.zero_count;
    let mut positive = sparse::positive(before);
    let mut negative = sparse::negative(before);
    if current.zero_threshold > before.zero_threshold {
        let reached = sum::widen_zero(before.schema, current.zero_threshold, &mut zero_count, &mut positive, &mut negative);
        if reached != current.zero_threshold {
            return true;
        }
    }
    if current.zero_count < zero_count {
        return true;
    }
    let positive = sum::coarsen(&positive, before.schema, current.schema);
    let negative = sum::coarsen(&negative, before.schema, current.schema);
    fell(&sparse::positive(current), &positive) || fell(&sparse::negative(current), &negative)
}

fn custom_reset(current: &FloatHistogram, before: &FloatHistogram) -> bool {
    let mut now = sparse::positive(current);
    let mut then = sparse::positive(before);
    if current.custom_values != before.custom_values {
        let shared = sum::shared_bounds(&current.custom_values, &before.custom_values);
        now = sum::rebound_side(&now, &current.custom_values, &shared);
        then = sum::rebound_side(&then, &before.custom_values, &shared);
    }
    fell(&now, &then)
}

/// Whether any bucket has fewer than before.
fn fell(now: &[(i32, f64)], then: &[(i32, f64)]) -> bool {
    let mut now = now.iter().peekable();
    for (index, count) in then {
        while now.next_if(|entry| entry.0 < *index).is_some() {}
        let current = now.peek().filter(|entry| entry.0 == *index).map_or(0.0, |entry| entry.1);
        if current < *count {
            return true;
        }
    }
    false
}
