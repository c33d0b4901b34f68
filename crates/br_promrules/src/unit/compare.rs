//! What was expected, held against what came out.

use super::file::{ExpectedAlert, ExpectedSample};
use crate::notation;
use br_model::{BucketSpan, CounterResetHint, FloatHistogram, Labels, Value};
use br_promql::format_float;
use br_promql::histogram::compact;
use br_rules::ResultSample;
use std::collections::BTreeMap;

/// Expected and found, in lines.
pub(super) type Difference = (Vec<String>, Vec<String>);

/// `None` when both are the same alerts, in whatever order.
pub(super) fn alerts(mut expected: Vec<ExpectedAlert>, mut found: Vec<ExpectedAlert>) -> Option<Difference> {
    expected.sort();
    found.sort();
    (expected != found).then(|| (alert_lines(&expected), alert_lines(&found)))
}

fn alert_lines(alerts: &[ExpectedAlert]) -> Vec<String> {
    let mut lines = Vec::new();
    for alert in alerts {
        lines.push(format!("labels {}", pairs(&alert.labels)));
        lines.push(format!("  annotations {}", pairs(&alert.annotations)));
    }
    lines
}

fn pairs(pairs: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
    format!("{{{}}}", pairs.join(", "))
}

/// `None` when both are the same samples, in whatever order. An expectation that cannot be read is an error.
/// As in promtool NaN equals nothing, itself included: a test for it asks for `x != x`.
pub(super) fn samples(expected: &[ExpectedSample], found: Vec<ResultSample>, fuzzy: bool) -> Result<Option<Difference>, String> {
    let mut wanted = Vec::with_capacity(expected.len());
    for sample in expected {
        let labels = labels(&sample.labels).map_err(|reason| format!("labels {:?}: {reason}", sample.labels))?;
        let value = match sample.histogram.as_str() {
            "" => Value::Float(sample.value),
            text => histogram(text).map_err(|reason| format!("labels {:?}: {reason}", sample.labels))?,
        };
        wanted.push(ResultSample { labels, value });
    }
    let mut found = found;
    wanted.sort_by(|left, right| left.labels.cmp(&right.labels));
    found.sort_by(|left, right| left.labels.cmp(&right.labels));
    let are_same = wanted.len() == found.len()
        && wanted.iter().zip(&found).all(|(wanted, found)| wanted.labels == found.labels && same(wanted, found, fuzzy));
    Ok((!are_same).then(|| (sample_lines(&wanted), sample_lines(&found))))
}

/// The labels of a series in the usual notation.
fn labels(text: &str) -> Result<Labels, String> {
    if text.trim().is_empty() {
        return Ok(Labels::empty());
    }
    match notation::series(text.trim())? {
        Some((labels, rest)) if rest.trim().is_empty() => Ok(labels),
        Some((_, rest)) => Err(format!("unexpected {rest:?}")),
        None => Err("not a series".to_owned()),
    }
}

fn histogram(text: &str) -> Result<Value, String> {
    let items = notation::items(text)?;
    match items.as_slice() {
        [Some(item)] if matches!(item.value, Value::Histogram(_)) => Ok(item.value.clone()),
        _ => Err(format!("one histogram is expected, got {text:?}")),
    }
}

fn same(wanted: &ResultSample, found: &ResultSample, fuzzy: bool) -> bool {
    match (&wanted.value, &found.value) {
        (Value::Float(wanted), Value::Float(found)) => {
            wanted == found || (fuzzy && (wanted.next_up() == *found || wanted.next_down() == *found))
        }
        (Value::Histogram(wanted), Value::Histogram(found)) => shown(wanted) == shown(found),
        _ => false,
    }
}

fn sample_lines(samples: &[ResultSample]) -> Vec<String> {
    let line = |sample: &ResultSample| {
        let value = match &sample.value {
            Value::Float(value) => format_float(*value),
            Value::Histogram(histogram) => shown(histogram),
        };
        format!("{} {value}", sample.labels)
    };
    samples.iter().map(line).collect()
}

/// A histogram in the notation of input series, each in one way only.
pub(super) fn shown(histogram: &FloatHistogram) -> String {
    let compacted = compact(histogram);
    let mut fields = Vec::new();
    if compacted.schema != 0 {
        fields.push(format!("schema:{}", compacted.schema));
    }
    let numbers = [
        ("count", compacted.count),
        ("sum", compacted.sum),
        ("z_bucket", compacted.zero_count),
        ("z_bucket_w", compacted.zero_threshold),
    ];
    fields.extend(
        numbers.iter().filter(|(_, value)| *value != 0.0).map(|(name, value)| format!("{name}:{}", format_float(*value))),
    );
    if compacted.uses_custom_buckets() {
        fields.push(format!("custom_values:{}", list(&compacted.custom_values)));
    }
    match compacted.counter_reset_hint {
        CounterResetHint::Unknown => {}
        CounterResetHint::Reset => fields.push("counter_reset_hint:reset".to_owned()),
        CounterResetHint::NotReset => fields.push("counter_reset_hint:not_reset".to_owned()),
        CounterResetHint::Gauge => fields.push("counter_reset_hint:gauge".to_owned()),
    }
    let sides = [
        ("offset", "buckets", &compacted.positive_spans, &compacted.positive_buckets),
        ("n_offset", "n_buckets", &compacted.negative_spans, &compacted.negative_buckets),
    ];
    for (offset_name, buckets_name, spans, counts) in sides {
        let (offset, counts) = dense(spans, counts);
        if offset != 0 {
            fields.push(format!("{offset_name}:{offset}"));
        }
        if !counts.is_empty() {
            fields.push(format!("{buckets_name}:{}", list(&counts)));
        }
    }
    format!("{{{{{}}}}}", fields.join(" "))
}

fn list(values: &[f64]) -> String {
    let words: Vec<String> = values.iter().map(|value| format_float(*value)).collect();
    format!("[{}]", words.join(" "))
}

/// A text of more buckets helps nobody, and the gaps of a hostile histogram would fill the memory.
const GAP_MAX: i32 = 10_000;

/// The index of the first bucket, and all counts from it on with the gaps filled.
fn dense(spans: &[BucketSpan], counts: &[f64]) -> (i32, Vec<f64>) {
    let mut filled = Vec::with_capacity(counts.len());
    let mut counts = counts.iter();
    for (at, span) in spans.iter().enumerate() {
        if at > 0 {
            filled.extend(std::iter::repeat_n(0.0, span.offset.clamp(0, GAP_MAX) as usize));
        }
        filled.extend(counts.by_ref().take(span.length as usize));
    }
    (spans.first().map_or(0, |span| span.offset), filled)
}
