//! What the filter of a page is made of, and which attributes there are.

use crate::attributes::{self, BOOL, DOUBLE, Entry, INT, MapRows, NESTED, parse_promoted};
use crate::keys::Keys;
use crate::logs_codec::trace_id;
use crate::origin::resources;
use crate::parts::PageParts;
use crate::schema::{BODY, NAME, RESOURCE, TRACE_ID, column, damaged};
use crate::terms::{Following, PairTerms, body_term, pair_term, trace_term, words};
use arrow::array::{
    Array, ArrayRef, BooleanArray, DictionaryArray, FixedSizeBinaryArray, Float64Array, Int64Array, RecordBatch, StringArray,
};
use arrow::datatypes::Int32Type;
use br_model::AttributeValue;
use br_std::Result;
use hashbrown::{HashMap, HashSet};
use std::borrow::Cow;
use std::sync::Arc;

const ERROR_GROUP: &str = "error_group";

/// What the filters of one page are made of.
pub(crate) struct PageTerms {
    /// Ascending, each once.
    pub(crate) terms: Vec<u64>,
    /// Words of bodies that follow each other are among them.
    pub(crate) has_follows: bool,
    pub(crate) parts: PageParts,
}

/// Different pairs of words that follow each other in a page, at most: 6 KB of filters. A page with more has none of them.
const FOLLOWS_MAX: usize = 4096;

/// Those of one page.
#[derive(Default)]
struct BodyTerms {
    terms: HashSet<u64>,
    follows: HashSet<u64>,
    parts: PageParts,
}

impl BodyTerms {
    fn add(&mut self, body: &str) {
        let mut following = Following::default();
        for word in words(body) {
            let term = body_term(word);
            // A word that was there before has left its parts.
            if term.is_none_or(|term| self.terms.insert(term)) {
                self.parts.add(word);
            }
            if self.follows.len() <= FOLLOWS_MAX {
                self.follows.extend(following.pair(word, term));
            }
        }
    }
}

/// Gathers the terms of one page after the other of a file.
#[derive(Default)]
pub(crate) struct TermGatherer {
    /// By name of the column.
    columns: HashMap<String, (PairTerms, u64)>,
    /// Keys that stand in the map, with their terms by number.
    keys: Keys,
    pairs: Vec<PairTerms>,
}

impl TermGatherer {
    /// The terms of a wide page's rows: words of bodies and names, attributes of record and resource, trace ids; and the parts of
    /// its bodies' words.
    pub(crate) fn terms(&mut self, page: &RecordBatch) -> Result<PageTerms> {
        let (mut terms, mut of_bodies) = (HashSet::new(), BodyTerms::default());
        for (field, array) in page.schema_ref().fields().iter().zip(page.columns()) {
            match (field.name().as_str(), parse_promoted(field.name())) {
                (BODY, _) => {
                    let bodies: &StringArray = column(page, BODY)?;
                    bodies.iter().flatten().for_each(|body| of_bodies.add(body));
                }
                (TRACE_ID, _) => {
                    let ids: &FixedSizeBinaryArray = column(page, TRACE_ID)?;
                    terms.extend((0..ids.len()).filter(|row| !ids.is_null(*row)).map(|row| trace_term(trace_id(ids, row))));
                }
                (name @ (NAME | ERROR_GROUP), _) => self.column(name, name, 0, array, &mut terms)?,
                (name, Some((key, letter))) => self.column(name, key, letter, array, &mut terms)?,
                _ => {}
            }
        }
        self.map(page, &mut terms)?;
        resource_terms(page, &mut terms)?;
        let BodyTerms { terms: words, follows, parts } = of_bodies;
        let has_follows = follows.len() <= FOLLOWS_MAX;
        terms.extend(words);
        terms.extend(follows.into_iter().filter(|_| has_follows));
        let mut terms: Vec<u64> = terms.into_iter().collect();
        terms.sort_unstable();
        Ok(PageTerms { terms, has_follows, parts })
    }

