//! Equal resources and scopes of a trace, by number: each span of a hostile trace may bring its own.

use std::collections::HashMap;
use std::fmt::Debug;

/// Numbers from zero, in the order in which values come first.
pub(super) struct Numbers<'a, T> {
    values: Vec<&'a T>,
    /// Most spans share the very same value.
    by_address: HashMap<usize, usize>,
    /// What it shows of itself: every part of it.
    by_text: HashMap<String, usize>,
}

impl<T> Default for Numbers<'_, T> {
    fn default() -> Self {
        Self { values: Vec::new(), by_address: HashMap::new(), by_text: HashMap::new() }
    }
}

impl<'a, T: Debug> Numbers<'a, T> {
    pub(super) fn number(&mut self, value: &'a T) -> usize {
        let address = std::ptr::from_ref(value).addr();
        if let Some(known) = self.by_address.get(&address) {
            return *known;
        }
        let number = *self.by_text.entry(format!("{value:?}")).or_insert_with(|| {
            self.values.push(value);
            self.values.len() - 1
        });
        self.by_address.insert(address, number);
        number
    }

    /// The values by their numbers.
    pub(super) fn values(&self) -> &[&'a T] {
        &self.values
    }
}
