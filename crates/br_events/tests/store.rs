//! The store from outside: exactly once, in order, with little reading, and past damage.

mod support;

use br_events::EventStore;
use br_model::*;
use br_std::Nanos;
use br_storage::{
    Budget, Direction, JournalPosition, LineNeed, LineTest, LinesSeen, LogHint, LogNeeds, LogQuery, LogRow, Matcher, SpanHint,
    SpanParts, SpanQuery, Table, TimeRange,
};
use std::sync::Arc;
use support::*;

#[test]
fn each_record_is_seen_once_from_head_to_file_and_after_reopening() {
    let store = CountingStore::new();
    let events = open(&store);
    let batch = logs("shop", vec![log(START + 2, "b"), log(START, "a"), log(START + HOUR, "c")]);
    events.append_logs(TENANT, JournalPosition(1), &batch).expect("append");
    let expect = ["c", "b", "a"];
    assert_eq!(lines(&events, &query()), expect);

    let sealed = events.seal(JournalPosition(1)).expect("not empty");
    assert_eq!(lines(&events, &query()), expect, "sealed");
    events.append_logs(TENANT, JournalPosition(1), &batch).expect("replayed");
    assert_eq!(lines(&events, &query()), expect, "a replayed position adds nothing");
    let object_store: Arc<dyn object_store::ObjectStore> = store.clone();
    let files = sealed.write(&object_store).expect("write");
    assert_eq!(files.len(), 2, "one for each hour");
    assert_eq!(lines(&events, &query()), expect, "written, not published");
    events.publish(&sealed, files.clone());
    assert_eq!(lines(&events, &query()), expect, "published");
    assert_eq!(events.head_bytes(), 0);

    let reopened = EventStore::open(files, store.clone(), options());
    assert_eq!(lines(&reopened, &query()), expect, "reopened");
    let forward = LogQuery { direction: Direction::Forward, ..query() };
    assert_eq!(lines(&reopened, &forward), ["a", "b", "c"]);
    let range = TimeRange::new(Nanos(START + 1), Nanos(START + HOUR));
    assert_eq!(lines(&reopened, &LogQuery { range, ..query() }), ["b"], "the end is not included");
    let other = LogQuery { streams: vec![Matcher::equal("service_name", "else")], ..query() };
    assert!(lines(&reopened, &other).is_empty());
    assert!(reopened.seal(JournalPosition(2)).is_none());
}

/// Text that hardly compresses, of one word each.
fn noise(seed: i64) -> String {
    let words: Vec<String> = (0..12).map(|at| format!("{:x}", br_std::hash::hash64(&(seed * 100 + at).to_le_bytes()))).collect();
    words.concat()
}

/// 40,000 records of ten services; one body holds a rare word, one trace id occurs twice.
fn large(store: &Arc<CountingStore>) -> Arc<EventStore> {
    let events = open(store);
    for service in 0..10i64 {
        let record = |at: i64| {
            let mut record = log(
                START + at * 1_000_000 + service,
                &format!("request {at} of service {service} took {} ms: {}", at % 97, noise(at * 10 + service)),
            );
            record.attributes.push("http.status_code", 200 + at % 5);
            record.trace_id = TraceId((u128::from(at as u64 / 2 + 1) << 32 | service as u128).to_be_bytes());
            if at == 1234 && service == 3 {
                record.body.push_str(" needle here");
                record.severity = Severity::ERROR;
            }
            record
        };
        let batch = logs(&format!("service-{service}"), (0..4000).map(record).collect());
        events.append_logs(TENANT, JournalPosition(service as u64 + 1), &batch).expect("append");
    }
    flush(&events, store, 10);
    events
}

