//! Text to tokens.

use crate::{Fault, ParseError};
use std::ops::Range;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum TokenKind {
    /// A bare word.
    Word(String),
    /// `scope.name`: the scope is empty for `.name`.
    Attribute {
        scope: String,
        name: String,
    },
    /// `scope:name`.
    Scoped {
        scope: String,
        name: String,
    },
    String(String),
    Int(i64),
    Float(f64),
    /// Nanoseconds.
    Duration(i64),
    Symbol(&'static str),
    End,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Token {
    pub(crate) kind: TokenKind,
    pub(crate) span: Range<usize>,
}

/// Longer ones first.
const SYMBOLS: [&str; 37] = [
    "&>>", "&<<", "!>>", "!<<", "&>", "&<", "&~", "!>", "!<", "!~", "!=", "=~", "<=", ">=", ">>", "<<", "&&", "||", "{", "}",
    "(", ")", "=", "<", ">", "!", "~", "+", "-", "*", "/", "%", "^", "|", ",", "[", "]",
];

const SCOPES: [&str; 8] = ["span", "resource", "event", "link", "instrumentation", "parent", "parent.span", "parent.resource"];

/// A longer query is refused.
const QUERY_BYTES_MAX: usize = 128 * 1024;

pub(crate) fn tokens(text: &str) -> Result<Vec<Token>, ParseError> {
    let wrong = |span: Range<usize>, message: String| ParseError::new(text, Fault::Syntax, span, message);
    if text.len() > QUERY_BYTES_MAX {
        return Err(wrong(0..0, format!("the query is longer than {QUERY_BYTES_MAX} bytes")));
    }
    let mut tokens = Vec::new();
    let mut at = 0;
    loop {
        at += text[at..].len() - text[at..].trim_start().len();
        let start = at;
        let rest = &text[at..];
        let Some(first) = rest.chars().next() else {
            tokens.push(Token { kind: TokenKind::End, span: at..at });
            return Ok(tokens);
        };
        let digit_follows = rest[first.len_utf8()..].starts_with(|next: char| next.is_ascii_digit());
        let kind = if first == '"' || first == '`' {
            let (value, length) = string(rest).ok_or_else(|| wrong(at..text.len(), "string not terminated".to_owned()))?;
            at += length;
            TokenKind::String(value)
        } else if first.is_ascii_digit() || (first == '.' && digit_follows) {
            let length = rest.find(|next: char| !(next.is_alphanumeric() || next == '.')).unwrap_or(rest.len());
            at += length;
            quantity(&rest[..length])
                .ok_or_else(|| wrong(start..at, format!("not a number or duration: {:?}", &rest[..length])))?
        } else if first.is_alphabetic() || first == '_' || first == '.' {
            word(rest, &mut at).map_err(|message| wrong(start..start + first.len_utf8(), message))?
        } else {
            let symbol = SYMBOLS.into_iter().find(|symbol| rest.starts_with(symbol));
            let symbol = symbol.ok_or_else(|| wrong(at..at + first.len_utf8(), format!("unexpected character {first:?}")))?;
            at += symbol.len();
            TokenKind::Symbol(symbol)
        };
        tokens.push(Token { kind, span: start..at });
    }
}

/// A quoted string at the start of `text`, with its length.
fn string(text: &str) -> Option<(String, usize)> {
    if let Some(raw) = text.strip_prefix('`') {
        let end = raw.find('`')?;
        return Some((raw[..end].to_owned(), end + 2));
    }
    let mut value = String::new();
    let mut characters = text.char_indices().skip(1);
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, at + 1)),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                't' => value.push('\t'),
                'r' => value.push('\r'),
                escaped @ ('"' | '\\' | '\'' | '`') => value.push(escaped),
                // A regular expression's own escape, as people write them.
                other => value.extend(['\\', other]),
            },
            _ => value.push(character),
        }
    }
    None
}

/// Nanoseconds per unit.
const UNITS: [(&str, f64); 8] =
    [("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 60e9), ("h", 3600e9), ("d", 86400e9)];

fn quantity(text: &str) -> Option<TokenKind> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok().map(TokenKind::Int);
    }
    if let Ok(number) = text.parse() {
        return Some(TokenKind::Float(number));
    }
    let mut rest = text;
    let mut total = 0f64;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.find(|next: char| next.is_ascii_digit() || next == '.').unwrap_or(rest.len());
        total += number * UNITS.iter().find(|(unit, _)| *unit == &rest[..letters])?.1;
        rest = &rest[letters..];
    }
    (total < i64::MAX as f64).then_some(TokenKind::Duration(total.round() as i64))
}

fn is_name(character: char) -> bool {
    !character.is_whitespace() && !"{}()=~!<>&|^,\"[]".contains(character)
}

/// A word, `scope:intrinsic`, or an attribute.
fn word(text: &str, at: &mut usize) -> Result<TokenKind, String> {
    let length = text.find(|next: char| !(next.is_alphanumeric() || next == '_')).unwrap_or(text.len());
    let head = &text[..length];
    if let Some(after) = text[length..].strip_prefix(':') {
        let name_len = after.find(|next: char| !next.is_alphanumeric()).unwrap_or(after.len());
        *at += length + 1 + name_len;
        return Ok(TokenKind::Scoped { scope: head.to_owned(), name: after[..name_len].to_owned() });
    }
    // The longest scope counts: `parent.span.` before `parent.`.
    let scope = if head.is_empty() { Some("") } else { SCOPES.into_iter().rev().find(|scope| is_scope_of(text, scope)) };
    let Some(scope) = scope else {
        *at += length;
        return Ok(TokenKind::Word(head.to_owned()));
    };
    let mut name = String::new();
    let mut consumed = scope.len() + 1;
    while let Some(next) = text[consumed..].chars().next() {
        if next == '"' && (name.is_empty() || name.ends_with('.')) {
            let (part, part_len) = string(&text[consumed..]).ok_or("string not terminated")?;
            name.push_str(&part);
            consumed += part_len;
        } else if is_name(next) {
            name.push(next);
            consumed += next.len_utf8();
        } else {
            break;
        }
    }
    *at += consumed;
    if name.is_empty() {
        return Err("expected the name of an attribute after the dot".to_owned());
    }
    Ok(TokenKind::Attribute { scope: scope.to_owned(), name })
}

fn is_scope_of(text: &str, scope: &str) -> bool {
    text.strip_prefix(scope).is_some_and(|rest| rest.starts_with('.'))
}
