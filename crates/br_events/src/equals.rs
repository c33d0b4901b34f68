//! Rows that have an attribute of a value, told apart on columns before whole rows are made of them.

use crate::attributes::{self, BOOL, DOUBLE, Entry, INT, MapRows, NESTED, parse_promoted};
use crate::origin::resources;
use crate::schema::{ATTRIBUTE_TYPES, ATTRIBUTES, RESOURCE, column};
use crate::summary::FileStats;
use crate::terms::{plain_text, value_term};
use arrow::array::{Array, ArrayRef, BooleanArray, DictionaryArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int32Type;
use br_model::AttributeValue;
use br_std::Result;
use hashbrown::HashMap;
use std::borrow::Cow;

/// An attribute of the record or of its resource must have this value. Rows that have another one by the language's own rule may stay.
#[derive(Clone, Debug)]
pub(crate) struct Equals {
    key: String,
    /// As filters have it: a whole number reads the same whatever its type.
    text: String,
    int: Option<i64>,
    double: Option<f64>,
}

impl Equals {
    /// `None` for values that are compared in other ways than by their text.
    pub(crate) fn new(key: &str, value: &AttributeValue) -> Option<Self> {
        value_term(key, value)?;
        let shown = match value {
            AttributeValue::Double(number) => format!("{number:?}"),
            other => other.to_string(),
        };
        let text = plain_text(&shown).to_owned();
        Some(Self { key: key.to_owned(), int: text.parse().ok(), double: text.parse().ok(), text })
    }

    /// Whether a column of a file, or of a head that has no statistics, is looked at.
    pub(crate) fn reads(&self, stats: &FileStats, name: &str) -> bool {
        match name {
            RESOURCE => true,
            ATTRIBUTES | ATTRIBUTE_TYPES => stats.may_have_in_map(&self.key),
            name => parse_promoted(name).is_some_and(|(key, _)| key == self.key),
        }
    }

    /// Of rows those that may have it.
    pub(crate) fn retain(&self, batch: &RecordBatch, rows: &mut Vec<u32>) -> Result<()> {
        let mut promoted: Vec<(&ArrayRef, u8)> = Vec::new();
        for (field, array) in batch.schema_ref().fields().iter().zip(batch.columns()) {
            if let Some((_, letter)) = parse_promoted(field.name()).filter(|(key, _)| *key == self.key) {
                promoted.push((array, letter));
            }
        }
        let map = if batch.column_by_name(ATTRIBUTES).is_some() { Some(MapRows::new(batch)?) } else { None };
        let origins: &DictionaryArray<Int32Type> = column(batch, RESOURCE)?;
        let mut resources = resources(batch)?;
        let mut of_resource: HashMap<i32, bool> = HashMap::new();
        let mut failed = Ok(());
        rows.retain(|row| {
            let row = *row as usize;
            if promoted.iter().any(|(array, letter)| self.is_in(array, *letter, row)) {
                return true;
            }
            let origin = origins.keys().value(row);
            let is_in_resource = match of_resource.get(&origin) {
                Some(known) => Ok(*known),
                None => resources.get(row).map(|resource| {
                    let is = resource.attributes.iter().any(|(key, value)| *key == self.key && self.is(value));
                    of_resource.insert(origin, is);
                    is
                }),
            };
            let found = is_in_resource.and_then(|is| Ok(is || map.as_ref().map_or(Ok(false), |map| self.is_in_map(map, row))?));
            found.unwrap_or_else(|error| {
                failed = Err(error);
                false
            })
        });
        failed
    }

    fn is_in(&self, array: &ArrayRef, letter: u8, row: usize) -> bool {
        if array.is_null(row) {
            return false;
        }
        let any = array.as_any();
        match letter {
            INT => any.downcast_ref::<Int64Array>().is_some_and(|array| self.int == Some(array.value(row))),
            DOUBLE => any.downcast_ref::<Float64Array>().is_some_and(|array| self.double == Some(array.value(row))),
            BOOL => any.downcast_ref::<BooleanArray>().is_some_and(|array| self.text == array.value(row).to_string()),
            _ => any.downcast_ref::<StringArray>().is_some_and(|array| plain_text(array.value(row)) == self.text),
        }
    }

    fn is_in_map(&self, map: &MapRows<'_>, row: usize) -> Result<bool> {
        let (places, letters) = map.row(row)?;
        for (at, letter) in places.zip(letters) {
            let key = map.keys.value(at);
            if key != self.key {
                continue;
            }
            let entry = Entry { key, letter: *letter, text: Cow::Borrowed(map.values.value(at)) };
            // Of arrays one element is enough: the language looks at them.
            if *letter == NESTED || plain_text(&attributes::shown(&entry)?) == self.text {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is(&self, value: &AttributeValue) -> bool {
        matches!(value, AttributeValue::Array(_)) || plain_text(&value.to_string()) == self.text
    }
}