#[test]
fn little_is_read_for_a_rare_word_a_trace_and_the_latest() {
    let store = CountingStore::new();
    let events = large(&store);
    let total: u64 = events.files().iter().map(|file| file.size_bytes).sum();
    let check = |name: &str, query: LogQuery, rows_max: usize, expect: usize, share: u64| {
        store.take_bytes_read();
        let rows = read_logs(&events, &query, rows_max);
        let bytes = store.take_bytes_read();
        assert!(
            rows.len() >= expect && rows.is_sorted_by(|one, other| one.timestamp >= other.timestamp),
            "{name}: {}",
            rows.len()
        );
        assert!(bytes * share < total, "{name}: {bytes} of {total} bytes");
        rows
    };
    read_logs(&events, &LogQuery { rows_wanted: Some(1), ..query() }, 1); // the tail is kept
    let hint = |hint: LogHint| LogQuery { hints: vec![hint], ..query() };
    let rows = check("word", hint(LogHint::LineContains(" needle ".into())), usize::MAX, 1, 2);
    assert!(rows.iter().any(|row| row.line.contains("needle")));
    // What stands alone may be a part of a word, of one with digits too.
    for (name, needle) in [("bare word", "needle"), ("its end", "eedle he"), ("part of a long word", &noise(12_343)[50..80])] {
        let rows = check(name, hint(LogHint::LineContains(needle.into())), usize::MAX, 1, 1);
        assert!(rows.iter().any(|row| row.line.contains(needle)), "{name}");
    }
    let id = TraceId((78u128 << 32 | 5).to_be_bytes());
    let rows = check("trace", hint(LogHint::TraceId(id)), usize::MAX, 2, 2);
    assert!(rows.len() == 2 && rows.iter().all(|row| row.trace_id == id));
    let latest = LogQuery { rows_wanted: Some(50), streams: vec![Matcher::equal("service_name", "service-4")], ..query() };
    let rows = check("latest", latest, 50, 50, 2);
    assert!(rows.iter().all(|row| row.stream.get("service_name") == Some("service-4")));
    assert_eq!(rows[0].timestamp, Nanos(START + 3999 * 1_000_000 + 4));
    let errors = check("errors", hint(LogHint::SeverityAtLeast(Severity::ERROR)), usize::MAX, 1, 2);
    assert_eq!(errors.len(), 1);
    assert_eq!(check("all", query(), usize::MAX, 40_000, 0).len(), 40_000);
    store.take_bytes_read();
    let none = hint(LogHint::LineContains(" zebra ".into()));
    assert!(read_logs(&events, &none, usize::MAX).len() < 40_000);
    // What must be in the line stands there as a whole word, or is an attribute: one page of each service at the most.
    let attribute = LogHint::AttributeEquals { name: "user".into(), value: "needle".into() };
    let parsed = hint(LogHint::AnyOf(vec![LogHint::LineHasWords("needle".into()), attribute]));
    let rows = check("word of a parsed label", parsed, usize::MAX, 1, 2);
    assert_eq!(rows.len(), 1, "the word was looked for in the rows too");
    let either = hint(LogHint::AnyOf(vec![LogHint::TraceId(id), LogHint::LineHasWords("needle".into())]));
    assert_eq!(check("trace or word", either, usize::MAX, 3, 1).len(), 3);
}

/// The members of all groups, and what they are groups of.
fn groups(events: &Arc<EventStore>, query: &LogQuery) -> (Vec<(Nanos, u32)>, Vec<LogRow>, LinesSeen) {
    let budget = Budget::unlimited();
    let source = events.logs(TENANT);
    let mut cursor = source.scan_groups(query, &budget).expect("scan");
    let (mut members, mut rows, mut reached) = (Vec::new(), Vec::new(), Nanos::MIN);
    while let Some(batch) = cursor.next_batch().expect("batch") {
        for group in batch {
            assert!(group.members.iter().all(|(time, _)| *time >= reached), "none is earlier than was promised");
            members.extend(group.members);
            rows.push(group.row);
        }
        reached = cursor.reached();
    }
    let seen = cursor.seen();
    drop(cursor);
    assert_eq!(budget.bytes_used(), 0, "all is given back");
    members.sort_unstable();
    (members, rows, seen)
}

