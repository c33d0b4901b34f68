//! OTLP traces.

use super::common::{
    all_attributes, attributes, nanos, resource, scope, to_wire_attributes, to_wire_nanos, to_wire_resource, to_wire_scope,
};
use super::{Encoding, Signal, request, with_complaints};
use crate::marks::{self, Missing};
use crate::{Decoded, Limits, Result, WireError};
use br_model::{ResourceSpans, Span, SpanBatch, SpanEvent, SpanId, SpanKind, SpanLink, SpanStatus, TraceId};
use br_std::Nanos;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1 as wire;
use prost::Message;

/// Reads an `ExportTraceServiceRequest`. A span without valid ids is rejected; `received` stands in for a start that is not told.
pub fn decode_traces(body: &[u8], encoding: Encoding, received: Nanos, limits: &Limits) -> Result<Decoded<SpanBatch>> {
    let (message, complaints) = request(body, encoding, Signal::Traces, limits)?;
    Ok(with_complaints(traces_of(message, received, limits)?, complaints))
}

/// [`decode_traces`] for a message that gRPC has read already.
pub fn traces_of(message: ExportTraceServiceRequest, received: Nanos, limits: &Limits) -> Result<Decoded<SpanBatch>> {
    let mut decoded = Decoded::new(SpanBatch::default());
    let mut index = 0;
    for group in message.resource_spans {
        let resource = resource(group.resource, limits);
        for scoped in group.scope_spans {
            let scope = scope(scoped.scope, limits);
            let mut spans = Vec::with_capacity(scoped.spans.len());
            for wire in scoped.spans {
                match span(wire, received, limits) {
                    Ok(span) => spans.push(span),
                    Err(reason) => decoded.reject(index, 1, reason),
                }
                index += 1;
            }
            if index > limits.records_max {
                return Err(WireError::TooLarge(format!("more than {} spans in one request", limits.records_max)));
            }
            if !spans.is_empty() {
                decoded.value.groups.push(ResourceSpans { resource: resource.clone(), scope, spans });
            }
        }
    }
    Ok(decoded)
}

fn span(wire: wire::Span, received: Nanos, limits: &Limits) -> Result<Span, String> {
    let (trace_id, span_id) = (TraceId::from_bytes(&wire.trace_id), SpanId::from_bytes(&wire.span_id));
    if trace_id.is_none() {
        return Err(format!(
            "span {:?}: the trace id must have 16 bytes, not all zero; it has {}",
            wire.name,
            wire.trace_id.len()
        ));
    }
    if span_id.is_none() {
        return Err(format!("span {:?}: the span id must have 8 bytes, not all zero; it has {}", wire.name, wire.span_id.len()));
    }
    let start = nanos(wire.start_time_unix_nano).or(nanos(wire.end_time_unix_nano)).unwrap_or(received);
    let status = wire.status.unwrap_or_default();
    let children_max = limits.span_children_max;
    let mut attributes = all_attributes(wire.attributes, limits);
    let missing = Missing {
        attributes: wire.dropped_attributes_count as usize,
        events: wire.dropped_events_count as usize + wire.events.len().saturating_sub(children_max),
        links: wire.dropped_links_count as usize + wire.links.len().saturating_sub(children_max),
        ..Missing::default()
    };
    marks::bound(&mut attributes, missing, limits);
    Ok(Span {
        trace_id,
        span_id,
        parent_span_id: SpanId::from_bytes(&wire.parent_span_id),
        trace_state: wire.trace_state,
        name: wire.name,
        kind: SpanKind::from_number(wire.kind),
        start,
        end: nanos(wire.end_time_unix_nano).unwrap_or(start),
        status: SpanStatus::from_number(status.code),
        status_message: status.message,
        attributes,
        events: wire.events.into_iter().take(children_max).map(|event| self::event(event, start, limits)).collect(),
        links: wire.links.into_iter().take(children_max).map(|link| self::link(link, limits)).collect(),
    })
}

fn event(wire: wire::span::Event, start: Nanos, limits: &Limits) -> SpanEvent {
    SpanEvent {
        timestamp: nanos(wire.time_unix_nano).unwrap_or(start),
        name: wire.name,
        attributes: attributes(wire.attributes, limits),
    }
}

fn link(wire: wire::span::Link, limits: &Limits) -> SpanLink {
    SpanLink {
        trace_id: TraceId::from_bytes(&wire.trace_id),
        span_id: SpanId::from_bytes(&wire.span_id),
        attributes: attributes(wire.attributes, limits),
    }
}

/// Writes a batch as a protobuf `ExportTraceServiceRequest`, which [`decode_traces`] reads back as it was.
pub fn encode_traces(batch: &SpanBatch) -> Vec<u8> {
    to_wire(batch).encode_to_vec()
}

/// A field of a protobuf message that is itself a message, encoded: for answers that wrap what is encoded already.
pub fn message_field(tag: u32, message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + 8);
    prost::encoding::encode_key(tag, prost::encoding::WireType::LengthDelimited, &mut out);
    prost::encoding::encode_varint(message.len() as u64, &mut out);
    out.extend_from_slice(message);
    out
}

/// The same as OTLP/JSON. Beside the batch a copy of it is held meanwhile.
pub fn write_traces_json(batch: &SpanBatch, out: impl std::io::Write) -> std::io::Result<()> {
    serde_json::to_writer(out, &to_wire(batch)).map_err(std::io::Error::from)
}

fn to_wire(batch: &SpanBatch) -> ExportTraceServiceRequest {
    let groups = batch.groups.iter().map(|group| wire::ResourceSpans {
        resource: Some(to_wire_resource(&group.resource)),
        scope_spans: vec![wire::ScopeSpans {
            scope: Some(to_wire_scope(&group.scope)),
            spans: group.spans.iter().map(to_wire_span).collect(),
            ..wire::ScopeSpans::default()
        }],
        ..wire::ResourceSpans::default()
    });
    ExportTraceServiceRequest { resource_spans: groups.collect() }
}

fn to_wire_span(span: &Span) -> wire::Span {
    let id = |id: SpanId| if id.is_none() { Vec::new() } else { id.0.to_vec() };
    wire::Span {
        trace_id: span.trace_id.0.to_vec(),
        span_id: span.span_id.0.to_vec(),
        parent_span_id: id(span.parent_span_id),
        trace_state: span.trace_state.clone(),
        name: span.name.clone(),
        kind: span.kind as i32,
        start_time_unix_nano: to_wire_nanos(span.start),
        end_time_unix_nano: to_wire_nanos(span.end),
        attributes: to_wire_attributes(&span.attributes),
        events: span.events.iter().map(to_wire_event).collect(),
        links: span.links.iter().map(to_wire_link).collect(),
        status: Some(wire::Status { message: span.status_message.clone(), code: span.status as i32 }),
        ..wire::Span::default()
    }
}

fn to_wire_event(event: &SpanEvent) -> wire::span::Event {
    wire::span::Event {
        time_unix_nano: to_wire_nanos(event.timestamp),
        name: event.name.clone(),
        attributes: to_wire_attributes(&event.attributes),
        ..wire::span::Event::default()
    }
}

fn to_wire_link(link: &SpanLink) -> wire::span::Link {
    wire::span::Link {
        trace_id: link.trace_id.0.to_vec(),
        span_id: link.span_id.0.to_vec(),
        attributes: to_wire_attributes(&link.attributes),
        ..wire::span::Link::default()
    }
}
