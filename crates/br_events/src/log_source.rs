//! Reading log records in the order of time, and no more of them than are asked for.
//!
//! A heap holds what may come next: files not yet opened, pages not yet read, rows. A file or a page is opened only when
//! its first time has come, so that the latest fifty records of a day touch the pages that hold them and few others.

use crate::attributes::AttributesReader;
use crate::conditions::Conditions;
use crate::file::{EventFile, Tail, ranges_of};
use crate::logs_codec::{kind_from_text, span_id, trace_id};
use crate::origin::{self, Interned};
use crate::schema::{BODY, KIND, SEVERITY, SPAN_ID, STREAM, TRACE_ID, TS, column};
use crate::store::EventStore;
use crate::terms;
use arrow::array::{FixedSizeBinaryArray, RecordBatch, StringArray, TimestampNanosecondArray, UInt8Array, UInt64Array};
use br_model::{Labels, LogKind, Severity, TenantId, TraceId, names::label_name};
use br_std::{Nanos, Result};
use br_storage::{Budget, Direction, LogCursor, LogHint, LogQuery, LogRow, LogSource, Matcher, Table, TimeRange};
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
        let conditions = conditions_of(query);
        let snapshot = self.store.snapshot(self.tenant, Table::Logs);
        let mut cursor = Cursor {
            direction: query.direction,
            rows_wanted: query.rows_wanted,
            rows_given: 0,
            heap: BinaryHeap::new(),
            pages: Vec::new(),
            conditions,
            budget,
        };
        for file in snapshot.files {
            if !file.may_hold(&cursor.conditions) {
                continue;
            }
            let key = cursor.key(file.entry.min_time.0, file.entry.max_time.0);
            budget.expect_parts(1)?;
            let at = cursor.add(Source::File { file, tail: None });
            cursor.heap.push((key, Node { at, step: Step::OpenFile }));
        }
        for batch in snapshot.batches {
            let rows = cursor.conditions.rows_in_memory(&batch)?;
            budget.scanned(batch.num_rows() as u64);
            cursor.add_rows(Source::Memory(batch.clone()), &batch, rows)?;
        }
        Ok(Box::new(cursor))
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
    let mut found = Vec::new();
    for stream in &tail.summary.streams {
        if !conditions.range.overlaps(Nanos(stream.min_ts), Nanos(stream.max_ts)) {
            continue;
        }
        let labels = origin::stream_labels(&crate::json::decode_resource(&stream.resource)?);
        if conditions.streams.iter().all(|matcher| matcher.matches_labels(&labels)) {
            found.push(labels);
        }
    }
    Ok(found)
}

pub(crate) fn conditions_of(query: &LogQuery) -> Conditions {
    let mut conditions = Conditions::new(Table::Logs, query.range);
    conditions.streams.clone_from(&query.streams);
    conditions.kind = query.kind;
    for hint in &query.hints {
        match hint {
            LogHint::LineContains(text) => conditions.terms.extend(terms::substring_terms(text)),
            LogHint::AttributeEquals { name, value } if name == TRACE_ID => {
                if let Some(id) = TraceId::from_hex(value).filter(|id| !id.is_none()) {
                    conditions.terms.push(terms::trace_term(id));
                }
            }
            // These are attributes for the reader only, or derived; the filters do not know them.
            LogHint::AttributeEquals { name, .. } if is_derived(name) => {}
            LogHint::AttributeEquals { value, .. } if value.is_empty() => {}
            LogHint::AttributeEquals { name, value } => conditions.terms.extend(terms::pair_term(name, value)),
            LogHint::TraceId(id) if id.is_none() => {}
            LogHint::TraceId(id) => conditions = conditions.with_trace_id(*id),
            LogHint::SeverityAtLeast(severity) => conditions.low = Some(i64::from(severity.0)),
        }
    }
    conditions
}

