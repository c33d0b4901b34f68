//! An upload of systemd's journal, whole and in the parts that it is taken in: both bring the same entries.
#![no_main]

use br_std::Nanos;
use br_wire::{Limits, journald};
use libfuzzer_sys::fuzz_target;

/// Entries, where all of them are good.
fn count(bytes: &[u8]) -> Option<usize> {
    let decoded = journald::decode(bytes, Nanos(1), &Limits::default()).ok()?;
    (decoded.rejected_count == 0).then(|| decoded.value.record_count())
}

fuzz_target!(|bytes: &[u8]| {
    let Some(all) = count(bytes) else { return };
    let half = journald::whole_entries(&bytes[..bytes.len() / 2]);
    assert_eq!(count(&bytes[..half]).zip(count(&bytes[half..])).map(|(first, second)| first + second), Some(all));
});
