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

#[derive(Default)]
pub(crate) struct SeriesTable {
    symbols: Symbols,
    rare: RarePairs,
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

    /// No more rows come.
    pub(crate) fn finish(mut self) -> Self {
        self.pairs.shrink_to_fit();
        self.series.shrink_to_fit();
        self.rare = RarePairs::of(&self);
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
        let fixed = self.pairs.capacity() * size_of::<(Symbol, Symbol)>() + self.series.capacity() * size_of::<TableSeries>();
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
        let count = table.series.len();
        if count > usize::from(u16::MAX) {
            return Self::default();
        }
        let mut places: HashMap<(Symbol, Symbol), (u32, u16), FixedState> = HashMap::default();
        for pair in &table.pairs {
            let (_, held) = places.entry(*pair).or_default();
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
                let Some((start, filled)) = places.get_mut(pair) else { continue };
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

#[cfg(test)]
mod tests {
    use super::*;
    use br_storage::Budget;

    #[test]
    fn a_pair_that_stands_twice_hides_no_series() {
        let mut table = SeriesTable::default();
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
        let mut table = SeriesTable::default();
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
