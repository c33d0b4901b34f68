//! Many traces in one pass: every page that may hold one of them is looked through once, then their rows are read trace by trace.

use crate::conditions::Conditions;
use crate::file::{EventFile, Tail, ranges_of};
use crate::helpers::Helpers;
use crate::logs_codec::trace_id;
use crate::schema::{TRACE_ID, TS, column};
use crate::span_source::pick;
use crate::spans_codec::{SpanReader, is_read_of};
use crate::terms::trace_term;
use arrow::array::{FixedSizeBinaryArray, RecordBatch, TimestampNanosecondArray};
use arrow::compute::max;
use br_model::TraceId;
use br_std::{Nanos, Result};
use br_storage::{Budget, Held, SpanParts, StoredSpan, Table, TakeTrace, TimeRange};
use hashbrown::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// Traces are read together up to about this size, and one at least.
const CHUNK_BYTES: u64 = 32 << 20;
/// Rows that are read before it is known how large they are.
const FIRST_ROWS: u64 = 512;
const ROWS_MAX: u64 = 64 << 10;
/// What is kept for each trace that is looked for, about.
const WANTED_BYTES: u64 = 96;

/// Hands over the traces that are wanted, in their order.
pub(crate) fn read(
    batches: Vec<RecordBatch>,
    files: Vec<Arc<EventFile>>,
    wanted: &[(TraceId, TimeRange)],
    parts: &SpanParts,
    budget: &Budget,
    helpers: &Helpers,
    take: &mut TakeTrace<'_>,
) -> Result<()> {
    let mut held = Held::new(budget);
    held.add(wanted.len() as u64 * WANTED_BYTES)?;
    let mut search =
        Search { wanted, numbers: HashMap::new(), rows: vec![0; wanted.len()], places: Vec::new(), helpers, budget, held };
    for (number, (id, _)) in wanted.iter().enumerate() {
        if !id.is_none() {
            search.numbers.entry(*id).or_insert(number as u32);
        }
    }
    let (Some(from), Some(to)) =
        (wanted.iter().map(|(_, range)| range.from).min(), wanted.iter().map(|(_, range)| range.to).max())
    else {
        return Ok(());
    };
    search.find(batches, files, TimeRange::new(from, to))?;
    search.hand_over(parts, take)
}

/// Rows of traces that are wanted.
struct Place {
    rows: Rows,
    /// Number of the trace and of the row, by row.
    hits: Vec<(u32, u32)>,
}

enum Rows {
    Memory(RecordBatch),
    Page { file: Arc<EventFile>, tail: Arc<Tail>, page: usize },
}

struct Search<'a> {
    wanted: &'a [(TraceId, TimeRange)],
    numbers: HashMap<TraceId, u32>,
    /// How many of each trace were found.
    rows: Vec<u64>,
    places: Vec<Place>,
    helpers: &'a Helpers,
    budget: &'a Budget,
    held: Held<'a>,
}

type SpansOfPlace<'a> = (Vec<u32>, Vec<StoredSpan>, Held<'a>);

