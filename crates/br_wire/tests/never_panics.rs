//! No decoder panics, whatever the bytes: random ones, and good bodies with damage.

use br_model::ErrorEvent;
use br_std::Nanos;
use br_wire::decompress::{Encoding, decompress};
use br_wire::exposition::{self, Format};
use br_wire::sentry::{self, Context};
use br_wire::{
    Limits, container, elastic, fold, jaeger, journald, json_line, loki, ndjson, otlp, remote_write, syslog, traceback, zipkin,
};
use proptest::prelude::*;

/// Lets every decoder read the bytes; the outcome does not matter.
fn decode_all(bytes: &[u8]) {
    let limits = Limits { decoded_bytes_max: 1 << 20, ..Limits::default() };
    let now = Nanos(1);
    for encoding in [Encoding::Gzip, Encoding::Deflate, Encoding::Zstd, Encoding::Snappy, Encoding::Lz4] {
        let _ = decompress(bytes, encoding, &limits);
    }
    for format in [Format::Text, Format::OpenMetrics, Format::Protobuf] {
        let _ = exposition::parse_format(bytes, format);
    }
    let _ = exposition::parse_openmetrics_strict(bytes);
    let _ = remote_write::v1::decode(bytes, &limits);
    let _ = remote_write::v2::decode(bytes, &limits);
    for encoding in [otlp::Encoding::Protobuf, otlp::Encoding::Json] {
        let _ = otlp::decode_traces(bytes, encoding, now, &limits).map(|decoded| otlp::errors_of_spans(&decoded.value));
        let _ = otlp::decode_logs(bytes, encoding, now, &limits);
        let _ = otlp::decode_metrics(bytes, encoding, now, &otlp::MetricOptions::default(), &limits);
    }
    let _ = loki::decode_json(bytes, now, &limits);
    let _ = loki::decode_protobuf(bytes, now, &limits);
    let _ = jaeger::decode_thrift(bytes, "", now, &limits);
    for content_type in ["application/json", "application/x-protobuf"] {
        let _ = zipkin::decode(bytes, content_type, now, &limits);
    }
    let _ = elastic::decode(bytes, "i", now, &limits).map(|decoded| elastic::answer(&decoded.value.items, 1, false));
    let _ = ndjson::decode(bytes, ndjson::Fields { time: "a", message: "b.c", stream: "d" }, now, &limits);
    let _ = (journald::whole_entries(bytes), journald::decode(bytes, now, &limits));
    let _ = syslog::decode(bytes, "Europe/Berlin", now, &limits);
    let mut framed = Vec::new();
    let mut splitter = syslog::Splitter::new(64);
    splitter.push(bytes);
    while let Ok(Some(message)) = splitter.next_message() {
        syslog::put_frame(&mut framed, "p", message);
    }
    assert!(syslog::decode(&framed, "", now, &limits).is_ok());
    let context = Context { service: "p", received: now };
    let _ = sentry::decode_envelope(bytes, context, &limits);
    let _ = sentry::decode_store(bytes, context, &limits);
    let text = String::from_utf8_lossy(bytes);
    let _ = json_line::parse(&text, now);
    let mut lines = fold::Fold::default();
    for line in text.lines() {
        let _ = (container::docker(line), container::cri(line), lines.next(line));
    }
    let exceptions = traceback::parse(&text);
    let error =
        ErrorEvent { exceptions, message: text.to_string(), fingerprint: vec![text.to_string()], ..ErrorEvent::default() };
    let _ = (error.grouping(), error.raise_stack());
    let _ = ErrorEvent { exceptions: Vec::new(), fingerprint: Vec::new(), ..error }.grouping();
    let _ = loki::parse_labels(&text);
    let _ = syslog::Heads::new(now).split(&text);
    let _ = sentry::key_of(Some(&text), Some(&text));
    let _ = sentry::Dsn::parse(&text);
    let _ = otlp::metric_name(&text, &text, true, true);
}

