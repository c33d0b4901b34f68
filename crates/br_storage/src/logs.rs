//! Reading log records.

use crate::{Budget, Direction, Matcher, TimeRange};
use br_model::{Labels, LogKind, Severity, SpanId, TraceId};
use br_std::{Nanos, Result};

/// Which records.
#[derive(Clone, Debug)]
pub struct LogQuery {
    pub range: TimeRange,
    /// On the stream's labels: the attributes of the resource, named as [`br_model::names::label_name`] names them. All must hold.
    pub streams: Vec<Matcher>,
    /// Only this kind; `None` for all.
    pub kind: Option<LogKind>,
    /// What the caller will keep only. A store may use these to skip, and may hand out rows that fail them.
    pub hints: Vec<LogHint>,
    pub direction: Direction,
    /// The caller may stop early; a store that can, reads less when it knows how many rows are wanted.
    pub rows_wanted: Option<usize>,
}

/// A condition that every row the caller keeps will satisfy.
#[derive(Clone, Debug, PartialEq)]
pub enum LogHint {
    /// The line contains these bytes.
    LineContains(String),
    /// An attribute of the record or of its resource, by its label name, has this text.
    AttributeEquals {
        name: String,
        value: String,
    },
    TraceId(TraceId),
    SeverityAtLeast(Severity),
}

/// One tenant's records.
pub trait LogSource: Send + Sync {
    /// Rows in the order of `query.direction` over all streams; rows of the same time in no particular order.
    fn scan<'a>(&'a self, query: &LogQuery, budget: &'a Budget) -> Result<Box<dyn LogCursor + 'a>>;

    /// The label sets of the streams that match and have a record in the range, sorted.
    fn streams(&self, range: TimeRange, matchers: &[Matcher], budget: &Budget) -> Result<Vec<Labels>>;
}

pub trait LogCursor {
    /// `None` at the end.
    fn next_batch(&mut self) -> Result<Option<Vec<LogRow>>>;
}

#[derive(Clone, Debug, PartialEq)]
pub struct LogRow {
    pub timestamp: Nanos,
    pub stream: Labels,
    pub line: String,
    pub kind: LogKind,
    pub severity: Severity,
    pub trace_id: TraceId,
    pub span_id: SpanId,
    /// The record's own attributes, by label name, in the order in which they came: what LogQL calls structured metadata.
    /// `trace_id`, `span_id` and `severity_text` are among them where the record has them, and the word of a known severity as
    /// `detected_level`, as in Loki.
    pub metadata: Vec<(String, String)>,
}
