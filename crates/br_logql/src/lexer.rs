//! Text to tokens.

use crate::ParseError;
use std::ops::Range;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum TokenKind {
    Identifier(String),
    /// Unquoted.
    String(String),
    /// A number, a duration or a size, without a sign: the place in the query decides which.
    Quantity(String),
    /// `--strict`, without the dashes.
    Flag(String),
    Symbol(&'static str),
    End,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Token {
    pub(crate) kind: TokenKind,
    pub(crate) span: Range<usize>,
}

/// Longer ones first.
const SYMBOLS: [&str; 28] = [
    "|=", "|~", "|>", "!=", "!~", "!>", "=~", "==", ">=", "<=", "{", "}", "(", ")", "[", "]", ",", "|", "=", ">", "<", "+", "-",
    "*", "/", "%", "^", ".",
];

/// A longer query is refused.
const QUERY_BYTES_MAX: usize = 128 * 1024;

/// All tokens, the last of which is [`TokenKind::End`].
pub(crate) fn tokens(text: &str) -> Result<Vec<Token>, ParseError> {
    if text.len() > QUERY_BYTES_MAX {
        return Err(ParseError::new(text, 0..0, format!("input size too long ({} > {QUERY_BYTES_MAX})", text.len())));
    }
    let mut tokens = Vec::new();
    let mut at = 0;
    loop {
        at = skip_blank(text, at);
        let start = at;
        let Some(first) = text[at..].chars().next() else {
            tokens.push(Token { kind: TokenKind::End, span: at..at });
            return Ok(tokens);
        };
        let kind = match first {
            '"' | '\'' => quoted(text, &mut at)?,
            '`' => raw(text, &mut at)?,
            _ if first.is_ascii_digit() || (first == '.' && next_is(text, at + 1, |byte| byte.is_ascii_digit())) => {
                quantity(text, &mut at)
            }
            _ if first.is_ascii_alphabetic() || first == '_' => {
                at += word_len(&text[at..]);
                TokenKind::Identifier(text[start..at].to_owned())
            }
            '-' if text[at..].starts_with("--") && next_is(text, at + 2, |byte| byte.is_ascii_alphabetic()) => {
                at += 2;
                at += text[at..].bytes().take_while(|byte| byte.is_ascii_alphabetic() || *byte == b'-').count();
                TokenKind::Flag(text[start + 2..at].to_owned())
            }
            _ => {
                let symbol = SYMBOLS.into_iter().find(|symbol| text[at..].starts_with(symbol)).ok_or_else(|| {
                    let span = at..at + first.len_utf8();
                    ParseError::new(text, span, format!("syntax error: unexpected character {first:?}"))
                })?;
                at += symbol.len();
                TokenKind::Symbol(symbol)
            }
        };
        tokens.push(Token { kind, span: start..at });
    }
}

fn next_is(text: &str, at: usize, test: impl Fn(u8) -> bool) -> bool {
    text.as_bytes().get(at).is_some_and(|byte| test(*byte))
}

fn word_len(text: &str) -> usize {
    text.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count()
}

/// Skips white space and `#` comments.
fn skip_blank(text: &str, mut at: usize) -> usize {
    loop {
        let rest = &text[at..];
        let blank = rest.len() - rest.trim_start().len();
        at += blank;
        if !text[at..].starts_with('#') {
            return at;
        }
        at = text[at..].find('\n').map_or(text.len(), |newline| at + newline);
    }
}

/// Digits with whatever unit follows them: `1.5`, `1e-3`, `0x1f`, `1h30m`, `10KiB`.
fn quantity(text: &str, at: &mut usize) -> TokenKind {
    let start = *at;
    let bytes = text.as_bytes();
    while let Some(byte) = bytes.get(*at) {
        let exponent_sign = matches!(byte, b'+' | b'-')
            && matches!(bytes[*at - 1], b'e' | b'E')
            && next_is(text, *at + 1, |byte| byte.is_ascii_digit())
            && text[start..*at - 1].bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let micro = text[*at..].starts_with('µ');
        if !(byte.is_ascii_alphanumeric() || *byte == b'.' || (*at > start && exponent_sign) || micro) {
            break;
        }
        *at += if micro { 'µ'.len_utf8() } else { 1 };
    }
    TokenKind::Quantity(text[start..*at].to_owned())
}

fn raw(text: &str, at: &mut usize) -> Result<TokenKind, ParseError> {
    let start = *at + 1;
    let length = text[start..]
        .find('`')
        .ok_or_else(|| ParseError::new(text, *at..text.len(), "syntax error: raw string not terminated"))?;
    *at = start + length + 1;
    Ok(TokenKind::String(text[start..start + length].to_owned()))
}

fn quoted(text: &str, at: &mut usize) -> Result<TokenKind, ParseError> {
    let start = *at;
    match unquote_prefix(&text[start..]) {
        Ok((value, length)) => {
            *at += length;
            Ok(TokenKind::String(value))
        }
        Err((message, offset)) => Err(ParseError::new(text, start + offset..text.len(), format!("syntax error: {message}"))),
    }
}

/// Reads a quoted string at the start of `text` with Go's escapes; gives its value and its length with the quotes,
/// or what is wrong and at which byte.
pub(crate) fn unquote_prefix(text: &str) -> Result<(String, usize), (&'static str, usize)> {
    let quote = text.chars().next().ok_or(("literal not terminated", 0))?;
    let mut value = String::new();
    let mut characters = text.char_indices().skip(1);
    while let Some((at, character)) = characters.next() {
        match character {
            _ if character == quote => return Ok((value, at + quote.len_utf8())),
            '\n' => return Err(("newline in string literal", at)),
            '\\' => {
                let (_, escape) = characters.next().ok_or(("literal not terminated", at))?;
                let digits = match escape {
                    'x' => 2,
                    'u' => 4,
                    'U' => 8,
                    _ => 0,
                };
                if digits > 0 {
                    let code = text.get(at + 2..at + 2 + digits).and_then(|hex| u32::from_str_radix(hex, 16).ok());
                    value.push(code.and_then(char::from_u32).ok_or(("invalid char escape", at))?);
                    characters.nth(digits - 1);
                    continue;
                }
                value.push(simple_escape(escape).ok_or(("invalid char escape", at))?);
            }
            _ => value.push(character),
        }
    }
    Err(("literal not terminated", 0))
}

fn simple_escape(character: char) -> Option<char> {
    Some(match character {
        'a' => '\x07',
        'b' => '\x08',
        'f' => '\x0c',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\x0b',
        '\\' | '"' | '\'' => character,
        '0' => '\0',
        _ => return None,
    })
}
