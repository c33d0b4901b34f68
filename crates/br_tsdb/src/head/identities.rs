//! Series by the hash of their labels as a sender writes them: whoever sends the same bytes again need not have them read again.
//!
//! Has a lock of its own: decoders look while the head takes samples in.

use br_model::{KnownSeries, SeriesHandle};
use hashbrown::HashTable;
use parking_lot::{RwLock, RwLockReadGuard};
use std::sync::Arc;

/// A series has as many identities as there are ways of writing its labels: one for most. Beyond this many for each, all are
/// forgotten and learned anew.
const IDENTITIES_PER_SERIES: usize = 2;
/// The same for a head that has hardly begun.
const IDENTITIES_MIN: usize = 10_000;

/// Places in the order in which the identities first came, which is the order of their sender.
#[derive(Default)]
pub(crate) struct Identities {
    hashes: Vec<u128>,
    handles: Vec<SeriesHandle>,
    by_identity: HashTable<u32>,
}

pub(crate) type SharedIdentities = Arc<RwLock<Identities>>;

impl Identities {
    fn place(&self, identity: u128) -> Option<usize> {
        self.by_identity.find(identity as u64, |at| self.hashes[*at as usize] == identity).map(|at| *at as usize)
    }

    /// Takes note of a series, or of the new number of one.
    pub(crate) fn learn(&mut self, identity: u128, handle: SeriesHandle, series_count: usize) {
        if let Some(at) = self.place(identity) {
            self.handles[at] = handle;
            return;
        }
        if self.hashes.len() >= (series_count * IDENTITIES_PER_SERIES).max(IDENTITIES_MIN) {
            *self = Self::default();
        }
        let at = self.hashes.len() as u32;
        self.hashes.push(identity);
        self.handles.push(handle);
        let hashes = &self.hashes;
        self.by_identity.insert_unique(identity as u64, at, |at| hashes[*at as usize] as u64);
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.hashes.capacity() * 16 + self.handles.capacity() * size_of::<SeriesHandle>() + self.by_identity.capacity() * 5
    }
}

/// One request's look at what is known.
pub struct KnownCursor {
    identities: SharedIdentities,
    /// Where the next series is expected.
    next: usize,
}

impl KnownCursor {
    pub(crate) fn new(identities: SharedIdentities) -> Self {
        Self { identities, next: 0 }
    }

    /// For a whole request at once: the lock is taken once.
    pub fn look(&mut self) -> KnownLook<'_> {
        KnownLook { known: self.identities.read(), next: &mut self.next }
    }
}

pub struct KnownLook<'a> {
    known: RwLockReadGuard<'a, Identities>,
    next: &'a mut usize,
}

impl KnownSeries for KnownLook<'_> {
    fn find(&mut self, identity: u128) -> Option<SeriesHandle> {
        let expected = *self.next;
        let at = if self.known.hashes.get(expected) == Some(&identity) { expected } else { self.known.place(identity)? };
        *self.next = at + 1;
        Some(self.known.handles[at])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn found_in_any_order_and_forgotten_when_they_are_too_many() {
        let handle = |number: u32| SeriesHandle { number, generation: 1 };
        let shared = SharedIdentities::default();
        for number in 0..100 {
            shared.write().learn(u128::from(number) << 70 | 7, handle(number), 100);
        }
        let mut cursor = KnownCursor::new(shared.clone());
        let mut look = cursor.look();
        for number in [0, 1, 2, 50, 51, 3] {
            assert_eq!(look.find(u128::from(number) << 70 | 7), Some(handle(number)));
        }
        assert_eq!(look.find(8), None);
        drop(look);
        shared.write().learn(7, SeriesHandle { number: 0, generation: 2 }, 100);
        assert_eq!(KnownCursor::new(shared.clone()).look().find(7).map(|handle| handle.generation), Some(2));
        for other in 0..IDENTITIES_MIN as u128 {
            shared.write().learn(other + 1000, handle(1), 100);
        }
        assert!(shared.read().hashes.len() <= IDENTITIES_MIN);
    }
}
