//! Rules on how long events are kept: what is over is hidden from everybody at once, and leaves the files with their next life.

mod support;

use br_env::sim::SimClock;
use br_events::{EventOptions, EventRule, EventRules, EventStore};
use br_model::*;
use br_std::Nanos;
use br_storage::{Budget, JournalPosition, LogQuery, Matcher, SpanParts, SpanQuery, Table, TimeRange};
use object_store::ObjectStore;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use support::*;

const DAY: Duration = Duration::from_hours(24);

/// `debug` is kept for a day, what `audit` says for thirty, failed spans for five, the rest for ten.
fn open_with_rules(store: &Arc<CountingStore>) -> (Arc<EventStore>, Arc<SimClock>) {
    let rule = |name: &str, value: &str, table, days: u32| EventRule {
        matchers: vec![Matcher::equal(name, value)],
        table,
        keep: DAY * days,
    };
    let rules = vec![
        rule("level", "debug", None, 1),
        rule("service_name", "audit", Some(Table::Logs), 30),
        rule("status", "error", Some(Table::Spans), 5),
    ];
    let clock = Arc::new(SimClock::at(Nanos(START)));
    let rules = EventRules::new(rules, DAY * 10, DAY * 10, clock.clone());
    let options = EventOptions { retention: Some(Arc::new(rules)), ..options() };
    (EventStore::open(Vec::new(), store.clone(), options), clock)
}

fn of_level(body: &str, severity: Severity) -> LogRecord {
    LogRecord { severity, ..log(START, body) }
}

fn append(events: &EventStore) {
    let said = |service: &str| {
        logs(
            service,
            vec![of_level(&format!("{service} debug"), Severity::DEBUG), of_level(&format!("{service} info"), Severity::INFO)],
        )
    };
    events.append_logs(TENANT, JournalPosition(1), &said("audit")).expect("append");
    events.append_logs(TENANT, JournalPosition(2), &said("shop")).expect("append");
    let span = |trace: u8, name: &str, status| Span {
        trace_id: TraceId([trace; 16]),
        span_id: SpanId([trace; 8]),
        name: name.into(),
        start: Nanos(START),
        end: Nanos(START + 1),
        status,
        ..Span::default()
    };
    let spans = vec![span(1, "good", SpanStatus::Ok), span(2, "bad", SpanStatus::Error)];
    let groups = vec![ResourceSpans { resource: resource("shop", "0"), scope: Arc::default(), spans }];
    events.append_spans(TENANT, JournalPosition(3), &SpanBatch { groups }).expect("append");
}

/// What every reader sees, which must be the same.
fn seen(events: &Arc<EventStore>) -> Vec<String> {
    let budget = Budget::unlimited();
    let mut lines: Vec<String> = read_logs(events, &query(), usize::MAX).into_iter().map(|row| row.line).collect();
    lines.sort();
    let mut whole: Vec<String> = events
        .records(TENANT, &LogQuery::new(TimeRange::ALL), 100, &budget)
        .expect("records")
        .into_iter()
        .map(|stored| stored.record.body)
        .collect();
    whole.sort();
    assert_eq!(whole, lines);
    let source = events.logs(TENANT);
    let mut groups = source.scan_groups(&query(), &budget).expect("scan");
    let mut counted = 0;
    while let Some(batch) = groups.next_batch().expect("batch") {
        counted += batch.iter().map(|group| group.members.len()).sum::<usize>();
    }
    assert_eq!(counted, lines.len());
    let mut by_service: BTreeMap<String, usize> = BTreeMap::new();
    for line in &lines {
        *by_service.entry(line.split(' ').next().unwrap_or_default().to_owned()).or_default() += 1;
    }
    let streams = source.streams(TimeRange::ALL, &[], &budget).expect("streams");
    let services: Vec<&str> = streams.iter().filter_map(|labels| labels.get("service_name")).collect();
    assert_eq!(services, by_service.keys().map(String::as_str).collect::<Vec<_>>());

    let spans = events.spans(TENANT);
    let all = SpanQuery { range: TimeRange::ALL, hints: Vec::new(), parts: SpanParts::ALL };
    let mut names: Vec<String> = read_spans(events, &all).into_iter().map(|stored| stored.span.name.clone()).collect();
    names.sort();
    for (trace, name) in [(1, "good"), (2, "bad")] {
        let found = spans.trace(TraceId([trace; 16]), None, &budget).expect("trace");
        assert_eq!(!found.is_empty(), names.iter().any(|seen| seen == name), "{name}");
    }
    assert_eq!(spans.services(TimeRange::ALL, &budget).expect("services").is_empty(), names.is_empty());
    lines.into_iter().chain(names).collect()
}

