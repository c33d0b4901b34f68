//! What a query asks of rows, as far as the store can use it: on pages by their summary and filter, on rows by a few columns.

use crate::logs_codec::{kind_text, trace_id};
use crate::numbers::NumberBetween;
use crate::origin;
use crate::schema::{DURATION, KIND, SERVICE, SEVERITY, STATUS, STREAM, TRACE_ID, TS, column};
use crate::summary::{PageSummary, Summary};
use crate::terms::{Terms, trace_term};
use arrow::array::{
    FixedSizeBinaryArray, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray, UInt8Array, UInt64Array,
};
use br_model::{Labels, LogKind, TraceId};
use br_std::{Nanos, Result};
use br_storage::{Matcher, Table, TimeRange};
use hashbrown::{HashMap, HashSet};

/// All of these must hold.
#[derive(Clone, Debug)]
pub(crate) struct Conditions {
    pub(crate) table: Table,
    pub(crate) range: TimeRange,
    pub(crate) services: Option<Vec<String>>,
    pub(crate) streams: Vec<Matcher>,
    /// Terms that a page's filter must hold, all of them.
    pub(crate) terms: Terms,
    pub(crate) kind: Option<LogKind>,
    pub(crate) trace_id: Option<TraceId>,
    /// Bounds of severity number (logs) or duration (spans), both included.
    pub(crate) low: Option<i64>,
    pub(crate) high: Option<i64>,
    /// Status error; for spans.
    pub(crate) errors_only: bool,
    /// Of pages only.
    pub(crate) numbers: Vec<NumberBetween>,
}

impl Conditions {
    pub(crate) fn new(table: Table, range: TimeRange) -> Self {
        Self {
            table,
            range,
            services: None,
            streams: Vec::new(),
            terms: Terms::default(),
            kind: None,
            trace_id: None,
            low: None,
            high: None,
            errors_only: false,
            numbers: Vec::new(),
        }
    }

    pub(crate) fn with_trace_id(mut self, id: TraceId) -> Self {
        self.terms.whole.push(trace_term(id));
        self.trace_id = Some(id);
        self
    }

    /// Whether nothing is asked of a row but its time and its stream.
    pub(crate) fn is_of_streams_and_times(&self) -> bool {
        // All of them: what comes to be a condition later is one of rows until it is said otherwise.
        let Self { table: _, range: _, services, streams: _, terms, kind, trace_id, low, high, errors_only, numbers } = self;
        services.is_none()
            && terms.is_empty()
            && kind.is_none()
            && trace_id.is_none()
            && low.is_none()
            && high.is_none()
            && !errors_only
            && numbers.is_empty()
    }

    pub(crate) fn allows_service(&self, service: &str) -> bool {
        self.services.as_ref().is_none_or(|services| services.iter().any(|allowed| allowed == service))
    }

    /// Whether a page can hold a row, by its summary. `streams` are the numbers of the streams that match.
    pub(crate) fn allows_page(&self, page: &PageSummary, summary: &Summary, streams: Option<&[usize]>) -> bool {
        let (first, last) = page.services;
        let services = || summary.services.get(first..=last).unwrap_or_default();
        let (first_stream, last_stream) = page.streams;
        self.range.overlaps(Nanos(page.min_ts), Nanos(page.max_ts))
            && self.low.is_none_or(|low| page.high >= low)
            && self.high.is_none_or(|high| page.low <= high)
            && (page.errors || !self.errors_only && self.kind != Some(LogKind::Error))
            && (self.services.is_none() || services().iter().any(|service| self.allows_service(service)))
            && streams.is_none_or(|streams| {
                let at = streams.partition_point(|stream| *stream < first_stream);
                streams.get(at).is_some_and(|stream| *stream <= last_stream)
            })
    }

    /// The numbers of a file's streams that match, sorted.
    pub(crate) fn matching_streams(&self, streams: &[Labels]) -> Vec<usize> {
        let matches = |labels: &Labels| self.streams.iter().all(|matcher| matcher.matches_labels(labels));
        (0..streams.len()).filter(|number| matches(&streams[*number])).collect()
    }

