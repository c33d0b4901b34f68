//! Reading spans newest first, by file and page.

use crate::conditions::Conditions;
use crate::equals::Equals;
use crate::file::{EventFile, Tail, ranges_of};
use crate::helpers::Helpers;
use crate::numbers::{Name, NumberBetween};
use crate::schema::{NAME, SERVICE, TS, column};
use crate::spans_codec::{SpanReader, is_read_of};
use crate::store::{EventStore, Snapshot};
use crate::{terms, traces};
use arrow::array::{RecordBatch, StringArray, TimestampNanosecondArray};
use arrow::compute::{max, take_record_batch};
use br_model::{TenantId, TraceId};
use br_std::{Nanos, Result};
use br_storage::{Budget, SpanCursor, SpanHint, SpanParts, SpanQuery, SpanSource, StoredSpan, Table, TakeTrace, TimeRange};
use hashbrown::HashSet;
use std::collections::BTreeSet;
use std::sync::Arc;

pub(crate) struct TenantSpans {
    store: Arc<EventStore>,
    tenant: TenantId,
}

impl TenantSpans {
    pub(crate) fn new(store: Arc<EventStore>, tenant: TenantId) -> Self {
        Self { store, tenant }
    }

    fn cursor<'a>(&'a self, query: &SpanQuery, budget: &'a Budget) -> Cursor<'a> {
        let conditions = conditions_of(query);
        let equals = query.hints.iter().filter_map(|hint| match hint {
            SpanHint::AttributeEquals { key, value } => Equals::new(key, value),
            _ => None,
        });
        let snapshot = self.store.snapshot(self.tenant, Table::Spans);
        let files = snapshot.files.into_iter().filter(|file| file.may_hold(&conditions));
        let mut parts: Vec<(i64, Part)> = files.map(|file| (file.entry.max_time.0, Part::File(file))).collect();
        for batch in snapshot.batches {
            let newest = column::<TimestampNanosecondArray>(&batch, TS).ok().and_then(max);
            parts.push((newest.unwrap_or(i64::MAX), Part::Memory(batch)));
        }
        parts.sort_by_key(|(newest, _)| *newest);
        let (helpers, ready) = (&self.store.helpers, Vec::new());
        Cursor { parts, ready, equals: equals.collect(), conditions, wanted: query.parts.clone(), helpers, budget, charged: 0 }
    }
}

impl SpanSource for TenantSpans {
    fn scan<'a>(&'a self, query: &SpanQuery, budget: &'a Budget) -> Result<Box<dyn SpanCursor + 'a>> {
        Ok(Box::new(self.cursor(query, budget)))
    }

    fn traces(
        &self,
        wanted: &[(TraceId, TimeRange)],
        parts: &SpanParts,
        budget: &Budget,
        take: &mut TakeTrace<'_>,
    ) -> Result<()> {
        let Snapshot { batches, files } = self.store.snapshot(self.tenant, Table::Spans);
        traces::read(batches, files, wanted, parts, budget, &self.store.helpers, take)
    }

    fn services(&self, range: TimeRange, budget: &Budget) -> Result<Vec<String>> {
        self.names(range, None, budget)
    }

    fn operations(&self, service: &str, range: TimeRange, budget: &Budget) -> Result<Vec<String>> {
        self.names(range, Some(service), budget)
    }
}

