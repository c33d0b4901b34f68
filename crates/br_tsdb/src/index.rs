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

/// Texts of numbered series, out of the head and in files.
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
    pairs: PairTable,
    /// Series that were inserted since the postings were packed.
    unpacked: usize,
    /// Names whose postings are to be packed.
    to_pack: Vec<Symbol>,
}

/// Names and values of many label sets by symbol, in the order of each set. All numbers are varints.
///
/// A set in full: twice the number of its labels, then names and values. Series of one metric and target differ in a value or two: a
/// set that has the names of the last full one may stand as what differs. Then come twice the number and one more, how far before it
/// that other set stands, a bit for each value that differs, lowest first, and these values.
#[derive(Default)]
struct PairTable {
    bytes: Vec<u8>,
    full_at: usize,
    /// The set at `full_at`.
    full: Vec<(Symbol, Symbol)>,
}

/// Label sets with more labels are always in full.
const DIFFERING_MAX: usize = 64;

impl PairTable {
    /// `None` when there is no room.
    fn push(&mut self, pairs: Vec<(Symbol, Symbol)>) -> Option<PairsAt> {
        let at = u32::try_from(self.bytes.len()).ok()?;
        if self.push_difference(&pairs) {
            return Some(PairsAt(at));
        }
        self.full_at = self.bytes.len();
        varint::put_u64(&mut self.bytes, pairs.len() as u64 * 2);
        for (name, value) in &pairs {
            varint::put_u64(&mut self.bytes, u64::from(*name));
            varint::put_u64(&mut self.bytes, u64::from(*value));
        }
        self.full = pairs;
        Some(PairsAt(at))
    }

    /// False, and nothing is written, when that would save little.
    fn push_difference(&mut self, pairs: &[(Symbol, Symbol)]) -> bool {
        let have_same_names = pairs.iter().map(|(name, _)| name).eq(self.full.iter().map(|(name, _)| name));
        if !have_same_names || pairs.len() > DIFFERING_MAX {
            return false;
        }
        let differing = || (0..pairs.len()).filter(|at| pairs[*at].1 != self.full[*at].1);
        if differing().count() > pairs.len() / 2 {
            return false;
        }
        let mask = differing().fold(0u64, |mask, at| mask | 1 << at);
        let distance = self.bytes.len() - self.full_at;
        varint::put_u64(&mut self.bytes, pairs.len() as u64 * 2 + 1);
        varint::put_u64(&mut self.bytes, distance as u64);
        varint::put_u64(&mut self.bytes, mask);
        for at in differing() {
            varint::put_u64(&mut self.bytes, u64::from(pairs[at].1));
        }
        true
    }

    /// What was put there is there: the zeros and empty slices that damage would give are never seen.
    fn get(&self, at: PairsAt) -> Pairs<'_> {
        let from = |at: usize| self.bytes.get(at..).unwrap_or_default();
        let mut bytes = from(at.0 as usize);
        let header = varint::take_u64(&mut bytes).unwrap_or(0);
        let left = (header / 2) as usize;
        if header.is_multiple_of(2) {
            return Pairs { left, full: bytes, mask: 0, differing: &[] };
        }
        let distance = varint::take_u64(&mut bytes).unwrap_or(0) as usize;
        let mask = varint::take_u64(&mut bytes).unwrap_or(0);
        let mut full = from((at.0 as usize).saturating_sub(distance));
        varint::take_u64(&mut full);
        Pairs { left, full, mask, differing: bytes }
    }
}

/// The labels of one series.
struct Pairs<'a> {
    left: usize,
    full: &'a [u8],
    /// Lowest first, whether the value is among the differing ones.
    mask: u64,
    differing: &'a [u8],
}

impl Iterator for Pairs<'_> {
    type Item = (Symbol, Symbol);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let take = |bytes: &mut _| varint::take_u64(bytes).unwrap_or(0) as Symbol;
        let (name, value) = (take(&mut self.full), take(&mut self.full));
        let is_differing = self.mask & 1 == 1;
        self.mask >>= 1;
        Some((name, if is_differing { take(&mut self.differing) } else { value }))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Pairs<'_> {}

impl LabelIndex {
    /// Adds a series under a number that is free; `None` when there is no room for its labels.
    pub(crate) fn insert(&mut self, id: SeriesId, labels: &Labels) -> Option<PairsAt> {
        let intern = |(name, value): (&str, &str)| (self.symbols.intern(name), self.symbols.intern(value));
        let pairs: Vec<(Symbol, Symbol)> = labels.iter().map(intern).collect();
        let at = self.pairs.push(pairs.clone())?;
        for (name, value) in pairs {
            let entry = self.by_name.entry(name).or_default();
            entry.series.insert(id);
            entry.by_value.entry(value).and_modify(|postings| postings.add(id)).or_insert(Postings::One(id));
        }
        self.all.insert(id);
        self.unpacked += 1;
        Some(at)
    }

