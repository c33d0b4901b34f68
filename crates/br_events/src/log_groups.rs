//! Reading log records page by page: for whoever counts them, each page is read once, whole, and nothing is put in order.

use crate::file::EventFile;
use crate::log_rows::RowReader;
use crate::schema::{TS, column};
use crate::selection::{OpenFile, Selection};
use crate::store::Snapshot;
use arrow::array::{RecordBatch, TimestampNanosecondArray};
use br_std::{Nanos, Result};
use br_storage::{Budget, Held, LinesSeen, LogGroup, LogGroupCursor};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

/// What is still to be read, by its first time.
struct Part {
    from: i64,
    source: Source,
}

enum Source {
    Memory(RecordBatch),
    File(Arc<EventFile>),
    Page(Arc<OpenFile>, usize),
}

impl PartialEq for Part {
    fn eq(&self, other: &Self) -> bool {
        self.from == other.from
    }
}

impl Eq for Part {}

impl PartialOrd for Part {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Part {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.from.cmp(&other.from)
    }
}

/// A page or a batch that is being handed out.
struct Current {
    from: i64,
    batch: RecordBatch,
    /// The rows of it that are selected.
    rows: Vec<u32>,
    next: usize,
    charged: u64,
    /// The lines were read, and counted.
    is_tested: bool,
}

/// Rows that are made at once where they are not grouped.
const BATCH_ROWS: usize = 1024;

pub(crate) struct GroupCursor<'a> {
    selection: Selection,
    parts: BinaryHeap<Reverse<Part>>,
    current: Option<Current>,
    seen: LinesSeen,
    budget: &'a Budget,
}

impl<'a> GroupCursor<'a> {
    pub(crate) fn new(selection: Selection, snapshot: Snapshot, budget: &'a Budget) -> Result<Self> {
        let mut cursor = Self { selection, parts: BinaryHeap::new(), current: None, seen: LinesSeen::default(), budget };
        for file in snapshot.files.into_iter().filter(|file| file.may_hold(&cursor.selection.conditions)) {
            budget.expect_parts(1)?;
            cursor.parts.push(Reverse(Part { from: file.entry.min_time.0, source: Source::File(file) }));
        }
        for batch in snapshot.batches {
            let times: &TimestampNanosecondArray = column(&batch, TS)?;
            let from = arrow::compute::min(times).unwrap_or(i64::MAX);
            cursor.parts.push(Reverse(Part { from, source: Source::Memory(batch) }));
        }
        Ok(cursor)
    }

    /// Makes a part the current one, or a file its pages.
    fn start(&mut self, part: Part) -> Result<()> {
        match part.source {
            Source::Memory(batch) => {
                self.budget.scanned(batch.num_rows() as u64);
                let before = self.seen.bytes;
                let rows = self.selection.batch_rows(&batch, &mut self.seen)?;
                let is_tested = self.seen.bytes > before;
                self.current = Some(Current { from: part.from, batch, rows, next: 0, charged: 0, is_tested });
            }
            Source::File(file) => {
                self.budget.parts_done(1);
                let Some(open) = self.selection.open(&file)? else { return Ok(()) };
                self.budget.expect_parts(open.pages.len() as u64)?;
                for page in &open.pages {
                    let from = open.summary(*page).min_ts.max(part.from);
                    self.parts.push(Reverse(Part { from, source: Source::Page(open.clone(), *page) }));
                }
            }
            Source::Page(open, page) => {
                self.budget.parts_done(1);
                self.budget.scanned(open.tail.page_rows(page).len() as u64);
                match self.read(&open, page, part.from) {
                    Ok(current) => self.current = current,
                    Err(error) if open.file.is_damaged(&error) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    fn read(&mut self, open: &OpenFile, page: usize, from: i64) -> Result<Option<Current>> {
        let found = self.selection.page_rows(open, page, false, &mut self.seen)?;
        if found.rows.is_empty() {
            return Ok(None);
        }
        let mut held = Held::new(self.budget);
        held.add(found.bytes())?;
        let is_tested = found.is_tested();
        let batch = self.selection.read(open, page, found)?;
        let charged = batch.get_array_memory_size() as u64;
        self.budget.charge(charged)?;
        let rows = (0..batch.num_rows() as u32).collect();
        Ok(Some(Current { from, batch, rows, next: 0, charged, is_tested }))
    }

    fn give(&mut self, current: &mut Current) -> Result<Vec<LogGroup>> {
        let at_once = if self.selection.needs.can_group() { current.rows.len() } else { BATCH_ROWS };
        let rows = &current.rows[current.next..(current.next + at_once).min(current.rows.len())];
        current.next += rows.len();
        let groups = RowReader::new(&self.selection.needs, &current.batch)?.groups(rows.iter().map(|row| *row as usize))?;
        if !current.is_tested {
            self.seen.bytes += groups.iter().flat_map(|group| &group.members).map(|(_, bytes)| u64::from(*bytes)).sum::<u64>();
        }
        Ok(groups)
    }
}

impl LogGroupCursor for GroupCursor<'_> {
    fn next_batch(&mut self) -> Result<Option<Vec<LogGroup>>> {
        loop {
            self.budget.check()?;
            if let Some(mut current) = self.current.take() {
                let groups = self.give(&mut current);
                let is_left = current.next < current.rows.len() && groups.is_ok();
                if is_left {
                    self.current = Some(current);
                } else {
                    self.budget.release(current.charged);
                }
                let groups = groups?;
                if !groups.is_empty() {
                    return Ok(Some(groups));
                }
            } else if let Some(Reverse(part)) = self.parts.pop() {
                self.start(part)?;
            } else {
                return Ok(None);
            }
        }
    }

    fn reached(&self) -> Nanos {
        let coming = self.parts.peek().map_or(i64::MAX, |Reverse(part)| part.from);
        Nanos(self.current.as_ref().map_or(coming, |current| current.from.min(coming)))
    }

    fn seen(&self) -> LinesSeen {
        self.seen
    }
}

impl Drop for GroupCursor<'_> {
    fn drop(&mut self) {
        self.budget.release(self.current.as_ref().map_or(0, |current| current.charged));
    }
}
