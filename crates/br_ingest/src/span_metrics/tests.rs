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
