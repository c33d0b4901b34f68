//! LogQL over the event store and over plain rows in memory answers the same: from the head, from files, and from both.

use br_env::Rng;
use br_events::{EventOptions, EventStore};
use br_logql::script::MemoryLogs;
use br_logql::{Expr, LogOptions, LogResult, MetricValue, parse, query_instant, query_log, query_range};
use br_model::{LogBatch, LogRecord, Resource, ResourceLogs, Severity, SpanId, TenantId, TraceId};
use br_std::Nanos;
use br_storage::{Budget, Direction, JournalPosition, LogQuery, LogSource, TimeRange};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const TENANT: TenantId = TenantId(1);
const START: i64 = 472_000 * 3_600_000_000_000;
const MINUTE: i64 = 60_000_000_000;

struct Counting(AtomicU64);

impl Rng for Counting {
    fn next_u64(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

/// Lines of three kinds from four services, over an hour, some of them at the same time.
fn batch(part: i64) -> LogBatch {
    let record = |service: i64, at: i64| {
        let number = at * 4 + service + part * 10_000;
        let mut record = LogRecord {
            timestamp: Nanos(START + part * MINUTE + at * 400_000_000),
            severity: [Severity::INFO, Severity::WARN, Severity::ERROR, Severity::UNSPECIFIED][number as usize % 4],
            body: match number % 3 {
                0 => format!(
                    r#"{{"status":{},"path":"/api/{}","took":"{}ms","user":"u-{}"}}"#,
                    200 + number % 5,
                    number % 7,
                    number % 90,
                    number % 11
                ),
                1 => format!("status={} path=\"/api/{}\" took={}ms msg=\"it's done\"", 200 + number % 5, number % 7, number % 90),
                _ => format!("worker {} timed out after {} ms, peer 10.0.{}.7", number % 13, number % 90, number % 5),
            },
            ..LogRecord::default()
        };
        record.attributes.push("region", ["eu", "us"][number as usize % 2]);
        if number % 5 == 0 {
            record.attributes.push("status", number % 5 + 201);
            record.attributes.push("user.id", format!("u-{}", number % 11));
        }
        if number % 37 == 0 {
            record.attributes.push("level", "custom");
            record.severity_text = "Custom".into();
        }
        if number % 3 == 0 {
            record.trace_id = TraceId((number as u128 / 9 + 1).to_be_bytes());
            record.span_id = SpanId((number as u64 + 1).to_be_bytes());
        }
        record
    };
    let group = |service: i64| {
        let resource = [("service.name", format!("s{service}")), ("env", "prod".to_owned())].into_iter().collect();
        let records = (0..150).map(|at| record(service, at)).collect();
        ResourceLogs { resource: Arc::new(Resource { attributes: resource }), scope: Arc::default(), records }
    };
    LogBatch { groups: (0..4).map(group).collect() }
}

const METRICS: [&str; 26] = [
    r#"sum by (level) (count_over_time({env="prod"}[5m]))"#,
    r#"sum by (detected_level) (count_over_time({env="prod"}[90s]))"#,
    r#"sum by (service_name, region) (rate({env="prod"}[2m]))"#,
    r#"sum by (severity_text, status) (count_over_time({env="prod"}[10m]))"#,
    r#"count(sum by (trace_id) (count_over_time({env="prod"}[10m])))"#,
    r#"sum(bytes_over_time({service_name="s1"}[3m]))"#,
    r#"sum by (region) (bytes_rate({env="prod"} |= "timed out" [3m]))"#,
    r#"sum by (status) (count_over_time({env="prod"} | json | status="203" [7m]))"#,
    r#"sum by (status, status_extracted) (count_over_time({env="prod"} | logfmt [7m]))"#,
    r#"sum by (user) (count_over_time({env="prod"} | json | user=~"u-1|u-10" [7m]))"#,
    r#"sum by (path) (count_over_time({env="prod"} | json | logfmt | path="/api/3" or path="/api/5" | drop __error__, __error_details__ [7m]))"#,
    r#"sum by (n) (count_over_time({env="prod"} | regexp "worker (?P<n>[0-9]+) timed" | n="12" [7m]))"#,
    r#"count(count_over_time({env="prod"} | user_id="u-3" [30m]))"#,
    r#"sum without (trace_id, span_id) (count_over_time({env="prod"} |~ "peer 10\\.0\\.[23]" [30m]))"#,
    r#"max_over_time({env="prod"} | logfmt | unwrap duration(took) | __error__="" [4m]) by (service_name)"#,
    r#"quantile_over_time(0.9, {env="prod"} | json | unwrap status | __error__="" [4m]) by (region)"#,
    r#"stddev_over_time({env="prod"} | logfmt | unwrap duration(took) | __error__="" [4m]) by (region)"#,
    r#"sum by (service_name) (rate_counter({env="prod"} | json | unwrap status | __error__="" [4m]))"#,
    r#"absent_over_time({env="prod"} |= "no such line" [5m])"#,
    r#"sum(count_over_time({env="prod"} != "timed" !~ "path=.*/api/[0-3]" [5m]))"#,
    r#"sum(count_over_time({env="prod"} |= ip("10.0.3.0/24") or "u-7" [5m]))"#,
    r#"sum(count_over_time({env="prod"} |> "worker <_> timed out <_>" [5m]))"#,
    r#"sum by (region) (count_over_time({env="prod"} | json | line_format "{{.user}}" |= "u-4" [5m]))"#,
    r#"sum by (x) (count_over_time({env="prod"} | label_format x=region | drop region | x="eu" [5m]))"#,
    r#"sum(count_over_time({env="prod"} | detected_level="error" and region="eu" [5m] offset 10m))"#,
    r#"sum(count_over_time({env="prod"} | trace_id="00000000000000000000000000000009" [1h]))"#,
];

const LINES: [&str; 8] = [
    r#"{env="prod"}"#,
    r#"{service_name="s2"} |~ "took=[1-8][0-9]ms" | logfmt | status="204""#,
    r#"{env="prod"} | json | user="u-5" | path="/api/2""#,
    r#"{env="prod"} | user_id="u-9" != "timed""#,
    r#"{env="prod"} | region="eu" or status="201""#,
    r#"{env="prod"} | pattern "worker <n> timed <_>" | n="7""#,
    r#"{env="prod"} |= "worker 1" or "u-10" |~ "timed|path""#,
    r#"{env="prod"} | trace_id="00000000000000000000000000000459" | decolorize |= "status""#,
];

fn metrics(source: &dyn LogSource, text: &str) -> [MetricValue; 2] {
    let Expr::Metric(expr) = parse(text).unwrap_or_else(|error| panic!("{text}: {error}")) else { panic!("{text}") };
    let (from, to) = (Nanos(START), Nanos(START + 20 * MINUTE));
    let budget = Budget::unlimited();
    let (range, _) =
        query_range(source, &expr, (from, to), Duration::from_mins(1), &budget).unwrap_or_else(|error| panic!("{text}: {error}"));
    let (instant, _) = query_instant(source, &expr, to, &budget).unwrap_or_else(|error| panic!("{text}: {error}"));
    [range, instant]
}

/// Sums of the same numbers in another order may differ in the last digits.
fn is_close(one: &MetricValue, other: &MetricValue) -> bool {
    let (MetricValue::Series(one), MetricValue::Series(other)) = (one, other) else { return false };
    one.len() == other.len()
        && one.iter().zip(other).all(|(one, other)| {
            let points = one.points.iter().zip(&other.points);
            one.labels == other.labels
                && one.points.len() == other.points.len()
                && points.into_iter().all(|((time, value), (other_time, other_value))| {
                    time == other_time && (value - other_value).abs() <= 1e-9 * value.abs().max(1e-9)
                })
        })
}

/// The lines and labels of the answer, without an order among those of the same time.
fn lines(source: &dyn LogSource, text: &str, direction: Direction, limit: usize) -> Vec<String> {
    let Expr::Log(log) = parse(text).unwrap_or_else(|error| panic!("{text}: {error}")) else { panic!("{text}") };
    let range = TimeRange::new(Nanos(START + MINUTE), Nanos(START + 3 * MINUTE));
    let options = LogOptions { range, direction, limit, categorize: true };
    let LogResult { streams, .. } = query_log(source, &log, &options, &Budget::unlimited()).expect("answers");
    let mut found: Vec<String> = Vec::new();
    for stream in streams {
        found.extend(stream.entries.iter().map(|entry| format!("{:?} {entry:?}", stream.labels)));
    }
    found.sort_unstable();
    found
}

#[test]
fn the_store_answers_as_plain_rows_do() {
    let object_store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let events = EventStore::open(Vec::new(), object_store.clone(), EventOptions::new(Arc::new(Counting(AtomicU64::new(1)))));
    for part in 0..6 {
        events.append_logs(TENANT, JournalPosition(part + 1), &batch(part as i64)).expect("append");
    }
    let mut memory = MemoryLogs::default();
    let budget = Budget::unlimited();
    let source = events.logs(TENANT);
    let forward = LogQuery { direction: Direction::Forward, ..LogQuery::new(TimeRange::ALL) };
    let mut cursor = source.scan(&forward, &budget).expect("scan");
    while let Some(rows) = cursor.next_batch().expect("batch") {
        memory.extend(rows);
    }
    for stage in ["head", "file and head", "files"] {
        for text in METRICS {
            let expect = metrics(&memory, text);
            let found = metrics(&*source, text);
            let is_same = expect.iter().zip(&found).all(|(one, other)| is_close(one, other));
            assert!(is_same, "{stage}: {text}\n expected {expect:?}\n found {found:?}");
            let is_empty = |value: &MetricValue| matches!(value, MetricValue::Series(series) if series.is_empty());
            assert!(!is_empty(&expect[0]), "{text} finds something");
        }
        for text in LINES {
            let all = lines(&memory, text, Direction::Backward, usize::MAX);
            assert!(!all.is_empty(), "{text} finds something");
            assert_eq!(lines(&*source, text, Direction::Backward, usize::MAX), all, "{stage}: {text}");
            let few = lines(&*source, text, Direction::Forward, 3);
            assert!(few.len() == all.len().min(3) && few.iter().all(|line| all.contains(line)), "{stage}: {text}");
        }
        let up_to = JournalPosition(if stage == "head" { 3 } else { 7 });
        if stage == "head" {
            // Sealing takes all that is there: the second half comes again behind it.
            let sealed = events.seal(up_to).expect("not empty");
            events.publish(&sealed, sealed.write(&object_store).expect("write"));
            events.append_logs(TENANT, JournalPosition(7), &batch(6)).expect("append");
            let last = source.scan(&LogQuery { range: TimeRange::ALL, ..forward.clone() }, &budget);
            memory = MemoryLogs::default();
            let mut cursor = last.expect("scan");
            while let Some(rows) = cursor.next_batch().expect("batch") {
                memory.extend(rows);
            }
        } else if let Some(sealed) = events.seal(up_to) {
            events.publish(&sealed, sealed.write(&object_store).expect("write"));
        }
    }
}
