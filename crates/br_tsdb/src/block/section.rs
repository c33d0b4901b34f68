//! What a query knows of one section of one file: its series, and when each of their chunks lies.

use super::directory::Section;
use super::footer::OpenFile;
use super::io::guard;
use super::read::{HeadColumns, IdentityColumns, next_batch};
use super::row::{ChunkKind, HeadsChecksum, RowHead};
use super::schema::column;
use super::series_table::{SeriesTable, SeriesTableBuilder, hash_pairs};
use crate::verdicts::Verdicts;
use br_std::{Error, Result};
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use roaring::RoaringBitmap;
use std::sync::Arc;

pub(crate) struct SectionIndex {
    pub(crate) table: Arc<SeriesTable>,
    /// Number in the file of the first row.
    first_row: u32,
    base_ms: i64,
    heads: PackedHeads,
}

/// The heads of all rows.
struct PackedHeads {
    /// Each of them, or, with `of_row`, those that differ: series that are scraped together have the same.
    heads: Box<[PackedHead]>,
    of_row: Option<Box<[u16]>>,
}

/// A [`RowHead`] with times counted from the first of the section: a file spans days, not months.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct PackedHead {
    min_ms: u32,
    max_ms: u32,
    count: u16,
    kind: ChunkKind,
}

/// A section to be read; its table is at hand when another file has the same series.
pub(crate) struct Wanted {
    pub(crate) section: u32,
    pub(crate) table: Option<Arc<SeriesTable>>,
}

/// Reads sections (ascending) of a file in as few requests as it takes, and verifies them. Gives them in the same order.
pub(crate) fn read_sections(file: &OpenFile, wanted: &[Wanted]) -> Result<Vec<SectionIndex>> {
    guard(&file.block.path, || {
        let unknown: Vec<u32> = wanted.iter().filter(|one| one.table.is_none()).map(|one| one.section).collect();
        let mut tables = read_tables(file, &unknown)?.into_iter();
        let sections: Vec<u32> = wanted.iter().map(|one| one.section).collect();
        let heads = read_heads(file, &sections)?;
        let mut found = Vec::with_capacity(wanted.len());
        for (one, heads) in wanted.iter().zip(heads) {
            let table = one.table.clone().or_else(|| tables.next().map(Arc::new)).ok_or_else(|| damaged(file))?;
            let section = file.directory.section(one.section).ok_or_else(|| damaged(file))?;
            verify(section, &table, &heads).then_some(()).ok_or_else(|| damaged(file))?;
            found.push(SectionIndex::new(table, section.first_row, &heads).ok_or_else(|| damaged(file))?);
        }
        Ok(found)
    })
}

fn damaged(file: &OpenFile) -> Error {
    Error::corrupt(format!("{}: the checksum of its series does not fit", file.block.path))
}

fn verify(section: &Section, table: &SeriesTable, heads: &[RowHead]) -> bool {
    if table.row_count() as usize != heads.len() || table.identity() != section.identity {
        return false;
    }
    let mut crc32 = HeadsChecksum::default();
    for id in 0..table.series_count() {
        for row in table.rows(id) {
            crc32.add(heads[row as usize], table.hash(id));
        }
    }
    crc32.finalize() == section.crc32
}

fn read_tables(file: &OpenFile, sections: &[u32]) -> Result<Vec<SeriesTable>> {
    let mut tables = Vec::with_capacity(sections.len());
    let mut filled = SeriesTableBuilder::default();
    let mut lengths = sections.iter().map(|at| file.directory.rows(*at).len());
    let mut length = lengths.next().unwrap_or(0);
    let mut bytes = Vec::new();
    let mut stream = file.stream_sections(column::OF_IDENTITY, sections)?;
    while let Some(batch) = next_batch(&mut stream, &file.block.path)? {
        let columns = IdentityColumns::of(&batch, &file.block.path)?;
        let mut pairs = Vec::new();
        for at in 0..batch.num_rows() {
            columns.labels_at(at, &mut pairs);
            let hash = hash_pairs(&pairs, &mut bytes);
            filled.push_row(&pairs, hash);
            if filled.row_count() as usize == length {
                tables.push(std::mem::take(&mut filled).finish());
                length = lengths.next().unwrap_or(0);
            }
        }
    }
    Ok(tables)
}

