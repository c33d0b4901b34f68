//! Seeded input, made once and sent to everybody alike.

use br_model::{
    Attributes, LogBatch, LogRecord, Resource, ResourceLogs, ResourceSpans, Scope, Severity, Span, SpanBatch, SpanId, SpanKind,
    SpanStatus, TraceId,
};
use br_std::{Nanos, varint};
use std::sync::Arc;

/// Numbers that follow from a seed (splitmix64).
pub(crate) struct Seeded(pub(crate) u64);

impl Seeded {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// One of `choices`.
    pub(crate) fn pick<'c, T>(&mut self, choices: &'c [T]) -> &'c T {
        &choices[self.below(choices.len() as u64) as usize]
    }

    /// True in so many of a hundred cases.
    pub(crate) fn percent(&mut self, share: u64) -> bool {
        self.below(100) < share
    }

    /// From 0 up to, not including, 1.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
        bytes
    }
}

/// Series of 100 pods with counters, gauges and one classic histogram family each, as an application has them.
pub(crate) struct Metrics {
    series: Vec<Vec<(String, String)>>,
    values: Vec<f64>,
    seeded: Seeded,
}

impl Metrics {
    pub(crate) fn new(count: usize) -> Self {
        let series: Vec<_> = (0..count)
            .map(|at| {
                let (pod, metric) = (at % 100, at / 100);
                let mut labels = vec![
                    ("__name__".to_owned(), format!("app_metric_{}_total", metric % 40)),
                    ("instance".to_owned(), format!("10.0.0.{pod}:8000")),
                    ("job".to_owned(), format!("service-{}", pod % 10)),
                    ("method".to_owned(), ["GET", "POST", "PUT", "DELETE"][metric % 4].to_owned()),
                    ("path".to_owned(), format!("/api/v1/resource/{}", metric / 40)),
                    ("pod".to_owned(), format!("service-{}-6d4cf56db6-{pod:05}", pod % 10)),
                ];
                labels.sort();
                labels
            })
            .collect();
        let values = vec![0.0; series.len()];
        Self { series, values, seeded: Seeded(1) }
    }

    pub(crate) fn len(&self) -> usize {
        self.series.len()
    }

    /// The remote-write 1.0 requests of one scrape of everything, 2,000 series each, compressed.
    pub(crate) fn scrape(&mut self, at_ms: i64) -> Vec<Vec<u8>> {
        for (at, value) in self.values.iter_mut().enumerate() {
            // A third of the series stand still, as in real services.
            if at % 3 != 0 {
                *value += self.seeded.below(20) as f64;
            }
        }
        let both: Vec<_> = self.series.iter().zip(&self.values).collect();
        both.chunks(2000).map(|chunk| compress(&write_request(chunk, at_ms))).collect()
    }
}

pub(crate) fn compress(message: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(message).unwrap_or_default()
}

fn write_request(series: &[(&Vec<(String, String)>, &f64)], at_ms: i64) -> Vec<u8> {
    let mut message = Vec::new();
    for (labels, value) in series {
        put_series(&mut message, labels, &[(at_ms, **value)]);
    }
    message
}

/// Adds a series to a `prometheus.WriteRequest`: field 1 is a series, with labels in field 1 and samples in field 2.
pub(crate) fn put_series(message: &mut Vec<u8>, labels: &[(String, String)], samples: &[(i64, f64)]) {
    let mut one = Vec::new();
    for (name, label_value) in labels {
        let mut label = Vec::new();
        field(&mut label, 1, name.as_bytes());
        field(&mut label, 2, label_value.as_bytes());
        field(&mut one, 1, &label);
    }
    for (at_ms, value) in samples {
        let mut sample = vec![1 << 3 | 1];
        sample.extend_from_slice(&value.to_le_bytes());
        sample.push(2 << 3);
        varint::put_u64(&mut sample, *at_ms as u64);
        field(&mut one, 2, &sample);
    }
    field(message, 1, &one);
}

