//! TraceQL: what is read is answered within its budget or refused, each time alike; and a store that skips what a query cannot need
//! answers as one does that skips nothing.
#![no_main]

#[path = "../events.rs"]
mod events;

use br_std::{Nanos, Result};
use br_storage::{Budget, SpanCursor, SpanParts, SpanQuery, SpanSource, StoredSpan, TakeTrace, TimeRange};
use br_traceql::ast::{Expr, Root};
use br_traceql::{MetricOptions, SearchOptions, parse, query_range, search};
use events::{END, START, TENANT};
use libfuzzer_sys::fuzz_target;
use object_store::memory::InMemory;
use std::cmp::Reverse;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// Hands out every span in the range, and all of it.
struct Everything(Vec<StoredSpan>);

struct Batches(std::vec::IntoIter<StoredSpan>);

impl SpanCursor for Batches {
    fn next_batch(&mut self) -> Result<Option<Vec<StoredSpan>>> {
        let batch: Vec<StoredSpan> = self.0.by_ref().take(3).collect();
        Ok((!batch.is_empty()).then_some(batch))
    }

    fn newest_left(&self) -> Option<Nanos> {
        Some(self.0.as_slice().first().map_or(Nanos::MIN, |stored| stored.span.start))
    }
}

impl SpanSource for Everything {
    fn scan<'a>(&'a self, query: &SpanQuery, _: &'a Budget) -> Result<Box<dyn SpanCursor + 'a>> {
        let in_range = |stored: &&StoredSpan| query.range.contains(stored.span.start);
        Ok(Box::new(Batches(self.0.iter().filter(in_range).cloned().collect::<Vec<_>>().into_iter())))
    }

    fn traces(
        &self,
        wanted: &[(br_model::TraceId, TimeRange)],
        _: &SpanParts,
        _: &Budget,
        take: &mut TakeTrace<'_>,
    ) -> Result<()> {
        for (id, range) in wanted {
            let is_wanted = |stored: &&StoredSpan| stored.span.trace_id == *id && range.contains(stored.span.start);
            let spans: Vec<StoredSpan> = self.0.iter().filter(is_wanted).cloned().collect();
            if !spans.is_empty() && !take(*id, spans)? {
                break;
            }
        }
        Ok(())
    }

    fn services(&self, _: TimeRange, _: &Budget) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn operations(&self, _: &str, _: TimeRange, _: &Budget) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
}

struct Sources {
    store: Arc<dyn SpanSource>,
    all: Everything,
}

static SOURCES: LazyLock<Sources> = LazyLock::new(|| {
    let store = events::store(Arc::new(InMemory::new())).spans(TENANT);
    let budget = Budget::unlimited();
    let query = SpanQuery { range: TimeRange::ALL, hints: Vec::new(), parts: SpanParts::ALL };
    let (mut cursor, mut all) = (store.scan(&query, &budget).expect("a head"), Vec::new());
    while let Some(spans) = cursor.next_batch().expect("spans") {
        all.extend(spans);
    }
    drop(cursor);
    assert_eq!(all.len(), 24);
    all.sort_by_key(|stored| Reverse(stored.span.start));
    Sources { store, all: Everything(all) }
});

/// The answer; `None` where the budget was not enough.
fn answer(source: &dyn SpanSource, expr: &Expr, text: &str) -> Option<String> {
    let budget = Budget::new(16 << 20);
    let range = TimeRange::new(Nanos::from_secs(START), Nanos::from_secs(END));
    match &expr.root {
        Root::Search(_) => {
            let options = SearchOptions { range, limit: 4, spans_per_spanset: 3, after: None };
            Some(format!("{:?}", search(source, expr, text, &options, &budget).ok()?))
        }
        Root::Metrics(_) => {
            let options = MetricOptions { range, step: Duration::from_secs(6), exemplars: 0 };
            let mut lines = Vec::new();
            for series in query_range(source, expr, text, &options, &budget).ok()? {
                // To six digits: in which order floats are added is not told.
                let points: Vec<String> = series
                    .points
                    .iter()
                    .map(|(_, value)| value.map_or(String::new(), |value| format!("{:.5e}", value + 0.0)))
                    .collect();
                lines.push(format!("{:?} {points:?}", series.labels));
            }
            lines.sort();
            Some(lines.join("\n"))
        }
    }
}

fuzz_target!(|text: &str| {
    let Ok(expr) = parse(text) else { return };
    let Sources { store, all } = &*SOURCES;
    let found = answer(&**store, &expr, text);
    assert_eq!(answer(&**store, &expr, text), found, "{text:?}, asked twice");
    // Who reads more may need more than the budget.
    if let (Some(skipping), Some(reading_all)) = (found, answer(all, &expr, text)) {
        assert_eq!(skipping, reading_all, "{text:?}");
    }
});
