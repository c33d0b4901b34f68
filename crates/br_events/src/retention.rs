//! How long events are kept, where that depends on who sent them and on how grave they are.

use crate::origin;
use crate::schema::{SEVERITY, STATUS, TS, column, damaged};
use arrow::array::{RecordBatch, StringArray, TimestampNanosecondArray, UInt8Array, UInt32Array};
use arrow::compute::take_record_batch;
use br_env::Clock;
use br_model::{Labels, LogRecord, Resource, Severity, Span};
use br_std::{Nanos, Result};
use br_storage::{Matcher, Table};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Events that satisfy all matchers are kept for so long.
#[derive(Clone, Debug)]
pub struct EventRule {
    /// On the labels of the stream, and on [`EventRules::LEVEL`] of log records, [`EventRules::STATUS`] of spans.
    pub matchers: Vec<Matcher>,
    /// `None` for logs and spans.
    pub table: Option<Table>,
    pub keep: Duration,
}

/// Rules in order: of those that match a record the first one counts.
#[derive(Clone)]
pub struct EventRules {
    rules: Vec<EventRule>,
    clock: Arc<dyn Clock>,
}

/// The graveness of a record: its place in the words of its table.
pub(crate) type Word = usize;

/// So many words the table has that has more of them.
pub(crate) const WORDS: usize = 7;
const LEVELS: [&str; WORDS] = ["", "trace", "debug", "info", "warn", "error", "fatal"];
const STATUSES: [&str; 3] = ["unset", "ok", "error"];

pub(crate) fn words(table: Table) -> &'static [&'static str] {
    if table == Table::Spans { &STATUSES } else { &LEVELS }
}

fn word_of(table: Table, text: &str) -> Word {
    words(table).iter().position(|word| *word == text).unwrap_or(0)
}

/// The words of a batch's rows.
pub(crate) enum Words<'a> {
    Levels(&'a UInt8Array),
    Statuses(&'a StringArray),
}

impl<'a> Words<'a> {
    pub(crate) const fn column(table: Table) -> &'static str {
        if matches!(table, Table::Spans) { STATUS } else { SEVERITY }
    }

    pub(crate) fn new(table: Table, batch: &'a RecordBatch) -> Result<Self> {
        let name = Self::column(table);
        Ok(if table == Table::Spans { Self::Statuses(column(batch, name)?) } else { Self::Levels(column(batch, name)?) })
    }

    pub(crate) fn of(&self, row: usize) -> Word {
        match self {
            Self::Levels(levels) => word_of(Table::Logs, Severity(levels.value(row)).as_str()),
            Self::Statuses(statuses) => word_of(Table::Spans, statuses.value(row)),
        }
    }
}

impl fmt::Debug for EventRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("EventRules").field(&self.rules).finish()
    }
}

impl EventRules {
    /// The word of a log record's severity.
    pub const LEVEL: &'static str = "level";
    /// The word of a span's status.
    pub const STATUS: &'static str = "status";

