//! Numbers for the attributes' keys that occur in one file, so that a key is looked up once and not for each row.

use hashbrown::HashMap;

/// A key with the letter of its type.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: String,
    pub(crate) letter: u8,
    /// The number of the first key of this name, whatever its type.
    pub(crate) first: u32,
    /// Rows that have it, those counted twice that have it twice.
    pub(crate) rows: u64,
    /// Sum of its places among the attributes of these rows.
    pub(crate) places: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Keys {
    list: Vec<Key>,
    /// By name: the numbers, one for each type.
    by_name: HashMap<String, Vec<u32>>,
    /// Which key was last at each place of a row: most rows are like the one before.
    last: Vec<u32>,
}

impl Keys {
    /// The number of a key that stands at a place of its row.
    #[inline]
    pub(crate) fn number(&mut self, place: usize, name: &str, letter: u8) -> u32 {
        if let Some(last) = self.last.get(place).copied() {
            let key = &self.list[last as usize];
            if key.letter == letter && key.name == name {
                return last;
            }
        }
        let number = self.look_up(name, letter);
        if place >= self.last.len() {
            self.last.resize(place + 1, number);
        }
        self.last[place] = number;
        number
    }

    fn look_up(&mut self, name: &str, letter: u8) -> u32 {
        let fresh = self.list.len() as u32;
        let numbers = self.by_name.entry_ref(name).or_default();
        if let Some(number) = numbers.iter().find(|number| self.list[**number as usize].letter == letter) {
            return *number;
        }
        numbers.push(fresh);
        self.list.push(Key { name: name.to_owned(), letter, first: numbers[0], rows: 0, places: 0 });
        fresh
    }

    pub(crate) fn get(&self, number: u32) -> &Key {
        &self.list[number as usize]
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Key> {
        self.list.iter()
    }

    /// Notes one row more that has the key.
    #[inline]
    pub(crate) fn count(&mut self, number: u32, place: usize) {
        let key = &mut self.list[number as usize];
        key.rows += 1;
        key.places += place as u64;
    }
}
