//! Loki's push API: streams of log lines, as JSON or as protobuf under snappy.
//!
//! Sources: Grafana Loki "HTTP API: Ingest logs", `pkg/push/push.proto` (logproto.PushRequest).

mod labels;

pub use labels::parse_labels;

use crate::amount::{Memory, Room};
use crate::decompress::{Encoding, decompress};
use crate::protobuf::Reader;
use crate::{Decoded, Limits, Result, WireError, severity};
use br_model::{Attributes, LogBatch, LogRecord, Resource, ResourceLogs, Severity, SpanId, TraceId};
use br_std::Nanos;
use serde_json::Value;
use std::sync::Arc;

/// Reads a push as it came. JSON may be compressed with what its header says; protobuf is always under snappy.
pub fn decode(
    body: &[u8],
    content_type: &str,
    content_encoding: &str,
    received: Nanos,
    limits: &Limits,
) -> Result<Decoded<LogBatch>> {
    let media_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match media_type.as_str() {
        "application/json" => decode_json(&decompress(body, Encoding::from_header(content_encoding)?, limits)?, received, limits),
        "application/x-protobuf" | "" => decode_protobuf(&decompress(body, Encoding::Snappy, limits)?, received, limits),
        _ => Err(WireError::Unsupported(format!(
            "content type {content_type:?} is not a Loki push; send application/json or application/x-protobuf"
        ))),
    }
}

/// Reads the uncompressed JSON form. Streams and entries that make no sense are rejected one by one.
pub fn decode_json(body: &[u8], received: Nanos, limits: &Limits) -> Result<Decoded<LogBatch>> {
    crate::amount::check_json(body, limits)?;
    let value: Value = serde_json::from_slice(body).map_err(|error| WireError::Malformed(format!("Loki push: {error}")))?;
    let streams = value.get("streams").and_then(Value::as_array);
    let streams = streams.ok_or_else(|| WireError::malformed("Loki push: no list \"streams\""))?;
    let mut push = Push::new(received, limits);
    for stream in streams {
        let entries = stream.get("values").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        push.room.take(entries.len())?;
        let labels = json_labels(stream.get("stream")).and_then(|labels| push.resource(labels));
        let parsed = entries.iter().map(json_entry);
        push.stream(labels, parsed);
    }
    Ok(push.decoded)
}

/// Reads the uncompressed protobuf form.
pub fn decode_protobuf(message: &[u8], received: Nanos, limits: &Limits) -> Result<Decoded<LogBatch>> {
    let mut push = Push::new(received, limits);
    let mut reader = Reader::new(message);
    while let Some((number, field)) = reader.next()? {
        if number == 1 {
            stream(field.bytes()?, &mut push)?;
        }
    }
    Ok(push.decoded)
}

fn stream(message: &[u8], push: &mut Push<'_>) -> Result<()> {
    let mut labels = "";
    let mut entries = Vec::new();
    let mut reader = Reader::new(message);
    while let Some((number, field)) = reader.next()? {
        match number {
            1 => labels = field.text()?,
            2 => {
                push.room.take(1)?;
                push.memory.take(ENTRY_BYTES)?;
                entries.push(entry(field.bytes()?, &mut push.memory)?);
            }
            _ => {}
        }
    }
    let labels = parse_labels(labels).and_then(|labels| push.resource(labels));
    push.stream(labels, entries.into_iter());
    Ok(())
}

/// A line with its time and structured metadata.
struct Entry {
    timestamp: Nanos,
    line: String,
    metadata: Vec<(String, String)>,
}

struct Push<'a> {
    decoded: Decoded<LogBatch>,
    received: Nanos,
    limits: &'a Limits,
    /// Entries so far.
    index: usize,
    room: Room,
    /// For the protobuf form: JSON is weighed as a whole.
    memory: Memory,
}

/// What a line and a pair of its metadata take, as they are read and then in the model, without their texts.
const ENTRY_BYTES: usize = 400;
const PAIR_BYTES: usize = 160;

