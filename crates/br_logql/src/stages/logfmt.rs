//! `| logfmt`: `key=value key="quoted value"`.

use super::Stage;
use crate::ast::Extraction;
use crate::lexer::unquote_prefix;
use crate::pipeline::Line;
use br_model::names::label_name;
use std::borrow::Cow;

pub(super) struct LogfmtStage {
    /// A malformed pair fails the line instead of being left out.
    strict: bool,
    keep_empty: bool,
    extractions: Vec<Extraction>,
}

impl LogfmtStage {
    pub(super) fn new(strict: bool, keep_empty: bool, extractions: &[Extraction]) -> Self {
        Self { strict, keep_empty, extractions: extractions.to_vec() }
    }

    fn take(&self, line: &mut Line<'_>, key: &str, value: Cow<'_, str>) {
        if self.extractions.is_empty() {
            if !value.is_empty() || self.keep_empty {
                line.labels.extract(Cow::Owned(label_name(key)), Cow::Owned(value.into_owned()));
            }
            return;
        }
        for extraction in self.extractions.iter().filter(|extraction| extraction.source == key) {
            line.labels.extract(Cow::Owned(extraction.name.clone()), Cow::Owned(value.clone().into_owned()));
        }
    }
}

impl Stage for LogfmtStage {
    fn process(&self, line: &mut Line<'_>) -> bool {
        let text = line.text.clone();
        for pair in (Pairs { text: &text, at: 0 }) {
            match pair {
                Ok((key, value)) => self.take(line, key, value),
                Err(message) if self.strict => {
                    line.labels.set_error("LogfmtParserErr", message);
                    return true;
                }
                Err(_) => {}
            }
        }
        true
    }
}

/// The pairs of a text, one after the other.
pub(super) fn pairs(text: &str) -> impl Iterator<Item = Result<(&str, Cow<'_, str>), String>> {
    Pairs { text, at: 0 }
}

struct Pairs<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Iterator for Pairs<'a> {
    type Item = Result<(&'a str, Cow<'a, str>), String>;

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = self.text.as_bytes();
        while bytes.get(self.at).is_some_and(|byte| *byte <= b' ') {
            self.at += 1;
        }
        let start = self.at;
        let length = bytes[start..].iter().take_while(|byte| **byte > b' ' && !matches!(byte, b'=' | b'"')).count();
        self.at += length;
        let key = &self.text[start..self.at];
        match bytes.get(self.at) {
            None if key.is_empty() => None,
            Some(b'=') if !key.is_empty() => {
                self.at += 1;
                Some(self.value().map(|value| (key, value)))
            }
            Some(b'=' | b'"') => Some(Err(self.skip_word("unexpected character"))),
            _ => Some(Ok((key, Cow::Borrowed("")))),
        }
    }
}

impl<'a> Pairs<'a> {
    fn value(&mut self) -> Result<Cow<'a, str>, String> {
        let rest = &self.text[self.at..];
        if rest.starts_with('"') {
            return self.quoted(rest);
        }
        let length = rest.bytes().take_while(|byte| *byte > b' ' && !matches!(byte, b'=' | b'"')).count();
        if rest.as_bytes().get(length).is_some_and(|byte| matches!(byte, b'=' | b'"')) {
            return Err(self.skip_word("unexpected character in a value"));
        }
        self.at += length;
        Ok(Cow::Borrowed(&rest[..length]))
    }

    fn quoted(&mut self, rest: &'a str) -> Result<Cow<'a, str>, String> {
        let plain = rest[1..].find(['"', '\\']).filter(|end| rest.as_bytes()[end + 1] == b'"');
        if let Some(end) = plain {
            self.at += end + 2;
            return Ok(Cow::Borrowed(&rest[1..=end]));
        }
        match unquote_prefix(rest) {
            Ok((value, length)) => {
                self.at += length;
                Ok(Cow::Owned(value))
            }
            Err((message, _)) => {
                let error = format!("logfmt syntax error at pos {}: {message}", self.at + 1);
                self.at = self.text.len();
                Err(error)
            }
        }
    }

    fn skip_word(&mut self, what: &str) -> String {
        let message = format!("logfmt syntax error at pos {}: {what}", self.at + 1);
        self.at += self.text[self.at..].find(char::is_whitespace).unwrap_or(self.text.len() - self.at);
        message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: &[(&str, &str)]) {
        let pairs: Vec<_> = Pairs { text, at: 0 }.flatten().map(|(key, value)| (key.to_owned(), value.into_owned())).collect();
        let expect: Vec<_> = expect.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        assert_eq!(pairs, expect, "{text}");
    }

    #[test]
    fn pairs() {
        check(r#"a=1 b="x y" c= d"#, &[("a", "1"), ("b", "x y"), ("c", ""), ("d", "")]);
        check(r#"m="say \"hi\"\n" é=ü"#, &[("m", "say \"hi\"\n"), ("é", "ü")]);
        check(r#"good=1 bad="open"#, &[("good", "1")]);
        check("=x a=b=c d=1", &[("d", "1")]);
        check("", &[]);
    }

    proptest::proptest! {
        #[test]
        fn ends_and_never_panics(text in r#"[a="\\ é\n]{0,60}"#) {
            let count = Pairs { text: &text, at: 0 }.count();
            proptest::prop_assert!(count <= text.len() + 1);
        }
    }
}
