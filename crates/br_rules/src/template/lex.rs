//! Cuts a template into text and the tokens of its actions.

use super::TemplateError;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// Outside of actions.
    Text(String),
    Open,
    Close,
    /// A function's name or a keyword.
    Word(String),
    /// `.name`, without the point.
    Field(String),
    /// `$name`, with the sign.
    Variable(String),
    String(String),
    Int(i64),
    Float(f64),
    Dot,
    Pipe,
    LeftParen,
    RightParen,
    Comma,
    /// `:=`
    Declare,
    /// `=`
    Assign,
}

#[derive(Clone, Debug)]
pub(super) struct Spanned {
    pub(super) token: Token,
    pub(super) line: u32,
    /// Space stands before it: `.a .b` is two values, `.a.b` is one.
    pub(super) after_space: bool,
}

pub(super) fn lex(source: &str) -> Result<Vec<Spanned>, TemplateError> {
    let mut lexer = Lexer { rest: source, line: 1, tokens: Vec::new() };
    lexer.run()?;
    Ok(lexer.tokens)
}

struct Lexer<'a> {
    rest: &'a str,
    line: u32,
    tokens: Vec<Spanned>,
}

const SPACES: [char; 4] = [' ', '\t', '\r', '\n'];

impl Lexer<'_> {
    fn run(&mut self) -> Result<(), TemplateError> {
        loop {
            let Some(at) = self.rest.find("{{") else {
                self.text(self.rest.len(), false);
                return Ok(());
            };
            let trims_before = self.rest[at + 2..].starts_with('-') && self.rest[at + 3..].starts_with(SPACES);
            self.text(at, trims_before);
            self.advance(if trims_before { 3 } else { 2 });
            if self.comment()? {
                continue;
            }
            self.push(Token::Open, false);
            self.action()?;
        }
    }

    /// Everything up to `length` is text.
    fn text(&mut self, length: usize, trims_end: bool) {
        let mut text = &self.rest[..length];
        if trims_end {
            text = text.trim_end_matches(SPACES);
        }
        if !text.is_empty() {
            let token = Token::Text(text.to_owned());
            self.push(token, false);
        }
        self.advance(length);
    }

    /// `{{/* … */}}`: skipped whole.
    fn comment(&mut self) -> Result<bool, TemplateError> {
        let inner = self.rest.trim_start_matches(SPACES);
        if !inner.starts_with("/*") {
            return Ok(false);
        }
        let end = inner.find("*/").ok_or_else(|| self.error("unclosed comment"))?;
        self.advance(self.rest.len() - inner.len() + end + 2);
        if !self.close() {
            return Err(self.error("comment ends before closing delimiter"));
        }
        Ok(true)
    }

    /// Takes `}}` or ` -}}` off the front.
    fn close(&mut self) -> bool {
        if self.rest.starts_with("}}") {
            self.advance(2);
            return true;
        }
        let inner = self.rest.trim_start_matches(SPACES);
        let Some(after) = inner.strip_prefix("-}}").filter(|_| inner.len() < self.rest.len()) else { return false };
        let after = after.trim_start_matches(SPACES);
        self.advance(self.rest.len() - after.len());
        true
    }

    fn action(&mut self) -> Result<(), TemplateError> {
        loop {
            if self.close() {
                self.push(Token::Close, false);
                return Ok(());
            }
            let inner = self.rest.trim_start_matches(SPACES);
            let after_space = inner.len() < self.rest.len();
            self.advance(self.rest.len() - inner.len());
            if self.rest.starts_with("}}") {
                continue;
            }
            let token = self.token()?;
            self.push(token, after_space);
        }
    }

    fn token(&mut self) -> Result<Token, TemplateError> {
        let rest = self.rest;
        let Some(first) = rest.chars().next() else { return Err(self.error("unclosed action")) };
        let single = match first {
            '|' => Some(Token::Pipe),
            '(' => Some(Token::LeftParen),
            ')' => Some(Token::RightParen),
            ',' => Some(Token::Comma),
            '=' => Some(Token::Assign),
            _ => None,
        };
        if let Some(token) = single {
            self.advance(1);
            return Ok(token);
        }
        match first {
            ':' if rest.starts_with(":=") => {
                self.advance(2);
                Ok(Token::Declare)
            }
            '"' => self.quoted(),
            '\'' => self.character(),
            '`' => {
                let end = rest[1..].find('`').ok_or_else(|| self.error("unterminated raw quoted string"))?;
                self.advance(end + 2);
                Ok(Token::String(rest[1..=end].to_owned()))
            }
            '.' if rest[1..].starts_with(|next: char| next.is_ascii_digit()) => self.number(),
            '.' => {
                let name = word_length(&rest[1..]);
                self.advance(1 + name);
                Ok(if name == 0 { Token::Dot } else { Token::Field(rest[1..=name].to_owned()) })
            }
            '$' => {
                let name = word_length(&rest[1..]);
                self.advance(1 + name);
                Ok(Token::Variable(rest[..=name].to_owned()))
            }
            '+' | '-' | '0'..='9' => self.number(),
            _ if first.is_alphabetic() || first == '_' => {
                let length = word_length(rest);
                self.advance(length);
                Ok(Token::Word(rest[..length].to_owned()))
            }
            _ => Err(self.error(&format!("unexpected {first:?} in action"))),
        }
    }

    fn number(&mut self) -> Result<Token, TemplateError> {
        let is_part = |(at, character): &(usize, char)| {
            let follows_exponent = *at > 0 && matches!(self.rest.as_bytes()[at - 1], b'e' | b'E' | b'p' | b'P');
            character.is_ascii_alphanumeric()
                || matches!(character, '.' | '_')
                || (matches!(character, '+' | '-') && (*at == 0 || follows_exponent))
        };
        let length = self.rest.char_indices().take_while(is_part).count();
        let text = &self.rest[..length];
        let plain = text.replace('_', "");
        let token = parse_int(&plain).map(Token::Int).or_else(|| parse_float(&plain).map(Token::Float));
        let token = token.ok_or_else(|| self.error(&format!("bad number syntax: {text:?}")))?;
        self.advance(length);
        Ok(token)
    }

    fn quoted(&mut self) -> Result<Token, TemplateError> {
        let mut text = String::new();
        let mut characters = self.rest.char_indices().skip(1);
        while let Some((at, character)) = characters.next() {
            match character {
                '"' => {
                    self.advance(at + 1);
                    return Ok(Token::String(text));
                }
                '\n' => break,
                '\\' => {
                    let escaped = unescape(&mut characters).ok_or_else(|| self.error("invalid escape in string"))?;
                    text.push(escaped);
                }
                character => text.push(character),
            }
        }
        Err(self.error("unterminated quoted string"))
    }

    /// A character constant is the number of its code point.
    fn character(&mut self) -> Result<Token, TemplateError> {
        let mut characters = self.rest.char_indices().skip(1);
        let character = match characters.next() {
            Some((_, '\\')) => unescape(&mut characters),
            Some((_, character)) => Some(character),
            None => None,
        };
        match (character, characters.next()) {
            (Some(character), Some((end, '\''))) => {
                self.advance(end + 1);
                Ok(Token::Int(i64::from(u32::from(character))))
            }
            _ => Err(self.error("malformed character constant")),
        }
    }

    fn push(&mut self, token: Token, after_space: bool) {
        self.tokens.push(Spanned { token, line: self.line, after_space });
    }

    fn advance(&mut self, length: usize) {
        self.line += self.rest[..length].bytes().filter(|byte| *byte == b'\n').count() as u32;
        self.rest = &self.rest[length..];
    }

    fn error(&self, message: &str) -> TemplateError {
        TemplateError { line: self.line, message: message.to_owned() }
    }
}

