//! The few things that were used last.

/// Holds so many items; a new one takes the place of the oldest.
#[derive(Debug)]
pub struct Ring<T> {
    items: Vec<T>,
    items_max: usize,
    /// Where the next one goes once all places are taken.
    oldest: usize,
}

impl<T> Ring<T> {
    pub fn new(items_max: usize) -> Self {
        Self { items: Vec::new(), items_max: items_max.max(1), oldest: 0 }
    }

    /// Where the first item stands of which this holds.
    pub fn position(&self, is: impl FnMut(&T) -> bool) -> Option<usize> {
        self.items.iter().position(is)
    }

    /// Where it stands now.
    pub fn push(&mut self, item: T) -> usize {
        if self.items.len() < self.items_max {
            self.items.push(item);
            return self.items.len() - 1;
        }
        let at = self.oldest;
        self.items[at] = item;
        self.oldest = (at + 1) % self.items_max;
        at
    }
}

impl<T> std::ops::Index<usize> for Ring<T> {
    type Output = T;

    /// `at` was given by [`Ring::position`] or [`Ring::push`].
    fn index(&self, at: usize) -> &T {
        &self.items[at]
    }
}

#[cfg(test)]
mod tests {
    use super::Ring;

    #[test]
    fn the_newest_stay() {
        let mut ring = Ring::new(3);
        for item in 0..8 {
            let at = ring.push(item);
            assert_eq!(ring[at], item);
        }
        let has = |item: i32| ring.position(|known| *known == item).is_some();
        assert!((5..8).all(has) && !(0..5).any(has));
    }
}
