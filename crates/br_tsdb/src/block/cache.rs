//! What was read of files lately, within a budget of bytes.

use super::footer::OpenFile;
use super::pages::PageAddress;
use super::section::SectionIndex;
use super::series_table::SeriesTable;
use parquet::column::page::Page;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// Number of a file, given anew each time that one is listed.
pub(crate) type FileNumber = u64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Footer(FileNumber),
    Section(FileNumber, u32),
    /// By the identity of the section that it was read from.
    Table(u128),
}

#[derive(Clone)]
enum Part {
    Footer(Arc<OpenFile>),
    Section(Arc<SectionIndex>),
    Table(Arc<SeriesTable>),
}

pub(crate) struct PartCache {
    parts: Recent<Key, Part>,
}

/// Pages of chunks that small queries asked for lately.
pub(crate) type PageCache = Recent<(FileNumber, PageAddress), Arc<Page>>;

impl PageCache {
    /// Lets go of the pages of a file.
    pub(crate) fn forget(&mut self, file: FileNumber) {
        let first = PageAddress { group: 0, column: 0, page: None };
        let last = PageAddress { group: u32::MAX, column: u32::MAX, page: Some(u32::MAX) };
        self.remove_range((file, first)..=(file, last));
    }
}

impl PartCache {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { parts: Recent::new(bytes_max) }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.parts.bytes()
    }

    pub(crate) fn footer(&mut self, file: FileNumber) -> Option<Arc<OpenFile>> {
        match self.parts.find(&Key::Footer(file))? {
            Part::Footer(footer) => Some(footer),
            _ => None,
        }
    }

    pub(crate) fn insert_footer(&mut self, file: FileNumber, footer: Arc<OpenFile>) {
        let bytes = footer.heap_bytes();
        self.parts.insert(Key::Footer(file), Part::Footer(footer), bytes);
    }

    pub(crate) fn section(&mut self, file: FileNumber, at: u32, identity: u128) -> Option<Arc<SectionIndex>> {
        let Part::Section(section) = self.parts.find(&Key::Section(file, at))? else { return None };
        // Its table is used with it: a table that were let go before its sections would still take memory.
        self.parts.find(&Key::Table(identity));
        Some(section)
    }

    pub(crate) fn table(&mut self, identity: u128) -> Option<Arc<SeriesTable>> {
        match self.parts.find(&Key::Table(identity))? {
            Part::Table(table) => Some(table),
            _ => None,
        }
    }

    pub(crate) fn insert_section(&mut self, file: FileNumber, at: u32, identity: u128, section: Arc<SectionIndex>) {
        let table = section.table.clone();
        let bytes = section.heap_bytes();
        self.parts.insert(Key::Section(file, at), Part::Section(section), bytes);
        let bytes = table.heap_bytes();
        self.parts.insert(Key::Table(identity), Part::Table(table), bytes);
    }

    /// Lets go of what is known of a file. Tables stay: other files may share them.
    pub(crate) fn forget(&mut self, file: FileNumber) {
        self.parts.remove(&Key::Footer(file));
        self.parts.remove_range(Key::Section(file, 0)..=Key::Section(file, u32::MAX));
    }
}

/// What was used lately, within a budget of bytes.
pub(crate) struct Recent<K, V> {
    bytes_max: usize,
    bytes: usize,
    clock: u64,
    entries: BTreeMap<K, Entry<V>>,
    /// By time of last use.
    by_use: BTreeMap<u64, K>,
}

struct Entry<V> {
    value: V,
    bytes: usize,
    used: u64,
}

/// What an entry takes beside its value.
const ENTRY_BYTES: usize = 160;

impl<K: Ord + Copy, V: Clone> Recent<K, V> {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, bytes: 0, clock: 0, entries: BTreeMap::new(), by_use: BTreeMap::new() }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn find(&mut self, key: &K) -> Option<V> {
        let entry = self.entries.get_mut(key)?;
        self.clock += 1;
        self.by_use.remove(&entry.used);
        entry.used = self.clock;
        self.by_use.insert(self.clock, *key);
        Some(entry.value.clone())
    }

    /// What was not used for longest goes to make room.
    pub(crate) fn insert(&mut self, key: K, value: V, bytes: usize) {
        self.remove(&key);
        self.clock += 1;
        let bytes = bytes + ENTRY_BYTES;
        self.bytes += bytes;
        self.by_use.insert(self.clock, key);
        self.entries.insert(key, Entry { value, bytes, used: self.clock });
        while self.bytes > self.bytes_max
            && let Some((_, key)) = self.by_use.first_key_value()
        {
            let key = *key;
            self.remove(&key);
        }
    }

    fn remove(&mut self, key: &K) {
        if let Some(entry) = self.entries.remove(key) {
            self.by_use.remove(&entry.used);
            self.bytes -= entry.bytes;
        }
    }

    fn remove_range(&mut self, keys: RangeInclusive<K>) {
        let keys: Vec<K> = self.entries.range(keys).map(|(key, _)| *key).collect();
        for key in keys {
            self.remove(&key);
        }
    }
}