#[test]
fn rows_carry_and_read_only_what_is_needed() {
    let store = CountingStore::new();
    let events = large(&store);
    let total: u64 = events.files().iter().map(|file| file.size_bytes).sum();
    let needs = |line, names: &[&str]| LogNeeds::named(line, names.iter().map(ToString::to_string).collect());
    let levels = LogQuery { needs: needs(LineNeed::Nothing, &["detected_level"]), ..query() };
    groups(&events, &levels);
    store.take_bytes_read();
    let (members, rows, seen) = groups(&events, &levels);
    let bytes = store.take_bytes_read();
    assert!(bytes * 10 < total, "{bytes} of {total} bytes to count levels");
    assert_eq!((members.len(), seen), (40_000, LinesSeen { lines: 40_000, bytes: 0 }));
    assert!(rows.len() < 40, "{} groups: of each page one for a stream and level", rows.len());
    assert!(rows.iter().all(|row| row.line.is_empty() && row.metadata.len() == 1 && row.stream.get("service_name").is_some()));

    let status = LogQuery { needs: needs(LineNeed::Length, &["http_status_code"]), ..query() };
    let (members, rows, seen) = groups(&events, &status);
    assert_eq!(members.iter().map(|(_, bytes)| u64::from(*bytes)).sum::<u64>(), seen.bytes);
    let lines: u64 = lines(&events, &query()).iter().map(|line| line.len() as u64).sum();
    assert_eq!((members.len(), seen), (40_000, LinesSeen { lines: 40_000, bytes: lines }));
    assert!(rows.iter().all(|row| row.metadata[0].0 == "http_status_code" && row.metadata.len() == 1));

    // Rows are made of lines that pass only; all that were tested are counted.
    let tested = |test| LogQuery { line_tests: vec![test], rows_wanted: Some(5), ..query() };
    let budget = Budget::unlimited();
    let source = events.logs(TENANT);
    let needle = tested(LineTest::contains("needle"));
    let mut cursor = source.scan(&needle, &budget).expect("scan");
    let rows = cursor.next_batch().expect("batch").expect("one row");
    assert!(rows.len() == 1 && rows[0].line.ends_with(" needle here"));
    assert!(cursor.next_batch().expect("batch").is_none());
    assert_eq!(cursor.seen(), LinesSeen { lines: 40_000, bytes: lines });
    let without = LineTest { is_negated: true, ..LineTest::contains("of service 3 ") };
    let (members, rows, _) = groups(&events, &LogQuery { needs: needs(LineNeed::Text, &[]), ..tested(without) });
    assert_eq!((members.len(), rows.len()), (36_000, 36_000));
}

#[test]
fn the_id_of_a_trace_stands_before_an_attribute_of_its_name() {
    let store = CountingStore::new();
    let events = open(&store);
    let (mut linked, mut named) = (log(START + 1, "linked"), log(START, "named"));
    linked.trace_id = TraceId([1; 16]);
    linked.attributes.push("trace_id", "mine");
    named.attributes.push("trace_id", TraceId([1; 16]).to_string());
    events.append_logs(TENANT, JournalPosition(1), &logs("shop", vec![linked, named])).expect("append");
    let id = TraceId([1; 16]);
    let attribute = LogHint::AttributeEquals { name: "trace_id".into(), value: id.to_string() };
    let either = LogQuery { hints: vec![LogHint::AnyOf(vec![LogHint::TraceId(id), attribute])], ..query() };
    for stage in ["head", "file"] {
        let rows = read_logs(&events, &either, usize::MAX);
        let metadata =
            |row: &LogRow, name: &str| row.metadata.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        assert_eq!(rows.len(), 2, "{stage}: both have it");
        assert_eq!(metadata(&rows[0], "trace_id"), Some(id.to_string()), "{stage}");
        assert_eq!(metadata(&rows[0], "trace_id_extracted"), Some("mine".to_owned()), "{stage}");
        assert_eq!(metadata(&rows[1], "trace_id"), Some(id.to_string()), "{stage}");
        flush(&events, &store, 1);
    }
}

#[test]
fn a_flipped_byte_is_noticed_wherever_it_is_and_the_rest_answers() {
    for place in ["data", "tail", "end"] {
        let store = CountingStore::new();
        let events = open(&store);
        events.append_logs(TENANT, JournalPosition(1), &logs("shop", vec![log(START, "first hour")])).expect("append");
        events.append_logs(TENANT, JournalPosition(2), &logs("shop", vec![log(START + HOUR, "second hour")])).expect("append");
        let files = flush(&events, &store, 2);
        let damaged = files.iter().find(|file| file.window == Nanos(START)).expect("first hour");
        let stats: serde_json::Value = serde_json::from_str(&damaged.stats).expect("JSON");
        let at = match place {
            "data" => 40,
            "tail" => stats["tail_offset"].as_u64().expect("offset") as usize + 20,
            _ => damaged.size_bytes as usize - 6,
        };
        store.flip(&damaged.path, at);
        assert_eq!(lines(&events, &query()), ["second hour"], "{place}");
        let damages = events.counters().damages();
        assert_eq!(damages.len(), 1, "{place}");
        assert_eq!(damages[0].path, damaged.path);
        assert!(damages[0].message.contains("checksum"), "{}", damages[0].message);
    }
}

