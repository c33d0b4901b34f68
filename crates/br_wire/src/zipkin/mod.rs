//! Zipkin's format 2: lists of spans, as JSON and as protobuf.
//!
//! Sources: openzipkin/zipkin-api `zipkin2-api.yaml` and `zipkin.proto`; OpenTelemetry's specification, "Zipkin" exporter, for what
//! becomes of statuses, scopes and events on the way through Zipkin.
//!
//! | Zipkin | here |
//! |---|---|
//! | `localEndpoint.serviceName` | `service.name` of the resource |
//! | other parts of `localEndpoint` | `network.local.address`, `network.local.port` |
//! | `remoteEndpoint` | `peer.service`, `network.peer.address`, `network.peer.port` |
//! | tags | attributes, all of them text |
//! | tag `error` | status error as well, with the tag as its message |
//! | tags `otel.scope.name`, `otel.scope.version` | the scope |
//! | annotations | events without attributes |
//! | `shared` | `zipkin.shared`: this half has the id of its client's half |

mod json;
mod model;
mod protobuf;
mod write;

pub use write::{trace_id, write_trace};

use crate::{Decoded, Limits, Result, WireError};
use br_model::SpanBatch;
use br_std::Nanos;

/// Reads a decompressed list of spans; of JSON a span alone is taken as well. A span without valid ids is rejected. One that does not
/// say when it began starts with the earliest of its trace in the body, else at `received`.
pub fn decode(body: &[u8], content_type: &str, received: Nanos, limits: &Limits) -> Result<Decoded<SpanBatch>> {
    let media_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let mut list = model::List::new(limits);
    match media_type.as_str() {
        "application/x-protobuf" | "application/protobuf" => protobuf::read(body, &mut list)?,
        "application/x-thrift" => {
            return Err(WireError::Unsupported(
                "Zipkin's format 1 in thrift is not known here; send format 2 as JSON or protobuf".into(),
            ));
        }
        // As Zipkin's own server does: whatever clients call it, it is JSON.
        _ => json::read(body, &mut list)?,
    }
    Ok(list.finish(received))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SpanView;
    use br_model::{AttributeValue, SpanId, SpanKind, SpanStatus, TraceId};
    use serde_json::{Value, json};

    fn read(body: &str) -> Decoded<SpanBatch> {
        decode(body.as_bytes(), "application/json", Nanos(9_000_000), &Limits::default()).expect("readable")
    }

    fn written(batch: &SpanBatch) -> Value {
        let groups = batch.groups.iter();
        let views: Vec<SpanView<'_>> = groups
            .flat_map(|group| group.spans.iter().map(|span| SpanView { resource: &group.resource, scope: &group.scope, span }))
            .collect();
        let mut out = Vec::new();
        write_trace(&mut out, &views).expect("memory takes it");
        serde_json::from_slice(&out).expect("JSON")
    }

    const WHOLE: &str = r#"[{"traceId":"4d1e00c0db9010db86154a4ba6e91385","parentId":"86154a4ba6e91385","id":"4d1e00c0db9010db",
        "kind":"CLIENT","name":"get","timestamp":1472470996199000,"duration":207000,
        "localEndpoint":{"serviceName":"frontend","ipv6":"2001:db8::c001","port":80},
        "remoteEndpoint":{"serviceName":"backend","ipv4":"192.168.99.101","port":9000},
        "annotations":[{"timestamp":1472470996238000,"value":"foo"}],
        "tags":{"http.path":"/api","error":"timeout","otel.scope.name":"brave"},"debug":true,"shared":true}]"#;

    #[test]
    fn a_span_becomes_one_of_ours_and_comes_out_as_it_was() {
        let batch = read(WHOLE).value;
        let group = &batch.groups[0];
        let span = &group.spans[0];
        assert_eq!((group.resource.service_name(), group.scope.name.as_str()), ("frontend", "brave"));
        assert_eq!((span.kind, span.status, span.status_message.as_str()), (SpanKind::Client, SpanStatus::Error, "timeout"));
        assert_eq!((span.start, span.end), (Nanos(1_472_470_996_199_000_000), Nanos(1_472_470_996_406_000_000)));
        assert_eq!(span.attributes.get_str("peer.service"), Some("backend"));
        assert_eq!(span.attributes.get("network.peer.port"), Some(&AttributeValue::Int(9000)));
        assert_eq!((span.events[0].name.as_str(), span.events[0].timestamp), ("foo", Nanos(1_472_470_996_238_000_000)));
        assert_eq!(written(&batch), serde_json::from_str::<Value>(WHOLE).expect("JSON"));
    }

    #[test]
    fn short_ids_times_that_are_missing_and_numbers_as_text() {
        let body = r#"[{"traceId":"a1","id":"b1"},{"traceId":"a1","id":"b2","parentId":"b1","timestamp":"5000","duration":2.0}]"#;
        let batch = read(body).value;
        let spans = &batch.groups[0].spans;
        assert_eq!(spans[0].trace_id, TraceId((0xa1_u128).to_be_bytes()));
        assert_eq!((spans[0].start, spans[1].start, spans[1].end), (Nanos(5_000_000), Nanos(5_000_000), Nanos(5_002_000)));
        assert_eq!(spans[1].parent_span_id, SpanId((0xb1_u64).to_be_bytes()));
        let out = written(&batch);
        assert_eq!(out[0], json!({ "traceId": "00000000000000a1", "id": "00000000000000b1" }));
        assert_eq!((&out[1]["timestamp"], &out[1]["duration"]), (&json!(5000), &json!(2)));
        let odd = read(r#"[{"traceId":"a1","id":"b1","remoteEndpoint":{"ipv4":"52.0.0.05"}}]"#).value;
        assert_eq!(written(&odd)[0]["remoteEndpoint"], json!({ "ipv4": "52.0.0.05" }), "as it came");
        assert_eq!(read(r#"{"traceId":"a1","id":"b1"}"#).value.groups[0].spans[0].start, Nanos(9_000_000), "received");
    }

    #[test]
    fn what_is_wrong_is_told_and_the_rest_is_taken() {
        let body = r#"[{"traceId":"a1","id":"b1"},{"traceId":"zz","id":"b1"},{"id":"b1"},7,{"traceId":"a1","id":"00"},
            {"traceId":"a1","id":"b1","timestamp":18446744073709551615},{"traceId":"a1","id":"b1","kind":"BIG"}]"#;
        let decoded = read(body);
        assert_eq!((decoded.value.span_count(), decoded.rejected_count), (2, 5));
        for (at, word) in [(0, "traceId \"zz\""), (1, "traceId is missing"), (2, "object"), (3, "id \"00\""), (4, "timestamp")] {
            assert!(decoded.rejected[at].reason.contains(word), "{}", decoded.rejected[at]);
        }
        let error = |body: &str, content_type: &str| {
            decode(body.as_bytes(), content_type, Nanos(1), &Limits::default()).expect_err("nothing to use").http_status()
        };
        assert_eq!((error("", ""), error("[{", ""), error("7", ""), error("[]", "application/x-thrift")), (400, 400, 400, 415));
        let few = Limits { records_max: 1, ..Limits::default() };
        assert!(matches!(decode(body.as_bytes(), "", Nanos(1), &few), Err(WireError::TooLarge(_))));
    }

    #[test]
    fn bytes_that_are_no_text_cost_no_batch() {
        let body = b"[{\"traceId\":\"a1\",\"id\":\"b1\",\"tags\":{\"agent\":\"caf\xe9\",\"half\":\"\\ud83d\"}},{\"traceId\":\"a1\",\"id\":\"b2\"}]";
        let decoded = decode(body, "application/json", Nanos(1), &Limits::default()).expect("readable");
        assert_eq!((decoded.value.span_count(), decoded.rejected_count), (2, 0));
        let attributes = &decoded.value.groups[0].spans[0].attributes;
        assert_eq!((attributes.get_str("agent"), attributes.get_str("half")), (Some("caf\u{fffd}"), Some("\\ud83d")));
    }

    #[test]
    fn spans_beyond_the_limit_are_not_read() {
        let few = Limits { records_max: 2, ..Limits::default() };
        let span = r#"{"traceId":"a1","id":"b1"}"#;
        let error = decode(format!("[{span},{span},{span},]]").as_bytes(), "", Nanos(1), &few).expect_err("three");
        assert!(matches!(error, WireError::TooLarge(_)), "what is behind was looked at: {error}");
    }

    #[test]
    fn marks_come_first_and_what_is_left_out_is_counted() {
        let tags: Vec<String> = (0..6).map(|at| format!("\"t{at}\":{at}")).collect();
        let body = format!(
            r#"[{{"traceId":"a1","id":"b1","tags":{{{}}},"shared":true,"remoteEndpoint":{{"serviceName":"db"}},
                "annotations":[{{"value":"a"}},{{"value":"b"}},{{"value":"c"}},{{"value":"d"}},{{"value":"e"}}]}}]"#,
            tags.join(",")
        );
        let few = Limits { attributes_max: 4, ..Limits::default() };
        let batch = decode(body.as_bytes(), "", Nanos(9), &few).expect("readable").value;
        let span = &batch.groups[0].spans[0];
        let keys: Vec<&str> = span.attributes.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["peer.service", model::SHARED, model::NO_START, crate::DROPPED_KEY, "t0", "t1", "t2", "t3"]);
        assert_eq!((span.events.len(), span.attributes.get(crate::DROPPED_KEY)), (4, Some(&AttributeValue::Int(3))));
    }

    /// zipkin-go, and Grafana with it, refuses the whole trace otherwise.
    #[test]
    fn addresses_are_addresses_and_annotations_have_a_time() {
        let address = |text: &str| {
            let body = json!([{ "traceId": "a1", "id": "b1", "timestamp": 7, "tags": { "network.peer.address": text },
                "annotations": [{ "value": "late" }] }]);
            let mut span = written(&read(&body.to_string()).value)[0].clone();
            assert_eq!(span["annotations"], json!([{ "timestamp": 7, "value": "late" }]));
            (span["remoteEndpoint"].take(), span["tags"]["network.peer.address"].take())
        };
        for (text, family) in [("10.0.0.1", "ipv4"), ("52.0.0.05", "ipv4"), ("::1", "ipv6"), ("::ffff:10.0.0.1", "ipv6")] {
            assert_eq!(address(text), (json!({ family: text }), Value::Null));
        }
        for text in ["10.0.0.1:8080", "1.2.3", "cafe.de", "256.0.0.1", "[::1]:80", "a:b", "1.2.3.+4", ""] {
            assert_eq!(address(text), (Value::Null, json!(text)), "a tag");
        }
    }

    /// `number` as a length-delimited field.
    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, bytes.len() as u8], bytes].concat()
    }

    #[test]
    fn protobuf_says_the_same() {
        let local =
            [field(1, b"frontend"), field(3, &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xc0, 1]), vec![0x20, 80]];
        let remote = [field(1, b"backend"), field(2, &[192, 168, 99, 101]), vec![0x20, 0xa8, 0x46]];
        let fixed = |number: u8, value: u64| [&[number << 3 | 1][..], &value.to_le_bytes()].concat();
        let tag = |key: &[u8], value: &[u8]| field(11, &[field(1, key), field(2, value)].concat());
        let span = [
            field(1, &hex::decode("4d1e00c0db9010db86154a4ba6e91385").expect("hex")),
            field(2, &hex::decode("86154a4ba6e91385").expect("hex")),
            field(3, &hex::decode("4d1e00c0db9010db").expect("hex")),
            vec![0x20, 1],
            field(5, b"get"),
            fixed(6, 1_472_470_996_199_000),
            vec![0x38, 0x98, 0xd1, 0x0c],
            field(8, &local.concat()),
            field(9, &remote.concat()),
            field(10, &[fixed(1, 1_472_470_996_238_000), field(2, b"foo")].concat()),
            tag(b"http.path", b"/api"),
            tag(b"error", b"timeout"),
            tag(b"otel.scope.name", b"brave"),
            vec![0x60, 1, 0x68, 1],
        ]
        .concat();
        let span_ids = [field(1, &[1; 8]), field(3, &[1; 8])].concat();
        let mut body = vec![0x0a];
        br_std::varint::put_u64(&mut body, span.len() as u64);
        body.extend(span);
        let limits = Limits::default();
        let decoded = decode(&body, "application/x-protobuf", Nanos(1), &limits).expect("readable");
        assert_eq!(decoded, read(WHOLE));
        for cut in 1..body.len() {
            assert!(decode(&body[..cut], "application/x-protobuf", Nanos(1), &limits).is_err(), "cut at {cut}");
        }
        let many = field(1, &[&span_ids[..], &[0x52, 0].repeat(17)].concat());
        let few = Limits { records_max: 1, ..limits };
        let error = decode(&many, "application/x-protobuf", Nanos(1), &few).expect_err("17 annotations");
        assert!(matches!(&error, WireError::TooLarge(message) if message.contains("annotations")), "{error}");
        let raw = field(1, &[&span_ids[..], &tag(b"agent", b"caf\xe9")].concat());
        let batch = decode(&raw, "application/x-protobuf", Nanos(1), &limits).expect("readable").value;
        assert_eq!(batch.groups[0].spans[0].attributes.get_str("agent"), Some("caf\u{fffd}"), "one byte loses no batch");
        let wrong_parent = field(1, &[&span_ids[..], &field(2, &[1; 7])].concat());
        let decoded = decode(&wrong_parent, "application/x-protobuf", Nanos(1), &limits).expect("a list");
        assert!(decoded.rejected_count == 1 && decoded.message().contains("parent_id"), "{}", decoded.message());
        let wrong_id = field(1, &[field(1, &[1; 7]), field(3, &[1; 8])].concat());
        let decoded = decode(&wrong_id, "application/x-protobuf", Nanos(1), &limits).expect("a list");
        assert!(decoded.rejected_count == 1 && decoded.message().contains("7 bytes"), "{}", decoded.message());
    }
}
