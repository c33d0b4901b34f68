//! Frequent attributes into columns of their own, and back.

use crate::attributes::{
    AttributesBuilder, AttributesReader, BOOL, DOUBLE, INT, MapRows, STRING, parse_promoted, promoted_name, promoted_type,
};
use crate::keys::Keys;
use crate::schema::{ATTRIBUTE_ORDER, ATTRIBUTE_TYPES, ATTRIBUTES, damaged};
use crate::summary::KeyRows;
use arrow::array::{
    ArrayBuilder, ArrayRef, BinaryBuilder, BooleanBuilder, Float64Builder, Int64Builder, RecordBatch, StringBuilder,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use br_std::Result;
use hashbrown::HashMap;
use std::sync::Arc;

/// A key is promoted when at least one row in this many has it.
const ROWS_PER_USE_MAX: u64 = 50;
/// Keys longer than this stay in the map.
const KEY_BYTES_MAX: usize = 256;

/// Which attributes get a column, in the order of the columns.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Promotion {
    columns: Vec<(String, u8)>,
}

/// How often a key is used, and the sum of its places in the rows that have it.
struct Use {
    key: (String, u8),
    rows: u64,
    places: u64,
}

/// All keys of narrow batches, counted.
pub(crate) fn count_keys(batches: &[RecordBatch]) -> Result<Keys> {
    let mut keys = Keys::default();
    for batch in batches {
        let map = MapRows::new(batch)?;
        for row in 0..batch.num_rows() {
            let (entries, letters) = map.row(row)?;
            for (place, (at, letter)) in entries.zip(letters).enumerate() {
                let number = keys.number(place, map.keys.value(at), *letter);
                keys.count(number, place);
            }
        }
    }
    Ok(keys)
}

impl Promotion {
    /// The keys that most rows have; their columns stand in the order in which records usually have them.
    pub(crate) fn choose(keys: &Keys, rows: usize, columns_max: usize) -> Self {
        let uses =
            keys.iter().map(|key| Use { key: (key.name.clone(), key.letter), rows: key.rows, places: key.places }).collect();
        Self::of(uses, rows as u64, columns_max)
    }

    /// As [`Self::choose`] does, by what files say of the keys of all their rows.
    pub(crate) fn choose_of_files<'a>(files: impl Iterator<Item = &'a [KeyRows]>, rows: u64, columns_max: usize) -> Self {
        let mut uses: HashMap<(&str, char), (u64, u64)> = HashMap::new();
        for keys in files {
            for (place, (name, letter, rows)) in keys.iter().enumerate() {
                let (sum, places) = uses.entry((name, *letter)).or_default();
                *sum += rows;
                *places += rows * place as u64;
            }
        }
        let uses = uses
            .into_iter()
            .map(|((name, letter), (rows, places))| Use { key: (name.to_owned(), letter as u8), rows, places })
            .collect();
        Self::of(uses, rows, columns_max)
    }

    fn of(mut uses: Vec<Use>, rows: u64, columns_max: usize) -> Self {
        uses.retain(|one| is_promotable(&one.key.0, one.key.1) && one.rows * ROWS_PER_USE_MAX >= rows);
        uses.sort_by(|one, other| other.rows.cmp(&one.rows).then_with(|| one.key.cmp(&other.key)));
        uses.truncate(columns_max);
        let mean = |one: &Use| one.places as f64 / one.rows.max(1) as f64;
        uses.sort_by(|one, other| mean(one).total_cmp(&mean(other)).then_with(|| one.key.cmp(&other.key)));
        Self { columns: uses.into_iter().map(|one| one.key).collect() }
    }

    /// What a wide batch has.
    pub(crate) fn of_schema(schema: &Schema) -> Self {
        let promoted = schema.fields().iter().filter_map(|field| parse_promoted(field.name()));
        Self { columns: promoted.map(|(key, letter)| (key.to_owned(), letter)).collect() }
    }

    pub(crate) fn columns(&self) -> &[(String, u8)] {
        &self.columns
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
}

/// Makes wide batches of narrow ones.
pub(crate) struct Widener {
    promotion: Promotion,
    keys: Keys,
    /// By the number of a key.
    columns: Vec<Option<usize>>,
    /// By the number of a key: the row, counted over all batches, that had one of this name last.
    seen: Vec<u64>,
    row: u64,
}

impl Widener {
    pub(crate) fn new(promotion: Promotion) -> Self {
        Self { promotion, keys: Keys::default(), columns: Vec::new(), seen: Vec::new(), row: 0 }
    }

