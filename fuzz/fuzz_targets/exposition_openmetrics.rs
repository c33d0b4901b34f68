//! What the strict reader takes, the kind one takes too.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let kind = br_wire::exposition::parse_format(bytes, br_wire::exposition::Format::OpenMetrics);
    assert!(kind.is_ok() || br_wire::exposition::parse_openmetrics_strict(bytes).is_err());
});
