//! Each text of a label once, behind a number.

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use std::hash::BuildHasher;
use std::sync::Arc;

/// Number of a text within one [`Symbols`].
pub(crate) type Symbol = u32;

#[derive(Default)]
pub(crate) struct Symbols {
    texts: Vec<Arc<str>>,
    by_text: HashTable<Symbol>,
    text_bytes: usize,
}

impl Symbols {
    pub(crate) fn intern(&mut self, text: &str) -> Symbol {
        let hash = hash(text);
        if let Some(symbol) = self.by_text.find(hash, |symbol| &*self.texts[*symbol as usize] == text) {
            return *symbol;
        }
        let symbol = self.texts.len() as Symbol;
        self.texts.push(text.into());
        self.text_bytes += text.len();
        self.by_text.insert_unique(hash, symbol, |symbol| self::hash(&self.texts[*symbol as usize]));
        symbol
    }

    pub(crate) fn find(&self, text: &str) -> Option<Symbol> {
        self.by_text.find(hash(text), |symbol| &*self.texts[*symbol as usize] == text).copied()
    }

    /// The text of a symbol that this table gave out.
    pub(crate) fn text(&self, symbol: Symbol) -> &Arc<str> {
        &self.texts[symbol as usize]
    }

    /// Symbols are numbered from zero up to this, without it.
    pub(crate) fn len(&self) -> usize {
        self.texts.len()
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        // Each text: its bytes, the two counts of the shared pointer, the pointer itself and the slot in the table.
        self.text_bytes + self.texts.len() * (16 + 16 + 6)
    }
}

fn hash(text: &str) -> u64 {
    FixedState::with_seed(0).hash_one(text)
}
