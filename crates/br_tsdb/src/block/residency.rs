//! Which samples of a file are in memory as well.

use crate::head::SealNumber;
use std::collections::BTreeSet;

/// What a file is made of: seals of this process, and everything else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Residency {
    seals: Vec<(SealNumber, TimeSpan)>,
    /// Where samples of other origin lie.
    rest: Option<TimeSpan>,
}

/// Milliseconds, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimeSpan {
    pub(crate) from_ms: i64,
    pub(crate) to_ms: i64,
}

/// A merge of more seals than this is no longer looked up: by then most of them have left the memory.
const SEALS_MAX: usize = 128;

impl TimeSpan {
    fn overlaps(self, other: Self) -> bool {
        self.from_ms <= other.to_ms && self.to_ms >= other.from_ms
    }

    fn with(self, other: Self) -> Self {
        Self { from_ms: self.from_ms.min(other.from_ms), to_ms: self.to_ms.max(other.to_ms) }
    }
}

impl Residency {
    pub(crate) fn of_seal(seal: SealNumber, span: TimeSpan) -> Self {
        Self { seals: vec![(seal, span)], rest: None }
    }

    pub(crate) fn unknown(span: TimeSpan) -> Self {
        Self { seals: Vec::new(), rest: Some(span) }
    }

    /// Of files that were merged from these.
    pub(crate) fn merged<'a>(inputs: impl Iterator<Item = &'a Self>) -> Self {
        let mut merged = Self::default();
        for input in inputs {
            merged.seals.extend_from_slice(&input.seals);
            if let Some(span) = input.rest {
                merged.add_rest(span);
            }
        }
        merged.seals.sort_unstable_by_key(|(seal, span)| (*seal, span.from_ms));
        let surplus = merged.seals.len().saturating_sub(SEALS_MAX);
        for (_, span) in merged.seals.drain(..surplus).collect::<Vec<_>>() {
            merged.add_rest(span);
        }
        merged
    }

    fn add_rest(&mut self, span: TimeSpan) {
        self.rest = Some(self.rest.map_or(span, |rest| rest.with(span)));
    }

    /// Whether samples in the range may be in the file alone, when the samples of the seals in `held` are in memory.
    pub(crate) fn needs_file(&self, held: &BTreeSet<SealNumber>, range: TimeSpan) -> bool {
        let elsewhere = self.seals.iter().filter(|(seal, _)| !held.contains(seal)).map(|(_, span)| *span);
        elsewhere.chain(self.rest).any(|span| span.overlaps(range))
    }

    pub(crate) fn is_partly_held(&self, held: &BTreeSet<SealNumber>) -> bool {
        self.seals.iter().any(|(seal, _)| held.contains(seal))
    }

    /// Whether everything in the file is in memory, its exemplars too.
    pub(crate) fn is_held(&self, held: &BTreeSet<SealNumber>) -> bool {
        self.rest.is_none() && self.seals.iter().all(|(seal, _)| held.contains(seal))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_merge_needs_its_file_where_an_origin_is_gone() {
        let span = |from_ms, to_ms| TimeSpan { from_ms, to_ms };
        let inputs = [Residency::unknown(span(0, 9)), Residency::of_seal(1, span(10, 19)), Residency::of_seal(2, span(20, 29))];
        let merged = Residency::merged(inputs.iter());
        let both = BTreeSet::from([1, 2]);
        assert!(!merged.needs_file(&both, span(10, 40)));
        assert!(merged.needs_file(&both, span(9, 40)));
        assert!(merged.needs_file(&BTreeSet::from([2]), span(15, 40)));
        assert!(!merged.needs_file(&BTreeSet::from([2]), span(20, 40)));
        assert!(!merged.is_held(&both));
        assert!(Residency::merged(inputs[1..].iter()).is_held(&both));
        let many: Vec<Residency> = (0..200).map(|seal| Residency::of_seal(seal, span(seal as i64, seal as i64))).collect();
        let merged = Residency::merged(many.iter());
        assert!(merged.needs_file(&(0..200).collect(), span(0, 0)) && !merged.needs_file(&(0..200).collect(), span(199, 199)));
    }
}
