//! Labels as keys: what a grouping or a matching looks at, as bytes that are the same for the same labels.

use br_model::{Labels, Texts};
use std::sync::Arc;

/// The labels that `is_looked_at`, by their texts: each name and value is ended by a byte that no text has.
pub(super) fn text_key(labels: &Labels, is_looked_at: impl Fn(&str) -> bool, key: &mut Vec<u8>) {
    key.clear();
    for (name, value) in labels.iter().filter(|(name, _)| is_looked_at(name)) {
        for text in [name, value] {
            key.extend_from_slice(text.as_bytes());
            key.push(0xff);
        }
    }
}

/// Keys of labels whose texts are in one table: no text is read but, once, the names.
#[derive(Default)]
pub(super) struct NumberKeys {
    texts: Option<Arc<Texts>>,
    /// Whether a name is looked at.
    names: Vec<(u32, bool)>,
}

impl NumberKeys {
    /// Whether keys can be made for all of these.
    pub(super) fn fit<'l>(mut all: impl Iterator<Item = &'l Labels>) -> bool {
        let Some(first) = all.next() else { return false };
        let Some((texts, _)) = first.numbers() else { return false };
        all.all(|labels| labels.numbers().is_some_and(|(other, _)| Arc::ptr_eq(texts, other)))
    }

    /// Whether the labels are in the table of those that came first.
    pub(super) fn takes(&self, labels: &Labels) -> bool {
        let table = labels.numbers().map(|(texts, _)| texts);
        table.is_some_and(|texts| self.texts.as_ref().is_none_or(|known| Arc::ptr_eq(known, texts)))
    }

    /// False where the labels are not in the table of those that came first.
    pub(super) fn key(&mut self, labels: &Labels, is_looked_at: impl Fn(&str) -> bool, key: &mut Vec<u8>) -> bool {
        let Some((texts, pairs)) = labels.numbers() else { return false };
        if !Arc::ptr_eq(self.texts.get_or_insert_with(|| texts.clone()), texts) {
            return false;
        }
        key.clear();
        for (name, value) in pairs {
            let known = self.names.iter().find(|(known, _)| known == name).map(|(_, is_looked_at)| *is_looked_at);
            let is_wanted = known.unwrap_or_else(|| {
                let is_wanted = is_looked_at(texts.get(*name));
                self.names.push((*name, is_wanted));
                is_wanted
            });
            if is_wanted {
                key.extend_from_slice(&name.to_le_bytes());
                key.extend_from_slice(&value.to_le_bytes());
            }
        }
        true
    }
}
