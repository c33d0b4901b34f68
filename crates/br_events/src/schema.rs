//! The columns of the two tables, and typed access to them.
//!
//! In memory a batch has the narrow schema: all attributes in one map. What comes from a file has the wide one: frequent attributes
//! in columns of their own (`a:<key>:<type>`), the rest in the map (docs/format/event-file.md). How the columns stand in the file is
//! the matter of `stored` alone.

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use br_std::{Error, Result};
use std::sync::{Arc, LazyLock};

pub(crate) const TS: &str = "ts";
pub(crate) const OBSERVED: &str = "observed";
pub(crate) const END_TS: &str = "end_ts";
pub(crate) const SERVICE: &str = "service";
pub(crate) const STREAM: &str = "stream";
pub(crate) const RESOURCE: &str = "resource";
pub(crate) const SCOPE: &str = "scope";
pub(crate) const KIND: &str = "kind";
pub(crate) const SEVERITY: &str = "severity";
pub(crate) const BODY: &str = "body";
pub(crate) const TRACE_ID: &str = "trace_id";
pub(crate) const SPAN_ID: &str = "span_id";
pub(crate) const NAME: &str = "name";
pub(crate) const STATUS: &str = "status";
pub(crate) const DURATION: &str = "duration";
pub(crate) const ATTRIBUTES: &str = "attributes";
/// One letter for each entry of the map: its type.
pub(crate) const ATTRIBUTE_TYPES: &str = "attribute_types";
/// Where each attribute of the record stands in "promoted columns in their order, then the map", where a record repeats a key.
pub(crate) const ATTRIBUTE_ORDER: &str = "attribute_order";
pub(crate) const PROMOTED_PREFIX: &str = "a:";

pub(crate) fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()))
}

pub(crate) fn interned_type() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

/// A map from text to text.
pub(crate) fn map_type() -> DataType {
    let pair = Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Utf8, true)]);
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(pair), false)), false)
}

/// The narrow schema of `logs`.
pub(crate) static LOGS: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new(TS, time_type(), false),
        Field::new(OBSERVED, time_type(), false),
        Field::new(SERVICE, DataType::Utf8, false),
        Field::new(STREAM, DataType::UInt64, false),
        Field::new(RESOURCE, interned_type(), false),
        Field::new(SCOPE, interned_type(), false),
        Field::new(KIND, DataType::Utf8, false),
        Field::new(SEVERITY, DataType::UInt8, false),
        Field::new("severity_text", DataType::Utf8, false),
        Field::new(BODY, DataType::Utf8, false),
        Field::new(TRACE_ID, DataType::FixedSizeBinary(16), true),
        Field::new(SPAN_ID, DataType::FixedSizeBinary(8), true),
        Field::new("error_group", DataType::Utf8, true),
        Field::new("error_type", DataType::Utf8, true),
        Field::new("error_title", DataType::Utf8, true),
        Field::new("error_culprit", DataType::Utf8, true),
        Field::new("release", DataType::Utf8, true),
        Field::new("environment", DataType::Utf8, true),
        Field::new("error", DataType::Utf8, true),
        Field::new(ATTRIBUTES, map_type(), false),
        Field::new(ATTRIBUTE_TYPES, DataType::Utf8, false),
    ]))
});

/// The narrow schema of `spans`.
pub(crate) static SPANS: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new(TS, time_type(), false),
        Field::new(END_TS, time_type(), false),
        Field::new(DURATION, DataType::Int64, false),
        Field::new(SERVICE, DataType::Utf8, false),
        Field::new(STREAM, DataType::UInt64, false),
        Field::new(RESOURCE, interned_type(), false),
        Field::new(SCOPE, interned_type(), false),
        Field::new(TRACE_ID, DataType::FixedSizeBinary(16), true),
        Field::new(SPAN_ID, DataType::FixedSizeBinary(8), true),
        Field::new("parent_span_id", DataType::FixedSizeBinary(8), true),
        Field::new("trace_state", DataType::Utf8, false),
        Field::new(NAME, DataType::Utf8, false),
        Field::new(KIND, DataType::Utf8, false),
        Field::new(STATUS, DataType::Utf8, false),
        Field::new("status_message", DataType::Utf8, false),
        Field::new("events", DataType::Utf8, true),
        Field::new("links", DataType::Utf8, true),
        Field::new(ATTRIBUTES, map_type(), false),
        Field::new(ATTRIBUTE_TYPES, DataType::Utf8, false),
    ]))
});

/// A column by name and type; a batch without it is damaged.
pub(crate) fn column<'a, T: Array + 'static>(batch: &'a RecordBatch, name: &str) -> Result<&'a T> {
    let array = batch.column_by_name(name).ok_or_else(|| Error::corrupt(format!("column {name} is missing")))?;
    array
        .as_any()
        .downcast_ref()
        .ok_or_else(|| Error::corrupt(format!("column {name} has an unexpected type {}", array.data_type())))
}

/// What the columnar libraries complain of is a damaged batch or a bug, never the user's doing.
pub(crate) fn damaged(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::corrupt(error.to_string()).with_source(error)
}