#[test]
fn a_file_that_was_cut_is_left_out_and_holds_up_no_compaction() {
    let store = CountingStore::new();
    let events = open(&store);
    let mut files = Vec::new();
    for position in 1..=5u64 {
        let record = log(START + position as i64, &format!("line {position}"));
        events.append_logs(TENANT, JournalPosition(position), &logs("shop", vec![record])).expect("append");
        files.extend(flush(&events, &store, position));
    }
    store.cut(&files[0].path, 100);
    assert_eq!(lines(&events, &query()).len(), 4, "the others answer");
    assert!(events.counters().damages()[0].message.contains("ends after 100 bytes"), "{:?}", events.counters().damages());
    let plans = events.plan_compactions(Nanos(START + 3 * HOUR));
    let [plan] = plans.as_slice() else { panic!("{plans:?}") };
    assert!(plan.inputs.len() == 4 && plan.inputs.iter().all(|input| input.path != files[0].path), "{plan:?}");
    let added = events.compact(plan).expect("compact");
    events.exchange(&plan.inputs, added);
    assert_eq!(lines(&events, &query()).len(), 4);
}

#[test]
fn compaction_keeps_every_record_and_the_old_files_can_go() {
    let store = CountingStore::new();
    let events = open(&store);
    for position in 1..=5u64 {
        let record = log(START + position as i64, &format!("line {position}"));
        events.append_logs(TENANT, JournalPosition(position), &logs("shop", vec![record])).expect("append");
        flush(&events, &store, position);
    }
    let before = lines(&events, &query());
    let plans = events.plan_compactions(Nanos(START + 3 * HOUR));
    let [plan] = plans.as_slice() else { panic!("{plans:?}") };
    assert_eq!(plan.inputs.len(), 5);
    let added = events.compact(plan).expect("compact");
    assert_eq!((added.len(), added[0].level, added[0].rows), (1, 1, 5));
    events.exchange(&plan.inputs, added.clone());
    events.exchange(&plan.inputs, added);
    assert_eq!(lines(&events, &query()), before);
    assert!(events.compact(plan).is_err(), "the inputs have gone");
    events.delete_objects(&plan.inputs).expect("delete");
    events.delete_objects(&plan.inputs).expect("again");
    assert_eq!(lines(&events, &query()), before);
    assert!(events.plan_compactions(Nanos(START + 3 * HOUR)).is_empty());
    let expired = events.expired(TENANT, Table::Logs, Nanos(START + 6));
    assert_eq!(expired.len(), 1);
    events.exchange(&expired, Vec::new());
    assert!(lines(&events, &query()).is_empty());
}

#[test]
fn spans_by_trace_by_hint_and_their_names() {
    let store = CountingStore::new();
    let events = open(&store);
    let mut failed = span(30, 3, "GET /b");
    failed.status = SpanStatus::Error;
    failed.attributes.push("http.status_code", 500);
    let groups = |service: &str, spans| vec![ResourceSpans { resource: resource(service, "0"), scope: Arc::default(), spans }];
    let first = SpanBatch { groups: groups("shop", vec![span(10, 1, "GET /a"), span(20, 2, "GET /a"), failed.clone()]) };
    let second = SpanBatch { groups: groups("pay", vec![span(40, 1, "charge")]) };
    events.append_spans(TENANT, JournalPosition(1), &first).expect("append");
    flush(&events, &store, 1);
    events.append_spans(TENANT, JournalPosition(2), &second).expect("append");
    let budget = Budget::unlimited();
    let source = events.spans(TENANT);
    let trace = source.trace(TraceId([1; 16]), None, &budget).expect("trace");
    assert_eq!(trace.iter().map(|stored| stored.span.name.as_str()).collect::<Vec<_>>(), ["charge", "GET /a"], "head and file");
    assert!(source.trace(TraceId([9; 16]), None, &budget).expect("none").is_empty());
    let search = |hints: Vec<SpanHint>| read_spans(&events, &SpanQuery { range: TimeRange::ALL, hints, parts: SpanParts::ALL });
    assert_eq!(search(Vec::new()).len(), 4);
    let errors = search(vec![SpanHint::IsError]);
    assert_eq!(errors.iter().map(|stored| &stored.span).collect::<Vec<_>>(), [&failed]);
    let code = SpanHint::AttributeEquals { key: "http.status_code".into(), value: 500i64.into() };
    assert!(search(vec![code]).iter().any(|stored| stored.span == failed));
    assert_eq!(search(vec![SpanHint::Service("pay".into())]).len(), 1);
    assert_eq!(search(vec![SpanHint::DurationNanosAtLeast(30)]).len(), 2);
    assert_eq!(source.services(TimeRange::ALL, &budget).expect("services"), ["pay", "shop"]);
    assert_eq!(source.operations("shop", TimeRange::ALL, &budget).expect("operations"), ["GET /a", "GET /b"]);
    let mut cursor =
        source.scan(&SpanQuery { range: TimeRange::ALL, hints: Vec::new(), parts: SpanParts::ALL }, &budget).expect("scan");
    let (mut starts, mut bounds) = (Vec::new(), vec![cursor.newest_left().expect("known")]);
    while let Some(batch) = cursor.next_batch().expect("batch") {
        starts.push(batch.iter().map(|stored| stored.span.start).max().expect("a span"));
        bounds.push(cursor.newest_left().expect("known"));
    }
    assert_eq!(bounds[..2], starts[..], "head, then file: the bound is that of what comes next");
    assert_eq!(bounds[2], Nanos::MIN, "nothing is left");
    let other = events.spans(TenantId(8));
    assert!(other.trace(TraceId([1; 16]), None, &budget).expect("other tenant").is_empty());
}

