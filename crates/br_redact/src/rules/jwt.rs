//! JSON web tokens (RFC 7519) in their compact form: the header is decoded, and names an algorithm.

use super::{is_word, run};
use std::ops::Range;

const HEADER_BYTES_MAX: usize = 1024;
const BYTES_MAX: usize = 64 << 10;

/// `start` begins a word with `eyJ`.
pub(crate) fn find(text: &[u8], start: usize) -> Option<Range<usize>> {
    let is_part = |byte: u8| is_word(byte) || byte == b'-';
    let header_end = run(text, start, HEADER_BYTES_MAX, is_part);
    let header = decode(&text[start..header_end]);
    if !header.starts_with(b"{\"") || memchr::memmem::find(&header, b"\"alg\"").is_none() {
        return None;
    }
    let (mut end, mut parts) = (header_end, 1);
    // Three parts are signed, five encrypted; the last may be empty.
    while parts < 5 && text.get(end) == Some(&b'.') {
        end = run(text, end + 1, BYTES_MAX, is_part);
        parts += 1;
    }
    let end = if text[end - 1] == b'.' { end - 1 } else { end };
    (parts >= 2 && end > header_end + 1).then_some(start..end)
}

/// URL-safe base64, as far as it goes.
pub(crate) fn decode(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut count) = (0u32, 0);
    for byte in text {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'-' | b'+' => 62,
            b'_' | b'/' => 63,
            _ => break,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    out
}
