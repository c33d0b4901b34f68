//! The JSON encoding.

use super::model::{Endpoint, List, Parsed, micros};
use crate::json::{string, text};
use crate::{Result, WireError, amount};
use br_model::{SpanId, SpanKind, TraceId};
use serde_json::{Map, Value};

pub(super) fn read(body: &[u8], list: &mut List<'_>) -> Result<()> {
    amount::check_json(body, list.limits)?;
    let value: Value = serde_json::from_slice(body).map_err(|error| WireError::Malformed(format!("Zipkin JSON: {error}")))?;
    match value {
        Value::Array(spans) => spans.into_iter().try_for_each(|span| {
            let parsed = span_of(span, list.limits.attributes_max);
            list.add(parsed)
        }),
        Value::Object(_) => {
            let parsed = span_of(value, list.limits.attributes_max);
            list.add(parsed)
        }
        _ => Err(WireError::malformed("Zipkin JSON: neither a list of spans nor a span")),
    }
}

fn span_of(value: Value, parts_max: usize) -> Result<Parsed, String> {
    let Value::Object(mut map) = value else { return Err(format!("{} where an object is wanted", short(&value))) };
    let trace_id = id(&map, "traceId", TraceId::from_hex)?.filter(|id| !id.is_none());
    let trace_id = trace_id.ok_or_else(|| missing(&map, "traceId"))?;
    let span_id = id(&map, "id", SpanId::from_hex)?.filter(|id| !id.is_none()).ok_or_else(|| missing(&map, "id"))?;
    let kind = kind(map.get("kind"));
    let start = micros(number(&map, "timestamp")?, "timestamp")?;
    let duration_nanos = micros(number(&map, "duration")?, "duration")?.map_or(0, |duration| duration.0);
    let parent_span_id = id(&map, "parentId", SpanId::from_hex)?.unwrap_or_default();
    Ok(Parsed {
        trace_id,
        span_id,
        parent_span_id,
        kind,
        start,
        duration_nanos,
        local: endpoint(map.get("localEndpoint")),
        remote: endpoint(map.get("remoteEndpoint")),
        annotations: annotations(map.get("annotations"), parts_max)?,
        debug: map.get("debug").and_then(Value::as_bool).unwrap_or(false),
        shared: map.get("shared").and_then(Value::as_bool).unwrap_or(false),
        name: map.remove("name").as_ref().map(text).unwrap_or_default(),
        tags: tags(map.remove("tags"), parts_max),
    })
}

/// The start of a value, for a message.
fn short(value: &Value) -> String {
    value.to_string().chars().take(64).collect()
}

fn missing(map: &Map<String, Value>, key: &str) -> String {
    match map.get(key) {
        None | Some(Value::Null) => format!("{key} is missing"),
        Some(value) => format!("{key} {} is all zeros", short(value)),
    }
}

/// `None` where there is none.
fn id<T>(map: &Map<String, Value>, key: &str, read: fn(&str) -> Option<T>) -> Result<Option<T>, String> {
    match map.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(value) => {
            let id = value.as_str().and_then(read);
            id.map(Some).ok_or_else(|| format!("{key} {} is not text of hexadecimal digits, or of too many", short(value)))
        }
    }
}

/// A whole number, which clients write as text or with a point at times; 0 where there is none.
fn number(map: &Map<String, Value>, key: &str) -> Result<u64, String> {
    let Some(value) = map.get(key).filter(|value| !value.is_null()) else { return Ok(0) };
    let whole = match value {
        Value::String(text) => text.parse().ok(),
        _ => value.as_u64().or_else(|| {
            let float = value.as_f64().filter(|float| *float >= 0.0 && *float < 9e18)?;
            Some(float as u64)
        }),
    };
    whole.ok_or_else(|| format!("{key} {} is not a number of microseconds", short(value)))
}

fn kind(value: Option<&Value>) -> SpanKind {
    match value.and_then(Value::as_str).map(str::to_ascii_uppercase).as_deref() {
        Some("CLIENT") => SpanKind::Client,
        Some("SERVER") => SpanKind::Server,
        Some("PRODUCER") => SpanKind::Producer,
        Some("CONSUMER") => SpanKind::Consumer,
        _ => SpanKind::Unspecified,
    }
}

fn endpoint(value: Option<&Value>) -> Endpoint {
    let Some(value) = value else { return Endpoint::default() };
    let port = value.get("port").and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok());
    Endpoint {
        service: string(value, "serviceName").to_owned(),
        ipv4: string(value, "ipv4").to_owned(),
        ipv6: string(value, "ipv6").to_owned(),
        port: port.unwrap_or(0),
    }
}

fn annotations(value: Option<&Value>, count_max: usize) -> Result<Vec<(br_std::Nanos, String)>, String> {
    let annotations = value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mut read = Vec::new();
    for annotation in annotations.iter().take(count_max) {
        let Value::Object(map) = annotation else { continue };
        let at = micros(number(map, "timestamp")?, "timestamp of an annotation")?;
        read.push((at.unwrap_or_default(), map.get("value").map(text).unwrap_or_default()));
    }
    Ok(read)
}

fn tags(value: Option<Value>, count_max: usize) -> Vec<(String, String)> {
    let Some(Value::Object(tags)) = value else { return Vec::new() };
    let tags = tags.into_iter().filter(|(key, _)| !key.is_empty()).take(count_max);
    tags.map(|(key, value)| {
        let value = if let Value::String(text) = value { text } else { text(&value) };
        (key, value)
    })
    .collect()
}
