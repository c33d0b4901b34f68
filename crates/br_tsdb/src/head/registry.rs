//! Series by the hash of their labels, and the numbers that they are known by.
//!
//! The hash is that of the labels as a sender of remote write 1.0 writes them ([`Labels::wire_hash_with`]): of a steady sender
//! nothing has to be read but that. Whoever writes labels in another way is remembered by what he writes.
//! Has a lock of its own: decoders look while the head takes samples in.
//!
//! [`Labels::wire_hash_with`]: br_model::Labels::wire_hash_with

use super::paged::Paged;
use crate::changes::Group;
use crate::index::SeriesId;
use br_model::{KnownSeries, SeriesHandle};
use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashTable};
use parking_lot::{RwLock, RwLockReadGuard};
use std::sync::Arc;

/// There are as many other ways of writing a series' labels as there are senders; one for most. Beyond this many for each, all
/// are forgotten and learned anew.
const ALIASES_PER_SERIES: usize = 2;
/// The same for a head that has hardly begun.
const ALIASES_MIN: usize = 10_000;

#[derive(Default)]
pub(crate) struct Registry {
    /// By [`SeriesId`], which is the order in which the series first came; of a number that is free, what it was.
    hashes: Paged<u128>,
    /// How many bytes those labels take, by [`SeriesId`]; zero for very many.
    lengths: Paged<u16>,
    /// Of their metrics, by [`SeriesId`].
    groups: Paged<Group>,
    /// How often each number has been given, by [`SeriesId`]; odd while it is free.
    generations: Paged<u32>,
    /// The policy under which the labels were looked at last, and nothing of them had to be masked, by [`SeriesId`]; zero for none.
    policies: Paged<u16>,
    by_hash: HashTable<SeriesId>,
    aliases: HashMap<u128, SeriesHandle, FixedState>,
}

pub(crate) type SharedRegistry = Arc<RwLock<Registry>>;

impl Registry {
    pub(crate) fn find(&self, hash: u128) -> Option<SeriesId> {
        self.by_hash.find(hash as u64, |id| self.hashes.get(*id as usize) == Some(&hash)).copied()
    }

    /// The same, for who has an idea which one it might be.
    pub(crate) fn find_near(&self, hash: u128, expected: SeriesId) -> Option<SeriesId> {
        if self.is(expected, hash) { Some(expected) } else { self.find(hash) }
    }

    fn is(&self, id: SeriesId, hash: u128) -> bool {
        let at = id as usize;
        self.hashes.get(at) == Some(&hash) && self.generations.get(at).is_some_and(|generation| generation.is_multiple_of(2))
    }

    /// Gives a number that is free, or the next one, to a series that has none.
    pub(crate) fn insert(&mut self, id: SeriesId, hash: u128, wire_bytes: usize, group: Group) {
        let length = u16::try_from(wire_bytes).unwrap_or(0);
        let at = id as usize;
        if let Some(generation) = self.generations.get_mut(at) {
            *generation = generation.wrapping_add(1);
            self.hashes.set(at, hash);
            self.lengths.set(at, length);
            self.groups.set(at, group);
            self.policies.set(at, 0);
        } else {
            self.hashes.push(hash);
            self.lengths.push(length);
            self.groups.push(group);
            self.generations.push(0);
            self.policies.push(0);
        }
        let hashes = &self.hashes;
        self.by_hash.insert_unique(hash as u64, id, |id| hashes.get(*id as usize).map_or(0, |hash| *hash as u64));
    }

    /// The number is free from now on.
    pub(crate) fn remove(&mut self, id: SeriesId) {
        let Some(hash) = self.hashes.get(id as usize) else { return };
        if let Ok(slot) = self.by_hash.find_entry(*hash as u64, |other| *other == id)
            && let Some(generation) = self.generations.get_mut(id as usize)
        {
            slot.remove();
            *generation = generation.wrapping_add(1);
        }
    }

