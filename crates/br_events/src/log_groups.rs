//! Reading log records page by page: for whoever counts them, each page is read once, whole, and nothing is put in order.

use crate::counts::{Cell, bounds_of, minute_of};
use crate::file::EventFile;
use crate::helpers::Helpers;
use crate::log_rows::RowReader;
use crate::schema::{TS, column};
use crate::selection::{OpenFile, Selection};
use crate::store::Snapshot;
use crate::summary::PageSummary;
use arrow::array::{RecordBatch, TimestampNanosecondArray};
use br_model::{Labels, LogKind, Severity, SpanId, TraceId};
use br_std::{Nanos, Result};
use br_storage::{Budget, CountedRows, Derived, Held, LineNeed, LinesSeen, LogGroup, LogGroupCursor, LogRow};
use hashbrown::HashMap;
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
    /// Where minutes were counted, those are left out that were.
    Page {
        open: Arc<OpenFile>,
        page: usize,
        is_counted: bool,
    },
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

/// What is being handed out of a page or a batch.
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

/// A page that was read, by whoever read it.
#[derive(Default)]
struct PageRead {
    seen: LinesSeen,
    /// Where rows are alike, they are put together at once.
    groups: Vec<LogGroup>,
    rows: Option<Current>,
}

/// A page of more minutes than this is read.
const MINUTES_MAX: i64 = 10_000;
/// Rows that are made at once where they are not grouped.
const BATCH_ROWS: usize = 1024;
/// Pages for each thread that are read before their groups are handed out: the threads wait for each other less often.
const PAGES_AT_ONCE: usize = 4;
/// Pages at once, at most: what is made of them is held until it is handed out.
const PAGES_MAX: usize = 16;

pub(crate) struct GroupCursor<'a> {
    selection: Selection,
    parts: BinaryHeap<Reverse<Part>>,
    /// The last is handed out first.
    read: Vec<Current>,
    seen: LinesSeen,
    helpers: &'a Helpers,
    budget: &'a Budget,
}

