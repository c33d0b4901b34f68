//! Log records to Arrow batches and back, exactly.

use crate::attributes::{AttributesBuilder, AttributesReader, cut};
use crate::counters::EventCounters;
use crate::error_json::{decode_error, encode_error};
use crate::options::RecordLimits;
use crate::origin::{Interned, Origin, resources, scopes};
use crate::schema::{self, BODY, KIND, SEVERITY, SPAN_ID, TRACE_ID, TS, column, damaged};
use arrow::array::{
    Array, ArrayRef, FixedSizeBinaryArray, FixedSizeBinaryBuilder, RecordBatch, StringArray, StringBuilder,
    StringDictionaryBuilder, TimestampNanosecondArray, UInt8Array, UInt64Array,
};
use arrow::datatypes::Int32Type;
use br_model::{Frame, LogKind, LogRecord, Resource, Scope, Severity, SpanId, TraceId};
use br_std::{Error, Nanos, Result};
use std::borrow::Cow;
use std::sync::Arc;

pub(crate) fn kind_text(kind: LogKind) -> &'static str {
    match kind {
        LogKind::Log => "log",
        LogKind::Error => "error",
        LogKind::Event => "event",
    }
}

pub(crate) fn kind_from_text(text: &str) -> Result<LogKind> {
    let kind = [LogKind::Log, LogKind::Error, LogKind::Event].into_iter().find(|kind| kind_text(*kind) == text);
    kind.ok_or_else(|| Error::corrupt(format!("unknown kind of log record {text:?}")))
}

/// A batch with the narrow schema, one row for each record, in the order given. Each record names its origin by index.
pub(crate) fn encode_logs(
    rows: &[(usize, &LogRecord)],
    origins: &[Origin],
    limits: &RecordLimits,
    counters: &EventCounters,
) -> Result<RecordBatch> {
    let times = |of: fn(&LogRecord) -> Nanos| -> ArrayRef {
        Arc::new(TimestampNanosecondArray::from_iter_values(rows.iter().map(|(_, record)| of(record).0)).with_timezone("UTC"))
    };
    let texts = |of: &dyn Fn(&LogRecord) -> &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(rows.iter().map(|(_, record)| of(record))))
    };
    let mut bodies = StringBuilder::new();
    let mut attributes = AttributesBuilder::new();
    for (_, record) in rows {
        bodies.append_value(limited_body(&record.body, limits, counters));
        attributes.push_row(&record.attributes, limits, counters)?;
    }
    let (map, letters) = attributes.finish();
    let mut columns = vec![times(|record| record.timestamp), times(|record| record.observed)];
    columns.extend(origin_columns(rows.iter().map(|(at, _)| *at), origins)?);
    columns.push(texts(&|record| kind_text(record.kind)));
    columns.push(Arc::new(UInt8Array::from_iter_values(rows.iter().map(|(_, record)| record.severity.0))));
    columns.push(texts(&|record| &record.severity_text));
    columns.push(Arc::new(bodies.finish()));
    columns.push(id_column(rows.iter().map(|(_, record)| record.trace_id.0))?);
    columns.push(id_column(rows.iter().map(|(_, record)| record.span_id.0))?);
    columns.extend(error_columns(rows));
    columns.extend([map, letters]);
    RecordBatch::try_new(schema::LOGS.clone(), columns).map_err(damaged)
}

fn limited_body<'a>(body: &'a str, limits: &RecordLimits, counters: &EventCounters) -> Cow<'a, str> {
    if body.len() <= limits.body_bytes_max {
        return Cow::Borrowed(body);
    }
    EventCounters::add(&counters.bodies_cut, 1);
    let kept = cut(body, limits.body_bytes_max);
    Cow::Owned(format!("{kept}… [cut: {} more bytes]", body.len() - kept.len()))
}

/// Service, stream, resource and scope.
pub(crate) fn origin_columns(rows: impl Iterator<Item = usize> + Clone, origins: &[Origin]) -> Result<[ArrayRef; 4]> {
    let interned = |of: fn(&Origin) -> &str| -> Result<ArrayRef> {
        let mut builder = StringDictionaryBuilder::<Int32Type>::new();
        for at in rows.clone() {
            builder.append(of(&origins[at])).map_err(damaged)?;
        }
        Ok(Arc::new(builder.finish()))
    };
    Ok([
        Arc::new(StringArray::from_iter_values(rows.clone().map(|at| origins[at].service.as_str()))),
        Arc::new(UInt64Array::from_iter_values(rows.clone().map(|at| origins[at].stream))),
        interned(|origin| &origin.resource)?,
        interned(|origin| &origin.scope)?,
    ])
}

