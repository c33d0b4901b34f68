//! Which series have which labels: an inverted index over the numbered series of the head.

use crate::symbols::{Symbol, Symbols};
use crate::verdicts::Verdicts;
use br_model::{Labels, Texts};
use br_std::varint;
use br_storage::{MatchOp, Matcher};
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use roaring::RoaringBitmap;
use std::borrow::Cow;
use std::sync::Arc;

/// Number of a series within one index.
pub(crate) type SeriesId = u32;

/// Where the labels of one series stand in the index.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PairsAt(u32);

/// The series of one label pair. Most pairs of a label such as `instance` or `trace` have few.
#[derive(Clone, Debug)]
enum Postings {
    One(SeriesId),
    Many(Box<RoaringBitmap>),
}

#[derive(Default)]
struct NameEntry {
    by_value: HashMap<Symbol, Postings, FixedState>,
    /// All series that have the label.
    series: RoaringBitmap,
}

/// What can be said of a query's matchers.
pub(crate) enum Resolved {
    /// The series that satisfy all of them.
    Series(RoaringBitmap),
    /// Values that the matcher at this position must be asked about first: that takes time, and the caller may hold a lock.
    Unknown { matcher: usize, values: Vec<Box<str>> },
}

/// Texts of numbered series, in the head and in files.
pub(crate) trait LabelLookup {
    /// Names of the labels on these series, unsorted.
    fn names_unsorted(&self, series: &RoaringBitmap) -> Vec<&str>;

    /// Values of one label on these series, unsorted.
    fn values_unsorted(&self, name: &str, series: &RoaringBitmap) -> Vec<&str>;

    fn labels_of(&self, id: SeriesId) -> Option<Labels>;
}

#[derive(Default)]
pub(crate) struct LabelIndex {
    symbols: Symbols,
    by_name: HashMap<Symbol, NameEntry, FixedState>,
    all: RoaringBitmap,
    /// Of each series how many labels it has, and names and values by symbol in the order of the label set, all as varints.
    pairs: Vec<u8>,
}

impl LabelIndex {
    /// Adds a series under a number that is free; `None` when there is no room for its labels.
    pub(crate) fn insert(&mut self, id: SeriesId, labels: &Labels) -> Option<PairsAt> {
        let at = u32::try_from(self.pairs.len()).ok()?;
        varint::put_u64(&mut self.pairs, labels.len() as u64);
        for (name, value) in labels.iter() {
            let (name, value) = (self.symbols.intern(name), self.symbols.intern(value));
            varint::put_u64(&mut self.pairs, u64::from(name));
            varint::put_u64(&mut self.pairs, u64::from(value));
            let entry = self.by_name.entry(name).or_default();
            entry.series.insert(id);
            entry.by_value.entry(value).and_modify(|postings| postings.add(id)).or_insert(Postings::One(id));
        }
        self.all.insert(id);
        Some(PairsAt(at))
    }

    /// Names and values of a series that was inserted, by symbol, in the order of the label set.
    pub(crate) fn pairs(&self, at: PairsAt) -> impl ExactSizeIterator<Item = (Symbol, Symbol)> {
        let mut bytes = self.pairs.get(at.0 as usize..).unwrap_or_default();
        // What was put there is there: the zero is never seen.
        let mut next = move || varint::take_u64(&mut bytes).unwrap_or(0) as Symbol;
        (0..next()).map(move |_| (next(), next()))
    }

    /// Removes a series that was inserted. Its texts stay until the index is built anew.
    pub(crate) fn remove(&mut self, id: SeriesId, at: PairsAt) {
        self.all.remove(id);
        let pairs: Vec<(Symbol, Symbol)> = self.pairs(at).collect();
        for (name, value) in pairs {
            let Some(entry) = self.by_name.get_mut(&name) else { continue };
            entry.series.remove(id);
            let is_empty = entry.by_value.get_mut(&value).is_some_and(|postings| postings.take_away(id));
            if is_empty {
                entry.by_value.remove(&value);
            }
            if entry.series.is_empty() {
                self.by_name.remove(&name);
            }
        }
    }

