//! OTLP, Loki and Sentry: what becomes of their records.
#![allow(clippy::disallowed_methods, reason = "tests read shared data from the disk")]

mod shared;

use br_model::{LogKind, MetricBatch, Severity, SpanKind, Value};
use br_std::Nanos;
use br_wire::sentry::{self, Context};
use br_wire::{Limits, WireError, loki, otlp};

const NOW: Nanos = Nanos(1_700_000_000_000_000_000);

fn metrics(json: &str) -> br_wire::Decoded<otlp::Metrics> {
    otlp::decode_metrics(json.as_bytes(), otlp::Encoding::Json, NOW, &otlp::MetricOptions::default(), &Limits::default())
        .unwrap_or_else(|error| panic!("{error}\n{json}"))
}

fn show(batch: &MetricBatch) -> Vec<String> {
    let sample = |value: &Value| match value {
        Value::Float(value) => value.to_string(),
        Value::Histogram(histogram) => format!(
            "schema {} count {} spans {:?} buckets {:?}",
            histogram.schema,
            histogram.count,
            histogram.positive_spans.iter().map(|span| (span.offset, span.length)).collect::<Vec<_>>(),
            histogram.positive_buckets
        ),
    };
    batch.series.iter().map(|series| format!("{} {}", series.labels, sample(&series.samples[0].value))).collect()
}

fn metric_request(metric: &str) -> String {
    format!(
        r#"{{"resourceMetrics":[{{"resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":"shop"}}}},{{"key":"service.namespace","value":{{"stringValue":"eu"}}}},{{"key":"service.instance.id","value":{{"stringValue":"i1"}}}},{{"key":"host.name","value":{{"stringValue":"h"}}}}]}},"scopeMetrics":[{{"metrics":[{metric}]}}]}}]}}"#
    )
}

#[test]
fn sums_and_target_info() {
    let decoded = metrics(&metric_request(
        r#"{"name":"http.requests","unit":"{request}","sum":{"aggregationTemporality":2,"isMonotonic":true,"dataPoints":[{"asInt":"7","timeUnixNano":"1700000000000000000","startTimeUnixNano":"1600000000000000000","attributes":[{"key":"http.method","value":{"stringValue":"GET"}}],"exemplars":[{"asDouble":1.5,"traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203331"}]}]}}"#,
    ));
    let batch = &decoded.value.cumulative;
    assert_eq!(
        show(batch),
        [
            r#"http_requests_total{http_method="GET", instance="i1", job="eu/shop", service_name="shop"} 7"#,
            r#"target_info{host_name="h", instance="i1", job="eu/shop"} 1"#,
        ]
    );
    assert_eq!(batch.series[0].samples[0].start_ms, Some(1_600_000_000_000));
    assert_eq!(batch.series[0].exemplars[0].labels.get("trace_id"), Some("0af7651916cd43dd8448eb211c80319c"));
    assert!(batch.metadata.iter().any(|(name, _)| name == "http_requests_total"));
}

