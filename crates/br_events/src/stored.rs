//! Columns as they stand in a file, and as the rest of the store knows them.
//!
//! A file must be a part of a Delta table: that format knows times in microseconds and no unsigned numbers. So a time is two columns,
//! and what follows from others is left out.

use crate::schema::{DURATION, END_TS, OBSERVED, SEVERITY, STREAM, TS, column, damaged};
use arrow::array::{
    Array, ArrayRef, Int32Array, Int64Array, RecordBatch, RecordBatchOptions, TimestampMicrosecondArray,
    TimestampNanosecondArray, UInt8Array, UInt64Array,
};
use arrow::datatypes::{Field, Int32Type, Int64Type, Schema, UInt8Type, UInt64Type};
use br_std::{Error, Result};
use std::sync::Arc;

/// What is left of a time, beside its microseconds.
pub(crate) const TS_NANOS: &str = "ts_nanos";
pub(crate) const OBSERVED_NANOS: &str = "observed_nanos";
const NANOS_PER_MICRO: i64 = 1000;

/// Whether a column of a file is needed for those that `wants` names.
pub(crate) fn is_needed(stored: &str, wants: impl Fn(&str) -> bool) -> bool {
    match stored {
        TS_NANOS | TS => wants(TS) || wants(END_TS),
        OBSERVED_NANOS => wants(OBSERVED),
        DURATION => wants(DURATION) || wants(END_TS),
        other => wants(other),
    }
}

/// A wide batch as it is written.
pub(crate) fn to_stored(batch: &RecordBatch) -> Result<RecordBatch> {
    let (mut fields, mut arrays): (Vec<Arc<Field>>, Vec<ArrayRef>) = (Vec::new(), Vec::new());
    let mut add = |name: &str, array: ArrayRef, nullable: bool| {
        fields.push(Arc::new(Field::new(name, array.data_type().clone(), nullable)));
        arrays.push(array);
    };
    for (field, array) in batch.schema_ref().fields().iter().zip(batch.columns()) {
        match field.name().as_str() {
            name @ (TS | OBSERVED) => {
                let times: &TimestampNanosecondArray = column(batch, name)?;
                let micros = times.values().iter().map(|time| time.div_euclid(NANOS_PER_MICRO));
                add(name, Arc::new(TimestampMicrosecondArray::from_iter_values(micros).with_timezone("UTC")), false);
                let nanos = times.values().iter().map(|time| time.rem_euclid(NANOS_PER_MICRO) as i32);
                add(nanos_of(name), Arc::new(Int32Array::from_iter_values(nanos)), false);
            }
            END_TS => {}
            DURATION => {
                let (starts, ends): (&TimestampNanosecondArray, &TimestampNanosecondArray) =
                    (column(batch, TS)?, column(batch, END_TS)?);
                let lengths = starts.values().iter().zip(ends.values()).map(|(start, end)| end.wrapping_sub(*start));
                add(DURATION, Arc::new(Int64Array::from_iter_values(lengths)), false);
            }
            STREAM => {
                let ids: &UInt64Array = column(batch, STREAM)?;
                add(STREAM, Arc::new(ids.unary::<_, Int64Type>(|id| id as i64)), false);
            }
            SEVERITY => {
                let severities: &UInt8Array = column(batch, SEVERITY)?;
                add(SEVERITY, Arc::new(severities.unary::<_, Int32Type>(i32::from)), false);
            }
            name => add(name, array.clone(), field.is_nullable()),
        }
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).map_err(damaged)
}

/// What was read of a file, with all columns that [`is_needed`] names, as [`to_stored`] was given it.
pub(crate) fn from_stored(batch: &RecordBatch) -> Result<RecordBatch> {
    let (mut fields, mut arrays): (Vec<Arc<Field>>, Vec<ArrayRef>) = (Vec::new(), Vec::new());
    let mut add = |name: &str, array: ArrayRef, nullable: bool| {
        fields.push(Arc::new(Field::new(name, array.data_type().clone(), nullable)));
        arrays.push(array);
    };
    let has = |name: &str| batch.column_by_name(name).is_some();
    for (field, array) in batch.schema_ref().fields().iter().zip(batch.columns()) {
        match field.name().as_str() {
            name @ (TS | OBSERVED) => {
                let times = times_of(batch, name)?;
                let ends = (name == TS && has(DURATION)).then(|| ends_of(batch, &times)).transpose()?;
                add(name, Arc::new(times.with_timezone("UTC")), false);
                if let Some(ends) = ends {
                    add(END_TS, Arc::new(ends.with_timezone("UTC")), false);
                }
            }
            TS_NANOS | OBSERVED_NANOS => {}
            DURATION => {
                let lengths: &Int64Array = column(batch, DURATION)?;
                add(DURATION, Arc::new(lengths.unary::<_, Int64Type>(|length| length.max(0))), false);
            }
            STREAM => {
                let ids: &Int64Array = column(batch, STREAM)?;
                add(STREAM, Arc::new(ids.unary::<_, UInt64Type>(|id| id as u64)), false);
            }
            SEVERITY => {
                let severities: &Int32Array = column(batch, SEVERITY)?;
                let small = severities.try_unary::<_, UInt8Type, Error>(|severity| {
                    u8::try_from(severity).map_err(|_| Error::corrupt(format!("severity {severity} is no severity")))
                });
                add(SEVERITY, Arc::new(small?), false);
            }
            name => add(name, array.clone(), field.is_nullable()),
        }
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options).map_err(damaged)
}

fn nanos_of(name: &str) -> &'static str {
    if name == TS { TS_NANOS } else { OBSERVED_NANOS }
}

fn times_of(batch: &RecordBatch, name: &str) -> Result<TimestampNanosecondArray> {
    let (micros, nanos): (&TimestampMicrosecondArray, &Int32Array) = (column(batch, name)?, column(batch, nanos_of(name))?);
    let pairs = micros.values().iter().zip(nanos.values());
    let times = pairs.map(|(micros, nanos)| micros.wrapping_mul(NANOS_PER_MICRO).wrapping_add(i64::from(*nanos)));
    Ok(TimestampNanosecondArray::from_iter_values(times))
}

fn ends_of(batch: &RecordBatch, starts: &TimestampNanosecondArray) -> Result<TimestampNanosecondArray> {
    let lengths: &Int64Array = column(batch, DURATION)?;
    let ends = starts.values().iter().zip(lengths.values()).map(|(start, length)| start.wrapping_add(*length));
    Ok(TimestampNanosecondArray::from_iter_values(ends))
}