    /// Takes note of how a sender writes the labels of a series that is kept, and of the policy under which they are as they are.
    pub(crate) fn learn(&mut self, identity: u128, id: SeriesId, policy: u16) {
        self.policies.set(id as usize, policy);
        if self.is(id, identity) {
            return;
        }
        if self.aliases.len() >= (self.len() * ALIASES_PER_SERIES).max(ALIASES_MIN) {
            self.aliases = HashMap::default();
        }
        self.aliases.insert(identity, self.handle(id));
    }

    /// Whether the number still stands for the series that it was given for.
    pub(crate) fn keeps(&self, handle: SeriesHandle) -> bool {
        self.generations.get(handle.number as usize) == Some(&handle.generation)
    }

    /// The group of the metric of a series that is kept.
    pub(crate) fn group(&self, series: SeriesHandle) -> Group {
        self.groups.get(series.number as usize).copied().unwrap_or(0)
    }

    #[inline]
    fn came_under(&self, id: SeriesId, policy: u16) -> bool {
        policy == 0 || self.policies.get(id as usize) == Some(&policy)
    }

    fn handle(&self, id: SeriesId) -> SeriesHandle {
        SeriesHandle { number: id, generation: self.generations.get(id as usize).copied().unwrap_or(0) }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_hash.len()
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let by_number = self.hashes.heap_bytes()
            + self.lengths.heap_bytes()
            + self.groups.heap_bytes()
            + self.generations.heap_bytes()
            + self.policies.heap_bytes();
        // A table is filled up to seven eighths of its places.
        by_number + (self.by_hash.capacity() * 5 + self.aliases.capacity() * 25) * 8 / 7
    }
}

/// One request's look at what is known.
pub struct KnownCursor {
    registry: SharedRegistry,
    /// The series that is expected next.
    next: SeriesId,
}

impl KnownCursor {
    pub(crate) fn new(registry: SharedRegistry) -> Self {
        Self { registry, next: 0 }
    }

    /// For a whole request at once. The lock is taken when the first series is asked for, not while the request is unpacked, and is
    /// handed over now and then to who waits for it.
    pub fn look(&mut self) -> KnownLook<'_> {
        self.look_under(0)
    }

    /// The same, which finds only what came under this policy; under zero, whatever there is.
    pub fn look_under(&mut self, policy: u16) -> KnownLook<'_> {
        KnownLook { registry: &self.registry, policy, known: None, finds: 0, next: &mut self.next }
    }
}

pub struct KnownLook<'a> {
    registry: &'a RwLock<Registry>,
    policy: u16,
    /// `None` before the first find.
    known: Option<RwLockReadGuard<'a, Registry>>,
    /// Since the lock was handed over.
    finds: u32,
    next: &'a mut SeriesId,
}

/// Series that are found before a waiting writer gets its turn: some hundred microseconds.
const FINDS_PER_LOCK: u32 = 4096;

impl<'a> KnownLook<'a> {
    #[inline]
    fn turn(&mut self) -> &RwLockReadGuard<'a, Registry> {
        self.finds += 1;
        if self.finds >= FINDS_PER_LOCK
            && let Some(known) = &mut self.known
        {
            self.finds = 0;
            RwLockReadGuard::bump(known);
        }
        self.known.get_or_insert_with(|| self.registry.read())
    }
}

