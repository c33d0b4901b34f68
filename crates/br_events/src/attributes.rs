//! Attributes in columns: writing them into the map, reading them back from map and promoted columns.

use crate::counters::EventCounters;
use crate::json;
use crate::options::{ATTRIBUTES_MAX, RecordLimits};
use crate::schema::{ATTRIBUTE_ORDER, ATTRIBUTE_TYPES, ATTRIBUTES, PROMOTED_PREFIX, column};
use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Float64Array, Int64Array, MapArray, MapBuilder, MapFieldNames, RecordBatch,
    StringArray, StringBuilder,
};
use arrow::datatypes::DataType;
use br_model::{AttributeValue, Attributes};
use br_std::{Error, Result};
use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

pub(crate) const STRING: u8 = b's';
pub(crate) const BOOL: u8 = b'b';
pub(crate) const INT: u8 = b'i';
pub(crate) const DOUBLE: u8 = b'd';
const BYTES: u8 = b'x';
/// Arrays and maps, as typed JSON.
pub(crate) const NESTED: u8 = b'j';
const EMPTY: u8 = b'e';

/// One attribute as it stands in the columns.
#[derive(Clone, Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) key: &'a str,
    pub(crate) letter: u8,
    pub(crate) text: Cow<'a, str>,
}

/// The letter and the text of a value.
pub(crate) fn encode(value: &AttributeValue) -> (u8, Cow<'_, str>) {
    match value {
        AttributeValue::String(text) => (STRING, Cow::Borrowed(text)),
        AttributeValue::Bool(value) => (BOOL, Cow::Borrowed(if *value { "true" } else { "false" })),
        AttributeValue::Int(value) => (INT, Cow::Owned(value.to_string())),
        AttributeValue::Double(value) => (DOUBLE, Cow::Owned(format!("{value:?}"))),
        AttributeValue::Bytes(bytes) => (BYTES, Cow::Owned(hex::encode(bytes))),
        AttributeValue::Array(_) | AttributeValue::Map(_) => (NESTED, Cow::Owned(json::encode_value(value))),
        AttributeValue::Empty => (EMPTY, Cow::Borrowed("null")),
    }
}

/// The value behind a letter and a text.
pub(crate) fn decode(letter: u8, text: &str) -> Result<AttributeValue> {
    let wrong = || Error::corrupt(format!("attribute of type {:?} has the text {text:?}", char::from(letter)));
    Ok(match letter {
        STRING => AttributeValue::String(text.to_owned()),
        BOOL => AttributeValue::Bool(text.parse().map_err(|_| wrong())?),
        INT => AttributeValue::Int(text.parse().map_err(|_| wrong())?),
        DOUBLE => AttributeValue::Double(text.parse().map_err(|_| wrong())?),
        BYTES => AttributeValue::Bytes(hex::decode(text).map_err(|_| wrong())?),
        NESTED => json::decode_value(text)?,
        EMPTY => AttributeValue::Empty,
        _ => return Err(wrong()),
    })
}

/// The text that a label, a filter or a person sees: what [`AttributeValue`] shows, without the tags of our JSON.
pub(crate) fn shown<'a>(entry: &'a Entry<'_>) -> Result<Cow<'a, str>> {
    match entry.letter {
        NESTED | DOUBLE => Ok(Cow::Owned(decode(entry.letter, &entry.text)?.to_string())),
        _ => Ok(Cow::Borrowed(&entry.text)),
    }
}

/// Builds the map column and the column of its letters.
pub(crate) struct AttributesBuilder {
    map: MapBuilder<StringBuilder, StringBuilder>,
    letters: StringBuilder,
    current: String,
}

