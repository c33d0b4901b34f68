//! What Jaeger's query service speaks: traces as JSON of its versions 1 and 3, and its form of a search.
//!
//! Sources: Jaeger's documentation, "APIs"; OpenTelemetry's specification, "OpenTelemetry to Jaeger Transformation".

mod filter;
mod summary;
mod v1;
mod v3;

pub use filter::{TAGS_MAX, TraceFilter, quoted, service_condition, value_conditions};
pub use summary::write_summary;
pub use v1::{trace_id, write_trace};
pub use v3::write_resource_spans;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::{Encoding, decode_traces};
    use crate::{Limits, SpanView};
    use br_model::SpanBatch;
    use br_std::Nanos;
    use serde_json::{Value, json};

    fn views(batch: &SpanBatch) -> Vec<SpanView<'_>> {
        let groups = batch.groups.iter();
        groups
            .flat_map(|group| group.spans.iter().map(|span| SpanView { resource: &group.resource, scope: &group.scope, span }))
            .collect()
    }

    fn written(batch: &SpanBatch, write: fn(&mut dyn std::io::Write, &[SpanView<'_>]) -> std::io::Result<()>) -> Value {
        let mut out = Vec::new();
        write(&mut out, &views(batch)).expect("memory takes it");
        serde_json::from_slice(&out).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&out)))
    }

    fn batch() -> SpanBatch {
        let body = r#"{"resourceSpans":[
            {"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}},{"key":"pod","value":{"stringValue":"p"}}]},
             "scopeSpans":[{"scope":{"name":"lib","version":"2"},"spans":[
                {"traceId":"000000000000000000000000000000a1","spanId":"00000000000000b1","name":"pay","kind":2,"traceState":"x=y",
                 "startTimeUnixNano":"1000000","endTimeUnixNano":"3000000","status":{"code":2,"message":"no"},
                 "attributes":[{"key":"n","value":{"intValue":"7"}},{"key":"far","value":{"intValue":"9007199254740993"}},
                    {"key":"ratio","value":{"doubleValue":0.5}},{"key":"yes","value":{"boolValue":true}},
                    {"key":"raw","value":{"bytesValue":"AQI="}},
                    {"key":"list","value":{"arrayValue":{"values":[{"intValue":"1"},{"stringValue":"a"}]}}}],
                 "events":[{"timeUnixNano":"2000000","name":"retry","attributes":[{"key":"at","value":{"intValue":"2"}}]}],
                 "links":[{"traceId":"000000000000000000000000000000a2","spanId":"00000000000000b9"}]}]}]},
            {"scopeSpans":[{"spans":[
                {"traceId":"000000000000000000000000000000a1","spanId":"00000000000000b2","parentSpanId":"00000000000000b1",
                 "name":"child","startTimeUnixNano":"1500000","endTimeUnixNano":"1500000"}]}]}]}"#;
        decode_traces(body.as_bytes(), Encoding::Json, Nanos(1), &Limits::default()).expect("valid").value
    }

    #[test]
    fn version_1_has_typed_tags_and_processes() {
        let trace = written(&batch(), write_trace);
        assert_eq!(trace["traceID"], "00000000000000a1");
        let tag = |key: &str, kind: &str, value: Value| json!({ "key": key, "type": kind, "value": value });
        assert_eq!(
            trace["spans"][0],
            json!({
                "traceID": "00000000000000a1", "spanID": "00000000000000b1", "operationName": "pay",
                "references": [{ "refType": "FOLLOWS_FROM", "traceID": "00000000000000a2", "spanID": "00000000000000b9" }],
                "startTime": 1000, "duration": 2000,
                "tags": [
                    tag("otel.scope.name", "string", json!("lib")), tag("otel.scope.version", "string", json!("2")),
                    tag("n", "int64", json!(7)), tag("far", "int64", json!("9007199254740993")),
                    tag("ratio", "float64", json!(0.5)), tag("yes", "bool", json!(true)), tag("raw", "binary", json!("AQI=")),
                    tag("list", "string", json!("[1,\"a\"]")), tag("span.kind", "string", json!("server")),
                    tag("otel.status_code", "string", json!("ERROR")), tag("error", "bool", json!(true)),
                    tag("otel.status_description", "string", json!("no")), tag("w3c.tracestate", "string", json!("x=y")),
                ],
                "logs": [{ "timestamp": 2000, "fields": [tag("event", "string", json!("retry")), tag("at", "int64", json!(2))] }],
                "processID": "p1", "warnings": null,
            })
        );
        assert_eq!(trace["spans"][1]["references"][0]["refType"], "CHILD_OF");
        assert_eq!(trace["spans"][1]["processID"], "p2");
        let processes = json!({
            "p1": { "serviceName": "shop", "tags": [tag("pod", "string", json!("p"))] },
            "p2": { "serviceName": "unknown_service", "tags": [] },
        });
        assert_eq!(trace["processes"], processes);
    }

    #[test]
    fn version_3_is_otlp_that_reads_back_the_same() {
        let batch = batch();
        let mut out = br#"{"resourceSpans":["#.to_vec();
        write_resource_spans(&mut out, &views(&batch)).expect("memory takes it");
        out.extend(b"]}");
        let read = decode_traces(&out, Encoding::Json, Nanos(1), &Limits::default()).expect("valid");
        assert_eq!((read.value, read.rejected_count), (batch, 0));
    }

    #[test]
    fn a_form_becomes_traceql() {
        let filter = TraceFilter {
            service: "a\"b".into(),
            operation: "GET /".into(),
            tags: vec![("http.code".into(), "500".into()), ("error".into(), "true".into())],
            duration_min_nanos: Some(5),
            duration_max_nanos: Some(9),
        };
        let text = filter.to_traceql();
        assert!(
            text.starts_with(r#"{ resource.service.name = "a\"b" && name = "GET /" && duration >= 5ns && duration <= 9ns && ("#),
            "{text}"
        );
        for part in [r#"span."http.code" = 500"#, r#"event."http.code" = "500""#, "(status = error || "] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("=~"), "nothing here is a pattern: {text}");
        assert_eq!(TraceFilter::default().to_traceql(), "{  }");
        assert_eq!(value_conditions("k", "a.*b\\*"), ["k = \"a.*b\\\\*\"", "k =~ \"a.*b\\\\*\""]);
        assert_eq!(value_conditions("k", "a(b"), ["k = \"a(b\""], "no pattern");
        assert_eq!(value_conditions("k", "true"), ["k = \"true\"", "k = true"]);
    }
}
