//! What is erased is seen by nobody from then on, and files are written anew without it.

mod support;

use br_events::{Erased, Erasure, EventOptions, EventStore, Remains};
use br_model::*;
use br_std::Nanos;
use br_storage::{Budget, JournalPosition, LogQuery, SpanParts, SpanQuery, Table, TimeRange};
use std::sync::Arc;
use support::*;

fn erasure(contains: Option<&str>, attributes: &[(&str, &str)], table: Option<Table>) -> Erasure {
    Erasure {
        id: "one".into(),
        query: None,
        attributes: attributes.iter().map(|(key, text)| ((*key).into(), (*text).into())).collect(),
        contains: contains.map(str::to_owned),
        range: TimeRange::ALL,
        table,
        source: Arc::default(),
    }
}

/// Log records and spans that hold `user-4711` in every place there is, one for each, and one of each that does not.
fn append(events: &EventStore, position: u64) {
    let mut records = vec![log(START, "plain"), log(START + 1, "body of user-4711"), log(START + 2, "by attribute")];
    records[2].attributes.push("user.id", "user-4711");
    records.push(log(START + 3, "by number"));
    records[3].attributes.push("account", 4_711_000);
    records.push(log(START + 4, "by array"));
    records[4].attributes.push("users", AttributeValue::Array(vec!["other".into(), "user-4711".into()]));
    let error = ErrorEvent { message: "no such user-4711 \"x\"".into(), ..ErrorEvent::default() };
    records.push(LogRecord { kind: LogKind::Error, error: Some(Box::new(error)), ..log(START + 5, "by error") });
    events.append_logs(TENANT, JournalPosition(position), &logs("shop", records)).expect("append");
    events
        .append_logs(TENANT, JournalPosition(position + 1), &logs("user-4711", vec![log(START, "by resource")]))
        .expect("append");
    let span = |trace: u8, name: &str| Span {
        trace_id: TraceId([trace; 16]),
        span_id: SpanId([trace; 8]),
        name: name.into(),
        start: Nanos(START),
        end: Nanos(START + 1),
        ..Span::default()
    };
    let mut spans = vec![span(1, "plain"), span(2, "GET /users/user-4711"), span(3, "by attribute"), span(4, "by event")];
    spans[2].attributes.push("user.id", "user-4711");
    let attributes = [("id", "user-4711")].into_iter().collect();
    spans[3].events.push(SpanEvent { timestamp: Nanos(START), name: "login".into(), attributes });
    let groups = vec![ResourceSpans { resource: resource("shop", "0"), scope: Arc::default(), spans }];
    events.append_spans(TENANT, JournalPosition(position + 2), &SpanBatch { groups }).expect("append");
}

/// What every reader sees, which must be the same.
fn seen(events: &Arc<EventStore>) -> Vec<String> {
    let budget = Budget::unlimited();
    let mut lines: Vec<String> = read_logs(events, &query(), usize::MAX).into_iter().map(|row| row.line).collect();
    lines.sort();
    let whole = events.records(TENANT, &LogQuery::new(TimeRange::ALL), 1000, &budget).expect("records");
    let mut whole: Vec<String> = whole.into_iter().map(|stored| stored.record.body).collect();
    whole.sort();
    assert_eq!(whole, lines);
    let streams = events.logs(TENANT).streams(TimeRange::ALL, &[], &budget).expect("streams");
    let is_listed = streams.iter().any(|labels| labels.get("service_name") == Some("user-4711"));
    assert_eq!(is_listed, lines.iter().any(|line| line == "by resource"));
    let all = SpanQuery { range: TimeRange::ALL, hints: Vec::new(), parts: SpanParts::ALL };
    let mut names: Vec<String> = read_spans(events, &all).into_iter().map(|stored| stored.span.name.clone()).collect();
    names.sort();
    let spans = events.spans(TENANT);
    let mut operations = spans.operations("shop", TimeRange::ALL, &budget).expect("operations");
    operations.sort();
    let mut distinct = names.clone();
    distinct.dedup();
    assert_eq!(operations, distinct);
    for trace in 1..=4u8 {
        let found = spans.trace(TraceId([trace; 16]), None, &budget).expect("trace");
        assert_eq!(found.iter().filter(|stored| !names.contains(&stored.span.name)).count(), 0);
    }
    lines.into_iter().chain(names).collect()
}

