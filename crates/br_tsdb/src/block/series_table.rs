//! The series of one section: who they are. Files that hold the same series share one table.

use super::directory::identity_with;
use crate::index::{LabelLookup, SeriesId};
use crate::symbols::{Symbol, Symbols};
use crate::verdicts::Verdicts;
use br_model::Labels;
use br_std::Result;
use roaring::RoaringBitmap;
use std::collections::BTreeSet;
use std::ops::Range;

#[derive(Default)]
pub(crate) struct SeriesTable {
    symbols: Symbols,
    /// Names and values of all series, one series after the other.
    pairs: Vec<(Symbol, Symbol)>,
    /// In the order of the file.
    series: Vec<TableSeries>,
    /// Rows of all series.
    rows: u32,
    /// Of the series before the last one.
    identity: u128,
}

struct TableSeries {
    hash: u128,
    first_pair: u32,
    /// Counted from the first row of the section.
    first_row: u32,
}

impl SeriesTable {
    /// Takes the next row of the section. The pairs come sorted by name.
    pub(crate) fn push_row(&mut self, pairs: &[(&str, &str)], hash: u128) {
        if self.series.last().is_none_or(|last| last.hash != hash) {
            self.identity = self.identity();
            self.series.push(TableSeries { hash, first_pair: self.pairs.len() as u32, first_row: self.rows });
            let symbols = &mut self.symbols;
            self.pairs.extend(pairs.iter().map(|(name, value)| (symbols.intern(name), symbols.intern(value))));
        }
        self.rows += 1;
    }

    /// Lets go of memory that was taken for rows to come.
    pub(crate) fn finish(mut self) -> Self {
        self.pairs.shrink_to_fit();
        self.series.shrink_to_fit();
        self
    }

    /// As in the directory of a file.
    pub(crate) fn identity(&self) -> u128 {
        self.series.last().map_or(0, |last| identity_with(self.identity, last.hash, self.rows - last.first_row))
    }

    pub(crate) fn row_count(&self) -> u32 {
        self.rows
    }

    pub(crate) fn series_count(&self) -> u32 {
        self.series.len() as u32
    }

    /// Hash of the label set of a series of this table.
    pub(crate) fn hash(&self, id: u32) -> u128 {
        self.series[id as usize].hash
    }

    /// Rows of a series, counted from the first row of the section; none for a number that is not of this table.
    pub(crate) fn rows(&self, id: u32) -> Range<u32> {
        let Some(series) = self.series.get(id as usize) else { return 0..0 };
        series.first_row..self.series.get(id as usize + 1).map_or(self.rows, |next| next.first_row)
    }

    pub(crate) fn labels(&self, id: u32) -> Labels {
        let own = self.pairs(id).into();
        Labels::numbered(self.symbols.texts().clone(), own, 0..self.pairs(id).len() as u32)
    }

    fn pairs(&self, id: u32) -> &[(Symbol, Symbol)] {
        let at = id as usize;
        let Some(series) = self.series.get(at) else { return &[] };
        let end = self.series.get(at + 1).map_or(self.pairs.len(), |next| next.first_pair as usize);
        &self.pairs[series.first_pair as usize..end]
    }

    fn value(&self, id: u32, name: Symbol) -> Option<Symbol> {
        self.pairs(id).iter().find(|(other, _)| *other == name).map(|(_, value)| *value)
    }

    /// The series that satisfy all matchers. A section is small: its series are looked at one by one, its texts once each.
    /// An error once the query was cancelled.
    pub(crate) fn resolve(&self, verdicts: &mut Verdicts<'_>) -> Result<RoaringBitmap> {
        let mut found: Vec<u32> = (0..self.series_count()).collect();
        let (cheap, expensive): (Vec<_>, Vec<_>) =
            verdicts.matchers.iter().enumerate().partition(|(_, matcher)| matcher.is_cheap());
        for (at, matcher) in cheap.into_iter().chain(expensive) {
            if found.is_empty() {
                break;
            }
            let is_empty_allowed = matcher.matches_empty();
            let Some(name) = self.symbols.find(&matcher.name) else {
                if is_empty_allowed {
                    continue;
                }
                return Ok(RoaringBitmap::new());
            };
            let mut allowed: Vec<Option<bool>> = vec![None; self.symbols.len()];
            let mut kept = Vec::with_capacity(found.len());
            for id in found {
                let is_allowed = match self.value(id, name) {
                    None => is_empty_allowed,
                    Some(value) => match allowed[value as usize] {
                        Some(known) => known,
                        None => *allowed[value as usize].insert(verdicts.ask(at, self.symbols.text(value))?),
                    },
                };
                if is_allowed {
                    kept.push(id);
                }
            }
            found = kept;
        }
        Ok(found.into_iter().collect())
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let fixed = self.pairs.capacity() * size_of::<(Symbol, Symbol)>() + self.series.capacity() * size_of::<TableSeries>();
        fixed + self.symbols.heap_bytes() + size_of::<Self>()
    }
}

impl LabelLookup for SeriesTable {
    fn names_unsorted(&self, series: &RoaringBitmap) -> Vec<&str> {
        let names: BTreeSet<Symbol> = series.iter().flat_map(|id| self.pairs(id)).map(|(name, _)| *name).collect();
        names.into_iter().map(|name| self.symbols.text(name)).collect()
    }

    fn values_unsorted(&self, name: &str, series: &RoaringBitmap) -> Vec<&str> {
        let Some(name) = self.symbols.find(name) else { return Vec::new() };
        let values: BTreeSet<Symbol> = series.iter().filter_map(|id| self.value(id, name)).collect();
        values.into_iter().map(|value| self.symbols.text(value)).collect()
    }

    fn labels_of(&self, id: SeriesId) -> Option<Labels> {
        Some(self.labels(id))
    }
}

/// The hash that [`Labels::hash128`] gives for the same labels.
pub(crate) fn hash_pairs(pairs: &[(&str, &str)], bytes: &mut Vec<u8>) -> u128 {
    bytes.clear();
    for (name, value) in pairs {
        bytes.extend_from_slice(name.as_bytes());
        bytes.push(0xff);
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(0xff);
    }
    br_std::hash::hash128(bytes)
}