fn word_length(text: &str) -> usize {
    text.find(|character: char| !character.is_alphanumeric() && character != '_').unwrap_or(text.len())
}

/// What follows a backslash.
fn unescape(characters: &mut impl Iterator<Item = (usize, char)>) -> Option<char> {
    let (_, character) = characters.next()?;
    let digits = match character {
        'n' => return Some('\n'),
        't' => return Some('\t'),
        'r' => return Some('\r'),
        'a' => return Some('\u{7}'),
        'b' => return Some('\u{8}'),
        'f' => return Some('\u{c}'),
        'v' => return Some('\u{b}'),
        '\\' | '"' | '\'' => return Some(character),
        'x' => 2,
        'u' => 4,
        'U' => 8,
        _ => return None,
    };
    let mut code = 0u32;
    for _ in 0..digits {
        code = code.checked_mul(16)?.checked_add(characters.next()?.1.to_digit(16)?)?;
    }
    char::from_u32(code)
}

fn parse_int(text: &str) -> Option<i64> {
    let (sign, digits) = text.strip_prefix('-').map_or(("", text.strip_prefix('+').unwrap_or(text)), |rest| ("-", rest));
    let (radix, digits) = match digits.get(..2) {
        Some("0x" | "0X") => (16, &digits[2..]),
        Some("0b" | "0B") => (2, &digits[2..]),
        Some("0o" | "0O") => (8, &digits[2..]),
        _ => (10, digits),
    };
    i64::from_str_radix(&format!("{sign}{digits}"), radix).ok()
}

/// Rust also reads `inf` and `nan`; a template's number starts with a digit or a point.
fn parse_float(text: &str) -> Option<f64> {
    let digits = text.trim_start_matches(['+', '-']);
    digits.starts_with(|first: char| first.is_ascii_digit() || first == '.').then(|| text.parse().ok())?
}
