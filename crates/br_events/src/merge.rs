//! The rows of several files in the order of one, a page at a time: of each file one page is held, and no more.

use crate::file::{EventFile, Tail};
use crate::order::{PageRoom, row_bytes};
use crate::promote::{Promotion, Widener, narrow};
use crate::schema::{ATTRIBUTE_ORDER, LOGS, NAME, SERVICE, SPANS, STREAM, TS, column, damaged};
use arrow::array::{
    Array, ArrayRef, BinaryArray, RecordBatch, StringArray, TimestampNanosecondArray, UInt64Array, new_null_array,
};
use arrow::compute::interleave_record_batch;
use arrow::datatypes::SchemaRef;
use br_std::Result;
use br_storage::Table;
use std::sync::Arc;

pub(crate) struct Merge {
    inputs: Vec<Input>,
    adapter: Adapter,
}

/// One file, and its page that is being merged.
struct Input {
    file: Arc<EventFile>,
    tail: Arc<Tail>,
    /// The page to be read next.
    page: usize,
    current: Option<Page>,
}

/// A page with what its rows are ordered by.
struct Page {
    batch: RecordBatch,
    services: StringArray,
    second: Second,
    times: TimestampNanosecondArray,
    sizes: Vec<usize>,
    /// The row that is next.
    row: usize,
}

enum Second {
    Streams(UInt64Array),
    Names(StringArray),
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct RowKey<'a> {
    service: &'a str,
    stream: u64,
    name: &'a str,
    time: i64,
}

impl Page {
    fn new(table: Table, batch: RecordBatch) -> Result<Self> {
        let second = if table == Table::Spans {
            Second::Names(column::<StringArray>(&batch, NAME)?.clone())
        } else {
            Second::Streams(column::<UInt64Array>(&batch, STREAM)?.clone())
        };
        let (services, times) =
            (column::<StringArray>(&batch, SERVICE)?.clone(), column::<TimestampNanosecondArray>(&batch, TS)?.clone());
        Ok(Self { sizes: row_bytes(&batch), services, second, times, row: 0, batch })
    }

    fn key(&self) -> RowKey<'_> {
        let (stream, name) = match &self.second {
            Second::Streams(ids) => (ids.value(self.row), ""),
            Second::Names(names) => (0, names.value(self.row)),
        };
        RowKey { service: self.services.value(self.row), stream, name, time: self.times.value(self.row) }
    }
}

impl Input {
    /// Reads the next page where there is none.
    fn fill(&mut self, table: Table, adapter: &mut Adapter) -> Result<()> {
        while self.current.is_none() && self.page < self.tail.summary.pages.len() {
            let rows = self.tail.page_rows(self.page);
            let read = self.file.read_selected(&self.tail, &[rows], |_| true).inspect_err(|error| {
                self.file.is_damaged(error);
            })?;
            let read = self.file.visible(&self.tail, self.page, read)?;
            self.page += 1;
            if read.num_rows() > 0 {
                self.current = Some(Page::new(table, adapter.adapt(&self.file, &read)?)?);
            }
        }
        Ok(())
    }
}

impl Merge {
    /// Pages will have the columns of `promotion`.
    pub(crate) fn new(table: Table, files: &[Arc<EventFile>], promotion: &Promotion) -> Result<Self> {
        let inputs = files.iter().map(|file| {
            let tail = file.tail().inspect_err(|error| {
                file.is_damaged(error);
            })?;
            Ok(Input { file: file.clone(), tail, page: 0, current: None })
        });
        Ok(Self { inputs: inputs.collect::<Result<_>>()?, adapter: Adapter::new(table, promotion) })
    }

