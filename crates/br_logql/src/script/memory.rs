//! Rows in memory, as a source.

use br_model::{Labels, LogKind, Severity, SpanId, TraceId};
use br_std::{Nanos, Result};
use br_storage::{
    Budget, CountedRows, Derived, Direction, LineNeed, LinesSeen, LogCursor, LogGroup, LogGroupCursor, LogNeeds, LogQuery,
    LogRow, LogSource, Matcher, TimeNeed, TimeRange,
};
use std::collections::{BTreeSet, VecDeque};

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
        let (mut rows, seen) = self.rows(query, budget);
        if query.direction == Direction::Backward {
            rows.reverse();
        }
        Ok(Box::new(MemoryCursor { rows: Some(rows), seen }))
    }

    /// In pages whose rows are out of order, without what the query does not need, and in groups: whoever relies on more than is
    /// promised gets wrong answers.
    fn scan_groups<'a>(&'a self, query: &LogQuery, budget: &'a Budget) -> Result<Box<dyn LogGroupCursor + 'a>> {
        let (rows, seen) = self.rows(query, budget);
        let mut pages: Vec<Vec<LogRow>> = rows.chunks(PAGE_ROWS).map(<[LogRow]>::to_vec).collect();
        for page in &mut pages {
            page.reverse();
        }
        Ok(Box::new(MemoryGroups { pages: pages.into(), needs: query.needs.clone(), times: query.times, seen }))
    }

    fn streams(&self, range: TimeRange, matchers: &[Matcher], _: &Budget) -> Result<Vec<Labels>> {
        let streams: BTreeSet<Labels> = self.select(range, matchers).map(|row| row.stream.clone()).collect();
        Ok(streams.into_iter().collect())
    }
}

impl MemoryLogs {
    /// What a query asks for, in the order of time.
    fn rows(&self, query: &LogQuery, budget: &Budget) -> (Vec<LogRow>, LinesSeen) {
        let mut seen = LinesSeen::default();
        let mut rows = Vec::new();
        for row in self.select(query.range, &query.streams) {
            seen.lines += 1;
            seen.bytes += row.line.len() as u64;
            if query.passes(&row.line) {
                rows.push(needed(row, &query.needs));
            }
        }
        budget.scanned(seen.lines);
        (rows, seen)
    }
}

/// Rows of a page.
const PAGE_ROWS: usize = 16;

fn needed(row: &LogRow, needs: &LogNeeds) -> LogRow {
    let Some(names) = &needs.metadata else { return row.clone() };
    let is_needed = |(name, _): &&(String, String)| names.contains(name);
    // A line of its length stands for one whose text is not needed.
    let line = match needs.line {
        LineNeed::Text => row.line.clone(),
        LineNeed::Length => "?".repeat(row.line.len()),
        LineNeed::Nothing => String::new(),
    };
    let mut metadata: Vec<(String, String)> = row.metadata.iter().filter(is_needed).cloned().collect();
    let level = row.severity.as_str();
    let has_level = metadata.iter().any(|(name, _)| name == Derived::DETECTED_LEVEL);
    if needs.metadata_named(Derived::DETECTED_LEVEL) && !level.is_empty() && !has_level {
        metadata.push((Derived::DETECTED_LEVEL.to_owned(), level.to_owned()));
    }
    LogRow {
        timestamp: row.timestamp,
        stream: needs.stream(&row.stream),
        line,
        kind: LogKind::default(),
        severity: Severity::default(),
        trace_id: TraceId::default(),
        span_id: SpanId::default(),
        metadata,
    }
}

/// Takes rows together where that is allowed, a second at a time.
fn count_alike(group: &mut LogGroup, times: TimeNeed) {
    const SECOND: i64 = 1_000_000_000;
    group.members.retain(|(time, bytes)| {
        let start = (time.0 - 1).div_euclid(SECOND) * SECOND;
        let is_alike = times.are_alike(start, start + SECOND);
        if is_alike {
            let (time, bytes) = (Nanos(start + SECOND), u64::from(*bytes));
            group.counted.push(CountedRows { time, rows: 1, bytes });
        }
        !is_alike
    });
}

/// The number that is needed, where the text under its name is one and no other label can be meant.
fn number(row: &LogRow, needs: &LogNeeds) -> Option<f64> {
    let name = needs.number.as_deref()?;
    let mut named = row.metadata.iter().filter(|(known, _)| known == name);
    let (_, text) = named.next().filter(|_| row.stream.get(name).is_none())?;
    text.parse().ok().filter(|_| named.next().is_none())
}

fn are_alike(one: &LogGroup, other: &LogGroup, needs: &LogNeeds) -> bool {
    let have_numbers = !one.numbers.is_empty() && !other.numbers.is_empty();
    let is_told = |(name, _): &&(String, String)| !have_numbers || needs.number.as_ref() != Some(name);
    let told = |group: &LogGroup| group.row.metadata.iter().filter(is_told).cloned().collect::<Vec<_>>();
    let has_same = one.numbers.is_empty() == other.numbers.is_empty() && told(one) == told(other);
    has_same && one.row.stream == other.row.stream
}

struct MemoryCursor {
    rows: Option<Vec<LogRow>>,
    seen: LinesSeen,
}

impl LogCursor for MemoryCursor {
    fn next_batch(&mut self) -> Result<Option<Vec<LogRow>>> {
        Ok(self.rows.take())
    }

    fn seen(&self) -> LinesSeen {
        self.seen
    }
}

struct MemoryGroups {
    pages: VecDeque<Vec<LogRow>>,
    needs: LogNeeds,
    times: TimeNeed,
    seen: LinesSeen,
}

impl LogGroupCursor for MemoryGroups {
    fn next_batch(&mut self) -> Result<Option<Vec<LogGroup>>> {
        let Some(page) = self.pages.pop_front() else { return Ok(None) };
        if !self.needs.can_group() {
            return Ok(Some(page.into_iter().map(LogGroup::of_one).collect()));
        }
        let mut groups: Vec<LogGroup> = Vec::new();
        for mut one in page.into_iter().map(LogGroup::of_one) {
            one.numbers.extend(number(&one.row, &self.needs));
            match groups.iter_mut().find(|group| are_alike(group, &one, &self.needs)) {
                Some(group) => {
                    group.members.extend(one.members);
                    group.numbers.extend(one.numbers);
                }
                None => groups.push(one),
            }
        }
        for group in &mut groups {
            count_alike(group, self.times);
        }
        Ok(Some(groups))
    }

    fn reached(&self) -> Nanos {
        self.pages.front().and_then(|page| page.last()).map_or(Nanos::MAX, |row| row.timestamp)
    }

    fn seen(&self) -> LinesSeen {
        self.seen
    }
}
