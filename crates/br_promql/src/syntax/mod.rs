//! From text to tree and back.

pub(crate) mod ast;
pub(crate) mod check;
pub(crate) mod duration;
pub(crate) mod lexer;
pub(crate) mod literal;
pub(crate) mod parser;
pub(crate) mod print;
pub(crate) mod selector;
pub(crate) mod span;
