//! From JSON values to the model's.

use br_model::{AttributeValue, Attributes};
use br_std::Nanos;
use serde_json::{Map, Value};

pub(crate) fn attribute_value(value: Value) -> AttributeValue {
    match value {
        Value::Null => AttributeValue::Empty,
        Value::Bool(value) => AttributeValue::Bool(value),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => AttributeValue::Int(whole),
            None => AttributeValue::Double(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => AttributeValue::String(text),
        Value::Array(values) => AttributeValue::Array(values.into_iter().map(attribute_value).collect()),
        Value::Object(map) => AttributeValue::Map(attributes(map)),
    }
}

pub(crate) fn attributes(map: Map<String, Value>) -> Attributes {
    map.into_iter().map(|(key, value)| (key, attribute_value(value))).collect()
}

/// The text of a string, and the JSON of anything else; nothing for null.
pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The string under `key`; empty where there is none.
pub(crate) fn string<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// A time as text (RFC 3339, or without a zone, then UTC) or as a number since the epoch, whose size tells its unit.
pub(crate) fn time(value: &Value) -> Option<Nanos> {
    match value {
        Value::String(text) => time_text(text),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => whole_time(whole),
            None => float_time(number.as_f64()?),
        },
        _ => None,
    }
}

fn time_text(text: &str) -> Option<Nanos> {
    let text = text.trim().replace(',', ".");
    if let Ok(timestamp) = text.parse::<jiff::Timestamp>() {
        return i64::try_from(timestamp.as_nanosecond()).ok().map(Nanos);
    }
    if let Ok(local) = text.parse::<jiff::civil::DateTime>() {
        let zoned = local.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
        return i64::try_from(zoned.timestamp().as_nanosecond()).ok().map(Nanos);
    }
    text.parse::<i64>().ok().and_then(whole_time).or_else(|| text.parse::<f64>().ok().and_then(float_time))
}

/// Seconds up to the year 5138, then milliseconds, microseconds, nanoseconds.
fn whole_time(number: i64) -> Option<Nanos> {
    let factor = match number {
        i64::MIN..=0 => return None,
        1..100_000_000_000 => 1_000_000_000,
        100_000_000_000..100_000_000_000_000 => 1_000_000,
        100_000_000_000_000..100_000_000_000_000_000 => 1_000,
        _ => 1,
    };
    number.checked_mul(factor).map(Nanos)
}

fn float_time(number: f64) -> Option<Nanos> {
    if !number.is_finite() || number <= 0.0 {
        return None;
    }
    if number >= 1e11 {
        return whole_time(number as i64);
    }
    // To the microsecond, which is what a double holds of the present.
    let micros = (number * 1e6).round();
    (micros * 1e3 < i64::MAX as f64).then(|| Nanos(micros as i64 * 1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let noon = Nanos(1_767_348_000_500_000_000);
        for written in [
            r#""2026-01-02T10:00:00.5Z""#,
            r#""2026-01-02T11:00:00.500+01:00""#,
            r#""2026-01-02 10:00:00,500""#,
            r#""1767348000.5""#,
            "1767348000.5",
            "1767348000500",
            "1767348000500000",
            "1767348000500000000",
        ] {
            let value: Value = serde_json::from_str(written).expect("JSON");
            assert_eq!(time(&value), Some(noon), "{written}");
        }
        for written in [r#""soon""#, "null", "-1", "true", "1e300"] {
            let value: Value = serde_json::from_str(written).expect("JSON");
            assert!(time(&value).is_none_or(|time| time.0 == i64::MAX), "{written}");
        }
    }
}
