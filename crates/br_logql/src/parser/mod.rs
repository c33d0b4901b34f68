//! Tokens to an expression: recursive descent, one file for log queries, one for metric queries.

mod log;
mod metric;

use crate::ast::Expr;
use crate::lexer::{Token, TokenKind, tokens};
use crate::{ParseError, Pipeline};
use std::ops::Range;

/// Deeper nesting is refused, so that no query overflows the stack.
const DEPTH_MAX: usize = 64;

/// More operators or label filters in one query are refused, for the same reason.
const NODES_MAX: usize = 1000;

/// Regular expressions in one query: each is compiled while it is read.
const REGEXES_MAX: usize = 100;

/// Reads a query and checks all that can be checked without data: regular expressions, templates, patterns, addresses.
pub fn parse(text: &str) -> Result<Expr, ParseError> {
    let mut parser = Parser { text, tokens: tokens(text)?, at: 0, depth: 0, nodes: 0, regexes: 0 };
    let expr = parser.expr()?;
    if *parser.peek() != TokenKind::End {
        return Err(parser.unexpected(""));
    }
    Ok(expr)
}

struct Parser<'a> {
    text: &'a str,
    /// Ends with [`TokenKind::End`].
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
    /// Operators and label filters so far.
    nodes: usize,
    /// Regular expressions so far.
    regexes: usize,
}

impl Parser<'_> {
    fn token(&self) -> &Token {
        &self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    fn peek(&self) -> &TokenKind {
        &self.token().kind
    }

    fn peek_after(&self) -> &TokenKind {
        &self.tokens[(self.at + 1).min(self.tokens.len() - 1)].kind
    }

    fn start(&self) -> usize {
        self.token().span.start
    }

    /// The end of the token before this one.
    fn end(&self) -> usize {
        self.at.checked_sub(1).map_or(0, |at| self.tokens[at].span.end)
    }

    fn advance(&mut self) -> TokenKind {
        let kind = self.peek().clone();
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        kind
    }

    fn is_symbol(&self, symbol: &str) -> bool {
        matches!(self.peek(), TokenKind::Symbol(found) if *found == symbol)
    }

    fn take_symbol(&mut self, symbol: &str) -> bool {
        let found = self.is_symbol(symbol);
        if found {
            self.advance();
        }
        found
    }

    fn expect_symbol(&mut self, symbol: &str) -> Result<(), ParseError> {
        if self.take_symbol(symbol) { Ok(()) } else { Err(self.unexpected(symbol)) }
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), TokenKind::Identifier(found) if found == word)
    }

    fn take_word(&mut self, word: &str) -> bool {
        let found = self.is_word(word);
        if found {
            self.advance();
        }
        found
    }

    fn identifier(&mut self) -> Result<String, ParseError> {
        let TokenKind::Identifier(name) = self.peek() else { return Err(self.unexpected("IDENTIFIER")) };
        let name = name.clone();
        self.advance();
        Ok(name)
    }

    fn string(&mut self) -> Result<String, ParseError> {
        let TokenKind::String(text) = self.peek() else { return Err(self.unexpected("STRING")) };
        let text = text.clone();
        self.advance();
        Ok(text)
    }

    /// A number with an optional sign.
    fn number(&mut self) -> Result<f64, ParseError> {
        let negative = self.is_symbol("-");
        if negative || self.is_symbol("+") {
            self.advance();
        }
        let TokenKind::Quantity(text) = self.peek() else { return Err(self.unexpected("NUMBER")) };
        let number: f64 = text.parse().map_err(|_| self.unexpected("NUMBER"))?;
        self.advance();
        Ok(if negative { -number } else { number })
    }

    fn error(&self, span: Range<usize>, message: impl Into<String>) -> ParseError {
        ParseError::new(self.text, span, message)
    }

    fn error_since(&self, start: usize, message: impl Into<String>) -> ParseError {
        self.error(start..self.end().max(start), message)
    }

    fn unexpected(&self, expecting: &str) -> ParseError {
        let token = self.token();
        let found = match &token.kind {
            TokenKind::Identifier(name) => format!("IDENTIFIER {name}"),
            TokenKind::String(_) => "STRING".to_owned(),
            TokenKind::Quantity(text) => format!("NUMBER {text}"),
            TokenKind::Flag(name) => format!("flag --{name}"),
            TokenKind::Symbol(symbol) => (*symbol).to_owned(),
            TokenKind::End => "$end".to_owned(),
        };
        let expecting = if expecting.is_empty() { String::new() } else { format!(", expecting {expecting}") };
        self.error(token.span.clone(), format!("syntax error: unexpected {found}{expecting}"))
    }

    /// Runs `read` one level deeper.
    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, ParseError>) -> Result<T, ParseError> {
        if self.depth >= DEPTH_MAX {
            return Err(self.error(self.token().span.clone(), format!("nested more than {DEPTH_MAX} levels deep")));
        }
        self.depth += 1;
        let result = read(self);
        self.depth -= 1;
        result
    }

    fn count_regex(&mut self) -> Result<(), ParseError> {
        self.regexes += 1;
        if self.regexes > REGEXES_MAX {
            let message = format!("more than {REGEXES_MAX} regular expressions: join some of them with |");
            return Err(self.error(self.token().span.clone(), message));
        }
        Ok(())
    }

    fn count_node(&mut self) -> Result<(), ParseError> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err(self.error(self.token().span.clone(), format!("more than {NODES_MAX} operators")));
        }
        Ok(())
    }

    /// `a, b, c)`, after the opening parenthesis.
    fn names_until_close(&mut self) -> Result<Vec<String>, ParseError> {
        let mut names = Vec::new();
        while !self.take_symbol(")") {
            if !names.is_empty() {
                self.expect_symbol(",")?;
            }
            names.push(self.identifier()?);
        }
        Ok(names)
    }

    /// Compiles the stages, so that mistakes inside of them come out now.
    fn check(&self, log: &crate::ast::LogExpr) -> Result<(), ParseError> {
        Pipeline::compile(log).map(drop).map_err(|(span, message)| self.error(span, message))
    }
}
