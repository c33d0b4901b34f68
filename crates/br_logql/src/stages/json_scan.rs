//! A small JSON reader that keeps numbers as written and duplicate keys in order.

use std::borrow::Cow;

/// Deeper nesting counts as malformed.
const DEPTH_MAX: usize = 128;

/// Reads values from left to right. Each function expects to stand at the start of what it reads, after [`Self::blank`].
pub(crate) struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

/// What is wrong and where.
#[derive(Debug, PartialEq)]
pub(crate) struct Malformed {
    what: &'static str,
    at: usize,
}

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at byte {}", self.what, self.at)
    }
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    fn wrong(&self, what: &'static str) -> Malformed {
        Malformed { what, at: self.at }
    }

    /// The next byte after white space.
    pub(crate) fn blank(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while let Some(byte) = bytes.get(self.at) {
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return Some(*byte);
            }
            self.at += 1;
        }
        None
    }

    fn expect(&mut self, byte: u8, what: &'static str) -> Result<(), Malformed> {
        if self.blank() != Some(byte) {
            return Err(self.wrong(what));
        }
        self.at += 1;
        Ok(())
    }

    /// Reads an object: `field` gets each key and must read its value.
    pub(crate) fn object(
        &mut self,
        mut field: impl FnMut(&mut Self, Cow<'a, str>) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        self.expect(b'{', "expected an object")?;
        if self.blank() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            if self.blank() != Some(b'"') {
                return Err(self.wrong("expected a key"));
            }
            let key = self.string()?;
            self.expect(b':', "expected a colon")?;
            self.blank();
            field(self, key)?;
            match self.blank() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(self.wrong("expected a comma or a closing brace")),
            }
        }
    }

    /// As [`Self::object`], for the elements of an array.
    pub(crate) fn array(&mut self, mut element: impl FnMut(&mut Self, usize) -> Result<(), Malformed>) -> Result<(), Malformed> {
        self.expect(b'[', "expected an array")?;
        if self.blank() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        for index in 0.. {
            self.blank();
            element(self, index)?;
            match self.blank() {
                Some(b',') => self.at += 1,
                Some(b']') => break,
                _ => return Err(self.wrong("expected a comma or a closing bracket")),
            }
        }
        self.at += 1;
        Ok(())
    }

    /// A string without its quotes and escapes.
    pub(crate) fn string(&mut self) -> Result<Cow<'a, str>, Malformed> {
        self.expect(b'"', "expected a string")?;
        let start = self.at;
        let bytes = self.text.as_bytes();
        let stop = memchr::memchr2(b'"', b'\\', &bytes[start..]).ok_or_else(|| self.wrong("string not terminated"))? + start;
        if bytes[stop] == b'"' {
            self.at = stop + 1;
            return Ok(Cow::Borrowed(&self.text[start..stop]));
        }
        let mut value = self.text[start..stop].to_owned();
        self.at = stop;
        loop {
            let rest = &bytes[self.at..];
            let length = memchr::memchr2(b'"', b'\\', rest).ok_or_else(|| self.wrong("string not terminated"))?;
            value.push_str(&self.text[self.at..self.at + length]);
            self.at += length + 1;
            if rest[length] == b'"' {
                return Ok(Cow::Owned(value));
            }
            value.push(self.escape()?);
        }
    }

    /// What follows a backslash.
    fn escape(&mut self) -> Result<char, Malformed> {
        let byte = self.text.as_bytes().get(self.at).copied().ok_or_else(|| self.wrong("string not terminated"))?;
        self.at += 1;
        Ok(match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\x08',
            b'f' => '\x0c',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => self.unicode_escape()?,
            _ => return Err(self.wrong("invalid escape")),
        })
    }

    fn unicode_escape(&mut self) -> Result<char, Malformed> {
        let high = self.hex4()?;
        if !(0xd800..0xdc00).contains(&high) {
            return Ok(char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        if !self.text[self.at..].starts_with("\\u") {
            return Ok(char::REPLACEMENT_CHARACTER);
        }
        self.at += 2;
        let low = self.hex4()?;
        let is_low = (0xdc00..0xe000).contains(&low);
        let code = 0x10000 + ((high - 0xd800) << 10) + low.wrapping_sub(0xdc00) % 0x400;
        Ok(if is_low { char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER) } else { char::REPLACEMENT_CHARACTER })
    }

    fn hex4(&mut self) -> Result<u32, Malformed> {
        let digits = self.text.get(self.at..self.at + 4).ok_or_else(|| self.wrong("invalid escape"))?;
        let code = u32::from_str_radix(digits, 16).map_err(|_| self.wrong("invalid escape"))?;
        self.at += 4;
        Ok(code)
    }

    /// Skips one value of any type; gives its text as written.
    pub(crate) fn skip(&mut self) -> Result<&'a str, Malformed> {
        self.skip_within(DEPTH_MAX)
    }

    fn skip_within(&mut self, depth_left: usize) -> Result<&'a str, Malformed> {
        let first = self.blank();
        let start = self.at;
        let Some(depth_left) = depth_left.checked_sub(1) else { return Err(self.wrong("nested too deep")) };
        match first {
            Some(b'{') => self.object(|scanner, _| scanner.skip_within(depth_left).map(drop))?,
            Some(b'[') => self.array(|scanner, _| scanner.skip_within(depth_left).map(drop))?,
            Some(b'"') => drop(self.string()?),
            Some(_) => {
                let length = self.text.as_bytes()[start..]
                    .iter()
                    .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
                    .count();
                self.at += length;
                let word = &self.text[start..self.at];
                let is_number =
                    word.starts_with(|first: char| first == '-' || first.is_ascii_digit()) && word.parse::<f64>().is_ok();
                if !is_number && !matches!(word, "true" | "false" | "null") {
                    self.at = start;
                    return Err(self.wrong("expected a value"));
                }
            }
            None => return Err(self.wrong("unexpected end")),
        }
        Ok(&self.text[start..self.at])
    }

    /// Nothing but white space may be left.
    pub(crate) fn end(&mut self) -> Result<(), Malformed> {
        if self.blank().is_some() { Err(self.wrong("unexpected text after the value")) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> Result<Vec<String>, Malformed> {
        let mut scanner = Scanner::new(text);
        let mut keys = Vec::new();
        scanner.object(|scanner, key| {
            let value = scanner.skip()?;
            keys.push(format!("{key}={value}"));
            Ok(())
        })?;
        scanner.end()?;
        Ok(keys)
    }

    #[test]
    fn reads() {
        assert_eq!(keys(r#" {"a" : 1.50, "b\u00e9":[1,{"x":null}], "c":"\ud83d\ude00"} "#).expect("valid").len(), 3);
        assert_eq!(keys("{}"), Ok(vec![]));
        let mut scanner = Scanner::new(r#""\ud83d\ude00\n""#);
        assert_eq!(scanner.string().expect("valid"), "😀\n");
    }

    #[test]
    fn refuses() {
        let deep = format!("{{\"a\":{}", "[".repeat(10_000));
        for text in
            ["", "x", "[1]", "{", r#"{"a"}"#, r#"{"a":}"#, r#"{"a":1,}"#, r#"{"a":1} x"#, r#"{"a":tru}"#, r#"{"a":"\q"}"#, &deep]
        {
            assert!(keys(text).is_err(), "{text:.20}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in r#"[\{\}\[\]":,\\u0-9a-f é]{0,60}"#) {
            let _ = keys(&text);
        }
    }
}
