//! Spans in Jaeger's model: as its storage has them, and as its older clients send them.

use super::queries::time;
use super::stand::{check, written};
use super::{Checks, thrift};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use br_model::{
    AttributeValue, Attributes, Resource, ResourceSpans, Scope, Span, SpanBatch, SpanEvent, SpanId, SpanLink, TraceId,
};
use br_std::Nanos;
use br_wire::{Limits, jaeger};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Each span comes out in version 1 with the types, references and logs that it has.
pub(super) fn run(value: &Value, checks: &mut Checks) -> Result<(), String> {
    let spans = value["spans"].as_array().ok_or("no spans")?;
    let mut batch = SpanBatch::default();
    let mut expected: BTreeMap<TraceId, Vec<Value>> = BTreeMap::new();
    for span in spans {
        // A batch of a client has one process for all of its spans.
        let process = span.get("process").or_else(|| value.get("process")).unwrap_or(&Value::Null);
        let read = read(span)?;
        expected.entry(read.trace_id).or_default().push(shown(span, process)?);
        let mut attributes = Attributes::default();
        attributes.push("service.name", process["serviceName"].as_str().unwrap_or_default());
        attributes.0.extend(tags(&process["tags"])?.0);
        let resource = Arc::new(Resource { attributes });
        batch.groups.push(ResourceSpans { resource, scope: Arc::<Scope>::default(), spans: vec![read] });
    }
    // What a client sends goes the way that it takes.
    if value.get("process").is_some() {
        let decoded = jaeger::decode_thrift(&thrift::batch(value)?, "application/x-thrift", Nanos(1), &Limits::default());
        let decoded = decoded.map_err(|error| error.to_string())?;
        checks.add("nothing is refused", (decoded.rejected_count > 0).then(|| decoded.message()));
        batch = decoded.value;
    }
    check(&[batch], checks, |place, checks| {
        for (id, expect) in &expected {
            let trace = written(&place.trace(*id)?, jaeger::write_trace)?;
            let found = trace["spans"].as_array().cloned().unwrap_or_default();
            let found = found.into_iter().map(|span| with_process(span, &trace["processes"])).collect();
            checks.equal(&format!("trace {id} in {}", place.name), &ordered(found), &ordered(expect.clone()));
        }
        Ok(())
    })
}

fn with_process(mut span: Value, processes: &Value) -> Value {
    span["process"] = processes[span["processID"].as_str().unwrap_or_default()].clone();
    if let Some(map) = span.as_object_mut() {
        map.retain(|key, _| !matches!(key.as_str(), "processID" | "warnings"));
    }
    span
}

/// Neither spans nor tags have an order.
fn ordered(mut spans: Vec<Value>) -> Value {
    let order = |tags: Option<&mut Value>| {
        if let Some(Value::Array(tags)) = tags {
            tags.sort_by_cached_key(ToString::to_string);
        }
    };
    for span in &mut spans {
        order(span.get_mut("tags"));
        order(span.pointer_mut("/process/tags"));
        for log in span["logs"].as_array_mut().into_iter().flatten() {
            order(log.get_mut("fields"));
        }
    }
    spans.sort_by_cached_key(ToString::to_string);
    Value::Array(spans)
}

/// An id in base64, or as a number.
fn id_bytes(value: &Value) -> Result<Vec<u8>, String> {
    match value {
        Value::String(text) => STANDARD.decode(text).map_err(|error| format!("{text}: {error}")),
        _ => value.as_i64().map(|number| number.to_be_bytes().to_vec()).ok_or_else(|| format!("{value} is no id")),
    }
}

fn trace_id(value: &Value) -> Result<TraceId, String> {
    let mut bytes = id_bytes(value.get("traceId").or_else(|| value.get("traceIdLow")).unwrap_or(&Value::Null))?;
    if bytes.len() == 8 {
        bytes = [vec![0; 8], bytes].concat();
    }
    Ok(TraceId::from_bytes(&bytes))
}

fn span_id(value: &Value) -> Result<SpanId, String> {
    Ok(SpanId::from_bytes(&id_bytes(value)?))
}

/// Kind, trace and span, the parent first.
fn references(span: &Value) -> Result<Vec<(String, TraceId, SpanId)>, String> {
    let mut found = Vec::new();
    for reference in span["references"].as_array().into_iter().flatten() {
        let kind = reference["refType"].as_str().unwrap_or_default().to_owned();
        found.push((kind, trace_id(reference)?, span_id(&reference["spanId"])?));
    }
    if let Some(parent) = span.get("parentSpanId")
        && number(parent) != Some(0)
    {
        let (trace, parent) = (trace_id(span)?, span_id(parent)?);
        if !found.iter().any(|(_, known_trace, known)| (*known_trace, *known) == (trace, parent)) {
            found.insert(0, ("CHILD_OF".to_owned(), trace, parent));
        }
    }
    Ok(found)
}

