//! The labels of one line on its way through the stages.

use br_model::{Labels, LabelsBuilder};
use br_storage::LogRow;
use std::borrow::Cow;

/// Set when a stage could not do its work; such lines fail a metric query.
pub(crate) const ERROR: &str = "__error__";
pub(crate) const ERROR_DETAILS: &str = "__error_details__";

/// Computed from the record's severity where no label of that name stands.
const DETECTED_LEVEL: &str = "detected_level";

/// Where a label came from. Precedence for a name: stream, then metadata, then parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Stream,
    Metadata,
    Parsed,
}

#[derive(Clone, Debug)]
struct Entry<'a> {
    name: Cow<'a, str>,
    value: Cow<'a, str>,
    origin: Origin,
}

/// Each name once.
pub(crate) struct LineLabels<'a> {
    row: &'a LogRow,
    entries: Vec<Entry<'a>>,
    /// Still exactly the stream's labels: nothing added, nothing taken away.
    untouched: bool,
    /// What stages may still add, in bytes.
    bytes_left: usize,
}

/// A line may carry this many labels; what comes after is left out.
const LABELS_MAX: usize = 1024;
/// Names and values that stages add to a line may take this many bytes; what comes after is left out.
const ADDED_BYTES_MAX: usize = 4 << 20;

impl<'a> LineLabels<'a> {
    pub(crate) fn new(row: &'a LogRow) -> Self {
        let mut entries = Vec::with_capacity(row.stream.len() + row.metadata.len() + 8);
        entries.extend(row.stream.iter().map(|(name, value)| Entry {
            name: Cow::Borrowed(name),
            value: Cow::Borrowed(value),
            origin: Origin::Stream,
        }));
        let mut labels = Self { row, entries, untouched: true, bytes_left: ADDED_BYTES_MAX };
        for (name, value) in &row.metadata {
            labels.add(Cow::Borrowed(name), Cow::Borrowed(value), Origin::Metadata);
        }
        labels
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.entries.iter().position(|entry| entry.name == name)
    }

    /// The value, or the severity's word for `detected_level`.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        if let Some(at) = self.position(name) {
            return Some(&self.entries[at].value);
        }
        let level = if name == DETECTED_LEVEL { self.row.severity.as_str() } else { "" };
        (!level.is_empty()).then_some(level)
    }

    /// Missing counts as empty.
    pub(crate) fn get_or_empty(&self, name: &str) -> &str {
        self.get(name).unwrap_or("")
    }

    /// What a parser found. A name that is taken by the stream or by metadata gets `_extracted` behind it;
    /// the first value that parsers find for a name stays.
    pub(crate) fn extract(&mut self, name: Cow<'a, str>, value: Cow<'a, str>) {
        self.add(name, value, Origin::Parsed);
    }

    fn add(&mut self, name: Cow<'a, str>, value: Cow<'a, str>, origin: Origin) {
        let mut name = name;
        let mut at = self.position(&name);
        if at.is_some_and(|at| self.entries[at].origin != Origin::Parsed && self.entries[at].origin != origin) {
            name = Cow::Owned(format!("{name}_extracted"));
            at = self.position(&name);
        }
        self.untouched = false;
        let is_new = at.is_none_or(|at| self.entries[at].origin != origin);
        if is_new && !self.takes(name.len() + value.len()) {
            return;
        }
        match at {
            Some(at) if self.entries[at].origin == origin => {}
            Some(at) => self.entries[at] = Entry { name, value, origin },
            None if self.entries.len() < LABELS_MAX => self.entries.push(Entry { name, value, origin }),
            None => {}
        }
    }

    /// Overwrites, wherever the label came from; an empty value removes it.
    pub(crate) fn set(&mut self, name: &str, value: String) {
        self.untouched = false;
        if !self.takes(name.len() + value.len()) {
            return;
        }
        match self.position(name) {
            Some(at) if value.is_empty() => drop(self.entries.remove(at)),
            Some(at) => self.entries[at].value = Cow::Owned(value),
            None if value.is_empty() || self.entries.len() >= LABELS_MAX => {}
            None => {
                self.entries.push(Entry { name: Cow::Owned(name.to_owned()), value: Cow::Owned(value), origin: Origin::Parsed });
            }
        }
    }

    fn takes(&mut self, bytes: usize) -> bool {
        let left = self.bytes_left.checked_sub(bytes);
        self.bytes_left = left.unwrap_or(self.bytes_left);
        left.is_some()
    }

    pub(crate) fn remove(&mut self, name: &str) {
        if let Some(at) = self.position(name) {
            self.untouched = false;
            self.entries.remove(at);
        }
    }

    pub(crate) fn retain(&mut self, keep: impl Fn(&str, &str) -> bool) {
        let before = self.entries.len();
        self.entries.retain(|entry| keep(&entry.name, &entry.value));
        self.untouched &= self.entries.len() == before;
    }

    pub(crate) fn has_error(&self) -> bool {
        self.position(ERROR).is_some()
    }

    /// The first error of a line stays.
    pub(crate) fn set_error(&mut self, error: &str, details: String) {
        if !self.has_error() {
            self.set(ERROR, error.to_owned());
            self.set(ERROR_DETAILS, details);
        }
    }

    /// Only the labels that a grouping names, or all but those.
    pub(crate) fn build_grouped(&self, without: bool, names: &[String]) -> Labels {
        if !without {
            return Labels::from_pairs(names.iter().map(|name| (name.as_str(), self.get_or_empty(name))));
        }
        self.build().without(|name| names.iter().any(|wanted| wanted == name))
    }

    /// All labels as a set.
    pub(crate) fn build(&self) -> Labels {
        self.build_where(|_| true, self.untouched)
    }

    /// The labels that came from `origin`.
    pub(crate) fn build_origin(&self, origin: Origin) -> Labels {
        self.build_where(|found| found == origin, origin == Origin::Stream && self.untouched)
    }

    fn build_where(&self, keep: impl Fn(Origin) -> bool, is_stream: bool) -> Labels {
        if is_stream {
            return self.row.stream.clone();
        }
        let mut builder = LabelsBuilder::default();
        for entry in self.entries.iter().filter(|entry| keep(entry.origin)) {
            builder.set(&entry.name, &entry.value);
        }
        builder.build()
    }
}
