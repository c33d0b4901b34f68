//! Names with values inside a text: `password=…`, `"token": "…"`, `Authorization: Bearer …`, `--password …`.

use super::authorization::credentials;
use super::{at, before, is_word, run};
use crate::keys::{Keys, Secrecy};
use crate::mask::is_masked;
use std::ops::Range;

const NAME_BYTES_MAX: usize = 64;
/// The longest value in quotes, and the longest header.
const VALUE_BYTES_MAX: usize = 16 << 10;
/// Numbers under likely names with fewer digits count or number something.
const NUMBER_BYTES_MIN: usize = 8;
/// Whatever is so long is no word.
const WORD_BYTES_MAX: usize = 20;

/// A secret value, and its rule: that of headers or that of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) value: Range<usize>,
    pub(crate) is_header: bool,
}

/// A name in front of a sign.
struct Name {
    start: usize,
    secrecy: Secrecy,
    is_quoted: bool,
}

/// A pair around `=` or `:`, which stands at `sign`. Nothing before `floor` is part of it.
pub(crate) fn find(text: &[u8], floor: usize, sign: usize, keys: &Keys) -> Option<Pair> {
    let is_equals = text[sign] == b'=';
    let behind = at(text, sign + 1);
    // `==`, `=~`, `::`, `://`, `:=`; the last is found at its second sign.
    let is_match = behind == b'~' && at(text, sign + 2) == b' ';
    if is_equals && (behind == b'=' || is_match) || !is_equals && (behind == b':' || behind == b'=' || behind == b'/') {
        return None;
    }
    let name = name(text, floor, sign, keys)?;
    value(text, sign, &name)
}

fn name(text: &[u8], floor: usize, sign: usize, keys: &Keys) -> Option<Name> {
    let mut end = sign;
    if text[sign] == b'=' && before(text, end) == b':' {
        end -= 1;
    }
    while end > floor && sign - end < 4 && matches!(text[end - 1], b' ' | b'\t' | b']') {
        end -= 1;
    }
    let mut is_quoted = false;
    if end > floor && matches!(text[end - 1], b'"' | b'\'' | b'`') {
        is_quoted = true;
        end -= 1;
        while end > floor && text[end - 1] == b'\\' {
            end -= 1;
        }
    }
    let is_name = |byte: &u8| is_word(*byte) || matches!(byte, b'.' | b'-' | b'$');
    let length = text[floor..end].iter().rev().take(NAME_BYTES_MAX).take_while(|byte| is_name(byte)).count();
    let start = end - length;
    let secrecy = keys.secrecy(&text[start..end])?;
    Some(Name { start, secrecy, is_quoted })
}

fn value(text: &[u8], sign: usize, name: &Name) -> Option<Pair> {
    let arrow = sign + 1 + usize::from(text[sign] == b'=' && at(text, sign + 1) == b'>');
    let mut from = run(text, arrow, 4, |byte| matches!(byte, b' ' | b'\t'));
    let has_gap = from > arrow;
    // A list of one value, and the letter before a literal of Python.
    if at(text, from) == b'[' && matches!(at(text, from + 1), b'"' | b'\'' | b'\\') {
        from += 1;
    }
    if matches!(at(text, from), b'b' | b'u' | b'r' | b'f') && matches!(at(text, from + 1), b'"' | b'\'') {
        from += 1;
    }
    let pair = |value: Range<usize>| (!value.is_empty()).then_some(Pair { value, is_header: name.secrecy == Secrecy::Header });
    if let Some(value) = quoted(text, from) {
        let value = if name.secrecy == Secrecy::Header { inside(&text[value.clone()], value.start) } else { value };
        return if is_secret(&text[value.clone()], name.secrecy) { pair(value) } else { None };
    }
    if name.secrecy == Secrecy::Header {
        let value = header(text, sign, from);
        let value = inside(&text[value.clone()], value.start);
        return if is_secret(&text[value.clone()], name.secrecy) { pair(value) } else { None };
    }
    let value = bare(text, from);
    let found = &text[value.clone()];
    let is_prose = has_gap && !name.is_quoted && !begins_line(text, name.start) && is_ordinary(found, name.secrecy);
    let is_code = has_gap && text[sign] == b'=' && is_expression(found);
    (!is_prose && !is_code && !is_stop_word(found) && is_secret(found, name.secrecy)).then_some(()).and_then(|()| pair(value))
}

fn inside(value: &[u8], start: usize) -> Range<usize> {
    let credentials = credentials(value);
    start + credentials.start..start + credentials.end
}

