//! Zipkin's spans, as protobuf and as JSON; what was read is written, as Zipkin and Jaeger show it.
#![no_main]

use br_wire::{Limits, SpanView, jaeger, zipkin};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for content_type in ["application/x-protobuf", "application/json"] {
        let Ok(decoded) = zipkin::decode(bytes, content_type, br_std::Nanos(1), &Limits::default()) else { continue };
        for group in &decoded.value.groups {
            let view = |span| SpanView { resource: &group.resource, scope: &group.scope, span };
            let views: Vec<SpanView<'_>> = group.spans.iter().map(view).collect();
            for write in [zipkin::write_trace, jaeger::write_trace, jaeger::write_resource_spans] {
                write(&mut Vec::new(), &views).expect("memory takes it");
            }
        }
    }
});
