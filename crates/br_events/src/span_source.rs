//! Reading spans newest first, by file and page.

use crate::conditions::Conditions;
use crate::equals::Equals;
use crate::file::{EventFile, Tail, ranges_of};
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

    fn cursor<'a>(&self, query: &SpanQuery, budget: &'a Budget) -> Cursor<'a> {
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
        Cursor { parts, equals: equals.collect(), conditions, wanted: query.parts.clone(), budget, charged: 0 }
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
        traces::read(batches, files, wanted, parts, budget, take)
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
    conditions: Conditions,
    equals: Vec<Equals>,
    /// What of each span is read.
    wanted: SpanParts,
    budget: &'a Budget,
    /// For the batch that was handed out last.
    charged: u64,
}

impl Cursor<'_> {
    fn push_pages(&mut self, file: Arc<EventFile>, tail: Arc<Tail>, pages: Vec<usize>, streams: Option<Arc<HashSet<u64>>>) {
        if let Some(next) = pages.last() {
            let newest = tail.summary.pages[*next].max_ts;
            self.parts.push((newest, Part::Pages { file, tail, pages, streams }));
        }
    }

    /// The rows of the next part, or nothing when it has none.
    fn step(&mut self, part: Part) -> Result<Option<RecordBatch>> {
        let (file, tail, mut pages, streams) = match part {
            Part::Memory(batch) => {
                self.budget.scanned(batch.num_rows() as u64);
                let mut rows = self.conditions.rows_in_memory(&batch)?;
                self.equals.iter().try_for_each(|equals| equals.retain(&batch, &mut rows))?;
                return Ok(Some(pick(&batch, rows)?));
            }
            Part::File(file) => {
                let tail = file.tail()?;
                let mut found = file.pages(&tail, &self.conditions)?;
                found.pages.sort_by_key(|page| tail.summary.pages[*page].max_ts);
                self.budget.expect_parts(found.pages.len() as u64)?;
                self.push_pages(file, tail, found.pages, found.streams.map(Arc::new));
                return Ok(None);
            }
            Part::Pages { file, tail, pages, streams } => (file, tail, pages, streams),
        };
        let Some(page) = pages.pop() else { return Ok(None) };
        // Before reading: a damaged page does not hide the others.
        self.push_pages(file.clone(), tail.clone(), pages, streams.clone());
        let page_rows = tail.page_rows(page);
        self.budget.parts_done(1);
        self.budget.scanned(page_rows.len() as u64);
        let ranges = if self.equals.is_empty() && file.holds_for_all(&tail.summary.pages[page], &self.conditions) {
            vec![page_rows]
        } else {
            let columns = self.conditions.columns();
            let reads = |name: &str| columns.contains(&name) || self.equals.iter().any(|equals| equals.reads(&file.stats, name));
            let batch = file.read_selected(&tail, std::slice::from_ref(&page_rows), reads)?;
            let mut rows = self.conditions.rows(&batch, streams.as_deref())?;
            self.equals.iter().try_for_each(|equals| equals.retain(&batch, &mut rows))?;
            file.retain_visible(&tail, page, &mut rows)?;
            ranges_of(&page_rows, &rows)
        };
        if ranges.is_empty() {
            return Ok(None);
        }
        file.read_selected(&tail, &ranges, |name| is_read_of(&file.stats, name, &self.wanted)).map(Some)
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
        while let Some((_, part)) = self.parts.pop() {
            self.budget.release(std::mem::take(&mut self.charged));
            self.budget.check()?;
            let file = match &part {
                Part::File(file) | Part::Pages { file, .. } => Some(file.clone()),
                Part::Memory(_) => None,
            };
            let batch = match (self.step(part), file) {
                (Ok(Some(batch)), _) if batch.num_rows() > 0 => batch,
                (Ok(_), _) => continue,
                (Err(error), Some(file)) if file.is_damaged(&error) => continue,
                (Err(error), _) => return Err(error),
            };
            let bytes = batch.get_array_memory_size() as u64;
            self.budget.charge(bytes)?;
            self.charged = bytes;
            let mut reader = SpanReader::new(&batch, &self.wanted)?;
            return (0..batch.num_rows()).map(|row| reader.span(row)).collect::<Result<_>>().map(Some);
        }
        Ok(None)
    }

    fn newest_left(&self) -> Option<Nanos> {
        // Those of an opened file lie on top of newer ones at times.
        Some(Nanos(self.parts.iter().map(|(newest, _)| *newest).max().unwrap_or(i64::MIN)))
    }
}

impl Drop for Cursor<'_> {
    fn drop(&mut self) {
        self.budget.release(self.charged);
    }
}
