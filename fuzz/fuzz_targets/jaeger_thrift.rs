//! A batch of spans as Jaeger's older clients send it; what was read is written, as Zipkin and Jaeger show it.
#![no_main]

use br_wire::{Limits, SpanView, jaeger, zipkin};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(decoded) = jaeger::decode_thrift(bytes, "", br_std::Nanos(1), &Limits::default()) else { return };
    for group in &decoded.value.groups {
        let view = |span| SpanView { resource: &group.resource, scope: &group.scope, span };
        let views: Vec<SpanView<'_>> = group.spans.iter().map(view).collect();
        for write in [zipkin::write_trace, jaeger::write_trace, jaeger::write_resource_spans] {
            write(&mut Vec::new(), &views).expect("memory takes it");
        }
    }
});
