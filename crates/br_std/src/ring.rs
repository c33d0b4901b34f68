//! What was worked out last, found again by a hash.

use hashbrown::HashTable;
use std::collections::VecDeque;

/// Holds so many items and so many bytes; the oldest go to make room.
#[derive(Debug)]
pub struct Ring<T> {
    items: VecDeque<Held<T>>,
    /// Number of the first item: each has the number by which it came.
    first: usize,
    by_hash: HashTable<usize>,
    items_max: usize,
    bytes: usize,
    bytes_max: usize,
}

#[derive(Debug)]
struct Held<T> {
    hash: u64,
    bytes: usize,
    item: T,
}

impl<T> Ring<T> {
    pub fn new(items_max: usize, bytes_max: usize) -> Self {
        let (items, by_hash) = (VecDeque::new(), HashTable::new());
        Self { items, first: 0, by_hash, items_max: items_max.max(1), bytes: 0, bytes_max }
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The number of an item of which this holds, of those with the hash.
    pub fn find(&self, hash: u64, is: impl Fn(&T) -> bool) -> Option<usize> {
        let is = |number: &usize| self.items.get(number - self.first).is_some_and(|held| held.hash == hash && is(&held.item));
        self.by_hash.find(hash, is).copied()
    }

    /// Gives its number. An item that is too large by itself is the only one that is left.
    pub fn push(&mut self, hash: u64, bytes: usize, item: T) -> usize {
        while !self.items.is_empty() && (self.bytes + bytes > self.bytes_max || self.items.len() >= self.items_max) {
            self.drop_first();
        }
        self.bytes += bytes;
        self.items.push_back(Held { hash, bytes, item });
        let number = self.first + self.items.len() - 1;
        let (items, first) = (&self.items, self.first);
        self.by_hash.insert_unique(hash, number, |number| items[number - first].hash);
        number
    }

    fn drop_first(&mut self) {
        let Some(gone) = self.items.pop_front() else { return };
        self.bytes -= gone.bytes;
        if let Ok(place) = self.by_hash.find_entry(gone.hash, |number| *number == self.first) {
            place.remove();
        }
        self.first += 1;
    }
}

impl<T> std::ops::Index<usize> for Ring<T> {
    type Output = T;

    /// The number was given by [`Ring::find`] or [`Ring::push`] since the last push.
    fn index(&self, number: usize) -> &T {
        &self.items[number - self.first].item
    }
}

#[cfg(test)]
mod tests {
    use super::Ring;

    #[test]
    fn the_newest_stay() {
        let mut ring = Ring::new(3, 100);
        // Some have the same hash.
        for item in 0..8 {
            let at = ring.push(item / 2, 1, item);
            assert_eq!(ring[at], item);
        }
        let held = |ring: &Ring<u64>| -> Vec<u64> {
            (0..20).filter(|item| ring.find(item / 2, |known| known == item).is_some_and(|at| ring[at] == *item)).collect()
        };
        assert_eq!((held(&ring), ring.bytes()), (vec![5, 6, 7], 3));
        assert!(ring.find(3, |_| false).is_none());
        for item in 8..12 {
            ring.push(item / 2, 50, item);
        }
        assert_eq!((held(&ring), ring.bytes()), (vec![10, 11], 100), "by their bytes");
        let at = ring.push(6, 1000, 12);
        assert_eq!((ring[at], held(&ring)), (12, vec![12]));
    }
}