fn is_derived(name: &str) -> bool {
    [SPAN_ID, "severity_text", "level", "detected_level"].contains(&name)
}

/// Where rows come from.
enum Source {
    Memory(RecordBatch),
    File {
        file: Arc<EventFile>,
        tail: Option<(Arc<Tail>, Option<HashSet<u64>>)>,
    },
    /// The number of the file's source, and of the page.
    Page {
        of: usize,
        page: usize,
    },
    Done,
}

struct Opened {
    source: Source,
    /// Time and number within the source, in the order of the query.
    rows: Vec<(i64, u32)>,
    next: usize,
    /// Rows not yet handed out, once read: the batch, and the numbers of its rows.
    wide: Option<(RecordBatch, Vec<u32>)>,
    charged: u64,
}

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
    conditions: Conditions,
    budget: &'a Budget,
}

const BATCH_ROWS: usize = 1024;
/// A query that wants no more than this gets single rows read, not their pages.
const FEW_ROWS: usize = 1000;

impl Cursor<'_> {
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

    fn open_file(&mut self, at: usize) -> Result<()> {
        let Source::File { file, tail: slot } = &mut self.pages[at].source else { return Ok(()) };
        let file = file.clone();
        self.budget.parts_done(1);
        let outcome = file.tail().and_then(|tail| Ok((file.pages(&tail, &self.conditions)?, tail)));
        let (pages, tail) = match outcome {
            Ok(found) => found,
            Err(error) if file.is_damaged(&error) => return Ok(()),
            Err(error) => return Err(error),
        };
        *slot = Some((tail.clone(), pages.streams));
        self.budget.expect_parts(pages.pages.len() as u64)?;
        for page in pages.pages {
            let summary = &tail.summary.pages[page];
            let key = self.key(summary.min_ts, summary.max_ts);
            let page_at = self.add(Source::Page { of: at, page });
            self.heap.push((key, Node { at: page_at, step: Step::OpenPage }));
        }
        Ok(())
    }

    fn open_page(&mut self, at: usize) -> Result<()> {
        let Source::Page { of, page } = self.pages[at].source else { return Ok(()) };
        let Source::File { file, tail: Some((tail, streams)) } = &self.pages[of].source else { return Ok(()) };
        let (file, tail) = (file.clone(), tail.clone());
        self.budget.parts_done(1);
        let matching = file.matching_rows(&tail, page, &self.conditions, streams.as_ref());
        match matching {
            Ok((narrow, rows)) => {
                self.budget.scanned(narrow.num_rows() as u64);
                self.add_rows(Source::Page { of, page }, &narrow, rows)
            }
            Err(error) if file.is_damaged(&error) => Ok(()),
            Err(error) => Err(error),
        }
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
                Step::OpenPage => self.open_page(node.at)?,
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
    fn fetch(&mut self, at: usize, rows: &[u32]) -> Result<Option<(RecordBatch, Vec<u32>)>> {
        let (of, page) = match &self.pages[at].source {
            Source::Memory(batch) => return Ok(Some((batch.clone(), (0..batch.num_rows() as u32).collect()))),
            Source::Page { of, page } => (*of, *page),
            Source::File { .. } | Source::Done => return Ok(None),
        };
        if let Some(wide) = &self.pages[at].wide {
            return Ok(Some(wide.clone()));
        }
        let Source::File { file, tail: Some((tail, _)) } = &self.pages[of].source else { return Ok(None) };
        let few = self.rows_wanted.is_some_and(|wanted| wanted <= FEW_ROWS && self.rows_given <= wanted * 4);
        let numbers = if few {
            rows.to_vec()
        } else {
            let opened = &self.pages[at];
            let handed_out = opened.next.saturating_sub(rows.len());
            let mut left: Vec<u32> = opened.rows[handed_out..].iter().map(|(_, row)| *row).collect();
            left.sort_unstable();
            left
        };
        let ranges = ranges_of(&tail.page_rows(page), &numbers);
        let batch = match file.read_selected(tail, &ranges, is_shown) {
            Ok(batch) => batch,
            Err(error) if file.is_damaged(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        if !few {
            let bytes = batch.get_array_memory_size() as u64;
            self.budget.charge(bytes)?;
            self.pages[at].charged += bytes;
            self.pages[at].wide = Some((batch.clone(), numbers.clone()));
        }
        Ok(Some((batch, numbers)))
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
            for (at, mut wanted) in by_source {
                wanted.sort_unstable();
                let numbers: Vec<u32> = wanted.iter().map(|(row, _)| *row).collect();
                if let Some((batch, held)) = self.fetch(at, &numbers)? {
                    let mut reader = RowReader::new(&batch)?;
                    for (number, place) in wanted {
                        let Ok(row) = held.binary_search(&number) else { continue };
                        rows[place] = Some(reader.row(row)?);
                    }
                }
                self.finish(at);
            }
            self.rows_given += picked.len();
            let rows: Vec<LogRow> = rows.into_iter().flatten().collect();
            if !rows.is_empty() {
                return Ok(Some(rows));
            }
        }
    }
}

impl Drop for Cursor<'_> {
    fn drop(&mut self) {
        self.budget.release(self.pages.iter().map(|opened| opened.charged).sum());
    }
}

