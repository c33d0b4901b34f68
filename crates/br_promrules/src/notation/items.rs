//! The values behind a series: `1 2x3 0+10x5 _ stale {{count:1 sum:2}}`.

use super::millis;
use br_model::histogram::CUSTOM_BUCKETS_SCHEMA;
use br_model::{BucketSpan, CounterResetHint, FloatHistogram, Value};
use std::sync::Arc;

/// An item may repeat this often.
const REPEAT_MAX: usize = 1_000_000;

/// One value.
#[derive(Clone, Debug)]
pub struct Item {
    pub value: Value,
    /// The counter reset hint was written.
    pub has_hint: bool,
}

fn float(value: f64) -> Item {
    Item { value: Value::Float(value), has_hint: false }
}

/// The values of a series, `None` for a gap.
pub fn parse(text: &str) -> Result<Vec<Option<Item>>, String> {
    let mut items = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let length = if rest.starts_with("{{") { histograms(rest, &mut items)? } else { plain(rest, &mut items)? };
        rest = rest[length..].trim_start();
    }
    Ok(items)
}

/// An item without blanks; gives its length.
fn plain(text: &str, items: &mut Vec<Option<Item>>) -> Result<usize, String> {
    let word = text.split_whitespace().next().unwrap_or("");
    if let Some(repeat) = word.strip_prefix('_') {
        items.extend(std::iter::repeat_n(None, if repeat.is_empty() { 1 } else { times(repeat)? }));
        return Ok(word.len());
    }
    if let Some(repeat) = word.strip_prefix("stale") {
        let count = if repeat.is_empty() { 1 } else { times(repeat)? + 1 };
        items.extend(std::iter::repeat_n(Some(float(br_model::stale_nan())), count));
        return Ok(word.len());
    }
    let (start, length) = number(word)?;
    let rest = &word[length..];
    if rest.is_empty() {
        items.push(Some(float(start)));
        return Ok(word.len());
    }
    let (step, step_length) = if rest.starts_with(['+', '-']) { number(rest)? } else { (0.0, 0) };
    let count = times(&rest[step_length..])?;
    let mut value = start;
    for _ in 0..=count {
        items.push(Some(float(value)));
        value += step;
    }
    Ok(word.len())
}

/// `x5` is five.
fn times(text: &str) -> Result<usize, String> {
    let count = text.strip_prefix('x').and_then(|digits| digits.parse().ok());
    count.filter(|count| *count <= REPEAT_MAX).ok_or_else(|| format!("expected a repetition such as x5, got {text:?}"))
}

/// A decimal number at the start of a text, with its length. No hexadecimal: `0x5` is a repetition.
fn number(text: &str) -> Result<(f64, usize), String> {
    let bytes = text.as_bytes();
    let sign = usize::from(matches!(bytes.first(), Some(b'+' | b'-')));
    let negative = bytes.first() == Some(&b'-');
    let signed = |value: f64| if negative { -value } else { value };
    for (word, value) in [("inf", f64::INFINITY), ("nan", f64::NAN)] {
        if text.get(sign..sign + 3).is_some_and(|start| start.eq_ignore_ascii_case(word)) {
            return Ok((signed(value), sign + 3));
        }
    }
    let mut end = sign;
    while let Some(byte) = bytes.get(end) {
        let after_exponent = end > sign && matches!(bytes[end - 1], b'e' | b'E');
        let is_part =
            byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E') || (after_exponent && matches!(byte, b'+' | b'-'));
        if !is_part {
            break;
        }
        end += 1;
    }
    text[..end].parse().map(|value| (value, end)).map_err(|_| format!("expected a number, got {text:?}"))
}

/// A number that is all of a text.
fn whole_number(text: &str) -> Result<f64, String> {
    let (value, length) = number(text)?;
    if length == text.len() { Ok(value) } else { Err(format!("expected a number, got {text:?}")) }
}

/// `{{…}}`, alone, repeated, or with a step; gives its length.
fn histograms(text: &str, items: &mut Vec<Option<Item>>) -> Result<usize, String> {
    let (first, mut length) = histogram(text)?;
    let mut step = None;
    let mut negative = false;
    if text[length..].starts_with(['+', '-']) {
        negative = text[length..].starts_with('-');
        let (histogram, step_length) = histogram(&text[length + 1..])?;
        step = Some(histogram.0);
        length += 1 + step_length;
    }
    let repeat: &str = text[length..].split_whitespace().next().unwrap_or("");
    let has_repeat = repeat.starts_with('x');
    let count = if has_repeat { times(repeat)? } else { 0 };
    if has_repeat {
        length += repeat.len();
    }
    let (mut value, has_hint) = first;
    for _ in 0..=count {
        items.push(Some(Item { value: Value::Histogram(Arc::new(value.clone())), has_hint }));
        let Some(step) = &step else { continue };
        let hint = value.counter_reset_hint;
        let next = if negative { br_promql::histogram::subtract(&value, step) } else { br_promql::histogram::add(&value, step) };
        value = next.map_err(|_| "cannot add custom and exponential buckets".to_owned())?.histogram;
        value.counter_reset_hint = hint;
    }
    Ok(length)
}

