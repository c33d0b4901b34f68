//! Remote read requests.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = br_wire::remote_read::decode(bytes, &br_wire::Limits::default());
});
