//! A JSON document of a log shipper: nested objects become dotted keys, what a record has a field for goes there, and what tells
//! the sender goes into its resource. Names of the Elastic Common Schema and of Fluent Bit become OpenTelemetry's.
//!
//! Sources: "ECS Field Reference" 8, OpenTelemetry semantic conventions, Fluent Bit's filter `kubernetes`.

use crate::amount::Memory;
use crate::json::{attribute_value, text, time};
use crate::json_line::{self, Names};
use crate::{Limits, Result, marks, severity};
use br_model::{Attributes, LogBatch, LogRecord, Resource, ResourceLogs, Severity};
use br_std::Nanos;
use serde_json::{Map, Value};
use std::sync::Arc;

/// What one kind of documents looks like.
pub(crate) struct Shape<'a> {
    /// Where the time is, first match first.
    pub(crate) time: &'a [&'a str],
    /// Those of them that make the document wrong where they are there and cannot be read.
    pub(crate) strict_time: &'a [&'a str],
    /// Where the message is, first match first.
    pub(crate) body: &'a [&'a str],
    /// The keys that tell the sender; without any the known ones do.
    pub(crate) stream: &'a [&'a str],
}

/// What is wrong with a document: which field, or where in the text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub(crate) field: Option<String>,
    pub(crate) reason: String,
}

impl Wrong {
    fn of_line(reason: impl ToString) -> Self {
        Self { field: None, reason: reason.to_string() }
    }
}

/// Adds a record, beside the one before it where that is of the same sender.
pub(crate) fn push(batch: &mut LogBatch, resource: Resource, record: LogRecord) {
    match batch.groups.last_mut() {
        Some(group) if *group.resource == resource => group.records.push(record),
        _ => batch.groups.push(ResourceLogs { resource: Arc::new(resource), scope: Arc::default(), records: vec![record] }),
    }
}

/// What holds one field of a flat document, beside its text.
const FIELD_BYTES: usize = 96;
/// A nested object that would make more fields than this stays one value; one that has more by itself becomes its text.
const FLAT_FIELDS_MAX: usize = 1024;
/// Of a record without its fields.
const RECORD_BYTES: usize = 400;

/// Reads one document. The outer error is that of the whole body.
pub(crate) fn read(
    line: &[u8],
    shape: &Shape<'_>,
    received: Nanos,
    memory: &mut Memory,
    limits: &Limits,
) -> Result<Result<(Resource, LogRecord), Wrong>> {
    let line = match std::str::from_utf8(line) {
        Ok(line) => line.trim(),
        Err(error) => return Ok(Err(Wrong::of_line(format!("not valid UTF-8 behind byte {}", error.valid_up_to())))),
    };
    if !line.starts_with('{') {
        let shown: String = line.chars().take(40).collect();
        return Ok(Err(Wrong::of_line(format!("no JSON object: {shown:?}"))));
    }
    memory.take(RECORD_BYTES)?;
    let map = match json_line::object(line) {
        Ok(map) => flat(map, memory, limits)?,
        Err(error) => return Ok(Err(Wrong::of_line(format!("no JSON object: {error}")))),
    };
    Ok(document(map, line, shape, received, limits))
}

fn document(
    mut map: Map<String, Value>,
    line: &str,
    shape: &Shape<'_>,
    received: Nanos,
    limits: &Limits,
) -> Result<(Resource, LogRecord), Wrong> {
    let told = shape.strict_time.iter().find_map(|key| map.get(*key).filter(|value| !value.is_null()).map(|value| (*key, value)));
    if let Some((key, value)) = told
        && time(value).is_none()
    {
        let shown: String = text(value).chars().take(64).collect();
        let reason = format!("field [{key}]: {shown:?} is no time");
        return Err(Wrong { field: Some(key.to_owned()), reason });
    }
    rename(&mut map);
    let resource = resource(&mut map, shape.stream);
    let mut record = json_line::record(map, line, &Names { time: shape.time, body: shape.body }, received);
    if is_error(&record.attributes) {
        crate::otlp::error_of_log(&mut record, &resource);
    }
    if record.severity == Severity::UNSPECIFIED
        && record.severity_text.is_empty()
        && let Some(found) = severity::of_line(&record.body)
    {
        (record.severity, record.severity_text) = (found.severity, found.text);
    }
    marks::finish(&mut record, limits);
    Ok((resource, record))
}

