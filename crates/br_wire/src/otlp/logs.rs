//! OTLP logs.

use super::common::{
    all_attributes, nanos, resource, scope, to_wire_attributes, to_wire_nanos, to_wire_resource, to_wire_scope, to_wire_value,
    value,
};
use super::exceptions::error_of_log;
use super::{Encoding, Signal, request, with_complaints};
use crate::marks::{self, Missing};
use crate::{Decoded, Limits, Result, WireError, severity};
use br_model::{AttributeValue, LogBatch, LogKind, LogRecord, Resource, ResourceLogs, Severity, SpanId, TraceId};
use br_std::Nanos;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::logs::v1 as wire;
use prost::Message;

/// The name of an event, which OTLP keeps in a field of its own.
const EVENT_NAME_KEY: &str = "event.name";

/// Reads an `ExportLogsServiceRequest`. A record with `exception.*` attributes is an error. A record without a severity number gets
/// one by its severity text, else by its line. `received` is when it was observed where the sender does not say.
pub fn decode_logs(body: &[u8], encoding: Encoding, received: Nanos, limits: &Limits) -> Result<Decoded<LogBatch>> {
    let (message, complaints) = request(body, encoding, Signal::Logs, limits)?;
    Ok(with_complaints(logs_of(message, received, limits)?, complaints))
}

/// [`decode_logs`] for a message that gRPC has read already.
pub fn logs_of(message: ExportLogsServiceRequest, received: Nanos, limits: &Limits) -> Result<Decoded<LogBatch>> {
    let mut batch = LogBatch::default();
    let mut count = 0;
    for group in message.resource_logs {
        let resource = resource(group.resource, limits);
        for scoped in group.scope_logs {
            count += scoped.log_records.len();
            if count > limits.records_max {
                return Err(WireError::TooLarge(format!("more than {} log records in one request", limits.records_max)));
            }
            let scope = scope(scoped.scope, limits);
            let records: Vec<LogRecord> =
                scoped.log_records.into_iter().map(|record| self::record(record, &resource, received, limits)).collect();
            if !records.is_empty() {
                batch.groups.push(ResourceLogs { resource: resource.clone(), scope, records });
            }
        }
    }
    Ok(Decoded::new(batch))
}

fn record(wire: wire::LogRecord, resource: &Resource, received: Nanos, limits: &Limits) -> LogRecord {
    let observed = nanos(wire.observed_time_unix_nano).unwrap_or(received);
    let mut attributes = all_attributes(wire.attributes, limits);
    let body = match value(wire.body, limits, 0) {
        AttributeValue::Empty => String::new(),
        body => body.to_string(),
    };
    let is_event = !wire.event_name.is_empty();
    if is_event {
        attributes.push(EVENT_NAME_KEY, wire.event_name);
    }
    let mut severity = Severity(u8::try_from(wire.severity_number).ok().filter(|number| *number <= 24).unwrap_or(0));
    if severity == Severity::UNSPECIFIED {
        severity = Severity::from_text(&wire.severity_text);
    }
    let mut record = LogRecord {
        timestamp: nanos(wire.time_unix_nano).unwrap_or(observed),
        observed,
        kind: if is_event { LogKind::Event } else { LogKind::Log },
        severity,
        severity_text: wire.severity_text,
        body,
        attributes,
        trace_id: TraceId::from_bytes(&wire.trace_id),
        span_id: SpanId::from_bytes(&wire.span_id),
        error: None,
    };
    let line_bytes = marks::cut_line(&mut record.body, limits);
    error_of_log(&mut record, resource);
    infer_severity(&mut record);
    let left_out = wire.dropped_attributes_count as usize;
    marks::bound(&mut record.attributes, Missing { line_bytes, attributes: left_out, ..Missing::default() }, limits);
    record
}

/// A line whose sender gives no severity gets the one that it tells; one that tells nothing is information.
fn infer_severity(record: &mut LogRecord) {
    if record.severity != Severity::UNSPECIFIED || record.kind != LogKind::Log || record.body.is_empty() {
        return;
    }
    let found = severity::of_line(&record.body);
    if !record.severity_text.is_empty() {
        // A word of the sender's own that is not known stays.
        record.severity = found.map_or(Severity::UNSPECIFIED, |found| found.severity);
        return;
    }
    (record.severity, record.severity_text) = found.map_or((Severity::INFO, String::new()), |found| (found.severity, found.text));
}

/// Writes a batch as a protobuf `ExportLogsServiceRequest`, which [`decode_logs`] reads back. An [`br_model::ErrorEvent`]
/// travels as the `exception.*` attributes of its record.
pub fn encode_logs(batch: &LogBatch) -> Vec<u8> {
    let groups = batch.groups.iter().map(|group| wire::ResourceLogs {
        resource: Some(to_wire_resource(&group.resource)),
        scope_logs: vec![wire::ScopeLogs {
            scope: Some(to_wire_scope(&group.scope)),
            log_records: group.records.iter().map(to_wire_record).collect(),
            ..wire::ScopeLogs::default()
        }],
        ..wire::ResourceLogs::default()
    });
    ExportLogsServiceRequest { resource_logs: groups.collect() }.encode_to_vec()
}

fn to_wire_record(record: &LogRecord) -> wire::LogRecord {
    let mut attributes = record.attributes.clone();
    let event_name = match attributes.0.iter().position(|(key, _)| key == EVENT_NAME_KEY) {
        Some(at) if record.kind == LogKind::Event => attributes.0.remove(at).1.to_string(),
        _ => String::new(),
    };
    super::exceptions::add_exception_attributes(record, &mut attributes);
    let id = |bytes: &[u8], is_none| if is_none { Vec::new() } else { bytes.to_vec() };
    wire::LogRecord {
        time_unix_nano: to_wire_nanos(record.timestamp),
        observed_time_unix_nano: to_wire_nanos(record.observed),
        severity_number: i32::from(record.severity.0),
        severity_text: record.severity_text.clone(),
        body: Some(to_wire_value(&AttributeValue::String(record.body.clone()))),
        attributes: to_wire_attributes(&attributes),
        trace_id: id(&record.trace_id.0, record.trace_id.is_none()),
        span_id: id(&record.span_id.0, record.span_id.is_none()),
        event_name,
        ..wire::LogRecord::default()
    }
}
