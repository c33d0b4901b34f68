//! A batch of spans as Jaeger's older clients send it.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = br_wire::jaeger::decode_thrift(bytes, "", br_std::Nanos(1), &br_wire::Limits::default());
});