impl TenantSpans {
    /// Names of services, or of one service's spans, sorted. Of files at the edges of the range it says what they hold in all.
    fn names(&self, range: TimeRange, service: Option<&str>, budget: &Budget) -> Result<Vec<String>> {
        let mut conditions = Conditions::new(Table::Spans, range);
        conditions.services = service.map(|service| vec![service.to_owned()]);
        let shown = if service.is_some() { NAME } else { SERVICE };
        let snapshot = self.store.snapshot(self.tenant, Table::Spans);
        let mut names: BTreeSet<String> = BTreeSet::new();
        for batch in &snapshot.batches {
            budget.check()?;
            let values: &StringArray = column(batch, shown)?;
            for row in conditions.rows_in_memory(batch)? {
                let name = values.value(row as usize);
                if !names.contains(name) {
                    names.insert(name.to_owned());
                }
            }
        }
        for file in snapshot.files.iter().filter(|file| file.may_hold(&conditions)) {
            budget.check()?;
            match names_in_file(file, service) {
                Ok(found) => names.extend(found),
                Err(error) if file.is_damaged(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(names.into_iter().collect())
    }
}

fn names_in_file(file: &EventFile, service: Option<&str>) -> Result<Vec<String>> {
    let tail = file.tail()?;
    let summary = &tail.summary;
    let mut services = None;
    if let Some(streams) = file.visible_streams(&tail)? {
        let services = services.insert(HashSet::new());
        for stream in summary.streams.iter().filter(|stream| streams.contains(&stream.id)) {
            services.insert(crate::json::decode_resource(&stream.resource)?.service_name().to_owned());
        }
    }
    let is_visible = |service: &str| services.as_ref().is_none_or(|services| services.contains(service));
    match service {
        None => Ok(summary.services.iter().filter(|service| is_visible(service)).cloned().collect()),
        Some(service) if is_visible(service) => file.visible_operations(&tail, service),
        Some(_) => Ok(Vec::new()),
    }
}

fn conditions_of(query: &SpanQuery) -> Conditions {
    let mut conditions = Conditions::new(Table::Spans, query.range);
    for hint in &query.hints {
        match hint {
            SpanHint::Service(service) => match &mut conditions.services {
                Some(services) => services.retain(|known| known == service),
                None => conditions.services = Some(vec![service.clone()]),
            },
            SpanHint::Name(name) => conditions.terms.extend(terms::pair_term(NAME, name)),
            SpanHint::AttributeEquals { key, value } => conditions.terms.extend(terms::value_term(key, value)),
            SpanHint::NumberBetween { key, low, high } => {
                conditions.numbers.push(NumberBetween { name: Name::Key(key.clone()), low: *low, high: *high });
            }
            SpanHint::DurationNanosAtLeast(nanos) => conditions.low = Some(conditions.low.map_or(*nanos, |low| low.max(*nanos))),
            SpanHint::DurationNanosAtMost(nanos) => {
                conditions.high = Some(conditions.high.map_or(*nanos, |high| high.min(*nanos)));
            }
            SpanHint::IsError => conditions.errors_only = true,
            SpanHint::TraceId(id) if id.is_none() => {}
            SpanHint::TraceId(id) => conditions = conditions.with_trace_id(*id),
        }
    }
    conditions
}

enum Part {
    Memory(RecordBatch),
    File(Arc<EventFile>),
    /// Pages still to read of a file, the newest last.
    Pages {
        file: Arc<EventFile>,
        tail: Arc<Tail>,
        pages: Vec<usize>,
        streams: Option<Arc<HashSet<u64>>>,
    },
}

struct Cursor<'a> {
    /// The newest last, each with a time after which none of its spans starts.
    parts: Vec<(i64, Part)>,
    /// Pages that were read before their turn, the newest last.
    ready: Vec<Ready>,
    conditions: Conditions,
    equals: Vec<Equals>,
    /// What of each span is read.
    wanted: SpanParts,
    helpers: &'a Helpers,
    budget: &'a Budget,
    /// For the batch that was handed out last.
    charged: u64,
}

/// Rows that are wanted of a page.
struct Ready {
    newest: i64,
    batch: RecordBatch,
    charged: u64,
}

/// A page that is to be read.
struct Page {
    newest: i64,
    file: Arc<EventFile>,
    tail: Arc<Tail>,
    number: usize,
    streams: Option<Arc<HashSet<u64>>>,
}

/// Pages that are read at once, at most: whole spans are large.
const PAGES_AT_ONCE: usize = 4;

impl Cursor<'_> {
    fn push_pages(&mut self, file: Arc<EventFile>, tail: Arc<Tail>, pages: Vec<usize>, streams: Option<Arc<HashSet<u64>>>) {
        if let Some(next) = pages.last() {
            let newest = tail.summary.pages[*next].max_ts;
            self.parts.push((newest, Part::Pages { file, tail, pages, streams }));
        }
    }

    /// Makes ready what the next part has, with the pages that come behind it where there is help.
    fn step(&mut self, (newest, part): (i64, Part)) -> Result<()> {
        match part {
            Part::Memory(batch) => {
                self.budget.scanned(batch.num_rows() as u64);
                let mut rows = self.conditions.rows_in_memory(&batch)?;
                self.equals.iter().try_for_each(|equals| equals.retain(&batch, &mut rows))?;
                self.add(newest, pick(&batch, rows)?)
            }
            Part::File(file) => match self.open(&file) {
                Err(error) if file.is_damaged(&error) => Ok(()),
                opened => opened,
            },
            Part::Pages { .. } => {
                self.parts.push((newest, part));
                let width = self.helpers.width().min(PAGES_AT_ONCE);
                let pages: Vec<Page> = std::iter::from_fn(|| self.next_page()).take(width).collect();
                self.budget.parts_done(pages.len() as u64);
                let read = self.helpers.each(pages, |page| {
                    let read = self.budget.check().and_then(|()| self.read(&page));
                    (page, read)
                });
                // A damaged page does not hide the others.
                for (page, read) in read.into_iter().rev() {
                    match read {
                        Ok(batch) => batch.map_or(Ok(()), |batch| self.add(page.newest, batch))?,
                        Err(error) if page.file.is_damaged(&error) => {}
                        Err(error) => return Err(error),
                    }
                }
                Ok(())
            }
        }
    }

    fn open(&mut self, file: &Arc<EventFile>) -> Result<()> {
        let tail = file.tail()?;
        let mut found = file.pages(&tail, &self.conditions)?;
        found.pages.sort_by_key(|page| tail.summary.pages[*page].max_ts);
        self.budget.expect_parts(found.pages.len() as u64)?;
        self.push_pages(file.clone(), tail, found.pages, found.streams.map(Arc::new));
        Ok(())
    }

    /// Takes the next page off the parts, where that is what comes next.
    fn next_page(&mut self) -> Option<Page> {
        let (newest, part) = self.parts.pop()?;
        let Part::Pages { file, tail, mut pages, streams } = part else {
            self.parts.push((newest, part));
            return None;
        };
        let page = pages.pop()?;
        self.push_pages(file.clone(), tail.clone(), pages, streams.clone());
        Some(Page { newest, file, tail, number: page, streams })
    }

    /// The rows of a page, or nothing when it has none.
    fn read(&self, Page { file, tail, number, streams, .. }: &Page) -> Result<Option<RecordBatch>> {
        let page_rows = tail.page_rows(*number);
        self.budget.scanned(page_rows.len() as u64);
        let ranges = if self.equals.is_empty() && file.holds_for_all(&tail.summary.pages[*number], &self.conditions) {
            vec![page_rows]
        } else {
            let columns = self.conditions.columns();
            let reads = |name: &str| columns.contains(&name) || self.equals.iter().any(|equals| equals.reads(&file.stats, name));
            let batch = file.read_selected(tail, std::slice::from_ref(&page_rows), reads)?;
            let mut rows = self.conditions.rows(&batch, streams.as_deref())?;
            self.equals.iter().try_for_each(|equals| equals.retain(&batch, &mut rows))?;
            file.retain_visible(tail, *number, &mut rows)?;
            ranges_of(&page_rows, &rows)
        };
        if ranges.is_empty() {
            return Ok(None);
        }
        file.read_selected(tail, &ranges, |name| is_read_of(&file.stats, name, &self.wanted)).map(Some)
    }

    fn add(&mut self, newest: i64, batch: RecordBatch) -> Result<()> {
        if batch.num_rows() > 0 {
            let charged = batch.get_array_memory_size() as u64;
            self.budget.charge(charged)?;
            self.ready.push(Ready { newest, batch, charged });
        }
        Ok(())
    }
}

pub(crate) fn pick(batch: &RecordBatch, rows: Vec<u32>) -> Result<RecordBatch> {
    if rows.len() == batch.num_rows() {
        return Ok(batch.clone());
    }
    take_record_batch(batch, &arrow::array::UInt32Array::from(rows)).map_err(crate::schema::damaged)
}

impl SpanCursor for Cursor<'_> {
    fn next_batch(&mut self) -> Result<Option<Vec<StoredSpan>>> {
        loop {
            self.budget.release(std::mem::take(&mut self.charged));
            self.budget.check()?;
            if let Some(Ready { batch, charged, .. }) = self.ready.pop() {
                self.charged = charged;
                let mut reader = SpanReader::new(&batch, &self.wanted)?;
                return (0..batch.num_rows()).map(|row| reader.span(row)).collect::<Result<_>>().map(Some);
            }
            let Some(part) = self.parts.pop() else { return Ok(None) };
            self.step(part)?;
        }
    }

    fn newest_left(&self) -> Option<Nanos> {
        // Those of an opened file lie on top of newer ones at times.
        let ready = self.ready.iter().map(|ready| ready.newest);
        Some(Nanos(self.parts.iter().map(|(newest, _)| *newest).chain(ready).max().unwrap_or(i64::MIN)))
    }
}

impl Drop for Cursor<'_> {
    fn drop(&mut self) {
        self.budget.release(self.charged + self.ready.iter().map(|ready| ready.charged).sum::<u64>());
    }
}
