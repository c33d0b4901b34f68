//! A trace as version 3 has it: OTLP/JSON that leaves out whatever is zero or empty.

use super::numbers::Numbers;
use crate::SpanView;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use br_model::{AttributeValue, Attributes, Scope, Span, SpanEvent, SpanKind, SpanLink, SpanStatus};
use br_std::Nanos;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::io;

/// Writes the spans as items of a list `resourceSpans`, with commas between them: one for each resource and scope.
pub fn write_resource_spans(out: &mut dyn io::Write, spans: &[SpanView<'_>]) -> io::Result<()> {
    let (mut resources, mut scopes) = (Numbers::default(), Numbers::default());
    let mut places: HashMap<(usize, usize), usize> = HashMap::new();
    let mut groups: Vec<Vec<SpanView<'_>>> = Vec::new();
    for view in spans {
        let origin = (resources.number(view.resource), scopes.number(view.scope));
        let place = *places.entry(origin).or_insert_with(|| {
            groups.push(Vec::new());
            groups.len() - 1
        });
        groups[place].push(*view);
    }
    for (at, group) in groups.iter().enumerate() {
        if at > 0 {
            out.write_all(b",")?;
        }
        let SpanView { resource, scope, .. } = group[0];
        let mut wire_resource = Map::new();
        put_attributes(&mut wire_resource, &resource.attributes);
        write!(out, r#"{{"resource":{},"scopeSpans":[{{"scope":{},"spans":["#, Value::Object(wire_resource), self::scope(scope))?;
        for (at, view) in group.iter().enumerate() {
            if at > 0 {
                out.write_all(b",")?;
            }
            serde_json::to_writer(&mut *out, &span(view.span)).map_err(io::Error::from)?;
        }
        out.write_all(b"]}]}")?;
    }
    Ok(())
}

fn scope(scope: &Scope) -> Value {
    let mut out = Map::new();
    put_text(&mut out, "name", &scope.name);
    put_text(&mut out, "version", &scope.version);
    put_attributes(&mut out, &scope.attributes);
    Value::Object(out)
}

fn span(span: &Span) -> Value {
    let mut out = Map::new();
    put_text(&mut out, "traceId", &span.trace_id.to_string());
    put_text(&mut out, "spanId", &span.span_id.to_string());
    if !span.parent_span_id.is_none() {
        put_text(&mut out, "parentSpanId", &span.parent_span_id.to_string());
    }
    put_text(&mut out, "traceState", &span.trace_state);
    put_text(&mut out, "name", &span.name);
    if span.kind != SpanKind::Unspecified {
        out.insert("kind".into(), (span.kind as u8).into());
    }
    put_time(&mut out, "startTimeUnixNano", span.start);
    put_time(&mut out, "endTimeUnixNano", span.end);
    put_attributes(&mut out, &span.attributes);
    put_list(&mut out, "events", span.events.iter().map(event));
    let has_ids = |link: &&SpanLink| !link.trace_id.is_none() && !link.span_id.is_none();
    put_list(&mut out, "links", span.links.iter().filter(has_ids).map(link));
    let mut status = Map::new();
    if span.status != SpanStatus::Unset {
        status.insert("code".into(), (span.status as u8).into());
    }
    put_text(&mut status, "message", &span.status_message);
    out.insert("status".into(), status.into());
    Value::Object(out)
}

fn event(event: &SpanEvent) -> Value {
    let mut out = Map::new();
    put_time(&mut out, "timeUnixNano", event.timestamp);
    put_text(&mut out, "name", &event.name);
    put_attributes(&mut out, &event.attributes);
    Value::Object(out)
}

fn link(link: &SpanLink) -> Value {
    let mut out = Map::new();
    put_text(&mut out, "traceId", &link.trace_id.to_string());
    put_text(&mut out, "spanId", &link.span_id.to_string());
    put_attributes(&mut out, &link.attributes);
    Value::Object(out)
}

fn put_text(out: &mut Map<String, Value>, key: &str, text: &str) {
    if !text.is_empty() {
        out.insert(key.into(), text.into());
    }
}

fn put_time(out: &mut Map<String, Value>, key: &str, time: Nanos) {
    if time.0 > 0 {
        out.insert(key.into(), time.0.to_string().into());
    }
}

fn put_list(out: &mut Map<String, Value>, key: &str, items: impl Iterator<Item = Value>) {
    let items: Vec<Value> = items.collect();
    if !items.is_empty() {
        out.insert(key.into(), items.into());
    }
}

fn put_attributes(out: &mut Map<String, Value>, attributes: &Attributes) {
    put_list(out, "attributes", pairs(attributes));
}

fn pairs(attributes: &Attributes) -> impl Iterator<Item = Value> {
    attributes.iter().map(|(key, value)| json!({ "key": key, "value": any_value(value) }))
}

/// Jaeger's page wants one field in each value, numbers that are some, and links that lead somewhere.
fn any_value(value: &AttributeValue) -> Value {
    match value {
        AttributeValue::String(text) => json!({ "stringValue": text }),
        AttributeValue::Bool(value) => json!({ "boolValue": value }),
        AttributeValue::Int(number) => json!({ "intValue": number.to_string() }),
        AttributeValue::Double(number) if number.is_finite() => json!({ "doubleValue": number }),
        AttributeValue::Double(number) => {
            let text = if number.is_nan() {
                "NaN"
            } else if *number > 0.0 {
                "Infinity"
            } else {
                "-Infinity"
            };
            json!({ "stringValue": text })
        }
        AttributeValue::Bytes(bytes) => json!({ "bytesValue": STANDARD.encode(bytes) }),
        AttributeValue::Array(values) => json!({ "arrayValue": { "values": values.iter().map(any_value).collect::<Vec<_>>() } }),
        AttributeValue::Map(map) => json!({ "kvlistValue": { "values": pairs(map).collect::<Vec<_>>() } }),
        AttributeValue::Empty => json!({ "stringValue": "" }),
    }
}