impl<'a> GroupCursor<'a> {
    pub(crate) fn new(selection: Selection, snapshot: Snapshot, helpers: &'a Helpers, budget: &'a Budget) -> Result<Self> {
        let mut cursor =
            Self { selection, parts: BinaryHeap::new(), read: Vec::new(), seen: LinesSeen::default(), helpers, budget };
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

    /// Makes a part the current one, or a file its pages; what of a file is counted comes at once.
    fn start(&mut self, part: Part) -> Result<Option<Vec<LogGroup>>> {
        match part.source {
            Source::Memory(batch) => {
                self.budget.scanned(batch.num_rows() as u64);
                let before = self.seen.bytes;
                let rows = self.selection.batch_rows(&batch, &mut self.seen)?;
                let is_tested = self.seen.bytes > before;
                self.read.push(Current { from: part.from, batch, rows, next: 0, charged: 0, is_tested });
            }
            Source::File(file) => {
                self.budget.parts_done(1);
                let Some(open) = self.selection.open(&file)? else { return Ok(None) };
                let counted = self.count(&open)?;
                let is_counted = counted.is_some();
                let is_left = |page: &&usize| !is_counted || self.has_other_minutes(open.summary(**page));
                let pages: Vec<usize> = open.pages.iter().filter(is_left).copied().collect();
                self.budget.expect_parts(pages.len() as u64)?;
                for page in pages {
                    let from = open.summary(page).min_ts.max(part.from);
                    self.parts.push(Reverse(Part { from, source: Source::Page { open: open.clone(), page, is_counted } }));
                }
                return Ok(counted);
            }
            Source::Page { .. } => return self.read_pages(part).map(Some),
        }
        Ok(None)
    }

    /// Reads this page, and those that come next with it where there is help.
    fn read_pages(&mut self, first: Part) -> Result<Vec<LogGroup>> {
        let width = self.helpers.width();
        let most = if width > 1 && self.selection.needs.can_group() { width * PAGES_AT_ONCE } else { width }.min(PAGES_MAX);
        let mut parts = vec![first];
        while parts.len() < most {
            match self.parts.pop() {
                Some(Reverse(part)) if matches!(part.source, Source::Page { .. }) => parts.push(part),
                Some(other) => {
                    self.parts.push(other);
                    break;
                }
                None => break,
            }
        }
        self.budget.parts_done(parts.len() as u64);
        let read = self.helpers.each(parts, |part| self.read_page(&part));
        let mut groups = Vec::new();
        let mut outcome = Ok(());
        for page in read {
            match page {
                Ok(PageRead { seen, groups: more, rows }) => {
                    self.seen.lines += seen.lines;
                    self.seen.bytes += seen.bytes;
                    groups.extend(more);
                    self.read.extend(rows);
                }
                Err(error) => outcome = Err(error),
            }
        }
        self.read.reverse();
        outcome.map(|()| groups)
    }

    fn read_page(&self, part: &Part) -> Result<PageRead> {
        let Source::Page { open, page, is_counted } = &part.source else { return Ok(PageRead::default()) };
        self.budget.check()?;
        self.budget.scanned(open.tail.page_rows(*page).len() as u64);
        match self.read(open, *page, *is_counted, part.from) {
            Err(error) if open.file.is_damaged(&error) => Ok(PageRead::default()),
            read => read,
        }
    }

    /// What the file says of the minutes that are asked for as a whole; `None` where rows must be looked at.
    fn count(&mut self, open: &OpenFile) -> Result<Option<Vec<LogGroup>>> {
        if !self.selection.is_counted(&open.file) {
            return Ok(None);
        }
        let cells = match open.file.counts(&open.tail) {
            Ok(Some(cells)) => cells,
            Ok(None) => return Ok(None),
            Err(error) if open.file.is_damaged(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let groups = counted_groups(&self.selection, open, &cells)?;
        for rows in groups.iter().flat_map(|group| &group.counted) {
            self.seen.lines += rows.rows;
            self.seen.bytes += rows.bytes;
        }
        Ok(Some(groups))
    }

    /// Whether a page can have rows of minutes that are not asked for as a whole.
    fn has_other_minutes(&self, page: &PageSummary) -> bool {
        let (first, last) = (minute_of(page.min_ts), minute_of(page.max_ts));
        last - first > MINUTES_MAX || (first..=last).any(|minute| !self.selection.is_whole(minute))
    }

    fn read(&self, open: &OpenFile, page: usize, is_counted: bool, from: i64) -> Result<PageRead> {
        let mut seen = LinesSeen::default();
        let mut found = self.selection.page_rows(open, page, is_counted, &mut seen)?;
        if let (true, Some(batch)) = (is_counted, &found.times) {
            let times: &TimestampNanosecondArray = column(batch, TS)?;
            found.rows.retain(|row| !self.selection.is_whole(minute_of(times.value(*row as usize))));
            seen.lines = found.rows.len() as u64;
        }
        if found.rows.is_empty() {
            return Ok(PageRead { seen, ..PageRead::default() });
        }
        let mut held = Held::new(self.budget);
        held.add(found.bytes())?;
        let is_tested = found.is_tested();
        let batch = self.selection.read(open, page, found)?;
        let charged = batch.get_array_memory_size() as u64;
        if self.selection.needs.can_group() {
            held.add(charged)?;
            let groups = self.groups(&batch, 0..batch.num_rows())?;
            if !is_tested {
                seen.bytes += bytes_of(&groups);
            }
            return Ok(PageRead { seen, groups, rows: None });
        }
        self.budget.charge(charged)?;
        let rows = (0..batch.num_rows() as u32).collect();
        Ok(PageRead { seen, rows: Some(Current { from, batch, rows, next: 0, charged, is_tested }), groups: Vec::new() })
    }

    fn groups(&self, batch: &RecordBatch, rows: impl Iterator<Item = usize>) -> Result<Vec<LogGroup>> {
        RowReader::new(&self.selection.needs, batch)?.groups(rows)
    }

    fn give(&mut self, current: &mut Current) -> Result<Vec<LogGroup>> {
        let at_once = if self.selection.needs.can_group() { current.rows.len() } else { BATCH_ROWS };
        let rows = &current.rows[current.next..(current.next + at_once).min(current.rows.len())];
        current.next += rows.len();
        let groups = self.groups(&current.batch, rows.iter().map(|row| *row as usize))?;
        if !current.is_tested {
            self.seen.bytes += bytes_of(&groups);
        }
        Ok(groups)
    }
}

/// Of the lines of all members.
fn bytes_of(groups: &[LogGroup]) -> u64 {
    groups.iter().flat_map(|group| &group.members).map(|(_, bytes)| u64::from(*bytes)).sum()
}

/// A group for each stream, and level where it is asked for.
fn counted_groups(selection: &Selection, open: &OpenFile, cells: &[Cell]) -> Result<Vec<LogGroup>> {
    let labels = open.tail.labels()?;
    let has_level = selection.needs.metadata_named(Derived::DETECTED_LEVEL);
    let has_bytes = selection.needs.line > LineNeed::Nothing;
    let mut groups: Vec<LogGroup> = Vec::new();
    // Streams that are alike in the labels that are looked at are one.
    let mut sets: HashMap<Labels, usize> = HashMap::new();
    let mut set_of: HashMap<usize, usize> = HashMap::new();
    let mut numbers: HashMap<(usize, u8), usize> = HashMap::new();
    for cell in cells.iter().filter(|cell| selection.is_whole(cell.minute)) {
        let stream = open.tail.summary.streams.get(cell.stream).zip(labels.get(cell.stream));
        let Some((stream, labels)) = stream else { continue };
        if open.streams.as_ref().is_some_and(|streams| !streams.contains(&stream.id)) {
            continue;
        }
        let severity = if has_level { cell.severity } else { 0 };
        let time = Nanos(bounds_of(cell.minute).1);
        let set = *set_of.entry(cell.stream).or_insert_with(|| {
            let next = sets.len();
            *sets.entry(selection.needs.stream(labels)).or_insert(next)
        });
        let number = *numbers.entry((set, severity)).or_insert_with(|| {
            groups.push(LogGroup::new(row_of(&selection.needs.stream(labels), Severity(severity), time)));
            groups.len() - 1
        });
        let bytes = if has_bytes { cell.bytes } else { 0 };
        groups[number].counted.push(CountedRows { time, rows: cell.rows, bytes });
    }
    Ok(groups)
}

/// As [`RowReader`] makes it when nothing else is needed.
fn row_of(labels: &Labels, severity: Severity, timestamp: Nanos) -> LogRow {
    let mut metadata = Vec::new();
    Derived { severity, ..Derived::default() }.add_to(&mut metadata);
    LogRow {
        timestamp,
        stream: labels.clone(),
        line: String::new(),
        kind: LogKind::default(),
        severity,
        trace_id: TraceId::default(),
        span_id: SpanId::default(),
        metadata,
    }
}

impl LogGroupCursor for GroupCursor<'_> {
    fn next_batch(&mut self) -> Result<Option<Vec<LogGroup>>> {
        loop {
            self.budget.check()?;
            if let Some(mut current) = self.read.pop() {
                let groups = self.give(&mut current);
                let is_left = current.next < current.rows.len() && groups.is_ok();
                if is_left {
                    self.read.push(current);
                } else {
                    self.budget.release(current.charged);
                }
                let groups = groups?;
                if !groups.is_empty() {
                    return Ok(Some(groups));
                }
            } else if let Some(Reverse(part)) = self.parts.pop() {
                if let Some(groups) = self.start(part)?.filter(|groups| !groups.is_empty()) {
                    return Ok(Some(groups));
                }
            } else {
                return Ok(None);
            }
        }
    }

    fn reached(&self) -> Nanos {
        let coming = self.parts.peek().map_or(i64::MAX, |Reverse(part)| part.from);
        Nanos(self.read.iter().map(|current| current.from).fold(coming, i64::min))
    }

    fn seen(&self) -> LinesSeen {
        self.seen
    }
}

impl Drop for GroupCursor<'_> {
    fn drop(&mut self) {
        self.budget.release(self.read.iter().map(|current| current.charged).sum());
    }
}
