//! The labels of a stream as text: `{app="shop", env="dev"}`.

use br_model::labels::is_legacy_label_name;

/// Labels of one stream that are looked at; fewer are taken.
const LABELS_MAX: usize = 1_000;

/// Reads a label string as strictly as Loki does: braces, `=`, quoted values with Go's escapes or in backquotes, no name twice.
/// The complaint has the byte at which reading stopped.
pub fn parse_labels(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut cursor = Cursor { text, at: 0 };
    let mut labels: Vec<(String, String)> = Vec::new();
    cursor.blanks();
    cursor.expect('{')?;
    cursor.blanks();
    while !cursor.take('}') {
        if !labels.is_empty() {
            cursor.expect(',')?;
            cursor.blanks();
            if cursor.take('}') {
                break;
            }
        }
        let name = cursor.name()?;
        cursor.blanks();
        cursor.expect('=')?;
        cursor.blanks();
        let value = cursor.value()?;
        if labels.iter().any(|(other, _)| *other == name) {
            return Err(cursor.fault(&format!("label {name:?} stands twice")));
        }
        if labels.len() == LABELS_MAX {
            return Err(cursor.fault("too many labels"));
        }
        labels.push((name, value));
        cursor.blanks();
    }
    cursor.blanks();
    if cursor.rest().is_empty() { Ok(labels) } else { Err(cursor.fault("nothing is expected behind the closing brace")) }
}

pub(super) fn is_label_name(name: &str) -> bool {
    is_legacy_label_name(name)
}

struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn fault(&self, message: &str) -> String {
        let shown: String = self.text.chars().take(128).collect();
        format!("stream labels {shown:?}, byte {}: {message}", self.at)
    }

    fn blanks(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    fn take(&mut self, character: char) -> bool {
        let is_there = self.rest().starts_with(character);
        if is_there {
            self.at += character.len_utf8();
        }
        is_there
    }

    fn expect(&mut self, character: char) -> Result<(), String> {
        if self.take(character) { Ok(()) } else { Err(self.fault(&format!("{character:?} is expected"))) }
    }

    fn name(&mut self) -> Result<String, String> {
        let rest = self.rest();
        let length = rest.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count();
        let name = &rest[..length];
        if !is_label_name(name) {
            return Err(self.fault("a label name is expected"));
        }
        self.at += length;
        Ok(name.to_owned())
    }

    fn value(&mut self) -> Result<String, String> {
        if self.take('`') {
            let length = self.rest().find('`').ok_or_else(|| self.fault("an unfinished label value"))?;
            let value = self.rest()[..length].to_owned();
            self.at += length + 1;
            return Ok(value);
        }
        if !self.take('"') {
            return Err(self.fault("a quoted label value is expected"));
        }
        let mut value = String::new();
        loop {
            let mut characters = self.rest().chars();
            let Some(character) = characters.next() else { return Err(self.fault("an unfinished label value")) };
            self.at += character.len_utf8();
            match character {
                '"' => return Ok(value),
                '\\' => value.push(self.escape()?),
                '\n' => return Err(self.fault("a line end inside a label value")),
                other => value.push(other),
            }
        }
    }

    /// One of Go's escapes, behind its backslash.
    fn escape(&mut self) -> Result<char, String> {
        let Some(kind) = self.rest().chars().next() else { return Err(self.fault("an unfinished escape")) };
        self.at += kind.len_utf8();
        let digits = match kind {
            'n' => return Ok('\n'),
            't' => return Ok('\t'),
            'r' => return Ok('\r'),
            '\\' | '"' | '\'' => return Ok(kind),
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => return Err(self.fault("an escape that is not known")),
        };
        let hex = self.rest().get(..digits).filter(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let code = hex.and_then(|hex| u32::from_str_radix(hex, 16).ok()).and_then(char::from_u32);
        let character = code.ok_or_else(|| self.fault("hexadecimal digits of a character are expected"))?;
        self.at += digits;
        Ok(character)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_refuses() {
        let pairs = |text: &str| {
            parse_labels(text).map(|labels| labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>())
        };
        assert_eq!(pairs(r#"{app="shop", env="a\"b\n"}"#).as_deref(), Ok(&["app=shop".to_owned(), "env=a\"b\n".to_owned()][..]));
        assert_eq!(pairs("{ a = `b\\c` , }").as_deref(), Ok(&["a=b\\c".to_owned()][..]));
        assert_eq!(pairs("{}").as_deref(), Ok(&[][..]));
        for text in [
            "",
            "{",
            "a=\"b\"",
            "{a}",
            "{a=b}",
            "{a=\"b\" c=\"d\"}",
            "{a=\"b\"} x",
            "{1a=\"b\"}",
            "{a=\"b\",a=\"c\"}",
            "{a=\"\\q\"}",
            "{a=\"b",
            "{,}",
        ] {
            assert!(parse_labels(text).is_err(), "{text}");
        }
    }
}