impl AttributesBuilder {
    pub(crate) fn new() -> Self {
        let names = MapFieldNames { entry: "entries".into(), key: "key".into(), value: "value".into() };
        let map = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new());
        Self { map, letters: StringBuilder::new(), current: String::new() }
    }

    pub(crate) fn push(&mut self, key: &str, letter: u8, text: &str) {
        self.map.keys().append_value(key);
        self.map.values().append_value(text);
        self.current.push(char::from(letter));
    }

    /// Ends the row.
    pub(crate) fn end_row(&mut self) -> Result<()> {
        self.letters.append_value(&self.current);
        self.current.clear();
        self.map.append(true).map_err(crate::schema::damaged)
    }

    /// Adds a whole row, within limits.
    pub(crate) fn push_row(&mut self, attributes: &Attributes, limits: &RecordLimits, counters: &EventCounters) -> Result<()> {
        let count_max = limits.attributes_max.min(ATTRIBUTES_MAX);
        for (key, value) in attributes.iter().take(count_max) {
            let (letter, text) = encode(value);
            if key.len() <= limits.attribute_bytes_max && text.len() <= limits.attribute_bytes_max {
                self.push(key, letter, &text);
                continue;
            }
            EventCounters::add(&counters.attributes_cut, 1);
            let (key, text) = (cut(key, limits.attribute_bytes_max), cut(&text, limits.attribute_bytes_max));
            self.push(key, STRING, text);
        }
        EventCounters::add(&counters.attributes_dropped, attributes.len().saturating_sub(count_max));
        self.end_row()
    }

    pub(crate) fn finish(mut self) -> (ArrayRef, ArrayRef) {
        (Arc::new(self.map.finish()), Arc::new(self.letters.finish()))
    }
}

/// The longest start of `text` that has at most `bytes_max` bytes and ends between characters.
pub(crate) fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

/// The name of a promoted column.
pub(crate) fn promoted_name(key: &str, letter: u8) -> String {
    format!("{PROMOTED_PREFIX}{key}:{}", char::from(letter))
}

/// Key and letter of a promoted column; `None` for any other column.
pub(crate) fn parse_promoted(name: &str) -> Option<(&str, u8)> {
    let (key, letter) = name.strip_prefix(PROMOTED_PREFIX)?.rsplit_once(':')?;
    match letter.as_bytes() {
        [letter @ (STRING | BOOL | INT | DOUBLE)] => Some((key, *letter)),
        _ => None,
    }
}

pub(crate) fn promoted_type(letter: u8) -> DataType {
    match letter {
        BOOL => DataType::Boolean,
        INT => DataType::Int64,
        DOUBLE => DataType::Float64,
        _ => DataType::Utf8,
    }
}

struct Promoted<'a> {
    key: &'a str,
    letter: u8,
    array: &'a ArrayRef,
}

impl<'a> Promoted<'a> {
    fn value(&self, row: usize) -> Option<Value<'a>> {
        if self.array.is_null(row) {
            return None;
        }
        let any = self.array.as_any();
        Some(match self.letter {
            BOOL => Value::Bool(any.downcast_ref::<BooleanArray>()?.value(row)),
            INT => Value::Int(any.downcast_ref::<Int64Array>()?.value(row)),
            DOUBLE => Value::Double(any.downcast_ref::<Float64Array>()?.value(row)),
            _ => Value::Text(any.downcast_ref::<StringArray>()?.value(row)),
        })
    }

    fn text(&self, row: usize) -> Option<Cow<'a, str>> {
        self.value(row).map(Value::text)
    }
}

/// A value as its column has it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value<'a> {
    Text(&'a str),
    Bool(bool),
    Int(i64),
    Double(f64),
}

impl<'a> Value<'a> {
    fn text(self) -> Cow<'a, str> {
        match self {
            Self::Text(text) => Cow::Borrowed(text),
            Self::Bool(value) => Cow::Borrowed(if value { "true" } else { "false" }),
            Self::Int(value) => Cow::Owned(value.to_string()),
            Self::Double(value) => Cow::Owned(format!("{value:?}")),
        }
    }

    /// Of an attribute that is a finite number, what its text says.
    pub(crate) fn number(self, letter: u8) -> Option<f64> {
        let number = match self {
            Self::Int(value) => Some(value as f64),
            Self::Double(value) => Some(value),
            Self::Text(text) if [INT, DOUBLE].contains(&letter) => text.parse().ok(),
            Self::Text(_) | Self::Bool(_) => None,
        };
        number.filter(|number| number.is_finite())
    }

    /// What tells it from other values of the same letter.
    pub(crate) fn add_to(self, key: &mut Vec<u8>) {
        match self {
            Self::Text(text) => {
                key.extend_from_slice(&(text.len() as u32).to_le_bytes());
                key.extend_from_slice(text.as_bytes());
            }
            Self::Bool(value) => key.push(u8::from(value)),
            Self::Int(value) => key.extend_from_slice(&value.to_le_bytes()),
            Self::Double(value) => key.extend_from_slice(&value.to_bits().to_le_bytes()),
        }
    }
}