    /// The terms of a column of its own.
    fn column(&mut self, name: &str, key: &str, letter: u8, array: &ArrayRef, terms: &mut HashSet<u64>) -> Result<()> {
        if !self.columns.contains_key(name) {
            self.columns.insert(name.to_owned(), (PairTerms::new(key), 0));
        }
        let Some((pairs, rows)) = self.columns.get_mut(name) else { return Ok(()) };
        *rows += (array.len() - array.null_count()) as u64;
        let mut add = |text: &str| terms.extend(pairs.term(text));
        match letter {
            INT => distinct(typed::<Int64Array>(array)?, |value| add(&value.to_string())),
            BOOL => typed::<BooleanArray>(array)?.iter().flatten().for_each(|value| add(if value { "true" } else { "false" })),
            DOUBLE => {
                typed::<Float64Array>(array)?.iter().flatten().for_each(|value| add(&AttributeValue::Double(value).to_string()));
            }
            _ => distinct(typed::<StringArray>(array)?, add),
        }
        Ok(())
    }

    fn map(&mut self, page: &RecordBatch, terms: &mut HashSet<u64>) -> Result<()> {
        let map = MapRows::new(page)?;
        for row in 0..page.num_rows() {
            let (entries, letters) = map.row(row)?;
            for (place, (at, letter)) in entries.zip(letters).enumerate() {
                let key = map.keys.value(at);
                let number = self.keys.number(place, key, *letter);
                self.keys.count(number, place);
                while self.pairs.len() < self.keys.len() {
                    self.pairs.push(PairTerms::new(&self.keys.get(self.pairs.len() as u32).name));
                }
                let entry = Entry { key, letter: *letter, text: Cow::Borrowed(map.values.value(at)) };
                let pairs = &mut self.pairs[number as usize];
                terms.extend(pairs.term(&attributes::shown(&entry)?));
                if *letter == NESTED
                    && let AttributeValue::Array(elements) = attributes::decode(NESTED, &entry.text)?
                {
                    // One element is enough for who asks.
                    terms.extend(elements.iter().filter_map(|element| pairs.term(&element.to_string())));
                }
            }
        }
        Ok(())
    }

    /// The rows that have a key of a column, and those that have one in the map.
    pub(crate) fn rows(&self, column: &str) -> u64 {
        self.columns.get(column).map_or(0, |(_, rows)| *rows)
    }

    pub(crate) fn keys(&self) -> &Keys {
        &self.keys
    }
}

fn typed<T: 'static>(array: &ArrayRef) -> Result<&T> {
    let wrong = || arrow::error::ArrowError::SchemaError(format!("a promoted column has the type {}", array.data_type()));
    array.as_any().downcast_ref().ok_or_else(|| damaged(wrong()))
}

/// Each value but for those that are like the one before: rows are sorted, so that many columns hardly change.
fn distinct<'a, T: PartialEq + Copy, A>(array: &'a A, mut each: impl FnMut(T))
where
    &'a A: arrow::array::ArrayAccessor<Item = T>,
{
    let mut last = None;
    for value in arrow::array::ArrayIter::new(array).flatten() {
        if last != Some(value) {
            each(value);
            last = Some(value);
        }
    }
}

fn resource_terms(page: &RecordBatch, terms: &mut HashSet<u64>) -> Result<()> {
    let array: &DictionaryArray<Int32Type> = column(page, RESOURCE)?;
    let mut resources = resources(page)?;
    let mut seen = HashSet::new();
    for (row, key) in array.keys().values().iter().enumerate() {
        if seen.insert(*key) {
            let resource: Arc<br_model::Resource> = resources.get(row)?;
            for (key, value) in &resource.attributes {
                terms.extend(pair_term(key, &value.to_string()));
                if let AttributeValue::Array(elements) = value {
                    terms.extend(elements.iter().filter_map(|element| pair_term(key, &element.to_string())));
                }
            }
        }
    }
    Ok(())
}
