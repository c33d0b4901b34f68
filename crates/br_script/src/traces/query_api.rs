//! Answers of Jaeger's query service. What they say is stored, and must be answered again.

use super::Checks;
use super::otlp::decode;
use super::stand::{check, trace_ids, written};
use br_model::{Resource, ResourceSpans, Scope, Span, SpanBatch, SpanId, SpanKind, SpanStatus, TraceId};
use br_std::Nanos;
use br_storage::{Budget, TimeRange};
use br_wire::jaeger;
use br_wire::otlp::Encoding;
use serde_json::{Value, json};
use std::sync::Arc;

/// OTLP as Jaeger's version 1 shows it.
pub(super) fn transformed(input: &[u8], expect: &Value, checks: &mut Checks) -> Result<(), String> {
    let batches = [decode(input, Encoding::Json)?];
    check(&batches, checks, |place, checks| {
        let mut data = Vec::new();
        for id in trace_ids(&batches) {
            data.push(written(&place.trace(id)?, jaeger::write_trace)?);
        }
        checks.equal(&format!("data in {}", place.name), &Value::Array(data), &expect["data"]);
        Ok(())
    })
}

/// Traces of version 3.
pub(super) fn traces(expect: &Value, checks: &mut Checks) -> Result<(), String> {
    let batches = [decode(expect["result"].to_string().as_bytes(), Encoding::Json)?];
    check(&batches, checks, |place, checks| {
        let (ids, stored) = (place.find("{}", TimeRange::ALL, 10)?, trace_ids(&batches));
        let wrong = (ids.len() != stored.len()).then(|| format!("{} of {}", ids.len(), stored.len()));
        checks.add(&format!("traces found in {}", place.name), wrong);
        for id in ids {
            let found = written(&place.trace(id)?, |out, views| {
                out.write_all(br#"{"result":{"resourceSpans":["#)?;
                jaeger::write_resource_spans(out, views)?;
                out.write_all(b"]}}")
            })?;
            checks.equal(&format!("result in {}", place.name), &found, expect);
        }
        Ok(())
    })
}

fn number(value: &Value) -> i64 {
    value.as_i64().or_else(|| value.as_str()?.parse().ok()).unwrap_or(0)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn of_service(name: &str, spans: Vec<Span>) -> ResourceSpans {
    let resource = Arc::new(Resource { attributes: [("service.name", name)].into_iter().collect() });
    ResourceSpans { resource, scope: Arc::<Scope>::default(), spans }
}

/// Traces that have what their summaries say.
pub(super) fn summaries(expect: &Value, checks: &mut Checks) -> Result<(), String> {
    let summaries = expect["summaries"].as_array().ok_or("no summaries")?;
    let mut batch = SpanBatch::default();
    for summary in summaries {
        let trace_id = TraceId::from_hex(&text(&summary["traceId"])).ok_or("no trace id")?;
        let (start, end) = (number(&summary["minStartTimeUnixNano"]), number(&summary["maxEndTimeUnixNano"]));
        let root = text(&summary["rootServiceName"]);
        let mut next = 2_u64;
        for service in summary["services"].as_array().ok_or("no services")? {
            let (name, errors) = (text(&service["name"]), number(&service["errorSpanCount"]));
            let spans = (0..number(&service["spanCount"])).map(|at| {
                let is_root = name == root && at == 0;
                let span_id = SpanId((if is_root { 1 } else { next }).to_be_bytes());
                next += 1;
                Span {
                    trace_id,
                    span_id,
                    parent_span_id: if is_root { SpanId::default() } else { SpanId(1_u64.to_be_bytes()) },
                    name: if is_root { text(&summary["rootOperationName"]) } else { "other".to_owned() },
                    start: Nanos(start),
                    end: Nanos(end),
                    status: if at < errors { SpanStatus::Error } else { SpanStatus::Unset },
                    ..Span::default()
                }
            });
            batch.groups.push(of_service(&name, spans.collect()));
        }
    }
    let batches = [batch];
    check(&batches, checks, |place, checks| {
        let mut found = Vec::new();
        for id in place.find("{}", TimeRange::ALL, 10)? {
            found.push(written(&place.trace(id)?, jaeger::write_summary)?);
        }
        checks.equal(&format!("summaries in {}", place.name), &json!({ "summaries": found }), expect);
        Ok(())
    })
}

/// Services, or names of spans.
pub(super) fn names(expect: &Value, checks: &mut Checks) -> Result<(), String> {
    let span = |name: String, kind: SpanKind, id: u8| Span {
        trace_id: TraceId([id; 16]),
        span_id: SpanId([id; 8]),
        name,
        kind,
        start: Nanos::from_secs(1),
        end: Nanos::from_secs(2),
        ..Span::default()
    };
    let list = |key: &str| expect[key].as_array().cloned().unwrap_or_default();
    let (services, operations) = (list("services"), list("operations"));
    let mut batch = SpanBatch::default();
    for service in &services {
        batch.groups.push(of_service(&text(service), vec![span("any".to_owned(), SpanKind::Server, 1)]));
    }
    let kind = |operation: &Value| match operation["spanKind"].as_str() {
        Some("server") => SpanKind::Server,
        Some("client") => SpanKind::Client,
        _ => SpanKind::Unspecified,
    };
    let spans = operations.iter().map(|operation| span(text(&operation["name"]), kind(operation), 2)).collect();
    if !operations.is_empty() {
        batch.groups.push(of_service("one", spans));
    }
    check(&[batch], checks, |place, checks| {
        let budget = Budget::unlimited();
        let told = |error: br_std::Error| error.to_string();
        if operations.is_empty() {
            let found = place.source.services(TimeRange::ALL, &budget).map_err(told)?;
            checks.equal(&format!("services in {}", place.name), &json!({ "services": found }), expect);
            return Ok(());
        }
        let found = place.source.operations("one", TimeRange::ALL, &budget).map_err(told)?;
        let names: Vec<Value> = operations.iter().map(|operation| operation["name"].clone()).collect();
        checks.equal(&format!("operations in {}", place.name), &json!(found), &Value::Array(names));
        for operation in &operations {
            let query = format!("{{ name = {} && kind = {} }}", operation["name"], text(&operation["spanKind"]));
            let found = place.find(&query, TimeRange::ALL, 10)?;
            checks.add(&format!("{query} in {}", place.name), found.is_empty().then(|| "nothing was found".to_owned()));
        }
        Ok(())
    })
}
