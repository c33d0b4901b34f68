//! The checkpoint of a log: the state of the table as one Parquet file, one action a row.

use super::{READER_VERSION, WRITER_VERSION, path_of, stats_of};
use crate::schema::damaged;
use arrow::array::{
    ArrayRef, BooleanArray, Int32Array, Int64Array, ListBuilder, MapBuilder, MapFieldNames, RecordBatch, StringArray,
    StringBuilder, StructArray,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Fields, Schema};
use br_std::Result;
use br_storage::FileEntry;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use serde_json::Value;
use std::sync::Arc;

/// Rows: the protocol, the description of the table, then a file each.
pub(super) fn write(meta_data: &Value, live: &[FileEntry]) -> Result<Vec<u8>> {
    let rows = live.len() + 2;
    let columns = [
        ("txn", transactions(rows)?),
        ("add", files(live)?),
        ("remove", removals(rows)?),
        ("metaData", description(meta_data, rows)?),
        ("protocol", protocol(rows)?),
    ];
    let fields: Vec<Field> = columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect();
    let arrays = columns.into_iter().map(|(_, array)| array).collect();
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).map_err(damaged)?;
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).map_err(damaged)?;
    writer.write(&batch).map_err(damaged)?;
    writer.into_inner().map_err(damaged)
}

/// A struct that is there in the rows for which `is_there` holds. Its fields are null in the others.
fn structure(fields: Vec<(&str, ArrayRef)>, rows: usize, is_there: impl Fn(usize) -> bool) -> Result<ArrayRef> {
    let (fields, arrays): (Vec<Field>, Vec<ArrayRef>) =
        fields.into_iter().map(|(name, array)| (Field::new(name, array.data_type().clone(), true), array)).unzip();
    let nulls: NullBuffer = (0..rows).map(is_there).collect::<Vec<bool>>().into();
    Ok(Arc::new(StructArray::try_new(Fields::from(fields), arrays, Some(nulls)).map_err(damaged)?))
}

fn transactions(rows: usize) -> Result<ArrayRef> {
    let fields: Vec<(&str, ArrayRef)> = vec![
        ("appId", Arc::new(StringArray::new_null(rows))),
        ("version", Arc::new(Int64Array::new_null(rows))),
        ("lastUpdated", Arc::new(Int64Array::new_null(rows))),
    ];
    structure(fields, rows, |_| false)
}

fn removals(rows: usize) -> Result<ArrayRef> {
    let fields: Vec<(&str, ArrayRef)> = vec![
        ("path", Arc::new(StringArray::new_null(rows))),
        ("deletionTimestamp", Arc::new(Int64Array::new_null(rows))),
        ("dataChange", Arc::new(BooleanArray::new_null(rows))),
    ];
    structure(fields, rows, |_| false)
}

fn protocol(rows: usize) -> Result<ArrayRef> {
    let first = |value: i32| -> ArrayRef { Arc::new((0..rows).map(|row| (row == 0).then_some(value)).collect::<Int32Array>()) };
    let fields = vec![("minReaderVersion", first(READER_VERSION)), ("minWriterVersion", first(WRITER_VERSION))];
    structure(fields, rows, |row| row == 0)
}

fn description(meta_data: &Value, rows: usize) -> Result<ArrayRef> {
    let is_there = |row: usize| row == 1;
    let text = |key: &str| -> ArrayRef {
        let value = meta_data.get(key).and_then(Value::as_str);
        Arc::new((0..rows).map(|row| value.filter(|_| is_there(row))).collect::<StringArray>())
    };
    let created = meta_data.get("createdTime").and_then(Value::as_i64);
    let provider: ArrayRef = Arc::new((0..rows).map(|row| is_there(row).then_some("parquet")).collect::<StringArray>());
    let format = structure(vec![("provider", provider), ("options", empty_maps(rows, is_there)?)], rows, is_there)?;
    let mut partitions = ListBuilder::new(StringBuilder::new());
    (0..rows).for_each(|row| partitions.append(is_there(row)));
    let fields: Vec<(&str, ArrayRef)> = vec![
        ("id", text("id")),
        ("name", text("name")),
        ("description", Arc::new(StringArray::new_null(rows))),
        ("format", format),
        ("schemaString", text("schemaString")),
        ("partitionColumns", Arc::new(partitions.finish())),
        ("configuration", empty_maps(rows, is_there)?),
        ("createdTime", Arc::new((0..rows).map(|row| created.filter(|_| is_there(row))).collect::<Int64Array>())),
    ];
    structure(fields, rows, is_there)
}

fn files(live: &[FileEntry]) -> Result<ArrayRef> {
    let rows = live.len() + 2;
    let is_there = |row: usize| row >= 2;
    let file = |row: usize| row.checked_sub(2).and_then(|at| live.get(at));
    let numbers =
        |of: fn(&FileEntry) -> i64| -> ArrayRef { Arc::new((0..rows).map(|row| file(row).map(of)).collect::<Int64Array>()) };
    let fields: Vec<(&str, ArrayRef)> = vec![
        ("path", Arc::new((0..rows).map(|row| file(row).map(path_of)).collect::<StringArray>())),
        ("partitionValues", empty_maps(rows, is_there)?),
        ("size", numbers(|file| file.size_bytes as i64)),
        ("modificationTime", numbers(|file| file.max_time.as_millis())),
        ("dataChange", Arc::new((0..rows).map(|row| is_there(row).then_some(false)).collect::<BooleanArray>())),
        ("stats", Arc::new((0..rows).map(|row| file(row).map(stats_of)).collect::<StringArray>())),
    ];
    structure(fields, rows, is_there)
}

fn empty_maps(rows: usize, is_there: impl Fn(usize) -> bool) -> Result<ArrayRef> {
    let names = MapFieldNames { entry: "key_value".into(), key: "key".into(), value: "value".into() };
    let value = Field::new("value", DataType::Utf8, true);
    let mut maps = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new()).with_values_field(value);
    for row in 0..rows {
        maps.append(is_there(row)).map_err(damaged)?;
    }
    Ok(Arc::new(maps.finish()))
}
