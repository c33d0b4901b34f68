//! Spans to Arrow batches and back, exactly.

use crate::attributes::{AttributesBuilder, AttributesReader, parse_promoted};
use crate::counters::EventCounters;
use crate::error_json::objects_of;
use crate::json::{decode_attributes, encode_attributes, map_of, text_of};
use crate::logs_codec::{id_column, origin_columns, span_id, trace_id};
use crate::options::RecordLimits;
use crate::origin::{Interned, Origin, resources, scopes};
use crate::schema::{
    self, ATTRIBUTE_ORDER, ATTRIBUTE_TYPES, ATTRIBUTES, DURATION, KIND, NAME, SERVICE, SPAN_ID, STATUS, STREAM, TRACE_ID, TS,
    column, damaged,
};
use crate::summary::FileStats;
use arrow::array::{Array, ArrayRef, FixedSizeBinaryArray, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray};
use br_model::{AttributeValue, Attributes, Resource, Scope, Span, SpanEvent, SpanId, SpanKind, SpanLink, SpanStatus, TraceId};
use br_std::{Error, Nanos, Result};
use br_storage::{SpanParts, StoredSpan};
use std::sync::Arc;

/// A batch with the narrow schema, one row for each span, in the order given. Each span names its origin by index.
pub(crate) fn encode_spans(
    rows: &[(usize, &Span)],
    origins: &[Origin],
    limits: &RecordLimits,
    counters: &EventCounters,
) -> Result<RecordBatch> {
    let times = |of: fn(&Span) -> Nanos| -> ArrayRef {
        Arc::new(TimestampNanosecondArray::from_iter_values(rows.iter().map(|(_, span)| of(span).0)).with_timezone("UTC"))
    };
    let texts =
        |of: fn(&Span) -> &str| -> ArrayRef { Arc::new(StringArray::from_iter_values(rows.iter().map(|(_, span)| of(span)))) };
    let optional_texts = |of: &dyn Fn(&Span) -> Option<String>| -> ArrayRef {
        Arc::new(rows.iter().map(|(_, span)| of(span)).collect::<StringArray>())
    };
    let mut attributes = AttributesBuilder::new();
    for (_, span) in rows {
        attributes.push_row(&span.attributes, limits, counters)?;
        let dropped = span.events.len().saturating_sub(limits.span_children_max)
            + span.links.len().saturating_sub(limits.span_children_max);
        EventCounters::add(&counters.span_children_dropped, dropped);
    }
    let (map, letters) = attributes.finish();
    let mut columns = vec![times(|span| span.start), times(|span| span.end)];
    columns.push(Arc::new(Int64Array::from_iter_values(rows.iter().map(|(_, span)| span.duration_nanos()))));
    columns.extend(origin_columns(rows.iter().map(|(at, _)| *at), origins)?);
    columns.push(id_column(rows.iter().map(|(_, span)| span.trace_id.0))?);
    columns.push(id_column(rows.iter().map(|(_, span)| span.span_id.0))?);
    columns.push(id_column(rows.iter().map(|(_, span)| span.parent_span_id.0))?);
    columns.push(texts(|span| &span.trace_state));
    columns.push(texts(|span| &span.name));
    columns.push(texts(|span| span.kind.as_str()));
    columns.push(texts(|span| span.status.as_str()));
    columns.push(texts(|span| &span.status_message));
    columns.push(optional_texts(&|span| encode_events(&span.events, limits)));
    columns.push(optional_texts(&|span| encode_links(&span.links, limits)));
    columns.extend([map, letters]);
    RecordBatch::try_new(schema::SPANS.clone(), columns).map_err(damaged)
}

fn within(attributes: &Attributes, limits: &RecordLimits) -> AttributeValue {
    AttributeValue::Map(Attributes(attributes.iter().take(limits.attributes_max).cloned().collect()))
}

/// `{"events":[{"ts":…,"name":…,"attributes":{…}},…]}`, or nothing.
fn encode_events(events: &[SpanEvent], limits: &RecordLimits) -> Option<String> {
    if events.is_empty() {
        return None;
    }
    let values = events.iter().take(limits.span_children_max).map(|event| {
        let mut object = Attributes::default();
        object.push("ts", event.timestamp.0);
        object.push("name", event.name.clone());
        object.push("attributes", within(&event.attributes, limits));
        AttributeValue::Map(object)
    });
    Some(encode_attributes(&Attributes(vec![("events".into(), AttributeValue::Array(values.collect()))])))
}

/// `{"links":[{"trace_id":…,"span_id":…,"attributes":{…}},…]}`, or nothing.
fn encode_links(links: &[SpanLink], limits: &RecordLimits) -> Option<String> {
    if links.is_empty() {
        return None;
    }
    let values = links.iter().take(limits.span_children_max).map(|link| {
        let mut object = Attributes::default();
        object.push("trace_id", link.trace_id.to_string());
        object.push("span_id", link.span_id.to_string());
        object.push("attributes", within(&link.attributes, limits));
        AttributeValue::Map(object)
    });
    Some(encode_attributes(&Attributes(vec![("links".into(), AttributeValue::Array(values.collect()))])))
}

fn decode_events(text: &str) -> Result<Vec<SpanEvent>> {
    let object = decode_attributes(text)?;
    let events = objects_of(&object, "events").map(|event| {
        let timestamp = match event.get("ts") {
            Some(AttributeValue::Int(nanos)) => Nanos(*nanos),
            _ => return Err(Error::corrupt("a span event without its time")),
        };
        Ok(SpanEvent { timestamp, name: text_of(event, "name"), attributes: map_of(event, "attributes") })
    });
    events.collect()
}

