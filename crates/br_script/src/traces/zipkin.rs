//! Fixtures of Zipkin's format 2.

use super::Checks;
use super::stand::{check, trace_ids, written};
use br_std::Nanos;
use br_storage::{Budget, TimeRange};
use br_wire::{Limits, jaeger, zipkin};
use serde_json::Value;
use std::collections::BTreeSet;

/// Each trace comes out as it went in, and its services find it.
pub(super) fn run(bytes: &[u8], value: &Value, checks: &mut Checks) -> Result<(), String> {
    let decoded = zipkin::decode(bytes, "application/json", Nanos(1), &Limits::default()).map_err(|error| error.to_string())?;
    if decoded.rejected_count > 0 {
        return Err(format!("{} refused: {}", decoded.rejected_count, decoded.message()));
    }
    let batches = [decoded.value];
    let spans: Vec<Value> = value.as_array().map_or_else(|| vec![value.clone()], Clone::clone);
    check(&batches, checks, |place, checks| {
        let services = place.source.services(TimeRange::ALL, &Budget::unlimited()).map_err(|error| error.to_string())?;
        let named = spans.iter().map(|span| span.pointer("/localEndpoint/serviceName").and_then(Value::as_str));
        let named: BTreeSet<&str> = named.map(|name| name.unwrap_or("unknown_service")).collect();
        let listed: BTreeSet<&str> = services.iter().map(String::as_str).collect();
        let wrong = (listed != named).then(|| format!("{listed:?}, not {named:?}"));
        checks.add(&format!("services in {}", place.name), wrong);
        for id in trace_ids(&batches) {
            let trace = zipkin::trace_id(id);
            let of_trace = spans.iter().filter(|span| span["traceId"].as_str().is_some_and(|text| text.ends_with(&trace)));
            let found = written(&place.trace(id)?, zipkin::write_trace)?;
            checks.equal(
                &format!("trace {trace} in {}", place.name),
                &ordered(found.as_array().cloned().unwrap_or_default()),
                &ordered(of_trace.map(normal).collect()),
            );
        }
        for service in &services {
            let found = place.find(&format!("{{ {} }}", jaeger::service_condition(service)), TimeRange::ALL, 1000)?;
            let wrong = found.is_empty().then(|| "nothing was found".to_owned());
            checks.add(&format!("service {service:?} in {}", place.name), wrong);
        }
        Ok(())
    })
}

/// Without what Zipkin takes for left out.
fn normal(span: &Value) -> Value {
    let mut span = span.clone();
    if let Some(map) = span.as_object_mut() {
        map.retain(|key, value| match value {
            Value::Null | Value::Bool(false) => false,
            Value::Object(inner) => !inner.is_empty(),
            Value::Array(inner) => !inner.is_empty(),
            Value::Number(number) => key != "duration" || number.as_u64() != Some(0),
            Value::String(_) | Value::Bool(true) => true,
        });
    }
    span
}

/// Spans have no order.
fn ordered(mut spans: Vec<Value>) -> Value {
    spans.sort_by_cached_key(|span| {
        let text = |key: &str| span[key].to_string();
        (text("id"), text("kind"), text("localEndpoint"), text("timestamp"), text("name"))
    });
    Value::Array(spans)
}
