//! What it costs to look for secrets, in one thread: megabytes of bodies a second, clean ones and others.

use crate::row::{Row, median};
use br_redact::{Redactor, Shape};
use std::fmt::Write as _;
use std::time::Instant;

/// What a core must look through.
const TARGET: f64 = 100.0;
/// Records of a body, and one in so many that has something in it.
const RECORDS: usize = 20_000;
const DIRTY_ONE_IN: usize = 20;

pub(crate) fn run(rounds: usize) -> Vec<Row> {
    let (clean, dirty) = (lines(usize::MAX), lines(DIRTY_ONE_IN));
    let join = |lines: &[String]| lines.join("\n").into_bytes();
    let bodies = [
        ("redact: lines of text, clean", Shape::Text, join(&clean)),
        ("redact: lines of text, one in 20 masked", Shape::Text, join(&dirty)),
        ("redact: OTLP logs, clean", Shape::OtlpLogs, otlp(&clean)),
        ("redact: OTLP logs, one in 20 masked", Shape::OtlpLogs, otlp(&dirty)),
        ("redact: OTLP logs as JSON, clean", Shape::Json, json(&clean)),
        ("redact: OTLP logs as JSON, one in 20 masked", Shape::Json, json(&dirty)),
    ];
    let measured = bodies.iter().map(|(name, shape, body)| measure(name, *shape, body, rounds));
    let mut rows: Vec<Row> = measured.collect();
    rows.extend(labels(rounds));
    rows
}

fn measure(name: &str, shape: Shape, body: &[u8], rounds: usize) -> Row {
    let redactor = Redactor::default();
    let speeds = (0..rounds.max(1)).map(|_| speed(&redactor, shape, body)).collect();
    Row::new(name, "MB/s", median(speeds)).at_least(TARGET)
}

fn speed(redactor: &Redactor, shape: Shape, body: &[u8]) -> f64 {
    let (started, used) = (Instant::now(), cpu_seconds());
    let redacted = redactor.redact(body, shape);
    let seconds = match (used, cpu_seconds()) {
        (Some(before), Some(after)) if after > before => after - before,
        _ => started.elapsed().as_secs_f64(),
    };
    std::hint::black_box(redacted);
    body.len() as f64 / 1e6 / seconds
}

/// What this thread has computed so far: others that run beside it do not count.
fn cpu_seconds() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().next()?.parse::<f64>().ok().map(|nanoseconds| nanoseconds / 1e9)
}

/// Remote write: label sets that are new, and the same ones again.
fn labels(rounds: usize) -> Vec<Row> {
    let mut body = Vec::new();
    for at in 0..RECORDS {
        let mut series = Vec::new();
        for (name, value) in [
            ("__name__", "http_requests_total".to_owned()),
            ("code", "200".to_owned()),
            ("handler", format!("/api/v1/resource/{}", at % 97)),
            ("instance", format!("10.1.{}.{}:8000", at / 250, at % 250)),
            ("job", "shop".to_owned()),
            ("pod", format!("shop-6f9c8d7b5-{at:05x}")),
        ] {
            let label = [field(1, name.as_bytes()), field(2, value.as_bytes())].concat();
            series.extend(field(1, &label));
        }
        series.extend(field(2, &[9, 0, 0, 0, 0, 0, 0, 240, 63, 16, 232, 7]));
        body.extend(field(1, &series));
    }
    let each = |speeds: Vec<f64>| body.len() as f64 * 1e3 / median(speeds) / RECORDS as f64;
    let redactors: Vec<Redactor> = (0..rounds.max(1)).map(|_| Redactor::default()).collect();
    // The table of what is clean is made by the first body.
    for redactor in &redactors {
        redactor.learn_clean(0);
    }
    let new = redactors.iter().map(|redactor| speed(redactor, Shape::RemoteWrite1, &body)).collect();
    let known = redactors.iter().map(|redactor| speed(redactor, Shape::RemoteWrite1, &body)).collect();
    vec![
        Row::new("redact: remote write, labels new", "ns/series", each(new)),
        Row::new("redact: remote write, labels known", "ns/series", each(known)),
    ]
}