impl KnownSeries for KnownLook<'_> {
    #[inline]
    fn find(&mut self, identity: u128) -> Option<SeriesHandle> {
        let (expected, policy) = (*self.next, self.policy);
        let known = self.turn();
        let handle = match known.find_near(identity, expected) {
            Some(id) => known.handle(id),
            // Its number may be another series' by now, which came under other policies.
            None => *known.aliases.get(&identity).filter(|handle| known.keeps(**handle))?,
        };
        let is_fit = known.came_under(handle.number, policy);
        *self.next = handle.number.wrapping_add(1);
        is_fit.then_some(handle)
    }

    #[inline]
    fn find_expected(&mut self, identity: u128) -> Option<SeriesHandle> {
        let (id, policy) = (*self.next, self.policy);
        let known = self.turn();
        if !known.is(id, identity) || !known.came_under(id, policy) {
            return None;
        }
        let handle = known.handle(id);
        *self.next = id.wrapping_add(1);
        Some(handle)
    }

    #[inline]
    fn expected_bytes(&self) -> usize {
        let length = self.known.as_ref().and_then(|known| known.lengths.get(*self.next as usize));
        length.map_or(0, |length| usize::from(*length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(number: u32) -> u128 {
        u128::from(number) << 70 | 7
    }

    #[test]
    fn found_in_any_order_and_never_under_a_number_that_is_another_s() {
        let shared = SharedRegistry::default();
        for number in 0..100 {
            shared.write().insert(number, hash(number), 10, 0);
        }
        let find = |identity| KnownCursor::new(shared.clone()).look().find(identity);
        let mut cursor = KnownCursor::new(shared.clone());
        let mut look = cursor.look();
        for number in [0, 1, 2, 50, 51, 3] {
            assert_eq!(look.find(hash(number)), Some(SeriesHandle { number, generation: 0 }));
        }
        assert_eq!(look.find(8), None);
        drop(look);
        shared.write().learn(8, 0, 0);
        let before = find(8).expect("learned");
        shared.write().remove(0);
        assert_eq!(find(hash(0)), None);
        assert!(!shared.read().keeps(before));
        shared.write().insert(0, hash(200), 10, 0);
        assert!(!shared.read().keeps(before));
        assert!(shared.read().keeps(find(hash(200)).expect("inserted")));
    }

    #[test]
    fn what_came_under_another_policy_is_not_found() {
        let shared = SharedRegistry::default();
        shared.write().insert(0, hash(0), 10, 0);
        let finds = |policy| {
            let mut cursor = KnownCursor::new(shared.clone());
            let is_expected = cursor.look_under(policy).find_expected(hash(0)).is_some();
            let is_found = cursor.look_under(policy).find(hash(0)).is_some();
            assert_eq!(is_expected, is_found);
            is_found
        };
        assert!(finds(0) && !finds(1), "as read back from a journal");
        shared.write().learn(hash(0), 0, 1);
        assert!(finds(0) && finds(1) && !finds(2));
        shared.write().remove(0);
        shared.write().insert(0, hash(0), 10, 0);
        assert!(finds(0) && !finds(1), "the number is another's");
        // Written in another way, under no policy: the number goes to a series that came under one.
        let other = || KnownCursor::new(shared.clone()).look_under(1).find(88);
        shared.write().learn(88, 0, 0);
        assert!(other().is_none());
        shared.write().remove(0);
        shared.write().insert(0, hash(1), 10, 0);
        shared.write().learn(hash(1), 0, 1);
        assert!(other().is_none(), "of a series that is gone");
    }

    /// A request of any size, and all that comes before its first series, leaves the registry to who registers series.
    #[test]
    #[allow(clippy::disallowed_methods, reason = "a thread that waits for the lock")]
    fn a_look_gives_way_to_a_writer() {
        let shared = SharedRegistry::default();
        shared.write().insert(0, hash(0), 10, 0);
        let mut cursor = KnownCursor::new(shared.clone());
        let mut look = cursor.look();
        assert!(shared.try_write().is_some(), "nothing was asked for yet");
        assert!(look.find(hash(0)).is_some());
        let writer = std::thread::spawn(move || shared.write().insert(1, hash(1), 10, 0));
        let mut finds = 0;
        while look.find(hash(1)).is_none() {
            finds += 1;
            assert!(finds < 200_000_000, "the writer never got its turn");
        }
        writer.join().expect("written");
    }

    #[test]
    fn other_ways_of_writing_are_bounded() {
        let shared = SharedRegistry::default();
        shared.write().insert(0, hash(0), 10, 0);
        for other in 0..=ALIASES_MIN as u128 {
            shared.write().learn(other + 1000, 0, 0);
        }
        assert!(shared.read().aliases.len() <= ALIASES_MIN);
    }
}
