//! Envelopes and store bodies.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let context = br_wire::sentry::Context { service: "fuzz", received: br_std::Nanos(1) };
    let _ = br_wire::sentry::decode_envelope(bytes, context, &br_wire::Limits::default());
    let _ = br_wire::sentry::decode_store(bytes, context, &br_wire::Limits::default());
});
