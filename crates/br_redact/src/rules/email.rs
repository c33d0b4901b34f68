//! E-mail addresses, as people have them: no quoted local parts, a domain of two labels at least.

use super::at;
use std::ops::Range;

const LOCAL_BYTES_MAX: usize = 64;
const DOMAIN_BYTES_MAX: usize = 253;
/// `logo@2x.png` is a file, not a person.
const FILE_ENDINGS: [&[u8]; 12] =
    [b"png", b"jpg", b"jpeg", b"gif", b"svg", b"webp", b"ico", b"css", b"js", b"html", b"json", b"whl"];

/// The address around a sign at `sign`, which takes `width` bytes (`@` or `%40`). Nothing before `floor` is part of it.
pub(crate) fn find(text: &[u8], floor: usize, sign: usize, width: usize) -> Option<Range<usize>> {
    let is_local = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'+');
    let local = text[floor..sign].iter().rev().take(LOCAL_BYTES_MAX).take_while(|byte| is_local(**byte)).count();
    let mut start = sign - local;
    while start < sign && matches!(text[start], b'.' | b'-' | b'+') {
        start += 1;
    }
    if start == sign || text[sign - 1] == b'.' {
        return None;
    }
    let domain_start = sign + width;
    let end = domain_end(text, domain_start)?;
    // How repositories are called.
    let is_repository = &text[start..sign] == b"git" && at(text, end) == b':';
    (!is_repository).then_some(start..end)
}

fn domain_end(text: &[u8], start: usize) -> Option<usize> {
    let is_domain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    let length = text[start..].iter().take(DOMAIN_BYTES_MAX).take_while(|byte| is_domain(**byte)).count();
    let mut domain = &text[start..start + length];
    while let [rest @ .., b'.' | b'-'] = domain {
        domain = rest;
    }
    if !domain.first()?.is_ascii_alphanumeric() {
        return None;
    }
    let dot = domain.iter().rposition(|byte| *byte == b'.')?;
    let top = &domain[dot + 1..];
    let is_top = (2..=24).contains(&top.len()) && top.iter().all(u8::is_ascii_alphabetic) || top.starts_with(b"xn--");
    let is_file = FILE_ENDINGS.iter().any(|ending| ending.eq_ignore_ascii_case(top));
    (is_top && !is_file && dot > 0).then_some(start + domain.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Option<&str> {
        let sign = text.find('@')?;
        find(text.as_bytes(), 0, sign, 1).map(|range| &text[range])
    }

    #[test]
    fn addresses() {
        assert_eq!(found("to <ann.b+c@mail.example.com>."), Some("ann.b+c@mail.example.com"));
        assert_eq!(found("ann@example.com."), Some("ann@example.com"));
        assert_eq!(found("mail=ann@example.com&x"), Some("ann@example.com"));
        for text in ["@ann", "ann@host", "ann@1.2.3.4", "pkg@1.2.3", "logo@2x.png", "git@github.com:a/b", "a.@b.com", "x@.com"] {
            assert_eq!(found(text), None, "{text}");
        }
    }
}