    /// The number of a key and the column that it has.
    fn key(&mut self, place: usize, name: &str, letter: u8) -> (u32, Option<usize>) {
        let number = self.keys.number(place, name, letter);
        while self.columns.len() < self.keys.len() {
            let key = self.keys.get(self.columns.len() as u32);
            let column = self.promotion.columns.iter().position(|(name, letter)| (name, *letter) == (&key.name, key.letter));
            self.columns.push(column);
            self.seen.push(0);
        }
        (number, self.columns[number as usize])
    }

    pub(crate) fn widen(&mut self, batch: &RecordBatch) -> Result<RecordBatch> {
        let map = MapRows::new(batch)?;
        let mut columns: Vec<TypedBuilder> =
            self.promotion.columns.iter().map(|(_, letter)| TypedBuilder::new(*letter)).collect();
        let mut orders = BinaryBuilder::new();
        let mut rest = AttributesBuilder::new();
        let mut stored: Vec<(usize, usize)> = Vec::new();
        for row in 0..batch.num_rows() {
            self.row += 1;
            stored.clear();
            let mut repeats = false;
            let (entries, letters) = map.row(row)?;
            for (place, (at, letter)) in entries.zip(letters).enumerate() {
                let (name, text) = (map.keys.value(at), map.values.value(at));
                let (number, column) = self.key(place, name, *letter);
                let seen = &mut self.seen[self.keys.get(number).first as usize];
                repeats |= *seen == self.row;
                *seen = self.row;
                match column {
                    Some(column) if columns[column].push(row, text) => stored.push((column, place)),
                    _ => {
                        rest.push(name, *letter, text);
                        stored.push((usize::MAX, place));
                    }
                }
            }
            rest.end_row()?;
            append_order(&mut orders, repeats, &mut stored);
        }
        let (map, letters) = rest.finish();
        let mut promoted: Vec<ArrayRef> = columns.into_iter().map(|column| column.finish(batch.num_rows())).collect();
        let mut arrays: Vec<ArrayRef> = Vec::new();
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
        RecordBatch::try_new(self.promotion.schema(batch.schema_ref()), arrays).map_err(damaged)
    }
}

/// Whether a key may have a column.
pub(crate) fn is_promotable(key: &str, letter: u8) -> bool {
    matches!(letter, STRING | BOOL | INT | DOUBLE) && key.len() <= KEY_BYTES_MAX
}

/// Of each attribute as it is stored its column and its place in the record. What is kept is the number of each in the stored order,
/// and only where a key repeats: which of its values came first must not be lost.
fn append_order(orders: &mut BinaryBuilder, repeats: bool, stored: &mut [(usize, usize)]) {
    if !repeats {
        return orders.append_null();
    }
    stored.sort_by_key(|(column, _)| *column);
    let mut order = vec![0u8; stored.len()];
    for (number, (_, place)) in stored.iter().enumerate() {
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

/// Builds one promoted column from texts; rows that are left out are null.
enum TypedBuilder {
    String(StringBuilder),
    Bool(BooleanBuilder),
    Int(Int64Builder),
    Double(Float64Builder),
}

/// Nulls up to a row, then a value, where there is one.
macro_rules! push_at {
    ($builder:expr, $row:expr, $value:expr) => {{
        let missing = $row - $builder.len();
        $builder.append_nulls(missing);
        if let Some(value) = $value {
            $builder.append_value(value);
        }
    }};
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

    fn len(&self) -> usize {
        match self {
            Self::String(builder) => builder.len(),
            Self::Bool(builder) => builder.len(),
            Self::Int(builder) => builder.len(),
            Self::Double(builder) => builder.len(),
        }
    }

    /// False, and nothing is added, where the row has a value already or the text would not come back as it is.
    fn push(&mut self, row: usize, text: &str) -> bool {
        if self.len() > row {
            return false;
        }
        match self {
            Self::String(builder) => push_at!(builder, row, Some(text)),
            Self::Bool(builder) => {
                let Ok(value) = text.parse::<bool>() else { return false };
                push_at!(builder, row, Some(value));
            }
            Self::Int(builder) => {
                let Ok(value) = text.parse::<i64>() else { return false };
                push_at!(builder, row, Some(value));
            }
            Self::Double(builder) => {
                let Ok(value) = text.parse::<f64>() else { return false };
                push_at!(builder, row, Some(value));
            }
        }
        true
    }

    fn finish(self, rows: usize) -> ArrayRef {
        match self {
            Self::String(mut builder) => {
                push_at!(builder, rows, None::<&str>);
                Arc::new(builder.finish())
            }
            Self::Bool(mut builder) => {
                push_at!(builder, rows, None::<_>);
                Arc::new(builder.finish())
            }
            Self::Int(mut builder) => {
                push_at!(builder, rows, None::<_>);
                Arc::new(builder.finish())
            }
            Self::Double(mut builder) => {
                push_at!(builder, rows, None::<_>);
                Arc::new(builder.finish())
            }
        }
    }
}
