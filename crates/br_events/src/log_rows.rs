//! Rows of a batch as queries see them: whole, or only what a query needs, and then alike ones together.

use crate::attributes::{AttributesReader, Value, parse_promoted, shown};
use crate::logs_codec::{kind_from_text, span_id, trace_id};
use crate::origin::{self, Interned};
use crate::schema::{
    ATTRIBUTE_ORDER, ATTRIBUTE_TYPES, ATTRIBUTES, BODY, KIND, PROMOTED_PREFIX, RESOURCE, SEVERITY, SPAN_ID, TRACE_ID, TS, column,
};
use arrow::array::{
    Array, DictionaryArray, FixedSizeBinaryArray, RecordBatch, StringArray, TimestampNanosecondArray, UInt8Array,
};
use arrow::datatypes::Int32Type;
use br_model::{Labels, LogKind, Severity, SpanId, TraceId, names::label_name};
use br_std::{Nanos, Result};
use br_storage::{Derived, LineNeed, LogGroup, LogNeeds, LogRow};
use hashbrown::HashMap;

/// Whether a stored column is needed to make the rows.
pub(crate) fn needs_column(needs: &LogNeeds, name: &str) -> bool {
    let Some(names) = &needs.metadata else {
        // All but those of other readers.
        let hidden = ["observed", "service", "stream", "scope", "release", "environment", "error"];
        return !hidden.contains(&name) && !name.starts_with("error_") && (name != BODY || needs.line > LineNeed::Nothing);
    };
    match name {
        TS | RESOURCE => true,
        BODY => needs.line > LineNeed::Nothing,
        SEVERITY => needs.metadata_named(Derived::DETECTED_LEVEL),
        Derived::SEVERITY_TEXT | TRACE_ID | SPAN_ID => needs.metadata_named(name),
        ATTRIBUTES | ATTRIBUTE_TYPES => !names.is_empty(),
        ATTRIBUTE_ORDER => false,
        _ if name.starts_with(PROMOTED_PREFIX) => parse_promoted(name).is_some_and(|(key, _)| is_one_of(names, key)),
        _ => false,
    }
}

/// Whether `name` is the label name of `key`.
pub(crate) fn is_labelled(key: &str, name: &str) -> bool {
    let Some(first) = key.as_bytes().first() else { return name.is_empty() };
    let rest = if first.is_ascii_digit() { name.strip_prefix('_') } else { Some(name) };
    let as_label = |character: char| if character.is_ascii_alphanumeric() { character } else { '_' };
    rest.is_some_and(|rest| rest.len() <= key.len() && key.chars().map(as_label).eq(rest.chars()))
}

fn is_one_of(names: &[String], key: &str) -> bool {
    names.iter().any(|name| is_labelled(key, name))
}

pub(crate) struct RowReader<'a> {
    needs: &'a LogNeeds,
    times: &'a TimestampNanosecondArray,
    resources: &'a DictionaryArray<Int32Type>,
    labels: Interned<'a, Labels>,
    bodies: Option<&'a StringArray>,
    kinds: Option<&'a StringArray>,
    severities: Option<&'a UInt8Array>,
    severity_texts: Option<&'a StringArray>,
    trace_ids: Option<&'a FixedSizeBinaryArray>,
    span_ids: Option<&'a FixedSizeBinaryArray>,
    attributes: Option<AttributesReader<'a>>,
    /// Label names by key.
    names: HashMap<String, String>,
    /// By column of attributes: whether it can have the number that is needed.
    may_be_number: Vec<bool>,
    /// Whether groups are told apart by something that is no attribute.
    has_derived: bool,
    /// By the number of a resource in the dictionary: which of the label sets its stream has.
    set_of: Vec<Option<u32>>,
    sets: Vec<LabelSet>,
    known_sets: HashMap<Labels, u32>,
}

/// What is needed of the labels of one stream, or of some that are alike in it.
struct LabelSet {
    labels: Labels,
    /// One has the name of the number that is needed.
    has_number: bool,
}

