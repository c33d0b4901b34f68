//! Addresses of machines. Whoever runs services wants to see them: these rules are off until asked for.

use super::{at, before, is_word, run};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;

/// `start` begins a run of digits, and a word.
pub(crate) fn ipv4(text: &[u8], start: usize) -> Option<Range<usize>> {
    let end = run(text, start, 16, |byte| byte.is_ascii_digit() || byte == b'.');
    let end = if before(text, end) == b'.' { end - 1 } else { end };
    if is_word(at(text, end)) || matches!(before(text, start), b'.' | b'-') || at(text, end) == b'-' {
        return None;
    }
    let address: Ipv4Addr = std::str::from_utf8(&text[start..end]).ok()?.parse().ok()?;
    (!address.is_unspecified() && !address.is_loopback()).then_some(start..end)
}

/// `start` begins a word or is the first of two colons.
pub(crate) fn ipv6(text: &[u8], start: usize) -> Option<Range<usize>> {
    let is_part = |byte: u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
    let mut end = run(text, start, 46, is_part);
    while end > start + 2 && (before(text, end) == b'.' || before(text, end) == b':' && before(text, end - 1) != b':') {
        end -= 1;
    }
    if is_word(at(text, end)) || matches!(before(text, start), b':' | b'.') || is_word(before(text, start)) {
        return None;
    }
    let address: Ipv6Addr = std::str::from_utf8(&text[start..end]).ok()?.parse().ok()?;
    // `a::b` is a path in C++ and Rust.
    let groups = memchr::memchr_iter(b':', &text[start..end]).count();
    (groups >= 3 && !address.is_loopback() && !address.is_unspecified()).then_some(start..end)
}

/// Six pairs of hexadecimal digits; `start` begins a word.
pub(crate) fn mac(text: &[u8], start: usize) -> Option<Range<usize>> {
    let end = start + 17;
    let address = text.get(start..end)?;
    let sign = address[2];
    if !matches!(sign, b':' | b'-') || is_word(at(text, end)) || at(text, end) == sign || before(text, start) == sign {
        return None;
    }
    let fits = |(place, byte): (usize, &u8)| if place % 3 == 2 { *byte == sign } else { byte.is_ascii_hexdigit() };
    address.iter().enumerate().all(fits).then_some(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        assert_eq!(ipv4(b"10.2.3.4:80", 0), Some(0..8));
        assert_eq!(ipv4(b"8.8.8.8.", 0), Some(0..7));
        for text in ["01.84.17.61", "1.2.3", "1.2.3.4.5", "300.1.1.1", "127.0.0.1"] {
            assert_eq!(ipv4(text.as_bytes(), 0), None, "{text}");
        }
        assert_eq!(ipv6(b"2001:db8::1 up", 0), Some(0..11));
        assert_eq!(ipv6(b"fe80::1ff:fe23:4567:890a", 0), Some(0..24));
        for text in ["std::net", "12:34:56", "a::b", "::1"] {
            assert_eq!(ipv6(text.as_bytes(), 0), None, "{text}");
        }
        assert_eq!(mac(b"00:1b:44:11:3a:b7", 0), Some(0..17));
        assert_eq!(mac(b"00:1b:44:11:3a:b7:00", 0), None);
    }
}
