//! A trace as Jaeger's own JSON has it.

use super::numbers::Numbers;
use crate::SpanView;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use br_model::{AttributeValue, Attributes, Resource, SpanEvent, SpanKind, SpanLink, SpanStatus, TraceId};
use serde_json::{Map, Value, json};
use std::io;

/// OpenTelemetry's name for the kind of a reference.
pub(super) const REFERENCE_TYPE: &str = "opentracing.ref_type";

/// Writes one trace: `{"traceID", "spans", "processes", "warnings"}`. Spans stay in their order.
pub fn write_trace(out: &mut dyn io::Write, spans: &[SpanView<'_>]) -> io::Result<()> {
    let trace = spans.first().map(|view| trace_id(view.span.trace_id)).unwrap_or_default();
    write!(out, r#"{{"traceID":"{trace}","spans":["#)?;
    let mut processes = Numbers::default();
    for (at, view) in spans.iter().enumerate() {
        let process = processes.number(view.resource);
        if at > 0 {
            out.write_all(b",")?;
        }
        serde_json::to_writer(&mut *out, &span(*view, process)).map_err(io::Error::from)?;
    }
    out.write_all(br#"],"processes":"#)?;
    let processes: Map<String, Value> =
        processes.values().iter().enumerate().map(|(at, resource)| (process_id(at), process(resource))).collect();
    serde_json::to_writer(&mut *out, &processes).map_err(io::Error::from)?;
    out.write_all(br#","warnings":null}"#)
}

/// Of 64 bits where the others are zero, as Jaeger writes them.
pub fn trace_id(id: TraceId) -> String {
    crate::zipkin::trace_id(id)
}

fn process_id(at: usize) -> String {
    format!("p{}", at + 1)
}

fn process(resource: &Resource) -> Value {
    let tags: Vec<Value> = tags(&resource.attributes).filter(|tag| tag["key"] != "service.name").collect();
    json!({ "serviceName": resource.service_name(), "tags": tags })
}

fn span(view: SpanView<'_>, process: usize) -> Value {
    let SpanView { span, .. } = view;
    let mut references = Vec::new();
    // Where the parent came as a reference of another kind, that one says so.
    let is_parent = |link: &SpanLink| {
        (link.trace_id, link.span_id) == (span.trace_id, span.parent_span_id) && link.attributes.get(REFERENCE_TYPE).is_some()
    };
    if !span.parent_span_id.is_none() && !span.links.iter().any(is_parent) {
        references.push(reference("CHILD_OF", span.trace_id, &span.parent_span_id.to_string()));
    }
    references.extend(span.links.iter().map(link));
    json!({
        "traceID": trace_id(span.trace_id),
        "spanID": span.span_id.to_string(),
        "operationName": span.name,
        "references": references,
        "startTime": span.start.0 / 1000,
        "duration": span.duration_nanos() / 1000,
        "tags": span_tags(view),
        "logs": span.events.iter().map(log).collect::<Vec<_>>(),
        "processID": process_id(process),
        "warnings": null,
    })
}

fn reference(kind: &str, trace: TraceId, span_id: &str) -> Value {
    json!({ "refType": kind, "traceID": trace_id(trace), "spanID": span_id })
}

fn link(link: &SpanLink) -> Value {
    let is_child = link.attributes.get_str(REFERENCE_TYPE) == Some("child_of");
    reference(if is_child { "CHILD_OF" } else { "FOLLOWS_FROM" }, link.trace_id, &link.span_id.to_string())
}

/// What Jaeger has no fields for becomes tags around those of the span. One that the span has itself is not said twice.
fn span_tags(view: SpanView<'_>) -> Vec<Value> {
    let SpanView { scope, span, .. } = view;
    let mut out = Vec::new();
    let put = |key: &str, value: AttributeValue, out: &mut Vec<Value>| {
        if span.attributes.get(key).is_none() {
            out.push(tag(key, &value));
        }
    };
    for (key, value) in [("otel.scope.name", &scope.name), ("otel.scope.version", &scope.version)] {
        if !value.is_empty() {
            put(key, value.as_str().into(), &mut out);
        }
    }
    for (key, value) in &scope.attributes {
        put(key, value.clone(), &mut out);
    }
    out.extend(tags(&span.attributes));
    if span.kind != SpanKind::Unspecified {
        put("span.kind", span.kind.as_str().into(), &mut out);
    }
    match span.status {
        SpanStatus::Unset => {}
        SpanStatus::Ok => put("otel.status_code", "OK".into(), &mut out),
        SpanStatus::Error => {
            put("otel.status_code", "ERROR".into(), &mut out);
            put("error", true.into(), &mut out);
        }
    }
    for (key, value) in [("otel.status_description", &span.status_message), ("w3c.tracestate", &span.trace_state)] {
        if !value.is_empty() {
            put(key, value.as_str().into(), &mut out);
        }
    }
    out
}

fn log(event: &SpanEvent) -> Value {
    let mut fields = Vec::new();
    if !event.name.is_empty() && event.attributes.get("event").is_none() {
        fields.push(tag("event", &event.name.as_str().into()));
    }
    fields.extend(tags(&event.attributes));
    json!({ "timestamp": event.timestamp.0 / 1000, "fields": fields })
}

fn tags(attributes: &Attributes) -> impl Iterator<Item = Value> {
    attributes.iter().map(|(key, value)| tag(key, value))
}

fn tag(key: &str, value: &AttributeValue) -> Value {
    /// What JavaScript holds of whole numbers.
    const SAFE: u64 = (1 << 53) - 1;
    let (kind, value) = match value {
        AttributeValue::String(text) => ("string", Value::from(text.as_str())),
        AttributeValue::Bool(value) => ("bool", Value::from(*value)),
        AttributeValue::Int(number) if number.unsigned_abs() <= SAFE => ("int64", Value::from(*number)),
        AttributeValue::Int(number) => ("int64", Value::from(number.to_string())),
        AttributeValue::Double(number) => {
            ("float64", serde_json::Number::from_f64(*number).map_or_else(|| number.to_string().into(), Value::Number))
        }
        AttributeValue::Bytes(bytes) => ("binary", Value::from(STANDARD.encode(bytes))),
        AttributeValue::Empty => ("string", Value::from("")),
        AttributeValue::Array(_) | AttributeValue::Map(_) => ("string", Value::from(value.to_string())),
    };
    json!({ "key": key, "type": kind, "value": value })
}
