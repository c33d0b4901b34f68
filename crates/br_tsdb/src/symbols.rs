//! Each text of a label once, behind a number.

use br_model::Texts;
use foldhash::fast::FixedState;
use hashbrown::HashTable;
use std::hash::BuildHasher;
use std::sync::Arc;

/// Number of a text within one [`Symbols`].
pub(crate) type Symbol = u32;

#[derive(Default)]
pub(crate) struct Symbols {
    texts: Arc<Texts>,
    by_text: HashTable<Symbol>,
    text_bytes: usize,
}

impl Symbols {
    pub(crate) fn intern(&mut self, text: &str) -> Symbol {
        let hash = hash(text);
        if let Some(symbol) = self.by_text.find(hash, |symbol| self.texts.get(*symbol) == text) {
            return *symbol;
        }
        let symbol = self.texts.push(text);
        self.text_bytes += text.len();
        self.by_text.insert_unique(hash, symbol, |symbol| self::hash(self.texts.get(*symbol)));
        symbol
    }

    pub(crate) fn find(&self, text: &str) -> Option<Symbol> {
        self.by_text.find(hash(text), |symbol| self.texts.get(*symbol) == text).copied()
    }

    /// The text of a symbol that this table gave out.
    pub(crate) fn text(&self, symbol: Symbol) -> &str {
        self.texts.get(symbol)
    }

    /// The table itself, which can be read without this one's lock.
    pub(crate) fn texts(&self) -> &Arc<Texts> {
        &self.texts
    }

    /// Symbols are numbered from zero up to this, without it.
    pub(crate) fn len(&self) -> usize {
        self.texts.len()
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        // Each text: its bytes, the slot that points to them and the one in the table.
        self.text_bytes + self.texts.len() * (24 + 6)
    }
}

fn hash(text: &str) -> u64 {
    FixedState::with_seed(0).hash_one(text)
}
