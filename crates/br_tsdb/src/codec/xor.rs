//! One float as the bytes in which it differs from the float before.
//!
//! A code byte, then the differing bytes, lowest first. Code 0: the same bits. Code `1 + 8·lead + (length-1)`: after `lead`
//! equal bytes from the top come `length` bytes that differ, and the rest is equal.

use super::{damaged, take_bytes};
use br_std::Result;

/// Codes at and above this one are free for the caller.
pub(super) const CODE_END: u8 = 65;

/// The code and the differing bytes of `bits` against `before`.
pub(super) fn split(before: u64, bits: u64) -> (u8, [u8; 8], usize) {
    let difference = before ^ bits;
    if difference == 0 {
        return (0, [0; 8], 0);
    }
    let lead = (difference.leading_zeros() / 8) as usize;
    let trail = (difference.trailing_zeros() / 8) as usize;
    let length = 8 - lead - trail;
    (1 + (lead * 8 + length - 1) as u8, (difference >> (8 * trail)).to_le_bytes(), length)
}

/// What [`put`] appends for these floats, the first against zero.
pub(super) fn size_of(values: &[f64]) -> usize {
    let mut before = 0;
    let mut bytes = values.len();
    for value in values {
        let difference = before ^ value.to_bits();
        if difference != 0 {
            bytes += 8 - (difference.leading_zeros() / 8 + difference.trailing_zeros() / 8) as usize;
        }
        before = value.to_bits();
    }
    bytes
}

pub(super) fn put(out: &mut Vec<u8>, before: u64, bits: u64) {
    let (code, bytes, length) = split(before, bits);
    out.push(code);
    // All eight and then fewer: a copy of a length that is known takes no call.
    let end = out.len() + length;
    out.extend_from_slice(&bytes);
    out.truncate(end);
}

/// Reads what stands behind `code`, which is below [`CODE_END`].
pub(super) fn take(code: u8, before: u64, input: &mut &[u8]) -> Result<u64> {
    if code == 0 {
        return Ok(before);
    }
    let (lead, length) = (usize::from(code - 1) / 8, usize::from(code - 1) % 8 + 1);
    let trail = 8usize.checked_sub(lead + length).ok_or_else(|| damaged("a float's length"))?;
    let mut bytes = [0; 8];
    bytes[..length].copy_from_slice(take_bytes(input, length, "a float")?);
    Ok(before ^ (u64::from_le_bytes(bytes) << (8 * trail)))
}