fn histogram(text: &str) -> Result<((FloatHistogram, bool), usize), String> {
    let inner = text.strip_prefix("{{").ok_or_else(|| format!("expected {{{{, got {text:?}"))?;
    // The last closing braces of a line may be short of one.
    let end = inner.find('}').ok_or_else(|| format!("no closing braces: {text:?}"))?;
    let closing = if inner[end..].starts_with("}}") { 2 } else { 1 };
    let (fields, length) = (&inner[..end], 2 + end + closing);
    let mut histogram = FloatHistogram::default();
    let mut has_hint = false;
    let (mut offset, mut n_offset) = (0, 0);
    let mut rest = fields.trim();
    while !rest.is_empty() {
        let (key, after) = rest.split_once(':').ok_or_else(|| format!("expected key:value, got {rest:?}"))?;
        let after = after.trim_start();
        let end = if after.starts_with('[') {
            after.find(']').map_or(after.len(), |at| at + 1)
        } else {
            after.find(char::is_whitespace).unwrap_or(after.len())
        };
        let value = &after[..end];
        rest = after[end..].trim_start();
        let float = || whole_number(value);
        match key.trim() {
            "schema" => histogram.schema = float()? as i32,
            "sum" => histogram.sum = float()?,
            "count" => histogram.count = float()?,
            "z_bucket" => histogram.zero_count = float()?,
            "z_bucket_w" => histogram.zero_threshold = float()?,
            "offset" => offset = float()? as i32,
            "n_offset" => n_offset = float()? as i32,
            "buckets" => histogram.positive_buckets = list(value)?,
            "n_buckets" => histogram.negative_buckets = list(value)?,
            "custom_values" => histogram.custom_values = list(value)?,
            "counter_reset_hint" => {
                has_hint = true;
                histogram.counter_reset_hint = hint(value)?;
            }
            other => return Err(format!("unknown histogram field {other:?}")),
        }
    }
    histogram.positive_spans = span(offset, &histogram.positive_buckets);
    histogram.negative_spans = span(n_offset, &histogram.negative_buckets);
    if histogram.schema != CUSTOM_BUCKETS_SCHEMA {
        histogram.custom_values.clear();
    }
    Ok(((histogram, has_hint), length))
}

fn span(offset: i32, buckets: &[f64]) -> Vec<BucketSpan> {
    if buckets.is_empty() { Vec::new() } else { vec![BucketSpan { offset, length: buckets.len() as u32 }] }
}

fn list(text: &str) -> Result<Vec<f64>, String> {
    let inner = text.trim_start_matches('[').trim_end_matches(']');
    inner.split_whitespace().map(whole_number).collect()
}

fn hint(text: &str) -> Result<CounterResetHint, String> {
    Ok(match text {
        "unknown" => CounterResetHint::Unknown,
        "reset" => CounterResetHint::Reset,
        "not_reset" => CounterResetHint::NotReset,
        "gauge" => CounterResetHint::Gauge,
        _ => return Err(format!("unknown counter reset hint {text:?}")),
    })
}

/// The items of an `@st` line: offsets in milliseconds, such as `-30s`, `-30sx3`, `-30s-1mx3`.
pub fn offsets(text: &str) -> Result<Vec<Option<i64>>, String> {
    let mut offsets = Vec::new();
    for word in text.split_whitespace() {
        if let Some(repeat) = word.strip_prefix('_') {
            offsets.extend(std::iter::repeat_n(None, if repeat.is_empty() { 1 } else { times(repeat)? }));
            continue;
        }
        let (sequence, count) = match word.split_once('x') {
            Some((sequence, count)) => (sequence, times(&format!("x{count}"))?),
            None => (word, 0),
        };
        let step_at = sequence.get(1..).and_then(|tail| tail.find(['+', '-'])).map(|at| at + 1);
        let (start, step) = sequence.split_at(step_at.unwrap_or(sequence.len()));
        let (mut value, step) = (millis(start)?, if step.is_empty() { 0 } else { millis(step)? });
        for _ in 0..=count {
            offsets.push(Some(value));
            value += step;
        }
    }
    Ok(offsets)
}
