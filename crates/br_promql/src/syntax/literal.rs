//! Numbers and strings as Prometheus, that is Go, writes them.

use std::fmt::{self, Write as _};

/// Reads a number: decimal, hexadecimal, octal with a leading zero, with `_` between digits. `None` when it is none.
pub(crate) fn number(word: &str) -> Option<f64> {
    let plain = without_separators(word)?;
    let digits = plain.strip_prefix("0x").or_else(|| plain.strip_prefix("0X"));
    if let Some(digits) = digits {
        return i64::from_str_radix(digits, 16).ok().map(|value| value as f64);
    }
    let is_octal = plain.len() > 1 && plain.starts_with('0') && plain.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    if is_octal {
        return i64::from_str_radix(&plain, 8).ok().map(|value| value as f64);
    }
    let looks_right = plain.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-'));
    if looks_right { plain.parse().ok() } else { None }
}

/// `1_000` to `1000`; an underscore that does not stand between two digits makes it no number.
fn without_separators(word: &str) -> Option<String> {
    if !word.contains('_') {
        return Some(word.to_owned());
    }
    let bytes = word.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        let between = at > 0 && bytes[at - 1].is_ascii_hexdigit() && bytes.get(at + 1).is_some_and(u8::is_ascii_hexdigit);
        if *byte == b'_' && !between {
            return None;
        }
    }
    Some(word.replace('_', ""))
}

/// Reads the string literal at the start of `text`; gives its value, whether the value is UTF-8, and its length in bytes,
/// quotes included. Escapes that make bytes which are no UTF-8 become the replacement character.
pub(crate) fn read_string(text: &str) -> Result<(String, bool, usize), String> {
    let bytes = text.as_bytes();
    let quote = *bytes.first().ok_or("unterminated quoted string")?;
    if quote == b'`' {
        let length = text[1..].find('`').ok_or("unterminated raw string")?;
        return Ok((text[1..=length].to_owned(), true, length + 2));
    }
    let mut value = Vec::new();
    let mut at = 1;
    loop {
        match bytes.get(at) {
            None | Some(b'\n') => return Err("unterminated quoted string".to_owned()),
            Some(byte) if *byte == quote => {
                let is_utf8 = std::str::from_utf8(&value).is_ok();
                return Ok((String::from_utf8_lossy(&value).into_owned(), is_utf8, at + 1));
            }
            Some(b'\\') => at += read_escape(&bytes[at + 1..], quote, &mut value)? + 1,
            Some(byte) => {
                value.push(*byte);
                at += 1;
            }
        }
    }
}

/// Reads what follows a backslash; gives its length.
fn read_escape(after: &[u8], quote: u8, value: &mut Vec<u8>) -> Result<usize, String> {
    let Some(kind) = after.first().copied() else {
        return Err("escape sequence not terminated".to_owned());
    };
    let simple = match kind {
        b'a' => Some(7),
        b'b' => Some(8),
        b'f' => Some(12),
        b'n' => Some(b'\n'),
        b'r' => Some(b'\r'),
        b't' => Some(b'\t'),
        b'v' => Some(11),
        b'\\' => Some(b'\\'),
        _ if kind == quote => Some(quote),
        _ => None,
    };
    if let Some(byte) = simple {
        value.push(byte);
        return Ok(1);
    }
    let (skip, digits, radix) = match kind {
        b'0'..=b'7' => (0, 3, 8),
        b'x' => (1, 2, 16),
        b'u' => (1, 4, 16),
        b'U' => (1, 8, 16),
        _ => return Err(format!("unknown escape sequence U+{kind:04X}")),
    };
    let code = after
        .get(skip..skip + digits)
        .and_then(|digits| std::str::from_utf8(digits).ok())
        .and_then(|digits| u32::from_str_radix(digits, radix).ok())
        .ok_or("illegal character in escape sequence")?;
    if digits <= 3 {
        value.push(u8::try_from(code).map_err(|_| "escape sequence is too large for a byte")?);
    } else {
        let character = char::from_u32(code).ok_or("escape sequence is an invalid Unicode code point")?;
        value.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    }
    Ok(skip + digits)
}

/// A string, written so that [`read_string`] reads it back.
pub(crate) struct Quoted<'t>(pub(crate) &'t str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for character in self.0.chars() {
            match character {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                '\r' => f.write_str("\\r")?,
                '\t' => f.write_str("\\t")?,
                control if (control as u32) < 0x20 || control as u32 == 0x7f => write!(f, "\\x{:02x}", control as u32)?,
                other => f.write_char(other)?,
            }
        }
        f.write_str("\"")
    }
}