/// Filebeat says in the same fields that a line is not the JSON that it was told to expect: that is no error of the service.
fn is_error(attributes: &Attributes) -> bool {
    let of_shipper = attributes.get_str("exception.type") == Some("json") && attributes.get("exception.stacktrace").is_none();
    !of_shipper
}

/// Nested objects as dotted keys; of a key that is there twice the first counts.
pub(crate) fn flat(map: Map<String, Value>, memory: &mut Memory, limits: &Limits) -> Result<Map<String, Value>> {
    memory.take(map.len() * FIELD_BYTES)?;
    if !map.values().any(Value::is_object) {
        return Ok(map);
    }
    let mut out = Map::new();
    put_flat(&mut out, "", map, limits.depth_max, memory, limits)?;
    Ok(out)
}

fn put_flat(
    out: &mut Map<String, Value>,
    prefix: &str,
    map: Map<String, Value>,
    depth_left: usize,
    memory: &mut Memory,
    limits: &Limits,
) -> Result<()> {
    for (key, value) in map {
        // Each key below has this in front: that a few bytes become many is counted before it is so.
        memory.take(prefix.len() + FIELD_BYTES)?;
        let key = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
        match value {
            Value::Object(inner)
                if depth_left > 0
                    && !inner.is_empty()
                    && out.len() + inner.len() <= FLAT_FIELDS_MAX
                    && key.len() <= limits.label_name_bytes_max =>
            {
                put_flat(out, &key, inner, depth_left - 1, memory, limits)?;
            }
            value => {
                let is_large = match &value {
                    Value::Object(inner) => inner.len() > FLAT_FIELDS_MAX,
                    Value::Array(values) => values.len() > FLAT_FIELDS_MAX,
                    _ => false,
                };
                let value = if is_large { Value::String(value.to_string()) } else { value };
                out.entry(key).or_insert(value);
            }
        }
    }
    Ok(())
}

/// Names with their equals in OpenTelemetry.
const RENAMED: [(&str, &str); 34] = [
    ("cloud.instance.id", "host.id"),
    ("cloud.machine.type", "host.type"),
    ("container.image.tag", "container.image.tags"),
    ("error.message", "exception.message"),
    ("error.stack_trace", "exception.stacktrace"),
    ("error.type", "exception.type"),
    ("host", "host.name"),
    ("host.architecture", "host.arch"),
    ("host.os.full", "os.description"),
    ("host.os.name", "os.name"),
    ("host.os.type", "os.type"),
    ("host.os.version", "os.version"),
    ("hostname", "host.name"),
    ("kubernetes.container.name", "k8s.container.name"),
    ("kubernetes.container_name", "k8s.container.name"),
    ("kubernetes.deployment.name", "k8s.deployment.name"),
    ("kubernetes.host", "k8s.node.name"),
    ("kubernetes.namespace", "k8s.namespace.name"),
    ("kubernetes.namespace_name", "k8s.namespace.name"),
    ("kubernetes.node.name", "k8s.node.name"),
    ("kubernetes.pod.name", "k8s.pod.name"),
    ("kubernetes.pod.uid", "k8s.pod.uid"),
    ("kubernetes.pod_id", "k8s.pod.uid"),
    ("kubernetes.pod_name", "k8s.pod.name"),
    ("kubernetes.statefulset.name", "k8s.statefulset.name"),
    ("log.origin.file.line", "code.line.number"),
    ("log.origin.file.name", "code.file.path"),
    ("log.origin.function", "code.function.name"),
    ("orchestrator.cluster.name", "k8s.cluster.name"),
    ("process.thread.id", "thread.id"),
    ("process.thread.name", "thread.name"),
    ("service.environment", "deployment.environment.name"),
    ("service.node.name", "service.instance.id"),
    ("service_name", "service.name"),
];

