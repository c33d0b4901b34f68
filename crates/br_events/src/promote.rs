//! Frequent attributes into columns of their own, and back.

use crate::attributes::{
    AttributesBuilder, AttributesReader, BOOL, DOUBLE, Entry, INT, STRING, parse_promoted, promoted_name, promoted_type,
};
use crate::schema::{ATTRIBUTE_ORDER, ATTRIBUTE_TYPES, ATTRIBUTES, damaged};
use arrow::array::{ArrayRef, BinaryBuilder, BooleanBuilder, Float64Builder, Int64Builder, RecordBatch, StringBuilder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use br_std::Result;
use hashbrown::HashMap;
use std::sync::Arc;

/// A key is promoted when at least one row in this many has it.
const ROWS_PER_USE_MAX: usize = 50;
/// Keys longer than this stay in the map.
const KEY_BYTES_MAX: usize = 256;

/// Which attributes get a column, in the order of the columns.
#[derive(Clone, Debug, Default)]
pub(crate) struct Promotion {
    columns: Vec<(String, u8)>,
}

impl Promotion {
    /// Chooses by frequency over all batches; the columns stand in the order in which records usually have them.
    pub(crate) fn choose(batches: &[RecordBatch], columns_max: usize) -> Result<Self> {
        let mut uses: HashMap<(String, u8), (usize, usize)> = HashMap::new();
        let mut rows = 0;
        for batch in batches {
            rows += batch.num_rows();
            let reader = AttributesReader::new(batch)?;
            for row in 0..batch.num_rows() {
                for (at, entry) in reader.entries(row)?.iter().enumerate().filter(|(_, entry)| is_promotable(entry)) {
                    let (count, positions) = uses.entry((entry.key.to_owned(), entry.letter)).or_default();
                    *count += 1;
                    *positions += at;
                }
            }
        }
        let mut chosen: Vec<_> = uses.into_iter().filter(|(_, (count, _))| count * ROWS_PER_USE_MAX >= rows).collect();
        chosen.sort_by(|(key, (count, _)), (other, (other_count, _))| other_count.cmp(count).then_with(|| key.cmp(other)));
        chosen.truncate(columns_max);
        chosen.sort_by(|(key, (count, positions)), (other, (other_count, other_positions))| {
            (positions * other_count).cmp(&(other_positions * count)).then_with(|| key.cmp(other))
        });
        Ok(Self { columns: chosen.into_iter().map(|(key, _)| key).collect() })
    }

    /// The wide schema: promoted columns and the order stand before the map.
    pub(crate) fn schema(&self, narrow: &Schema) -> SchemaRef {
        let mut fields = Vec::new();
        for field in narrow.fields() {
            if field.name() == ATTRIBUTES {
                let promoted = self.columns.iter().map(|(key, letter)| (promoted_name(key, *letter), promoted_type(*letter)));
                fields.extend(promoted.map(|(name, data_type)| Arc::new(Field::new(name, data_type, true))));
                fields.push(Arc::new(Field::new(ATTRIBUTE_ORDER, DataType::Binary, true)));
            }
            fields.push(field.clone());
        }
        Arc::new(Schema::new(fields))
    }

    /// A narrow batch as a wide one.
    pub(crate) fn widen(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let reader = AttributesReader::new(batch)?;
        let places: HashMap<(&str, u8), usize> =
            self.columns.iter().enumerate().map(|(at, (key, letter))| ((key.as_str(), *letter), at)).collect();
        let mut columns: Vec<TypedBuilder> = self.columns.iter().map(|(_, letter)| TypedBuilder::new(*letter)).collect();
        let mut orders = BinaryBuilder::new();
        let mut rest = AttributesBuilder::new();
        for row in 0..batch.num_rows() {
            let entries = reader.entries(row)?;
            let mut taken: Vec<Option<usize>> = vec![None; columns.len()];
            let mut rest_entries = Vec::new();
            for (at, entry) in entries.iter().enumerate() {
                match places.get(&(entry.key, entry.letter)) {
                    Some(place) if taken[*place].is_none() && columns[*place].accepts(&entry.text) => taken[*place] = Some(at),
                    _ => {
                        rest.push(entry.key, entry.letter, &entry.text);
                        rest_entries.push(at);
                    }
                }
            }
            rest.end_row()?;
            for (column, at) in columns.iter_mut().zip(&taken) {
                column.append(at.map(|at| entries[at].text.as_ref()));
            }
            let stored: Vec<usize> = taken.into_iter().flatten().chain(rest_entries).collect();
            append_order(&mut orders, &stored);
        }
        let (map, letters) = rest.finish();
        self.assemble(batch, columns, orders, map, letters)
    }

    fn assemble(
        &self,
        batch: &RecordBatch,
        columns: Vec<TypedBuilder>,
        mut orders: BinaryBuilder,
        map: ArrayRef,
        letters: ArrayRef,
    ) -> Result<RecordBatch> {
        let mut arrays: Vec<ArrayRef> = Vec::new();
        let mut promoted: Vec<ArrayRef> = columns.into_iter().map(TypedBuilder::finish).collect();
        for (field, array) in batch.schema_ref().fields().iter().zip(batch.columns()) {
            match field.name().as_str() {
                ATTRIBUTES => {
                    arrays.append(&mut promoted);
                    arrays.push(Arc::new(orders.finish()));
                    arrays.push(map.clone());
                }
                ATTRIBUTE_TYPES => arrays.push(letters.clone()),
                _ => arrays.push(array.clone()),
            }
        }
        RecordBatch::try_new(self.schema(batch.schema_ref()), arrays).map_err(damaged)
    }
}

pub(crate) fn is_promotable(entry: &Entry<'_>) -> bool {
    matches!(entry.letter, STRING | BOOL | INT | DOUBLE) && entry.key.len() <= KEY_BYTES_MAX
}

/// `stored[i]` is the place in the record of what is stored as number `i`; what is kept is the inverse, and only when it says something.
fn append_order(orders: &mut BinaryBuilder, stored: &[usize]) {
    if stored.is_sorted() {
        return orders.append_null();
    }
    let mut order = vec![0u8; stored.len()];
    for (number, place) in stored.iter().enumerate() {
        order[*place] = number as u8; // a record has at most 255 attributes
    }
    orders.append_value(order);
}

/// A wide batch (or a narrow one) as a narrow one.
pub(crate) fn narrow(batch: &RecordBatch) -> Result<RecordBatch> {
    let wide = batch.schema_ref().fields().iter().any(|field| parse_promoted(field.name()).is_some());
    if !wide && batch.column_by_name(ATTRIBUTE_ORDER).is_none() {
        return Ok(batch.clone());
    }
    let reader = AttributesReader::new(batch)?;
    let mut builder = AttributesBuilder::new();
    for row in 0..batch.num_rows() {
        for entry in reader.entries(row)? {
            builder.push(entry.key, entry.letter, &entry.text);
        }
        builder.end_row()?;
    }
    let (map, letters) = builder.finish();
    let (mut fields, mut arrays) = (Vec::new(), Vec::new());
    for (field, array) in batch.schema_ref().fields().iter().zip(batch.columns()) {
        let array = match field.name().as_str() {
            ATTRIBUTES => &map,
            ATTRIBUTE_TYPES => &letters,
            ATTRIBUTE_ORDER => continue,
            name if parse_promoted(name).is_some() => continue,
            _ => array,
        };
        fields.push(field.clone());
        arrays.push(array.clone());
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).map_err(damaged)
}

/// Builds one promoted column from texts.
enum TypedBuilder {
    String(StringBuilder),
    Bool(BooleanBuilder),
    Int(Int64Builder),
    Double(Float64Builder),
}

impl TypedBuilder {
    fn new(letter: u8) -> Self {
        match letter {
            BOOL => Self::Bool(BooleanBuilder::new()),
            INT => Self::Int(Int64Builder::new()),
            DOUBLE => Self::Double(Float64Builder::new()),
            _ => Self::String(StringBuilder::new()),
        }
    }

    /// Whether the text comes back as it is.
    fn accepts(&self, text: &str) -> bool {
        match self {
            Self::String(_) => true,
            Self::Bool(_) => text.parse::<bool>().is_ok(),
            Self::Int(_) => text.parse::<i64>().is_ok(),
            Self::Double(_) => text.parse::<f64>().is_ok(),
        }
    }

    fn append(&mut self, text: Option<&str>) {
        match self {
            Self::String(builder) => builder.append_option(text),
            Self::Bool(builder) => builder.append_option(text.and_then(|text| text.parse().ok())),
            Self::Int(builder) => builder.append_option(text.and_then(|text| text.parse().ok())),
            Self::Double(builder) => builder.append_option(text.and_then(|text| text.parse().ok())),
        }
    }

    fn finish(self) -> ArrayRef {
        match self {
            Self::String(mut builder) => Arc::new(builder.finish()),
            Self::Bool(mut builder) => Arc::new(builder.finish()),
            Self::Int(mut builder) => Arc::new(builder.finish()),
            Self::Double(mut builder) => Arc::new(builder.finish()),
        }
    }
}