fn number(value: &Value) -> Option<i64> {
    value.as_i64()
}

fn start(value: &Value) -> Result<Nanos, String> {
    match value {
        Value::String(text) => time(text),
        _ => number(value).map(|micros| Nanos(micros * 1000)).ok_or_else(|| format!("{value} is no time")),
    }
}

fn duration(value: &Value) -> Result<i64, String> {
    match value {
        Value::String(text) => text.trim_end_matches("ns").parse().map_err(|_| format!("{text:?} is no duration")),
        _ => Ok(number(value).unwrap_or(0) * 1000),
    }
}

fn tags(value: &Value) -> Result<Attributes, String> {
    let mut attributes = Attributes::default();
    for tag in value.as_array().into_iter().flatten() {
        let key = tag["key"].as_str().unwrap_or_default();
        let value = match tag["vType"].as_str().unwrap_or("STRING") {
            "STRING" => AttributeValue::from(tag["vStr"].as_str().unwrap_or_default()),
            "BOOL" => AttributeValue::Bool(tag["vBool"].as_bool().unwrap_or(false)),
            "INT64" => AttributeValue::Int(number(&tag["vInt64"]).unwrap_or(0)),
            "LONG" => AttributeValue::Int(number(&tag["vLong"]).unwrap_or(0)),
            "FLOAT64" => AttributeValue::Double(tag["vFloat64"].as_f64().unwrap_or(0.0)),
            "DOUBLE" => AttributeValue::Double(tag["vDouble"].as_f64().unwrap_or(0.0)),
            "BINARY" => {
                let text = tag["vBinary"].as_str().unwrap_or_default();
                AttributeValue::Bytes(STANDARD.decode(text).map_err(|error| error.to_string())?)
            }
            other => return Err(format!("tag type {other:?} is not known")),
        };
        attributes.push(key, value);
    }
    Ok(attributes)
}

fn read(span: &Value) -> Result<Span, String> {
    let (trace_id, start) = (trace_id(span)?, start(&span["startTime"])?);
    let mut out = Span {
        trace_id,
        span_id: span_id(&span["spanId"])?,
        name: span["operationName"].as_str().unwrap_or_default().to_owned(),
        start,
        end: Nanos(start.0 + duration(&span["duration"])?),
        attributes: tags(&span["tags"])?,
        ..Span::default()
    };
    for (kind, trace, id) in references(span)? {
        if kind == "CHILD_OF" && trace == trace_id && out.parent_span_id.is_none() {
            out.parent_span_id = id;
            continue;
        }
        let attributes = [("opentracing.ref_type", kind.to_lowercase())].into_iter().collect();
        out.links.push(SpanLink { trace_id: trace, span_id: id, attributes });
    }
    for log in span["logs"].as_array().into_iter().flatten() {
        let (timestamp, attributes) = (self::start(&log["timestamp"])?, tags(&log["fields"])?);
        out.events.push(SpanEvent { timestamp, name: String::new(), attributes });
    }
    Ok(out)
}

/// The same in the form of version 1, by the fixture's own words.
fn shown(span: &Value, process: &Value) -> Result<Value, String> {
    let mut logs = Vec::new();
    for log in span["logs"].as_array().into_iter().flatten() {
        logs.push(json!({ "timestamp": start(&log["timestamp"])?.0 / 1000, "fields": shown_tags(&log["fields"]) }));
    }
    let short = |id: TraceId| id.to_string().trim_start_matches("0000000000000000").to_owned();
    let references: Vec<Value> = references(span)?
        .into_iter()
        .map(|(kind, trace, id)| json!({ "refType": kind, "traceID": short(trace), "spanID": id.to_string() }))
        .collect();
    Ok(json!({
        "traceID": short(trace_id(span)?),
        "spanID": span_id(&span["spanId"])?.to_string(),
        "operationName": span["operationName"],
        "references": references,
        "startTime": start(&span["startTime"])?.0 / 1000,
        "duration": duration(&span["duration"])? / 1000,
        "tags": shown_tags(&span["tags"]),
        "logs": logs,
        "process": { "serviceName": process["serviceName"], "tags": shown_tags(&process["tags"]) },
    }))
}

fn shown_tags(tags: &Value) -> Value {
    let shown = |tag: &Value| {
        let (kind, field) = match tag["vType"].as_str().unwrap_or("STRING") {
            "BOOL" => ("bool", "vBool"),
            "INT64" => ("int64", "vInt64"),
            "LONG" => ("int64", "vLong"),
            "FLOAT64" => ("float64", "vFloat64"),
            "DOUBLE" => ("float64", "vDouble"),
            "BINARY" => ("binary", "vBinary"),
            _ => ("string", "vStr"),
        };
        let value = if kind == "float64" { json!(tag[field].as_f64()) } else { tag[field].clone() };
        json!({ "key": tag["key"], "type": kind, "value": value })
    };
    tags.as_array().into_iter().flatten().map(shown).collect()
}
