use super::*;
use br_model::{Attributes, Resource, ResourceSpans, Scope, Span, SpanId, SpanKind, SpanStatus, TraceId};
use std::collections::BTreeMap;

const TENANT: TenantId = TenantId(1);

fn span(name: &str, kind: SpanKind, ids: (u8, u8, u8), millis: i64) -> Span {
    let (trace, id, parent) = ids;
    Span {
        trace_id: TraceId([trace; 16]),
        span_id: SpanId([id; 8]),
        parent_span_id: SpanId([parent; 8]),
        name: name.into(),
        kind,
        start: Nanos(1_000_000),
        end: Nanos(1_000_000 + millis * 1_000_000),
        ..Span::default()
    }
}

fn batch(service: &str, spans: Vec<Span>) -> SpanBatch {
    let mut attributes = Attributes::default();
    attributes.push("service.name", service);
    let resource = Resource { attributes };
    SpanBatch { groups: vec![ResourceSpans { resource: resource.into(), scope: Scope::default().into(), spans }] }
}

/// Series by their labels, with the counts of what they hold.
fn counts(batches: &[(TenantId, MetricBatch)]) -> BTreeMap<String, f64> {
    let series = batches.iter().flat_map(|(_, batch)| &batch.series);
    let count = |series: &SeriesSamples| match &series.samples[0].value {
        Value::Float(value) => *value,
        Value::Histogram(histogram) => histogram.count,
    };
    series.map(|series| (series.labels.to_string(), count(series))).collect()
}

#[test]
fn operations_are_counted_every_15_seconds() {
    let mut metrics = SpanMetrics::default();
    let failed = Span { status: SpanStatus::Error, ..span("GET /", SpanKind::Server, (1, 2, 9), 250) };
    metrics.observe(TENANT, &batch("web", vec![span("GET /", SpanKind::Server, (1, 1, 9), 5), failed]), Nanos::from_secs(100));
    assert!(metrics.take(Nanos::from_secs(114), When::Due).is_empty());
    let taken = metrics.take(Nanos::from_secs(115), When::Due);
    let found = counts(&taken);
    for (status, count) in [("UNSET", 1.0), ("ERROR", 1.0)] {
        for name in ["calls_total", "latency"] {
            let labels = format!(
                "traces_spanmetrics_{name}{{service=\"web\", span_kind=\"SPAN_KIND_SERVER\", span_name=\"GET /\", status_code=\"STATUS_CODE_{status}\"}}"
            );
            assert_eq!(found.get(&labels), Some(&count), "{labels} in {found:?}");
        }
    }
    let slow = taken[0].1.series.iter().find_map(|series| series.exemplars.iter().find(|one| one.value == 0.25));
    assert_eq!(slow.expect("an exemplar").labels.get("trace_id"), Some("01010101010101010101010101010101"));
    let sample = &taken[0].1.series[0].samples[0];
    assert_eq!((sample.timestamp_ms, sample.start_ms), (115_000, Some(100_000)), "nothing was counted before the first span");
    assert!(metrics.take(Nanos::from_secs(200), When::AtOnce).is_empty(), "each counts once");
}

#[test]
fn names_without_end_are_one_after_some() {
    let mut metrics = SpanMetrics::default();
    let spans = (0..2100).map(|id| span(&format!("GET /users/{id}"), SpanKind::Internal, (1, 1, 0), 1)).collect();
    metrics.observe(TENANT, &batch("web", spans), Nanos::from_secs(1));
    let found = counts(&metrics.take(Nanos::from_secs(2), When::AtOnce));
    let other = found.iter().filter(|(labels, _)| labels.contains("calls_total") && labels.contains("(other)"));
    assert_eq!(other.map(|(_, count)| *count).collect::<Vec<_>>(), [100.0]);
}

