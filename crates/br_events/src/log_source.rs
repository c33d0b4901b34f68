//! Reading log records in the order of time, and no more of them than are asked for.
//!
//! A heap holds what may come next: files not yet opened, pages not yet read, rows. A file or a page is opened only when
//! its first time has come, so that the latest fifty records of a day touch the pages that hold them and few others. Lines are
//! tested when their page is opened: only rows that pass are put in order, and only these are made.

use crate::conditions::Conditions;
use crate::file::{EventFile, ranges_of};
use crate::helpers::Helpers;
use crate::log_groups::GroupCursor;
use crate::log_rows::{RowReader, needs_column};
use crate::origin;
use crate::schema::{STREAM, TS, column};
use crate::selection::{OpenFile, Selection};
use crate::store::EventStore;
use arrow::array::{RecordBatch, TimestampNanosecondArray, UInt64Array};
use br_model::{Labels, TenantId};
use br_std::{Nanos, Result};
use br_storage::{
    Budget, Direction, Held, LinesSeen, LogCursor, LogGroupCursor, LogQuery, LogRow, LogSource, Matcher, Table, TimeRange,
};
use hashbrown::HashSet;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;

pub(crate) struct TenantLogs {
    store: Arc<EventStore>,
    tenant: TenantId,
}

impl TenantLogs {
    pub(crate) fn new(store: Arc<EventStore>, tenant: TenantId) -> Self {
        Self { store, tenant }
    }
}

impl LogSource for TenantLogs {
    fn scan<'a>(&'a self, query: &LogQuery, budget: &'a Budget) -> Result<Box<dyn LogCursor + 'a>> {
        let snapshot = self.store.snapshot(self.tenant, Table::Logs);
        let mut cursor = Cursor {
            direction: query.direction,
            rows_wanted: query.rows_wanted,
            rows_given: 0,
            heap: BinaryHeap::new(),
            pages: Vec::new(),
            selection: Selection::new(query),
            seen: LinesSeen::default(),
            helpers: &self.store.helpers,
            budget,
        };
        for file in snapshot.files {
            if !file.may_hold(&cursor.selection.conditions) {
                continue;
            }
            let key = cursor.key(file.entry.min_time.0, file.entry.max_time.0);
            budget.expect_parts(1)?;
            let at = cursor.add(Source::File(file));
            cursor.heap.push((key, Node { at, step: Step::OpenFile }));
        }
        for batch in snapshot.batches {
            let mut seen = LinesSeen::default();
            let rows = cursor.selection.batch_rows(&batch, &mut seen)?;
            cursor.count(seen);
            budget.scanned(batch.num_rows() as u64);
            cursor.add_rows(Source::Memory(batch.clone()), &batch, rows)?;
        }
        Ok(Box::new(cursor))
    }

    fn scan_groups<'a>(&'a self, query: &LogQuery, budget: &'a Budget) -> Result<Box<dyn LogGroupCursor + 'a>> {
        let snapshot = self.store.snapshot(self.tenant, Table::Logs);
        Ok(Box::new(GroupCursor::new(Selection::new(query), snapshot, &self.store.helpers, budget)?))
    }

