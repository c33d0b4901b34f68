//! Credentials behind the name of their scheme (RFC 6750, RFC 7617).

use super::jwt::decode;
use super::{is_word, run};
use crate::mask::is_masked;
use std::ops::Range;

/// The longest credential; Kerberos tickets are long.
const BYTES_MAX: usize = 16 << 10;
/// Shorter ones, or letters alone, are words: "bearer token".
const BEARER_BYTES_MIN: usize = 8;
const BEARER_BYTES_SURE: usize = 24;

fn is_credential(byte: u8) -> bool {
    is_word(byte) || matches!(byte, b'-' | b'.' | b'~' | b'+' | b'/' | b'=')
}

/// `start` begins the word `bearer` or `basic`, in letters of any case.
pub(crate) fn find(text: &[u8], start: usize) -> Option<Range<usize>> {
    let word_end = run(text, start, 7, is_word);
    let is_basic = text[start..word_end].eq_ignore_ascii_case(b"basic");
    if !is_basic && !text[start..word_end].eq_ignore_ascii_case(b"bearer") {
        return None;
    }
    let from = run(text, word_end, 3, |byte| byte == b' ');
    if from == word_end {
        // As it stands in an address.
        return None;
    }
    let end = run(text, from, BYTES_MAX, is_credential);
    let value = &text[from..end];
    let is_sure = if is_basic {
        let decoded = decode(value);
        decoded.contains(&b':') && decoded.iter().all(|byte| (0x20..0x7f).contains(byte))
    } else {
        value.len() >= BEARER_BYTES_MIN && value.iter().any(u8::is_ascii_digit) || value.len() >= BEARER_BYTES_SURE
    };
    (is_sure && !is_masked(value)).then_some(from..end)
}

/// In the value of an `Authorization` header: what stands behind the scheme, else all of it.
pub(crate) fn credentials(value: &[u8]) -> Range<usize> {
    let scheme = run(value, 0, 24, |byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let from = run(value, scheme, 3, |byte| byte == b' ');
    if scheme > 0 && from > scheme && from < value.len() { from..value.len() } else { 0..value.len() }
}
