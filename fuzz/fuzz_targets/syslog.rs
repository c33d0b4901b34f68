//! A stream of syslog messages, in whatever parts it comes: the messages are the same, and each becomes a record.
#![no_main]

use br_std::Nanos;
use br_wire::{Limits, syslog};
use libfuzzer_sys::fuzz_target;

fn messages(bytes: &[u8], part: usize) -> Vec<Vec<u8>> {
    let mut splitter = syslog::Splitter::new(64);
    let mut found = Vec::new();
    for part in bytes.chunks(part) {
        splitter.push(part);
        loop {
            match splitter.next_message() {
                Ok(Some(message)) => found.push(message.to_vec()),
                Ok(None) => break,
                Err(_) => return found,
            }
        }
    }
    found.extend(splitter.last().map(<[u8]>::to_vec));
    found
}

fuzz_target!(|bytes: &[u8]| {
    let found = messages(bytes, 7);
    assert_eq!(found, messages(bytes, bytes.len().max(1)));
    let mut body = Vec::new();
    for message in &found {
        syslog::put_frame(&mut body, "10.0.0.1", message);
    }
    let decoded = syslog::decode(&body, "", Nanos(1_795_748_583_000_000_000), &Limits::default()).expect("frames of ours");
    assert_eq!(decoded.value.record_count() + decoded.rejected_count, found.len());
    let _ = syslog::decode(bytes, "Europe/Berlin", Nanos(1), &Limits::default());
});
