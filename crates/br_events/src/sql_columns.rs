//! The columns that SQL sees, made from the stored ones.
//!
//! Ids read as hexadecimal text, the severity number also as a word, resource and attributes as maps. Each resource attribute
//! has a text column under its label name, each attribute a typed one. Where records disagree on the type of an attribute, its
//! column is one of texts, and beside it stand `<name>_int`, `<name>_double` and `<name>_bool` for those types that occur: a
//! value that is of another type is null there. Integers are among the doubles too.

use crate::attributes::{self, AttributesReader, BOOL, DOUBLE, INT, STRING};
use crate::schema::{
    ATTRIBUTE_ORDER, ATTRIBUTE_TYPES, ATTRIBUTES, PROMOTED_PREFIX, RESOURCE, SEVERITY, SPAN_ID, TRACE_ID, column, damaged,
    map_type,
};
use crate::{origin, schema};
use arrow::array::{
    Array, ArrayRef, BooleanArray, FixedSizeBinaryArray, Float64Array, Int64Array, MapBuilder, MapFieldNames, RecordBatch,
    StringArray, StringBuilder, UInt8Array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use br_model::{Severity, names::label_name};
use br_std::{Error, Result};
use br_storage::Table;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How a column of SQL comes to be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Origin {
    Stored(&'static str),
    Hex(&'static str),
    Level,
    ResourceMap,
    AttributeMap,
    /// A resource attribute by its key.
    Resource(String),
    /// An attribute by its keys, which have the same label name, with the letter of the column's type.
    Attribute(Vec<String>, u8),
}

/// Names and origins of all columns of a table, in the order of its schema.
#[derive(Clone, Debug)]
pub(crate) struct SqlColumns {
    pub(crate) origins: Vec<Origin>,
    pub(crate) schema: SchemaRef,
}

/// Columns made of keys, at most.
const KEY_COLUMNS_MAX: usize = 1000;

impl SqlColumns {
    /// `resource_keys` and `attributes` are those seen in files and heads.
    pub(crate) fn new(table: Table, resource_keys: &[String], attributes: &[(String, u8)]) -> Self {
        let mut columns: Vec<(String, Origin, DataType)> = fixed(table);
        let mut keyed: BTreeMap<String, (Origin, DataType)> = BTreeMap::new();
        let mut by_name: BTreeMap<String, (Vec<String>, BTreeSet<u8>)> = BTreeMap::new();
        for (key, letter) in attributes {
            let (keys, letters) = by_name.entry(label_name(key)).or_default();
            if !keys.contains(key) {
                keys.push(key.clone());
            }
            letters.insert(if [INT, DOUBLE, BOOL].contains(letter) { *letter } else { STRING });
        }
        let column = |keys: &[String], letter| (Origin::Attribute(keys.to_vec(), letter), attributes::promoted_type(letter));
        for (name, (keys, letters)) in &by_name {
            if letters.len() > 1 {
                for (letter, suffix) in [(INT, "int"), (DOUBLE, "double"), (BOOL, "bool")] {
                    let beside = format!("{name}_{suffix}");
                    // An attribute of that very name stands before it.
                    if letters.contains(&letter) && !by_name.contains_key(&beside) {
                        keyed.insert(beside, column(keys, letter));
                    }
                }
            }
            let letter = if letters.len() == 1 { letters.first().copied().unwrap_or(STRING) } else { STRING };
            keyed.insert(name.clone(), column(keys, letter));
        }
        for key in resource_keys {
            keyed.insert(label_name(key), (Origin::Resource(key.clone()), DataType::Utf8));
        }
        let fixed_names: Vec<String> = columns.iter().map(|(name, ..)| name.clone()).collect();
        keyed.retain(|name, _| !fixed_names.contains(name) && !name.is_empty());
        columns.extend(keyed.into_iter().take(KEY_COLUMNS_MAX).map(|(name, (origin, data_type))| (name, origin, data_type)));
        let fields: Vec<Field> = columns.iter().map(|(name, _, data_type)| Field::new(name, data_type.clone(), true)).collect();
        Self { origins: columns.into_iter().map(|(_, origin, _)| origin).collect(), schema: Arc::new(Schema::new(fields)) }
    }

    pub(crate) fn project(&self, indices: &[usize]) -> Result<Self> {
        let origins = indices.iter().filter_map(|at| self.origins.get(*at).cloned()).collect();
        Ok(Self { origins, schema: Arc::new(self.schema.project(indices).map_err(damaged)?) })
    }

    /// Whether a stored column is needed to make these.
    pub(crate) fn needs(&self, stored: &str) -> bool {
        let is_attribute_column = stored == ATTRIBUTES || stored == ATTRIBUTE_TYPES || stored == ATTRIBUTE_ORDER;
        self.origins.iter().any(|origin| match origin {
            Origin::Stored(name) | Origin::Hex(name) => *name == stored,
            Origin::Level => stored == SEVERITY,
            Origin::ResourceMap | Origin::Resource(_) => stored == RESOURCE,
            Origin::AttributeMap => is_attribute_column || stored.starts_with(PROMOTED_PREFIX),
            Origin::Attribute(keys, _) => {
                stored == ATTRIBUTES
                    || stored == ATTRIBUTE_TYPES
                    || attributes::parse_promoted(stored).is_some_and(|(promoted, _)| keys.iter().any(|key| key == promoted))
            }
        })
    }

    /// The columns of a narrow or wide batch that holds what is needed.
    pub(crate) fn make(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let mut columns = Vec::with_capacity(self.origins.len());
        for (origin, field) in self.origins.iter().zip(self.schema.fields()) {
            columns.push(make(origin, batch, field.data_type())?);
        }
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(self.schema.clone(), columns, &options).map_err(damaged)
    }
}

/// The columns that every table of this kind has.
fn fixed(table: Table) -> Vec<(String, Origin, DataType)> {
    let narrow = if table == Table::Spans { &schema::SPANS } else { &schema::LOGS };
    let mut columns = Vec::new();
    for field in narrow.fields() {
        let name = field.name();
        let column = match name.as_str() {
            TRACE_ID => (Origin::Hex(TRACE_ID), DataType::Utf8),
            SPAN_ID => (Origin::Hex(SPAN_ID), DataType::Utf8),
            "parent_span_id" => (Origin::Hex("parent_span_id"), DataType::Utf8),
            RESOURCE => (Origin::ResourceMap, map_type()),
            ATTRIBUTES => (Origin::AttributeMap, map_type()),
            ATTRIBUTE_TYPES => continue,
            name => match STORED.iter().find(|stored| **stored == name) {
                Some(stored) if *stored == schema::SCOPE => (Origin::Stored(stored), DataType::Utf8),
                Some(stored) => (Origin::Stored(stored), field.data_type().clone()),
                None => continue,
            },
        };
        columns.push((name.clone(), column.0, column.1));
        if name == SEVERITY {
            columns.push(("level".to_owned(), Origin::Level, DataType::Utf8));
        }
    }
    columns
}

/// Stored columns that SQL sees as they are.
const STORED: [&str; 25] = [
    "ts",
    "observed",
    "service",
    "stream",
    "scope",
    "kind",
    "severity",
    "severity_text",
    "body",
    "error_group",
    "error_type",
    "error_title",
    "error_culprit",
    "release",
    "environment",
    "error",
    "end_ts",
    "duration",
    "trace_state",
    "name",
    "status",
    "status_message",
    "events",
    "links",
    "resource",
];

fn make(origin: &Origin, batch: &RecordBatch, data_type: &DataType) -> Result<ArrayRef> {
    match origin {
        Origin::Stored(name) => {
            let stored = batch.column_by_name(name).ok_or_else(|| Error::corrupt(format!("column {name} is missing")))?;
            if stored.data_type() == data_type { Ok(stored.clone()) } else { cast(stored, data_type).map_err(damaged) }
        }
        Origin::Hex(name) => {
            let ids: &FixedSizeBinaryArray = column(batch, name)?;
            Ok(Arc::new(ids.iter().map(|id| id.map(hex::encode)).collect::<StringArray>()))
        }
        Origin::Level => {
            let severities: &UInt8Array = column(batch, SEVERITY)?;
            Ok(Arc::new(severities.iter().map(|number| Some(Severity(number?).as_str())).collect::<StringArray>()))
        }
        Origin::ResourceMap => resource_map(batch),
        Origin::AttributeMap => attribute_map(batch),
        Origin::Resource(key) => {
            let mut resources = origin::resources(batch)?;
            let mut texts = StringBuilder::new();
            for row in 0..batch.num_rows() {
                texts.append_option(resources.get(row)?.attributes.get(key).map(ToString::to_string));
            }
            Ok(Arc::new(texts.finish()))
        }
        Origin::Attribute(keys, letter) => attribute(batch, keys, *letter),
    }
}

fn map_builder() -> MapBuilder<StringBuilder, StringBuilder> {
    let names = MapFieldNames { entry: "entries".into(), key: "key".into(), value: "value".into() };
    MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new())
}

fn resource_map(batch: &RecordBatch) -> Result<ArrayRef> {
    let mut resources = origin::resources(batch)?;
    let mut map = map_builder();
    for row in 0..batch.num_rows() {
        for (key, value) in &resources.get(row)?.attributes {
            map.keys().append_value(key);
            map.values().append_value(value.to_string());
        }
        map.append(true).map_err(damaged)?;
    }
    Ok(Arc::new(map.finish()))
}

fn attribute_map(batch: &RecordBatch) -> Result<ArrayRef> {
    let reader = AttributesReader::new(batch)?;
    let mut map = map_builder();
    for row in 0..batch.num_rows() {
        for entry in reader.entries(row)? {
            map.keys().append_value(entry.key);
            map.values().append_value(attributes::shown(&entry)?);
        }
        map.append(true).map_err(damaged)?;
    }
    Ok(Arc::new(map.finish()))
}

/// One attribute of each row, where its type fits the column; any does where the column is one of texts.
fn attribute(batch: &RecordBatch, keys: &[String], letter: u8) -> Result<ArrayRef> {
    let reader = AttributesReader::new(batch)?;
    if let Some(stored) = whole_column(batch, &reader, keys, letter) {
        return Ok(stored);
    }
    let fits = |found: u8| letter == STRING || found == letter || (letter == DOUBLE && found == INT);
    let mut texts: Vec<Option<String>> = Vec::with_capacity(batch.num_rows());
    for row in 0..batch.num_rows() {
        let entries = reader.entries_where(row, |key| keys.iter().any(|wanted| wanted == key))?;
        let first = entries.iter().find(|entry| fits(entry.letter));
        texts.push(first.map(|entry| attributes::shown(entry).map(std::borrow::Cow::into_owned)).transpose()?);
    }
    let texts = texts.iter().map(Option::as_deref);
    Ok(match letter {
        INT => Arc::new(texts.map(|text| text?.parse().ok()).collect::<Int64Array>()),
        DOUBLE => Arc::new(texts.map(|text| text?.parse().ok()).collect::<Float64Array>()),
        BOOL => Arc::new(texts.map(|text| text?.parse().ok()).collect::<BooleanArray>()),
        _ => Arc::new(texts.collect::<StringArray>()),
    })
}

/// The stored column, where all values of the attribute stand in it.
fn whole_column(batch: &RecordBatch, reader: &AttributesReader<'_>, keys: &[String], letter: u8) -> Option<ArrayRef> {
    let mut stored = batch.schema_ref().fields().iter().filter_map(|field| attributes::parse_promoted(field.name()));
    let is_wanted = |key: &str| keys.iter().any(|wanted| wanted == key);
    let (key, found) = stored.find(|(key, _)| is_wanted(key))?;
    let is_only = found == letter && stored.all(|(other, _)| !is_wanted(other)) && !reader.map_has_key(is_wanted);
    let column = batch.column_by_name(&attributes::promoted_name(key, letter))?;
    is_only.then(|| column.clone())
}