#[test]
fn deltas_stand_apart_and_bad_points_are_rejected() {
    let decoded = metrics(&metric_request(
        r#"{"name":"d","sum":{"aggregationTemporality":1,"isMonotonic":true,"dataPoints":[{"asInt":3},{"timeUnixNano":"1"}]}},{"name":"u","sum":{"dataPoints":[{"asInt":3}]}}"#,
    ));
    assert_eq!(show(&decoded.value.delta), [r#"d_total{instance="i1", job="eu/shop", service_name="shop"} 3"#]);
    assert_eq!(decoded.rejected_count, 2, "{}", decoded.message());
}

#[test]
fn histograms_of_both_kinds() {
    let decoded = metrics(&metric_request(
        r#"{"name":"t","unit":"s","histogram":{"aggregationTemporality":2,"dataPoints":[{"count":"3","sum":4.5,"bucketCounts":["1","1","1"],"explicitBounds":[0.5,2]}]}},
           {"name":"e","exponentialHistogram":{"aggregationTemporality":2,"dataPoints":[{"count":"4","sum":4.5,"scale":9,"positive":{"offset":0,"bucketCounts":["1","1","0","0","0","0","0","0","0","0","2"]}}]}}"#,
    ));
    let labels = r#"instance="i1", job="eu/shop""#;
    let tail = r#"service_name="shop""#;
    assert_eq!(
        show(&decoded.value.cumulative)[..6],
        [
            format!("t_seconds_sum{{{labels}, {tail}}} 4.5"),
            format!("t_seconds_count{{{labels}, {tail}}} 3"),
            format!(r#"t_seconds_bucket{{{labels}, le="0.5", {tail}}} 1"#),
            format!(r#"t_seconds_bucket{{{labels}, le="2", {tail}}} 2"#),
            format!(r#"t_seconds_bucket{{{labels}, le="+Inf", {tail}}} 3"#),
            format!("e{{{labels}, {tail}}} schema 8 count 4 spans [(1, 1), (4, 1)] buckets [2.0, 2.0]"),
        ]
    );
}

#[test]
fn spans_logs_and_their_way_back() {
    let json = r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}}]},"scopeSpans":[{"scope":{"name":"s"},"spans":[
        {"traceId":"5B8EFFF798038103D269B633813FC60C","spanId":"EEE19B7EC3C1B174","name":"pay","kind":"SPAN_KIND_SERVER","startTimeUnixNano":"1000","endTimeUnixNano":2000,"status":{"code":2},"unknownField":1,
         "events":[{"timeUnixNano":"1500","name":"exception","attributes":[{"key":"exception.type","value":{"stringValue":"shop.errors.NoStock"}},{"key":"exception.message","value":{"stringValue":"none left"}},{"key":"exception.stacktrace","value":{"stringValue":"Traceback (most recent call last):\n  File \"/srv/a.py\", line 3, in f\n    g()\nshop.errors.NoStock: none left\n"}}]}]},
        {"traceId":"00","spanId":"EEE19B7EC3C1B174","name":"bad"}]}]}]}"#;
    let decoded = otlp::decode_traces(json.as_bytes(), otlp::Encoding::Json, NOW, &Limits::default()).expect("valid");
    assert_eq!((decoded.value.span_count(), decoded.rejected_count), (1, 1));
    let span = &decoded.value.groups[0].spans[0];
    assert_eq!((span.kind, span.duration_nanos()), (SpanKind::Server, 1000));
    let bytes = otlp::encode_traces(&decoded.value);
    let again = otlp::decode_traces(&bytes, otlp::Encoding::Protobuf, NOW, &Limits::default()).expect("valid");
    assert_eq!(again.value, decoded.value);

    let errors = otlp::errors_of_spans(&decoded.value);
    let record = &errors.groups[0].records[0];
    assert_eq!((record.body.as_str(), record.trace_id), ("NoStock: none left", span.trace_id));
    let error = record.error.as_ref().expect("an error");
    assert_eq!((error.exceptions[0].module.as_str(), error.exceptions[0].frames[0].line), ("shop.errors", 3));

    let bytes = otlp::encode_logs(&errors);
    let again = otlp::decode_logs(&bytes, otlp::Encoding::Protobuf, NOW, &Limits::default()).expect("valid").value;
    assert_eq!(again.groups[0].records[0].kind, LogKind::Error);
    assert_eq!(again.groups[0].records[0].error.as_ref().map(|error| error.grouping_hash()), Some(error.grouping_hash()));
}

