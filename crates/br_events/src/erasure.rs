//! What an administrator has erased: a person's data, found by what stands in it.
//!
//! An erasure takes its place in the order of the journal: what was accepted before it is gone, what comes after it stays. Memory
//! loses it at once; files hide it until they are written anew without it.

use crate::attributes::{AttributesReader, DOUBLE, INT, NESTED, decode, parse_promoted, shown};
use crate::conditions::Conditions;
use crate::log_rows::RowReader;
use crate::origin;
use crate::schema::{KIND, STATUS, column};
use crate::{selection, terms};
use arrow::array::{Array, DictionaryArray, FixedSizeBinaryArray, Float64Array, Int64Array, MapArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Int32Type};
use br_model::{AttributeValue, TenantId, names::label_name};
use br_std::{Error, Result};
use br_storage::{JournalPosition, LogHint, LogNeeds, LogQuery, LogRow, Matcher, Table, TimeRange};
use memchr::memmem::Finder;
use std::fmt;
use std::sync::Arc;

/// A question in the language of logs, for the stages that the store does not know.
pub trait LogTest: fmt::Debug + Send + Sync {
    /// On the labels of the stream.
    fn matchers(&self) -> &[Matcher];
    /// Conditions that every record satisfies that is meant.
    fn hints(&self) -> Vec<LogHint>;
    /// Whether it asks for more than the stream: spans cannot be asked that.
    fn has_stages(&self) -> bool;
    /// Whether a record of a stream that matches is meant.
    fn means(&self, row: &LogRow) -> bool;
}

/// Which records to erase: those for which all of this holds.
#[derive(Clone, Debug)]
pub struct Erasure {
    /// Of its request; made by the server.
    pub id: String,
    pub query: Option<Arc<dyn LogTest>>,
    /// Attributes of the record or its resource, by key and text.
    pub attributes: Vec<(String, String)>,
    /// Stands somewhere in the record.
    pub contains: Option<String>,
    /// The end is not included.
    pub range: TimeRange,
    /// `None` for logs and spans.
    pub table: Option<Table>,
    /// As it was asked for.
    pub source: Arc<[u8]>,
}

/// An erasure that was applied, and still has to hide what it names.
#[derive(Clone, Debug)]
pub struct Erased {
    pub tenant: TenantId,
    /// Its record in the journal: records of requests before it are gone.
    pub position: JournalPosition,
    pub erasure: Arc<Erasure>,
}

/// How far a file is: erasures behind its last record concern it, unless they were carried out on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reach {
    pub(crate) last_record: JournalPosition,
    pub(crate) erased_to: JournalPosition,
}

impl Reach {
    pub(crate) fn is_concerned(self, position: JournalPosition) -> bool {
        self.last_record < position && self.erased_to < position
    }
}

impl Erasure {
    /// Whether records of a table can be meant.
    pub fn concerns(&self, table: Table) -> bool {
        let is_askable = table == Table::Logs || self.query.as_ref().is_none_or(|query| !query.has_stages());
        self.table.is_none_or(|of| of == table) && is_askable
    }

    /// Whether a log record is meant, by what queries see of it.
    pub fn means(&self, row: &LogRow) -> bool {
        let has = |(key, text): &(String, String)| {
            let (name, text) = (label_name(key), terms::plain_text(text));
            let is = |known: &str, value: &str| known == name && terms::plain_text(value) == text;
            row.metadata.iter().any(|(known, value)| is(known, value)) || row.stream.iter().any(|(known, value)| is(known, value))
        };
        let contains = |text: &String| {
            let texts = row.metadata.iter().map(|(_, value)| value.as_str()).chain(row.stream.iter().map(|(_, value)| value));
            texts.chain([row.line.as_str()]).any(|known| known.contains(text.as_str()))
        };
        let asks = |query: &Arc<dyn LogTest>| {
            query.matchers().iter().all(|matcher| matcher.matches_labels(&row.stream))
                && (!query.has_stages() || query.means(row))
        };
        self.concerns(Table::Logs)
            && self.range.contains(row.timestamp)
            && self.attributes.iter().all(has)
            && self.contains.as_ref().is_none_or(contains)
            && self.query.as_ref().is_none_or(asks)
    }

    /// What pages that hold such a record satisfy.
    pub(crate) fn conditions(&self, table: Table) -> Conditions {
        let mut conditions = match &self.query {
            Some(query) => {
                let streams = query.matchers().to_vec();
                let hints = if table == Table::Logs { query.hints() } else { Vec::new() };
                let mut conditions = selection::conditions_of(&LogQuery { streams, hints, ..LogQuery::new(self.range) });
                conditions.table = table;
                conditions
            }
            None => Conditions::new(table, self.range),
        };
        conditions.terms.extend(self.attributes.iter().filter_map(|(key, text)| terms::pair_term(key, text)));
        conditions
    }