/// The map column of a batch, and the letters beside it.
pub(crate) struct MapRows<'a> {
    map: &'a MapArray,
    pub(crate) keys: &'a StringArray,
    pub(crate) values: &'a StringArray,
    letters: &'a StringArray,
}

impl<'a> MapRows<'a> {
    pub(crate) fn new(batch: &'a RecordBatch) -> Result<Self> {
        let map: &MapArray = column(batch, ATTRIBUTES)?;
        let text = |array: &'a ArrayRef| {
            array.as_any().downcast_ref::<StringArray>().ok_or_else(|| Error::corrupt("column attributes is not a map of texts"))
        };
        Ok(Self { map, keys: text(map.keys())?, values: text(map.values())?, letters: column(batch, ATTRIBUTE_TYPES)? })
    }

    /// Where a row's entries stand among the keys and values, and their letters.
    pub(crate) fn row(&self, row: usize) -> Result<(Range<usize>, &'a [u8])> {
        let offsets = self.map.value_offsets();
        let (from, to) = (offsets[row] as usize, offsets[row + 1] as usize);
        let letters = self.letters.value(row).as_bytes();
        if letters.len() != to - from {
            return Err(Error::corrupt(format!("row {row} has {} attributes and {} types", to - from, letters.len())));
        }
        Ok((from..to, letters))
    }
}

/// Reads the attributes of each row of a narrow or a wide batch.
pub(crate) struct AttributesReader<'a> {
    promoted: Vec<Promoted<'a>>,
    /// Not there when none of the keys that are wanted is in it.
    rest: Option<MapRows<'a>>,
    order: Option<&'a BinaryArray>,
}

impl<'a> AttributesReader<'a> {
    pub(crate) fn new(batch: &'a RecordBatch) -> Result<Self> {
        let mut columns = Vec::new();
        for (field, array) in batch.schema_ref().fields().iter().zip(batch.columns()) {
            if let Some((key, letter)) = parse_promoted(field.name()) {
                columns.push(Promoted { key, letter, array });
            }
        }
        let order = batch.column_by_name(ATTRIBUTE_ORDER).and_then(|array| array.as_any().downcast_ref());
        let rest = if batch.column_by_name(ATTRIBUTES).is_some() { Some(MapRows::new(batch)?) } else { None };
        Ok(Self { promoted: columns, rest, order })
    }