/// Pairs of one line that are read at all.
const METADATA_READ_MAX: usize = 4096;

impl<'a> Push<'a> {
    fn new(received: Nanos, limits: &'a Limits) -> Self {
        let room = Room::new(limits.records_max, "log lines");
        Self { decoded: Decoded::new(LogBatch::default()), received, limits, index: 0, room, memory: Memory::new(limits) }
    }

    /// The labels of a stream are the attributes of its resource.
    fn resource(&self, labels: Vec<(String, String)>) -> Result<Resource, String> {
        if labels.is_empty() {
            return Err("a stream needs one label at least".into());
        }
        if labels.len() > self.limits.labels_max {
            return Err(format!("a stream with {} labels, at most {} are taken", labels.len(), self.limits.labels_max));
        }
        for (name, value) in &labels {
            if name.len() > self.limits.label_name_bytes_max || value.len() > self.limits.label_value_bytes_max {
                let shown: String = name.chars().take(64).collect();
                return Err(format!("label {shown:?} is too long ({} and {} bytes)", name.len(), value.len()));
            }
        }
        Ok(with_service_name(labels))
    }

    fn stream(&mut self, resource: Result<Resource, String>, entries: impl ExactSizeIterator<Item = Result<Entry, String>>) {
        let count = entries.len();
        let resource = match resource {
            Ok(resource) => resource,
            Err(reason) => {
                self.decoded.reject(self.index, count.max(1), reason);
                self.index += count;
                return;
            }
        };
        let mut records = Vec::with_capacity(count);
        for entry in entries {
            match entry {
                Ok(entry) => records.push(self.record(entry, &resource)),
                Err(reason) => self.decoded.reject(self.index, 1, reason),
            }
            self.index += 1;
        }
        if !records.is_empty() {
            self.decoded.value.groups.push(ResourceLogs { resource: Arc::new(resource), scope: Arc::default(), records });
        }
    }

    fn record(&self, entry: Entry, resource: &Resource) -> LogRecord {
        let mut record =
            LogRecord { timestamp: entry.timestamp, observed: self.received, body: entry.line, ..LogRecord::default() };
        for (key, value) in entry.metadata {
            match key.as_str() {
                "trace_id" | "traceID" | "traceId" if record.trace_id.is_none() => match TraceId::from_hex(&value) {
                    Some(id) => record.trace_id = id,
                    None => record.attributes.push(key, value),
                },
                "span_id" | "spanID" | "spanId" if record.span_id.is_none() => match SpanId::from_hex(&value) {
                    Some(id) => record.span_id = id,
                    None => record.attributes.push(key, value),
                },
                _ => record.attributes.push(key, value),
            }
        }
        if let Some(level) = told_level(&record, resource) {
            record.severity = Severity::from_text(&level);
            record.severity_text = level;
        } else if let Some(found) = severity::of_line(&record.body) {
            (record.severity, record.severity_text) = (found.severity, found.text);
        }
        crate::marks::finish(&mut record, self.limits);
        record
    }
}

/// Where a stream has no `service_name`, Loki takes it from the first of these.
const SERVICE_LABELS: [&str; 12] = [
    "service",
    "app",
    "application",
    "app_name",
    "name",
    "app_kubernetes_io_name",
    "container",
    "container_name",
    "k8s_container_name",
    "component",
    "workload",
    "job",
];

fn with_service_name(labels: Vec<(String, String)>) -> Resource {
    let value_of = |name: &str| labels.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone());
    let service = value_of("service_name").or_else(|| SERVICE_LABELS.iter().find_map(|name| value_of(name)));
    let mut attributes = Attributes::default();
    if let Some(service) = service {
        attributes.push("service.name", service);
    }
    let rest = labels.into_iter().filter(|(name, _)| name != "service_name");
    rest.for_each(|(name, value)| attributes.push(name, value));
    Resource { attributes }
}