/// Ids of fixed length; all zero is null.
pub(crate) fn id_column<const N: usize>(ids: impl Iterator<Item = [u8; N]>) -> Result<ArrayRef> {
    let mut builder = FixedSizeBinaryBuilder::new(N as i32);
    for id in ids {
        if id == [0; N] {
            builder.append_null();
        } else {
            builder.append_value(id).map_err(damaged)?;
        }
    }
    Ok(Arc::new(builder.finish()))
}

fn error_columns(rows: &[(usize, &LogRecord)]) -> [ArrayRef; 7] {
    let mut columns: [StringBuilder; 7] = std::array::from_fn(|_| StringBuilder::new());
    for (_, record) in rows {
        let Some(event) = &record.error else {
            columns.iter_mut().for_each(StringBuilder::append_null);
            continue;
        };
        let [group, exception_type, title, culprit, release, environment, whole] = &mut columns;
        group.append_value(format!("{:016x}", event.grouping_hash()));
        exception_type.append_option(event.primary().map(|exception| &exception.exception_type));
        title.append_value(event.title());
        culprit.append_option(event.culprit().map(culprit_text));
        release.append_value(&event.release);
        environment.append_value(&event.environment);
        whole.append_value(encode_error(event));
    }
    columns.map(|mut builder| Arc::new(builder.finish()) as ArrayRef)
}

fn culprit_text(frame: &Frame) -> String {
    let place = if frame.module.is_empty() { &frame.filename } else { &frame.module };
    format!("{place} in {}", frame.function)
}

/// Reads the rows of a narrow or wide batch with all columns.
pub(crate) struct LogReader<'a> {
    pub(crate) timestamps: &'a TimestampNanosecondArray,
    observed: &'a TimestampNanosecondArray,
    resources: Interned<'a, Resource>,
    scopes: Interned<'a, Scope>,
    kinds: &'a StringArray,
    severities: &'a UInt8Array,
    severity_texts: &'a StringArray,
    bodies: &'a StringArray,
    trace_ids: &'a FixedSizeBinaryArray,
    span_ids: &'a FixedSizeBinaryArray,
    errors: &'a StringArray,
    attributes: AttributesReader<'a>,
}

impl<'a> LogReader<'a> {
    pub(crate) fn new(batch: &'a RecordBatch) -> Result<Self> {
        Ok(Self {
            timestamps: column(batch, TS)?,
            observed: column(batch, "observed")?,
            resources: resources(batch)?,
            scopes: scopes(batch)?,
            kinds: column(batch, KIND)?,
            severities: column(batch, SEVERITY)?,
            severity_texts: column(batch, "severity_text")?,
            bodies: column(batch, BODY)?,
            trace_ids: column(batch, TRACE_ID)?,
            span_ids: column(batch, SPAN_ID)?,
            errors: column(batch, "error")?,
            attributes: AttributesReader::new(batch)?,
        })
    }

    /// A row below the number of rows of the batch.
    pub(crate) fn record(&mut self, row: usize) -> Result<(Arc<Resource>, Arc<Scope>, LogRecord)> {
        let error = if self.errors.is_null(row) { None } else { Some(Box::new(decode_error(self.errors.value(row))?)) };
        let record = LogRecord {
            timestamp: Nanos(self.timestamps.value(row)),
            observed: Nanos(self.observed.value(row)),
            kind: kind_from_text(self.kinds.value(row))?,
            severity: Severity(self.severities.value(row)),
            severity_text: self.severity_texts.value(row).to_owned(),
            body: self.bodies.value(row).to_owned(),
            attributes: self.attributes.attributes(row)?,
            trace_id: trace_id(self.trace_ids, row),
            span_id: span_id(self.span_ids, row),
            error,
        };
        Ok((self.resources.get(row)?, self.scopes.get(row)?, record))
    }
}

pub(crate) fn trace_id(array: &FixedSizeBinaryArray, row: usize) -> TraceId {
    if array.is_null(row) { TraceId::default() } else { TraceId::from_bytes(array.value(row)) }
}

pub(crate) fn span_id(array: &FixedSizeBinaryArray, row: usize) -> SpanId {
    if array.is_null(row) { SpanId::default() } else { SpanId::from_bytes(array.value(row)) }
}