/// Carries it out on files; how many were written anew.
fn carry_out(events: &Arc<EventStore>, erased: &Erased) -> usize {
    let mut rewritten = 0;
    loop {
        match events.remains(erased).expect("read") {
            Remains::File(plan) => {
                let made = events.compact(&plan).expect("written");
                events.exchange(&plan.inputs, made);
                rewritten += 1;
            }
            Remains::Nothing => return rewritten,
            other => panic!("{other:?}"),
        }
    }
}

fn is_in_files(events: &Arc<EventStore>, text: &str) -> bool {
    let reopened = EventStore::open(events.files(), events_store(events), options());
    let hits = Erasure { ..erasure(Some(text), &[], None) };
    reopened.restore_erasure(Erased { tenant: TENANT, position: JournalPosition(u64::MAX), erasure: Arc::new(hits) });
    let erased = reopened.erasures().remove(0);
    matches!(reopened.remains(&erased).expect("read"), Remains::File(_))
}

thread_local! {
    static STORE: std::cell::RefCell<Option<Arc<CountingStore>>> = const { std::cell::RefCell::new(None) };
}

fn events_store(_: &Arc<EventStore>) -> Arc<CountingStore> {
    STORE.with(|store| store.borrow().clone().expect("set by the test"))
}

fn opened() -> (Arc<EventStore>, Arc<CountingStore>) {
    let store = CountingStore::new();
    STORE.with(|kept| *kept.borrow_mut() = Some(store.clone()));
    (open(&store), store)
}

const REST: [&str; 3] = ["by number", "plain", "plain"];

#[test]
fn a_text_is_found_wherever_it_stands_in_heads_sealed_heads_and_files() {
    for flushed in ["head", "sealed", "file"] {
        let (events, store) = opened();
        append(&events, 1);
        assert_eq!(seen(&events).len(), 11);
        let sealed = if flushed == "sealed" { events.seal(JournalPosition(3)) } else { None };
        if flushed == "file" {
            flush(&events, &store, 3);
        }
        events.erase(TENANT, JournalPosition(4), erasure(Some("user-4711"), &[], None)).expect("erased");
        assert_eq!(seen(&events), REST, "{flushed}");
        // What comes after stays.
        append(&events, 5);
        assert_eq!(seen(&events).len(), 11 + 3, "{flushed}");
        let erased = events.erasures().remove(0);
        if let Some(sealed) = sealed {
            assert_eq!(events.remains(&erased).expect("asked"), Remains::Memory);
            let objects: Arc<dyn object_store::ObjectStore> = store.clone();
            events.publish(&sealed, sealed.write(&objects).expect("written"));
        }
        assert_eq!(carry_out(&events, &erased), if flushed == "file" { 2 } else { 0 }, "{flushed}");
        assert_eq!(seen(&events).len(), 11 + 3, "{flushed}");
        assert!(!is_in_files(&events, "user-4711"), "{flushed}");
        flush(&events, &store, 7);
        assert_eq!(carry_out(&events, &erased), 0, "the files of what came later are left alone");
        assert!(is_in_files(&events, "user-4711"));
        assert_eq!(seen(&events).len(), 11 + 3, "{flushed}");
    }
}

