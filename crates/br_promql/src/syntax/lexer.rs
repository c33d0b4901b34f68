//! Splits a query into tokens with their spans.

use super::literal;
use super::span::{ParseError, Span};

/// What a token is. Keywords stay identifiers here: whether `sum` or `by` is a keyword depends on where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum TokenKind {
    Number(f64),
    /// Milliseconds.
    Duration(i64),
    Identifier(String),
    /// The value, and whether its bytes are UTF-8.
    String(String, bool),
    /// An operator or a bracket, by its text.
    Symbol(&'static str),
    End,
}

#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) kind: TokenKind,
    pub(crate) span: Span,
}

/// Longest first, so that `<=` is not read as `<`.
const SYMBOLS: [&str; 27] = [
    "==", "!=", "<=", ">=", "=~", "!~", "</", ">/", "+", "-", "*", "/", "%", "^", "<", ">", "=", "(", ")", "{", "}", "[", "]",
    ",", "@", ":", ";",
];

pub(crate) struct Lexer<'a> {
    text: &'a str,
    at: usize,
    line: u32,
    line_start: usize,
    bracket_depth: u32,
}

/// All tokens of `text`, an [`TokenKind::End`] last.
pub(crate) fn tokens(text: &str) -> Result<Vec<Token>, ParseError> {
    let mut lexer = Lexer { text, at: 0, line: 1, line_start: 0, bracket_depth: 0 };
    let mut tokens = Vec::new();
    loop {
        let token = lexer.next_token()?;
        let is_end = token.kind == TokenKind::End;
        tokens.push(token);
        if is_end {
            return Ok(tokens);
        }
    }
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn skip_blanks_and_comments(&mut self) {
        while let Some(character) = self.rest().chars().next() {
            match character {
                '\n' => {
                    self.at += 1;
                    self.line += 1;
                    self.line_start = self.at;
                }
                ' ' | '\t' | '\r' => self.at += 1,
                '#' => self.at += self.rest().find('\n').unwrap_or(self.rest().len()),
                _ => return,
            }
        }
    }

    fn next_token(&mut self) -> Result<Token, ParseError> {
        self.skip_blanks_and_comments();
        let start = self.at;
        let (line, column) = (self.line, (start - self.line_start) as u32 + 1);
        let span_to = |end: usize| Span { start: start as u32, end: end as u32, line, column };
        let fail = |message: String| ParseError { span: span_to(start), message };
        let Some(first) = self.rest().chars().next() else {
            return Ok(Token { kind: TokenKind::End, span: span_to(start) });
        };
        let second = self.rest().as_bytes().get(1).copied().unwrap_or(0);
        let kind = if first.is_ascii_digit() || (first == '.' && second.is_ascii_digit()) {
            self.number_or_duration().map_err(fail)?
        } else if matches!(first, '"' | '\'' | '`') {
            let (value, is_utf8, length) = literal::read_string(self.rest()).map_err(fail)?;
            self.count_lines(length);
            TokenKind::String(value, is_utf8)
        } else if first.is_ascii_alphabetic() || first == '_' || (first == ':' && self.bracket_depth == 0) {
            self.identifier()
        } else {
            self.symbol().map_err(fail)?
        };
        Ok(Token { kind, span: span_to(self.at) })
    }

    /// A raw string may span lines.
    fn count_lines(&mut self, length: usize) {
        for (offset, byte) in self.text.as_bytes()[self.at..self.at + length].iter().enumerate() {
            if *byte == b'\n' {
                self.line += 1;
                self.line_start = self.at + offset + 1;
            }
        }
        self.at += length;
    }

    fn identifier(&mut self) -> TokenKind {
        let colons = self.bracket_depth == 0;
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_' || (colons && *byte == b':');
        let length = self.rest().bytes().take_while(is_part).count();
        let word = self.rest()[..length].to_owned();
        self.at += length;
        match word.to_ascii_lowercase().as_str() {
            "inf" => TokenKind::Number(f64::INFINITY),
            "nan" => TokenKind::Number(f64::NAN),
            _ => TokenKind::Identifier(word),
        }
    }

    fn number_or_duration(&mut self) -> Result<TokenKind, String> {
        let is_hex = self.rest().starts_with("0x") || self.rest().starts_with("0X");
        let mut length = 0;
        let bytes = self.rest().as_bytes();
        while let Some(byte) = bytes.get(length) {
            let follows_exponent = !is_hex && length > 0 && matches!(bytes[length - 1], b'e' | b'E');
            let is_sign = matches!(byte, b'+' | b'-') && follows_exponent;
            if !(byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_') || is_sign) {
                break;
            }
            length += 1;
        }
        let word = &self.rest()[..length];
        let kind = match literal::number(word) {
            Some(value) => TokenKind::Number(value),
            None => match br_std::duration::parse(word) {
                Ok(duration) => TokenKind::Duration(duration.as_millis() as i64),
                Err(_) => return Err(format!("bad number or duration syntax: {word:?}")),
            },
        };
        self.at += length;
        Ok(kind)
    }

    fn symbol(&mut self) -> Result<TokenKind, String> {
        let Some(symbol) = SYMBOLS.into_iter().find(|symbol| self.rest().starts_with(symbol)) else {
            let character = self.rest().chars().next().unwrap_or(' ');
            return Err(format!("unexpected character: {character:?}"));
        };
        match symbol {
            "[" => self.bracket_depth += 1,
            "]" => self.bracket_depth = self.bracket_depth.saturating_sub(1),
            _ => {}
        }
        self.at += symbol.len();
        Ok(TokenKind::Symbol(symbol))
    }
}
