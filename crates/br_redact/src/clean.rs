//! Label sets that were looked at and had nothing to mask: a sender of metrics sends the same ones every few seconds.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Places of one shelf, which is one line of the processor's cache.
const PLACES: usize = 16;
/// 4 MiB of memory, once metrics come: half a million sets fill half of it, and then one in a few hundred finds its shelf full.
const SHELVES: usize = 1 << 16;

/// A shelf for each hash; on a full one who comes later takes the place of another. Two sets share a place once in two hundred million
/// times.
#[derive(Debug, Default)]
pub(crate) struct CleanSets(OnceLock<Box<[Shelf]>>);

#[derive(Debug, Default)]
#[repr(align(64))]
struct Shelf([AtomicU32; PLACES]);

impl CleanSets {
    fn shelf(&self, hash: u64) -> &Shelf {
        let shelves = self.0.get_or_init(|| (0..SHELVES).map(|_| Shelf::default()).collect());
        &shelves[hash as usize % SHELVES]
    }

    /// Zero is an empty place.
    fn tag(hash: u64) -> u32 {
        ((hash >> 32) as u32).max(1)
    }

    pub(crate) fn knows(&self, hash: u64) -> bool {
        let tag = Self::tag(hash);
        self.shelf(hash).0.iter().fold(false, |is_known, place| is_known | (place.load(Ordering::Relaxed) == tag))
    }

    pub(crate) fn learn(&self, hash: u64) {
        let (places, tag) = (&self.shelf(hash).0, Self::tag(hash));
        let free = places.iter().position(|place| place.load(Ordering::Relaxed) == 0);
        let taken = (hash >> 16) as usize % PLACES;
        places[free.unwrap_or(taken)].store(tag, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a hash spreads numbers.
    fn hash(number: u64) -> u64 {
        let mixed = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed ^ mixed >> 31).wrapping_mul(0xd6e8_feb8_6659_fd93)
    }

    #[test]
    fn half_a_million_sets_stay_known() {
        let sets = CleanSets::default();
        assert!(!sets.knows(hash(1)));
        (0..500_000).for_each(|number| sets.learn(hash(number)));
        let forgotten = (0..500_000).filter(|number| !sets.knows(hash(*number))).count();
        assert!(forgotten < 5000, "{forgotten}");
        let mistaken = (500_000..1_000_000).filter(|number| sets.knows(hash(*number))).count();
        assert!(mistaken < 5, "{mistaken}");
    }
}
