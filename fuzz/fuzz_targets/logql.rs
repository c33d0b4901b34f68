//! LogQL: what is read is answered within its budget or refused, each time alike; and a store that skips what a query cannot need
//! answers as one does that skips nothing.
#![no_main]

#[path = "../events.rs"]
mod events;

use br_logql::script::MemoryLogs;
use br_logql::{
    Expr, LogExpr, LogOptions, MetricExpr, MetricValue, Series, parse, pretty, query_instant, query_log, query_range,
};
use br_std::Nanos;
use br_storage::{Budget, Direction, LogQuery, LogSource, TimeRange};
use events::{END, START, TENANT};
use libfuzzer_sys::fuzz_target;
use object_store::memory::InMemory;
use std::fmt::Write as _;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

struct Sources {
    store: Arc<dyn LogSource>,
    /// The same rows, of which no hint skips any.
    all: MemoryLogs,
}

static SOURCES: LazyLock<Sources> = LazyLock::new(|| {
    let store = events::store(Arc::new(InMemory::new())).logs(TENANT);
    let Ok(Expr::Log(everything)) = parse(r#"{zone="eu"}"#) else { panic!("a selector") };
    let mut all = MemoryLogs::default();
    let budget = Budget::unlimited();
    let query = LogQuery { streams: everything.matchers, direction: Direction::Forward, ..LogQuery::new(TimeRange::ALL) };
    let mut cursor = store.scan(&query, &budget).expect("a head");
    let mut count = 0;
    while let Some(rows) = cursor.next_batch().expect("rows") {
        count += rows.len();
        all.extend(rows);
    }
    assert_eq!(count, 24);
    drop(cursor);
    Sources { store, all }
});

fn time(seconds: i64) -> Nanos {
    Nanos::from_secs(seconds)
}

/// The answers, each on its lines; `None` where the budget was not enough or the query is wrong in a way that only shows in the data.
fn answers(source: &dyn LogSource, expr: &Expr) -> Vec<Option<String>> {
    match expr {
        Expr::Log(log) => [Direction::Backward, Direction::Forward].map(|direction| lines(source, log, direction)).into(),
        Expr::Metric(metric) => vec![
            query_instant(source, metric, time(START + 20), &budget()).ok().map(|(value, _)| written(&value)),
            over_range(source, metric),
        ],
    }
}

fn budget() -> Budget {
    Budget::new(16 << 20)
}

fn lines(source: &dyn LogSource, log: &LogExpr, direction: Direction) -> Option<String> {
    let options = LogOptions { range: TimeRange::new(time(START), time(END)), direction, limit: 10, categorize: true };
    let found = query_log(source, log, &options, &budget()).ok()?;
    Some(format!("{:?}", found.streams))
}

fn over_range(source: &dyn LogSource, metric: &MetricExpr) -> Option<String> {
    let range = (time(START), time(START + 40));
    query_range(source, metric, range, Duration::from_secs(4), &budget()).ok().map(|(value, _)| written(&value))
}

/// Values to six digits: in which order floats are added is not told.
fn written(value: &MetricValue) -> String {
    let mut out = String::new();
    let mut line = |name: &str, points: &[(Nanos, f64)]| {
        let _ = write!(out, "{name}:");
        for (at, value) in points {
            let value = if value.abs() < 1e-9 { 0.0 } else { *value };
            let _ = write!(out, " {}={value:.5e}", at.0);
        }
        out.push('\n');
    };
    match value {
        MetricValue::Scalar(points) => line("", points),
        MetricValue::Series(all) => all.iter().for_each(|Series { labels, points }| line(&labels.to_string(), points)),
    }
    out
}

fuzz_target!(|text: &str| {
    let Ok(expr) = parse(text) else { return };
    let written = pretty(&expr);
    let again = parse(&written).unwrap_or_else(|error| panic!("{text:?} is written {written:?}: {error:?}"));
    assert_eq!(pretty(&again), written);
    let Sources { store, all } = &*SOURCES;
    let found = answers(&**store, &expr);
    assert_eq!(answers(&**store, &expr), found, "{text:?}, asked twice");
    for (skipping, reading_all) in found.iter().zip(answers(all, &expr)) {
        // Who reads more may need more than the budget.
        if let (Some(skipping), Some(reading_all)) = (skipping, reading_all) {
            assert_eq!(*skipping, reading_all, "{text:?}");
        }
    }
});
