//! The series of one section: who they are. Files that hold the same series share one table.

use super::directory::identity_with;
use crate::index::{LabelLookup, SeriesId};
use crate::symbols::{Symbol, Symbols};
use crate::verdicts::Verdicts;
use br_model::Labels;
use br_std::{Error, Result};
use br_storage::{MatchOp, Matcher};
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use roaring::RoaringBitmap;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

/// What is kept for each series is its hash and the numbers of its values: of some hundred files with the same metrics all that is
/// asked for has to be in memory at once.
pub(crate) struct SeriesTable {
    symbols: Symbols,
    rare: RarePairs,
    /// Of the label sets, in the order of the file.
    hashes: Box<[u128]>,
    shapes: Shapes,
    /// Of all series, one series after the other.
    values: Numbers,
    /// Counted from the first row of the section; `None` when each series has one row.
    first_rows: Option<Box<[u32]>>,
    /// Rows of all series.
    rows: u32,
    /// As in the directory of a file.
    identity: u128,
}

/// Which names the labels of each series have.
struct Shapes {
    /// Sorted by text in each shape, one shape after the other.
    names: Box<[Symbol]>,
    of_series: Option<Box<[SeriesShape]>>,
}

/// Of a series where there are several shapes.
#[derive(Clone, Copy)]
struct SeriesShape {
    first_name: u32,
    first_value: u32,
    count: u16,
}

/// Symbols of one table.
enum Numbers {
    Narrow(Box<[u16]>),
    Wide(Box<[Symbol]>),
}

/// Makes a table of the rows of a section.
#[derive(Default)]
pub(crate) struct SeriesTableBuilder {
    symbols: Symbols,
    hashes: Vec<u128>,
    shapes: HashMap<Box<[Symbol]>, u32, FixedState>,
    names: Vec<Symbol>,
    of_series: Vec<SeriesShape>,
    values: Vec<Symbol>,
    first_rows: Vec<u32>,
    rows: u32,
    /// Of the series before the last one.
    identity: u128,
    shape: Vec<Symbol>,
}

impl SeriesTableBuilder {
    /// Takes the next row of the section. The pairs come sorted by name.
    pub(crate) fn push_row(&mut self, pairs: &[(&str, &str)], hash: u128) {
        if self.hashes.last() != Some(&hash) {
            self.identity = self.identity();
            self.hashes.push(hash);
            self.first_rows.push(self.rows);
            let first_value = self.values.len() as u32;
            self.shape.clear();
            for (name, value) in pairs {
                self.shape.push(self.symbols.intern(name));
                self.values.push(self.symbols.intern(value));
            }
            let first_name = self.shapes.get(&*self.shape).copied().unwrap_or_else(|| {
                let first_name = self.names.len() as u32;
                self.names.extend_from_slice(&self.shape);
                self.shapes.insert(self.shape.as_slice().into(), first_name);
                first_name
            });
            // A series has far fewer labels than that.
            let count = u16::try_from(pairs.len()).unwrap_or(u16::MAX);
            self.of_series.push(SeriesShape { first_name, first_value, count });
        }
        self.rows += 1;
    }

    pub(crate) fn row_count(&self) -> u32 {
        self.rows
    }

    fn identity(&self) -> u128 {
        match (self.hashes.last(), self.first_rows.last()) {
            (Some(hash), Some(first_row)) => identity_with(self.identity, *hash, self.rows - first_row),
            _ => 0,
        }
    }

    /// No more rows come.
    pub(crate) fn finish(self) -> SeriesTable {
        let identity = self.identity();
        let has_one_row_each = self.rows as usize == self.hashes.len();
        let mut table = SeriesTable {
            rare: RarePairs::default(),
            values: Numbers::of(self.values, self.symbols.len()),
            hashes: self.hashes.into(),
            shapes: Shapes { names: self.names.into(), of_series: (self.shapes.len() > 1).then(|| self.of_series.into()) },
            first_rows: (!has_one_row_each).then(|| self.first_rows.into()),
            symbols: self.symbols,
            rows: self.rows,
            identity,
        };
        table.rare = RarePairs::of(&table);
        table
    }
}

impl Numbers {
    fn of(numbers: Vec<Symbol>, end: usize) -> Self {
        if end > usize::from(u16::MAX) {
            return Self::Wide(numbers.into());
        }
        Self::Narrow(numbers.into_iter().map(|number| number as u16).collect())
    }

    fn get(&self, at: usize) -> Option<Symbol> {
        match self {
            Self::Narrow(numbers) => numbers.get(at).map(|number| Symbol::from(*number)),
            Self::Wide(numbers) => numbers.get(at).copied(),
        }
    }

    fn heap_bytes(&self) -> usize {
        match self {
            Self::Narrow(numbers) => size_of_val(&**numbers),
            Self::Wide(numbers) => size_of_val(&**numbers),
        }
    }
}

