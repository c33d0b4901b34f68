//! The series of one target from one scrape to the next: who they are, so that a line need not be read anew, and who has gone.

use br_model::{Label, Labels};
use br_wire::exposition::{KnownTexts, TextKey};
use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashSet};
use std::sync::Arc;

/// Series by the hash of the text that names them: name and labels as a line has them.
#[derive(Default)]
pub(super) struct KnownSeries {
    by_text: HashMap<u128, Known, FixedState>,
    /// Those of before a change of what lines mean: only to be marked when they are gone.
    before: Vec<Labels>,
    /// Counts scrapes.
    scrape: u64,
    /// Each name and value once: labels of one target have most of them in common.
    texts: HashSet<Arc<str>, FixedState>,
}

struct Known {
    /// As they are stored; empty for a series that relabelling leaves out.
    labels: Labels,
    /// The last scrape that had it.
    seen: u64,
    /// Whether its end is to be marked.
    is_tracked: bool,
}

/// Texts that may be kept beyond what the series can have.
const TEXTS_SPARE: usize = 4096;
const TEXTS_PER_SERIES: usize = 8;

impl KnownTexts for KnownSeries {
    fn find(&self, text_hash: u128) -> Option<Labels> {
        self.by_text.get(&text_hash).map(|known| known.labels.clone())
    }
}

impl KnownSeries {
    /// Lines have to be read anew; that their series were there is remembered.
    pub(super) fn named_anew(mut self) -> Self {
        let tracked = self.by_text.into_values().filter(|known| known.is_tracked).map(|known| known.labels);
        self.before.extend(tracked);
        Self { before: self.before, ..Self::default() }
    }

    /// For a series that no line names.
    pub(super) fn key(&self, labels: &Labels) -> TextKey {
        let hash = labels.hash128();
        TextKey { hash, is_known: self.by_text.contains_key(&hash) }
    }

    /// A scrape begins.
    pub(super) fn begin(&mut self) {
        self.scrape += 1;
    }

    /// Takes note of a series of this scrape. True when it was not there in the one before.
    pub(super) fn see(&mut self, hash: u128, labels: &Labels, is_tracked: bool) -> bool {
        if let Some(known) = self.by_text.get_mut(&hash) {
            (known.seen, known.is_tracked) = (self.scrape, is_tracked);
            return false;
        }
        if self.texts.len() > self.by_text.len() * TEXTS_PER_SERIES + TEXTS_SPARE {
            self.texts = HashSet::default();
        }
        let labels = labels.iter().map(|(name, value)| Label { name: self.text(name), value: self.text(value) });
        let labels = Labels::from_sorted(labels.collect());
        self.by_text.insert(hash, Known { labels, seen: self.scrape, is_tracked });
        true
    }

    fn text(&mut self, text: &str) -> Arc<str> {
        self.texts.get_or_insert_with(text, |text: &str| text.into()).clone()
    }

    /// Forgets the series that this scrape did not have; those whose end is to be marked come back, sorted.
    pub(super) fn take_gone(&mut self) -> Vec<Labels> {
        let mut gone: Vec<Labels> = std::mem::take(&mut self.before);
        let scrape = self.scrape;
        if self.by_text.values().any(|known| known.seen != scrape) {
            let left = self.by_text.extract_if(|_, known| known.seen != scrape);
            gone.extend(left.filter(|(_, known)| known.is_tracked).map(|(_, known)| known.labels));
        }
        if !gone.is_empty() {
            // Another text may name the same series.
            let there: HashSet<&Labels, FixedState> = self.by_text.values().map(|known| &known.labels).collect();
            gone.retain(|labels| !there.contains(labels));
            gone.sort();
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_goes_when_no_text_names_it_any_more() {
        let labels = |value: &str| Labels::from_pairs([("__name__", "up"), ("a", value)]);
        let mut known = KnownSeries::default();
        known.begin();
        assert!(known.see(1, &labels("x"), true) && known.see(2, &labels("y"), true) && known.see(3, &labels("z"), false));
        assert_eq!(known.take_gone(), []);
        assert_eq!(known.find(2), Some(labels("y")));

        known.begin();
        known.see(9, &labels("x"), true);
        assert_eq!(known.take_gone(), [labels("y")], "x has another text, z says itself when it ends");
        assert_eq!(known.find(1), None);

        let mut known = known.named_anew();
        assert_eq!(known.find(9), None);
        known.begin();
        assert_eq!(known.take_gone(), [labels("x")]);
        known.begin();
        assert_eq!(known.take_gone(), []);
    }
}