fn read_heads(file: &OpenFile, sections: &[u32]) -> Result<Vec<Vec<RowHead>>> {
    let path = &file.block.path;
    let mut all = Vec::new();
    let mut stream = file.stream_sections(column::OF_HEAD, sections)?;
    while let Some(batch) = next_batch(&mut stream, path)? {
        let columns = HeadColumns::of(&batch, path)?;
        for at in 0..batch.num_rows() {
            all.push(columns.head(at, path)?);
        }
    }
    let mut all = all.into_iter();
    Ok(sections.iter().map(|at| all.by_ref().take(file.directory.rows(*at).len()).collect()).collect())
}

impl SectionIndex {
    /// `None` when the rows lie further apart than rows of one file do.
    fn new(table: Arc<SeriesTable>, first_row: u32, heads: &[RowHead]) -> Option<Self> {
        let base_ms = heads.iter().map(|head| head.min_ms).min().unwrap_or(0);
        let since_base = |time_ms: i64| u32::try_from(time_ms.checked_sub(base_ms)?).ok();
        let pack = |head: &RowHead| {
            let RowHead { kind, min_ms, max_ms, count } = *head;
            Some(PackedHead { min_ms: since_base(min_ms)?, max_ms: since_base(max_ms)?, count: u16::try_from(count).ok()?, kind })
        };
        let heads: Vec<PackedHead> = heads.iter().map(pack).collect::<Option<_>>()?;
        Some(Self { table, first_row, base_ms, heads: PackedHeads::of(heads) })
    }

    /// The series that match and have a chunk that touches the range.
    pub(crate) fn select(&self, verdicts: &mut Verdicts<'_>, from_ms: i64, to_ms: i64) -> Result<RoaringBitmap> {
        let found = self.table.resolve(verdicts)?;
        let touching = found.iter().filter(|id| self.rows(*id, from_ms, to_ms).next().is_some());
        Ok(RoaringBitmap::from_sorted_iter(touching).unwrap_or_default())
    }

    /// Rows of a series that touch the range, by their numbers in the file.
    pub(crate) fn rows(&self, id: u32, from_ms: i64, to_ms: i64) -> impl Iterator<Item = u32> {
        let touches = move |row: &u32| self.head_at(*row).is_some_and(|head| head.min_ms <= to_ms && head.max_ms >= from_ms);
        self.table.rows(id).filter(touches).map(|row| self.first_row.saturating_add(row))
    }

    /// Head of a row of this section, by its number in the file.
    pub(crate) fn head(&self, row: u32) -> Option<RowHead> {
        self.head_at(row.checked_sub(self.first_row)?)
    }

    fn head_at(&self, row: u32) -> Option<RowHead> {
        let head = self.heads.get(row)?;
        let time = |since_base: u32| self.base_ms.saturating_add(i64::from(since_base));
        let (min_ms, max_ms) = (time(head.min_ms), time(head.max_ms));
        Some(RowHead { kind: head.kind, min_ms, max_ms, count: u32::from(head.count) })
    }

    /// Without the table, which may be shared.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.heads.heap_bytes() + size_of::<Self>()
    }
}

impl PackedHeads {
    fn of(heads: Vec<PackedHead>) -> Self {
        let mut numbers: HashMap<PackedHead, u16, FixedState> = HashMap::default();
        let mut different = Vec::new();
        let mut of_row = Vec::with_capacity(heads.len());
        for head in &heads {
            let number = *numbers.entry(*head).or_insert_with(|| {
                different.push(*head);
                (different.len() - 1) as u16
            });
            of_row.push(number);
            if different.len() > usize::from(u16::MAX) || different.len() * 2 > heads.len() {
                return Self { heads: heads.into(), of_row: None };
            }
        }
        Self { heads: different.into(), of_row: Some(of_row.into()) }
    }

    fn get(&self, row: u32) -> Option<&PackedHead> {
        let at = match &self.of_row {
            Some(of_row) => usize::from(*of_row.get(row as usize)?),
            None => row as usize,
        };
        self.heads.get(at)
    }

    fn heap_bytes(&self) -> usize {
        size_of_val(&*self.heads) + self.of_row.as_ref().map_or(0, |of_row| size_of_val(&**of_row))
    }
}