    fn streams(&self, range: TimeRange, matchers: &[Matcher], budget: &Budget) -> Result<Vec<Labels>> {
        let mut conditions = Conditions::new(Table::Logs, range);
        conditions.streams = matchers.to_vec();
        let snapshot = self.store.snapshot(self.tenant, Table::Logs);
        let mut found = BTreeSet::new();
        for batch in &snapshot.batches {
            budget.check()?;
            let ids: &UInt64Array = column(batch, STREAM)?;
            let mut labels = origin::labels(batch)?;
            let mut seen = HashSet::new();
            for row in conditions.rows_in_memory(batch)? {
                if seen.insert(ids.value(row as usize)) {
                    let labels = labels.get(row as usize)?;
                    if !found.contains(&*labels) {
                        budget.charge(labels_bytes(&labels))?;
                        found.insert((*labels).clone());
                    }
                }
            }
        }
        for file in snapshot.files.iter().filter(|file| file.may_hold(&conditions)) {
            budget.check()?;
            match file_streams(file, &conditions) {
                Ok(streams) => {
                    for labels in streams {
                        if !found.contains(&labels) {
                            budget.charge(labels_bytes(&labels))?;
                            found.insert(labels);
                        }
                    }
                }
                Err(error) if file.is_damaged(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found.into_iter().collect())
    }
}

/// What the labels of one stream weigh in an answer, about.
fn labels_bytes(labels: &Labels) -> u64 {
    labels.iter().map(|(name, value)| name.len() + value.len() + 32).sum::<usize>() as u64 + 64
}

fn file_streams(file: &EventFile, conditions: &Conditions) -> Result<Vec<Labels>> {
    let tail = file.tail()?;
    let visible = file.visible_streams(&tail)?;
    let mut found = Vec::new();
    for (stream, labels) in tail.summary.streams.iter().zip(tail.labels()?) {
        let is_in_range = conditions.range.overlaps(Nanos(stream.min_ts), Nanos(stream.max_ts));
        let is_visible = visible.as_ref().is_none_or(|visible| visible.contains(&stream.id));
        if is_in_range && is_visible && conditions.streams.iter().all(|matcher| matcher.matches_labels(labels)) {
            found.push(labels.clone());
        }
    }
    Ok(found)
}

/// Where rows come from.
enum Source {
    Memory(RecordBatch),
    File(Arc<EventFile>),
    Page(Arc<OpenFile>, usize),
    Done,
}

impl Source {
    fn page(&self) -> Option<(Arc<OpenFile>, usize)> {
        match self {
            Self::Page(open, page) => Some((open.clone(), *page)),
            Self::Memory(_) | Self::File(_) | Self::Done => None,
        }
    }
}

struct Opened {
    source: Source,
    /// Time and number within the source, in the order of the query.
    rows: Vec<(i64, u32)>,
    next: usize,
    /// Rows not yet handed out, once read: the batch, and the numbers of its rows.
    wide: Option<Wide>,
    charged: u64,
}

/// Whole rows of a page, and their numbers in it.
type Wide = (RecordBatch, Vec<u32>);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Row,
    OpenPage,
    OpenFile,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Node {
    at: usize,
    step: Step,
}

struct Cursor<'a> {
    direction: Direction,
    rows_wanted: Option<usize>,
    rows_given: usize,
    /// The greatest key comes next.
    heap: BinaryHeap<(i64, Node)>,
    pages: Vec<Opened>,
    selection: Selection,
    seen: LinesSeen,
    helpers: &'a Helpers,
    budget: &'a Budget,
}

const BATCH_ROWS: usize = 1024;
/// Pages of which whole rows are read side by side, at most.
const PAGES_AT_ONCE: usize = 8;
/// A query that wants no more than this gets single rows read, not their pages.
const FEW_ROWS: usize = 1000;

impl<'a> Cursor<'a> {
    fn key(&self, min: i64, max: i64) -> i64 {
        match self.direction {
            Direction::Backward => max,
            Direction::Forward => !min,
        }
    }

    fn add(&mut self, source: Source) -> usize {
        self.pages.push(Opened { source, rows: Vec::new(), next: 0, wide: None, charged: 0 });
        self.pages.len() - 1
    }

    fn add_rows(&mut self, source: Source, narrow: &RecordBatch, rows: Vec<u32>) -> Result<()> {
        let times: &TimestampNanosecondArray = column(narrow, TS)?;
        let mut rows: Vec<(i64, u32)> = rows.into_iter().map(|row| (times.value(row as usize), row)).collect();
        match self.direction {
            Direction::Forward => rows.sort_unstable(),
            Direction::Backward => rows.sort_unstable_by(|one, other| other.cmp(one)),
        }
        let Some((first, _)) = rows.first().copied() else { return Ok(()) };
        let charged = (rows.len() * size_of::<(i64, u32)>()) as u64;
        self.budget.charge(charged)?;
        let key = self.key(first, first);
        let at = self.add(source);
        self.pages[at].rows = rows;
        self.pages[at].charged = charged;
        self.heap.push((key, Node { at, step: Step::Row }));
        Ok(())
    }

    /// Counts the lines that were looked at to select some; where none is, those are counted that are handed out.
    fn count(&mut self, seen: LinesSeen) {
        if self.selection.reads_lines() {
            self.seen.lines += seen.lines;
            self.seen.bytes += seen.bytes;
        }
    }