    /// The rows of a batch with all columns that are meant, ascending.
    pub(crate) fn rows(&self, table: Table, batch: &RecordBatch) -> Result<Vec<u32>> {
        if !self.concerns(table) {
            return Ok(Vec::new());
        }
        let mut conditions = Conditions::new(table, self.range);
        if let Some(query) = &self.query {
            conditions.streams = query.matchers().to_vec();
        }
        let mut rows = conditions.rows_in_memory(batch)?;
        if !self.attributes.is_empty() && !rows.is_empty() {
            self.retain_attributes(batch, &mut rows)?;
        }
        if let Some(text) = self.contains.as_ref().filter(|_| !rows.is_empty()) {
            Texts::new(text).retain(batch, &mut rows)?;
        }
        if let Some(query) = self.query.as_ref().filter(|query| query.has_stages() && !rows.is_empty()) {
            let needs = LogNeeds::ALL;
            let mut reader = RowReader::new(&needs, batch)?;
            let mut failed = Ok(());
            rows.retain(|row| match reader.row(*row as usize) {
                Ok(row) => query.means(&row),
                Err(error) => {
                    failed = Err(error);
                    false
                }
            });
            failed?;
        }
        Ok(rows)
    }

    fn retain_attributes(&self, batch: &RecordBatch, rows: &mut Vec<u32>) -> Result<()> {
        let (reader, mut resources) = (AttributesReader::new(batch)?, origin::resources(batch)?);
        let mut kept = Vec::new();
        for row in rows.iter().copied() {
            let resource = resources.get(row as usize)?;
            let mut has_all = true;
            for (key, text) in &self.attributes {
                let text = terms::plain_text(text);
                has_all = resource.attributes.iter().any(|(known, value)| known == key && is_text(value, text));
                if !has_all {
                    for entry in reader.entries_where(row as usize, |known| known == key)? {
                        has_all |= match entry.letter {
                            NESTED => is_text(&decode(NESTED, &entry.text)?, text),
                            _ => terms::plain_text(&shown(&entry)?) == text,
                        };
                    }
                }
                if !has_all {
                    break;
                }
            }
            if has_all {
                kept.push(row);
            }
        }
        *rows = kept;
        Ok(())
    }
}

/// Of an array one element is enough, as in the filters.
fn is_text(value: &AttributeValue, text: &str) -> bool {
    match value {
        AttributeValue::Array(elements) => elements.iter().any(|element| is_text(element, text)),
        other => terms::plain_text(&other.to_string()) == text,
    }
}

/// Looks for a text in whatever a record has.
struct Texts {
    plain: Finder<'static>,
    /// As it stands in typed JSON.
    escaped: Finder<'static>,
    hexadecimal: Option<Finder<'static>>,
}

impl Texts {
    fn new(text: &str) -> Self {
        let finder = |text: &str| Finder::new(text.as_bytes()).into_owned();
        let json = serde_json::Value::from(text).to_string();
        let is_hexadecimal = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        Self {
            plain: finder(text),
            escaped: finder(json.trim_matches('"')),
            hexadecimal: is_hexadecimal.then(|| finder(&text.to_ascii_lowercase())),
        }
    }

    fn is_in(&self, text: &str) -> bool {
        self.plain.find(text.as_bytes()).is_some() || self.escaped.find(text.as_bytes()).is_some()
    }

    fn retain(&self, batch: &RecordBatch, rows: &mut Vec<u32>) -> Result<()> {
        let mut found = vec![false; batch.num_rows()];
        for (field, array) in batch.schema_ref().fields().iter().zip(batch.columns()) {
            let mut mark = |is_in: &dyn Fn(usize) -> bool| {
                for row in rows.iter().map(|row| *row as usize) {
                    found[row] = found[row] || (!array.is_null(row) && is_in(row));
                }
            };
            let (name, any) = (field.name().as_str(), array.as_any());
            if name == KIND || name == STATUS {
                continue;
            }
            match array.data_type() {
                DataType::Utf8 => {
                    let texts: &StringArray = column(batch, name)?;
                    mark(&|row| self.is_in(texts.value(row)));
                }
                DataType::Dictionary(..) => {
                    let texts: &DictionaryArray<Int32Type> = column(batch, name)?;
                    let values = texts.values().as_any().downcast_ref::<StringArray>();
                    let values = values.ok_or_else(|| Error::corrupt(format!("column {name} is not interned text")))?;
                    let holds: Vec<bool> = values.iter().map(|text| text.is_some_and(|text| self.is_in(text))).collect();
                    mark(&|row| texts.key(row).is_some_and(|key| holds.get(key).copied().unwrap_or(false)));
                }
                DataType::Map(..) => {
                    let map: &MapArray = column(batch, name)?;
                    let sides: Vec<&StringArray> =
                        [map.keys(), map.values()].into_iter().filter_map(|side| side.as_any().downcast_ref()).collect();
                    let offsets = map.value_offsets();
                    mark(&|row| {
                        let (from, to) = (offsets[row] as usize, offsets[row + 1] as usize);
                        sides.iter().any(|side| (from..to).any(|at| !side.is_null(at) && self.is_in(side.value(at))))
                    });
                }
                DataType::FixedSizeBinary(_) => {
                    let (Some(finder), Some(ids)) = (&self.hexadecimal, any.downcast_ref::<FixedSizeBinaryArray>()) else {
                        continue;
                    };
                    mark(&|row| finder.find(hex::encode(ids.value(row)).as_bytes()).is_some());
                }
                _ => match (parse_promoted(name), any.downcast_ref::<Int64Array>(), any.downcast_ref::<Float64Array>()) {
                    (Some((_, INT)), Some(numbers), _) => mark(&|row| self.is_in(&numbers.value(row).to_string())),
                    (Some((_, DOUBLE)), _, Some(numbers)) => mark(&|row| self.is_in(&format!("{:?}", numbers.value(row)))),
                    _ => {}
                },
            }
        }
        rows.retain(|row| found[*row as usize]);
        Ok(())
    }
}
