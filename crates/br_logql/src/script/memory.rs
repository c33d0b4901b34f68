//! Rows in memory, as a source.

use br_model::Labels;
use br_std::Result;
use br_storage::{Budget, Direction, LogCursor, LogQuery, LogRow, LogSource, Matcher, TimeRange};
use std::collections::BTreeSet;

/// Ignores all hints, so that a wrong filter shows.
#[derive(Clone, Debug, Default)]
pub struct MemoryLogs {
    /// In time order.
    rows: Vec<LogRow>,
}

impl MemoryLogs {
    pub fn extend(&mut self, rows: impl IntoIterator<Item = LogRow>) {
        self.rows.extend(rows);
        self.rows.sort_by_key(|row| row.timestamp);
    }

    fn select(&self, range: TimeRange, matchers: &[Matcher]) -> impl Iterator<Item = &LogRow> {
        let matches = move |row: &&LogRow| {
            range.contains(row.timestamp) && matchers.iter().all(|matcher| matcher.matches_labels(&row.stream))
        };
        self.rows.iter().filter(matches)
    }
}

impl LogSource for MemoryLogs {
    fn scan<'a>(&'a self, query: &LogQuery, budget: &'a Budget) -> Result<Box<dyn LogCursor + 'a>> {
        let mut rows: Vec<LogRow> = self.select(query.range, &query.streams).cloned().collect();
        budget.scanned(rows.len() as u64);
        if query.direction == Direction::Backward {
            rows.reverse();
        }
        Ok(Box::new(MemoryCursor { rows: Some(rows) }))
    }

    fn streams(&self, range: TimeRange, matchers: &[Matcher], _: &Budget) -> Result<Vec<Labels>> {
        let streams: BTreeSet<Labels> = self.select(range, matchers).map(|row| row.stream.clone()).collect();
        Ok(streams.into_iter().collect())
    }
}

struct MemoryCursor {
    rows: Option<Vec<LogRow>>,
}

impl LogCursor for MemoryCursor {
    fn next_batch(&mut self) -> Result<Option<Vec<LogRow>>> {
        Ok(self.rows.take())
    }
}