/// What a service logs, with ids, times, names and values.
fn lines(dirty_one_in: usize) -> Vec<String> {
    let mut state = 7u64;
    let mut next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 16
    };
    let secrets = [
        "mail=ann.miller@example.com",
        "card 4111 1111 1111 1111",
        "password=hunter2",
        "Authorization: Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
        "db=postgres://app:s3cret@db:5432/shop",
    ];
    (0..RECORDS)
        .map(|at| {
            let mut line = match next() % 4 {
                0 => format!(
                    "2026-11-27T10:{:02}:{:02}.{:03}Z INFO checkout finished order_id={} user={} took={}ms trace_id={:032x}",
                    at / 60 % 60,
                    at % 60,
                    next() % 1000,
                    next() % 1_000_000,
                    next() % 10_000,
                    next() % 500,
                    u128::from(next()) << 64 | u128::from(next())
                ),
                1 => format!(
                    "10.2.{}.{} - - [27/Nov/2026:10:00:00 +0000] \"GET /api/v1/items/{}?page={} HTTP/1.1\" 200 {} \"-\" \"python-requests/2.32\"",
                    next() % 250,
                    next() % 250,
                    next() % 100_000,
                    next() % 9,
                    next() % 20_000
                ),
                2 => format!(
                    "{{\"level\":\"warning\",\"logger\":\"shop.cart\",\"msg\":\"retrying after timeout\",\"attempt\":{},\"delay\":{}.5,\"key\":\"cart:{}\"}}",
                    next() % 5,
                    next() % 9,
                    next() % 99_999
                ),
                _ => format!(
                    "Connection to broker kafka-{}.internal:9092 was reset by peer while sending {} records to topic orders-{}, will try again",
                    next() % 9,
                    next() % 900,
                    next() % 12
                ),
            };
            if at % dirty_one_in == 1 {
                let _ = write!(line, " {}", secrets[at / dirty_one_in % secrets.len()]);
            }
            line
        })
        .collect()
}

fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    br_std::varint::put_u64(&mut out, content.len() as u64);
    out.extend_from_slice(content);
    out
}

const ATTRIBUTES: [(&str, &str); 5] = [
    ("http.request.method", "GET"),
    ("http.route", "/api/v1/items/{id}"),
    ("code.function.name", "shop.cart.checkout"),
    ("server.address", "shop.internal"),
    ("thread.name", "worker-7"),
];

fn otlp(lines: &[String]) -> Vec<u8> {
    let pair = |key: &str, value: &str| [field(1, key.as_bytes()), field(2, &field(1, value.as_bytes()))].concat();
    let mut scope = Vec::new();
    for line in lines {
        let mut record = field(5, &field(1, line.as_bytes()));
        for (key, value) in ATTRIBUTES {
            record.extend(field(6, &pair(key, value)));
        }
        record.extend(field(9, &[0xa7; 16]));
        scope.extend(field(2, &record));
    }
    let resource = field(1, &field(1, &pair("service.name", "shop")));
    field(1, &[resource, field(2, &scope)].concat())
}

fn json(lines: &[String]) -> Vec<u8> {
    let attributes: Vec<_> =
        ATTRIBUTES.iter().map(|(key, value)| serde_json::json!({ "key": key, "value": { "stringValue": value } })).collect();
    let records: Vec<_> = lines
        .iter()
        .map(|line| serde_json::json!({ "timeUnixNano": "1764237600000000000", "body": { "stringValue": line }, "attributes": attributes }))
        .collect();
    serde_json::json!({ "resourceLogs": [{ "scopeLogs": [{ "logRecords": records }] }] }).to_string().into_bytes()
}