/// The columns of a [`LogRow`]: all but those of other readers.
fn is_shown(name: &str) -> bool {
    let hidden = ["observed", "service", "stream", "scope", "release", "environment", "error"];
    !hidden.contains(&name) && !name.starts_with("error_")
}

struct RowReader<'a> {
    times: &'a TimestampNanosecondArray,
    labels: Interned<'a, Labels>,
    bodies: &'a StringArray,
    kinds: &'a StringArray,
    severities: &'a UInt8Array,
    severity_texts: &'a StringArray,
    trace_ids: &'a FixedSizeBinaryArray,
    span_ids: &'a FixedSizeBinaryArray,
    attributes: AttributesReader<'a>,
}

impl<'a> RowReader<'a> {
    fn new(batch: &'a RecordBatch) -> Result<Self> {
        Ok(Self {
            times: column(batch, TS)?,
            labels: origin::labels(batch)?,
            bodies: column(batch, BODY)?,
            kinds: column(batch, KIND)?,
            severities: column(batch, SEVERITY)?,
            severity_texts: column(batch, "severity_text")?,
            trace_ids: column(batch, TRACE_ID)?,
            span_ids: column(batch, SPAN_ID)?,
            attributes: AttributesReader::new(batch)?,
        })
    }

    fn row(&mut self, row: usize) -> Result<LogRow> {
        let (trace_id, span_id) = (trace_id(self.trace_ids, row), span_id(self.span_ids, row));
        let mut metadata = Vec::new();
        for entry in self.attributes.entries(row)? {
            metadata.push((label_name(entry.key), crate::attributes::shown(&entry)?.into_owned()));
        }
        let mut add = |name: &str, text: String| {
            if !text.is_empty() && metadata.iter().all(|(known, _)| known != name) {
                metadata.push((name.to_owned(), text));
            }
        };
        let (severity, severity_text) = (Severity(self.severities.value(row)), self.severity_texts.value(row));
        add("severity_text", severity_text.to_owned());
        add("detected_level", severity.as_str().to_owned());
        add(TRACE_ID, if trace_id.is_none() { String::new() } else { trace_id.to_string() });
        add(SPAN_ID, if span_id.is_none() { String::new() } else { span_id.to_string() });
        let kind: LogKind = kind_from_text(self.kinds.value(row))?;
        Ok(LogRow {
            timestamp: Nanos(self.times.value(row)),
            stream: (*self.labels.get(row)?).clone(),
            line: self.bodies.value(row).to_owned(),
            kind,
            severity,
            trace_id,
            span_id,
            metadata,
        })
    }
}
