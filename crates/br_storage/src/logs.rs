//! Reading log records.

use crate::{Budget, Direction, LineTest, Matcher, TimeRange};
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
    /// No row is handed out whose line fails one of these. Unlike hints they are exact: the caller does not look again.
    pub line_tests: Vec<LineTest>,
    /// What of a row the caller looks at.
    pub needs: LogNeeds,
    /// How exactly who takes groups looks at times.
    pub times: TimeNeed,
    pub direction: Direction,
    /// The caller may stop early; a store that can, reads less when it knows how many rows are wanted.
    pub rows_wanted: Option<usize>,
}

impl LogQuery {
    /// All records of a range, whole, the newest first.
    pub fn new(range: TimeRange) -> Self {
        Self {
            range,
            streams: Vec::new(),
            kind: None,
            hints: Vec::new(),
            line_tests: Vec::new(),
            needs: LogNeeds::ALL,
            times: TimeNeed::Exact,
            direction: Direction::Backward,
            rows_wanted: None,
        }
    }

    /// Whether a line passes all tests.
    pub fn passes(&self, line: &str) -> bool {
        self.line_tests.iter().all(|test| test.holds(line))
    }
}

/// What rows carry. The rest of a row is left empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogNeeds {
    pub line: LineNeed,
    /// Label names of the metadata that is looked at, the derived ones included; `None` for all, and then the row's kind, severity
    /// and ids too.
    pub metadata: Option<Vec<String>>,
    /// The one among these whose value is looked at as a number only: rows that differ in it alone may be taken together, see
    /// [`LogGroup::numbers`].
    pub number: Option<String>,
    /// Of the stream's labels, too, only these names are looked at; a row's stream then has no others.
    pub is_stream_cut: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LineNeed {
    Nothing,
    /// How many bytes it has.
    Length,
    Text,
}

impl LogNeeds {
    pub const ALL: Self = Self::whole(LineNeed::Text);

    /// With all metadata.
    pub const fn whole(line: LineNeed) -> Self {
        Self { line, metadata: None, number: None, is_stream_cut: false }
    }

    /// With the metadata of these label names.
    pub fn named(line: LineNeed, names: Vec<String>) -> Self {
        Self { line, metadata: Some(names), number: None, is_stream_cut: false }
    }

    /// What of a stream's labels a row carries.
    pub fn stream(&self, labels: &Labels) -> Labels {
        match &self.metadata {
            Some(names) if self.is_stream_cut => labels.without(|label| names.iter().all(|name| name != label)),
            _ => labels.clone(),
        }
    }

    pub fn metadata_named(&self, name: &str) -> bool {
        self.metadata.as_ref().is_none_or(|names| names.iter().any(|known| known == name))
    }

    /// Whether rows with the same stream and metadata are alike.
    pub fn can_group(&self) -> bool {
        self.line < LineNeed::Text && self.metadata.is_some()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeNeed {
    /// Each row's own time.
    Exact,
    /// Only between which marks of these it lies. A mark belongs to what is before it.
    Between([Marks; 2]),
}

/// Points in time at `origin + n * width`, for every whole n; nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    pub origin: i64,
    /// At least 1.
    pub width: i64,
}

impl TimeNeed {
    /// Whether times after `start`, up to and including `end`, need not be told apart.
    pub fn are_alike(self, start: i64, end: i64) -> bool {
        let Self::Between(all) = self else { return false };
        all.iter().all(|marks| {
            let (width, since) = (i128::from(marks.width.max(1)), i128::from(start) - i128::from(marks.origin));
            let next = i128::from(start) + width - since.rem_euclid(width);
            next >= i128::from(end)
        })
    }
}

/// A condition that every row the caller keeps will satisfy.
#[derive(Clone, Debug, PartialEq)]
pub enum LogHint {
    /// The line contains these bytes.
    LineContains(String),
    /// The words of this text stand in the line, one after the other, with something that belongs to no word around them all.
    LineHasWords(String),
    /// An attribute of the record or of its resource, by its label name, has this text.
    AttributeEquals {
        name: String,
        value: String,
    },
    TraceId(TraceId),
    SeverityAtLeast(Severity),
    /// The record or its resource has an attribute of this label name; where it is a number, it lies between these, both included.
    NumberBetween {
        name: String,
        low: f64,
        high: f64,
    },
    /// One of these.
    AnyOf(Vec<LogHint>),
}

/// One tenant's records.
pub trait LogSource: Send + Sync {
    /// Rows in the order of `query.direction` over all streams; rows of the same time in no particular order.
    fn scan<'a>(&'a self, query: &LogQuery, budget: &'a Budget) -> Result<Box<dyn LogCursor + 'a>>;

    /// The same rows for whoever can do with them in groups and only roughly in the order of time, the oldest first: what comes
    /// together may overlap what came before, see [`LogGroupCursor::reached`].
    fn scan_groups<'a>(&'a self, query: &LogQuery, budget: &'a Budget) -> Result<Box<dyn LogGroupCursor + 'a>> {
        scan_in_order(self, query, budget)
    }

    /// The label sets of the streams that match and have a record in the range, sorted.
    fn streams(&self, range: TimeRange, matchers: &[Matcher], budget: &Budget) -> Result<Vec<Labels>>;
}

pub trait LogCursor {
    /// `None` at the end.
    fn next_batch(&mut self) -> Result<Option<Vec<LogRow>>>;

    /// What was looked at so far to find the rows: those too that a line test dropped.
    fn seen(&self) -> LinesSeen;
}

pub trait LogGroupCursor {
    /// `None` at the end.
    fn next_batch(&mut self) -> Result<Option<Vec<LogGroup>>>;

