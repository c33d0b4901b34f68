//! From a journal record to the model: the same code for a request that comes in and for one that is replayed.

use crate::decoded::Decoded;
use crate::erasure::ErasureRequest;
use crate::times::TimeBounds;
use br_journal::{Protocol, Record};
use br_model::{AttributeValue, Attributes, KnownSeries, LogBatch, LogKind, LogRecord, Resource, ResourceLogs, Scope};
use br_std::Nanos;
use br_wire::otlp::{self, Encoding, MetricOptions};
use br_wire::{
    Cuts, EnrichPolicy, Limits, Result, WireError, decompress, elastic, enrich, jaeger, journald, loki, ndjson, remote_write,
    sentry, syslog, zipkin,
};

/// Where a record's context says what was looked for in its lines: read back, it becomes what it was.
const ENRICH: &str = "enrich";

/// What a request may bring.
#[derive(Clone, Debug, Default)]
pub struct DecodeLimits {
    pub wire: Limits,
    pub times: TimeBounds,
    /// What is looked for in the log lines of requests that come in.
    pub enrich: EnrichPolicy,
}

impl DecodeLimits {
    /// For a body whose compression is gone already: it may be as large as one that is unpacked.
    pub(crate) fn for_unpacked(self) -> Self {
        let body_bytes_max = self.wire.body_bytes_max.max(self.wire.decoded_bytes_max);
        Self { wire: Limits { body_bytes_max, ..self.wire }, ..self }
    }

    /// Has a record that brings log lines of others remember what is looked for in them.
    pub(crate) fn remember(&self, record: &mut Record) {
        let has_lines = matches!(
            record.protocol,
            Protocol::OTLP_LOGS
                | Protocol::LOKI_PUSH
                | Protocol::ELASTIC_BULK
                | Protocol::NDJSON
                | Protocol::SYSLOG
                | Protocol::JOURNALD
        );
        // What follows files knows better.
        if has_lines && !self.enrich.is_empty() && record.context_value(ENRICH).is_none() {
            record.context.push((ENRICH.to_owned(), self.enrich.to_text()));
        }
    }
}

/// Reads a body. The good part comes with the complaints about the rest; an error means that nothing can be used.
/// What is of no time that is kept counts as wrong: the sender hears of it, instead of never finding what was acknowledged.
pub fn decode(record: &Record, limits: &DecodeLimits) -> Result<Decoded> {
    decode_with(record, limits, &mut ())
}

/// The same, without reading the labels of series that are known.
pub fn decode_with(record: &Record, limits: &DecodeLimits, directory: &mut dyn KnownSeries) -> Result<Decoded> {
    let mut decoded = decode_body(record, &limits.wire, directory)?;
    if let Some(policy) = record.context_value(ENRICH) {
        enrich(&mut decoded.logs, EnrichPolicy::of_text(policy), &limits.wire)?;
    }
    limits.times.refuse(&mut decoded, record.received);
    decoded.cuts = Cuts::of(&decoded.logs, &decoded.spans);
    Ok(decoded)
}

fn decode_body(record: &Record, limits: &Limits, directory: &mut dyn KnownSeries) -> Result<Decoded> {
    let content_type = record.context_value("content-type").unwrap_or("");
    let content_encoding = record.context_value("content-encoding").unwrap_or("");
    let received = record.received;
    let plain = || decompress::decompress_header(&record.body, content_encoding, limits);
    match record.protocol {
        Protocol::REMOTE_WRITE_1 | Protocol::REMOTE_WRITE_2 => {
            let content_type = remote_write_type(record, content_type);
            let request = remote_write::decode_with(&record.body, content_type, content_encoding, limits, directory)?;
            let mut decoded = with_complaints(request.decoded, |metrics, out| out.metrics = metrics);
            (decoded.identities, decoded.known) = (request.identities, request.known);
            Ok(decoded)
        }
        Protocol::OTLP_METRICS => {
            let encoding = Encoding::from_content_type(content_type)?;
            let decoded = otlp::decode_metrics(&plain()?, encoding, received, &MetricOptions::default(), limits)?;
            Ok(with_complaints(decoded, |metrics, out| {
                out.metrics = metrics.cumulative;
                out.delta_metrics = metrics.delta;
            }))
        }
        Protocol::OTLP_LOGS => {
            let decoded = otlp::decode_logs(&plain()?, Encoding::from_content_type(content_type)?, received, limits)?;
            Ok(with_complaints(decoded, |logs, out| out.logs = logs))
        }
        Protocol::OTLP_TRACES => {
            let decoded = otlp::decode_traces(&plain()?, Encoding::from_content_type(content_type)?, received, limits)?;
            Ok(with_complaints(decoded, |spans, out| {
                out.logs = otlp::errors_of_spans(&spans);
                out.spans = spans;
            }))
        }
        Protocol::ZIPKIN_2 => {
            let decoded = zipkin::decode(&plain()?, content_type, received, limits)?;
            Ok(with_complaints(decoded, |spans, out| out.spans = spans))
        }
        Protocol::JAEGER_THRIFT => {
            let decoded = jaeger::decode_thrift(&plain()?, content_type, received, limits)?;
            Ok(with_complaints(decoded, |spans, out| {
                out.logs = otlp::errors_of_spans(&spans);
                out.spans = spans;
            }))
        }
        Protocol::LOKI_PUSH => {
            let decoded = loki::decode(&record.body, content_type, content_encoding, received, limits)?;
            Ok(with_complaints(decoded, |logs, out| out.logs = logs))
        }
        Protocol::ELASTIC_BULK => {
            let decoded = elastic::decode(&plain()?, record.context_value("index").unwrap_or(""), received, limits)?;
            Ok(with_complaints(decoded, |bulk, out| (out.logs, out.items) = (bulk.logs, Some(bulk.items))))
        }
        Protocol::NDJSON | Protocol::SYSLOG | Protocol::JOURNALD => {
            let decoded = lines(record, &plain()?, limits)?;
            Ok(with_complaints(decoded, |logs, out| out.logs = logs))
        }
        Protocol::SENTRY_ENVELOPE | Protocol::SENTRY_STORE => {
            let decoded = match record.protocol {
                Protocol::SENTRY_STORE => sentry::decode_store(&plain()?, sentry_context(record), limits)?,
                _ => sentry::decode_envelope(&plain()?, sentry_context(record), limits)?,
            };
            Ok(with_complaints(decoded, |batch, out| from_sentry(batch, received, out)))
        }
        Protocol::DELETE_SERIES | Protocol::ERASE_EVENTS => told(record),
        other => Err(WireError::Unsupported(format!("protocol {} is not known to this version", other.0))),
    }
}

