//! The protobuf exposition.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = br_wire::exposition::parse_format(bytes, br_wire::exposition::Format::Protobuf);
});
