//! Exact tests of lines: a store applies them before it makes rows of what it holds.

use br_std::re2::Regex;
use memchr::memmem::Finder;
use std::fmt;
use std::sync::Arc;

/// One condition on a line.
#[derive(Clone, Debug)]
pub struct LineTest {
    /// One that holds is enough; negated, none may hold.
    pub any_of: Vec<LinePattern>,
    pub is_negated: bool,
}

#[derive(Clone)]
pub enum LinePattern {
    Contains(Box<Finder<'static>>),
    Regex(Regex),
    /// What a language has beside these.
    Other(Arc<dyn Fn(&str) -> bool + Send + Sync>),
}

impl LineTest {
    /// The line contains these bytes.
    pub fn contains(text: &str) -> Self {
        Self { any_of: vec![LinePattern::contains(text)], is_negated: false }
    }

    pub fn holds(&self, line: &str) -> bool {
        self.any_of.iter().any(|pattern| pattern.holds(line)) != self.is_negated
    }
}

impl LinePattern {
    pub fn contains(text: &str) -> Self {
        Self::Contains(Box::new(Finder::new(text.as_bytes()).into_owned()))
    }

    pub fn holds(&self, line: &str) -> bool {
        match self {
            Self::Contains(finder) => finder.find(line.as_bytes()).is_some(),
            Self::Regex(regex) => regex.is_match(line),
            Self::Other(holds) => holds(line),
        }
    }
}

impl fmt::Debug for LinePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Contains(finder) => f.debug_tuple("Contains").field(&String::from_utf8_lossy(finder.needle())).finish(),
            Self::Regex(regex) => f.debug_tuple("Regex").field(&regex.as_str()).finish(),
            Self::Other(_) => f.write_str("Other"),
        }
    }
}
