//! A line of output that may be JSON.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(line) = std::str::from_utf8(bytes) {
        let _ = br_wire::json_line::parse(line, br_std::Nanos(1));
    }
});
