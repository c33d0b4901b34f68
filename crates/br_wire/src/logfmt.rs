//! Lines of pairs: `level=info msg="paid twice" order=7`.

use br_model::{AttributeValue, Attributes};
use serde_json::{Map, Value};

/// So many pairs make a line one of logfmt: a single one stands in many texts.
const PAIRS_MIN: usize = 2;

/// The pairs of a line that has nothing else, all as texts; of a key that comes twice the first counts. `None` for other lines.
pub(crate) fn object(line: &str) -> Option<Map<String, Value>> {
    let mut map = Map::new();
    let (mut rest, mut pairs) = (line.trim(), 0);
    while !rest.is_empty() {
        let (key, behind) = rest.split_once('=')?;
        if key.is_empty() || !key.bytes().all(is_of_key) {
            return None;
        }
        let (value, behind) = take_value(behind)?;
        pairs += 1;
        map.entry(key).or_insert(Value::String(value));
        rest = behind.trim_start();
    }
    (pairs >= PAIRS_MIN).then_some(map)
}

fn is_of_key(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-' | b'/' | b'@' | b':')
}

/// A value, and what stands behind it.
fn take_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(char::is_whitespace).unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => {
                let behind = &quoted[at + 1..];
                return (behind.is_empty() || behind.starts_with(char::is_whitespace)).then_some((value, behind));
            }
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                't' => value.push('\t'),
                'r' => value.push('\r'),
                escaped @ ('"' | '\\') => value.push(escaped),
                other => value.extend(['\\', other]),
            },
            other => value.push(other),
        }
    }
    None
}

/// Texts that are written as numbers and switches are become such.
pub(crate) fn type_values(attributes: &mut Attributes) {
    for (_, value) in &mut attributes.0 {
        if let AttributeValue::String(text) = value
            && let Some(typed) = typed(text)
        {
            *value = typed;
        }
    }
}

/// Only what reads back as it was written: `007` and `1e5` stay texts.
fn typed(text: &str) -> Option<AttributeValue> {
    match text {
        "true" => return Some(true.into()),
        "false" => return Some(false.into()),
        _ if text.len() > 20 || !text.starts_with(|first: char| first.is_ascii_digit() || first == '-') => return None,
        _ => {}
    }
    if let Ok(whole) = text.parse::<i64>() {
        return (whole.to_string() == text).then_some(whole.into());
    }
    let number: f64 = text.parse().ok().filter(|number: &f64| number.is_finite())?;
    (number.to_string() == text).then_some(number.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(line: &str) -> Option<String> {
        object(line).map(|map| Value::Object(map).to_string())
    }

    #[test]
    fn pairs() {
        let expect = r#"{"a.b":"","level":"info","msg":"paid \"twice\"\n","n":"7"}"#;
        assert_eq!(shown(r#" level=info  msg="paid \"twice\"\n" n=7 a.b= n=8"#).as_deref(), Some(expect));
        for other in ["", "plain words", "one=1", "a=1 b", "a=1 =2", r#"a=1 b="x"#, r#"a=1 b="x"y"#, "a=1 (b=2)"] {
            assert_eq!(shown(other), None, "{other}");
        }
    }

    #[test]
    fn numbers_are_what_reads_back_the_same() {
        let texts = ["7", "-7", "007", "1.5", "1.50", "1e5", "true", "-", "99999999999999999999", "10.0.0.1"];
        let mut attributes: Attributes = texts.into_iter().map(|text| (text, text)).collect();
        type_values(&mut attributes);
        let typed: Vec<&str> =
            attributes.iter().filter(|(_, value)| value.as_str().is_none()).map(|(key, _)| key.as_str()).collect();
        assert_eq!(typed, ["7", "-7", "1.5", "true"]);
    }
}