impl Shapes {
    /// The names of a series, and where its values begin.
    fn of(&self, id: u32) -> (&[Symbol], usize) {
        let Some(of_series) = &self.of_series else { return (&self.names, id as usize * self.names.len()) };
        let Some(SeriesShape { first_name, first_value, count }) = of_series.get(id as usize) else { return (&[], 0) };
        let first_name = *first_name as usize;
        (&self.names[first_name..first_name + usize::from(*count)], *first_value as usize)
    }

    fn heap_bytes(&self) -> usize {
        size_of_val(&*self.names) + self.of_series.as_ref().map_or(0, |of_series| size_of_val(&**of_series))
    }
}

impl SeriesTable {
    /// As in the directory of a file.
    pub(crate) fn identity(&self) -> u128 {
        self.identity
    }

    pub(crate) fn row_count(&self) -> u32 {
        self.rows
    }

    pub(crate) fn series_count(&self) -> u32 {
        self.hashes.len() as u32
    }

    /// Hash of the label set of a series of this table.
    pub(crate) fn hash(&self, id: u32) -> u128 {
        self.hashes[id as usize]
    }

    /// The series with this hash.
    pub(crate) fn find(&self, hash: u128) -> Option<u32> {
        self.hashes.iter().position(|known| *known == hash).map(|at| at as u32)
    }

    /// Rows of a series, counted from the first row of the section; none for a number that is not of this table.
    pub(crate) fn rows(&self, id: u32) -> Range<u32> {
        let first = |id: u32| match &self.first_rows {
            None => (id <= self.rows).then_some(id),
            Some(first_rows) => first_rows.get(id as usize).copied(),
        };
        first(id).map_or(0..0, |row| row..first(id + 1).unwrap_or(self.rows))
    }

    pub(crate) fn labels(&self, id: u32) -> Labels {
        let own: Arc<[_]> = self.pairs(id).collect();
        let count = own.len() as u32;
        Labels::numbered(self.symbols.texts().clone(), own, 0..count)
    }

    /// Names and values of a series; none for a number that is not of this table.
    fn pairs(&self, id: u32) -> impl Iterator<Item = (Symbol, Symbol)> {
        let (names, first_value) = self.shapes.of(id);
        names.iter().enumerate().filter_map(move |(at, name)| Some((*name, self.values.get(first_value + at)?)))
    }

    fn value(&self, id: u32, name: Symbol) -> Option<Symbol> {
        let (names, first_value) = self.shapes.of(id);
        let at = names.iter().position(|other| *other == name)?;
        self.values.get(first_value + at)
    }

    /// The series that satisfy all matchers. Those that a matcher names by a rare label are looked at one by one; texts once each.
    /// An error once the query was cancelled.
    pub(crate) fn resolve(&self, verdicts: &mut Verdicts<'_>) -> Result<RoaringBitmap> {
        let Some(mut found) = self.named(verdicts.matchers) else { return Ok(RoaringBitmap::new()) };
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
            if matcher.op == MatchOp::Equal {
                let wanted = self.symbols.find(&matcher.value);
                found.retain(|id| self.value(*id, name).map_or(is_empty_allowed, |value| Some(value) == wanted));
                continue;
            }
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
        // Both `named` and what was kept of it are ascending.
        RoaringBitmap::from_sorted_iter(found).map_err(|_| Error::corrupt("the series of a section are out of order"))
    }

    /// A superset, ascending, of the series that satisfy all matchers: of the matchers that name a rare label the one that leaves the
    /// fewest. `None` when a matcher names a label that no series has.
    fn named(&self, matchers: &[Matcher]) -> Option<Vec<u32>> {
        let mut fewest: Option<&[u16]> = None;
        for matcher in matchers.iter().filter(|matcher| matcher.op == MatchOp::Equal && !matcher.value.is_empty()) {
            let (name, value) = (self.symbols.find(&matcher.name)?, self.symbols.find(&matcher.value)?);
            let ids = self.rare.find(name, value);
            fewest = [fewest, ids].into_iter().flatten().min_by_key(|ids| ids.len());
        }
        Some(match fewest {
            Some(ids) => ids.iter().map(|id| u32::from(*id)).collect(),
            None => (0..self.series_count()).collect(),
        })
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let rows = self.first_rows.as_ref().map_or(0, |first_rows| size_of_val(&**first_rows));
        let fixed = size_of_val(&*self.hashes) + self.shapes.heap_bytes() + self.values.heap_bytes() + rows;
        fixed + self.symbols.heap_bytes() + self.rare.heap_bytes() + size_of::<Self>()
    }
}

/// Which series have a label that few have. A query for one series so looks at a handful, and of the labels that many have nothing is
/// kept.
#[derive(Default)]
struct RarePairs {
    /// For each pair, where its series begin, and how many there are.
    places: HashMap<(Symbol, Symbol), (u32, u16), FixedState>,
    ids: Box<[u16]>,
}

/// A pair is rare when fewer than one of so many series have it.
const RARE_PART: usize = 8;