#[test]
fn responses() {
    let text = |rejected, message| {
        String::from_utf8(otlp::response(otlp::Signal::Logs, otlp::Encoding::Json, rejected, message)).expect("JSON")
    };
    assert_eq!(text(0, ""), "{}");
    assert_eq!(text(2, "why"), r#"{"partialSuccess":{"errorMessage":"why","rejectedLogRecords":"2"}}"#);
    assert!(otlp::response(otlp::Signal::Traces, otlp::Encoding::Protobuf, 0, "").is_empty());
    assert_eq!(otlp::status(otlp::Encoding::Protobuf, 400, "no"), [8, 3, 18, 2, b'n', b'o']);
}

#[test]
fn malformed_otlp_says_where() {
    let error = otlp::decode_logs(b"{\"resourceLogs\": [", otlp::Encoding::Json, NOW, &Limits::default()).expect_err("cut");
    assert!(error.to_string().contains("line 1 column"), "{error}");
    assert!(otlp::decode_logs(&[0x0a, 0xff], otlp::Encoding::Protobuf, NOW, &Limits::default()).is_err());
}

#[test]
fn what_needs_too_much_memory_is_refused_as_a_whole() {
    let limits = Limits { memory_bytes_max: 10 << 10, ..Limits::default() };
    let push = |lines: usize| {
        let stream = [&b"\x0a\x07{a=\"b\"}"[..], &b"\x12\x00".repeat(lines)].concat();
        let message = [&[0x0a, stream.len() as u8][..], &stream].concat();
        loki::decode_protobuf(&message, NOW, &limits).map(|decoded| decoded.value.record_count())
    };
    assert_eq!(push(20), Ok(20));
    assert!(matches!(push(30), Err(WireError::NeedsMemory(_))), "{:?}", push(30));
    let event = |objects: usize| format!(r#"{{"message":"m","extra":[{}0]}}"#, "{},".repeat(objects));
    let context = || Context { service: "shop", received: NOW };
    let item = |objects: usize| format!("{{}}\n{{\"type\":\"event\"}}\n{}\n", event(objects));
    for (objects, is_taken) in [(10, true), (20, false)] {
        let outcomes = [
            sentry::decode_store(event(objects).as_bytes(), context(), &limits),
            sentry::decode_envelope(item(objects).as_bytes(), context(), &limits),
        ];
        for outcome in outcomes {
            match outcome {
                Ok(decoded) => assert!(is_taken && decoded.value.logs.record_count() == 1, "{objects}: {decoded:?}"),
                Err(error) => assert!(!is_taken && matches!(error, WireError::NeedsMemory(_)), "{objects}: {error}"),
            }
        }
    }
}

#[test]
fn public_otlp_bodies() {
    let Some(folder) = shared::folder("events/otlp") else { return };
    let read = |name: &str| std::fs::read(folder.join(name)).expect("a file");
    let limits = Limits::default();
    let logs = otlp::decode_logs(&read("logs.json"), otlp::Encoding::Json, NOW, &limits).expect("logs");
    assert!(logs.value.record_count() > 0 && logs.rejected_count == 0);
    let traces = otlp::decode_traces(&read("trace.json"), otlp::Encoding::Json, NOW, &limits).expect("traces");
    assert!(traces.value.span_count() > 0 && traces.rejected_count == 0);
    let body = read("metrics.json");
    let metrics =
        otlp::decode_metrics(&body, otlp::Encoding::Json, NOW, &otlp::MetricOptions::default(), &limits).expect("metrics");
    assert_eq!(metrics.rejected_count, 0, "{}", metrics.message());
    assert!(metrics.value.cumulative.sample_count() + metrics.value.delta.sample_count() > 3);
}

/// The fields of a line of CSV.
fn csv(line: &str) -> Vec<String> {
    let mut fields = Vec::new();
    let mut rest = line;
    while let Some(after) = rest.strip_prefix('"') {
        let mut end = 0;
        while let Some(found) = after[end..].find('"') {
            end += found;
            if !after[end..].starts_with("\"\"") {
                break;
            }
            end += 2;
        }
        fields.push(after[..end].replace("\"\"", "\""));
        rest = after[end + 1..].trim_start_matches(',');
        // A number has no quotes.
        if let Some(number) = rest.find(',').filter(|_| !rest.starts_with('"')) {
            fields.push(rest[..number].to_owned());
            rest = &rest[number + 1..];
        }
    }
    fields
}

/// The severities that a collector's own tests expect: text, number and line of each record. Where it writes a word of its own as the
/// text, ours has the word of the number. Where it leaves the number at 0 since there is a text, ours has the number of that text.
#[test]
fn staged_severities() {
    let Some(folder) = shared::folder("events/otlp/hyperdx-smoke") else { return };
    let (mut pairs, mut texts) = (0, 0);
    for entry in std::fs::read_dir(&folder).expect("a folder") {
        let path = entry.expect("a file").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        let Some(case) = name.strip_suffix("__expected.snap") else { continue };
        if !case.starts_with("severity-inference") && !case.starts_with("normalize-severity") {
            continue;
        }
        let body = std::fs::read(folder.join(format!("{case}__input.json"))).expect("the input");
        let sent: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        let decoded = otlp::decode_logs(&body, otlp::Encoding::Json, NOW, &Limits::default()).expect("logs").value;
        let records = &decoded.groups[0].records;
        let expected = std::fs::read_to_string(&path).expect("text");
        assert_eq!(records.len(), expected.lines().count(), "{case}");
        for (at, (record, line)) in records.iter().zip(expected.lines()).enumerate() {
            let fields = csv(line);
            let wire = &sent["resourceLogs"][0]["scopeLogs"][0]["logRecords"][at];
            let is_told = wire["severity_number"].as_u64().unwrap_or(0) > 0 || wire["severity_text"].is_string();
            let text = record.severity_text.to_lowercase();
            let text = if text.is_empty() && !is_told { record.severity.as_str().to_owned() } else { text };
            assert_eq!(text, fields[0], "{case}, record {at}: {:?}", record.body);
            texts += 1;
            let Some(number) = fields.get(1) else { continue };
            assert_eq!(record.body, fields[2], "{case}, record {at}");
            let number = match number.as_str() {
                "0" => Severity::from_text(&fields[0]),
                number => Severity(number.parse().expect("a number")),
            };
            assert!(number != Severity::UNSPECIFIED && record.severity == number, "{case}, record {at}: {record:?}");
            pairs += 1;
        }
    }
    assert_eq!((pairs, texts), (PAIRS, PAIRS + TEXTS));
}

/// Records with an expected text and number, and with a text alone.
const PAIRS: usize = 35;
const TEXTS: usize = 22;

#[test]
fn a_sender_s_own_severity_stays() {
    let severity_of = |record: &str| {
        let body = format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{record}]}}]}}]}}"#);
        let decoded = otlp::decode_logs(body.as_bytes(), otlp::Encoding::Json, NOW, &Limits::default()).expect("logs").value;
        let record = &decoded.groups[0].records[0];
        (record.severity.0, record.severity_text.clone())
    };
    let line = |more: &str, line: &str| severity_of(&format!(r#"{{"body":{{"stringValue":{line:?}}}{more}}}"#));
    assert_eq!(line(r#","severityNumber":6"#, "FATAL"), (6, String::new()));
    assert_eq!(line(r#","severityText":"Err""#, r#"{"level":"debug"}"#), (17, "Err".to_owned()));
    assert_eq!(line(r#","severityText":"Loud""#, "FATAL"), (21, "Loud".to_owned()));
    assert_eq!(line(r#","severityText":"Loud""#, "nothing"), (0, "Loud".to_owned()));
    assert_eq!(line("", "nothing"), (9, String::new()));
    assert_eq!(line("", ""), (0, String::new()));
    assert_eq!(line(r#","eventName":"cart""#, "FATAL"), (0, String::new()), "an event is no line");
    assert_eq!(
        severity_of(r#"{"body":{"kvlistValue":{"values":[{"key":"level","value":{"stringValue":"warn"}}]}}}"#),
        (13, "warn".to_owned())
    );
    let push = r#"{"streams":[{"stream":{"app":"a","level":"Debug"},"values":[["1","ERROR"]]},{"stream":{"app":"a"},"values":[["1","a warning"],["2","nothing"]]}]}"#;
    let pushed = loki::decode_json(push.as_bytes(), NOW, &Limits::default()).expect("a push").value;
    let severities: Vec<Severity> = pushed.groups.iter().flat_map(|group| &group.records).map(|record| record.severity).collect();
    assert_eq!(severities, [Severity::DEBUG, Severity::WARN, Severity::UNSPECIFIED]);
}

#[test]
fn loki_json_keeps_the_good_entries() {
    let body = r#"{"streams":[
        {"stream":{"app":"shop","env":"dev"},"values":[["1700000000000000001","level=warn low",{"trace_id":"0af7651916cd43dd8448eb211c80319c","user":"u1"}],["soon","x"],["2"],["3","{\"level\":\"error\"}"]]},
        {"stream":{},"values":[["1","x"],["2","y"]]},
        {"stream":{"a b":"c"},"values":[["1","x"]]}]}"#;
    let decoded = loki::decode(body.as_bytes(), "application/json; charset=utf-8", "", NOW, &Limits::default()).expect("valid");
    let group = &decoded.value.groups[0];
    assert_eq!((decoded.value.groups.len(), group.records.len(), decoded.rejected_count), (1, 2, 5));
    assert_eq!(decoded.rejected.iter().map(|rejection| rejection.index).collect::<Vec<_>>(), [1, 2, 4, 6]);
    assert_eq!(group.resource.service_name(), "shop");
    let record = &group.records[0];
    assert_eq!(
        (record.timestamp.0, record.severity, record.severity_text.as_str()),
        (1_700_000_000_000_000_001, Severity::WARN, "warn")
    );
    assert_eq!(record.trace_id.to_string(), "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(record.attributes.get_str("user"), Some("u1"));
    assert_eq!(group.records[1].severity, Severity::ERROR);
}

#[test]
fn loki_protobuf() {
    let field = |number: u8, bytes: &[u8]| [&[number << 3 | 2, bytes.len() as u8], bytes].concat();
    let pair = [field(1, b"user"), field(2, b"u1")].concat();
    let entry = [field(1, &[8, 5, 16, 7]), field(2, b"hello"), field(3, &pair)].concat();
    let bad = [field(1, &[8, 5]), field(2, b"\xff")].concat();
    let stream = [field(1, b"{job=\"j\"}"), field(2, &entry), field(2, &bad)].concat();
    let message = [field(1, &stream), field(1, &field(1, b"{job=}"))].concat();
    let decoded = loki::decode_protobuf(&message, NOW, &Limits::default()).expect("valid");
    let record = &decoded.value.groups[0].records[0];
    assert_eq!((record.timestamp.0, record.body.as_str(), decoded.rejected_count), (5_000_000_007, "hello", 2));
    assert_eq!(record.attributes.get_str("user"), Some("u1"));
    assert!(decoded.message().contains("byte 5"), "{}", decoded.message());
}

fn envelope(body: &[u8]) -> br_wire::Decoded<sentry::SentryBatch> {
    sentry::decode_envelope(body, Context { service: "project-1", received: NOW }, &Limits::default()).expect("an envelope")
}

#[test]
fn envelope_framing() {
    let body = b"{\"event_id\":\"e1\",\"dsn\":\"http://key@h/1\"}\n{\"type\":\"attachment\",\"length\":5}\na\nb\nc\n{\"type\":\"event\"}\n{\"message\":\"hi %s\",\"level\":\"warning\"}\n\n{\"type\":\"session\"}\n{}";
    let decoded = envelope(body);
    assert_eq!((decoded.value.event_id.as_str(), decoded.value.key.as_deref(), decoded.rejected_count), ("e1", Some("key"), 0));
    let others: Vec<(&str, &[u8])> =
        decoded.value.others.iter().map(|item| (item.item_type.as_str(), &item.payload[..])).collect();
    assert_eq!(others, [("attachment", &b"a\nb\nc"[..]), ("session", b"{}")]);
    let record = &decoded.value.logs.groups[0].records[0];
    assert_eq!((record.body.as_str(), record.severity, record.kind), ("hi %s", Severity::WARN, LogKind::Error));
    assert_eq!(decoded.value.logs.groups[0].resource.service_name(), "project-1");

    for (broken, rejected) in [
        (&b"{}\n{\"type\":\"event\",\"length\":99}\n{}"[..], 1),
        (b"{}\n{\"type\":\"event\",\"length\":2}\n{}x", 1),
        (b"{}\nnot json\n{}", 1),
        (b"{}\n{\"type\":\"event\"}\n[]\n{\"type\":\"event\"}\n{}\n", 1),
        (b"{}", 0),
    ] {
        assert_eq!(envelope(broken).rejected_count, rejected, "{}", String::from_utf8_lossy(broken));
    }
    let context = Context { service: "", received: NOW };
    assert!(sentry::decode_envelope(b"no", context, &Limits::default()).is_err());
}

#[test]
fn store_bodies() {
    let body = br#"{"event_id":"AB-CD","logentry":{"message":"quota for %s over %s","params":["t",5]},"tags":[["a","1"]],"release":"shop@2"}"#;
    let decoded = sentry::decode_store(body, Context { service: "p", received: NOW }, &Limits::default()).expect("valid").value;
    let group = &decoded.logs.groups[0];
    assert_eq!((group.resource.service_name(), group.records[0].body.as_str()), ("shop", "quota for t over 5"));
    assert_eq!((decoded.event_id.as_str(), group.records[0].attributes.get_str("a")), ("ABCD", Some("1")));
}

#[test]
fn captured_sentry_requests() {
    let Some(folder) = shared::folder("errors/wire") else { return };
    let (mut errors, mut spans, mut logs, mut others) = (0, 0, 0, 0);
    for entry in folder.read_dir().expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "envelope") {
            continue;
        }
        let decoded = envelope(&std::fs::read(&path).expect("a file"));
        assert_eq!(decoded.rejected_count, 0, "{}: {}", path.display(), decoded.message());
        for record in decoded.value.logs.groups.iter().flat_map(|group| &group.records) {
            match &record.error {
                Some(error) => {
                    errors += 1;
                    assert!(
                        !record.body.is_empty() && error.event_id.len() == 32 && !error.raw.contains("\"modules\":"),
                        "{}",
                        path.display()
                    );
                    assert!(!record.trace_id.is_none(), "{}", path.display());
                }
                None => logs += 1,
            }
        }
        for group in &decoded.value.spans.groups {
            assert_eq!(group.resource.service_name(), "shop", "{}", path.display());
            spans += group.spans.len();
        }
        others += decoded.value.others.len();
    }
    assert!(errors > 10 && spans > 5 && logs >= 3 && others > 8, "{errors} {spans} {logs} {others}");

    let read = |name: &str| envelope(&std::fs::read(folder.join(name)).expect("a file")).value;
    let chained = read("02_event_chained.0.envelope");
    let error = chained.logs.groups[0].records[0].error.clone().expect("an error");
    assert!(error.exceptions.len() > 1 && error.handled == Some(true), "{error:?}");
    let transaction = read("09_transaction_with_spans.0.envelope");
    let spans = &transaction.spans.groups[0].spans;
    assert_eq!(
        (spans[0].name.as_str(), spans[0].kind, spans[1].name.as_str()),
        ("GET /orders/{id}", SpanKind::Server, "SELECT orders")
    );
    assert_eq!(spans[1].parent_span_id, spans[0].span_id);
}

#[test]
fn older_store_payloads() {
    let Some(folder) = shared::folder("errors/store_glitchtip_mit") else { return };
    let mut seen = 0;
    for entry in folder.read_dir().expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let body = std::fs::read(&path).expect("a file");
        if !body.starts_with(b"{") {
            // Kept as a list of an envelope's lines.
            continue;
        }
        let context = Context { service: "p", received: NOW };
        let decoded = sentry::decode_store(&body, context, &Limits::default())
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let record = &decoded.value.logs.groups[0].records[0];
        assert!(record.error.is_some(), "{}", path.display());
        seen += 1;
    }
    assert!(seen > 3, "{seen} payloads");
}