#[test]
fn halves_of_a_call_find_each_other() {
    let mut metrics = SpanMetrics::default();
    let mut observe =
        |service: &str, span: Span, secs| metrics.observe(TENANT, &batch(service, vec![span]), Nanos::from_secs(secs));
    // The server's half comes first, and fails.
    let server = Span { status: SpanStatus::Error, ..span("charge", SpanKind::Server, (1, 3, 2), 40) };
    observe("pay", server, 1);
    observe("shop", span("POST", SpanKind::Client, (1, 2, 1), 50), 4);
    // A root, a database, a peer that says nothing, and a half whose other one never comes.
    observe("shop", span("GET /", SpanKind::Server, (1, 1, 0), 90), 4);
    let with = |key: &str, value: &str, id| {
        let mut span = span("q", SpanKind::Client, (1, id, 1), 1);
        span.attributes.push(key, value);
        span
    };
    observe("shop", with("db.system", "postgresql", 5), 4);
    observe("shop", with("peer.service", "bank", 6), 4);
    observe("shop", span("GET", SpanKind::Client, (1, 7, 1), 1), 4);
    let found = counts(&metrics.take(Nanos::from_secs(15), When::AtOnce));
    let call = |name: &str, client: &str, server: &str, connection: &str| {
        let connection = if connection.is_empty() { String::new() } else { format!(", connection_type=\"{connection}\"") };
        let labels = format!("traces_service_graph_request_{name}{{client=\"{client}\"{connection}, server=\"{server}\"}}");
        found.get(&labels).copied()
    };
    for name in ["total", "failed_total", "server_seconds", "client_seconds"] {
        assert_eq!(call(name, "shop", "pay", ""), Some(1.0), "{name} in {found:?}");
    }
    assert_eq!(call("server_seconds", "user", "shop", "virtual_node"), Some(1.0));
    assert_eq!(call("client_seconds", "shop", "postgresql", "database"), Some(1.0));
    assert_eq!(call("failed_total", "shop", "postgresql", "database"), None);
    assert_eq!(call("total", "shop", "bank", "virtual_node"), Some(1.0));
    assert_eq!(found.get("traces_service_graph_unpaired_spans_total{client=\"shop\"}"), Some(&1.0));
}

#[test]
fn halves_that_found_each_other_take_no_place() {
    let mut metrics = SpanMetrics::default();
    let id =
        |number: u32| SpanId([1 + (number >> 24) as u8, (number >> 16) as u8, (number >> 8) as u8, number as u8, 1, 1, 1, 1]);
    for number in 0..120_000u32 {
        let client = Span { span_id: id(number), ..span("GET", SpanKind::Client, (1, 1, 1), 1) };
        let server = Span { span_id: SpanId([9; 8]), parent_span_id: id(number), ..span("GET", SpanKind::Server, (1, 1, 1), 1) };
        metrics.observe(TENANT, &batch("a", vec![client]), Nanos::from_secs(1));
        metrics.observe(TENANT, &batch("b", vec![server]), Nanos::from_secs(1));
    }
    // As Zipkin shares ids.
    let client = span("GET", SpanKind::Client, (2, 5, 1), 1);
    let mut server = span("GET", SpanKind::Server, (2, 5, 1), 1);
    server.attributes.push("zipkin.shared", true);
    metrics.observe(TENANT, &batch("c", vec![client]), Nanos::from_secs(1));
    metrics.observe(TENANT, &batch("d", vec![server]), Nanos::from_secs(1));
    let found = counts(&metrics.take(Nanos::from_secs(2), When::AtOnce));
    assert_eq!(found.get("traces_service_graph_request_total{client=\"a\", server=\"b\"}"), Some(&120_000.0));
    assert_eq!(found.get("traces_service_graph_request_total{client=\"c\", server=\"d\"}"), Some(&1.0));
    assert!(!found.keys().any(|labels| labels.contains("dropped")), "{found:?}");
}

#[test]
fn long_names_are_cut_and_services_are_bounded() {
    let mut metrics = SpanMetrics::default();
    metrics.observe(TENANT, &batch("web", vec![span(&"ü".repeat(200), SpanKind::Internal, (1, 1, 1), 1)]), Nanos::from_secs(1));
    for number in 0..5100 {
        metrics.observe(
            TENANT,
            &batch(&format!("s{number}"), vec![span("x", SpanKind::Server, (1, 1, 0), 1)]),
            Nanos::from_secs(1),
        );
    }
    let found = counts(&metrics.take(Nanos::from_secs(2), When::AtOnce));
    assert!(found.keys().any(|labels| labels.contains(&format!("\"{}\"", "ü".repeat(128)))));
    let other =
        found.get("traces_service_graph_request_total{client=\"user\", connection_type=\"virtual_node\", server=\"(other)\"}");
    assert_eq!(other, Some(&101.0), "user is one of 5000");
}