fn good_bodies() -> Vec<Vec<u8>> {
    let logs = r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"5","severityNumber":9,"body":{"stringValue":"é"},"attributes":[{"key":"exception.type","value":{"stringValue":"E"}}]}]}]}]}"#;
    let log_batch = otlp::decode_logs(logs.as_bytes(), otlp::Encoding::Json, Nanos(1), &Limits::default()).expect("valid").value;
    let metrics =
        "# TYPE a histogram\na_bucket{le=\"1\"} 1 # {t=\"é\"} 1\na_bucket{le=\"+Inf\"} 2\na_count 2\na_sum 1.5\n# EOF\n";
    let batch = exposition::parse_format(metrics.as_bytes(), Format::OpenMetrics).expect("valid");
    vec![
        logs.as_bytes().to_vec(),
        otlp::encode_logs(&log_batch),
        metrics.as_bytes().to_vec(),
        remote_write::v2::encode_message(&batch),
        remote_write::v2::encode(&batch),
        br#"{"streams":[{"stream":{"a":"b"},"values":[["1","level=info \u00e9",{"k":"v"}]]}]}"#.to_vec(),
        b"{\"event_id\":\"e\"}\n{\"type\":\"event\",\"length\":68}\n{\"exception\":{\"values\":[{\"type\":\"E\",\"stacktrace\":{\"frames\":[{}]}}]}}\n".to_vec(),
        b"{\"event_id\":\"e\"}\n{\"type\":\"transaction\"}\n{\"contexts\":{\"trace\":{\"span_id\":\"1\",\"trace_id\":\"2\"}},\"spans\":[{}]}\n".to_vec(),
        br#"{"log":"par\u00e9t","stream":"stderr","attrs":{"n":7},"time":"2026-01-02T10:00:00.5Z"}"#.to_vec(),
        "2026-01-02T10:00:00.5Z stdout P é".as_bytes().to_vec(),
        b"Traceback (most recent call last):\n  File \"a.py\", line 1, in f\n    x\n    ^\nE: \xc3\xa9\n".to_vec(),
        b"{app=\"\\u00e9\", b=`c`}".to_vec(),
        b"\x0c\0\x01\x0b\0\x01\0\0\0\x01a\0\x0f\0\x02\x0c\0\0\0\x01\x0a\0\x01\0\0\0\0\0\0\0\x01\x0a\0\x03\0\0\0\0\0\0\0\x02\x0f\0\x0a\x0c\0\0\0\x01\x0b\0\x01\0\0\0\x01k\x08\0\x02\0\0\0\0\0\0\0".to_vec(),
        br#"[{"traceId":"a1","id":"b1","kind":"CLIENT","timestamp":5,"duration":7,"annotations":[{"timestamp":1,"value":"\u00e9"}],"tags":{"error":"x"},"remoteEndpoint":{"ipv4":"1.2.3.4","port":9}}]"#.to_vec(),
        b"{\"create\":{\"_index\":\"a\"}}\n{\"@timestamp\":5,\"a\":{\"b\":{\"c\":\"\xc3\xa9\"}},\"message\":\"x\"}\n{\"index\":{}}\n{}\n".to_vec(),
        b"_PID=7\nMESSAGE\n\x03\0\0\0\0\0\0\0a\nb\nPRIORITY=3\n\nMESSAGE=\xc3\xa9\n\n".to_vec(),
        b"<165>1 2026-11-27T03:03:14Z w a 7 I [x@1 k=\"\\\"v\"] \xef\xbb\xbfm\n40 <14>Nov 27 03:03:03 web a[7]: x".to_vec(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        decode_all(&bytes);
    }

    #[test]
    fn random_text(text in "[ -~\n\"\\\\{}#=,é]{0,80}") {
        decode_all(text.as_bytes());
    }

    #[test]
    fn damaged_bodies(which in 0usize..15, damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4), cut in any::<prop::sample::Index>()) {
        let mut bytes = good_bodies().swap_remove(which);
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        decode_all(&bytes);
        bytes.truncate(cut.index(bytes.len()));
        decode_all(&bytes);
    }
}

#[test]
fn good_bodies_are_good() {
    assert_eq!(good_bodies().len(), 17);
    for body in good_bodies() {
        decode_all(&body);
    }
    for body in &good_bodies()[6..8] {
        let context = Context { service: "p", received: Nanos(1) };
        let decoded = sentry::decode_envelope(body, context, &Limits::default()).expect("an envelope");
        assert_eq!((decoded.rejected_count, decoded.message().as_str()), (0, ""));
    }
}

#[test]
fn deep_nesting_is_refused() {
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    decode_all(deep.as_bytes());
    let mut message = Vec::new();
    for _ in 0..5_000 {
        let mut outer = vec![0x0a];
        br_std::varint::put_u64(&mut outer, message.len() as u64);
        outer.extend(message);
        message = outer;
    }
    decode_all(&message);
}
