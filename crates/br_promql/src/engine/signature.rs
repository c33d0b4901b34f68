//! Which series of two vectors belong together: those with the same signature, the labels that a matching looks at.

use super::label_keys::{NumberKeys, text_key};
use super::series::StepSeries;
use crate::syntax::ast::Matching;
use br_model::Labels;
use br_model::labels::METRIC_NAME;
use foldhash::fast::RandomState;
use std::collections::HashMap;

/// The labels by which series match.
pub(super) fn signature(labels: &Labels, matching: &Matching) -> Labels {
    labels.only(|name| is_looked_at(name, matching))
}

fn is_looked_at(name: &str, matching: &Matching) -> bool {
    let is_listed = matching.labels.iter().any(|known| known == name);
    if matching.on { is_listed } else { !is_listed && name != METRIC_NAME }
}

/// Signatures by number, in the order in which they came. No labels are built for them.
pub(super) struct Signatures<'m> {
    matching: &'m Matching,
    by_key: HashMap<Box<[u8]>, usize, RandomState>,
    /// Where all series have their texts in one table.
    numbers: Option<NumberKeys>,
    key: Vec<u8>,
}

impl<'m> Signatures<'m> {
    /// `sides` are all series of which signatures will be asked for.
    pub(super) fn new(matching: &'m Matching, sides: [&[StepSeries]; 2]) -> Self {
        let fit = NumberKeys::fit(sides.into_iter().flatten().map(|series| &series.labels));
        Self { matching, by_key: HashMap::default(), numbers: fit.then(NumberKeys::default), key: Vec::new() }
    }

    /// Whether signatures can be asked for of these too.
    pub(super) fn fit(&self, others: &[StepSeries]) -> bool {
        self.numbers.as_ref().is_none_or(|numbers| others.iter().all(|series| numbers.takes(&series.labels)))
    }

    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// The number of a signature that came before.
    pub(super) fn find(&mut self, labels: &Labels) -> Option<usize> {
        let is_looked_at = |name: &str| is_looked_at(name, self.matching);
        match &mut self.numbers {
            Some(numbers) => {
                let is_of_table = numbers.key(labels, is_looked_at, &mut self.key);
                debug_assert!(is_of_table, "all sides were looked at");
            }
            None => text_key(labels, is_looked_at, &mut self.key),
        }
        self.by_key.get(&*self.key).copied()
    }

    /// The number of a signature, and what it takes in memory when it is new.
    pub(super) fn number(&mut self, labels: &Labels) -> (usize, Option<u64>) {
        if let Some(known) = self.find(labels) {
            return (known, None);
        }
        let number = self.by_key.len();
        self.by_key.insert(self.key.as_slice().into(), number);
        (number, Some(self.key.len() as u64 + KEY_BYTES))
    }
}

/// What a signature takes beside its texts: its slot in the table, about twice for the free ones, and its lists of members.
const KEY_BYTES: u64 = 96;
