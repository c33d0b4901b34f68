//! Rows of a batch as queries see them: whole, or only what a query needs, and then alike ones together.

use crate::attributes::{AttributesReader, parse_promoted, shown};
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
        _ if name.starts_with(PROMOTED_PREFIX) => {
            parse_promoted(name).is_some_and(|(key, _)| names.iter().any(|name| is_labelled(key, name)))
        }
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
}

impl<'a> RowReader<'a> {
    /// Of a batch that has at least the columns that [`needs_column`] names.
    pub(crate) fn new(needs: &'a LogNeeds, batch: &'a RecordBatch) -> Result<Self> {
        fn needed<'a, T: Array + 'static>(needs: &LogNeeds, batch: &'a RecordBatch, name: &str) -> Result<Option<&'a T>> {
            needs_column(needs, name).then(|| column(batch, name)).transpose()
        }
        let attributes = needs_column(needs, ATTRIBUTES).then(|| AttributesReader::new(batch)).transpose()?;
        Ok(Self {
            needs,
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
        })
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
        let mut metadata = Vec::new();
        if let Some(attributes) = &self.attributes {
            let entries = match &self.needs.metadata {
                None => attributes.entries(row)?,
                Some(names) => attributes.entries_where(row, |key| names.iter().any(|name| is_labelled(key, name)))?,
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
            stream: (*self.labels.get(row)?).clone(),
            line: line.to_owned(),
            kind: self.kinds.map_or(Ok(LogKind::default()), |kinds| kind_from_text(kinds.value(row)))?,
            severity: derived.severity,
            trace_id: derived.trace_id,
            span_id: derived.span_id,
            metadata,
        })
    }

    /// What a row's group is told from others by.
    fn key(&self, row: usize, key: &mut Vec<u8>) -> Result<()> {
        key.clear();
        key.extend_from_slice(&self.resources.keys().value(row).to_le_bytes());
        let derived = self.derived(row);
        key.push(derived.severity.0);
        let mut add = |text: &[u8]| {
            key.extend_from_slice(&(text.len() as u32).to_le_bytes());
            key.extend_from_slice(text);
        };
        add(derived.severity_text.as_bytes());
        if self.trace_ids.is_some() || self.span_ids.is_some() {
            add(&derived.trace_id.0);
            add(&derived.span_id.0);
        }
        if let (Some(attributes), Some(names)) = (&self.attributes, &self.needs.metadata) {
            for entry in attributes.entries_where(row, |key| names.iter().any(|name| is_labelled(key, name)))? {
                add(entry.key.as_bytes());
                add(&[entry.letter]);
                add(entry.text.as_bytes());
            }
        }
        Ok(())
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
            self.key(row, &mut key)?;
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
