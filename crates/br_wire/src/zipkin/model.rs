//! From a span of Zipkin's to one of ours, whichever encoding it came in.

use crate::amount::Room;
use crate::{DROPPED_KEY, Decoded, Limits, Result};
use br_model::{
    AttributeValue, Attributes, Resource, ResourceSpans, Scope, Span, SpanBatch, SpanEvent, SpanId, SpanKind, SpanStatus, TraceId,
};
use br_std::Nanos;
use std::collections::HashMap;
use std::sync::Arc;

/// Attributes that stand for fields of Zipkin's which spans here do not have.
pub(super) const SHARED: &str = "zipkin.shared";
pub(super) const DEBUG: &str = "zipkin.debug";
/// OpenTelemetry's name for it.
pub(super) const NO_START: &str = "otel.zipkin.absentField.startTime";

/// An endpoint as attributes.
pub(super) struct EndpointKeys {
    pub(super) address: &'static str,
    /// Where an endpoint has addresses of both kinds.
    pub(super) second_address: &'static str,
    pub(super) port: &'static str,
}

pub(super) const LOCAL: EndpointKeys =
    EndpointKeys { address: "network.local.address", second_address: "zipkin.local.ipv6", port: "network.local.port" };
pub(super) const REMOTE: EndpointKeys =
    EndpointKeys { address: "network.peer.address", second_address: "zipkin.remote.ipv6", port: "network.peer.port" };
pub(super) const PEER_SERVICE: &str = "peer.service";
pub(super) const ERROR: &str = "error";
pub(super) const SCOPE_NAME: &str = "otel.scope.name";
pub(super) const SCOPE_VERSION: &str = "otel.scope.version";

#[derive(Debug, Default)]
pub(super) struct Endpoint {
    pub(super) service: String,
    pub(super) ipv4: String,
    pub(super) ipv6: String,
    pub(super) port: u16,
}

/// What both encodings say.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    pub(super) trace_id: TraceId,
    pub(super) span_id: SpanId,
    pub(super) parent_span_id: SpanId,
    pub(super) kind: SpanKind,
    pub(super) name: String,
    /// `None` when it is not told.
    pub(super) start: Option<Nanos>,
    pub(super) duration_nanos: i64,
    pub(super) local: Endpoint,
    pub(super) remote: Endpoint,
    /// With the time where it is told.
    pub(super) annotations: Vec<(Option<Nanos>, String)>,
    pub(super) tags: Vec<(String, String)>,
    /// Tags and annotations beyond those that are kept.
    pub(super) dropped_parts: usize,
    pub(super) debug: bool,
    pub(super) shared: bool,
}

/// A time in microseconds; 0 is not told, as in Zipkin's own code.
pub(super) fn micros(number: u64, what: &str) -> Result<Option<Nanos>, String> {
    let nanos = i64::try_from(number).ok().and_then(|number| number.checked_mul(1000));
    let nanos = nanos.ok_or_else(|| format!("{what} {number} is no time in microseconds before the year 2262"))?;
    Ok((nanos != 0).then_some(Nanos(nanos)))
}

/// The spans of a body as they are read.
pub(super) struct List<'a> {
    pub(super) limits: &'a Limits,
    /// Of each span its place in the body.
    spans: Vec<Parsed>,
    decoded: Decoded<SpanBatch>,
    room: Room,
    /// Tags and annotations, of which a span has few on average.
    parts: Room,
    index: usize,
}

const PARTS_PER_SPAN: usize = 16;

impl<'a> List<'a> {
    pub(super) fn new(limits: &'a Limits) -> Self {
        let room = Room::new(limits.records_max, "spans");
        let parts = Room::new(limits.records_max.saturating_mul(PARTS_PER_SPAN), "tags and annotations");
        Self { limits, spans: Vec::new(), decoded: Decoded::default(), room, parts, index: 0 }
    }

    /// The next span of the body, or what is wrong with it.
    pub(super) fn add(&mut self, span: Result<Parsed, String>) -> Result<()> {
        self.room.take(1)?;
        match span {
            Ok(span) => {
                self.parts.take(span.tags.len() + span.annotations.len())?;
                self.spans.push(span);
            }
            Err(reason) => self.decoded.reject(self.index, 1, format!("span: {reason}")),
        }
        self.index += 1;
        Ok(())
    }