impl<'a> RowReader<'a> {
    /// Of a batch that has at least the columns that [`needs_column`] names.
    pub(crate) fn new(needs: &'a LogNeeds, batch: &'a RecordBatch) -> Result<Self> {
        fn needed<'a, T: Array + 'static>(needs: &LogNeeds, batch: &'a RecordBatch, name: &str) -> Result<Option<&'a T>> {
            needs_column(needs, name).then(|| column(batch, name)).transpose()
        }
        let mut attributes = needs_column(needs, ATTRIBUTES).then(|| AttributesReader::new(batch)).transpose()?;
        if let Some(names) = &needs.metadata {
            attributes = attributes.map(|reader| reader.only(|key| is_one_of(names, key)));
        }
        let is_number = |key: &str| needs.number.as_ref().is_some_and(|name| is_labelled(key, name));
        let may_be_number = attributes.as_ref().map_or_else(Vec::new, |reader| reader.columns_where(is_number));
        let derived = [SEVERITY, Derived::SEVERITY_TEXT, TRACE_ID, SPAN_ID];
        Ok(Self {
            needs,
            may_be_number,
            has_derived: derived.iter().any(|name| needs_column(needs, name)),
            times: column(batch, TS)?,
            resources: column(batch, RESOURCE)?,
            labels: origin::labels(batch)?,
            bodies: needed(needs, batch, BODY)?,
            kinds: needed(needs, batch, KIND)?,
            severities: needed(needs, batch, SEVERITY)?,
            severity_texts: needed(needs, batch, Derived::SEVERITY_TEXT)?,
            trace_ids: needed(needs, batch, TRACE_ID)?,
            span_ids: needed(needs, batch, SPAN_ID)?,
            attributes,
            names: HashMap::new(),
            set_of: Vec::new(),
            sets: Vec::new(),
            known_sets: HashMap::new(),
        })
    }

    /// The number of the label set of a row's stream.
    fn set_of(&mut self, row: usize) -> Result<u32> {
        let resource = self.resources.keys().value(row) as usize;
        if let Some(Some(set)) = self.set_of.get(resource) {
            return Ok(*set);
        }
        let labels = self.needs.stream(&*self.labels.get(row)?);
        let set = *self.known_sets.entry(labels).or_insert_with_key(|labels| {
            let has_number = self.needs.number.as_ref().is_some_and(|name| labels.get(name).is_some());
            self.sets.push(LabelSet { labels: labels.clone(), has_number });
            self.sets.len() as u32 - 1
        });
        self.set_of.resize(self.resources.values().len(), None);
        self.set_of[resource] = Some(set);
        Ok(set)
    }

    fn derived(&self, row: usize) -> Derived<'a> {
        Derived {
            severity: self.severities.map_or(Severity::UNSPECIFIED, |severities| Severity(severities.value(row))),
            severity_text: self.severity_texts.map_or("", |texts| texts.value(row)),
            trace_id: self.trace_ids.map_or_else(TraceId::default, |ids| trace_id(ids, row)),
            span_id: self.span_ids.map_or_else(SpanId::default, |ids| span_id(ids, row)),
        }
    }

    pub(crate) fn time(&self, row: usize) -> Nanos {
        Nanos(self.times.value(row))
    }

    fn line_bytes(&self, row: usize) -> u32 {
        let length = self.bodies.filter(|_| self.needs.line > LineNeed::Nothing).map_or(0, |bodies| bodies.value_length(row));
        u32::try_from(length).unwrap_or(0)
    }

    pub(crate) fn row(&mut self, row: usize) -> Result<LogRow> {
        let set = self.set_of(row)?;
        let stream = self.sets[set as usize].labels.clone();
        let mut metadata = Vec::new();
        if let Some(attributes) = &self.attributes {
            let entries = match &self.needs.metadata {
                None => attributes.entries(row)?,
                Some(names) => attributes.entries_where(row, |key| is_one_of(names, key))?,
            };
            for entry in entries {
                let name = match self.names.get(entry.key) {
                    Some(name) => name.clone(),
                    None => self.names.entry(entry.key.to_owned()).or_insert(label_name(entry.key)).clone(),
                };
                metadata.push((name, shown(&entry)?.into_owned()));
            }
        }
        let derived = self.derived(row);
        derived.add_to(&mut metadata);
        let line = self.bodies.filter(|_| self.needs.line == LineNeed::Text).map_or("", |bodies| bodies.value(row));
        Ok(LogRow {
            timestamp: self.time(row),
            stream,
            line: line.to_owned(),
            kind: self.kinds.map_or(Ok(LogKind::default()), |kinds| kind_from_text(kinds.value(row)))?,
            severity: derived.severity,
            trace_id: derived.trace_id,
            span_id: derived.span_id,
            metadata,
        })
    }