/// Between quotes, which may themselves be escaped; without an end it goes as far as the text.
fn quoted(text: &[u8], from: usize) -> Option<Range<usize>> {
    let slashes = run(text, from, 4, |byte| byte == b'\\') - from;
    let quote = at(text, from + slashes);
    if !matches!(quote, b'"' | b'\'') {
        return None;
    }
    let start = from + slashes + 1;
    let limit = text.len().min(start + VALUE_BYTES_MAX);
    let mut end = start;
    while end < limit {
        match text[end] {
            b'\\' => {
                let escapes = run(text, end, VALUE_BYTES_MAX, |byte| byte == b'\\') - end;
                if escapes <= slashes && at(text, end + escapes) == quote {
                    return Some(start..end);
                }
                // An odd number escapes what follows.
                end += escapes + escapes % 2;
            }
            byte if byte == quote && slashes == 0 => return Some(start..end),
            b'\n' if slashes == 0 => return Some(start..end),
            _ => end += 1,
        }
    }
    Some(start..limit.min(end))
}

/// The value of a header: to the end of its line, or of what quotes it. Behind `=` a scheme and a word.
fn header(text: &[u8], sign: usize, from: usize) -> Range<usize> {
    if text[sign] == b':' {
        let is_part = |byte: u8| !matches!(byte, b'\n' | b'\r' | b'"' | b'\'' | b'\\' | b'}' | b'`');
        return from..run(text, from, VALUE_BYTES_MAX, is_part);
    }
    let first = bare(text, from);
    let word = run(text, first.start, 24, |byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if word == first.end && at(text, word) == b' ' && matches!(word - first.start, 5..=16) {
        let second = bare(text, word + 1);
        if second.len() >= 8 {
            return first.start..second.end;
        }
    }
    first
}

/// A value without quotes.
fn bare(text: &[u8], from: usize) -> Range<usize> {
    let is_part =
        |byte: u8| byte > b' ' && byte != 0x7f && !matches!(byte, b',' | b';' | b'&' | b'"' | b'\'' | b'<' | b'>' | b'\\' | b'`');
    let mut end = run(text, from, VALUE_BYTES_MAX, is_part);
    // What closes around the pair.
    while end > from && matches!(text[end - 1], b')' | b'}' | b']' | b'|' | b'.' | b':') && !stands_alone(&text[from..end]) {
        end -= 1;
    }
    from..end
}

/// What closes with a bracket of its own.
fn stands_alone(value: &[u8]) -> bool {
    is_placeholder(value) || value.ends_with(b"]") && is_masked(value)
}

fn begins_line(text: &[u8], start: usize) -> bool {
    let lead =
        text[..start].iter().rev().take_while(|byte| matches!(byte, b' ' | b'\t' | b'"' | b'\'' | b'\\' | b'-' | b'.')).count();
    start == lead || matches!(text[start - lead - 1], b'\n' | b'\r' | b',' | b'{' | b'(' | b'[' | b';' | b'&' | b'|' | b'?')
}

/// A word of a sentence: letters alone, and not many.
fn is_ordinary(value: &[u8], secrecy: Secrecy) -> bool {
    let letters = value.iter().all(|byte| byte.is_ascii_alphabetic() || matches!(byte, b'-' | b'_' | b'/' | b'.' | b'!' | b'?'));
    match secrecy {
        Secrecy::Certain => false,
        _ => letters && value.len() < WORD_BYTES_MAX,
    }
}

/// `get_password()`, `os.environ["X"]`, `self.token`: what source code has behind a name.
fn is_expression(value: &[u8]) -> bool {
    value.iter().any(|byte| matches!(byte, b'(' | b'['))
        || value.contains(&b'.') && value.iter().all(|byte| byte.is_ascii_alphabetic() || matches!(byte, b'.' | b'_'))
}

/// What stands behind such a name in a sentence, or says that there is no value.
fn is_stop_word(value: &[u8]) -> bool {
    const WORDS: [&str; 44] = [
        "must",
        "is",
        "was",
        "are",
        "expected",
        "cannot",
        "can",
        "invalid",
        "required",
        "should",
        "not",
        "no",
        "field",
        "missing",
        "too",
        "does",
        "do",
        "incorrect",
        "wrong",
        "reset",
        "changed",
        "expired",
        "the",
        "a",
        "an",
        "this",
        "that",
        "for",
        "at",
        "in",
        "on",
        "of",
        "unexpected",
        "unknown",
        "please",
        "has",
        "have",
        "may",
        "and",
        "or",
        "to",
        "found",
        "ok",
        "enter",
    ];
    WORDS.iter().any(|word| word.as_bytes().eq_ignore_ascii_case(value))
}

/// Whether a value under a secret name is one, and is not hidden yet.
pub(crate) fn is_secret(value: &[u8], secrecy: Secrecy) -> bool {
    const NONE: [&str; 16] = [
        "true",
        "false",
        "null",
        "none",
        "nil",
        "undefined",
        "yes",
        "no",
        "on",
        "off",
        "0",
        "1",
        "empty",
        "unset",
        "redacted",
        "filtered",
    ];
    let is_number = value.iter().all(u8::is_ascii_digit);
    let counts = secrecy != Secrecy::Certain && is_number && value.len() < NUMBER_BYTES_MIN;
    !(value.is_empty()
        || counts
        || is_masked(value)
        || is_placeholder(value)
        || NONE.iter().any(|none| none.as_bytes().eq_ignore_ascii_case(value)))
}

/// `%s`, `{}`, `{name}`, `$NAME`, `${NAME}`, `%(name)s`, `?`, `:name`: where a value will be put.
pub(crate) fn is_placeholder(value: &[u8]) -> bool {
    let is_name = |name: &[u8]| name.iter().all(|byte| is_word(*byte) || matches!(byte, b'.' | b' ' | b'-' | b'!' | b':'));
    match value {
        b"%s" | b"%r" | b"%d" | b"%v" | b"%q" | b"?" | b"..." | b"''" => true,
        [b'%', b'(', name @ .., b')', b's' | b'r' | b'd']
        | [b'$', b'{', name @ .., b'}']
        | [b'{', b'{', name @ .., b'}', b'}']
        | [b'{', name @ .., b'}'] => is_name(name),
        [b'$', name @ ..] => {
            name.len() <= 32 && name.iter().all(|byte| byte.is_ascii_uppercase() || *byte == b'_' || byte.is_ascii_digit())
        }
        _ => false,
    }
}

/// `--password value` and `--password=value`; `start` is the first hyphen. The latter is found at its sign.
pub(crate) fn option(text: &[u8], start: usize, keys: &Keys) -> Option<Pair> {
    let name_end = run(text, start + 2, NAME_BYTES_MAX, |byte| is_word(byte) || byte == b'-');
    if at(text, name_end) != b' ' || matches!(at(text, name_end + 1), b'-' | b' ') {
        return None;
    }
    let secrecy = keys.secrecy(&text[start + 2..name_end])?;
    let value = quoted(text, name_end + 1).unwrap_or_else(|| bare(text, name_end + 1));
    let is_found = is_secret(&text[value.clone()], secrecy) && !is_ordinary(&text[value.clone()], secrecy);
    is_found.then_some(Pair { value, is_header: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: Option<&str>) {
        let keys = Keys::default();
        let signs = text.bytes().enumerate().filter(|(_, byte)| matches!(byte, b'=' | b':')).map(|(sign, _)| sign);
        let mut pairs = signs.filter_map(|sign| find(text.as_bytes(), 0, sign, &keys));
        let found = pairs.next().or_else(|| text.find("--").and_then(|start| option(text.as_bytes(), start, &keys)));
        assert_eq!(found.map(|pair| &text[pair.value]), expect, "{text}");
    }

    #[test]
    fn secrets_behind_names() {
        check("login failed password=hunter2 for ann", Some("hunter2"));
        check("password: hunter", Some("hunter"));
        check("{'password': 'hunter two'}", Some("hunter two"));
        check(r#"{\"password\": \"hun\\\"ter\"}"#, Some(r#"hun\\\"ter"#));
        check(r#""api_key" : "abc""#, Some("abc"));
        check("Cfg(host='db', token='tok-9f8e')", Some("tok-9f8e"));
        check("Authorization: Bearer abc.def", Some("abc.def"));
        check("cookie: a=b; c=d\nnext", Some("a=b; c=d"));
        check("authorization=Bearer abcdefgh1 x", Some("abcdefgh1"));
        check("x?access_token=abcdef&b=c", Some("abcdef"));
        check("UPDATE users SET pw='x y'", Some("x y"));
        check("mysql --password hunter2 -h db", Some("hunter2"));
        check("headers[\"x-api-key\"] = \"abc\"", Some("abc"));
        check("secret := \"abc\"", Some("abc"));
        check("password => 'abc'", Some("abc"));
        check("WebAppSmtpMailUserPwd=\"hunter2\"", Some("hunter2"));
        check("vault kv put secret/app/db/v2/token=\"hunter2x\"", Some("hunter2x"));
        check("Auth0MgmtApiClientSecret=\"s3cr3tval\"", Some("s3cr3tval"));
        check("AwsS3BackupUserToken= abcd1234x", Some("abcd1234x"));
    }

    #[test]
    fn what_only_looks_like_it() {
        for text in [
            "password=%s",
            "password={password}",
            "password=$DB_PASSWORD",
            "password=***",
            "password: [Filtered]",
            "password is wrong",
            "password: must be longer",
            "forgot_password=true",
            "Unexpected token: identifier",
            "token_count=512",
            "token=512",
            "max_tokens: 4096",
            "password == other",
            "password = get_password()",
            "token = self.token",
            "std::secret::key",
            "monkey=banana",
            "password=",
        ] {
            check(text, None);
        }
    }
}