    pub(super) fn finish(self, received: Nanos) -> Decoded<SpanBatch> {
        let mut decoded = self.decoded;
        let mut begins: HashMap<TraceId, Nanos> = HashMap::new();
        for span in &self.spans {
            if let Some(start) = span.start {
                let begin = begins.entry(span.trace_id).or_insert(start);
                *begin = start.min(*begin);
            }
        }
        let mut places: HashMap<Origin, usize> = HashMap::new();
        for parsed in self.spans {
            let begin = begins.get(&parsed.trace_id).copied().unwrap_or(received);
            let (origin, span) = span(parsed, begin);
            let groups = &mut decoded.value.groups;
            let at = *places.entry(origin).or_insert_with_key(|origin| {
                groups.push(origin.group());
                groups.len() - 1
            });
            groups[at].spans.push(span);
        }
        decoded
    }
}

/// Spans of one origin make a group.
#[derive(PartialEq, Eq, Hash)]
struct Origin {
    service: String,
    scope_name: String,
    scope_version: String,
}

impl Origin {
    fn group(&self) -> ResourceSpans {
        let mut attributes = Attributes::default();
        if !self.service.is_empty() {
            attributes.push("service.name", self.service.as_str());
        }
        let scope =
            Scope { name: self.scope_name.clone(), version: self.scope_version.clone(), attributes: Attributes::default() };
        ResourceSpans { resource: Arc::new(Resource { attributes }), scope: Arc::new(scope), spans: Vec::new() }
    }
}

fn span(parsed: Parsed, begin: Nanos) -> (Origin, Span) {
    let start = parsed.start.unwrap_or(begin);
    let (mut scope_name, mut scope_version) = (String::new(), String::new());
    let (mut status, mut status_message) = (SpanStatus::Unset, String::new());
    let mut attributes = marks(&parsed);
    for (key, value) in parsed.tags {
        match key.as_str() {
            SCOPE_NAME | "otel.library.name" if scope_name.is_empty() => {
                scope_name = value;
                continue;
            }
            SCOPE_VERSION | "otel.library.version" if scope_version.is_empty() => {
                scope_version = value;
                continue;
            }
            // Some say so of what went well.
            ERROR if value != "false" => {
                status = SpanStatus::Error;
                if value != "true" {
                    status_message.clone_from(&value);
                }
            }
            "otel.status_code" if value == "OK" && status == SpanStatus::Unset => status = SpanStatus::Ok,
            _ => {}
        }
        attributes.push(key, value);
    }
    let event = |(told, name): (Option<Nanos>, String)| SpanEvent {
        timestamp: told.unwrap_or(start),
        name,
        attributes: Attributes::default(),
    };
    let span = Span {
        trace_id: parsed.trace_id,
        span_id: parsed.span_id,
        parent_span_id: parsed.parent_span_id,
        name: parsed.name,
        kind: parsed.kind,
        start,
        end: Nanos(start.0.saturating_add(parsed.duration_nanos)),
        status,
        status_message,
        attributes,
        events: parsed.annotations.into_iter().map(event).collect(),
        ..Span::default()
    };
    (Origin { service: parsed.local.service, scope_name, scope_version }, span)
}

/// What stands for Zipkin's own fields. It comes before the tags, whose end is what is cut of a span with many. What a tag says as
/// well, the tag says.
fn marks(parsed: &Parsed) -> Attributes {
    let mut attributes = Attributes::default();
    let mut put = |key: &str, value: AttributeValue| {
        if !parsed.tags.iter().any(|(tag, _)| tag == key) {
            attributes.push(key, value);
        }
    };
    let mut put_text = |key: &str, text: &str| {
        if !text.is_empty() {
            put(key, text.into());
        }
    };
    put_text(PEER_SERVICE, &parsed.remote.service);
    for (endpoint, keys) in [(&parsed.remote, &REMOTE), (&parsed.local, &LOCAL)] {
        let (first, second) =
            if endpoint.ipv4.is_empty() { (&endpoint.ipv6, "") } else { (&endpoint.ipv4, endpoint.ipv6.as_str()) };
        put_text(keys.address, first);
        put_text(keys.second_address, second);
    }
    for (endpoint, keys) in [(&parsed.remote, &REMOTE), (&parsed.local, &LOCAL)] {
        if endpoint.port != 0 {
            put(keys.port, AttributeValue::Int(endpoint.port.into()));
        }
    }
    for (key, is_set) in [(SHARED, parsed.shared), (DEBUG, parsed.debug), (NO_START, parsed.start.is_none())] {
        if is_set {
            put(key, true.into());
        }
    }
    if parsed.dropped_parts > 0 {
        put(DROPPED_KEY, AttributeValue::Int(parsed.dropped_parts as i64));
    }
    attributes
}
