//! PostgreSQL's messages, and where statements end.
#![no_main]

use br_wire::postgres;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = postgres::opening(bytes);
    let mut rest = bytes;
    while let Ok(Some((_, length))) = postgres::message(rest, 1 << 20) {
        rest = &rest[length..];
    }
    if let Ok(sql) = std::str::from_utf8(bytes) {
        for statement in postgres::split(sql) {
            let _ = postgres::words(statement, 16);
        }
    }
});
