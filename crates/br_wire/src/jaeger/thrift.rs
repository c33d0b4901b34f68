//! What Jaeger's older clients send: a batch of spans in Thrift's binary protocol.
//!
//! Sources: jaegertracing/jaeger-idl `jaeger.thrift`; Apache Thrift, "Thrift Binary protocol encoding". What becomes of tags is what
//! OpenTelemetry's "OpenTelemetry to Jaeger Transformation" says the other way round.

use super::v1::REFERENCE_TYPE;
use crate::amount::Room;
use crate::{DROPPED_KEY, Decoded, Limits, Result, WireError};
use br_model::{
    AttributeValue, Attributes, Resource, ResourceSpans, Scope, Span, SpanBatch, SpanEvent, SpanId, SpanKind, SpanLink,
    SpanStatus, TraceId,
};
use br_std::Nanos;
use std::collections::HashMap;
use std::sync::Arc;

/// Reads a decompressed `Batch`. A span without ids is rejected; `received` stands in for a start that is not told.
pub fn decode_thrift(body: &[u8], content_type: &str, received: Nanos, limits: &Limits) -> Result<Decoded<SpanBatch>> {
    let media_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if !matches!(media_type.as_str(), "application/x-thrift" | "application/vnd.apache.thrift.binary" | "") {
        return Err(WireError::Unsupported(format!(
            "content type {content_type:?} is not a batch of Jaeger's; send application/vnd.apache.thrift.binary, or OTLP to /v1/traces"
        )));
    }
    let mut batch = Batch {
        decoded: Decoded::default(),
        resource: Resource::default(),
        spans: Vec::new(),
        room: Room::new(limits.records_max, "spans"),
        parts: Room::new(limits.records_max.saturating_mul(PARTS_PER_SPAN), "tags, references and log fields"),
        dropped_parts: 0,
        received,
        limits,
    };
    let mut reader = Reader { rest: body, length: body.len() };
    while let Some((kind, id)) = reader.field()? {
        match (id, kind) {
            (1, STRUCT) => batch.process(&mut reader)?,
            (2, LIST) => batch.spans(&mut reader)?,
            _ => reader.skip(kind, 0)?,
        }
    }
    Ok(batch.finish())
}

const PARTS_PER_SPAN: usize = 16;

// Types on the wire.
const BOOL: u8 = 2;
const BYTE: u8 = 3;
const DOUBLE: u8 = 4;
const I16: u8 = 6;
const I32: u8 = 8;
const I64: u8 = 10;
const BINARY: u8 = 11;
const STRUCT: u8 = 12;
const MAP: u8 = 13;
const SET: u8 = 14;
const LIST: u8 = 15;

struct Reader<'a> {
    rest: &'a [u8],
    length: usize,
}

