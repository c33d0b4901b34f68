//! OTLP metrics, as protobuf and as JSON.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for encoding in [br_wire::otlp::Encoding::Protobuf, br_wire::otlp::Encoding::Json] {
        let options = br_wire::otlp::MetricOptions::default();
        let _ = br_wire::otlp::decode_metrics(bytes, encoding, br_std::Nanos(1), &options, &br_wire::Limits::default());
    }
});
