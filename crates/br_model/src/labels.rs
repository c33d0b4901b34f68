//! Label sets: what names a series or a log stream.

use crate::Texts;
use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::sync::Arc;

/// The label that holds a metric's name.
pub const METRIC_NAME: &str = "__name__";

/// Up to so many labels it is faster to look at each than to halve.
const LINEAR_MAX: usize = 16;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label {
    pub name: Arc<str>,
    pub value: Arc<str>,
}

/// A set of labels: sorted by name, no name twice, no empty value (an empty value is the same as no label).
/// Cheap to clone. Ordered as Prometheus orders series: label by label, name before value.
#[derive(Clone)]
pub struct Labels(Repr);

/// A name and a value by their numbers in a table of texts.
pub type NumberedLabel = (u32, u32);

#[derive(Clone)]
enum Repr {
    Own(Arc<[Label]>),
    Numbered(Numbered),
}

/// Labels whose texts are in a table, as a store hands out many at once: to make such a set or to drop it touches no text.
#[derive(Clone)]
struct Numbered {
    texts: Arc<Texts>,
    /// Those of this set, perhaps among those of others.
    pairs: Arc<[NumberedLabel]>,
    from: u32,
    to: u32,
}

impl Numbered {
    fn pairs(&self) -> &[NumberedLabel] {
        &self.pairs[self.from as usize..self.to as usize]
    }

    /// The pairs that a table for itself would hold.
    fn with(&self, pairs: Arc<[NumberedLabel]>) -> Self {
        Self { texts: self.texts.clone(), from: 0, to: pairs.len() as u32, pairs }
    }
}

/// The labels of a set, in order.
#[derive(Clone)]
enum Iter<'a> {
    Own(std::slice::Iter<'a, Label>),
    Numbered(&'a Texts, std::slice::Iter<'a, NumberedLabel>),
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a str, &'a str);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Own(labels) => labels.next().map(|label| (&*label.name, &*label.value)),
            Self::Numbered(texts, pairs) => pairs.next().map(|(name, value)| (texts.get(*name), texts.get(*value))),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match self {
            Self::Own(labels) => labels.size_hint(),
            Self::Numbered(_, pairs) => pairs.size_hint(),
        }
    }
}

impl ExactSizeIterator for Iter<'_> {}

impl Default for Labels {
    fn default() -> Self {
        Self(Repr::Own(Arc::default()))
    }
}

impl PartialEq for Labels {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            // A table holds no text twice.
            (Repr::Numbered(one), Repr::Numbered(two)) if Arc::ptr_eq(&one.texts, &two.texts) => one.pairs() == two.pairs(),
            _ => self.iter().eq(other.iter()),
        }
    }
}

impl Eq for Labels {}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Labels {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        match (&self.0, &other.0) {
            // Only the first pair in which they differ has to be read.
            (Repr::Numbered(one), Repr::Numbered(two)) if Arc::ptr_eq(&one.texts, &two.texts) => {
                let (one_pairs, two_pairs) = (one.pairs(), two.pairs());
                let equal = one_pairs.iter().zip(two_pairs).take_while(|(one, two)| one == two).count();
                let text = |pair: &NumberedLabel| (one.texts.get(pair.0), one.texts.get(pair.1));
                one_pairs.get(equal).map(text).cmp(&two_pairs.get(equal).map(text))
            }
            _ => self.iter().cmp(other.iter()),
        }
    }
}

impl Hash for Labels {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_usize(self.len());
        self.iter().for_each(|label| label.hash(state));
    }
}

impl Labels {
    pub fn empty() -> Self {
        Self::default()
    }

