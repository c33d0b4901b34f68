//! Arrow's columns as PostgreSQL's types, and their values in its text and binary formats.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date32Type, Field, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type, IntervalMonthDayNanoType,
    IntervalUnit, Schema, Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
};
use arrow::json::writer::{EncoderOptions, make_encoder};
use br_std::{Error, Result};
use std::fmt::Write as _;

const BOOL: u32 = 16;
const BYTEA: u32 = 17;
const INT8: u32 = 20;
const INT2: u32 = 21;
const INT4: u32 = 23;
pub(super) const TEXT: u32 = 25;
const JSON: u32 = 114;
const FLOAT4: u32 = 700;
const FLOAT8: u32 = 701;
const DATE: u32 = 1082;
const TIME: u32 = 1083;
const TIMESTAMP: u32 = 1114;
const TIMESTAMPTZ: u32 = 1184;
const INTERVAL: u32 = 1186;
const NUMERIC: u32 = 1700;

/// From 1970 to 2000, where PostgreSQL begins to count.
const EPOCH_DAYS: i32 = 10_957;
const DAY_MICROS: i64 = 86_400_000_000;
const EPOCH_MICROS: i64 = EPOCH_DAYS as i64 * DAY_MICROS;

/// A column of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    /// The type's object identifier.
    pub oid: u32,
    /// Bytes of the type, or -1 where they vary.
    pub size: i16,
}

/// The columns that a client is told of. Maps, lists and structures are `json`.
pub fn columns(schema: &Schema) -> Vec<Column> {
    let column = |field: &std::sync::Arc<Field>| {
        let oid = oid_of(field.data_type());
        Column { name: field.name().clone(), oid, size: size_of(oid) }
    };
    schema.fields().iter().map(column).collect()
}

pub(super) fn oid_of(data_type: &DataType) -> u32 {
    match data_type {
        DataType::Boolean => BOOL,
        DataType::Int8 | DataType::UInt8 | DataType::Int16 => INT2,
        DataType::UInt16 | DataType::Int32 => INT4,
        DataType::UInt32 | DataType::Int64 => INT8,
        DataType::Float16 | DataType::Float32 => FLOAT4,
        DataType::Float64 => FLOAT8,
        DataType::UInt64
        | DataType::Decimal32(..)
        | DataType::Decimal64(..)
        | DataType::Decimal128(..)
        | DataType::Decimal256(..) => NUMERIC,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => BYTEA,
        DataType::Timestamp(_, None) => TIMESTAMP,
        DataType::Timestamp(_, Some(_)) => TIMESTAMPTZ,
        DataType::Date32 | DataType::Date64 => DATE,
        DataType::Time32(_) | DataType::Time64(_) => TIME,
        DataType::Duration(_) | DataType::Interval(_) => INTERVAL,
        DataType::Dictionary(_, values) => oid_of(values),
        DataType::RunEndEncoded(_, values) => oid_of(values.data_type()),
        DataType::Null | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => TEXT,
        _ => JSON,
    }
}

fn size_of(oid: u32) -> i16 {
    match oid {
        BOOL => 1,
        INT2 => 2,
        INT4 | FLOAT4 | DATE => 4,
        INT8 | FLOAT8 | TIME | TIMESTAMP | TIMESTAMPTZ => 8,
        INTERVAL => 16,
        _ => -1,
    }
}

/// The Arrow type that a parameter of this type is planned as.
pub(super) fn sql_type_of(oid: u32) -> &'static str {
    match oid {
        BOOL => "BOOLEAN",
        INT2 | INT4 | INT8 => "BIGINT",
        FLOAT4 | FLOAT8 | NUMERIC => "DOUBLE",
        DATE => "DATE",
        TIMESTAMP => "TIMESTAMP",
        BYTEA => "BYTEA",
        1005 | 1007 | 1016 => "BIGINT[]",
        1021 | 1022 => "DOUBLE[]",
        1009 | 1015 => "VARCHAR[]",
        _ => "VARCHAR",
    }
}

/// Messages of rows, as they go to the client.
#[derive(Debug, Default)]
pub struct Rows {
    pub bytes: Vec<u8>,
    /// Where each row ends.
    pub ends: Vec<usize>,
}