/// By days since the records came.
const EXPECTED: [(u32, &[&str]); 5] = [
    (0, &["audit debug", "audit info", "shop debug", "shop info", "bad", "good"]),
    (2, &["audit info", "shop info", "bad", "good"]),
    (6, &["audit info", "shop info", "good"]),
    (11, &["audit info"]),
    (31, &[]),
];

#[test]
fn what_is_over_by_its_rule_is_seen_by_nobody() {
    for is_flushed in [false, true] {
        let store = CountingStore::new();
        let (events, clock) = open_with_rules(&store);
        append(&events);
        if is_flushed {
            flush(&events, &store, 3);
        }
        let mut days = 0;
        for (day, expected) in EXPECTED {
            clock.advance(DAY * (day - days));
            days = day;
            assert_eq!(seen(&events), expected, "day {day}, in files: {is_flushed}");
        }
    }
}

#[test]
fn what_is_over_leaves_the_files() {
    let store = CountingStore::new();
    let (events, clock) = open_with_rules(&store);
    append(&events);
    flush(&events, &store, 3);
    let rows = || events.files().iter().map(|file| (file.table, file.rows)).collect::<Vec<_>>();
    let mut days = 0;
    let mut rewritten = Vec::new();
    for (day, expected) in EXPECTED {
        clock.advance(DAY * (day - days));
        days = day;
        let over: Vec<_> = events.files().into_iter().filter(|file| events.is_over(file, Nanos::MIN).expect("read")).collect();
        events.exchange(&over, Vec::new());
        let mut count = 0;
        while let Some(plan) = events.plan_rewrite().expect("planned") {
            let made = events.compact(&plan).expect("written");
            events.exchange(&plan.inputs, made);
            count += 1;
        }
        rewritten.push((over.len(), count));
        assert_eq!(seen(&events), expected, "day {day}");
        assert_eq!(rows().iter().map(|(_, rows)| *rows as usize).sum::<usize>(), expected.len(), "day {day}: {:?}", rows());
    }
    // A file is written anew once for each rule, and goes at once when all in it is over.
    assert_eq!(rewritten, [(0, 0), (0, 1), (0, 1), (1, 1), (1, 0)]);

    // A merge takes out what is over without being asked.
    let store = CountingStore::new();
    let (events, clock) = open_with_rules(&store);
    append(&events);
    let first = flush(&events, &store, 3);
    events.append_logs(TENANT, JournalPosition(4), &logs("shop", vec![of_level("later", Severity::INFO)])).expect("append");
    flush(&events, &store, 4);
    clock.advance(DAY * 2);
    let plan = events.plan_compactions(Nanos(START) + DAY * 2).into_iter().next().expect("two files");
    let made = events.compact(&plan).expect("written");
    assert_eq!(made.iter().map(|file| file.rows).sum::<u64>(), 3);
    let object_store: Arc<dyn ObjectStore> = store.clone();
    assert!(first.iter().all(|file| br_events::describe(&object_store, &file.path, file.size_bytes, &options()).is_ok()));
}

#[test]
fn pages_that_are_clean_are_not_looked_at_again() {
    let store = CountingStore::new();
    let (events, clock) = open_with_rules(&store);
    let records = (0..20_000).map(|at| of_level(&format!("line {at}"), Severity::INFO)).collect();
    events.append_logs(TENANT, JournalPosition(1), &logs("shop", records)).expect("append");
    flush(&events, &store, 1);
    let read = |events: &Arc<EventStore>| {
        store.take_bytes_read();
        let budget = Budget::unlimited();
        let needs = br_storage::LogNeeds::named(br_storage::LineNeed::Nothing, Vec::new());
        let source = events.logs(TENANT);
        let mut cursor = source.scan_groups(&LogQuery { needs, ..query() }, &budget).expect("scan");
        while cursor.next_batch().expect("batch").is_some() {}
        store.take_bytes_read()
    };
    read(&events);
    let young = read(&events);
    clock.advance(DAY * 2);
    assert!(read(&events) > young, "whether something of the debug level is in it has to be looked at");
    assert!(events.plan_rewrite().expect("planned").is_none(), "there is nothing of it");
    assert_eq!(read(&events), young);
}

#[test]
fn who_sends_what_is_over_hears_of_it() {
    let clock = Arc::new(SimClock::at(Nanos(START)));
    let rules = vec![EventRule { matchers: vec![Matcher::equal("level", "debug")], table: None, keep: DAY }];
    let rules = EventRules::new(rules, DAY * 10, DAY * 10, clock);
    let (resource, now) = (resource("shop", "0"), Nanos(START) + DAY * 2);
    let check = |severity| rules.of(&resource).check_log(&of_level("", severity), now);
    assert_eq!(check(Severity::INFO), Ok(()));
    let refused = check(Severity::DEBUG).expect_err("over");
    assert!(refused.contains("further back than the 1d"), "{refused}");
}