impl<'a> Reader<'a> {
    fn wrong(&self, what: &str) -> WireError {
        WireError::Malformed(format!("Jaeger thrift: byte {}: {what}", self.length - self.rest.len()))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let Some((bytes, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(self.wrong("the batch ends inside a value"));
        };
        self.rest = rest;
        Ok(*bytes)
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    fn i32(&mut self) -> Result<i32> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    fn i64(&mut self) -> Result<i64> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    fn bytes(&mut self) -> Result<&'a [u8]> {
        let length = self.i32()?;
        let split = usize::try_from(length).ok().and_then(|length| self.rest.split_at_checked(length));
        let Some((bytes, rest)) = split else { return Err(self.wrong("a text is longer than the batch")) };
        self.rest = rest;
        Ok(bytes)
    }

    fn text(&mut self) -> Result<String> {
        Ok(String::from_utf8_lossy(self.bytes()?).into_owned())
    }

    /// Type and number of the next field; `None` at the end of the struct.
    fn field(&mut self) -> Result<Option<(u8, i16)>> {
        match self.byte()? {
            0 => Ok(None),
            kind => Ok(Some((kind, i16::from_be_bytes(self.array()?)))),
        }
    }

    /// How many items of `kind` follow.
    fn list(&mut self, kind: u8) -> Result<usize> {
        let (found, count) = (self.byte()?, self.i32()?);
        // Each takes a byte at least.
        let count = usize::try_from(count).ok().filter(|count| *count <= self.rest.len());
        let count = count.ok_or_else(|| self.wrong("a list is longer than the batch"))?;
        if found != kind && count > 0 {
            return Err(self.wrong(&format!("a list of type {found}, where {kind} is wanted")));
        }
        Ok(count)
    }

    fn skip(&mut self, kind: u8, depth: usize) -> Result<()> {
        const DEPTH_MAX: usize = 16;
        if depth > DEPTH_MAX {
            return Err(self.wrong("nested too deep"));
        }
        match kind {
            BOOL | BYTE => _ = self.array::<1>()?,
            I16 => _ = self.array::<2>()?,
            I32 => _ = self.array::<4>()?,
            DOUBLE | I64 => _ = self.array::<8>()?,
            BINARY => _ = self.bytes()?,
            STRUCT => {
                while let Some((kind, _)) = self.field()? {
                    self.skip(kind, depth + 1)?;
                }
            }
            MAP => {
                let (key, value, count) = (self.byte()?, self.byte()?, self.i32()?);
                for _ in 0..count {
                    self.skip(key, depth + 1)?;
                    self.skip(value, depth + 1)?;
                }
            }
            SET | LIST => {
                let (item, count) = (self.byte()?, self.i32()?);
                for _ in 0..count {
                    self.skip(item, depth + 1)?;
                }
            }
            other => return Err(self.wrong(&format!("type {other} is not known"))),
        }
        Ok(())
    }
}

struct Batch<'l> {
    decoded: Decoded<SpanBatch>,
    resource: Resource,
    spans: Vec<(Origin, Span)>,
    room: Room,
    parts: Room,
    /// Parts that were left out so far.
    dropped_parts: usize,
    received: Nanos,
    limits: &'l Limits,
}

/// Name and version of a scope.
type Origin = (String, String);

/// A span as it is on the wire.
#[derive(Default)]
struct Raw {
    trace: (i64, i64),
    id: i64,
    parent: i64,
    name: String,
    references: Vec<(i32, TraceId, SpanId)>,
    start_micros: i64,
    duration_micros: i64,
    tags: Attributes,
    logs: Vec<SpanEvent>,
    /// Of the span, its logs included, beyond what is kept.
    dropped_parts: usize,
}

fn trace_id((low, high): (i64, i64)) -> TraceId {
    TraceId((u128::from(high.cast_unsigned()) << 64 | u128::from(low.cast_unsigned())).to_be_bytes())
}

fn span_id(id: i64) -> SpanId {
    SpanId(id.to_be_bytes())
}

