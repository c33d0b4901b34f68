//! Items of type `log`: log records in a form close to OpenTelemetry's.

use super::{Context, SentryBatch, scope};
use crate::json::{attribute_value, string, text, time};
use crate::{Decoded, Limits};
use br_model::{AttributeValue, Attributes, LogRecord, Resource, ResourceLogs, Severity, SpanId, TraceId};
use serde_json::Value;
use std::sync::Arc;

/// Attributes that describe the sender, with their names in a resource.
const RESOURCE_KEYS: [(&str, &str); 4] = [
    ("sentry.environment", "deployment.environment.name"),
    ("server.address", "host.name"),
    ("sentry.sdk.name", "telemetry.sdk.name"),
    ("sentry.sdk.version", "telemetry.sdk.version"),
];

pub(super) fn add(item: &Value, decoded: &mut Decoded<SentryBatch>, context: Context<'_>, limits: &Limits) -> Result<(), String> {
    let records = item.get("items").and_then(Value::as_array).ok_or("no list of items")?;
    for (index, value) in records.iter().take(limits.records_max).enumerate() {
        if !value.is_object() {
            decoded.reject(index, 1, "log: no JSON object");
            continue;
        }
        let mut attributes = attributes(value);
        let resource = resource(&mut attributes, context);
        let record = record(value, attributes, context, limits);
        let groups = &mut decoded.value.logs.groups;
        match groups.last_mut().filter(|group| *group.resource == resource) {
            Some(group) => group.records.push(record),
            None => groups.push(ResourceLogs { resource: Arc::new(resource), scope: scope(), records: vec![record] }),
        }
    }
    Ok(())
}

/// `{"name": {"value": …, "type": …}}`
fn attributes(record: &Value) -> Attributes {
    let Some(Value::Object(map)) = record.get("attributes") else { return Attributes::default() };
    let pairs = map.iter().map(|(key, typed)| (key.clone(), typed.get("value").unwrap_or(typed).clone()));
    pairs.map(|(key, value)| (key, attribute_value(value))).collect()
}

fn resource(attributes: &mut Attributes, context: Context<'_>) -> Resource {
    let release = take(attributes, "sentry.release").unwrap_or_default();
    let (package, version) = release.split_once('@').unwrap_or(("", &release));
    let told = take(attributes, "service.name").unwrap_or_default();
    let service = [told.as_str(), package, context.service].into_iter().find(|name| !name.is_empty()).unwrap_or_default();
    let mut resource = Attributes::default();
    resource.push("service.name", service);
    if !version.is_empty() {
        resource.push("service.version", version);
    }
    for (from, to) in RESOURCE_KEYS {
        if let Some(value) = take(attributes, from) {
            resource.push(to, value);
        }
    }
    Resource { attributes: resource }
}

fn take(attributes: &mut Attributes, key: &str) -> Option<String> {
    let at = attributes.0.iter().position(|(name, _)| name == key)?;
    Some(attributes.0.remove(at).1.to_string())
}

fn record(value: &Value, mut attributes: Attributes, context: Context<'_>, limits: &Limits) -> LogRecord {
    let level = string(value, "level").to_owned();
    let number = match attributes.get("sentry.severity_number") {
        Some(AttributeValue::Int(number)) => u8::try_from(*number).ok().filter(|number| (1..=24).contains(number)),
        _ => None,
    };
    let number = number.or_else(|| {
        value.get("severity_number")?.as_u64().and_then(|number| u8::try_from(number).ok()).filter(|number| *number <= 24)
    });
    let span_id = take(&mut attributes, "sentry.trace.parent_span_id").unwrap_or_else(|| string(value, "span_id").to_owned());
    attributes.0.retain(|(key, _)| !matches!(key.as_str(), "sentry.severity_number" | "sentry.severity_text"));
    let mut record = LogRecord {
        timestamp: value.get("timestamp").and_then(time).unwrap_or(context.received),
        observed: context.received,
        severity: number.map_or_else(|| Severity::from_text(&level), Severity),
        severity_text: level,
        body: value.get("body").map(text).unwrap_or_default(),
        attributes,
        trace_id: TraceId::from_hex(string(value, "trace_id")).unwrap_or_default(),
        span_id: SpanId::from_hex(&span_id).unwrap_or_default(),
        ..LogRecord::default()
    };
    crate::marks::finish(&mut record, limits);
    record
}