    /// The label of a table that says how grave a record is.
    pub fn derived(table: Table) -> &'static str {
        if table == Table::Spans { Self::STATUS } else { Self::LEVEL }
    }

    /// The words of [`Self::LEVEL`], for spans those of [`Self::STATUS`].
    pub fn words(table: Table) -> &'static [&'static str] {
        words(table)
    }

    /// `logs` and `spans` are for what no rule matches.
    pub fn new(mut rules: Vec<EventRule>, logs: Duration, spans: Duration, clock: Arc<dyn Clock>) -> Self {
        for (table, keep) in [(Table::Logs, logs), (Table::Spans, spans)] {
            rules.push(EventRule { matchers: Vec::new(), table: Some(table), keep });
        }
        Self { rules, clock }
    }

    /// By rule: what lies before this is over; nothing is by a rule of another table.
    pub(crate) fn cutoffs(&self, table: Table) -> Vec<i64> {
        let now = self.clock.now();
        let cutoff = |rule: &EventRule| if rule.concerns(table) { (now - rule.keep).0 } else { i64::MIN };
        self.rules.iter().map(cutoff).collect()
    }

    /// What is not older than this is in time by every rule.
    pub(crate) fn first_cutoff(&self, table: Table) -> i64 {
        self.cutoffs(table).into_iter().max().unwrap_or(i64::MIN)
    }

    /// What is older than this is over by every rule.
    pub(crate) fn last_cutoff(&self, table: Table) -> i64 {
        let concerning = self.rules.iter().zip(self.cutoffs(table)).filter(|(rule, _)| rule.concerns(table));
        concerning.map(|(_, cutoff)| cutoff).min().unwrap_or(i64::MIN)
    }

    /// The number of the rule that counts for a record of a stream.
    pub(crate) fn rule_of(&self, table: Table, labels: &Labels, word: Word) -> usize {
        let word = words(table).get(word).copied().unwrap_or("");
        let derived = Self::derived(table);
        let holds = |matcher: &Matcher| {
            if matcher.name == derived { matcher.matches(word) } else { matcher.matches_labels(labels) }
        };
        let matches = |rule: &EventRule| rule.concerns(table) && rule.matchers.iter().all(holds);
        self.rules.iter().position(matches).unwrap_or(self.rules.len() - 1)
    }

    /// What of a batch in memory is in time.
    pub(crate) fn visible(&self, table: Table, batch: &RecordBatch) -> Result<RecordBatch> {
        let times: &TimestampNanosecondArray = column(batch, TS)?;
        if arrow::compute::min(times).is_none_or(|first| first >= self.first_cutoff(table)) {
            return Ok(batch.clone());
        }
        let (cutoffs, words, mut labels) = (self.cutoffs(table), Words::new(table, batch)?, origin::labels(batch)?);
        let mut rows = Vec::with_capacity(batch.num_rows());
        for row in 0..batch.num_rows() {
            let rule = self.rule_of(table, &*labels.get(row)?, words.of(row));
            if times.value(row) >= cutoffs[rule] {
                rows.push(row as u32);
            }
        }
        take_record_batch(batch, &UInt32Array::from(rows)).map_err(damaged)
    }

    /// What they say of the records of a resource that come in.
    pub fn of<'a>(&'a self, resource: &'a Resource) -> ResourceRules<'a> {
        ResourceRules { rules: self, resource, labels: None }
    }

    /// The longest time that events of a table may be kept.
    pub fn longest(&self, table: Table) -> Duration {
        self.rules.iter().filter(|rule| rule.concerns(table)).map(|rule| rule.keep).max().unwrap_or_default()
    }
}

/// The rules for records of one resource.
pub struct ResourceRules<'a> {
    rules: &'a EventRules,
    resource: &'a Resource,
    /// Of the resource; made when first needed.
    labels: Option<Labels>,
}

impl ResourceRules<'_> {
    /// Why a log record that was received at this time would not be kept.
    pub fn check_log(&mut self, record: &LogRecord, received: Nanos) -> Result<(), String> {
        self.check(Table::Logs, record.severity.as_str(), record.timestamp, received)
    }

    /// As [`Self::check_log`].
    pub fn check_span(&mut self, span: &Span, received: Nanos) -> Result<(), String> {
        self.check(Table::Spans, span.status.as_str(), span.start, received)
    }

    fn check(&mut self, table: Table, word: &str, at: Nanos, received: Nanos) -> Result<(), String> {
        let rules = self.rules;
        if rules.rules.iter().all(|rule| at >= received - rule.keep) {
            return Ok(());
        }
        let labels = self.labels.get_or_insert_with(|| origin::stream_labels(self.resource));
        let rule = &rules.rules[rules.rule_of(table, labels, word_of(table, word))];
        if at >= received - rule.keep {
            return Ok(());
        }
        let keep = br_std::duration::format(rule.keep);
        Err(format!("its time {at} is further back than the {keep} for which its retention rule keeps it"))
    }
}

impl EventRule {
    fn concerns(&self, table: Table) -> bool {
        self.table.is_none_or(|of| of == table)
    }
}