/// What an administrator told the stores.
fn told(record: &Record) -> Result<Decoded> {
    let wrong = |error: br_std::Error| WireError::Malformed(error.message().to_owned());
    if record.protocol == Protocol::DELETE_SERIES {
        let deletion = br_tsdb::Deletion::decode(&record.body).map_err(wrong)?;
        return Ok(Decoded { deletion: Some(deletion), ..Decoded::default() });
    }
    let erasure = ErasureRequest::decode(&record.body).and_then(|request| request.compile()).map_err(wrong)?;
    Ok(Decoded { erasure: Some(erasure), ..Decoded::default() })
}

/// What ships lines, entries or messages one behind the other.
fn lines(record: &Record, body: &[u8], limits: &Limits) -> Result<br_wire::Decoded<LogBatch>> {
    let context = |name| record.context_value(name).unwrap_or("");
    match record.protocol {
        Protocol::NDJSON => {
            let fields = ndjson::Fields {
                time: context("time-field"),
                message: context("message-field"),
                stream: context("stream-fields"),
            };
            ndjson::decode(body, fields, record.received, limits)
        }
        Protocol::SYSLOG => syslog::decode(body, context("zone"), record.received, limits),
        _ => journald::decode(body, record.received, limits),
    }
}

/// Clients leave the content type out; the route has told the version apart already.
pub(crate) fn remote_write_type<'a>(record: &Record, content_type: &'a str) -> &'a str {
    match (content_type, record.protocol) {
        ("", Protocol::REMOTE_WRITE_2) => "application/x-protobuf;proto=io.prometheus.write.v2.Request",
        ("", _) => "application/x-protobuf",
        _ => content_type,
    }
}

fn with_complaints<T>(decoded: br_wire::Decoded<T>, fill: impl FnOnce(T, &mut Decoded)) -> Decoded {
    let mut out = Decoded { rejected: decoded.rejected, rejected_count: decoded.rejected_count as u64, ..Decoded::default() };
    fill(decoded.value, &mut out);
    out
}

/// A Sentry SDK does not say which service it is in, unless a tag or the release does.
fn sentry_context(record: &Record) -> sentry::Context<'_> {
    sentry::Context { service: record.context_value("service").unwrap_or("unknown_service"), received: record.received }
}

/// Items that nothing here reads are kept as records, as they came, and counted by type.
fn from_sentry(batch: sentry::SentryBatch, received: Nanos, out: &mut Decoded) {
    out.logs = batch.logs;
    out.spans = batch.spans;
    out.unknown_items = batch.others.iter().map(|item| item.item_type.clone()).collect();
    if !batch.others.is_empty() {
        let records = batch.others.into_iter().map(|item| kept(item, received)).collect();
        let mut resource = Resource::default();
        resource.attributes.push("service.name", "sentry");
        out.logs.groups.push(ResourceLogs { resource: resource.into(), scope: Scope::default().into(), records });
    }
}

/// The payload as text where it is text, else as hexadecimal digits.
fn kept(item: sentry::UnknownItem, received: Nanos) -> LogRecord {
    let mut attributes = Attributes::default();
    attributes.push("sentry.item.type", item.item_type);
    attributes.push("sentry.item.header", item.header);
    let body = String::from_utf8(item.payload).unwrap_or_else(|error| AttributeValue::Bytes(error.into_bytes()).to_string());
    LogRecord { timestamp: received, observed: received, kind: LogKind::Event, body, attributes, ..LogRecord::default() }
}