/// So many bytes of rows are sent at once.
const CHUNK_BYTES: usize = 128 << 10;
const ROWS_AT_ONCE: usize = 1024;

/// Writes the rows of a batch from `from` on, until a chunk is full; returns where it stopped. `is_binary` tells each column's
/// format.
pub fn encode(batch: &RecordBatch, from: usize, is_binary: &[bool]) -> Result<(Rows, usize)> {
    let options = EncoderOptions::default();
    let batch = &batch.slice(from, ROWS_AT_ONCE.min(batch.num_rows() - from));
    let schema = batch.schema();
    let plain = batch.columns().iter().map(plain).collect::<Result<Vec<_>>>()?;
    let mut cells = Vec::with_capacity(plain.len());
    for ((column, field), is_binary) in plain.iter().zip(schema.fields()).zip(is_binary) {
        cells.push(cell(column, field, *is_binary, &options)?);
    }
    let (mut rows, mut row) = (Rows::default(), 0);
    while row < batch.num_rows() && rows.bytes.len() < CHUNK_BYTES {
        let begun = begin_row(&mut rows.bytes, cells.len());
        for (column, cell) in plain.iter().zip(&mut cells) {
            if column.is_null(row) || column.data_type() == &DataType::Null {
                rows.bytes.extend((-1_i32).to_be_bytes());
                continue;
            }
            let at = rows.bytes.len();
            rows.bytes.extend([0; 4]);
            cell(row, &mut rows.bytes);
            end_length(&mut rows.bytes, at, 4);
        }
        end_length(&mut rows.bytes, begun, 0);
        rows.ends.push(rows.bytes.len());
        row += 1;
    }
    Ok((rows, from + row))
}

/// The message of a row: its kind, its length, the number of its values.
fn begin_row(out: &mut Vec<u8>, columns: usize) -> usize {
    out.push(b'D');
    let at = out.len();
    out.extend([0; 4]);
    out.extend((columns as u16).to_be_bytes());
    at
}

/// A length counts itself (`without` 0) or does not (4).
fn end_length(out: &mut [u8], at: usize, without: usize) {
    let length = (out.len() - at - without) as u32;
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
}

/// One of the few representations that are written here.
fn plain(column: &ArrayRef) -> Result<ArrayRef> {
    let to = match column.data_type() {
        DataType::Int8 | DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 => DataType::Int64,
        DataType::Float16 => DataType::Float32,
        DataType::LargeUtf8
        | DataType::Utf8View
        | DataType::UInt64
        | DataType::Decimal32(..)
        | DataType::Decimal64(..)
        | DataType::Decimal128(..)
        | DataType::Decimal256(..) => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::Timestamp(unit, zone) if *unit != TimeUnit::Microsecond => {
            DataType::Timestamp(TimeUnit::Microsecond, zone.clone())
        }
        DataType::Date64 => DataType::Date32,
        DataType::Time32(_) | DataType::Time64(TimeUnit::Nanosecond) => DataType::Time64(TimeUnit::Microsecond),
        DataType::Interval(unit) if *unit != IntervalUnit::MonthDayNano => DataType::Interval(IntervalUnit::MonthDayNano),
        DataType::Duration(_) => {
            let micros = convert(column, &DataType::Duration(TimeUnit::Microsecond))?;
            return convert(&micros, &DataType::Int64);
        }
        DataType::Dictionary(_, values) => return plain(&convert(column, values)?),
        DataType::RunEndEncoded(_, values) => return plain(&convert(column, values.data_type())?),
        _ => return Ok(column.clone()),
    };
    convert(column, &to)
}

fn convert(column: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    cast(column, to).map_err(|error| Error::corrupt(format!("a column cannot be written as {to}: {error}")))
}

/// Writes the value of a row.
type Cell<'a> = Box<dyn FnMut(usize, &mut Vec<u8>) + 'a>;

macro_rules! numbers {
    ($column:expr, $kind:ty, $is_binary:expr, $text:expr) => {{
        let values = $column.as_primitive::<$kind>();
        if $is_binary {
            Box::new(move |row, out: &mut Vec<u8>| out.extend(values.value(row).to_be_bytes()))
        } else {
            Box::new(move |row, out: &mut Vec<u8>| $text(out, values.value(row)))
        }
    }};
}

