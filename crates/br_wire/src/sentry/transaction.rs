//! Transactions: a root span with the spans below it.

use super::Context;
use super::event::{add_all, resource, tags};
use crate::Limits;
use crate::json::{attribute_value, string, time};
use br_model::{Attributes, Resource, Span, SpanId, SpanKind, SpanStatus, TraceId};
use br_std::Nanos;
use serde_json::Value;

/// Spans of one transaction; SDKs stop at 1 000.
const SPANS_MAX: usize = 10_000;

pub(super) fn spans(event: &Value, context: Context<'_>, limits: &Limits) -> Result<(Resource, Vec<Span>), String> {
    let trace = event.pointer("/contexts/trace").ok_or("no contexts.trace")?;
    let mut root = span(trace, event, context.received, limits)?;
    string(event, "transaction").clone_into(&mut root.name);
    for (key, value) in tags(event) {
        if root.attributes.len() < limits.attributes_max && root.attributes.get(key).is_none() {
            root.attributes.push(key, attribute_value(value.clone()));
        }
    }
    let (trace_id, service) = (root.trace_id, resource(event, context));
    let mut spans = vec![root];
    let children = event.get("spans").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for child in children.iter().take(SPANS_MAX) {
        // One child that makes no sense does not take the transaction with it.
        if let Ok(mut child) = span(child, child, context.received, limits) {
            if child.trace_id.is_none() {
                child.trace_id = trace_id;
            }
            spans.push(child);
        }
    }
    Ok((service, spans))
}

/// `identity` has ids, operation, status and data; `timing` has the times. They are one for a child.
fn span(identity: &Value, timing: &Value, received: Nanos, limits: &Limits) -> Result<Span, String> {
    let span_id =
        SpanId::from_hex(string(identity, "span_id")).filter(|id| !id.is_none()).ok_or("a span without a valid span_id")?;
    let trace_id = TraceId::from_hex(string(identity, "trace_id")).unwrap_or_default();
    let is_root = !std::ptr::eq(identity, timing);
    if is_root && trace_id.is_none() {
        return Err("contexts.trace has no valid trace_id".into());
    }
    let end = timing.get("timestamp").and_then(time).unwrap_or(received);
    let operation = string(identity, "op");
    let name = match string(identity, "description") {
        "" => operation,
        description => description,
    };
    let (status, status_message) = status(string(identity, "status"));
    Ok(Span {
        trace_id,
        span_id,
        parent_span_id: SpanId::from_hex(string(identity, "parent_span_id")).unwrap_or_default(),
        name: name.to_owned(),
        kind: kind(operation),
        start: timing.get("start_timestamp").and_then(time).unwrap_or(end),
        end,
        status,
        status_message,
        attributes: attributes(identity, limits),
        ..Span::default()
    })
}

fn attributes(span: &Value, limits: &Limits) -> Attributes {
    let mut attributes = Attributes::default();
    for (key, field) in [("sentry.op", "op"), ("sentry.origin", "origin")] {
        if !string(span, field).is_empty() {
            attributes.push(key, string(span, field));
        }
    }
    for field in ["data", "tags"] {
        if let Some(Value::Object(map)) = span.get(field) {
            add_all(&mut attributes, "", map, limits);
        }
    }
    attributes
}

/// Sentry has no kind: its operation names tell.
fn kind(operation: &str) -> SpanKind {
    let is = |prefix: &str| operation == prefix || operation.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('.'));
    if is("http.server") || is("websocket.server") || is("grpc.server") || is("rpc.server") {
        SpanKind::Server
    } else if is("http.client") || is("grpc.client") || is("rpc.client") || is("db") || is("cache") || is("http") {
        SpanKind::Client
    } else if is("queue.publish") || is("queue.submit") {
        SpanKind::Producer
    } else if is("queue.process") || is("queue.task") || is("queue.receive") {
        SpanKind::Consumer
    } else {
        SpanKind::Internal
    }
}

fn status(word: &str) -> (SpanStatus, String) {
    match word {
        "" | "unknown" => (SpanStatus::Unset, String::new()),
        "ok" => (SpanStatus::Ok, String::new()),
        other => (SpanStatus::Error, other.to_owned()),
    }
}
