//! A line as words and what stands between them.

/// Words longer than this are taken for data.
const WORD_BYTES_MAX: usize = 64;
/// So many hexadecimal digits are an id, also without a decimal one among them.
const HEX_BYTES_MIN: usize = 8;

/// Words are what stands between these.
fn is_gap(sign: char) -> bool {
    sign.is_whitespace() || matches!(sign, '=' | ',' | ';' | '(' | ')' | '[' | ']' | '{' | '}' | '<' | '>' | '"' | '\'' | '|')
}

/// Whether a word changes from line to line, by its looks.
pub(crate) fn is_variable(word: &str) -> bool {
    let bytes = word.as_bytes();
    bytes.iter().any(u8::is_ascii_digit)
        || bytes.len() > WORD_BYTES_MAX
        || bytes.len() >= HEX_BYTES_MIN && bytes.iter().all(u8::is_ascii_hexdigit)
}

/// A line, of which no more than so many words are looked at: what follows them is one gap.
pub(crate) struct Line<'a> {
    text: &'a str,
    /// Where each word begins and ends.
    words: Vec<(usize, usize)>,
    /// Whether there were more words.
    pub(crate) is_cut: bool,
}

impl<'a> Line<'a> {
    pub(crate) fn new(text: &'a str, words_max: usize) -> Self {
        let mut line = Self { text, words: Vec::new(), is_cut: false };
        let mut from = None;
        for (at, sign) in text.char_indices().chain([(text.len(), ' ')]) {
            match (from, is_gap(sign)) {
                (None, false) if line.words.len() >= words_max => {
                    line.is_cut = true;
                    break;
                }
                (None, false) => from = Some(at),
                (Some(start), true) => {
                    line.words.push((start, at));
                    from = None;
                }
                _ => {}
            }
        }
        line
    }

    /// Each word with what stands before it.
    pub(crate) fn words(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let starts = std::iter::once(0).chain(self.words.iter().map(|(_, end)| *end));
        starts.zip(&self.words).map(|(before, (from, to))| (&self.text[before..*from], &self.text[*from..*to]))
    }

    /// What stands behind the last word.
    pub(crate) fn last_gap(&self) -> &'a str {
        &self.text[self.words.last().map_or(0, |(_, end)| *end)..]
    }
}

/// The text that somebody wrote within a line of JSON: the value of its message, as it stands there. `None` for any other line.
pub(crate) fn message_of_json(text: &str) -> Option<&str> {
    const KEYS: [&str; 6] = ["\"msg\"", "\"message\"", "\"_msg\"", "\"event\"", "\"log\"", "\"error\""];
    let text = text.trim_start();
    if !text.starts_with('{') {
        return None;
    }
    let value_of = |key: &str| {
        let rest = text[text.find(key)? + key.len()..].trim_start().strip_prefix(':')?.trim_start().strip_prefix('"')?;
        let mut is_escaped = false;
        let end = rest.char_indices().find(|(_, sign)| {
            let ends = *sign == '"' && !is_escaped;
            is_escaped = *sign == '\\' && !is_escaped;
            ends
        });
        end.map(|(end, _)| &rest[..end]).filter(|value| !value.is_empty())
    };
    KEYS.into_iter().find_map(value_of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_of_a_line_of_json() {
        assert_eq!(message_of_json(r#"{"level": "info", "msg" : "a \"b\" c", "x": 1}"#), Some(r#"a \"b\" c"#));
        assert_eq!(message_of_json(r#"{"message":"","event":"started"}"#), Some("started"));
        for line in ["plain", r#"{"level":"info"}"#, r#"{"msg":7}"#, r#"{"msg":"unended"#, ""] {
            assert_eq!(message_of_json(line), None, "{line}");
        }
    }
}
