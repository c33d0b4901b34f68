//! Rows that differ in a number alone come together, and each number is what the row's text says.

mod support;

use br_events::EventStore;
use br_model::*;
use br_storage::{Budget, JournalPosition, LineNeed, LogNeeds, LogQuery};
use std::sync::Arc;
use support::*;

const ROWS: i64 = 6000;

/// All that an attribute of this name can be, by service.
fn append(events: &Arc<EventStore>) {
    type Make = fn(i64, &mut Attributes);
    let cases: [(&str, Make); 7] = [
        ("integers", |at, attributes| attributes.push("took.ms", at * 7)),
        ("doubles", |at, attributes| attributes.push("took.ms", [0.1, -0.0, f64::NAN, 1e300, at as f64 / 3.0][at as usize % 5])),
        ("mixed", |at, attributes| match at % 4 {
            0 => attributes.push("took.ms", at),
            1 => attributes.push("took.ms", at as f64 + 0.5),
            2 => attributes.push("took.ms", format!("{}ms", at % 3)),
            _ => {}
        }),
        ("twice", |at, attributes| {
            attributes.push("took.ms", at);
            if at % 2 == 0 {
                attributes.push("took_ms", at * 2);
            }
        }),
        ("rare", |at, attributes| {
            if at % 700 == 3 {
                attributes.push("took.ms", i64::MAX - at);
            }
        }),
        ("others", |at, attributes| match at % 3 {
            0 => attributes.push("took.ms", at % 2 == 0),
            1 => attributes.push("took.ms", AttributeValue::Array(vec![at.into()])),
            _ => attributes.push("took.ms", AttributeValue::Empty),
        }),
        ("of the stream", |at, attributes| attributes.push("took.ms", at)),
    ];
    for (position, (service, make)) in cases.into_iter().enumerate() {
        let records = (0..ROWS).map(|at| {
            let mut record = log(START + at * 1_000_000, "line");
            record.attributes.push("route", format!("/{}", at % 3));
            make(at, &mut record.attributes);
            record
        });
        let mut batch = logs(service, records.collect());
        if service == "of the stream" {
            let resource = [("service.name", service), ("took.ms", "7")].into_iter().collect();
            batch.groups[0].resource = Arc::new(Resource { attributes: resource });
        }
        events.append_logs(TENANT, JournalPosition(position as u64 + 1), &batch).expect("append");
    }
}

fn value(text: Option<&str>) -> String {
    match text.map(|text| (text, text.parse::<f64>())) {
        Some((_, Ok(number))) => format!("{number:?}"),
        Some((text, Err(_))) => format!("text {text:?}"),
        None => "nothing".to_owned(),
    }
}

fn text_of<'a>(metadata: &'a [(String, String)], name: &str) -> Option<&'a str> {
    metadata.iter().find(|(known, _)| known == name).map(|(_, text)| text.as_str())
}

#[test]
fn numbers_of_groups_are_those_of_the_rows() {
    let store = CountingStore::new();
    let events = open(&store);
    append(&events);
    for stage in [("head", false), ("head", true), ("files", false), ("files", true)] {
        if stage == ("files", false) {
            flush(&events, &store, 7);
        }
        let names = ["route", "took_ms"].map(str::to_owned).to_vec();
        let rows = LogQuery { needs: LogNeeds::named(LineNeed::Nothing, names), ..query() };
        let seen = |stream: &Labels, metadata: &[(String, String)], time: i64, took: String| {
            let stream = if stage.1 { stream.get("took_ms").unwrap_or("").to_owned() } else { stream.to_string() };
            (stream, text_of(metadata, "route").expect("a route").to_owned(), time, took)
        };
        let mut expect: Vec<_> = read_logs(&events, &rows, usize::MAX)
            .into_iter()
            .map(|row| seen(&row.stream, &row.metadata, row.timestamp.0, value(text_of(&row.metadata, "took_ms"))))
            .collect();
        let needs = LogNeeds { number: Some("took_ms".to_owned()), is_stream_cut: stage.1, ..rows.needs.clone() };
        let (budget, source) = (Budget::unlimited(), events.logs(TENANT));
        let mut cursor = source.scan_groups(&LogQuery { needs, ..rows }, &budget).expect("scan");
        let (mut found, mut groups_of_numbers, mut numbers) = (Vec::new(), 0, 0);
        while let Some(groups) = cursor.next_batch().expect("batch") {
            for group in groups {
                let row = &group.row;
                assert!(!stage.1 || row.stream.iter().all(|(name, _)| name == "took_ms"), "{row:?}");
                assert!(group.numbers.is_empty() || group.numbers.len() == group.members.len(), "{stage:?} {row:?}");
                assert!(group.numbers.is_empty() || row.stream.get("took_ms").is_none(), "{stage:?}: the stream's goes first");
                groups_of_numbers += usize::from(!group.numbers.is_empty());
                numbers += group.numbers.len();
                for (at, (time, _)) in group.members.iter().enumerate() {
                    let number = group.numbers.get(at).map(|number| format!("{number:?}"));
                    let took = number.unwrap_or_else(|| value(text_of(&row.metadata, "took_ms")));
                    found.push(seen(&row.stream, &row.metadata, time.0, took));
                }
            }
        }
        expect.sort();
        found.sort();
        assert_eq!(expect.len(), 7 * ROWS as usize);
        assert!(expect == found, "{stage:?}: {:?}", expect.iter().zip(&found).find(|(one, other)| one != other));
        // Integers, the finite doubles, half of the mixed ones, half of those that are there once, the rare ones.
        assert_eq!(numbers as i64, ROWS * 3 - ROWS / 5 + ROWS / 700 + 1, "{stage:?}");
        let groups_max = if stage.1 { 60 } else { 400 };
        assert!(groups_of_numbers < groups_max, "{stage:?}: {groups_of_numbers} groups");
    }
}