    /// The number that is needed, where one attribute alone can be it and is one.
    fn number(&self, row: usize, set: u32) -> Result<Option<f64>> {
        let Some(name) = &self.needs.number else { return Ok(None) };
        let Some(attributes) = self.attributes.as_ref().filter(|_| !self.sets[set as usize].has_number) else { return Ok(None) };
        let (mut found, mut number) = (0, None);
        let mut look = |letter: u8, value: Value<'_>| {
            found += 1;
            number = value.number(letter);
        };
        attributes.each_column(row, |column, letter, value| {
            if self.may_be_number[column] {
                look(letter, value);
            }
        });
        attributes.each_of_map(row, |key| is_labelled(key, name), |_, letter, value| look(letter, value))?;
        Ok(number.filter(|_| found == 1))
    }

    /// What a row's group is told from others by, and the number that does not tell it.
    fn key(&mut self, row: usize, key: &mut Vec<u8>) -> Result<Option<f64>> {
        let set = self.set_of(row)?;
        let number = self.number(row, set)?;
        key.clear();
        key.extend_from_slice(&set.to_le_bytes());
        key.push(u8::from(number.is_some()));
        if self.has_derived {
            let derived = self.derived(row);
            key.push(derived.severity.0);
            Value::Text(derived.severity_text).add_to(key);
            key.extend_from_slice(&derived.trace_id.0);
            key.extend_from_slice(&derived.span_id.0);
        }
        let (Some(attributes), Some(names)) = (&self.attributes, &self.needs.metadata) else { return Ok(number) };
        attributes.each_column(row, |column, letter, value| {
            key.extend_from_slice(&(column as u16).to_le_bytes());
            if number.is_none() || !self.may_be_number[column] {
                key.push(letter);
                value.add_to(key);
            }
        });
        let apart = self.needs.number.as_deref().filter(|_| number.is_some());
        attributes.each_of_map(
            row,
            |key| is_one_of(names, key),
            |name, letter, value| {
                key.extend_from_slice(&u16::MAX.to_le_bytes());
                Value::Text(name).add_to(key);
                if !apart.is_some_and(|apart| is_labelled(name, apart)) {
                    key.push(letter);
                    value.add_to(key);
                }
            },
        )?;
        Ok(number)
    }

    /// The given rows in groups; of one row each where rows are not alike.
    pub(crate) fn groups(&mut self, rows: impl Iterator<Item = usize>) -> Result<Vec<LogGroup>> {
        if !self.needs.can_group() {
            return rows
                .map(|row| {
                    Ok(LogGroup { members: vec![(self.time(row), self.line_bytes(row))], ..LogGroup::new(self.row(row)?) })
                })
                .collect();
        }
        let mut groups: Vec<LogGroup> = Vec::new();
        let mut by_key: HashMap<Vec<u8>, usize> = HashMap::new();
        let (mut key, mut last_key, mut last) = (Vec::new(), Vec::new(), 0);
        for row in rows {
            let number = self.key(row, &mut key)?;
            if key != last_key || groups.is_empty() {
                last = if let Some(at) = by_key.get(&key) {
                    *at
                } else {
                    groups.push(LogGroup::new(self.row(row)?));
                    by_key.insert(key.clone(), groups.len() - 1);
                    groups.len() - 1
                };
                std::mem::swap(&mut key, &mut last_key);
            }
            groups[last].members.push((self.time(row), self.line_bytes(row)));
            groups[last].numbers.extend(number);
        }
        Ok(groups)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_keys_without_making_them() {
        for key in ["a.b", "2x", "é-x", "", "plain", "2", "a b c"] {
            assert!(is_labelled(key, &label_name(key)), "{key}");
            assert!(!is_labelled(key, "a_"), "{key}");
        }
    }
}
