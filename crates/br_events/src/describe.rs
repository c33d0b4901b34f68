//! What the summary of a file says of its rows, gathered page by page.

use crate::schema::{DURATION, KIND, NAME, RESOURCE, SERVICE, SEVERITY, STATUS, STREAM, TS, column};
use crate::summary::{FORMAT, NAMES_MAX, PageSummary, StreamSummary, Summary};
use arrow::array::{
    ArrayAccessor, DictionaryArray, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray, UInt8Array, UInt64Array,
};
use arrow::datatypes::Int32Type;
use br_std::{Error, Result};
use br_storage::Table;
use std::collections::{BTreeMap, BTreeSet};

/// Pages come in the order of the file: services follow each other, and in `logs` the streams of each.
pub(crate) struct Describer {
    table: Table,
    services: Vec<String>,
    /// By the number of the service and the id.
    streams: BTreeMap<(usize, u64), StreamSummary>,
    operations: BTreeMap<String, BTreeSet<String>>,
    pages: Vec<PageSummary>,
}

impl Describer {
    pub(crate) fn new(table: Table) -> Self {
        Self { table, services: Vec::new(), streams: BTreeMap::new(), operations: BTreeMap::new(), pages: Vec::new() }
    }

    pub(crate) fn add(&mut self, page: &RecordBatch) -> Result<()> {
        let services: &StringArray = column(page, SERVICE)?;
        let (mut first_service, mut first_stream) = (None, None);
        let mut from = 0;
        while from < page.num_rows() {
            let service = services.value(from);
            let to = (from..page.num_rows()).find(|row| services.value(*row) != service).unwrap_or(page.num_rows());
            match self.services.last() {
                Some(last) if last == service => {}
                Some(last) if last.as_str() > service => return Err(Error::corrupt("rows out of order: a service came before")),
                _ => self.services.push(service.to_owned()),
            }
            first_service = first_service.or(Some(self.services.len() - 1));
            let stream = self.add_streams(page, from..to)?;
            first_stream = first_stream.or(Some(stream));
            if self.table == Table::Spans {
                self.add_operations(page, service, from..to)?;
            }
            from = to;
        }
        let last_service = self.services.len().saturating_sub(1);
        let mut summary = self.page_summary(page)?;
        summary.services = (first_service.unwrap_or(0), last_service);
        // In `logs` numbers of streams are final: later ones stand behind.
        summary.streams = (first_stream.unwrap_or(0), self.streams.len().saturating_sub(1));
        self.pages.push(summary);
        Ok(())
    }

    /// Adds the streams of rows of the newest service; the number of the first row's one among all.
    fn add_streams(&mut self, page: &RecordBatch, rows: std::ops::Range<usize>) -> Result<usize> {
        let streams: &UInt64Array = column(page, STREAM)?;
        let times: &TimestampNanosecondArray = column(page, TS)?;
        let service = self.services.len() - 1;
        let resources_of: &DictionaryArray<Int32Type> = column(page, RESOURCE)?;
        let texts = resources_of.downcast_dict::<StringArray>();
        let before = self.streams.len();
        let is_known = self.streams.contains_key(&(service, streams.value(rows.start)));
        for row in rows {
            let (id, time) = (streams.value(row), times.value(row));
            let stream = self.streams.entry((service, id)).or_insert_with(|| {
                let resource = texts.as_ref().map_or("{}", |texts| texts.value(row));
                StreamSummary { id, resource: resource.to_owned(), min_ts: time, max_ts: time }
            });
            stream.min_ts = stream.min_ts.min(time);
            stream.max_ts = stream.max_ts.max(time);
        }
        Ok(if is_known { before - 1 } else { before })
    }

    fn add_operations(&mut self, page: &RecordBatch, service: &str, rows: std::ops::Range<usize>) -> Result<()> {
        let names: &StringArray = column(page, NAME)?;
        let known = self.operations.entry(service.to_owned()).or_default();
        let mut last = None;
        for row in rows {
            let name = names.value(row);
            if last != Some(name) && known.len() < NAMES_MAX {
                known.insert(name.to_owned());
            }
            last = Some(name);
        }
        Ok(())
    }

    fn page_summary(&self, page: &RecordBatch) -> Result<PageSummary> {
        let times: &TimestampNanosecondArray = column(page, TS)?;
        let (low, high, errors) = if self.table == Table::Spans {
            let durations: &Int64Array = column(page, DURATION)?;
            let statuses: &StringArray = column(page, STATUS)?;
            let low = arrow::compute::min(durations).unwrap_or(0);
            let high = arrow::compute::max(durations).unwrap_or(0);
            (low, high, statuses.iter().any(|status| status == Some("error")))
        } else {
            let severities: &UInt8Array = column(page, SEVERITY)?;
            let kinds: &StringArray = column(page, KIND)?;
            let low = i64::from(arrow::compute::min(severities).unwrap_or(0));
            let high = i64::from(arrow::compute::max(severities).unwrap_or(0));
            (low, high, kinds.iter().any(|kind| kind == Some("error")))
        };
        Ok(PageSummary {
            min_ts: arrow::compute::min(times).unwrap_or(0),
            max_ts: arrow::compute::max(times).unwrap_or(0),
            services: (0, 0),
            streams: (0, 0),
            low,
            high,
            errors,
        })
    }

    /// All but the segments.
    pub(crate) fn finish(mut self) -> Summary {
        if self.table == Table::Spans {
            // Rows of spans go by name within a service, so that a page may have any of the streams.
            let last = self.streams.len().saturating_sub(1);
            self.pages.iter_mut().for_each(|page| page.streams = (0, last));
        }
        let operations = self.operations.into_iter().map(|(service, names)| (service, names.into_iter().collect()));
        Summary {
            format: FORMAT,
            services: self.services,
            streams: self.streams.into_values().collect(),
            operations: operations.collect(),
            pages: self.pages,
            ..Summary::default()
        }
    }
}
