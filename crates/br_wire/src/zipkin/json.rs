//! The JSON encoding. Each span is read by itself, and of it what Zipkin knows: no tree is made of what clients send, which may take
//! a hundred times what it takes as text.

use super::model::{Endpoint, List, Parsed, micros};
use crate::{Result, WireError, amount};
use br_model::{SpanId, SpanKind, TraceId};
use serde::Deserializer as _;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

pub(super) fn read(body: &[u8], list: &mut List<'_>) -> Result<()> {
    amount::check_json(body, list.limits)?;
    // Some clients cut a text between the bytes of a character.
    let text = String::from_utf8_lossy(body);
    let parts_max = list.limits.attributes_max;
    if text.trim_ascii_start().starts_with('[') {
        let mut refused = None;
        let outcome = each_item(&text, &mut |item| {
            let added = list.add(span_of(item, parts_max));
            added.map_err(|error| refused.insert(error).to_string())
        });
        let malformed = |reason: String| WireError::Malformed(format!("Zipkin JSON: {reason}"));
        return refused.map_or(outcome.map_err(malformed), Err);
    }
    let value: &RawValue = serde_json::from_str(&text).map_err(|error| WireError::Malformed(format!("Zipkin JSON: {error}")))?;
    if value.get().starts_with('{') {
        return list.add(span_of(value, parts_max));
    }
    Err(WireError::malformed("Zipkin JSON: neither a list of spans nor a span"))
}

fn span_of(value: &RawValue, parts_max: usize) -> Result<Parsed, String> {
    if !value.get().starts_with('{') {
        return Err(format!("{} where an object is wanted", short(value)));
    }
    let mut span = Parsed::default();
    let (mut trace_id, mut span_id) = (None, None);
    each_entry(value, &mut |key, value| {
        match key.as_str() {
            "traceId" => trace_id = Some(value),
            "id" => span_id = Some(value),
            "parentId" => span.parent_span_id = id(value, "parentId", SpanId::from_hex)?.unwrap_or_default(),
            "kind" => span.kind = kind(value),
            "name" => span.name = text(value),
            "timestamp" => span.start = micros(number(value, "timestamp")?, "timestamp")?,
            "duration" => {
                span.duration_nanos = micros(number(value, "duration")?, "duration")?.map_or(0, |duration| duration.0);
            }
            "localEndpoint" => span.local = endpoint(value)?,
            "remoteEndpoint" => span.remote = endpoint(value)?,
            "annotations" => annotations(value, parts_max, &mut span)?,
            "tags" => tags(value, parts_max, &mut span)?,
            "debug" => span.debug = value.get() == "true",
            "shared" => span.shared = value.get() == "true",
            _ => {}
        }
        Ok(())
    })?;
    let found = trace_id.map(|value| id(value, "traceId", TraceId::from_hex)).transpose()?.flatten();
    span.trace_id = found.filter(|id| !id.is_none()).ok_or_else(|| missing(trace_id, "traceId"))?;
    let found = span_id.map(|value| id(value, "id", SpanId::from_hex)).transpose()?.flatten();
    span.span_id = found.filter(|id| !id.is_none()).ok_or_else(|| missing(span_id, "id"))?;
    Ok(span)
}

/// The start of a value, for a message.
fn short(value: &RawValue) -> String {
    value.get().chars().take(64).collect()
}