impl RarePairs {
    fn of(table: &SeriesTable) -> Self {
        let count = table.hashes.len();
        if count > usize::from(u16::MAX) {
            return Self::default();
        }
        let mut places: HashMap<(Symbol, Symbol), (u32, u16), FixedState> = HashMap::default();
        for pair in (0..count as u32).flat_map(|id| table.pairs(id)) {
            let (_, held) = places.entry(pair).or_default();
            *held = held.saturating_add(1);
        }
        places.retain(|_, (_, held)| usize::from(*held) * RARE_PART < count);
        let mut end = 0;
        for (start, held) in places.values_mut() {
            *start = end;
            end += u32::from(std::mem::take(held));
        }
        let mut ids = vec![0; end as usize].into_boxed_slice();
        for id in 0..count {
            for pair in table.pairs(id as u32) {
                let Some((start, filled)) = places.get_mut(&pair) else { continue };
                let next = *start as usize + usize::from(*filled);
                // A file that was made elsewhere may have a pair twice.
                if *filled == 0 || ids[next - 1] != id as u16 {
                    ids[next] = id as u16;
                    *filled += 1;
                }
            }
        }
        places.shrink_to_fit();
        Self { places, ids }
    }

    /// The series that have a pair, ascending; `None` when it is not rare.
    fn find(&self, name: Symbol, value: Symbol) -> Option<&[u16]> {
        let (start, count) = self.places.get(&(name, value))?;
        self.ids.get(*start as usize..*start as usize + usize::from(*count))
    }

    fn heap_bytes(&self) -> usize {
        self.places.allocation_size() + size_of_val(&*self.ids)
    }
}

impl LabelLookup for SeriesTable {
    fn names_unsorted(&self, series: &RoaringBitmap) -> Vec<&str> {
        let names: BTreeSet<Symbol> = series.iter().flat_map(|id| self.pairs(id)).map(|(name, _)| name).collect();
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

#[cfg(test)]
mod tests {
    use super::*;
    use br_storage::Budget;

    #[test]
    fn a_pair_that_stands_twice_hides_no_series() {
        let mut table = SeriesTableBuilder::default();
        for number in 0..40u32 {
            let own = number.to_string();
            table.push_row(&[("__name__", "m"), ("own", &own), ("own", &own)], u128::from(number) + 1);
        }
        let (table, matchers, budget) = (table.finish(), [Matcher::equal("own", "7")], Budget::unlimited());
        let mut verdicts = Verdicts::new(&matchers, &budget).expect("no limit");
        assert_eq!(table.resolve(&mut verdicts).expect("found").iter().collect::<Vec<_>>(), [7]);
    }

    #[test]
    fn rare_labels_name_the_same_series_as_a_look_at_each() {
        let mut table = SeriesTableBuilder::default();
        let mut all = Vec::new();
        for number in 0..400u32 {
            let (common, shared, rare) = (format!("{}", number % 2), format!("{}", number % 20), format!("{}", number / 3));
            let mut pairs = vec![("__name__", "m"), ("common", &*common), ("rare", &*rare)];
            if number % 5 > 0 {
                pairs.push(("shared", &*shared));
            }
            table.push_row(&pairs, u128::from(number) + 1);
            all.push(Labels::from_pairs(pairs));
        }
        let table = table.finish();
        assert!(table.rare.ids.len() < 2 * all.len(), "nothing is kept of labels that many series have");
        let sets: &[&[(MatchOp, &str, &str)]] = &[
            &[(MatchOp::Equal, "rare", "7")],
            &[(MatchOp::Equal, "rare", "7"), (MatchOp::Equal, "shared", "3")],
            &[(MatchOp::Equal, "shared", "3"), (MatchOp::Equal, "common", "1")],
            &[(MatchOp::Equal, "shared", ""), (MatchOp::Equal, "common", "1")],
            &[(MatchOp::Equal, "shared", ""), (MatchOp::Equal, "rare", "0")],
            &[(MatchOp::Equal, "rare", "no such value")],
            &[(MatchOp::Equal, "common", "13")],
            &[(MatchOp::Equal, "no_such_name", "1")],
            &[(MatchOp::Equal, "no_such_name", ""), (MatchOp::Equal, "rare", "9")],
            &[(MatchOp::NotEqual, "rare", "9"), (MatchOp::Equal, "shared", "7")],
            &[(MatchOp::Regex, "rare", "1.*"), (MatchOp::Equal, "shared", "7")],
            &[],
        ];
        for set in sets {
            let matchers: Vec<Matcher> =
                set.iter().map(|(op, name, value)| Matcher::new(*op, *name, *value).expect("valid")).collect();
            let budget = Budget::unlimited();
            let mut verdicts = Verdicts::new(&matchers, &budget).expect("no limit");
            let found: Vec<u32> = table.resolve(&mut verdicts).expect("no limit").iter().collect();
            let matches = |id: &u32| matchers.iter().all(|matcher| matcher.matches_labels(&all[*id as usize]));
            let expected: Vec<u32> = (0..400).filter(matches).collect();
            assert_eq!(found, expected, "{set:?}");
        }
    }
}