    pub(crate) fn symbol(&self, text: &str) -> Option<Symbol> {
        self.symbols.find(text)
    }

    /// The number of a text, given anew when it is not known.
    pub(crate) fn intern(&mut self, text: &str) -> Symbol {
        self.symbols.intern(text)
    }

    pub(crate) fn text(&self, symbol: Symbol) -> &str {
        self.symbols.text(symbol)
    }

    pub(crate) fn labels(&self, at: PairsAt) -> Labels {
        let pairs: Arc<[(Symbol, Symbol)]> = self.pairs(at).collect();
        let all = 0..pairs.len() as u32;
        Labels::numbered(self.symbols.texts().clone(), pairs, all)
    }

    /// Texts by symbol, to be read without this index.
    pub(crate) fn texts(&self) -> &Arc<Texts> {
        self.symbols.texts()
    }

    /// The series that satisfy all matchers, as far as is known what the expensive ones say.
    pub(crate) fn resolve(&self, verdicts: &Verdicts<'_>) -> Resolved {
        let matchers = verdicts.matchers;
        let mut found = self.resolve_cheap(matchers);
        for (at, matcher) in matchers.iter().enumerate().filter(|(_, matcher)| !matcher.is_cheap()) {
            let is_excluding = matcher.matches_empty();
            let Some(entry) = self.symbols.find(&matcher.name).and_then(|name| self.by_name.get(&name)) else {
                if !is_excluding {
                    found.clear();
                }
                continue;
            };
            let (mut chosen, mut unknown) = (Vec::new(), Vec::new());
            // Values that only other series have need not be asked about.
            for (value, postings) in entry.by_value.iter().filter(|(_, postings)| postings.overlaps(&found)) {
                let text = self.symbols.text(*value);
                match verdicts.known(at, text) {
                    None => unknown.push(Box::from(text)),
                    Some(is_satisfied) if is_satisfied != is_excluding => chosen.push(postings),
                    Some(_) => {}
                }
            }
            if !unknown.is_empty() {
                return Resolved::Unknown { matcher: at, values: unknown };
            }
            let chosen = union(chosen.into_iter());
            if is_excluding {
                found -= &*chosen;
            } else {
                found &= &*chosen;
            }
        }
        Resolved::Series(found)
    }

    /// The series that satisfy all matchers that are cheap to ask.
    fn resolve_cheap(&self, matchers: &[Matcher]) -> RoaringBitmap {
        let cheap = matchers.iter().filter(|matcher| matcher.is_cheap());
        let (excluding, including): (Vec<_>, Vec<_>) = cheap.partition(|matcher| matcher.matches_empty());
        let mut sets = Vec::with_capacity(including.len());
        for matcher in including {
            let set = self.having(matcher);
            if set.is_empty() {
                return RoaringBitmap::new();
            }
            sets.push(set);
        }
        // The smallest first: what is copied is then small, and so is each further intersection.
        sets.sort_by_cached_key(|set| set.len());
        let mut sets = sets.into_iter();
        let mut found = sets.next().map_or_else(|| self.all.clone(), Cow::into_owned);
        for set in sets {
            found &= &*set;
        }
        for matcher in excluding.iter().filter(|matcher| !matcher.matches_everything()) {
            found -= &*self.failing(matcher);
        }
        found
    }