fn cell<'a>(
    column: &'a ArrayRef,
    field: &'a std::sync::Arc<Field>,
    is_binary: bool,
    options: &'a EncoderOptions,
) -> Result<Cell<'a>> {
    let source = field.data_type();
    Ok(match column.data_type() {
        DataType::Boolean => {
            let values = column.as_boolean();
            Box::new(move |row, out: &mut Vec<u8>| {
                let value = values.value(row);
                out.push(match (is_binary, value) {
                    (true, _) => u8::from(value),
                    (false, true) => b't',
                    (false, false) => b'f',
                });
            })
        }
        DataType::Int16 => numbers!(column, Int16Type, is_binary, shown),
        DataType::Int32 => numbers!(column, Int32Type, is_binary, shown),
        DataType::Int64 if matches!(source, DataType::Duration(_)) => {
            let values = column.as_primitive::<Int64Type>();
            Box::new(move |row, out: &mut Vec<u8>| interval(out, 0, 0, values.value(row), is_binary))
        }
        DataType::Int64 => numbers!(column, Int64Type, is_binary, shown),
        DataType::Float32 => {
            numbers!(column, Float32Type, is_binary, |out: &mut Vec<u8>, value: f32| float(out, f64::from(value), &value))
        }
        DataType::Float64 => {
            numbers!(column, Float64Type, is_binary, |out: &mut Vec<u8>, value: f64| float(out, value, &value))
        }
        DataType::Utf8 if oid_of(source) == NUMERIC && is_binary => {
            let values = column.as_string::<i32>();
            Box::new(move |row, out: &mut Vec<u8>| numeric(out, values.value(row)))
        }
        DataType::Utf8 => {
            let values = column.as_string::<i32>();
            Box::new(move |row, out: &mut Vec<u8>| text(out, values.value(row)))
        }
        DataType::Binary => {
            let values = column.as_binary::<i32>();
            Box::new(move |row, out: &mut Vec<u8>| bytes(out, values.value(row), is_binary))
        }
        DataType::Null => Box::new(|_, _: &mut Vec<u8>| {}),
        other => match time_cell(column, other, is_binary) {
            Some(cell) => cell,
            None => json_cell(column, field, options)?,
        },
    })
}

fn time_cell<'a>(column: &'a ArrayRef, data_type: &DataType, is_binary: bool) -> Option<Cell<'a>> {
    Some(match data_type {
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let (values, has_zone) = (column.as_primitive::<TimestampMicrosecondType>(), zone.is_some());
            Box::new(move |row, out: &mut Vec<u8>| {
                let micros = values.value(row);
                if is_binary {
                    out.extend(micros.saturating_sub(EPOCH_MICROS).to_be_bytes());
                } else {
                    timestamp(out, micros, has_zone);
                }
            })
        }
        DataType::Date32 => {
            let values = column.as_primitive::<Date32Type>();
            Box::new(move |row, out: &mut Vec<u8>| {
                let days = values.value(row);
                if is_binary {
                    out.extend(days.saturating_sub(EPOCH_DAYS).to_be_bytes());
                } else {
                    date(out, i64::from(days));
                }
            })
        }
        DataType::Time64(TimeUnit::Microsecond) => {
            numbers!(column, Time64MicrosecondType, is_binary, time)
        }
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            let values = column.as_primitive::<IntervalMonthDayNanoType>();
            Box::new(move |row, out: &mut Vec<u8>| {
                let value = values.value(row);
                interval(out, value.months, value.days, value.nanoseconds / 1000, is_binary);
            })
        }
        _ => return None,
    })
}

fn json_cell<'a>(column: &'a ArrayRef, field: &'a std::sync::Arc<Field>, options: &'a EncoderOptions) -> Result<Cell<'a>> {
    let encoder = make_encoder(field, column.as_ref(), options);
    let mut encoder = encoder.map_err(|error| Error::corrupt(format!("column {:?}: {error}", field.name())))?;
    Ok(Box::new(move |row, out: &mut Vec<u8>| encoder.encode(row, out)))
}

fn shown(out: &mut Vec<u8>, value: impl std::fmt::Display) {
    let _ = std::io::Write::write_fmt(out, format_args!("{value}"));
}