impl<'a> Search<'a> {
    /// Finds the places, the newest first.
    fn find(&mut self, batches: Vec<RecordBatch>, mut files: Vec<Arc<EventFile>>, range: TimeRange) -> Result<()> {
        let newest = |batch: &RecordBatch| column::<TimestampNanosecondArray>(batch, TS).ok().and_then(max);
        let mut batches: Vec<(Option<i64>, RecordBatch)> = batches.into_iter().map(|batch| (newest(&batch), batch)).collect();
        batches.sort_by_key(|(newest, _)| std::cmp::Reverse(*newest));
        for (_, batch) in batches {
            self.budget.check()?;
            let hits = self.hits(&batch)?;
            self.add(Rows::Memory(batch), hits)?;
        }
        let conditions = Conditions::new(Table::Spans, range);
        let terms: Vec<u64> = self.wanted.iter().map(|(id, _)| trace_term(*id)).collect();
        files.retain(|file| file.may_hold(&conditions));
        files.sort_by_key(|file| std::cmp::Reverse(file.entry.max_time));
        for file in files {
            self.budget.check()?;
            match self.find_in_file(&file, &conditions, &terms) {
                Err(error) if !file.is_damaged(&error) => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    fn find_in_file(&mut self, file: &Arc<EventFile>, conditions: &Conditions, terms: &[u64]) -> Result<()> {
        let tail = file.tail()?;
        let pages = file.pages_with_any(&tail, conditions, terms)?;
        self.budget.expect_parts(pages.len() as u64)?;
        let read = self.helpers.each(pages, |page| {
            self.budget.parts_done(1);
            (page, self.budget.check().and_then(|()| self.hits_in_page(file, &tail, page)))
        });
        for (page, hits) in read {
            match hits {
                Ok(hits) => self.add(Rows::Page { file: file.clone(), tail: tail.clone(), page }, hits)?,
                // A damaged page does not hide the others.
                Err(error) if file.is_damaged(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn hits_in_page(&self, file: &EventFile, tail: &Tail, page: usize) -> Result<Vec<(u32, u32)>> {
        let mut hits = self.hits(&file.read(tail, &[tail.page_rows(page)], &[TS, TRACE_ID])?)?;
        let mut rows: Vec<u32> = hits.iter().map(|(_, row)| *row).collect();
        file.retain_visible(tail, page, &mut rows)?;
        hits.retain(|(_, row)| rows.binary_search(row).is_ok());
        Ok(hits)
    }

    fn hits(&self, batch: &RecordBatch) -> Result<Vec<(u32, u32)>> {
        self.budget.scanned(batch.num_rows() as u64);
        let ids: &FixedSizeBinaryArray = column(batch, TRACE_ID)?;
        let times: &TimestampNanosecondArray = column(batch, TS)?;
        let hit = |row: u32| {
            let number = *self.numbers.get(&trace_id(ids, row as usize))?;
            self.wanted[number as usize].1.contains(Nanos(times.value(row as usize))).then_some((number, row))
        };
        Ok((0..batch.num_rows() as u32).filter_map(hit).collect())
    }

    fn add(&mut self, rows: Rows, hits: Vec<(u32, u32)>) -> Result<()> {
        if hits.is_empty() {
            return Ok(());
        }
        self.held.add(size_of::<Place>() as u64 + 8 * hits.len() as u64)?;
        for (number, _) in &hits {
            self.rows[*number as usize] += 1;
        }
        self.places.push(Place { rows, hits });
        Ok(())
    }

    fn hand_over(&mut self, parts: &SpanParts, take: &mut TakeTrace<'_>) -> Result<()> {
        let (mut from, mut rows_max) = (0, FIRST_ROWS);
        while from < self.wanted.len() {
            let mut rows = self.rows[from];
            let mut to = from + 1;
            while to < self.wanted.len() && rows + self.rows[to] <= rows_max {
                rows += self.rows[to];
                to += 1;
            }
            if rows > 0 {
                let mut held = Held::new(self.budget);
                let (traces, bytes) = self.chunk(from..to, parts, &mut held)?;
                let row_bytes = bytes.checked_div(rows).unwrap_or(0).max(1);
                rows_max = (CHUNK_BYTES / row_bytes).clamp(FIRST_ROWS, ROWS_MAX).min(rows_max.saturating_mul(16));
                for (number, spans) in (from..to).zip(traces).filter(|(_, spans)| !spans.is_empty()) {
                    held.give_back(spans.iter().map(StoredSpan::heap_bytes).sum());
                    if !take(self.wanted[number].0, spans)? {
                        return Ok(());
                    }
                }
            }
            from = to;
        }
        Ok(())
    }

    /// The spans of each trace of a range of numbers, and what they take.
    fn chunk(&self, numbers: Range<usize>, parts: &SpanParts, held: &mut Held<'_>) -> Result<(Vec<Vec<StoredSpan>>, u64)> {
        let mut traces = vec![Vec::new(); numbers.len()];
        let mut bytes = 0;
        for read in self.helpers.each(self.places.iter().collect(), |place| self.spans_of(place, &numbers, parts)) {
            let (of_traces, spans, of_place) = read?;
            let more = spans.iter().map(StoredSpan::heap_bytes).sum();
            drop(of_place);
            held.add(more)?;
            bytes += more;
            for (number, stored) in of_traces.into_iter().zip(spans) {
                traces[number as usize - numbers.start].push(stored);
            }
        }
        Ok((traces, bytes))
    }

    /// What a place has of a range of numbers: the number of its trace for each span, and what they are charged for.
    fn spans_of(&self, place: &Place, numbers: &Range<usize>, parts: &SpanParts) -> Result<SpansOfPlace<'a>> {
        let hits = place.hits.iter().filter(|(number, _)| numbers.contains(&(*number as usize)));
        let (of_traces, rows): (Vec<u32>, Vec<u32>) = hits.copied().unzip();
        let mut of_spans = Held::new(self.budget);
        if rows.is_empty() {
            return Ok((Vec::new(), Vec::new(), of_spans));
        }
        self.budget.check()?;
        let batch = match (place.batch(rows, parts), &place.rows) {
            (Ok(batch), _) => batch,
            (Err(error), Rows::Page { file, .. }) if file.is_damaged(&error) => return Ok((Vec::new(), Vec::new(), of_spans)),
            (Err(error), _) => return Err(error),
        };
        let mut of_batch = Held::new(self.budget);
        of_batch.add(batch.get_array_memory_size() as u64)?;
        let mut reader = SpanReader::new(&batch, parts)?;
        let mut spans = Vec::with_capacity(of_traces.len());
        for row in 0..of_traces.len() {
            let stored = reader.span(row)?;
            of_spans.add(stored.heap_bytes())?;
            spans.push(stored);
        }
        Ok((of_traces, spans, of_spans))
    }
}

impl Place {
    /// These rows alone.
    fn batch(&self, rows: Vec<u32>, parts: &SpanParts) -> Result<RecordBatch> {
        match &self.rows {
            Rows::Memory(batch) => pick(batch, rows),
            Rows::Page { file, tail, page } => {
                file.read_selected(tail, &ranges_of(&tail.page_rows(*page), &rows), |name| is_read_of(&file.stats, name, parts))
            }
        }
    }
}
