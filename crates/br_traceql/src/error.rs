//! Mistakes in the text of a query.

use std::ops::Range;

/// What kind of mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The text is not TraceQL.
    Syntax,
    /// It is, but makes no sense: a number compared with a word, a regular expression that does not compile.
    Invalid,
    /// It makes sense, but is not answered.
    Unsupported,
}

/// What is wrong with a query, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("parse error at line {line}, col {column}: {message}")]
pub struct ParseError {
    pub fault: Fault,
    pub message: String,
    /// Byte range in the query.
    pub span: Range<usize>,
    /// Counts from 1.
    pub line: usize,
    /// Counts characters from 1.
    pub column: usize,
}

impl ParseError {
    pub(crate) fn new(text: &str, fault: Fault, span: Range<usize>, message: impl Into<String>) -> Self {
        let before = text.get(..span.start).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        Self { fault, message: message.into(), span, line, column }
    }
}

impl From<ParseError> for br_std::Error {
    fn from(error: ParseError) -> Self {
        Self::fix_request(error.to_string())
    }
}
