//! Label sets: what names a series or a log stream.

use std::borrow::Borrow;
use std::fmt;
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
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels(Arc<[Label]>);

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
            return Self(labels.into());
        }
        Self::from_pairs(labels.iter().map(|label| (&label.name, &label.value)))
    }

    /// Takes all labels out of `labels`, which were read from a set that was one already: sorted, no name twice, no value empty.
    pub fn from_set(labels: &mut Vec<Label>) -> Self {
        debug_assert!(labels.windows(2).all(|pair| pair[0].name < pair[1].name));
        Self(labels.drain(..).collect())
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        // Most names differ in length already: that is seen without looking at any text.
        if self.0.len() <= LINEAR_MAX {
            return self.0.iter().find(|label| *label.name == *name).map(|label| &*label.value);
        }
        let at = self.0.binary_search_by(|label| label.name.as_ref().cmp(name)).ok()?;
        Some(&self.0[at].value)
    }

    /// The metric's name; empty when there is none.
    pub fn metric_name(&self) -> &str {
        self.get(METRIC_NAME).unwrap_or("")
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> + Clone {
        self.0.iter().map(|label| (label.name.as_ref(), label.value.as_ref()))
    }

    pub fn as_slice(&self) -> &[Label] {
        &self.0
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A builder that starts from these labels.
    pub fn to_builder(&self) -> LabelsBuilder {
        LabelsBuilder { labels: self.0.to_vec() }
    }

    /// The same labels without those that `drop` names.
    pub fn without(&self, drop: impl Fn(&str) -> bool) -> Self {
        if !self.0.iter().any(|label| drop(&label.name)) {
            return self.clone();
        }
        Self(self.0.iter().filter(|label| !drop(&label.name)).cloned().collect())
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
        for label in self.0.iter() {
            let sizes = [label.name.len(), label.value.len()].map(|length| length as u64);
            bytes.push(1 << 3 | 2);
            br_std::varint::put_u64(bytes, sizes.iter().map(|size| 1 + br_std::varint::size_u64(*size) + size).sum());
            for (field, text) in [(1, &label.name), (2, &label.value)] {
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
        bytes.reserve(self.0.iter().map(|label| label.name.len() + label.value.len() + 2).sum());
        for label in self.0.iter() {
            bytes.extend_from_slice(label.name.as_bytes());
            bytes.push(0xff);
            bytes.extend_from_slice(label.value.as_bytes());
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
        let shown = |label: &&Label| !(bare_name && label.name.as_ref() == METRIC_NAME);
        if bare_name && self.0.len() == 1 {
            return Ok(());
        }
        f.write_str("{")?;
        for (at, label) in self.0.iter().filter(shown).enumerate() {
            if at > 0 {
                f.write_str(", ")?;
            }
            if is_legacy_label_name(&label.name) {
                write!(f, "{}={:?}", label.name, label.value)?;
            } else {
                write!(f, "{:?}={:?}", label.name, label.value)?;
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
        Labels(self.labels.into())
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
}
