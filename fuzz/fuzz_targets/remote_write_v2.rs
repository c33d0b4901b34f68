//! Remote write 2.0: what was read is written and read again without a complaint.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    use br_wire::remote_write::v2;
    if let Ok(decoded) = v2::decode(bytes, &br_wire::Limits::default()) {
        let again = v2::decode(&v2::encode_message(&decoded.value), &br_wire::Limits::default());
        assert!(again.is_ok_and(|again| again.rejected_count == 0));
    }
});