    /// Makes the postings small after many series came: those of a target have numbers in a row. Stops after about so many values, and
    /// goes on when it is called again: whoever needs the index waits meanwhile.
    pub(crate) fn pack_when_grown(&mut self, values_at_once: usize) {
        if self.unpacked >= 1024 && self.unpacked as u64 >= self.all.len() / 16 {
            self.unpacked = 0;
            pack(&mut self.all);
            self.to_pack = self.by_name.keys().copied().collect();
        }
        let mut packed = 0;
        while packed < values_at_once
            && let Some(name) = self.to_pack.pop()
        {
            let Some(entry) = self.by_name.get_mut(&name) else { continue };
            pack(&mut entry.series);
            #[allow(clippy::iter_over_hash_type, reason = "each by itself")]
            for postings in entry.by_value.values_mut() {
                if let Postings::Many(many) = postings {
                    pack(many);
                }
            }
            packed += entry.by_value.len() + 1;
        }
    }

    /// Names and values of a series that was inserted, by symbol, in the order of the label set.
    pub(crate) fn pairs(&self, at: PairsAt) -> impl ExactSizeIterator<Item = (Symbol, Symbol)> {
        self.pairs.get(at)
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
        let texts = self.symbols.heap_bytes() + self.pairs.bytes.len();
        texts + self.all.serialized_size() + self.by_name.values().map(of_entry).sum::<usize>()
    }
}

impl LabelIndex {
    pub(crate) fn names_unsorted(&self, series: &RoaringBitmap) -> Vec<Symbol> {
        let on_series = self.by_name.iter().filter(|(_, entry)| !entry.series.is_disjoint(series));
        on_series.map(|(name, _)| *name).collect()
    }

    pub(crate) fn values_unsorted(&self, name: &str, series: &RoaringBitmap) -> Vec<Symbol> {
        let Some(entry) = self.symbols.find(name).and_then(|name| self.by_name.get(&name)) else { return Vec::new() };
        let on_series = entry.by_value.iter().filter(|(_, postings)| postings.overlaps(series));
        on_series.map(|(value, _)| *value).collect()
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

/// A copy has no room to grow, which the original may have as much of again.
fn pack(postings: &mut RoaringBitmap) {
    postings.optimize();
    *postings = postings.clone();
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Label sets that resemble the one before, as those of a target do, and others.
        #[test]
        fn label_sets_come_back_and_postings_stay_what_they_were(
            sets in prop::collection::vec((0usize..4, prop::collection::vec(0u8..5, 0..7)), 1..60)
        ) {
            let mut index = LabelIndex::default();
            let mut known = Vec::new();
            for (id, (target, values)) in sets.iter().enumerate() {
                let pairs = values.iter().enumerate().map(|(at, value)| (format!("n{at}"), format!("v{value}")));
                let target = ("instance".to_owned(), format!("host-{target}"));
                let labels = Labels::from_pairs(pairs.chain([target]));
                let at = index.insert(id as SeriesId, &labels).expect("room");
                known.push((labels, at));
            }
            let resolve = |index: &LabelIndex, matcher: Matcher| index.resolve_cheap(&[matcher]);
            let of_target = |index: &LabelIndex| resolve(index, Matcher::equal("instance", "host-1"));
            let before = of_target(&index);
            index.unpacked = usize::MAX;
            for left in (0..index.by_name.len()).rev() {
                index.pack_when_grown(1);
                prop_assert_eq!(index.to_pack.len(), left, "a name at a time");
                prop_assert_eq!(&of_target(&index), &before);
            }
            for (labels, at) in &known {
                prop_assert_eq!(&index.labels(*at), labels);
                prop_assert_eq!(index.pairs(*at).len(), labels.len());
            }
            for (id, (_, at)) in known.iter().enumerate() {
                index.remove(id as SeriesId, *at);
            }
            prop_assert!(index.all.is_empty() && index.by_name.is_empty());
        }
    }

    #[test]
    fn a_series_that_differs_in_a_value_takes_little() {
        let mut index = LabelIndex::default();
        for id in 0..1000 {
            let bound = id.to_string();
            let labels = [("__name__", "seconds_bucket"), ("instance", "a:1"), ("job", "shop"), ("le", &bound), ("pod", "a-1")];
            index.insert(id, &Labels::from_pairs(labels)).expect("room");
        }
        assert!(index.pairs.bytes.len() < 6500, "{}", index.pairs.bytes.len());
    }
}
