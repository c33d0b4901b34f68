//! OTLP/JSON: hexadecimal ids, enums as numbers, 64-bit integers as strings or numbers, unknown fields ignored.
//!
//! What the generated types refuse but senders do write is put right first: names of enums, `null`, NaN as text,
//! unknown fields inside a value.

use crate::{Result, WireError};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

pub(super) fn decode<M: DeserializeOwned>(body: &[u8]) -> Result<M> {
    let error = match serde_json::from_slice(body) {
        Ok(message) => return Ok(message),
        Err(error) => WireError::Malformed(format!("OTLP JSON: {error}")),
    };
    let Ok(mut value) = serde_json::from_slice::<Value>(body) else { return Err(error) };
    normalise(&mut value);
    serde_json::from_value(value).map_err(|_| error)
}

fn normalise(value: &mut Value) {
    match value {
        Value::Array(values) => {
            values.retain(|value| !value.is_null());
            values.iter_mut().for_each(normalise);
        }
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            if let Some(any_value) = map.get_mut("value").and_then(Value::as_object_mut) {
                keep_known_value(any_value);
            }
            for (key, value) in map.iter_mut() {
                normalise(value);
                normalise_field(key, value);
            }
        }
        _ => {}
    }
}

/// The members of an `AnyValue`; a double may be written as text, an integer as a float.
fn keep_known_value(map: &mut Map<String, Value>) {
    const KNOWN: [&str; 7] = ["stringValue", "boolValue", "intValue", "doubleValue", "arrayValue", "kvlistValue", "bytesValue"];
    map.retain(|key, value| KNOWN.contains(&key.as_str()) && !value.is_null());
}

fn normalise_field(key: &str, value: &mut Value) {
    match (key, &*value) {
        ("kind" | "code" | "severityNumber" | "aggregationTemporality", Value::String(name)) => {
            if let Some(number) = enum_number(key, name) {
                *value = number.into();
            }
        }
        ("doubleValue", Value::String(text)) => {
            // JSON has no NaN: it becomes text, which is how it was written.
            if let Some(number) = text.parse().ok().and_then(serde_json::Number::from_f64) {
                *value = Value::Number(number);
            }
        }
        ("asInt" | "intValue", Value::Number(number)) => {
            if let Some(whole) = number.as_f64().filter(|number| number.fract() == 0.0 && number.abs() < 9e15) {
                *value = (whole as i64).to_string().into();
            }
        }
        _ => {}
    }
}

fn enum_number(field: &str, name: &str) -> Option<i64> {
    if let Ok(number) = name.parse() {
        return Some(number);
    }
    let names: &[&str] = match field {
        "kind" => &["UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"],
        "code" => &["UNSET", "OK", "ERROR"],
        "aggregationTemporality" => &["UNSPECIFIED", "DELTA", "CUMULATIVE"],
        _ => return severity_number(name),
    };
    names.iter().position(|known| name.ends_with(&format!("_{known}")) || name == *known).map(|at| at as i64)
}

/// `SEVERITY_NUMBER_WARN3` is 15.
fn severity_number(name: &str) -> Option<i64> {
    let name = name.strip_prefix("SEVERITY_NUMBER_").unwrap_or(name);
    let step = name.bytes().last().filter(|byte| (b'2'..=b'4').contains(byte)).map_or(0, |byte| i64::from(byte - b'1'));
    let word = name.trim_end_matches(['2', '3', '4']);
    let first = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"].iter().position(|known| *known == word)?;
    Some(first as i64 * 4 + 1 + step)
}