    /// The columns that [`Self::rows`] looks at.
    pub(crate) fn columns(&self) -> Vec<&'static str> {
        let mut columns = vec![TS];
        let mut need = |is_needed: bool, name| {
            if is_needed {
                columns.push(name);
            }
        };
        need(self.services.is_some(), SERVICE);
        need(!self.streams.is_empty(), STREAM);
        need(self.kind.is_some(), KIND);
        need(self.trace_id.is_some(), TRACE_ID);
        let bounded = self.low.is_some() || self.high.is_some();
        need(bounded && self.table == Table::Logs, SEVERITY);
        need(bounded && self.table == Table::Spans, DURATION);
        need(self.errors_only, STATUS);
        columns
    }

    /// Whether each row of a page with these times holds without looking.
    pub(crate) fn holds_for_all(&self, page: &PageSummary) -> bool {
        self.columns().len() == 1 && self.range.contains(Nanos(page.min_ts)) && self.range.contains(Nanos(page.max_ts))
    }

    /// The rows that hold, ascending. `streams` are the ids of the streams that match.
    pub(crate) fn rows(&self, batch: &RecordBatch, streams: Option<&HashSet<u64>>) -> Result<Vec<u32>> {
        let times: &TimestampNanosecondArray = column(batch, TS)?;
        let mut rows: Vec<u32> =
            (0..batch.num_rows() as u32).filter(|row| self.range.contains(Nanos(times.value(*row as usize)))).collect();
        if self.services.is_some() {
            let services: &StringArray = column(batch, SERVICE)?;
            rows.retain(|row| self.allows_service(services.value(*row as usize)));
        }
        if let Some(streams) = streams {
            let ids: &UInt64Array = column(batch, STREAM)?;
            rows.retain(|row| streams.contains(&ids.value(*row as usize)));
        }
        if let Some(kind) = self.kind {
            let kinds: &StringArray = column(batch, KIND)?;
            rows.retain(|row| kinds.value(*row as usize) == kind_text(kind));
        }
        if let Some(id) = self.trace_id {
            let ids: &FixedSizeBinaryArray = column(batch, TRACE_ID)?;
            rows.retain(|row| trace_id(ids, *row as usize) == id);
        }
        if self.low.is_some() || self.high.is_some() {
            let within = |value: i64| self.low.is_none_or(|low| value >= low) && self.high.is_none_or(|high| value <= high);
            if self.table == Table::Spans {
                let durations: &Int64Array = column(batch, DURATION)?;
                rows.retain(|row| within(durations.value(*row as usize)));
            } else {
                let severities: &UInt8Array = column(batch, SEVERITY)?;
                rows.retain(|row| within(i64::from(severities.value(*row as usize))));
            }
        }
        if self.errors_only {
            let statuses: &StringArray = column(batch, STATUS)?;
            rows.retain(|row| statuses.value(*row as usize) == "error");
        }
        Ok(rows)
    }

    /// The rows of a batch in memory that hold, ascending.
    pub(crate) fn rows_in_memory(&self, batch: &RecordBatch) -> Result<Vec<u32>> {
        if self.streams.is_empty() {
            return self.rows(batch, None);
        }
        let ids: &UInt64Array = column(batch, STREAM)?;
        let mut labels = origin::labels(batch)?;
        let mut seen: HashMap<u64, bool> = HashMap::new();
        for row in 0..batch.num_rows() {
            let id = ids.value(row);
            if !seen.contains_key(&id) {
                let labels = labels.get(row)?;
                seen.insert(id, self.streams.iter().all(|matcher| matcher.matches_labels(&labels)));
            }
        }
        let matching: HashSet<u64> = seen.into_iter().filter(|(_, matches)| *matches).map(|(id, _)| id).collect();
        self.rows(batch, Some(&matching))
    }
}