impl Batch<'_> {
    fn process(&mut self, reader: &mut Reader<'_>) -> Result<()> {
        let (mut service, mut tags) = (String::new(), Attributes::default());
        let dropped_before = self.dropped_parts;
        while let Some((kind, id)) = reader.field()? {
            match (id, kind) {
                (1, BINARY) => service = reader.text()?,
                (2, LIST) => tags = self.tags(reader)?,
                _ => reader.skip(kind, 0)?,
            }
        }
        let mut attributes = Attributes::default();
        if !service.is_empty() {
            attributes.push("service.name", service);
        }
        put_dropped(&mut attributes, self.dropped_parts - dropped_before);
        attributes.0.extend(tags.0);
        self.resource = Resource { attributes };
        Ok(())
    }

    fn spans(&mut self, reader: &mut Reader<'_>) -> Result<()> {
        for index in 0..reader.list(STRUCT)? {
            self.room.take(1)?;
            let raw = self.raw(reader).map_err(|error| error.context(format!("span[{index}]")))?;
            match span(raw, self.received) {
                Ok(span) => self.spans.push(span),
                Err(reason) => self.decoded.reject(index, 1, reason),
            }
        }
        Ok(())
    }

    fn raw(&mut self, reader: &mut Reader<'_>) -> Result<Raw> {
        let mut raw = Raw::default();
        let dropped_before = self.dropped_parts;
        while let Some((kind, id)) = reader.field()? {
            match (id, kind) {
                (1, I64) => raw.trace.0 = reader.i64()?,
                (2, I64) => raw.trace.1 = reader.i64()?,
                (3, I64) => raw.id = reader.i64()?,
                (4, I64) => raw.parent = reader.i64()?,
                (5, BINARY) => raw.name = reader.text()?,
                (6, LIST) => {
                    for _ in 0..reader.list(STRUCT)? {
                        self.parts.take(1)?;
                        let reference = reference(reader)?;
                        if raw.references.len() < self.limits.attributes_max {
                            raw.references.push(reference);
                        } else {
                            self.dropped_parts += 1;
                        }
                    }
                }
                (8, I64) => raw.start_micros = reader.i64()?,
                (9, I64) => raw.duration_micros = reader.i64()?,
                (10, LIST) => raw.tags = self.tags(reader)?,
                (11, LIST) => {
                    for _ in 0..reader.list(STRUCT)? {
                        self.parts.take(1)?;
                        let log = self.log(reader)?;
                        if raw.logs.len() < self.limits.attributes_max {
                            raw.logs.push(log);
                        } else {
                            self.dropped_parts += 1;
                        }
                    }
                }
                _ => reader.skip(kind, 0)?,
            }
        }
        raw.dropped_parts = self.dropped_parts - dropped_before;
        Ok(raw)
    }

    fn log(&mut self, reader: &mut Reader<'_>) -> Result<SpanEvent> {
        let mut event = SpanEvent::default();
        while let Some((kind, id)) = reader.field()? {
            match (id, kind) {
                (1, I64) => event.timestamp = Nanos(reader.i64()?.saturating_mul(1000)),
                (2, LIST) => event.attributes = self.tags(reader)?,
                _ => reader.skip(kind, 0)?,
            }
        }
        if let Some(at) = event.attributes.0.iter().position(|(key, value)| key == "event" && value.as_str().is_some()) {
            event.attributes.0.remove(at).1.as_str().unwrap_or_default().clone_into(&mut event.name);
        }
        Ok(event)
    }

    fn tags(&mut self, reader: &mut Reader<'_>) -> Result<Attributes> {
        let mut tags = Attributes::default();
        for _ in 0..reader.list(STRUCT)? {
            self.parts.take(1)?;
            let (key, value) = tag(reader)?;
            if key.is_empty() {
                continue;
            }
            if tags.len() < self.limits.attributes_max {
                tags.push(key, value);
            } else {
                self.dropped_parts += 1;
            }
        }
        Ok(tags)
    }

    /// The process may come behind its spans.
    fn finish(self) -> Decoded<SpanBatch> {
        let mut decoded = self.decoded;
        let resource = Arc::new(self.resource);
        let mut places: HashMap<Origin, usize> = HashMap::new();
        for (origin, span) in self.spans {
            let groups = &mut decoded.value.groups;
            let at = *places.entry(origin).or_insert_with_key(|(name, version)| {
                let scope = Scope { name: name.clone(), version: version.clone(), attributes: Attributes::default() };
                groups.push(ResourceSpans { resource: resource.clone(), scope: Arc::new(scope), spans: Vec::new() });
                groups.len() - 1
            });
            groups[at].spans.push(span);
        }
        decoded
    }
}

/// In front of the tags: the end of them is what is cut of a span with many.
fn put_dropped(attributes: &mut Attributes, parts: usize) {
    if parts > 0 {
        attributes.push(DROPPED_KEY, AttributeValue::Int(parts as i64));
    }
}

fn reference(reader: &mut Reader<'_>) -> Result<(i32, TraceId, SpanId)> {
    let (mut reference_type, mut trace, mut id_of_span) = (0, (0, 0), 0);
    while let Some((kind, id)) = reader.field()? {
        match (id, kind) {
            (1, I32) => reference_type = reader.i32()?,
            (2, I64) => trace.0 = reader.i64()?,
            (3, I64) => trace.1 = reader.i64()?,
            (4, I64) => id_of_span = reader.i64()?,
            _ => reader.skip(kind, 0)?,
        }
    }
    Ok((reference_type, trace_id(trace), span_id(id_of_span)))
}