/// 3,000 traces of four spans over an hour, those of every other trace in a file, the rest in the head.
fn traced(store: &Arc<CountingStore>) -> Arc<EventStore> {
    let events = open(store);
    let spans_of = |trace: u64| {
        let span = move |at: u64| {
            let mut span =
                span((trace * 1_000_000_000 + at * 1000) as i64, 0, ["GET /", "select", "render", "charge"][at as usize]);
            span.trace_id = TraceId(u128::from(trace * 7919 + 1).to_be_bytes());
            span.attributes = [("text", noise(trace as i64)), ("shop", format!("{at}"))].into_iter().collect();
            span.events.push(SpanEvent { timestamp: span.start, name: noise(1), attributes: Attributes::default() });
            span.status_message = noise(trace as i64);
            span
        };
        (0..4).map(span)
    };
    for (position, half) in [(1, 0), (2, 1)] {
        let spans = (0..3000).filter(|trace| trace % 2 == half).flat_map(spans_of).collect();
        let batch = SpanBatch { groups: vec![ResourceSpans { resource: resource("shop", "0"), scope: Arc::default(), spans }] };
        events.append_spans(TENANT, JournalPosition(position), &batch).expect("append");
        if position == 1 {
            flush(&events, store, 1);
        }
    }
    events
}

#[test]
fn many_traces_are_read_in_one_pass_and_come_in_the_order_asked_for() {
    let store = CountingStore::new();
    let events = traced(&store);
    let (source, budget) = (events.spans(TENANT), Budget::new(32 << 20));
    let id = |trace: u64| TraceId(u128::from(trace * 7919 + 1).to_be_bytes());
    let read = |ids: &[TraceId], parts: &SpanParts| {
        let wanted: Vec<(TraceId, TimeRange)> = ids.iter().map(|id| (*id, TimeRange::ALL)).collect();
        let mut found = Vec::new();
        let mut take = |id, spans: Vec<br_storage::StoredSpan>| {
            found.push((id, spans));
            Ok(true)
        };
        source.traces(&wanted, parts, &budget, &mut take).expect("read");
        found
    };
    // Backwards, with strangers between them, and one twice.
    let mut ids: Vec<TraceId> = (0..3000).rev().map(id).collect();
    ids.insert(3, TraceId([9; 16]));
    ids.insert(9, id(2999));
    ids.push(TraceId::default());
    let found = read(&ids, &SpanParts::ALL);
    assert_eq!(found.iter().map(|(id, _)| *id).collect::<Vec<_>>(), (0..3000).rev().map(id).collect::<Vec<_>>());
    for (at, spans) in &found[..40] {
        assert_eq!(spans.len(), 4);
        assert!(spans.iter().all(|stored| stored.span.trace_id == *at && stored.span.attributes.len() == 2));
        let mut one = source.trace(*at, None, &budget).expect("trace");
        one.sort_by_key(|stored| stored.span.start);
        let mut spans = spans.clone();
        spans.sort_by_key(|stored| stored.span.start);
        assert_eq!(one, spans, "one by one they are the same");
    }
    assert!(read(&[], &SpanParts::ALL).is_empty());
    let in_range = (id(10), TimeRange::new(Nanos(START + 10_000_000_000 + 1), Nanos(START + 10_000_000_000 + 3000)));
    let mut names = Vec::new();
    let mut take = |_, spans: Vec<br_storage::StoredSpan>| {
        names.extend(spans.into_iter().map(|stored| stored.span.name));
        Ok(true)
    };
    source.traces(&[in_range], &SpanParts::NONE, &budget, &mut take).expect("read");
    names.sort();
    assert_eq!(names, ["render", "select"]);
}

