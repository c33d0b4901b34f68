//! What was read of files lately, within a budget of bytes.

use super::footer::OpenFile;
use super::section::SectionIndex;
use super::series_table::SeriesTable;
use std::collections::BTreeMap;
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

struct Entry {
    part: Part,
    bytes: usize,
    used: u64,
}

pub(crate) struct PartCache {
    bytes_max: usize,
    bytes: usize,
    clock: u64,
    entries: BTreeMap<Key, Entry>,
    /// By time of last use.
    by_use: BTreeMap<u64, Key>,
}

/// What an entry takes beside its part.
const ENTRY_BYTES: usize = 160;

impl PartCache {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, bytes: 0, clock: 0, entries: BTreeMap::new(), by_use: BTreeMap::new() }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn footer(&mut self, file: FileNumber) -> Option<Arc<OpenFile>> {
        match self.find(Key::Footer(file))? {
            Part::Footer(footer) => Some(footer),
            _ => None,
        }
    }

    pub(crate) fn insert_footer(&mut self, file: FileNumber, footer: Arc<OpenFile>) {
        let bytes = footer.heap_bytes();
        self.insert(Key::Footer(file), Part::Footer(footer), bytes);
        self.shrink();
    }

    pub(crate) fn section(&mut self, file: FileNumber, at: u32, identity: u128) -> Option<Arc<SectionIndex>> {
        let Part::Section(section) = self.find(Key::Section(file, at))? else { return None };
        // Its table is used with it: a table that were let go before its sections would still take memory.
        self.find(Key::Table(identity));
        Some(section)
    }

    pub(crate) fn table(&mut self, identity: u128) -> Option<Arc<SeriesTable>> {
        match self.find(Key::Table(identity))? {
            Part::Table(table) => Some(table),
            _ => None,
        }
    }

    pub(crate) fn insert_section(&mut self, file: FileNumber, at: u32, identity: u128, section: Arc<SectionIndex>) {
        let table = section.table.clone();
        let bytes = section.heap_bytes();
        self.insert(Key::Section(file, at), Part::Section(section), bytes);
        let bytes = table.heap_bytes();
        self.insert(Key::Table(identity), Part::Table(table), bytes);
        self.shrink();
    }

    /// Lets go of what is known of a file. Tables stay: other files may share them.
    pub(crate) fn forget(&mut self, file: FileNumber) {
        self.remove(Key::Footer(file));
        let sections = self.entries.range(Key::Section(file, 0)..=Key::Section(file, u32::MAX));
        let sections: Vec<Key> = sections.map(|(key, _)| *key).collect();
        for key in sections {
            self.remove(key);
        }
    }

    fn find(&mut self, key: Key) -> Option<Part> {
        let entry = self.entries.get_mut(&key)?;
        self.clock += 1;
        self.by_use.remove(&entry.used);
        entry.used = self.clock;
        self.by_use.insert(self.clock, key);
        Some(entry.part.clone())
    }

    fn insert(&mut self, key: Key, part: Part, bytes: usize) {
        self.remove(key);
        self.clock += 1;
        let bytes = bytes + ENTRY_BYTES;
        self.bytes += bytes;
        self.by_use.insert(self.clock, key);
        self.entries.insert(key, Entry { part, bytes, used: self.clock });
    }

    fn remove(&mut self, key: Key) {
        if let Some(entry) = self.entries.remove(&key) {
            self.by_use.remove(&entry.used);
            self.bytes -= entry.bytes;
        }
    }

    /// Down to the budget; what was not used for longest goes first.
    fn shrink(&mut self) {
        while self.bytes > self.bytes_max
            && let Some((_, key)) = self.by_use.first_key_value()
        {
            self.remove(*key);
        }
    }
}
