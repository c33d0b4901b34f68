//! Log queries: lines in streams.

use super::Stats;
use crate::ast::LogExpr;
use crate::hints;
use crate::labels::Origin;
use crate::pipeline::{Line, Pipeline};
use br_model::Labels;
use br_std::{Error, Nanos, Result};
use br_storage::{Budget, Direction, LogSource, TimeRange};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// How a log query is to be answered.
#[derive(Clone, Copy, Debug)]
pub struct LogOptions {
    /// `from` is included, `to` is not.
    pub range: TimeRange,
    pub direction: Direction,
    /// So many lines over all streams.
    pub limit: usize,
    /// Streams are named by the labels of the stream alone; each entry brings its other labels with it.
    pub categorize: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct LogResult {
    /// Sorted by labels.
    pub streams: Vec<LogStream>,
    pub stats: Stats,
}

#[derive(Clone, Debug, PartialEq)]
pub struct LogStream {
    pub labels: Labels,
    /// In the direction that was asked for.
    pub entries: Vec<LogEntry>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct LogEntry {
    pub timestamp: Nanos,
    pub line: String,
    /// Of the record. Empty unless categorized: then they are among the stream's labels.
    pub metadata: Labels,
    /// Found by stages. Empty unless categorized.
    pub parsed: Labels,
}

/// The first `limit` lines in the asked direction; reads no further than that.
pub fn query_log(source: &dyn LogSource, log: &LogExpr, options: &LogOptions, budget: &Budget) -> Result<LogResult> {
    let mut pipeline = Pipeline::compile(log).map_err(|(_, message)| Error::fix_request(message))?;
    let mut stats = Stats::default();
    let mut streams: BTreeMap<Labels, Vec<LogEntry>> = BTreeMap::new();
    let mut query = hints::log_query(log, options.range, options.direction, Some(options.limit));
    query.line_tests = pipeline.take_line_tests();
    let mut cursor = source.scan(&query, budget)?;
    let mut left = options.limit;
    while left > 0
        && let Some(rows) = cursor.next_batch()?
    {
        budget.check()?;
        for row in rows.iter().filter(|row| options.range.contains(row.timestamp)) {
            let line = pipeline.run(row, budget);
            budget.check()?;
            let Some(line) = line else { continue };
            stats.lines_kept += 1;
            let (labels, entry) = entry(line, options.categorize);
            let found = text_bytes(&entry.metadata) + text_bytes(&entry.parsed);
            budget.charge((entry.line.len() + found + size_of::<LogEntry>()) as u64)?;
            match streams.entry(labels) {
                Entry::Occupied(known) => known.into_mut().push(entry),
                Entry::Vacant(new) => {
                    budget.charge(text_bytes(new.key()) as u64)?;
                    new.insert(Vec::new()).push(entry);
                }
            }
            left -= 1;
            if left == 0 {
                break;
            }
        }
    }
    stats.add(cursor.seen());
    let streams = streams.into_iter().map(|(labels, entries)| LogStream { labels, entries }).collect();
    Ok(LogResult { streams, stats })
}

fn text_bytes(labels: &Labels) -> usize {
    labels.iter().map(|(name, value)| name.len() + value.len() + size_of::<br_model::Label>()).sum()
}

fn entry(line: Line<'_>, categorize: bool) -> (Labels, LogEntry) {
    let (labels, metadata, parsed) = if categorize {
        (line.labels_of(Origin::Stream), line.labels_of(Origin::Metadata), line.labels_of(Origin::Parsed))
    } else {
        (line.labels.build(), Labels::empty(), Labels::empty())
    };
    (labels, LogEntry { timestamp: line.row.timestamp, line: line.text.into_owned(), metadata, parsed })
}