fn decode_links(text: &str) -> Result<Vec<SpanLink>> {
    let object = decode_attributes(text)?;
    let links = objects_of(&object, "links").map(|link| SpanLink {
        trace_id: TraceId::from_hex(&text_of(link, "trace_id")).unwrap_or_default(),
        span_id: SpanId::from_hex(&text_of(link, "span_id")).unwrap_or_default(),
        attributes: map_of(link, "attributes"),
    });
    Ok(links.collect())
}

fn kind_from_text(text: &str) -> Result<SpanKind> {
    let kind = (0..=5).map(SpanKind::from_number).find(|kind| kind.as_str() == text);
    kind.ok_or_else(|| Error::corrupt(format!("unknown kind of span {text:?}")))
}

fn status_from_text(text: &str) -> Result<SpanStatus> {
    let status = (0..=2).map(SpanStatus::from_number).find(|status| status.as_str() == text);
    status.ok_or_else(|| Error::corrupt(format!("unknown status of a span {text:?}")))
}

const EVENTS: &str = "events";
const LINKS: &str = "links";
const TRACE_STATE: &str = "trace_state";
const STATUS_MESSAGE: &str = "status_message";

/// Whether [`SpanReader`] looks at a column.
fn is_read(column: &str, parts: &SpanParts) -> bool {
    let has_keys = parts.keys.as_ref().is_none_or(|keys| !keys.is_empty());
    match column {
        // Derived from others, for other readers.
        DURATION | SERVICE | STREAM => false,
        EVENTS => parts.events,
        LINKS => parts.links,
        TRACE_STATE | STATUS_MESSAGE => parts.texts,
        ATTRIBUTES | ATTRIBUTE_TYPES => has_keys,
        ATTRIBUTE_ORDER => parts.keys.is_none(),
        _ => match (parse_promoted(column), &parts.keys) {
            (Some((key, _)), Some(keys)) => keys.iter().any(|known| known == key),
            _ => true,
        },
    }
}

/// The same of a file, of whose map it is known which keys it has.
pub(crate) fn is_read_of(stats: &FileStats, column: &str, parts: &SpanParts) -> bool {
    let is_map = column == ATTRIBUTES || column == ATTRIBUTE_TYPES;
    let is_in_map = |keys: &Vec<String>| keys.iter().any(|key| stats.may_have_in_map(key));
    is_read(column, parts) && (!is_map || parts.keys.as_ref().is_none_or(is_in_map))
}

/// Reads the rows of a narrow or wide batch that has the columns of which [`is_read`] holds.
pub(crate) struct SpanReader<'a> {
    starts: &'a TimestampNanosecondArray,
    ends: &'a TimestampNanosecondArray,
    resources: Interned<'a, Resource>,
    scopes: Interned<'a, Scope>,
    trace_ids: &'a FixedSizeBinaryArray,
    span_ids: &'a FixedSizeBinaryArray,
    parents: &'a FixedSizeBinaryArray,
    names: &'a StringArray,
    kinds: &'a StringArray,
    statuses: &'a StringArray,
    trace_states: Option<&'a StringArray>,
    status_messages: Option<&'a StringArray>,
    events: Option<&'a StringArray>,
    links: Option<&'a StringArray>,
    /// With the keys that are wanted, when not all are.
    attributes: Option<(AttributesReader<'a>, Option<&'a [String]>)>,
}

impl<'a> SpanReader<'a> {
    pub(crate) fn new(batch: &'a RecordBatch, parts: &'a SpanParts) -> Result<Self> {
        let optional = |name| if is_read(name, parts) { column(batch, name).map(Some) } else { Ok(None) };
        let attributes =
            if is_read(ATTRIBUTES, parts) { Some((AttributesReader::new(batch)?, parts.keys.as_deref())) } else { None };
        Ok(Self {
            starts: column(batch, TS)?,
            ends: column(batch, "end_ts")?,
            resources: resources(batch)?,
            scopes: scopes(batch)?,
            trace_ids: column(batch, TRACE_ID)?,
            span_ids: column(batch, SPAN_ID)?,
            parents: column(batch, "parent_span_id")?,
            names: column(batch, NAME)?,
            kinds: column(batch, KIND)?,
            statuses: column(batch, STATUS)?,
            trace_states: optional(TRACE_STATE)?,
            status_messages: optional(STATUS_MESSAGE)?,
            events: optional(EVENTS)?,
            links: optional(LINKS)?,
            attributes,
        })
    }

    /// A row below the number of rows of the batch.
    pub(crate) fn span(&mut self, row: usize) -> Result<StoredSpan> {
        let present = |array: Option<&'a StringArray>| array.filter(|array| !array.is_null(row)).map(|array| array.value(row));
        let events = present(self.events).map_or(Ok(Vec::new()), decode_events)?;
        let links = present(self.links).map_or(Ok(Vec::new()), decode_links)?;
        let attributes = match &self.attributes {
            None => Attributes::default(),
            Some((reader, None)) => reader.attributes(row)?,
            Some((reader, Some(keys))) => reader.named(row, keys)?,
        };
        let span = Span {
            trace_id: trace_id(self.trace_ids, row),
            span_id: span_id(self.span_ids, row),
            parent_span_id: span_id(self.parents, row),
            trace_state: present(self.trace_states).unwrap_or_default().to_owned(),
            name: self.names.value(row).to_owned(),
            kind: kind_from_text(self.kinds.value(row))?,
            start: Nanos(self.starts.value(row)),
            end: Nanos(self.ends.value(row)),
            status: status_from_text(self.statuses.value(row))?,
            status_message: present(self.status_messages).unwrap_or_default().to_owned(),
            attributes,
            events,
            links,
        };
        Ok(StoredSpan { resource: self.resources.get(row)?, scope: self.scopes.get(row)?, span })
    }
}