    fn open_file(&mut self, at: usize) -> Result<()> {
        let Source::File(file) = std::mem::replace(&mut self.pages[at].source, Source::Done) else { return Ok(()) };
        self.budget.parts_done(1);
        let Some(open) = self.selection.open(&file)? else { return Ok(()) };
        self.budget.expect_parts(open.pages.len() as u64)?;
        for page in &open.pages {
            let summary = open.summary(*page);
            let key = self.key(summary.min_ts, summary.max_ts);
            let page_at = self.add(Source::Page(open.clone(), *page));
            self.heap.push((key, Node { at: page_at, step: Step::OpenPage }));
        }
        Ok(())
    }

    /// Opens a page. Where lines have to be tested, and there is help, those that come next are opened with it.
    fn open_pages(&mut self, first: usize) -> Result<()> {
        let mut ats = vec![first];
        let most = if self.selection.reads_lines() { self.helpers.width() } else { 1 };
        while ats.len() < most && self.heap.peek().is_some_and(|(_, node)| node.step == Step::OpenPage) {
            ats.extend(self.heap.pop().map(|(_, node)| node.at));
        }
        self.budget.parts_done(ats.len() as u64);
        let pages: Vec<(Arc<OpenFile>, usize)> = ats.iter().filter_map(|at| self.pages[*at].source.page()).collect();
        let (selection, budget) = (&self.selection, self.budget);
        let read = self.helpers.each(pages, |(open, page)| {
            budget.scanned(open.tail.page_rows(page).len() as u64);
            let mut seen = LinesSeen::default();
            let found = selection.page_rows(&open, page, true, &mut seen);
            // What was read is held until here only; a page that is too large must fail all the same.
            let found = found.and_then(|found| Held::new(budget).add(found.bytes()).map(|()| (found.times, found.rows)));
            (open, page, found, seen)
        });
        for (open, page, found, seen) in read {
            self.count(seen);
            match found {
                Ok((Some(times), rows)) => self.add_rows(Source::Page(open, page), &times, rows)?,
                Ok((None, _)) => {}
                Err(error) if open.file.is_damaged(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// How many rows the next batch has at most.
    fn batch_rows(&self) -> usize {
        let left = self.rows_wanted.map_or(BATCH_ROWS, |wanted| wanted.saturating_sub(self.rows_given));
        left.clamp(16, BATCH_ROWS)
    }

    /// The next rows in order, as (source, place in its rows).
    fn pick(&mut self) -> Result<Vec<(usize, u32)>> {
        let rows_max = self.batch_rows();
        let mut picked = Vec::new();
        while picked.len() < rows_max {
            let Some((_, node)) = self.heap.pop() else { break };
            match node.step {
                Step::OpenFile => self.open_file(node.at)?,
                Step::OpenPage => self.open_pages(node.at)?,
                Step::Row => {
                    let opened = &mut self.pages[node.at];
                    picked.push((node.at, opened.rows[opened.next].1));
                    opened.next += 1;
                    if let Some((time, _)) = opened.rows.get(opened.next).copied() {
                        let key = self.key(time, time);
                        self.heap.push((key, node));
                    }
                }
            }
            self.budget.check()?;
        }
        Ok(picked)
    }

    /// The batch that holds the given rows (ascending) of a source, and the numbers of its rows; `None` when they cannot be read.
    fn fetch(&self, at: usize, rows: &[u32]) -> Result<Option<(Wide, Held<'a>)>> {
        let (open, page) = match &self.pages[at].source {
            Source::Memory(batch) => {
                let all = (0..batch.num_rows() as u32).collect();
                return Ok(Some(((batch.clone(), all), Held::new(self.budget))));
            }
            Source::Page(open, page) => (open, *page),
            Source::File(_) | Source::Done => return Ok(None),
        };
        if let Some(wide) = &self.pages[at].wide {
            return Ok(Some((wide.clone(), Held::new(self.budget))));
        }
        let numbers = if self.takes_few() {
            rows.to_vec()
        } else {
            let opened = &self.pages[at];
            let handed_out = opened.next.saturating_sub(rows.len());
            let mut left: Vec<u32> = opened.rows[handed_out..].iter().map(|(_, row)| *row).collect();
            left.sort_unstable();
            left
        };
        self.budget.check()?;
        let ranges = ranges_of(&open.tail.page_rows(page), &numbers);
        match open.file.read_selected(&open.tail, &ranges, |name| needs_column(&self.selection.needs, name)) {
            Ok(batch) => {
                let mut held = Held::new(self.budget);
                held.add(batch.get_array_memory_size() as u64)?;
                Ok(Some(((batch, numbers), held)))
            }
            Err(error) if open.file.is_damaged(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether so few rows are wanted that only these are read of their pages.
    fn takes_few(&self) -> bool {
        self.rows_wanted.is_some_and(|wanted| wanted <= FEW_ROWS && self.rows_given <= wanted * 4)
    }

    /// Keeps what was fetched for the rows of it that come later.
    fn keep(&mut self, at: usize, wide: &Wide) -> Result<()> {
        let opened = &mut self.pages[at];
        if opened.wide.is_none() && matches!(opened.source, Source::Page(..)) {
            let bytes = wide.0.get_array_memory_size() as u64;
            self.budget.charge(bytes)?;
            opened.charged += bytes;
            opened.wide = Some(wide.clone());
        }
        Ok(())
    }

    /// Makes the wanted rows of a source: each its number there and its place among all.
    fn make(&mut self, at: usize, wide: &Wide, wanted: &[(u32, usize)], rows: &mut [Option<LogRow>]) -> Result<()> {
        if !self.takes_few() {
            self.keep(at, wide)?;
        }
        let (batch, numbers) = wide;
        let mut reader = RowReader::new(&self.selection.needs, batch)?;
        for (number, place) in wanted {
            let Ok(row) = numbers.binary_search(number) else { continue };
            rows[*place] = Some(reader.row(row)?);
        }
        Ok(())
    }

    fn finish(&mut self, at: usize) {
        let opened = &mut self.pages[at];
        if opened.next < opened.rows.len() {
            return;
        }
        self.budget.release(opened.charged);
        *opened = Opened { source: Source::Done, rows: Vec::new(), next: 0, wide: None, charged: 0 };
    }
}

impl LogCursor for Cursor<'_> {
    fn next_batch(&mut self) -> Result<Option<Vec<LogRow>>> {
        loop {
            let picked = self.pick()?;
            if picked.is_empty() {
                return Ok(None);
            }
            let mut by_source: BTreeMap<usize, Vec<(u32, usize)>> = BTreeMap::new();
            for (place, (at, row)) in picked.iter().enumerate() {
                by_source.entry(*at).or_default().push((*row, place));
            }
            let mut rows: Vec<Option<LogRow>> = picked.iter().map(|_| None).collect();
            let mut sources = by_source.into_iter().peekable();
            while sources.peek().is_some() {
                let at_once = sources.by_ref().take(PAGES_AT_ONCE).collect();
                let fetched = self.helpers.each(at_once, |(at, mut wanted): (usize, Vec<(u32, usize)>)| {
                    wanted.sort_unstable();
                    let numbers: Vec<u32> = wanted.iter().map(|(row, _)| *row).collect();
                    (at, self.fetch(at, &numbers), wanted)
                });
                for (at, wide, wanted) in fetched {
                    if let Some((wide, held)) = wide? {
                        // What is kept of it is charged there.
                        drop(held);
                        self.make(at, &wide, &wanted, &mut rows)?;
                    }
                    self.finish(at);
                }
            }
            self.rows_given += picked.len();
            let rows: Vec<LogRow> = rows.into_iter().flatten().collect();
            if !self.selection.reads_lines() {
                self.seen.lines += rows.len() as u64;
                self.seen.bytes += rows.iter().map(|row| row.line.len() as u64).sum::<u64>();
            }
            if !rows.is_empty() {
                return Ok(Some(rows));
            }
        }
    }

    fn seen(&self) -> LinesSeen {
        self.seen
    }
}

impl Drop for Cursor<'_> {
    fn drop(&mut self) {
        self.budget.release(self.pages.iter().map(|opened| opened.charged).sum());
    }
}
