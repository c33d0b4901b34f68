//! Spans as Zipkin shows them.

use super::model::{DEBUG, ERROR, EndpointKeys, LOCAL, NO_START, PEER_SERVICE, REMOTE, SCOPE_NAME, SCOPE_VERSION, SHARED};
use crate::SpanView;
use br_model::{AttributeValue, Span, SpanEvent, SpanKind, SpanStatus, TraceId};
use br_std::Nanos;
use serde_json::{Map, Value, json};
use std::io;
use std::net::Ipv6Addr;

/// Writes the spans of one trace as a JSON list.
pub fn write_trace(out: &mut dyn io::Write, spans: &[SpanView<'_>]) -> io::Result<()> {
    out.write_all(b"[")?;
    for (at, view) in spans.iter().enumerate() {
        if at > 0 {
            out.write_all(b",")?;
        }
        serde_json::to_writer(&mut *out, &span(*view)).map_err(io::Error::from)?;
    }
    out.write_all(b"]")
}

/// Of 64 bits where the others are zero, as Zipkin writes them.
pub fn trace_id(id: TraceId) -> String {
    let text = id.to_string();
    match text.strip_prefix("0000000000000000") {
        Some(low) => low.to_owned(),
        None => text,
    }
}

fn span(view: SpanView<'_>) -> Value {
    let SpanView { span, .. } = view;
    let mut out = Map::new();
    out.insert("traceId".into(), trace_id(span.trace_id).into());
    if !span.parent_span_id.is_none() {
        out.insert("parentId".into(), span.parent_span_id.to_string().into());
    }
    out.insert("id".into(), span.span_id.to_string().into());
    if let Some(kind) = kind(span.kind) {
        out.insert("kind".into(), kind.into());
    }
    if !span.name.is_empty() {
        out.insert("name".into(), span.name.clone().into());
    }
    if !is_set(span, NO_START) && span.start.0 > 0 {
        out.insert("timestamp".into(), (span.start.0 / 1000).into());
    }
    // Less than a microsecond counts as one: 0 would be none.
    match span.duration_nanos() {
        0 => {}
        nanos => _ = out.insert("duration".into(), (nanos / 1000).max(1).into()),
    }
    let mut local = endpoint(span, &LOCAL);
    if let Some(service) = view.resource.attributes.get_str("service.name") {
        local.insert("serviceName".into(), service.into());
    }
    let mut remote = endpoint(span, &REMOTE);
    if let Some(service) = span.attributes.get_str(PEER_SERVICE) {
        remote.insert("serviceName".into(), service.into());
    }
    let annotations: Vec<Value> = span.events.iter().map(|event| annotation(event, span.start)).collect();
    for (key, value) in [
        ("localEndpoint", Value::from(local)),
        ("remoteEndpoint", remote.into()),
        ("annotations", annotations.into()),
        ("tags", tags(view).into()),
    ] {
        let is_empty = value.as_object().is_some_and(Map::is_empty) || value.as_array().is_some_and(Vec::is_empty);
        if !is_empty {
            out.insert(key.into(), value);
        }
    }
    for (key, attribute) in [("debug", DEBUG), ("shared", SHARED)] {
        if is_set(span, attribute) {
            out.insert(key.into(), true.into());
        }
    }
    Value::Object(out)
}

fn is_set(span: &Span, attribute: &str) -> bool {
    span.attributes.get(attribute) == Some(&AttributeValue::Bool(true))
}

fn kind(kind: SpanKind) -> Option<&'static str> {
    match kind {
        SpanKind::Client => Some("CLIENT"),
        SpanKind::Server => Some("SERVER"),
        SpanKind::Producer => Some("PRODUCER"),
        SpanKind::Consumer => Some("CONSUMER"),
        SpanKind::Internal | SpanKind::Unspecified => None,
    }
}

/// Addresses and port; a name that is no address is a tag.
fn endpoint(span: &Span, keys: &EndpointKeys) -> Map<String, Value> {
    let mut out = Map::new();
    for key in [keys.address, keys.second_address] {
        if let Some((family, text)) = address(span, key) {
            out.insert(family.into(), text.into());
        }
    }
    if let Some(AttributeValue::Int(port @ 1..=65535)) = span.attributes.get(keys.port) {
        out.insert("port".into(), (*port).into());
    }
    out
}

/// Readers refuse a whole trace for an address that is none. Zeros in front of a number, which some clients write, are Zipkin's too.
fn address<'a>(span: &'a Span, key: &str) -> Option<(&'static str, &'a str)> {
    let text = span.attributes.get_str(key)?;
    let is_byte = |number: &str| {
        let is_short = (1..=3).contains(&number.len()) && number.bytes().all(|digit| digit.is_ascii_digit());
        is_short && number.parse::<u8>().is_ok()
    };
    if text.split('.').count() == 4 && text.split('.').all(is_byte) {
        return Some(("ipv4", text));
    }
    text.parse::<Ipv6Addr>().is_ok().then_some(("ipv6", text))
}

/// With the event's attributes as JSON behind its name. Readers refuse one without a time: it is the span's start then.
fn annotation(event: &SpanEvent, start: Nanos) -> Value {
    let mut value = event.name.clone();
    if !event.attributes.is_empty() {
        value = format!("{}: {}", AttributeValue::from(value), AttributeValue::Map(event.attributes.clone()));
    }
    let at = if event.timestamp.0 > 0 { event.timestamp } else { start };
    json!({ "timestamp": (at.0 / 1000).max(1), "value": value })
}

/// Attributes of the span first, then what its scope and resource say.
fn tags(view: SpanView<'_>) -> Map<String, Value> {
    let SpanView { resource, scope, span } = view;
    let mut tags = Map::new();
    let mut put = |key: &str, value: String| {
        if !tags.contains_key(key) {
            tags.insert(key.to_owned(), Value::String(value));
        }
    };
    for (key, value) in &span.attributes {
        if !is_shown_elsewhere(span, key) {
            put(key, value.to_string());
        }
    }
    match span.status {
        SpanStatus::Error if span.status_message.is_empty() => put(ERROR, "true".into()),
        SpanStatus::Error => put(ERROR, span.status_message.clone()),
        SpanStatus::Ok => put("otel.status_code", "OK".into()),
        SpanStatus::Unset => {}
    }
    for (key, value) in [(SCOPE_NAME, &scope.name), (SCOPE_VERSION, &scope.version), ("w3c.tracestate", &span.trace_state)] {
        if !value.is_empty() {
            put(key, value.clone());
        }
    }
    for (key, value) in resource.attributes.iter().chain(&scope.attributes).filter(|(key, _)| key != "service.name") {
        put(key, value.to_string());
    }
    tags
}

fn is_shown_elsewhere(span: &Span, key: &str) -> bool {
    match key {
        PEER_SERVICE => span.attributes.get_str(key).is_some(),
        SHARED | DEBUG | NO_START => is_set(span, key),
        _ if key == LOCAL.port || key == REMOTE.port => matches!(span.attributes.get(key), Some(AttributeValue::Int(1..=65535))),
        _ if [&LOCAL, &REMOTE].iter().any(|keys| key == keys.address || key == keys.second_address) => {
            address(span, key).is_some()
        }
        _ => false,
    }
}