const LEVEL_KEYS: [&str; 4] = ["level", "detected_level", "severity", "severity_text"];

/// The level from structured metadata or from a label.
fn told_level(record: &LogRecord, resource: &Resource) -> Option<String> {
    let mut told =
        LEVEL_KEYS.iter().filter_map(|key| record.attributes.get_str(key).or_else(|| resource.attributes.get_str(key)));
    told.next().map(str::to_owned)
}

fn json_labels(stream: Option<&Value>) -> Result<Vec<(String, String)>, String> {
    match stream {
        Some(Value::Object(map)) => map
            .iter()
            .map(|(name, value)| match value.as_str() {
                Some(_) if !labels::is_label_name(name) => Err(format!("{name:?} is not a label name")),
                Some(value) => Ok((name.clone(), value.to_owned())),
                None => Err(format!("label {name:?}: the value must be a string")),
            })
            .collect(),
        // What very old clients sent under `labels`.
        Some(Value::String(text)) => parse_labels(text),
        _ => Err("a stream without its labels (\"stream\")".into()),
    }
}

/// `["1700000000000000000", "line", {"key": "value"}]`
fn json_entry(value: &Value) -> Result<Entry, String> {
    let parts = value.as_array().map(Vec::as_slice).unwrap_or_default();
    let ([time, line] | [time, line, _]) = parts else {
        return Err("an entry must be [time, line] or [time, line, metadata]".into());
    };
    let timestamp = match time {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.as_i64(),
        _ => None,
    };
    let timestamp = timestamp.map(Nanos).ok_or_else(|| format!("{time} is not a time in nanoseconds"))?;
    let line = line.as_str().ok_or("the line must be a string")?.to_owned();
    let metadata = match parts.get(2) {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Object(map)) => map.iter().map(|(key, value)| (key.clone(), crate::json::text(value))).collect(),
        Some(_) => return Err("the structured metadata must be an object".into()),
    };
    Ok(Entry { timestamp, line, metadata })
}

fn entry(message: &[u8], memory: &mut Memory) -> Result<Result<Entry, String>> {
    let mut timestamp = Some(Nanos(0));
    let (mut line, mut metadata) = (Some(""), Vec::new());
    let mut room = Room::new(METADATA_READ_MAX, "pairs of structured metadata of a line");
    let mut reader = Reader::new(message);
    while let Some((number, field)) = reader.next()? {
        match number {
            1 => timestamp = self::timestamp(field.bytes()?)?,
            2 => line = std::str::from_utf8(field.bytes()?).ok(),
            3 => {
                room.take(1)?;
                memory.take(PAIR_BYTES)?;
                metadata.push(pair(field.bytes()?)?);
            }
            _ => {}
        }
    }
    let Some(timestamp) = timestamp else { return Ok(Err("the time is out of range".into())) };
    let Some(line) = line else { return Ok(Err("the line is not valid UTF-8".into())) };
    Ok(Ok(Entry { timestamp, line: line.to_owned(), metadata }))
}

/// A `google.protobuf.Timestamp`; `None` when it lies outside what nanoseconds in 64 bits hold.
fn timestamp(message: &[u8]) -> Result<Option<Nanos>> {
    let (mut seconds, mut nanos) = (0i64, 0i64);
    let mut reader = Reader::new(message);
    while let Some((number, field)) = reader.next()? {
        match number {
            1 => seconds = field.i64()?,
            2 => nanos = field.i64()?,
            _ => {}
        }
    }
    Ok(seconds.checked_mul(1_000_000_000).and_then(|whole| whole.checked_add(nanos)).map(Nanos))
}

fn pair(message: &[u8]) -> Result<(String, String)> {
    let (mut name, mut value) = ("", "");
    let mut reader = Reader::new(message);
    while let Some((number, field)) = reader.next()? {
        match number {
            1 => name = field.text()?,
            2 => value = field.text()?,
            _ => {}
        }
    }
    Ok((name.to_owned(), value.to_owned()))
}
