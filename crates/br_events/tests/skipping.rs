//! What is skipped, and that nothing is lost by it: needles, counts, comparisons.

mod support;

use br_events::EventStore;
use br_model::*;
use br_std::Nanos;
use br_storage::{
    Budget, JournalPosition, LineNeed, LineTest, LinesSeen, LogHint, LogNeeds, LogQuery, LogRow, Marks, Matcher, SpanHint,
    SpanParts, SpanQuery, StoredSpan, TimeNeed, TimeRange,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use support::*;

/// A line of a few words of many kinds.
fn line_of(random: &mut impl FnMut(u64) -> u64) -> String {
    let mut line = String::new();
    for _ in 0..random(6) {
        let number = random(100_000);
        let word = match random(7) {
            0 => "timeout".to_owned(),
            1 => format!("Order{number}"),
            2 => number.to_string(),
            3 => format!("{:x}", br_std::hash::hash64(&number.to_le_bytes())),
            4 => format!("größe{}", number % 7),
            5 => format!("{:x}{:x}é", br_std::hash::hash128(&number.to_le_bytes()), number).repeat(2),
            _ => ["on", "retry_after", "POST", "a"][number as usize % 4].to_owned(),
        };
        line.push_str(&word);
        line.push_str([" ", ": ", "-", "\"", ""][random(5) as usize]);
    }
    line
}

#[test]
fn every_line_with_a_needle_is_found_and_few_pages_without_it_are_read() {
    let mut state = 1u64;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let store = CountingStore::new();
    let events = open(&store);
    let mut all = Vec::new();
    for position in 1..=40u64 {
        let records: Vec<LogRecord> = (0..30)
            .map(|at| {
                let line = line_of(&mut random);
                all.push(line.clone());
                log(START + position as i64 * HOUR + at, &line)
            })
            .collect();
        events.append_logs(TENANT, JournalPosition(position), &logs("shop", records)).expect("append");
    }
    assert_eq!(flush(&events, &store, 40).len(), 40);
    let counters = events.counters();
    let pruned = || counters.pages_pruned.load(Ordering::Relaxed);
    let (mut pages, before) = (0, pruned());
    for _ in 0..150 {
        let line = all[random(all.len() as u64) as usize].clone();
        let places: Vec<usize> = (0..=line.len()).filter(|at| line.is_char_boundary(*at)).collect();
        let mut place = || places[random(places.len() as u64) as usize];
        let (one, other) = (place(), place());
        let needle = &line[one.min(other)..one.max(other)];
        let expect: Vec<&String> = all.iter().rev().filter(|line| line.contains(needle)).collect();
        let hints = vec![LogHint::LineContains(needle.to_owned())];
        let by_hint = lines(&events, &LogQuery { hints: hints.clone(), ..query() });
        assert_eq!(by_hint.iter().filter(|line| line.contains(needle)).collect::<Vec<_>>(), expect, "{needle:?}");
        let tested = LogQuery { hints, line_tests: vec![LineTest::contains(needle)], ..query() };
        assert_eq!(lines(&events, &tested).iter().collect::<Vec<_>>(), expect, "{needle:?}");
        let with: BTreeSet<usize> = (0..all.len()).filter(|at| all[*at].contains(needle)).map(|at| at / 30).collect();
        pages += if needle.len() < 4 { 0 } else { 2 * (40 - with.len()) as u64 };
    }
    let share = (pruned() - before) as f64 / pages as f64;
    assert!(share > 0.7, "{share} of the pages without a needle of four bytes or more are skipped");
}

const MINUTE: i64 = 60_000_000_000;

/// Rows and bytes of their lines, by stream with metadata and number of the window.
type Counts = BTreeMap<(String, i64), (u64, u64)>;

/// Also what was seen, and whether some were counted.
fn counts(events: &Arc<EventStore>, query: &LogQuery, width: i64) -> (Counts, LinesSeen, bool) {
    let (budget, source) = (Budget::unlimited(), events.logs(TENANT));
    let mut cursor = source.scan_groups(query, &budget).expect("scan");
    let (mut counts, mut reached, mut is_counted) = (Counts::new(), Nanos::MIN, false);
    while let Some(groups) = cursor.next_batch().expect("batch") {
        for group in groups {
            is_counted |= !group.counted.is_empty();
            for rows in group.all() {
                assert!(rows.time >= reached, "none is earlier than was promised");
                let key = format!("{} {:?}", group.row.stream, group.row.metadata);
                let (sum, bytes) = counts.entry((key, (rows.time.0 - START - 1).div_euclid(width))).or_insert((0, 0));
                (*sum, *bytes) = (*sum + rows.rows, *bytes + rows.bytes);
            }
        }
        reached = cursor.reached();
    }
    let seen = cursor.seen();
    drop(cursor);
    assert_eq!(budget.bytes_used(), 0, "all is given back");
    (counts, seen, is_counted)
}

#[test]
fn counts_by_minute_are_those_of_the_rows() {
    let store = CountingStore::new();
    let events = open(&store);
    for position in 1..=6i64 {
        let record = |at: i64| {
            // Some on the edge of a minute, and one beside it.
            let time = START + (position % 3) * HOUR + at * HOUR / 4000;
            let time = if at % 40 == 0 { time / MINUTE * MINUTE + at / 40 % 2 } else { time };
            let mut record = log(time, &"x".repeat((at % 7) as usize));
            record.severity = [Severity::INFO, Severity::ERROR, Severity(0)][(at % 3) as usize];
            record.attributes.push("http.route", format!("/{}", at % 2));
            record
        };
        let service = ["shop", "cart"][(position % 2) as usize];
        events
            .append_logs(TENANT, JournalPosition(position as u64), &logs(service, (0..4000).map(record).collect()))
            .expect("append");
    }
    for step in ["head", "files"] {
        for (from, to, width, names, is_counted) in [
            (START, START + 3 * HOUR, 5 * MINUTE, &["detected_level"][..], true),
            (START + 1, START + 3 * HOUR, 5 * MINUTE, &[], true),
            (START + 17 * MINUTE + 7, START + 2 * HOUR + 12_345, HOUR * 3, &["service_name"], true),
            (START, START + 3 * HOUR, 90_000_000_000, &["detected_level"], true),
            (START, START + 3 * HOUR, 15_000_000_000, &["detected_level"], false),
            (START, START + 3 * HOUR, 5 * MINUTE, &["http_route"], false),
        ] {
            for line in [LineNeed::Nothing, LineNeed::Length] {
                let needs = LogNeeds::named(line, names.iter().map(ToString::to_string).collect());
                let streams = vec![Matcher::equal("service_name", "cart")];
                for streams in [Vec::new(), streams] {
                    let range = TimeRange::new(Nanos(from), Nanos(to));
                    let exact = LogQuery { range, streams, needs: needs.clone(), ..query() };
                    let marks = Marks { origin: START, width };
                    let loose = LogQuery { times: TimeNeed::Between([marks; 2]), ..exact.clone() };
                    let (expect, expect_seen, _) = counts(&events, &exact, width);
                    let (found, seen, was_counted) = counts(&events, &loose, width);
                    assert_eq!(found, expect, "{step} {from} {to} {width} {names:?}");
                    assert_eq!((seen, was_counted), (expect_seen, is_counted && step == "files"), "{step} {width} {names:?}");
                }
            }
        }
        flush(&events, &store, 6);
    }
    let needs = LogNeeds::named(LineNeed::Length, vec!["detected_level".into()]);
    let times = TimeNeed::Between([Marks { origin: START, width: 5 * MINUTE }; 2]);
    let pages_read = || events.counters().pages_read.load(Ordering::Relaxed);
    let before = pages_read();
    let whole = LogQuery { needs, times, ..query() };
    counts(&events, &whole, 5 * MINUTE);
    assert_eq!(pages_read(), before, "no row is looked at");
    let range = TimeRange::new(Nanos(START + 30), Nanos(START + 3 * HOUR));
    counts(&events, &LogQuery { range, ..whole }, 5 * MINUTE);
    assert!((1..=2 * 2).contains(&(pages_read() - before)), "only where the range begins");
}

#[test]
fn pages_without_such_a_number_are_skipped_where_it_is_a_number_only() {
    // By name: whether pages may be skipped, and the attribute of each row. One page of four has those between 500 and 599.
    type Make = fn(i64) -> Option<AttributeValue>;
    let cases: [(&str, bool, Make); 5] = [
        ("integers", true, |at| Some((at / 40).into())),
        ("doubles", true, |at| (at % 3 > 0).then(|| (at as f64 / 40.0).into())),
        ("texts too", false, |at| Some(if at == 3 { "550".into() } else { AttributeValue::Int(at / 40) })),
        ("rare ones", false, |at| (at % 600 == 0).then(|| (at / 40).into())),
        ("none at all", true, |_| None),
    ];
    for (name, may_skip, make) in cases {
        let store = CountingStore::new();
        let events = open(&store);
        let mut spans = Vec::new();
        let mut records = Vec::new();
        for at in 0..25_000 {
            let (mut record, mut span) = (log(START + at, "line"), span(at, 1, "op"));
            if let Some(value) = make(at) {
                record.attributes.push("http.status", value.clone());
                span.attributes.push("http.status", value);
            }
            records.push(record);
            spans.push(span);
        }
        events.append_logs(TENANT, JournalPosition(1), &logs("shop", records)).expect("append");
        let batch = SpanBatch { groups: vec![ResourceSpans { resource: resource("shop", "0"), scope: Arc::default(), spans }] };
        events.append_spans(TENANT, JournalPosition(2), &batch).expect("append");
        flush(&events, &store, 2);
        let number = |value: &str| value.parse::<f64>().is_ok_and(|number| (500.0..=599.0).contains(&number));
        let hint = LogHint::NumberBetween { name: "http_status".into(), low: 500.0, high: 599.0 };
        let rows = read_logs(&events, &LogQuery { hints: vec![hint], ..query() }, usize::MAX);
        let is_match = |row: &&LogRow| row.metadata.iter().any(|(name, value)| name == "http_status" && number(value));
        let expect = (0..25_000).filter(|at| make(*at).is_some_and(|value| number(&value.to_string()))).count();
        assert_eq!(rows.iter().filter(is_match).count(), expect, "{name}");
        assert_eq!(rows.len() < 12_500, may_skip, "{name}: {} rows", rows.len());
        let hint = SpanHint::NumberBetween { key: "http.status".into(), low: 500.0, high: 599.0 };
        let found = read_spans(&events, &SpanQuery { range: TimeRange::ALL, hints: vec![hint], parts: SpanParts::ALL });
        let is_match = |stored: &&StoredSpan| {
            stored.span.attributes.iter().any(|(key, value)| key == "http.status" && number(&value.to_string()))
        };
        assert_eq!(found.iter().filter(is_match).count(), expect, "{name}");
        assert_eq!(found.len() < 12_500, may_skip, "{name}: {} spans", found.len());
    }
}

/// A sentence is in few pages, its words are in all. Of a page with too many pairs of words nothing is known, and it is looked at.
#[test]
fn a_sentence_skips_pages_that_have_its_words_apart() {
    let store = CountingStore::new();
    let events = open(&store);
    let letters = |mut number: usize| {
        let mut word = String::new();
        for _ in 0..4 {
            word.push(char::from(b'a' + (number % 26) as u8));
            number /= 26;
        }
        word
    };
    for position in 1..=20u64 {
        let is_wordy = position == 20;
        let records: Vec<LogRecord> = (0..3000)
            .map(|at| {
                let line = match at {
                    // The last pair of a page that is full of others.
                    2999 if position == 7 || is_wordy => "the card issuer declined twice".to_owned(),
                    _ if is_wordy => format!("{} {} {}", letters(at * 3), letters(at * 3 + 1), letters(at * 3 + 2)),
                    _ => ["a card was declined", "the issuer called twice"][at % 2].to_owned(),
                };
                log(START + position as i64 * HOUR + at as i64, &line)
            })
            .collect();
        events.append_logs(TENANT, JournalPosition(position), &logs("shop", records)).expect("append");
    }
    assert_eq!(flush(&events, &store, 20).len(), 20);
    let read = || events.counters().pages_read.load(Ordering::Relaxed);
    let before = read();
    let phrase = "card issuer declined twice";
    let asked = LogQuery {
        hints: vec![LogHint::LineContains(phrase.to_owned())],
        line_tests: vec![LineTest::contains(phrase)],
        needs: LogNeeds::named(LineNeed::Nothing, Vec::new()),
        ..query()
    };
    assert_eq!(read_logs(&events, &asked, usize::MAX).len(), 2);
    assert!(read() - before <= 2 * 3, "{} reads: of two pages of twenty", read() - before);
}
