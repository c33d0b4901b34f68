//! Regular expressions as Go's `regexp` package reads them, which is how PromQL, LogQL, TraceQL, relabelling and Go's templates
//! have them.
//!
//! The dialect is parsed here; only matching is a library's. What that library reads by itself differs without an error: `\d`
//! and `\w` are Unicode's there, `&&` and `~~` are operators within brackets, `\<` is a boundary.
//!
//! Source: the documentation of Go's `regexp/syntax` package.

mod class;
mod parse;
mod words;

pub use words::{Glob, globs, required_literal, required_literals};

use crate::{Error, Result};
use parse::{Parsed, Purpose};
use regex_automata::meta;
use regex_automata::util::captures;
use regex_syntax::hir::{Hir, HirKind, Look};

/// What a compiled expression may take unless its user says otherwise.
const COMPILED_BYTES_MAX: usize = 1 << 20;
/// What the automaton that is built while matching may take, for each thread that matches.
const CACHE_BYTES_MAX: usize = 256 << 10;

/// How an expression is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// As written: it may match a part of the text, and a dot does not match the end of a line.
    Part,
    /// It must match all of the text, and a dot matches everything: matchers and relabelling.
    Whole,
    /// It must match all of the text, and a dot does not match the end of a line.
    WholeLine,
}

impl Mode {
    fn dot_matches_newline(self) -> bool {
        self == Self::Whole
    }
}

/// A compiled expression.
#[derive(Clone, Debug)]
pub struct Regex {
    automaton: meta::Regex,
    /// As written.
    pattern: Box<str>,
    /// Names of the groups from the first on; several may have the same.
    names: Box<[Option<Box<str>>]>,
}

/// What an expression found in a text.
pub struct Captures<'r, 't> {
    regex: &'r Regex,
    text: &'t str,
    found: captures::Captures,
}

/// Reads an expression without compiling it: what is wrong with it is found in time and memory that grow with its length only.
/// True where it matches the empty text.
pub fn check(pattern: &str, mode: Mode) -> Result<bool> {
    let parsed = parse::parse(pattern, mode.dot_matches_newline(), Purpose::Check).map_err(Error::fix_request)?;
    Ok(matches_empty(&parsed.hir))
}

fn matches_empty(hir: &Hir) -> bool {
    match hir.kind() {
        HirKind::Empty => true,
        HirKind::Literal(_) | HirKind::Class(_) => false,
        HirKind::Look(look) => *look != Look::WordAscii,
        HirKind::Repetition(repetition) => repetition.min == 0 || matches_empty(&repetition.sub),
        HirKind::Capture(capture) => matches_empty(&capture.sub),
        HirKind::Concat(parts) => parts.iter().all(matches_empty),
        HirKind::Alternation(branches) => branches.iter().any(matches_empty),
    }
}

impl Regex {
    pub fn new(pattern: &str, mode: Mode) -> Result<Self> {
        Self::with_size(pattern, mode, COMPILED_BYTES_MAX)
    }

    /// `bytes_max` bounds what the compiled expression may take, and by that how long it may need for a byte of text.
    pub fn with_size(pattern: &str, mode: Mode, bytes_max: usize) -> Result<Self> {
        let Parsed { hir, names, .. } =
            parse::parse(pattern, mode.dot_matches_newline(), Purpose::Build).map_err(Error::fix_request)?;
        let hir = if mode == Mode::Part { hir } else { Hir::concat(vec![Hir::look(Look::Start), hir, Hir::look(Look::End)]) };
        let config = meta::Config::new()
            .nfa_size_limit(Some(bytes_max))
            .onepass_size_limit(Some(bytes_max))
            .hybrid_cache_capacity(CACHE_BYTES_MAX);
        let automaton = meta::Builder::new().configure(config).build_from_hir(&hir).map_err(|error| match error.size_limit() {
            Some(_) => {
                let kib = bytes_max >> 10;
                Error::fix_request(format!(
                    "the regular expression {} takes more than {kib} KiB when compiled: make it shorter, or its repetitions fewer",
                    shortened(pattern)
                ))
            }
            None => Error::fix_request(format!("error parsing regexp: {error}: `{}`", shortened(pattern))),
        })?;
        Ok(Self { automaton, pattern: pattern.into(), names: names.into() })
    }

    /// The expression as it was written.
    pub fn as_str(&self) -> &str {
        &self.pattern
    }

    pub fn is_match(&self, text: &str) -> bool {
        self.automaton.is_match(text)
    }

    /// What the first match found.
    pub fn captures<'r, 't>(&'r self, text: &'t str) -> Option<Captures<'r, 't>> {
        let mut found = self.automaton.create_captures();
        self.automaton.captures(text, &mut found);
        found.is_match().then_some(Captures { regex: self, text, found })
    }

    /// What all matches found that do not overlap.
    pub fn captures_iter<'r, 't>(&'r self, text: &'t str) -> impl Iterator<Item = Captures<'r, 't>> {
        self.automaton.captures_iter(text).map(move |found| Captures { regex: self, text, found })
    }

    /// Names of the groups from the first on.
    pub fn group_names(&self) -> impl ExactSizeIterator<Item = Option<&str>> {
        self.names.iter().map(Option::as_deref)
    }

    /// What the compiled expression takes, with what one thread needs to match it.
    pub fn heap_bytes(&self) -> usize {
        self.automaton.memory_usage() + CACHE_BYTES_MAX
    }
}

impl<'t> Captures<'_, 't> {
    /// Where the whole match lies.
    pub fn range(&self) -> std::ops::Range<usize> {
        self.found.get_match().map_or(0..0, |found| found.range())
    }

    /// Text of a group; the whole match is number 0.
    pub fn get(&self, number: usize) -> Option<&'t str> {
        self.found.get_group(number).map(|span| &self.text[span.range()])
    }

    /// What `$name` or `$1` stands for; a group that does not exist, or took no part, is empty.
    /// Of groups with the same name it is the first that took part.
    pub fn group(&self, name: &str) -> &'t str {
        if let Ok(number) = name.parse() {
            return self.get(number).unwrap_or("");
        }
        let mut named = self.regex.names.iter().enumerate().filter(|(_, other)| other.as_deref() == Some(name));
        named.find_map(|(at, _)| self.get(at + 1)).unwrap_or("")
    }
}

/// An expression that matches this text only.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_ascii_punctuation() {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

/// The beginning of a pattern, for messages.
fn shortened(pattern: &str) -> String {
    const CHARS_MAX: usize = 80;
    match pattern.char_indices().nth(CHARS_MAX) {
        Some((at, _)) => format!("{:?}…", &pattern[..at]),
        None => format!("{pattern:?}"),
    }
}

#[cfg(test)]
mod tests;
