//! What was worked out last, found again by a hash.

use hashbrown::HashTable;

/// Holds so many items and about so many bytes; a new one takes the place of the oldest.
#[derive(Debug)]
pub struct Ring<T> {
    items: Vec<Held<T>>,
    places: HashTable<u32>,
    items_max: usize,
    bytes: usize,
    bytes_max: usize,
    /// Where the next one goes once all places are taken.
    oldest: usize,
}

#[derive(Debug)]
struct Held<T> {
    hash: u64,
    bytes: usize,
    item: T,
}

impl<T> Ring<T> {
    pub fn new(items_max: usize, bytes_max: usize) -> Self {
        Self { items: Vec::new(), places: HashTable::new(), items_max: items_max.max(1), bytes: 0, bytes_max, oldest: 0 }
    }

    /// Where an item stands of which this holds, of those with the hash.
    pub fn position(&self, hash: u64, is: impl Fn(&T) -> bool) -> Option<usize> {
        let found =
            self.places.find(hash, |at| self.items.get(*at as usize).is_some_and(|held| held.hash == hash && is(&held.item)));
        found.map(|at| *at as usize)
    }

    /// Where it stands now. An item that makes all together too large is the only one that is left.
    pub fn push(&mut self, hash: u64, bytes: usize, item: T) -> usize {
        if self.bytes + bytes > self.bytes_max {
            self.items.clear();
            self.places.clear();
            (self.bytes, self.oldest) = (0, 0);
        }
        let at = if self.items.len() < self.items_max {
            self.items.push(Held { hash, bytes, item });
            self.items.len() - 1
        } else {
            let at = self.oldest;
            self.oldest = (at + 1) % self.items_max;
            let before = std::mem::replace(&mut self.items[at], Held { hash, bytes, item });
            self.bytes -= before.bytes;
            if let Ok(place) = self.places.find_entry(before.hash, |known| *known as usize == at) {
                place.remove();
            }
            at
        };
        self.bytes += bytes;
        let items = &self.items;
        self.places.insert_unique(hash, at as u32, |at| items[*at as usize].hash);
        at
    }
}

impl<T> std::ops::Index<usize> for Ring<T> {
    type Output = T;

    /// `at` was given by [`Ring::position`] or [`Ring::push`] since the last push.
    fn index(&self, at: usize) -> &T {
        &self.items[at].item
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
        let has = |ring: &Ring<u64>, item: u64| ring.position(item / 2, |known| *known == item).is_some();
        assert!((5..8).all(|item| has(&ring, item)) && !(0..5).any(|item| has(&ring, item)));
        assert!(ring.position(3, |_| false).is_none());
        for item in 8..12 {
            ring.push(item / 2, 50, item);
        }
        assert!(has(&ring, 11) && !(0..10).any(|item| has(&ring, item)), "two of them are too large already");
        let at = ring.push(6, 1000, 12);
        assert!(ring[at] == 12 && has(&ring, 12) && !has(&ring, 11));
    }
}