fn rename(map: &mut Map<String, Value>) {
    for (from, to) in RENAMED {
        if !map.contains_key(to)
            && let Some(value) = map.remove(from)
        {
            map.insert(to.to_owned(), value);
        }
    }
}

/// What tells the sender: these keys, and all below these.
const SENDER_KEYS: [&str; 2] = ["deployment.environment", "deployment.environment.name"];
const SENDER_PREFIXES: [&str; 7] = ["service.", "host.", "container.", "k8s.", "cloud.", "os.", "telemetry."];

/// Where a document has no `service.name`, the first of these that is a text names the service.
const SERVICE_KEYS: [&str; 13] = [
    "service",
    "app",
    "application",
    "app_name",
    "kubernetes.labels.app.kubernetes.io/name",
    "kubernetes.labels.app_kubernetes_io/name",
    "kubernetes.labels.app",
    "k8s.container.name",
    "container.name",
    "container_name",
    "data_stream.dataset",
    "event.dataset",
    "process.name",
];

fn resource(map: &mut Map<String, Value>, stream: &[&str]) -> Resource {
    let service = map.get("service.name").filter(|name| name.is_string());
    let service = service.or_else(|| SERVICE_KEYS.iter().find_map(|key| map.get(*key).filter(|value| value.is_string())));
    let mut attributes = Attributes::default();
    if let Some(Value::String(name)) = service {
        attributes.push("service.name", name.clone());
    }
    let is_of_sender = |key: &str| {
        if stream.is_empty() {
            SENDER_KEYS.contains(&key) || SENDER_PREFIXES.iter().any(|prefix| key.starts_with(prefix))
        } else {
            key == "service.name" || stream.contains(&key)
        }
    };
    let keys: Vec<String> = map.keys().filter(|key| is_of_sender(key)).cloned().collect();
    for key in keys {
        if let Some(value) = map.remove(&key).filter(|_| key != "service.name") {
            attributes.push(key, attribute_value(value));
        }
    }
    Resource { attributes }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape<'_> =
        Shape { time: &["@timestamp"], strict_time: &["@timestamp"], body: &["message", "log"], stream: &[] };

    fn read_with(line: &str, shape: &Shape<'_>, limits: &Limits) -> Result<Result<(Resource, LogRecord), Wrong>> {
        read(line.as_bytes(), shape, Nanos(7), &mut Memory::new(limits), limits)
    }

    fn shown(attributes: &Attributes) -> Vec<String> {
        attributes.iter().map(|(key, value)| format!("{key}={value}")).collect()
    }

    #[test]
    fn the_common_schema_becomes_opentelemetry() {
        let line = r#"{"@timestamp": "2026-01-02T10:00:00.5Z", "message": "no stock", "log": {"level": "error", "logger": "shop"},
            "service": {"name": "shop", "version": "1.2", "environment": "prod"}, "host": {"name": "web-1", "os": {"type": "linux"}},
            "trace": {"id": "0af7651916cd43dd8448eb211c80319c"}, "span.id": "b7ad6b7169203331", "labels": {"tenant": 7},
            "error": {"type": "shop.NoStock", "message": "sku 7"}, "http": {"response": {"status_code": 500}}}"#;
        let (resource, record) = read_with(line, &SHAPE, &Limits::default()).expect("small").expect("a document");
        let sender =
            ["service.name=shop", "deployment.environment.name=prod", "host.name=web-1", "os.type=linux", "service.version=1.2"];
        assert_eq!(shown(&resource.attributes), sender);
        let own = [
            "exception.message=sku 7",
            "exception.type=shop.NoStock",
            "http.response.status_code=500",
            "labels.tenant=7",
            "log.logger=shop",
        ];
        assert_eq!(shown(&record.attributes), own);
        assert_eq!((record.body.as_str(), record.severity), ("no stock", Severity::ERROR));
        assert_eq!(record.timestamp, Nanos(1_767_348_000_500_000_000));
        assert_eq!(record.trace_id.to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(record.error.map(|error| error.title()).as_deref(), Some("NoStock: sku 7"));
    }

    #[test]
    fn what_shippers_add_names_the_service() {
        let check = |line: &str, service: &str, body: &str| {
            let (resource, record) = read_with(line, &SHAPE, &Limits::default()).expect("small").expect("a document");
            assert_eq!((resource.service_name(), record.body.as_str()), (service, body), "{line}");
            assert_eq!((record.timestamp, record.error.is_some()), (Nanos(7), false), "{line}");
        };
        check(r#"{"log": "x", "kubernetes": {"pod_name": "a-1", "labels": {"app": "a"}, "container_name": "c"}}"#, "a", "x");
        check(r#"{"message": "x", "service": "cart", "host": "h"}"#, "cart", "x");
        check(r#"{"a": 1}"#, "unknown_service", r#"{"a": 1}"#);
        check(r#"{"message": "{", "error": {"message": "Error decoding JSON", "type": "json"}}"#, "unknown_service", "{");
    }

    #[test]
    fn a_stream_is_what_its_keys_say() {
        let shape = Shape { stream: &["app", "host.name"], ..SHAPE };
        let line = r#"{"message": "x", "app": "a", "host": {"name": "h", "id": "i"}}"#;
        let (resource, record) = read_with(line, &shape, &Limits::default()).expect("small").expect("a document");
        assert_eq!(shown(&resource.attributes), ["service.name=a", "app=a", "host.name=h"]);
        assert_eq!(shown(&record.attributes), ["host.id=i"]);
    }

    #[test]
    fn what_is_wrong_is_told() {
        let wrong = |line: &str| read_with(line, &SHAPE, &Limits::default()).expect("small").expect_err(line);
        assert!(wrong(r#"{"a": }"#).reason.contains("line 1 column 7"), "{:?}", wrong(r#"{"a": }"#));
        assert!(wrong("[1]").reason.contains("no JSON object"));
        let error = wrong(r#"{"@timestamp": "soon"}"#);
        assert_eq!((error.field.as_deref(), error.reason.contains("\"soon\"")), (Some("@timestamp"), true));
        let line = [&b"{\"a\": \"\xff"[..], b"\"}"].concat();
        let limits = Limits::default();
        let error = read(&line, &SHAPE, Nanos(7), &mut Memory::new(&limits), &limits).expect("small").expect_err("not UTF-8");
        assert!(error.reason.contains("byte 7"), "{error:?}");
    }

    #[test]
    fn long_keys_above_many_fields_are_counted() {
        let fields: Vec<String> = (0..1000).map(|at| format!("\"{at}\": 1")).collect();
        let line = format!("{{\"{}\": {{{}}}}}", "k".repeat(500), fields.join(","));
        let limits = Limits { memory_bytes_max: 200 << 10, ..Limits::default() };
        assert!(read_with(&line, &SHAPE, &limits).is_err());
        let (_, record) = read_with(&line, &SHAPE, &Limits::default()).expect("room").expect("a document");
        assert_eq!(record.attributes.len(), 128);
        let fields: Vec<String> = (0..1025).map(|at| format!("\"{at}\": 1")).collect();
        let (_, large) =
            read_with(&format!("{{\"k\": {{{}}}}}", fields.join(",")), &SHAPE, &Limits::default()).expect("room").expect("one");
        assert!(
            large.attributes.get_str("k").is_some_and(|text| text.starts_with("{\"0\":1")),
            "{:?}",
            large.attributes.get("k")
        );
        assert_eq!(record.attributes.get("bellrock.dropped_attributes").map(ToString::to_string).as_deref(), Some("873"));
    }
}