fn missing(value: Option<&RawValue>, key: &str) -> String {
    match value.filter(|value| !matches!(value.get(), "null" | r#""""#)) {
        None => format!("{key} is missing"),
        Some(value) => format!("{key} {} is all zeros", short(value)),
    }
}

/// `None` where there is none.
fn id<T>(value: &RawValue, key: &str, read: fn(&str) -> Option<T>) -> Result<Option<T>, String> {
    if matches!(value.get(), "null" | r#""""#) {
        return Ok(None);
    }
    let id = string(value).and_then(|text| read(&text));
    id.map(Some).ok_or_else(|| format!("{key} {} is not text of hexadecimal digits, or of too many", short(value)))
}

/// A whole number, which clients write as text or with a point at times; 0 where there is none.
fn number(value: &RawValue, key: &str) -> Result<u64, String> {
    let whole = match string(value) {
        Some(text) => text.parse().ok(),
        None if value.get() == "null" => Some(0),
        None => value.get().parse().ok().or_else(|| {
            let float = value.get().parse::<f64>().ok().filter(|float| *float >= 0.0 && *float < 9e18)?;
            Some(float as u64)
        }),
    };
    whole.ok_or_else(|| format!("{key} {} is not a number of microseconds", short(value)))
}

fn kind(value: &RawValue) -> SpanKind {
    match string(value).map(|text| text.to_ascii_uppercase()).as_deref() {
        Some("CLIENT") => SpanKind::Client,
        Some("SERVER") => SpanKind::Server,
        Some("PRODUCER") => SpanKind::Producer,
        Some("CONSUMER") => SpanKind::Consumer,
        _ => SpanKind::Unspecified,
    }
}

fn endpoint(value: &RawValue) -> Result<Endpoint, String> {
    let mut endpoint = Endpoint::default();
    each_entry(value, &mut |key, value| {
        match key.as_str() {
            "serviceName" => endpoint.service = string(value).unwrap_or_default(),
            "ipv4" => endpoint.ipv4 = string(value).unwrap_or_default(),
            "ipv6" => endpoint.ipv6 = string(value).unwrap_or_default(),
            "port" => endpoint.port = value.get().parse().unwrap_or(0),
            _ => {}
        }
        Ok(())
    })?;
    Ok(endpoint)
}

fn annotations(value: &RawValue, count_max: usize, span: &mut Parsed) -> Result<(), String> {
    if !value.get().starts_with('[') {
        return Ok(());
    }
    each_item(value.get(), &mut |item| {
        if !item.get().starts_with('{') {
            return Ok(());
        }
        if span.annotations.len() == count_max {
            span.dropped_parts += 1;
            return Ok(());
        }
        let (mut at, mut said) = (None, String::new());
        each_entry(item, &mut |key, value| {
            match key.as_str() {
                "timestamp" => at = micros(number(value, "timestamp")?, "timestamp of an annotation")?,
                "value" => said = text(value),
                _ => {}
            }
            Ok(())
        })?;
        span.annotations.push((at, said));
        Ok(())
    })
}

fn tags(value: &RawValue, count_max: usize, span: &mut Parsed) -> Result<(), String> {
    each_entry(value, &mut |key, value| {
        if key.is_empty() {
            return Ok(());
        }
        if span.tags.len() == count_max {
            span.dropped_parts += 1;
        } else {
            span.tags.push((key, text(value)));
        }
        Ok(())
    })
}

/// The text of a string; `None` of anything else.
fn string(value: &RawValue) -> Option<String> {
    let quoted = value.get();
    let inner = quoted.strip_prefix('"')?;
    // Half of a pair of surrogates is no character: such a text stays as it was written.
    Some(serde_json::from_str(quoted).unwrap_or_else(|_| inner.strip_suffix('"').unwrap_or(inner).to_owned()))
}

/// The text of a string, and the JSON of anything else; nothing for null.
fn text(value: &RawValue) -> String {
    match value.get() {
        "null" => String::new(),
        json => string(value).unwrap_or_else(|| json.to_owned()),
    }
}

type Take<'f, T> = &'f mut dyn FnMut(T) -> Result<(), String>;

/// Hands out the items of a list one by one.
fn each_item<'a>(json: &'a str, take: Take<'_, &'a RawValue>) -> Result<(), String> {
    let mut stopped = None;
    let mut reader = serde_json::Deserializer::from_str(json);
    let read = reader.deserialize_seq(Items { take, stopped: &mut stopped }).and_then(|()| reader.end());
    stopped.map_or_else(|| read.map_err(|error| error.to_string()), Err)
}

/// Hands out the members of an object one by one; anything else has none.
fn each_entry<'a>(value: &'a RawValue, take: &mut dyn FnMut(String, &'a RawValue) -> Result<(), String>) -> Result<(), String> {
    if !value.get().starts_with('{') {
        return Ok(());
    }
    let mut stopped = None;
    let take_pair: Take<'_, (String, &'a RawValue)> = &mut |(key, inner)| take(key, inner);
    let mut reader = serde_json::Deserializer::from_str(value.get());
    let read = reader.deserialize_map(Items { take: take_pair, stopped: &mut stopped });
    stopped.map_or_else(|| read.map_err(|error| error.to_string()), Err)
}

/// What is read, and why reading ends before all of it was.
struct Items<'f, T> {
    take: Take<'f, T>,
    stopped: &'f mut Option<String>,
}

impl<T> Items<'_, T> {
    fn next<E: serde::de::Error>(&mut self, item: T) -> Result<(), E> {
        (self.take)(item).map_err(|reason| {
            *self.stopped = Some(reason);
            E::custom("stopped")
        })
    }
}

impl<'a> Visitor<'a> for Items<'_, &'a RawValue> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'a>>(mut self, mut items: A) -> Result<(), A::Error> {
        while let Some(item) = items.next_element()? {
            self.next(item)?;
        }
        Ok(())
    }
}

impl<'a> Visitor<'a> for Items<'_, (String, &'a RawValue)> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(mut self, mut entries: A) -> Result<(), A::Error> {
        while let Some(entry) = entries.next_entry()? {
            self.next(entry)?;
        }
        Ok(())
    }
}