    /// The next rows, as many as make a page.
    pub(crate) fn next_page(&mut self) -> Result<Option<RecordBatch>> {
        let mut sources: Vec<RecordBatch> = Vec::new();
        // By input: the number of its page among the sources.
        let mut numbers: Vec<Option<usize>> = vec![None; self.inputs.len()];
        let mut rows: Vec<(usize, usize)> = Vec::new();
        let mut room = PageRoom::default();
        'page: loop {
            let Some((at, bound)) = self.next_input()? else { break };
            let number = *numbers[at].get_or_insert_with(|| {
                sources.extend(self.inputs[at].current.as_ref().map(|page| page.batch.clone()));
                sources.len() - 1
            });
            // Keys of the other inputs do not change while rows of this one are taken.
            let mut page = self.inputs[at].current.take();
            let limit = bound.and_then(|other| self.inputs[other].current.as_ref().map(|page| (page.key(), at < other)));
            while let Some(taken) = &mut page {
                let is_next = limit.is_none_or(|(key, is_first)| taken.key() < key || taken.key() == key && is_first);
                if !is_next {
                    break;
                }
                if !room.take(taken.sizes[taken.row]) {
                    self.inputs[at].current = page;
                    break 'page;
                }
                rows.push((number, taken.row));
                taken.row += 1;
                if taken.row == taken.batch.num_rows() {
                    (page, numbers[at]) = (None, None);
                }
            }
            self.inputs[at].current = page;
        }
        if rows.is_empty() {
            return Ok(None);
        }
        interleave_record_batch(&sources.iter().collect::<Vec<_>>(), &rows).map(Some).map_err(damaged)
    }

    /// The input whose row is next, and the one whose row would be next without it.
    fn next_input(&mut self) -> Result<Option<(usize, Option<usize>)>> {
        let table = self.adapter.table;
        for input in &mut self.inputs {
            input.fill(table, &mut self.adapter)?;
        }
        let mut first: Option<(usize, RowKey<'_>)> = None;
        let mut second = first;
        for (at, input) in self.inputs.iter().enumerate() {
            let Some(key) = input.current.as_ref().map(Page::key) else { continue };
            if first.is_none_or(|(_, least)| key < least) {
                (first, second) = (Some((at, key)), first);
            } else if second.is_none_or(|(_, least)| key < least) {
                second = Some((at, key));
            }
        }
        Ok(first.map(|(at, _)| (at, second.map(|(at, _)| at))))
    }
}

/// Gives pages of files the columns of another promotion.
struct Adapter {
    table: Table,
    promotion: Promotion,
    schema: SchemaRef,
    widener: Widener,
}

impl Adapter {
    fn new(table: Table, promotion: &Promotion) -> Self {
        let narrow = if table == Table::Spans { &SPANS } else { &LOGS };
        Self { table, promotion: promotion.clone(), schema: promotion.schema(narrow), widener: Widener::new(promotion.clone()) }
    }

    fn adapt(&mut self, file: &EventFile, page: &RecordBatch) -> Result<RecordBatch> {
        let has = Promotion::of_schema(page.schema_ref());
        if !self.is_kept_whole(&has, file) || !self.keeps_order(&has, page) {
            return self.widener.widen(&narrow(page)?);
        }
        let column_of = |name: &str, data_type| -> ArrayRef {
            page.column_by_name(name).cloned().unwrap_or_else(|| new_null_array(data_type, page.num_rows()))
        };
        let arrays = self.schema.fields().iter().map(|field| column_of(field.name(), field.data_type())).collect();
        RecordBatch::try_new(self.schema.clone(), arrays).map_err(damaged)
    }

    /// Whether what has a column keeps it, and nothing that is in the map gets one.
    fn is_kept_whole(&self, has: &Promotion, file: &EventFile) -> bool {
        let wanted = self.promotion.columns();
        let is_in_map = |key: &(String, u8)| file.stats.may_have_key(&key.0, key.1) && !has.columns().contains(key);
        has.columns().iter().all(|key| wanted.contains(key)) && !wanted.iter().any(is_in_map)
    }

    /// Whether the numbers of attributes stay right where a record repeats a key.
    fn keeps_order(&self, has: &Promotion, page: &RecordBatch) -> bool {
        let orders = page.column_by_name(ATTRIBUTE_ORDER).and_then(|array| array.as_any().downcast_ref::<BinaryArray>());
        if orders.is_none_or(|orders| orders.null_count() == orders.len()) {
            return true;
        }
        let mut wanted = self.promotion.columns().iter();
        has.columns().iter().all(|key| wanted.any(|other| other == key))
    }
}
