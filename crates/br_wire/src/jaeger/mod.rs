//! What Jaeger's query service speaks: traces as JSON of its versions 1 and 3, and its form of a search. And what its older clients
//! send.
//!
//! Sources: Jaeger's documentation, "APIs"; OpenTelemetry's specification, "OpenTelemetry to Jaeger Transformation".

mod filter;
mod numbers;
mod summary;
mod thrift;
mod v1;
mod v3;

pub use filter::{TAGS_MAX, TraceFilter, quoted, service_condition, value_conditions};
pub use summary::write_summary;
pub use thrift::decode_thrift;
pub use v1::{trace_id, write_trace};
pub use v3::write_resource_spans;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::{Encoding, decode_traces};
    use crate::{Limits, SpanView};
    use br_model::{AttributeValue, Attributes, SpanBatch, SpanKind, SpanLink};
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
    fn spans_of_one_origin_stand_together_whoever_holds_it() {
        let batch = batch();
        let copies = [batch.groups[0].clone(), batch.groups[1].clone(), batch.groups[0].clone()];
        let copied = |group: &br_model::ResourceSpans| br_model::ResourceSpans {
            resource: std::sync::Arc::new((*group.resource).clone()),
            ..group.clone()
        };
        let batch = SpanBatch { groups: copies.iter().map(copied).collect() };
        let trace = written(&batch, write_trace);
        assert_eq!(trace["processes"].as_object().map(serde_json::Map::len), Some(2));
        assert_eq!(trace["spans"][2]["processID"], "p1");
        let list = written(&batch, |out, views| {
            out.write_all(b"[")?;
            write_resource_spans(out, views)?;
            out.write_all(b"]")
        });
        let counts: Vec<_> = list.as_array().expect("a list").iter().map(|item| &item["scopeSpans"][0]["spans"]).collect();
        assert_eq!(counts.iter().map(|spans| spans.as_array().map(Vec::len)).collect::<Vec<_>>(), [Some(2), Some(1)]);
    }

    /// A field of a struct: type, number, value.
    fn field(kind: u8, number: u8, value: &[u8]) -> Vec<u8> {
        [&[kind, 0, number], value].concat()
    }

    fn text(number: u8, text: &str) -> Vec<u8> {
        field(11, number, &[&(text.len() as u32).to_be_bytes(), text.as_bytes()].concat())
    }

    fn long(number: u8, value: i64) -> Vec<u8> {
        field(10, number, &value.to_be_bytes())
    }

    fn structs(number: u8, items: &[Vec<u8>]) -> Vec<u8> {
        let count = items.len() as u8;
        let items: Vec<u8> = items.iter().flat_map(|item| [item.as_slice(), &[0]].concat()).collect();
        field(15, number, &[&[12, 0, 0, 0, count], &items[..]].concat())
    }

    fn tag(key: &str, kind: u8, value: Vec<u8>) -> Vec<u8> {
        [text(1, key), field(8, 2, &[0, 0, 0, kind]), value].concat()
    }

    #[test]
    fn thrift_of_older_clients() {
        let one = |item: Vec<u8>| vec![item];
        let log = [long(1, 6), structs(2, &one(tag("event", 0, text(3, "retry"))))].concat();
        let span = [long(1, 0xa1), long(2, 0), long(3, 0xb1), long(4, 0xb0), text(5, "pay"), long(8, 5), long(9, 7)];
        let span = [span.concat(), structs(10, &one(tag("span.kind", 0, text(3, "server")))), structs(11, &one(log))].concat();
        let process = [text(1, "shop"), structs(2, &one(tag("n", 3, long(6, 7))))].concat();
        // A field that is not known is passed over; the process may come last.
        let body =
            [structs(2, &one(span.clone())), field(13, 9, &[8, 11, 0, 0, 0, 0]), field(12, 1, &process), vec![0, 0]].concat();
        let limits = Limits::default();
        let decode = |body: &[u8]| decode_thrift(body, "application/x-thrift", Nanos(1), &limits);
        let batch = decode(&body).expect("readable").value;
        let (group, found) = (&batch.groups[0], &batch.groups[0].spans[0]);
        assert_eq!((group.resource.service_name(), group.resource.attributes.len()), ("shop", 2));
        assert_eq!((found.name.as_str(), found.start, found.end), ("pay", Nanos(5000), Nanos(12_000)));
        assert_eq!((found.trace_id.to_string().as_str(), found.kind), ("000000000000000000000000000000a1", SpanKind::Server));
        assert_eq!((found.events[0].name.as_str(), found.parent_span_id.to_string().as_str()), ("retry", "00000000000000b0"));
        assert!(found.attributes.is_empty(), "{:?}", found.attributes);
        assert_eq!(found.events[0].timestamp, Nanos(6000));
        for cut in 0..body.len() - 1 {
            assert!(decode(&body[..cut]).is_err(), "cut at {cut}");
        }
        let without_ids = [structs(2, &one(text(5, "pay"))), vec![0]].concat();
        let decoded = decode(&without_ids).expect("a batch");
        assert!(decoded.rejected_count == 1 && decoded.message().contains("must not be zero"), "{}", decoded.message());
        let error = decode_thrift(&body, "application/json", Nanos(1), &limits).expect_err("no thrift");
        assert_eq!(error.http_status(), 415);
    }

    #[test]
    fn what_a_batch_of_thrift_leaves_out_is_told() {
        let ids = [long(1, 0xa1), long(2, 0), long(3, 0xb1), long(8, 5)].concat();
        let tags: Vec<Vec<u8>> = (0..6).map(|at| tag(&format!("t{at}"), 0, text(3, "x"))).collect();
        let follows = |id: i64| [field(8, 1, &[0, 0, 0, 1]), long(2, 0xa1), long(3, 0), long(4, id)].concat();
        let logs: Vec<Vec<u8>> = (0..5).map(|_| structs(2, &[tag("event", 0, text(3, "late"))])).collect();
        let span = [ids, structs(6, &[follows(0xb7), follows(0)]), structs(10, &tags), structs(11, &logs)].concat();
        let body = [structs(2, &[span]), vec![0]].concat();
        let few = Limits { attributes_max: 4, ..Limits::default() };
        let batch = decode_thrift(&body, "", Nanos(1), &few).expect("readable").value;
        let found = &batch.groups[0].spans[0];
        let keys: Vec<&str> = found.attributes.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, [crate::DROPPED_KEY, "t0", "t1", "t2", "t3"]);
        assert_eq!(found.attributes.get(crate::DROPPED_KEY), Some(&AttributeValue::Int(3)));
        assert_eq!((found.links.len(), found.events.len()), (1, 4), "a reference to nothing is none");
        assert_eq!(found.events[0].timestamp, found.start, "no time is told");
    }

    /// Jaeger's page checks what it gets, and shows nothing of a trace with a value that it does not expect.
    #[test]
    fn version_3_says_nothing_that_its_page_refuses() {
        let mut batch = batch();
        batch.groups.truncate(1);
        let span = &mut batch.groups[0].spans[0];
        let far = AttributeValue::Array(vec![AttributeValue::Double(f64::NEG_INFINITY), AttributeValue::Empty]);
        span.attributes = Attributes::default();
        for (key, value) in [("none", AttributeValue::Empty), ("nan", AttributeValue::Double(f64::NAN)), ("far", far)] {
            span.attributes.push(key, value);
        }
        span.links.push(SpanLink::default());
        let span = &written(&batch, write_resource_spans)["scopeSpans"][0]["spans"][0];
        let text = |text: &str| json!({ "stringValue": text });
        assert_eq!(span["attributes"][0]["value"], text(""));
        assert_eq!(span["attributes"][1]["value"], text("NaN"));
        assert_eq!(span["attributes"][2]["value"], json!({ "arrayValue": { "values": [text("-Infinity"), text("")] } }));
        assert_eq!(span["links"].as_array().map(Vec::len), Some(1));
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