pub(crate) fn field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    varint::put_u64(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

const WORDS: [&str; 16] = [
    "request",
    "handled",
    "cache",
    "miss",
    "database",
    "query",
    "payment",
    "accepted",
    "user",
    "session",
    "retry",
    "queue",
    "worker",
    "timeout",
    "upstream",
    "completed",
];

fn resource(at: u64) -> Arc<Resource> {
    let mut attributes = Attributes::default();
    attributes.push("service.name", format!("service-{}", at % 20));
    attributes.push("service.instance.id", format!("pod-{}", at % 5));
    Arc::new(Resource { attributes })
}

/// OTLP requests of 500 log records each, protobuf, not compressed; and the bytes of their lines.
pub(crate) fn logs(requests: usize, start: Nanos) -> (Vec<Vec<u8>>, u64) {
    let mut seeded = Seeded(2);
    let mut line_bytes = 0;
    let made = (0..requests).map(|request| {
        let records = (0..500).map(|at| {
            let words: Vec<&str> = (0..12).map(|_| WORDS[seeded.below(16) as usize]).collect();
            let body = format!("{} id={:x} took={}ms", words.join(" "), seeded.next(), seeded.below(900));
            line_bytes += body.len() as u64;
            let mut attributes = Attributes::default();
            attributes.push("http.route", format!("/api/{}", seeded.below(30)));
            attributes.push("http.response.status_code", 200 + seeded.below(4) as i64 * 100);
            attributes.push("user.id", format!("user-{}", seeded.below(5000)));
            let timestamp = Nanos(start.0 + (request as i64 * 500 + at) * 1_000_000);
            LogRecord {
                timestamp,
                observed: timestamp,
                severity: Severity::INFO,
                severity_text: "INFO".into(),
                body,
                attributes,
                trace_id: TraceId(seeded.bytes()),
                ..LogRecord::default()
            }
        });
        let records: Vec<LogRecord> = records.collect();
        let group = ResourceLogs { resource: resource(seeded.next()), scope: Arc::new(Scope::default()), records };
        br_wire::otlp::encode_logs(&LogBatch { groups: vec![group] })
    });
    let made = made.collect();
    (made, line_bytes)
}

/// OTLP requests of 50 traces with 10 spans each, protobuf, not compressed.
pub(crate) fn spans(requests: usize, start: Nanos) -> Vec<Vec<u8>> {
    let mut seeded = Seeded(3);
    (0..requests)
        .map(|request| {
            let mut spans = Vec::with_capacity(500);
            for trace in 0..50 {
                let trace_id = TraceId(seeded.bytes());
                let root = SpanId(seeded.bytes());
                for step in 0..10 {
                    let begun = Nanos(start.0 + (request as i64 * 50 + trace) * 10_000_000 + step * 500_000);
                    let mut attributes = Attributes::default();
                    attributes.push("http.route", format!("/api/{}", seeded.below(30)));
                    attributes.push("db.system", "postgresql");
                    attributes.push("net.peer.port", 5432i64);
                    let span = Span {
                        trace_id,
                        span_id: if step == 0 { root } else { SpanId(seeded.bytes()) },
                        parent_span_id: if step == 0 { SpanId::default() } else { root },
                        name: format!("operation-{}", seeded.below(40)),
                        kind: if step == 0 { SpanKind::Server } else { SpanKind::Client },
                        start: begun,
                        end: Nanos(begun.0 + 400_000 + seeded.below(5_000_000) as i64),
                        status: if seeded.below(50) == 0 { SpanStatus::Error } else { SpanStatus::Unset },
                        attributes,
                        ..Span::default()
                    };
                    spans.push(span);
                }
            }
            let group = ResourceSpans { resource: resource(seeded.next()), scope: Arc::new(Scope::default()), spans };
            br_wire::otlp::encode_traces(&SpanBatch { groups: vec![group] })
        })
        .collect()
}