#[test]
fn of_traces_only_the_parts_that_are_wanted_are_read() {
    let store = CountingStore::new();
    let events = traced(&store);
    let (source, budget) = (events.spans(TENANT), Budget::unlimited());
    let ids: Vec<(TraceId, TimeRange)> =
        (0..3000u64).map(|trace| (TraceId(u128::from(trace * 7919 + 1).to_be_bytes()), TimeRange::ALL)).collect();
    let read = |parts: &SpanParts| {
        store.take_bytes_read();
        let mut spans = Vec::new();
        let mut take = |_, more| {
            spans.extend::<Vec<br_storage::StoredSpan>>(more);
            Ok(true)
        };
        source.traces(&ids, parts, &budget, &mut take).expect("read");
        (spans, store.take_bytes_read())
    };
    let (whole, bytes) = read(&SpanParts::ALL);
    let named = SpanParts { keys: Some(vec!["shop".into()]), ..SpanParts::NONE };
    let (parts, fewer_bytes) = read(&named);
    assert!(fewer_bytes * 2 < bytes, "{fewer_bytes} of {bytes} bytes");
    assert_eq!(parts.len(), whole.len());
    for (part, whole) in parts.iter().zip(&whole) {
        assert_eq!(part.span.attributes.get("shop"), whole.span.attributes.get("shop"));
        assert_eq!((part.span.attributes.len(), part.span.events.len(), part.span.status_message.as_str()), (1, 0, ""));
        assert_eq!((part.span.span_id, part.span.name.as_str()), (whole.span.span_id, whole.span.name.as_str()));
    }
    let query = SpanQuery { range: TimeRange::ALL, hints: Vec::new(), parts: named };
    store.take_bytes_read();
    assert!(read_spans(&events, &query).iter().all(|stored| stored.span.attributes.len() == 1 && stored.span.events.is_empty()));
    assert!(store.take_bytes_read() * 2 < bytes);
}

