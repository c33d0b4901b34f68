//! Remote write 1.0.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = br_wire::remote_write::v1::decode(bytes, &br_wire::Limits::default());
});