fn tag(reader: &mut Reader<'_>) -> Result<(String, AttributeValue)> {
    let (mut key, mut tag_type) = (String::new(), 0);
    let (mut text, mut double, mut boolean, mut long, mut binary): (&[u8], f64, bool, i64, &[u8]) = (&[], 0.0, false, 0, &[]);
    while let Some((kind, id)) = reader.field()? {
        match (id, kind) {
            (1, BINARY) => key = reader.text()?,
            (2, I32) => tag_type = reader.i32()?,
            (3, BINARY) => text = reader.bytes()?,
            (4, DOUBLE) => double = f64::from_be_bytes(reader.array()?),
            (5, BOOL) => boolean = reader.byte()? != 0,
            (6, I64) => long = reader.i64()?,
            (7, BINARY) => binary = reader.bytes()?,
            _ => reader.skip(kind, 0)?,
        }
    }
    let value = match tag_type {
        0 => AttributeValue::String(String::from_utf8_lossy(text).into_owned()),
        1 => AttributeValue::Double(double),
        2 => AttributeValue::Bool(boolean),
        3 => AttributeValue::Int(long),
        4 => AttributeValue::Bytes(binary.to_vec()),
        _ => AttributeValue::Empty,
    };
    Ok((key, value))
}

fn span(raw: Raw, received: Nanos) -> Result<(Origin, Span), String> {
    let mut span = Span { trace_id: trace_id(raw.trace), span_id: span_id(raw.id), name: raw.name, ..Span::default() };
    if span.trace_id.is_none() || span.span_id.is_none() {
        return Err(format!("span {:?}: traceId and spanId must not be zero", span.name));
    }
    let nanos = |micros: i64, what: &str| {
        let nanos = micros.checked_mul(1000).filter(|nanos| *nanos >= 0);
        nanos.ok_or_else(|| format!("span {:?}: {what} {micros} is no number of microseconds before 2262", span.name))
    };
    let (start, duration) = (nanos(raw.start_micros, "startTime")?, nanos(raw.duration_micros, "duration")?);
    span.start = if start == 0 { received } else { Nanos(start) };
    span.end = Nanos(span.start.0.saturating_add(duration));
    span.parent_span_id = span_id(raw.parent);
    for (reference_type, trace, id) in raw.references {
        // Some clients leave a reference empty.
        if trace.is_none() || id.is_none() {
            continue;
        }
        let is_child = reference_type == 0;
        if is_child && trace == span.trace_id && (span.parent_span_id.is_none() || span.parent_span_id == id) {
            span.parent_span_id = id;
            continue;
        }
        let kind = if is_child { "child_of" } else { "follows_from" };
        let attributes = [(REFERENCE_TYPE, kind)].into_iter().collect();
        span.links.push(SpanLink { trace_id: trace, span_id: id, attributes });
    }
    if span.parent_span_id.is_none() {
        let follows = span.links.iter().find(|link| link.trace_id == span.trace_id);
        span.parent_span_id = follows.map(|link| link.span_id).unwrap_or_default();
    }
    span.events = raw.logs;
    for event in span.events.iter_mut().filter(|event| event.timestamp.0 <= 0) {
        event.timestamp = span.start;
    }
    let mut origin = Origin::default();
    put_dropped(&mut span.attributes, raw.dropped_parts);
    for (key, value) in raw.tags.0 {
        if !is_field(&mut span, &mut origin, &key, &value) {
            span.attributes.0.push((key, value));
        }
    }
    Ok((origin, span))
}

/// Takes a tag that spans here have a field for.
fn is_field(span: &mut Span, origin: &mut Origin, key: &str, value: &AttributeValue) -> bool {
    const FIELDS: [&str; 9] = [
        "span.kind",
        "error",
        "otel.status_code",
        "otel.status_description",
        "otel.scope.name",
        "otel.library.name",
        "otel.scope.version",
        "otel.library.version",
        "w3c.tracestate",
    ];
    if !FIELDS.contains(&key) {
        return false;
    }
    let text = value.to_string();
    match (key, text.as_str()) {
        ("span.kind", "internal") => span.kind = SpanKind::Internal,
        ("span.kind", "server") => span.kind = SpanKind::Server,
        ("span.kind", "client") => span.kind = SpanKind::Client,
        ("span.kind", "producer") => span.kind = SpanKind::Producer,
        ("span.kind", "consumer") => span.kind = SpanKind::Consumer,
        ("error", "true") | ("otel.status_code", "ERROR") => span.status = SpanStatus::Error,
        ("otel.status_code", "OK") if span.status == SpanStatus::Unset => span.status = SpanStatus::Ok,
        ("otel.status_description", _) => span.status_message = text,
        ("otel.scope.name" | "otel.library.name", _) => origin.0 = text,
        ("otel.scope.version" | "otel.library.version", _) => origin.1 = text,
        ("w3c.tracestate", _) => span.trace_state = text,
        _ => return false,
    }
    true
}