    /// Sorts, drops empty values, and of one name keeps the last value.
    pub fn from_pairs<N: AsRef<str>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut builder = LabelsBuilder::default();
        for (name, value) in pairs {
            builder.set(name.as_ref(), value.as_ref());
        }
        builder.build()
    }

    /// Takes labels that are sorted by name already, no name twice and no value empty: what a store wrote before.
    /// Where they are not, they are put in order.
    pub fn from_sorted(labels: Vec<Label>) -> Self {
        let is_in_order = labels.windows(2).all(|pair| pair[0].name < pair[1].name);
        if is_in_order && labels.iter().all(|label| !label.value.is_empty()) {
            return Self(Repr::Own(labels.into()));
        }
        Self::from_pairs(labels.iter().map(|label| (&label.name, &label.value)))
    }

    /// The labels behind the numbers `pairs[from..to]`, which were read from a set that was one already: sorted by name, no name
    /// twice, no value empty.
    pub fn numbered(texts: Arc<Texts>, pairs: Arc<[NumberedLabel]>, range: Range<u32>) -> Self {
        debug_assert!(range.start <= range.end && range.end as usize <= pairs.len());
        Self(Repr::Numbered(Numbered { texts, pairs, from: range.start, to: range.end }))
    }

    /// The table in which all texts of the set are, and the numbers of names and values there. Sets of one table are the same where
    /// their numbers are.
    pub fn numbers(&self) -> Option<(&Arc<Texts>, &[NumberedLabel])> {
        match &self.0 {
            Repr::Own(_) => None,
            Repr::Numbered(numbered) => Some((&numbered.texts, numbered.pairs())),
        }
    }

    /// The same labels, holding no more than their own numbers: for what is kept long.
    #[must_use]
    pub fn alone(self) -> Self {
        match &self.0 {
            Repr::Numbered(numbered) if numbered.pairs.len() != numbered.pairs().len() => {
                Self(Repr::Numbered(numbered.with(numbered.pairs().into())))
            }
            _ => self,
        }
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        let labels = match &self.0 {
            // Most names differ in length already: that is seen without looking at any text.
            Repr::Own(labels) if labels.len() <= LINEAR_MAX => labels,
            Repr::Own(labels) => {
                let at = labels.binary_search_by(|label| label.name.as_ref().cmp(name)).ok()?;
                return Some(&labels[at].value);
            }
            Repr::Numbered(numbered) => {
                let found = numbered.pairs().iter().find(|(other, _)| numbered.texts.get(*other) == name);
                return found.map(|(_, value)| numbered.texts.get(*value));
            }
        };
        labels.iter().find(|label| *label.name == *name).map(|label| &*label.value)
    }

    /// The metric's name; empty when there is none.
    pub fn metric_name(&self) -> &str {
        self.get(METRIC_NAME).unwrap_or("")
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> + Clone {
        match &self.0 {
            Repr::Own(labels) => Iter::Own(labels.iter()),
            Repr::Numbered(numbered) => Iter::Numbered(&numbered.texts, numbered.pairs().iter()),
        }
    }

    pub fn len(&self) -> usize {
        match &self.0 {
            Repr::Own(labels) => labels.len(),
            Repr::Numbered(numbered) => numbered.pairs().len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A builder that starts from these labels.
    pub fn to_builder(&self) -> LabelsBuilder {
        let labels = match &self.0 {
            Repr::Own(labels) => labels.to_vec(),
            Repr::Numbered(_) => self.iter().map(|(name, value)| Label { name: name.into(), value: value.into() }).collect(),
        };
        LabelsBuilder { labels }
    }

    /// The same labels without those that `drop` names.
    pub fn without(&self, drop: impl Fn(&str) -> bool) -> Self {
        if !self.iter().any(|(name, _)| drop(name)) {
            return self.clone();
        }
        Self(match &self.0 {
            Repr::Own(labels) => Repr::Own(labels.iter().filter(|label| !drop(&label.name)).cloned().collect()),
            Repr::Numbered(numbered) => {
                let left = numbered.pairs().iter().filter(|(name, _)| !drop(numbered.texts.get(*name)));
                Repr::Numbered(numbered.with(left.copied().collect()))
            }
        })
    }

    /// Only the labels that `keep` names.
    pub fn only(&self, keep: impl Fn(&str) -> bool) -> Self {
        self.without(|name| !keep(name))
    }

    /// The same labels without the metric's name.
    pub fn without_metric_name(&self) -> Self {
        self.without(|name| name == METRIC_NAME)
    }

    /// A hash of names and values that stays the same between runs and machines.
    pub fn hash128(&self) -> u128 {
        self.hash128_with(&mut Vec::new())
    }

    /// The hash of the labels as a sender of remote write 1.0 writes them: each as field 1 of its message, name and value as its
    /// fields 1 and 2, sorted by name as here. Senders do so, and what they send can be looked up unread.
    pub fn wire_hash_with(&self, bytes: &mut Vec<u8>) -> u128 {
        bytes.clear();
        for (name, value) in self.iter() {
            let sizes = [name.len(), value.len()].map(|length| length as u64);
            bytes.push(1 << 3 | 2);
            br_std::varint::put_u64(bytes, sizes.iter().map(|size| 1 + br_std::varint::size_u64(*size) + size).sum());
            for (field, text) in [(1, name), (2, value)] {
                bytes.push(field << 3 | 2);
                br_std::varint::put_u64(bytes, text.len() as u64);
                bytes.extend_from_slice(text.as_bytes());
            }
        }
        br_std::hash::hash128(bytes)
    }

    /// As [`Labels::hash128`], with a buffer that the caller keeps for the next label set.
    pub fn hash128_with(&self, bytes: &mut Vec<u8>) -> u128 {
        bytes.clear();
        for (name, value) in self.iter() {
            bytes.extend_from_slice(name.as_bytes());
            bytes.push(0xff);
            bytes.extend_from_slice(value.as_bytes());
            bytes.push(0xff);
        }
        br_std::hash::hash128(bytes)
    }
}

/// As Prometheus prints a series: `name{a="1", b="2"}`.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.metric_name();
        let bare_name = is_legacy_metric_name(name);
        if bare_name {
            f.write_str(name)?;
        }
        if bare_name && self.len() == 1 {
            return Ok(());
        }
        f.write_str("{")?;
        let shown = self.iter().filter(|(name, _)| !(bare_name && *name == METRIC_NAME));
        for (at, (name, value)) in shown.enumerate() {
            if at > 0 {
                f.write_str(", ")?;
            }
            if is_legacy_label_name(name) {
                write!(f, "{name}={value:?}")?;
            } else {
                write!(f, "{name:?}={value:?}")?;
            }
        }
        f.write_str("}")
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `[a-zA-Z_:][a-zA-Z0-9_:]*`: a metric name that needs no quotes.
pub fn is_legacy_metric_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_' || byte == b':')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':')
}

/// `[a-zA-Z_][a-zA-Z0-9_]*`: a label name that needs no quotes.
pub fn is_legacy_label_name(name: &str) -> bool {
    is_legacy_metric_name(name) && !name.contains(':')
}

/// Builds a label set out of order.
#[derive(Clone, Debug, Default)]
pub struct LabelsBuilder {
    /// Sorted by name.
    labels: Vec<Label>,
}

impl LabelsBuilder {
    /// Sets a label; an empty value removes it.
    pub fn set(&mut self, name: &str, value: &str) -> &mut Self {
        if value.is_empty() {
            return self.remove(name);
        }
        match self.find(name) {
            Ok(at) => self.labels[at].value = value.into(),
            Err(at) => self.labels.insert(at, Label { name: name.into(), value: value.into() }),
        }
        self
    }

    pub fn remove(&mut self, name: &str) -> &mut Self {
        if let Ok(at) = self.find(name) {
            self.labels.remove(at);
        }
        self
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.find(name).ok().map(|at| self.labels[at].value.borrow())
    }

    pub fn build(self) -> Labels {
        Labels(Repr::Own(self.labels.into()))
    }

    fn find(&self, name: &str) -> Result<usize, usize> {
        self.labels.binary_search_by(|label| label.name.as_ref().cmp(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorted_unique_and_without_empty_values() {
        let labels = Labels::from_pairs([("b", "2"), ("__name__", "up"), ("a", "1"), ("a", "3"), ("c", "")]);
        assert_eq!(labels.to_string(), r#"up{a="3", b="2"}"#);
        assert_eq!(labels.get("c"), None);
        assert_eq!(labels.hash128(), Labels::from_pairs([("a", "3"), ("b", "2"), ("__name__", "up")]).hash128());
        assert_eq!(labels.without_metric_name().to_string(), r#"{a="3", b="2"}"#);
        assert_eq!(Labels::from_pairs([("__name__", "http.ok")]).to_string(), r#"{__name__="http.ok"}"#);
    }

    #[test]
    fn numbered_labels_are_the_same_labels() {
        let texts = Arc::new(Texts::default());
        for text in ["__name__", "up", "a", "1", "b", "2"] {
            texts.push(text);
        }
        let pairs: Arc<[NumberedLabel]> = [(0, 1), (2, 3), (4, 5), (0, 1), (2, 5)].into();
        let numbered = |range| Labels::numbered(texts.clone(), pairs.clone(), range);
        let own = Labels::from_pairs([("__name__", "up"), ("a", "1"), ("b", "2")]);
        let hash = |labels: &Labels| {
            let mut hasher = std::hash::DefaultHasher::new();
            labels.hash(&mut hasher);
            hasher.finish()
        };
        for labels in [numbered(0..3), numbered(0..3).alone()] {
            assert_eq!((&labels, labels.len(), labels.to_string()), (&own, 3, own.to_string()));
            assert_eq!(
                (hash(&labels), labels.hash128(), labels.cmp(&own)),
                (hash(&own), own.hash128(), std::cmp::Ordering::Equal)
            );
            assert_eq!((labels.get("b"), labels.get("c"), labels.metric_name()), (Some("2"), None, "up"));
            assert_eq!(labels.without_metric_name(), own.without_metric_name());
            assert_eq!(labels.to_builder().build(), own);
            assert_eq!(labels, numbered(0..3));
            assert_ne!(labels, numbered(3..5));
            assert!(labels < numbered(3..5));
        }
    }

    #[test]
    fn sets_of_one_table_are_ordered_by_their_texts() {
        let texts = Arc::new(Texts::default());
        // Numbered against the order of the texts.
        let [value_2, value_1, name_b, name_a] = ["2", "1", "b", "a"].map(|text| texts.push(text));
        let sets: Vec<Labels> = [
            vec![],
            vec![(name_a, value_1)],
            vec![(name_a, value_1), (name_b, value_1)],
            vec![(name_a, value_1), (name_b, value_2)],
            vec![(name_a, value_2)],
            vec![(name_b, value_1)],
        ]
        .into_iter()
        .map(|pairs| Labels::numbered(texts.clone(), pairs.as_slice().into(), 0..pairs.len() as u32))
        .collect();
        for (at, one) in sets.iter().enumerate() {
            for (other_at, other) in sets.iter().enumerate() {
                assert_eq!(one.cmp(other), at.cmp(&other_at), "{one} and {other}");
                assert_eq!(one.cmp(other), Labels::from_pairs(one.iter()).cmp(other), "{one} and {other}");
            }
        }
    }
}
