//! Passwords in addresses: `scheme://user:password@host` (RFC 3986, 3.2.1).

use super::{before, run};
use crate::mask::is_masked;
use std::ops::Range;

const AUTHORITY_BYTES_MAX: usize = 512;

/// What an address has before its host.
pub(crate) struct User {
    pub(crate) password: Option<Range<usize>>,
    /// Where the host begins: what stands before it is no e-mail address.
    pub(crate) host: usize,
}

/// `colon` is that of `://`.
pub(crate) fn user(text: &[u8], colon: usize) -> Option<User> {
    if !before(text, colon).is_ascii_alphanumeric() {
        return None;
    }
    let start = colon + 3;
    let is_part = |byte: u8| byte > b' ' && !matches!(byte, b'/' | b'?' | b'#' | b'"' | b'\'' | b'<' | b'>' | b'\\' | b'`');
    let end = run(text, start, AUTHORITY_BYTES_MAX, is_part);
    let authority = &text[start..end];
    let sign = authority.iter().rposition(|byte| *byte == b'@')?;
    let host = start + sign + 1;
    let password = authority[..sign].iter().position(|byte| *byte == b':').map(|at| start + at + 1..start + sign);
    let is_secret = |range: &Range<usize>| {
        let value = &text[range.clone()];
        !value.is_empty() && !is_masked(value) && !super::pairs::is_placeholder(value)
    };
    Some(User { password: password.filter(is_secret), host })
}
