//! A push, as protobuf and as JSON.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = br_wire::loki::decode_protobuf(bytes, br_std::Nanos(1), &br_wire::Limits::default());
    let _ = br_wire::loki::decode_json(bytes, br_std::Nanos(1), &br_wire::Limits::default());
});
