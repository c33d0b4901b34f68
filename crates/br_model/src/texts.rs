//! Texts behind numbers, in a table that only grows.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// The first page has so many slots, each further one twice as many as the one before.
const FIRST_PAGE: u32 = 64;
const PAGES: usize = 26;

type Page = Box<[OnceLock<Box<str>>]>;

/// Texts by number. Nothing is ever taken out or moved, so whoever shares the table reads it without a lock while others add.
pub struct Texts {
    pages: [OnceLock<Page>; PAGES],
    len: AtomicU32,
}

impl Default for Texts {
    fn default() -> Self {
        Self { pages: [const { OnceLock::new() }; PAGES], len: AtomicU32::new(0) }
    }
}

impl fmt::Debug for Texts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Texts").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl Texts {
    /// Adds a text and gives its number. The caller sees to it that no text is there twice: label sets compare numbers.
    pub fn push(&self, text: &str) -> u32 {
        let number = self.len.fetch_add(1, Ordering::Relaxed);
        let (page, slot) = place(number);
        let slots = || (0..FIRST_PAGE << page).map(|_| OnceLock::new()).collect();
        let _ = self.pages[page].get_or_init(slots)[slot].set(text.into());
        number
    }

    /// The text behind a number that this table gave out.
    #[inline]
    pub fn get(&self, number: u32) -> &str {
        let (page, slot) = place(number);
        let slot = self.pages.get(page).and_then(OnceLock::get).and_then(|page| page.get(slot)?.get());
        slot.map_or("", |text| text)
    }

    /// Numbers go from zero up to this, without it.
    pub fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed) as usize
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The page of a number and the slot in it. Page `n` begins at `FIRST_PAGE * (2^n - 1)`.
#[inline]
fn place(number: u32) -> (usize, usize) {
    let shifted = u64::from(number) + u64::from(FIRST_PAGE);
    let page = shifted.ilog2() - FIRST_PAGE.ilog2();
    (page as usize, (shifted - (u64::from(FIRST_PAGE) << page)) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_lead_to_their_texts() {
        let texts = Texts::default();
        for at in 0..1000_u32 {
            assert_eq!(texts.push(&at.to_string()), at);
        }
        assert!((0..1000).all(|at| texts.get(at) == at.to_string()));
        assert_eq!((texts.get(1000), texts.get(u32::MAX), texts.len()), ("", "", 1000));
    }
}