    /// No row that is still to come is earlier.
    fn reached(&self) -> Nanos;

    fn seen(&self) -> LinesSeen;
}

/// Lines of the selected streams and times that were looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinesSeen {
    pub lines: u64,
    /// Of those lines that had to be read.
    pub bytes: u64,
}

/// Rows that are alike in everything that the query needs but in their time and the length of their line.
#[derive(Clone, Debug, PartialEq)]
pub struct LogGroup {
    /// Its time and line are those of one of them.
    pub row: LogRow,
    /// The time of each, and the bytes of its line where they were asked for.
    pub members: Vec<(Nanos, u32)>,
    /// What [`LogNeeds::number`] names, of each member; its text in `row` is that of one of them. Empty where the text in `row` is that
    /// of all, or none has one.
    pub numbers: Vec<f64>,
    /// Rows beside these whose times need not be told apart, see [`LogQuery::times`].
    pub counted: Vec<CountedRows>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CountedRows {
    /// A time that need not be told apart from theirs.
    pub time: Nanos,
    pub rows: u64,
    /// Of their lines, where they were asked for.
    pub bytes: u64,
}

impl LogGroup {
    /// Without members yet.
    pub fn new(row: LogRow) -> Self {
        Self { row, members: Vec::new(), numbers: Vec::new(), counted: Vec::new() }
    }

    pub fn of_one(row: LogRow) -> Self {
        let members = vec![(row.timestamp, u32::try_from(row.line.len()).unwrap_or(u32::MAX))];
        Self { members, ..Self::new(row) }
    }

    /// Rows that may be taken together, one after the other.
    pub fn all(&self) -> impl Iterator<Item = CountedRows> {
        let members = self.members.iter().map(|(time, bytes)| CountedRows { time: *time, rows: 1, bytes: u64::from(*bytes) });
        members.chain(self.counted.iter().copied())
    }
}

/// Groups of one row each, in the order of time.
pub fn scan_in_order<'a, S: LogSource + ?Sized>(
    source: &'a S,
    query: &LogQuery,
    budget: &'a Budget,
) -> Result<Box<dyn LogGroupCursor + 'a>> {
    let needs = LogNeeds {
        line: if query.needs.line == LineNeed::Nothing { LineNeed::Nothing } else { LineNeed::Text },
        ..query.needs.clone()
    };
    let query = LogQuery { direction: Direction::Forward, needs, ..query.clone() };
    Ok(Box::new(InOrder { cursor: source.scan(&query, budget)?, reached: Nanos::MIN }))
}

struct InOrder<'a> {
    cursor: Box<dyn LogCursor + 'a>,
    reached: Nanos,
}

impl LogGroupCursor for InOrder<'_> {
    fn next_batch(&mut self) -> Result<Option<Vec<LogGroup>>> {
        let Some(rows) = self.cursor.next_batch()? else { return Ok(None) };
        self.reached = rows.last().map_or(self.reached, |row| row.timestamp);
        Ok(Some(rows.into_iter().map(LogGroup::of_one).collect()))
    }

    fn reached(&self) -> Nanos {
        self.reached
    }

    fn seen(&self) -> LinesSeen {
        self.cursor.seen()
    }
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

/// What a record has beside its attributes and its line, as metadata shows it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Derived<'a> {
    pub severity: Severity,
    pub severity_text: &'a str,
    pub trace_id: TraceId,
    pub span_id: SpanId,
}

impl Derived<'_> {
    pub const SEVERITY_TEXT: &'static str = "severity_text";
    pub const DETECTED_LEVEL: &'static str = "detected_level";
    pub const TRACE_ID: &'static str = "trace_id";
    pub const SPAN_ID: &'static str = "span_id";

    /// Puts what is derived among the attributes. An attribute of the record's own stands before what is derived under its name,
    /// but not before an id: that links to a trace, and the attribute is found as `trace_id_extracted`.
    pub fn add_to(&self, metadata: &mut Vec<(String, String)>) {
        let ids = [
            (Self::TRACE_ID, if self.trace_id.is_none() { String::new() } else { self.trace_id.to_string() }),
            (Self::SPAN_ID, if self.span_id.is_none() { String::new() } else { self.span_id.to_string() }),
        ];
        for (name, text) in [(Self::SEVERITY_TEXT, self.severity_text), (Self::DETECTED_LEVEL, self.severity.as_str())] {
            if !text.is_empty() && metadata.iter().all(|(known, _)| known != name) {
                metadata.push((name.to_owned(), text.to_owned()));
            }
        }
        for (name, id) in ids.into_iter().filter(|(_, id)| !id.is_empty()) {
            metadata.retain(|(known, value)| known != name || *value != id);
            for (known, _) in metadata.iter_mut().filter(|(known, _)| known == name) {
                known.push_str("_extracted");
            }
            metadata.push((name.to_owned(), id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_between_marks_are_alike() {
        let need = TimeNeed::Between([Marks { origin: -100, width: 60 }, Marks { origin: 10, width: 30 }]);
        for (start, end) in [(-20, 10), (-20, -10), (20, 40), (40, 41), (10, 11)] {
            assert!(need.are_alike(start, end), "{start} {end}");
        }
        for (start, end) in [(-21, -19), (0, 11), (30, 41), (-1000, 1000), (i64::MIN, i64::MAX)] {
            assert!(!need.are_alike(start, end), "{start} {end}");
        }
        assert!(!TimeNeed::Exact.are_alike(1, 2));
    }
}