/// PostgreSQL's text knows no zero byte: a client would take it for the end.
fn text(out: &mut Vec<u8>, value: &str) {
    if value.contains('\0') {
        out.extend(value.replace('\0', "\u{fffd}").into_bytes());
    } else {
        out.extend(value.as_bytes());
    }
}

/// The shortest text that reads back as the same number; `value` is `wide` in its own precision.
fn float(out: &mut Vec<u8>, wide: f64, value: &(impl std::fmt::Display + std::fmt::LowerExp)) {
    let size = wide.abs();
    if wide.is_nan() {
        out.extend(b"NaN");
    } else if wide.is_infinite() {
        out.extend(if wide > 0.0 { &b"Infinity"[..] } else { b"-Infinity" });
    } else if size == 0.0 || (1e-5..1e15).contains(&size) {
        shown(out, value);
    } else {
        shown(out, format_args!("{value:e}"));
    }
}

fn bytes(out: &mut Vec<u8>, value: &[u8], is_binary: bool) {
    if is_binary {
        out.extend(value);
        return;
    }
    out.extend(b"\\x");
    for byte in value {
        shown(out, format_args!("{byte:02x}"));
    }
}

/// Year, month, day of a day since 1970: Howard Hinnant's algorithm, with years from March on.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

/// The year 0 is 1 BC; what says so stands at the very end.
fn date_and_era(out: &mut Vec<u8>, days: i64) -> &'static str {
    let (year, month, day) = civil(days);
    let (year, era) = if year > 0 { (year, "") } else { (1 - year, " BC") };
    shown(out, format_args!("{year:04}-{month:02}-{day:02}"));
    era
}

fn date(out: &mut Vec<u8>, days: i64) {
    let era = date_and_era(out, days);
    out.extend(era.as_bytes());
}

pub(super) fn date_text(days: i32) -> String {
    written(|out| date(out, i64::from(days)))
}

pub(super) fn timestamp_text(micros: i64, has_zone: bool) -> String {
    written(|out| timestamp(out, micros, has_zone))
}

fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    String::from_utf8_lossy(&out).into_owned()
}

fn time(out: &mut Vec<u8>, micros: i64) {
    let seconds = micros / 1_000_000;
    shown(out, format_args!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60));
    let fraction = micros % 1_000_000;
    if fraction != 0 {
        let digits = format!("{fraction:06}");
        shown(out, format_args!(".{}", digits.trim_end_matches('0')));
    }
}

fn timestamp(out: &mut Vec<u8>, micros: i64, has_zone: bool) {
    let era = date_and_era(out, micros.div_euclid(DAY_MICROS));
    out.push(b' ');
    time(out, micros.rem_euclid(DAY_MICROS));
    if has_zone {
        out.extend(b"+00");
    }
    out.extend(era.as_bytes());
}

fn interval(out: &mut Vec<u8>, months: i32, days: i32, micros: i64, is_binary: bool) {
    if is_binary {
        out.extend(micros.to_be_bytes());
        out.extend(days.to_be_bytes());
        out.extend(months.to_be_bytes());
        return;
    }
    if months != 0 {
        shown(out, format_args!("{months} mons "));
    }
    if days != 0 {
        shown(out, format_args!("{days} days "));
    }
    if micros < 0 {
        out.push(b'-');
    }
    // Its lowest value has no positive one.
    time(out, micros.checked_abs().unwrap_or(i64::MAX));
}