    /// The attributes of a row: as they came in a narrow batch, as they are stored in a wide one, but for those that repeat a key.
    pub(crate) fn entries(&self, row: usize) -> Result<Vec<Entry<'_>>> {
        let mut entries: Vec<Entry<'_>> = Vec::new();
        for promoted in &self.promoted {
            if let Some(text) = promoted.text(row) {
                entries.push(Entry { key: promoted.key, letter: promoted.letter, text });
            }
        }
        if let Some(rest) = &self.rest {
            let (places, letters) = rest.row(row)?;
            for (at, letter) in places.zip(letters) {
                entries.push(Entry { key: rest.keys.value(at), letter: *letter, text: Cow::Borrowed(rest.values.value(at)) });
            }
        }
        match self.order {
            Some(order) if !order.is_null(row) => reorder(&entries, order.value(row)),
            _ => Ok(entries),
        }
    }

    /// Without the columns whose key is not wanted, and without the map where none is in it.
    pub(crate) fn only(mut self, wants: impl Fn(&str) -> bool) -> Self {
        self.promoted.retain(|promoted| wants(promoted.key));
        self.rest = self.rest.filter(|rest| rest.keys.iter().flatten().any(wants));
        self
    }

    /// Whether a key is wanted, by column.
    pub(crate) fn columns_where(&self, wants: impl Fn(&str) -> bool) -> Vec<bool> {
        self.promoted.iter().map(|promoted| wants(promoted.key)).collect()
    }

    /// Calls `each` with number and letter of each column in which a row has a value, and the value.
    #[inline]
    pub(crate) fn each_column(&self, row: usize, mut each: impl FnMut(usize, u8, Value<'a>)) {
        for (at, promoted) in self.promoted.iter().enumerate() {
            if let Some(value) = promoted.value(row) {
                each(at, promoted.letter, value);
            }
        }
    }

    /// Calls `each` with key, letter and value of those of a row without a column whose key is wanted.
    pub(crate) fn each_of_map(
        &self,
        row: usize,
        wants: impl Fn(&str) -> bool,
        mut each: impl FnMut(&'a str, u8, Value<'a>),
    ) -> Result<()> {
        let Some(rest) = &self.rest else { return Ok(()) };
        let (places, letters) = rest.row(row)?;
        for (at, letter) in places.zip(letters).filter(|(at, _)| wants(rest.keys.value(*at))) {
            each(rest.keys.value(at), *letter, Value::Text(rest.values.value(at)));
        }
        Ok(())
    }

    /// Calls `each` with key, letter and value of those whose key is wanted, in the order of [`Self::entries_where`].
    pub(crate) fn each_where(
        &self,
        row: usize,
        wants: impl Fn(&str) -> bool,
        mut each: impl FnMut(&'a str, u8, Value<'a>),
    ) -> Result<()> {
        for promoted in self.promoted.iter().filter(|promoted| wants(promoted.key)) {
            if let Some(value) = promoted.value(row) {
                each(promoted.key, promoted.letter, value);
            }
        }
        self.each_of_map(row, wants, each)
    }

    /// Those whose key is wanted: first those with a column of their own, then the others.
    pub(crate) fn entries_where(&self, row: usize, wants: impl Fn(&str) -> bool) -> Result<Vec<Entry<'_>>> {
        let mut entries = Vec::new();
        self.each_where(row, wants, |key, letter, value| entries.push(Entry { key, letter, text: value.text() }))?;
        Ok(entries)
    }

    /// Whether a row may have an attribute with a key that is wanted.
    pub(crate) fn has_key(&self, wants: impl Fn(&str) -> bool) -> bool {
        let is_promoted = self.promoted.iter().any(|promoted| wants(promoted.key));
        is_promoted || self.map_has_key(wants)
    }

    /// Whether a row may have one without a column of its own.
    pub(crate) fn map_has_key(&self, wants: impl Fn(&str) -> bool) -> bool {
        self.rest.as_ref().is_some_and(|rest| rest.keys.iter().flatten().any(wants))
    }

    /// Calls `each` with key and letter of all attributes without a column of their own.
    pub(crate) fn each_in_map(&self, mut each: impl FnMut(&'a str, u8)) -> Result<()> {
        let Some(rest) = &self.rest else { return Ok(()) };
        for row in 0..rest.map.len() {
            let (places, letters) = rest.row(row)?;
            places.zip(letters).for_each(|(at, letter)| each(rest.keys.value(at), *letter));
        }
        Ok(())
    }

    /// Those with the keys, of a batch that may lack the other promoted columns and the order.
    pub(crate) fn named(&self, row: usize, keys: &[String]) -> Result<Attributes> {
        decode_all(self.entries_where(row, |key| keys.iter().any(|known| known == key))?)
    }

    pub(crate) fn attributes(&self, row: usize) -> Result<Attributes> {
        decode_all(self.entries(row)?)
    }
}

fn decode_all(entries: Vec<Entry<'_>>) -> Result<Attributes> {
    let pairs = entries.into_iter().map(|entry| Ok((entry.key.to_owned(), decode(entry.letter, &entry.text)?)));
    Ok(Attributes(pairs.collect::<Result<_>>()?))
}

fn reorder<'a>(entries: &[Entry<'a>], order: &[u8]) -> Result<Vec<Entry<'a>>> {
    let ordered: Option<Vec<_>> = order.iter().map(|at| entries.get(usize::from(*at)).cloned()).collect();
    ordered
        .filter(|ordered| ordered.len() == entries.len())
        .ok_or_else(|| Error::corrupt("the order of attributes does not fit their number"))
}
