//! A few records and traces in an event store, for the targets that ask for some.
#![allow(dead_code, reason = "each target uses its own part")]

use br_env::sim::Sim;
use br_events::{EventOptions, EventStore};
use br_model::{
    AttributeValue, Attributes, LogBatch, LogRecord, Resource, ResourceLogs, ResourceSpans, Scope, Severity, Span, SpanBatch,
    SpanEvent, SpanId, SpanKind, SpanLink, SpanStatus, TenantId, TraceId,
};
use br_std::Nanos;
use br_storage::{FileEntry, JournalPosition};
use object_store::ObjectStore;
use std::sync::Arc;

pub const TENANT: TenantId = TenantId(1);
/// The start of an hour, in seconds. Records are a second apart.
pub const START: i64 = 1_700_006_400;
pub const END: i64 = START + 60;

const BODIES: [&str; 8] = [
    r#"{"level":"info","took":"1.5s","size":"3KB","nested":{"a":[1,2,{"b":"c"}]},"path":"/api/1"}"#,
    r#"level=warn took=12ms status=404 msg="not found" ip=10.0.0.7"#,
    "GET /api/v1/orders/17 200 0.25 worker-3",
    r#"{"_entry":"level=error","took":"x","n":-0.5e3}"#,
    "plain words, with a needle among them",
    "",
    "{\"broken\": \"json",
    "é ü \u{1f600} 2a02::1 192.168.0.1",
];

pub fn options() -> EventOptions {
    EventOptions::new(Sim::new(1).rng.clone())
}

fn resource(service: &str, zone: &str) -> Arc<Resource> {
    Arc::new(Resource { attributes: Attributes::from_iter([("service.name", service), ("zone", zone)]) })
}

fn value(number: i64) -> AttributeValue {
    match number % 6 {
        0 => "text".into(),
        1 => number.into(),
        2 => (number as f64 / 4.0).into(),
        3 => (number % 2 == 0).into(),
        4 => AttributeValue::Array(vec!["a".into(), number.into()]),
        _ => "7".into(),
    }
}

/// No two at the same time.
pub fn logs() -> LogBatch {
    let record = |number: i64| {
        let timestamp = Nanos(START * 1_000_000_000 + number * 1_000_000_000 + number);
        LogRecord {
            timestamp,
            observed: timestamp,
            severity: [Severity::INFO, Severity::WARN, Severity::ERROR, Severity::UNSPECIFIED][number as usize % 4],
            severity_text: ["INFO", "", "error", ""][number as usize % 4].to_owned(),
            body: BODIES[number as usize % BODIES.len()].to_owned(),
            attributes: Attributes::from_iter([
                ("a.b", value(number)),
                ("n", (number % 5).into()),
                ("took_ms", value(number + 2)),
            ]),
            trace_id: TraceId(u128::from(number as u64 / 3).to_be_bytes()),
            ..LogRecord::default()
        }
    };
    let group = |service: i64| ResourceLogs {
        resource: resource(["shop", "mail", ""][service as usize], "eu"),
        scope: Arc::new(Scope { name: "app".into(), ..Scope::default() }),
        records: (0..24).filter(|number| number % 3 == service).map(record).collect(),
    };
    LogBatch { groups: (0..3).map(group).collect() }
}

/// Six traces of four spans each; no two spans start at the same time.
pub fn spans() -> SpanBatch {
    let span = |trace: i64, step: i64| {
        let number = trace * 4 + step;
        let start = Nanos(START * 1_000_000_000 + number * 700_000_000 + number);
        let of_trace = TraceId(u128::from(trace as u64 + 1).to_be_bytes());
        let id = |step: i64| SpanId((trace as u64 * 8 + step as u64 + 1).to_be_bytes());
        Span {
            trace_id: of_trace,
            span_id: id(step),
            parent_span_id: if step == 0 { SpanId::default() } else { id((step - 1) / 2) },
            name: ["GET /cart", "charge", "select", "charge"][(trace + step) as usize % 4].to_owned(),
            kind: SpanKind::from_number((number % 6) as i32),
            start,
            end: Nanos(start.0 + 1_000_000 * (number % 7) * (number % 7)),
            status: SpanStatus::from_number((number % 3) as i32),
            status_message: if number % 3 == 2 { "refused".to_owned() } else { String::new() },
            attributes: Attributes::from_iter([
                ("a.b", value(number)),
                ("n", (number % 5).into()),
                ("http.status_code", 200.into()),
            ]),
            events: vec![
                SpanEvent { timestamp: start, name: "exception".into(), attributes: Attributes::from_iter([("a", "b")]) };
                usize::from(number % 5 == 0)
            ],
            links: vec![
                SpanLink { trace_id: TraceId([9; 16]), span_id: id(7), attributes: Attributes::default() };
                usize::from(number % 7 == 0)
            ],
            ..Span::default()
        }
    };
    let group = |service: i64| ResourceSpans {
        resource: resource(["shop", "pay"][service as usize], "us"),
        scope: Arc::new(Scope { name: "lib".into(), version: "2".into(), ..Scope::default() }),
        spans: (0..6)
            .flat_map(|trace| (0..4).map(move |step| (trace, step)))
            .filter(|(trace, step)| (trace + step) % 2 == service)
            .map(|(trace, step)| span(trace, step))
            .collect(),
    };
    SpanBatch { groups: (0..2).map(group).collect() }
}

/// A store that holds them in memory.
pub fn store(objects: Arc<dyn ObjectStore>) -> Arc<EventStore> {
    let events = EventStore::open(Vec::new(), objects, options());
    events.append_logs(TENANT, JournalPosition(1), &logs()).expect("taken in");
    events.append_spans(TENANT, JournalPosition(2), &spans()).expect("taken in");
    events
}

/// The files that they become: one of logs, one of spans.
pub fn files(objects: &Arc<dyn ObjectStore>) -> Vec<FileEntry> {
    let sealed = store(objects.clone()).seal(JournalPosition(2)).expect("something");
    sealed.write(objects).expect("written")
}