/// A decimal text as groups of four digits around the point.
fn numeric(out: &mut Vec<u8>, value: &str) {
    let (is_negative, value) = value.strip_prefix('-').map_or((false, value), |value| (true, value));
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    let mut digits = String::new();
    let _ = write!(digits, "{}{whole}{fraction}", "0".repeat((4 - whole.len() % 4) % 4));
    digits.push_str(&"0".repeat((4 - fraction.len() % 4) % 4));
    let mut groups: Vec<u16> =
        digits.as_bytes().chunks(4).map(|four| four.iter().fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'))).collect();
    let mut weight = whole.len().div_ceil(4) as i16 - 1;
    let leading = groups.iter().take_while(|group| **group == 0).count();
    groups.drain(..leading);
    weight -= leading as i16;
    while groups.last() == Some(&0) {
        groups.pop();
    }
    out.extend((groups.len() as u16).to_be_bytes());
    out.extend((if groups.is_empty() { 0 } else { weight }).to_be_bytes());
    out.extend((if is_negative { 0x4000_u16 } else { 0 }).to_be_bytes());
    out.extend((fraction.len() as u16).to_be_bytes());
    out.extend(groups.iter().flat_map(|group| group.to_be_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{
        BooleanArray, Decimal128Array, DurationMillisecondArray, Float64Array, Int64Array, NullArray, StringArray,
        TimestampNanosecondArray, UInt64Array,
    };
    use std::sync::Arc;

    fn cells(column: ArrayRef, is_binary: bool) -> Vec<Option<Vec<u8>>> {
        let batch = RecordBatch::try_from_iter([("c", column)]).expect("one column");
        let (rows, end) = encode(&batch, 0, &[is_binary]).expect("written");
        assert_eq!(end, batch.num_rows());
        let starts = std::iter::once(0).chain(rows.ends.iter().copied());
        let cell = |(from, to): (usize, usize)| {
            let row = &rows.bytes[from..to];
            assert_eq!(u32::from_be_bytes([row[1], row[2], row[3], row[4]]) as usize, row.len() - 1);
            (row[7..11] != [255; 4]).then(|| row[11..].to_vec())
        };
        starts.zip(rows.ends.iter().copied()).map(cell).collect()
    }

    fn check(column: impl Array + 'static, expect: &[&str]) {
        let texts: Vec<String> = cells(Arc::new(column), false)
            .into_iter()
            .map(|cell| cell.map_or("NULL".to_owned(), |bytes| String::from_utf8(bytes).expect("text")))
            .collect();
        assert_eq!(texts, expect);
    }

    #[test]
    fn values_are_written_as_postgres_does() {
        check(BooleanArray::from(vec![Some(true), Some(false), None]), &["t", "f", "NULL"]);
        check(Int64Array::from(vec![i64::MIN, 7]), &["-9223372036854775808", "7"]);
        check(Float64Array::from(vec![0.5, f64::NAN, f64::NEG_INFINITY, 1e300, 3.0]), &["0.5", "NaN", "-Infinity", "1e300", "3"]);
        check(StringArray::from(vec!["a\0b", ""]), &["a\u{fffd}b", ""]);
        let nanos = TimestampNanosecondArray::from(vec![0, 1_709_210_096_123_456_789, -1_000_000_000]);
        let expect = ["1970-01-01 00:00:00+00", "2024-02-29 12:34:56.123456+00", "1969-12-31 23:59:59+00"];
        check(nanos.with_timezone("UTC"), &expect);
        check(DurationMillisecondArray::from(vec![-90_061_500]), &["-25:01:01.5"]);
        check(UInt64Array::from(vec![u64::MAX]), &["18446744073709551615"]);
        check(NullArray::new(1), &["NULL"]);
        assert_eq!(cells(Arc::new(Int64Array::from(vec![258])), true), [Some(vec![0, 0, 0, 0, 0, 0, 1, 2])]);
        let second = cells(Arc::new(TimestampNanosecondArray::from(vec![946_684_801_000_000_000])), true);
        assert_eq!(second, [Some(1_000_000_i64.to_be_bytes().to_vec())]);
    }

    #[test]
    fn numerics_are_groups_of_four_digits() {
        let decimals = Decimal128Array::from(vec![1_234_567_890, -5, 0]).with_precision_and_scale(20, 2).expect("in range");
        let shorts = |values: &[i16]| Some(values.iter().flat_map(|value| value.to_be_bytes()).collect::<Vec<u8>>());
        let expect = [shorts(&[3, 1, 0, 2, 1234, 5678, 9000]), shorts(&[1, -1, 0x4000, 2, 500]), shorts(&[0, 0, 0, 2])];
        assert_eq!(cells(Arc::new(decimals), true), expect);
    }

    #[test]
    fn chunks_end_between_rows() {
        let long = "x".repeat(CHUNK_BYTES / 2);
        let column: ArrayRef = Arc::new(StringArray::from(vec![long.as_str(); 5]));
        let batch = RecordBatch::try_from_iter([("c", column)]).expect("one column");
        let (rows, end) = encode(&batch, 1, &[false]).expect("written");
        assert_eq!((rows.ends.len(), end), (2, 3));
        assert_eq!(rows.ends.last(), Some(&rows.bytes.len()));
    }
}