#[test]
fn what_is_over_a_limit_is_cut_and_counted() {
    let store = CountingStore::new();
    let mut options = options();
    options.limits.body_bytes_max = 5;
    options.limits.attributes_max = 1;
    let events = EventStore::open(Vec::new(), store, options);
    let mut record = log(START, "abcdéfg");
    record.attributes = [("a", "1"), ("b", "2")].into_iter().collect();
    record.severity_text = "Notice".to_owned();
    events.append_logs(TENANT, JournalPosition(1), &logs("shop", vec![record])).expect("append");
    let rows = read_logs(&events, &query(), usize::MAX);
    assert_eq!(rows[0].line, "abcd… [cut: 4 more bytes]");
    let kept = [("a", "1"), ("severity_text", "Notice"), ("detected_level", "info")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(rows[0].metadata, kept, "the level comes from the severity, beside the sender's own word");
    let counters = events.counters();
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!((count(&counters.bodies_cut), count(&counters.attributes_dropped)), (1, 1));
}

/// Records of two streams whose attributes differ from file to file, some of them large.
fn mixed(file: i64) -> Vec<LogRecord> {
    let record = |at: i64| {
        let mut record = log(START + at * 1000 + file, &format!("file {file} line {at} marker-{file}-{at} end"));
        record.attributes.push("common", at % 7);
        record.attributes.push(if file == 0 { "early" } else { "late" }, format!("value {}", at % 3));
        if at % 100 == 0 {
            record.attributes.push("rare", at as f64 / 2.0);
            record.attributes.push("common", "again, as text");
            record.attributes.push("common", 7 - at);
        }
        if at % 20 == 0 {
            record.body.push_str(&"x".repeat(250_000));
        }
        record
    };
    (0..4000).map(record).collect()
}

#[test]
fn files_with_other_columns_and_large_rows_are_merged_page_by_page() {
    let store = CountingStore::new();
    let events = open(&store);
    for file in 0..3i64 {
        let batch = LogBatch {
            groups: ["a", "b"]
                .into_iter()
                .zip([0, 1])
                .map(|(pod, part)| ResourceLogs {
                    resource: resource("shop", pod),
                    scope: Arc::default(),
                    records: mixed(file).into_iter().skip(part).step_by(2).collect(),
                })
                .collect(),
        };
        events.append_logs(TENANT, JournalPosition(file as u64 + 1), &batch).expect("append");
        flush(&events, &store, file as u64 + 1);
    }
    let all = |events: &Arc<EventStore>| {
        let found = events.records(TENANT, &query(), usize::MAX, &Budget::unlimited()).expect("read");
        let shown = |stored: br_events::StoredLog| {
            let mut attributes: Vec<String> =
                stored.record.attributes.iter().map(|(key, value)| format!("{key}={value:?}")).collect();
            attributes.sort();
            let first = stored.record.attributes.get("common").cloned();
            (stored.record.timestamp, stored.resource.attributes.get("pod").cloned(), stored.record.body, attributes, first)
        };
        found.into_iter().map(shown).collect::<Vec<_>>()
    };
    let before = all(&events);
    assert_eq!(before.len(), 12_000);
    let plans = events.plan_compactions(Nanos(START + 3 * HOUR));
    let [plan] = plans.as_slice() else { panic!("{plans:?}") };
    let added = events.compact(plan).expect("compact");
    events.exchange(&plan.inputs, added.clone());
    assert_eq!(added.iter().map(|file| file.rows).sum::<u64>(), 12_000);
    for (after, before) in all(&events).iter().zip(&before) {
        assert!(after == before, "a merge changes no record: {:?} was {:?}", (after.0, &after.3), (before.0, &before.3));
    }
    let hints = vec![LogHint::LineContains(" marker-2-2002 ".into())];
    let needle = LogQuery { hints, ..query() };
    let rows = read_logs(&events, &needle, usize::MAX);
    assert!(rows.iter().any(|row| row.line.contains("marker-2-2002")));
    assert!(rows.len() < 4000, "of segments that follow each other one is looked at: {}", rows.len());
}

#[test]
fn attributes_are_found_wherever_they_stand_and_other_rows_are_not_made() {
    let store = CountingStore::new();
    let events = open(&store);
    let spans: Vec<Span> = (0..2000)
        .map(|at| {
            let mut span = span(at, 1, "op");
            span.attributes.push("usual", format!("value {}", at % 100));
            span.attributes.push("number", at % 50);
            if at == 700 {
                span.attributes.push("rare", "found");
                span.attributes.push("list", AttributeValue::Array(vec!["a".into(), "b".into()]));
                span.attributes.push("usual", "second");
            }
            if at == 900 {
                span.attributes.push("rare", 7.0);
            }
            span
        })
        .collect();
    let batch = SpanBatch { groups: vec![ResourceSpans { resource: resource("shop", "pod-1"), scope: Arc::default(), spans }] };
    events.append_spans(TENANT, JournalPosition(1), &batch).expect("append");
    for step in ["head", "files"] {
        for (key, value, expected) in [
            ("usual", AttributeValue::from("value 7"), 20),
            ("usual", "second".into(), 1),
            ("number", AttributeValue::Int(49), 40),
            ("number", AttributeValue::Double(49.0), 40),
            ("rare", "found".into(), 1),
            ("rare", AttributeValue::Int(7), 1),
            ("list", "b".into(), 1),
            ("pod", "pod-1".into(), 2000),
            ("pod", "pod-2".into(), 0),
            ("usual", "value 100".into(), 0),
        ] {
            let hints = vec![SpanHint::AttributeEquals { key: key.into(), value: value.clone() }];
            let parts = SpanParts { keys: Some(vec![key.to_owned()]), ..SpanParts::NONE };
            let found = read_spans(&events, &SpanQuery { range: TimeRange::ALL, hints, parts });
            assert_eq!(found.len(), expected, "{step}: {key} = {value:?}");
            let has = |stored: &br_storage::StoredSpan| stored.span.attributes.iter().any(|(known, _)| known == key);
            assert!(key == "pod" || found.iter().all(has), "{step}: {key}");
        }
        flush(&events, &store, 1);
    }
}