#[test]
fn attributes_must_be_equal_and_all_of_them() {
    for flushed in [false, true] {
        let check = |attributes: &[(&str, &str)], table, gone: &[&str]| {
            let (events, store) = opened();
            append(&events, 1);
            if flushed {
                flush(&events, &store, 3);
            }
            let mut expected = seen(&events);
            for name in gone {
                // Spans stand behind the logs.
                let is_it = |known: &String| known == name;
                let first = expected.iter().position(is_it);
                let at = if table == Some(Table::Spans) { expected.iter().rposition(is_it) } else { first }.expect("there");
                expected.remove(at);
            }
            events.erase(TENANT, JournalPosition(4), erasure(None, attributes, table)).expect("erased");
            assert_eq!(seen(&events), expected, "{attributes:?} in files: {flushed}");
            carry_out(&events, &events.erasures().remove(0));
            assert_eq!(seen(&events), expected, "{attributes:?} in files: {flushed}");
        };
        check(&[("user.id", "user-4711")], None, &["by attribute", "by attribute"]);
        check(&[("user.id", "user-4711")], Some(Table::Spans), &["by attribute"]);
        check(&[("user.id", "user-471")], None, &[]);
        check(&[("user.id", "user-4711"), ("account", "1")], None, &[]);
        check(&[("user.id", "user-4711"), ("service.name", "shop")], Some(Table::Logs), &["by attribute"]);
        check(&[("account", "4711000")], None, &["by number"]);
        check(&[("users", "user-4711")], None, &["by array"]);
        check(&[("users", "user")], None, &[]);
    }
}

#[test]
fn merges_and_restarts_in_between_bring_nothing_back() {
    let (events, store) = opened();
    append(&events, 1);
    flush(&events, &store, 3);
    append(&events, 4);
    flush(&events, &store, 6);
    events.erase(TENANT, JournalPosition(7), erasure(Some("user-4711"), &[], None)).expect("erased");
    let expected = ["by number", "by number", "plain", "plain", "plain", "plain"];
    assert_eq!(seen(&events), expected);
    append(&events, 8);
    let later = flush(&events, &store, 10);
    assert_eq!(seen(&events).len(), 6 + 11);

    // A life that knows the files and the erasure, as the catalog has them.
    let reopened = EventStore::open(events.files(), store.clone(), EventOptions { compact_files_min: 2, ..options_of(2) });
    assert_eq!(seen(&reopened).len(), 33, "without the erasure");
    let erased = events.erasures().remove(0);
    reopened.restore_erasure(erased.clone());
    reopened.restore_erasure(erased.clone());
    assert_eq!((seen(&reopened).len(), reopened.erasures().len()), (6 + 11, 1));
    while let Some(plan) = reopened.plan_compactions(Nanos(START)).into_iter().next() {
        let made = reopened.compact(&plan).expect("merged");
        reopened.exchange(&plan.inputs, made);
    }
    assert_eq!(seen(&reopened).len(), 6 + 11, "merged with what came later");
    assert_eq!(carry_out(&reopened, &erased), 0, "the merge has carried it out");
    reopened.forget_erasure(TENANT, erased.position);
    assert_eq!(seen(&reopened).len(), 6 + 11);
    let again = EventStore::open(reopened.files(), store.clone(), options());
    again.restore_erasure(erased.clone());
    assert_eq!(seen(&again).len(), 6 + 11, "what came later is not taken for older because it was merged");
    assert!(!later.is_empty());

    // As the journal is read back, before the erasure comes itself.
    let replaying = open(&store);
    replaying.restore_erasure(erased.clone());
    append(&replaying, 1);
    assert_eq!(seen(&replaying), REST);
    replaying.erase(TENANT, erased.position, erasure(Some("user-4711"), &[], None)).expect("erased");
    append(&replaying, 8);
    assert_eq!((seen(&replaying).len(), replaying.erasures().len()), (3 + 11, 1));

    // Another tenant's are its own.
    let other = Erased { tenant: TenantId(TENANT.0 + 1), position: JournalPosition(20), ..erased };
    again.restore_erasure(other);
    assert_eq!(seen(&again).len(), 6 + 11);
}