    /// Series that have the label with a value that satisfies the matcher.
    fn having(&self, matcher: &Matcher) -> Cow<'_, RoaringBitmap> {
        let Some(entry) = self.symbols.find(&matcher.name).and_then(|name| self.by_name.get(&name)) else {
            return Cow::default();
        };
        if let Some(values) = matcher.literal_alternatives() {
            let known = values.into_iter().filter_map(|value| self.symbols.find(value));
            return union(known.filter_map(|value| entry.by_value.get(&value)));
        }
        if matcher.matches_any_value() {
            return Cow::Borrowed(&entry.series);
        }
        let satisfying = entry.by_value.iter().filter(|(value, _)| matcher.matches(self.symbols.text(**value)));
        union(satisfying.map(|(_, postings)| postings))
    }

    /// Series whose value fails a matcher that a missing label satisfies.
    fn failing(&self, matcher: &Matcher) -> Cow<'_, RoaringBitmap> {
        let Some(entry) = self.symbols.find(&matcher.name).and_then(|name| self.by_name.get(&name)) else {
            return Cow::default();
        };
        if matcher.op == MatchOp::NotEqual {
            let postings = self.symbols.find(&matcher.value).and_then(|value| entry.by_value.get(&value));
            return union(postings.into_iter());
        }
        let failing = entry.by_value.iter().filter(|(value, _)| !matcher.matches(self.symbols.text(**value)));
        union(failing.map(|(_, postings)| postings))
    }

    /// For each label name how many values it has, and for each of its values how many series; unsorted.
    pub(crate) fn cardinality_unsorted(&self) -> impl Iterator<Item = (&str, Vec<(&str, u64)>)> {
        self.by_name.iter().map(|(name, entry)| {
            let values = entry.by_value.iter().map(|(value, postings)| (self.text(*value), postings.len()));
            (self.text(*name), values.collect())
        })
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let of_entry = |entry: &NameEntry| {
            let values: usize = entry.by_value.values().map(Postings::heap_bytes).sum();
            values + entry.by_value.capacity() * 24 + entry.series.serialized_size()
        };
        let texts = self.symbols.heap_bytes() + self.pairs.capacity();
        texts + self.all.serialized_size() + self.by_name.values().map(of_entry).sum::<usize>()
    }
}

impl LabelIndex {
    pub(crate) fn names_unsorted(&self, series: &RoaringBitmap) -> Vec<&str> {
        let on_series = self.by_name.iter().filter(|(_, entry)| !entry.series.is_disjoint(series));
        on_series.map(|(name, _)| self.text(*name)).collect()
    }

    pub(crate) fn values_unsorted(&self, name: &str, series: &RoaringBitmap) -> Vec<&str> {
        let Some(entry) = self.symbols.find(name).and_then(|name| self.by_name.get(&name)) else { return Vec::new() };
        let on_series = entry.by_value.iter().filter(|(_, postings)| postings.overlaps(series));
        on_series.map(|(value, _)| self.text(*value)).collect()
    }
}

impl Postings {
    fn add(&mut self, id: SeriesId) {
        match self {
            Self::One(one) => *self = Self::Many(Box::new([*one, id].into_iter().collect())),
            Self::Many(many) => {
                many.insert(id);
            }
        }
    }

    /// True when nothing is left.
    fn take_away(&mut self, id: SeriesId) -> bool {
        match self {
            Self::One(one) => *one == id,
            Self::Many(many) => {
                many.remove(id);
                many.is_empty()
            }
        }
    }

    fn overlaps(&self, series: &RoaringBitmap) -> bool {
        match self {
            Self::One(one) => series.contains(*one),
            Self::Many(many) => !many.is_disjoint(series),
        }
    }

    fn len(&self) -> u64 {
        match self {
            Self::One(_) => 1,
            Self::Many(many) => many.len(),
        }
    }

    fn heap_bytes(&self) -> usize {
        match self {
            Self::One(_) => 0,
            Self::Many(many) => size_of::<RoaringBitmap>() + many.serialized_size(),
        }
    }
}

/// Borrowed where one of them is all of it.
fn union<'a>(postings: impl Iterator<Item = &'a Postings>) -> Cow<'a, RoaringBitmap> {
    let mut found: Cow<'a, RoaringBitmap> = Cow::default();
    let mut single = Vec::new();
    for postings in postings {
        match postings {
            Postings::One(one) => single.push(*one),
            Postings::Many(many) if found.is_empty() => found = Cow::Borrowed(many),
            Postings::Many(many) => *found.to_mut() |= &**many,
        }
    }
    if !single.is_empty() {
        found.to_mut().extend(single);
    }
    found
}
