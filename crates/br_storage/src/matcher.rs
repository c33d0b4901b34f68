//! Label matchers, as PromQL and LogQL have them.

use crate::Budget;
use br_model::Labels;
use br_std::re2::{self, Glob, Mode, Regex};
use br_std::{Error, Result};
use std::fmt;
use std::sync::{Arc, OnceLock};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MatchOp {
    Equal,
    NotEqual,
    Regex,
    NotRegex,
}

impl MatchOp {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Regex => "=~",
            Self::NotRegex => "!~",
        }
    }
}

/// A condition on one label. A label that is missing counts as empty.
///
/// A regular expression is checked when the matcher is made and compiled when it is first needed, which whoever answers a query
/// does by [`Matcher::prepare`], at the query's expense.
#[derive(Clone)]
pub struct Matcher {
    pub name: String,
    pub op: MatchOp,
    pub value: String,
    /// For the regex operators only; clones compile it once.
    pattern: Option<Arc<Pattern>>,
}

struct Pattern {
    matches_empty: bool,
    test: OnceLock<Result<Test, String>>,
}

/// What a regular expression comes to. It must match the whole value.
enum Test {
    /// One of these words, sorted.
    Words(Box<[Box<str>]>),
    Globs(Box<[Glob]>),
    Regex(Regex),
}

/// A compiled regular expression may take this many bytes. The time that it needs for a byte of text grows with it, and nothing
/// can stop a match on its way.
const REGEX_BYTES_MAX: usize = 256 << 10;

/// Each of them may have to look at all of a value.
const CHEAP_GLOBS_MAX: usize = 4;

impl Matcher {
    pub fn new(op: MatchOp, name: impl Into<String>, value: impl Into<String>) -> Result<Self> {
        let (name, value) = (name.into(), value.into());
        let pattern = match op {
            MatchOp::Equal | MatchOp::NotEqual => None,
            MatchOp::Regex | MatchOp::NotRegex => {
                let matches_empty = match plain_words(&value) {
                    Some(mut words) => words.any(str::is_empty),
                    None => re2::check(&value, Mode::Whole)?,
                };
                Some(Arc::new(Pattern { matches_empty, test: OnceLock::new() }))
            }
        };
        Ok(Self { name, op, value, pattern })
    }

    pub fn equal(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), op: MatchOp::Equal, value: value.into(), pattern: None }
    }

    /// Compiles the regular expression, if there is one that was not compiled yet. An error when it is too large, or the budget
    /// has no room for it.
    pub fn prepare(&self, budget: &Budget) -> Result<()> {
        let Some(pattern) = &self.pattern else { return Ok(()) };
        if pattern.test.get().is_none() {
            budget.check()?;
            if let Some(Test::Regex(regex)) = self.test() {
                budget.charge(regex.heap_bytes() as u64)?;
            }
        }
        match pattern.test.get() {
            Some(Err(message)) => Err(Error::fix_request(message.clone())),
            _ => Ok(()),
        }
    }

    /// An expression that [`Matcher::prepare`] has refused, or would refuse, matches nothing.
    pub fn matches(&self, value: &str) -> bool {
        match self.op {
            MatchOp::Equal => value == self.value,
            MatchOp::NotEqual => value != self.value,
            MatchOp::Regex => self.test().is_some_and(|test| test.matches(value)),
            MatchOp::NotRegex => self.test().is_some_and(|test| !test.matches(value)),
        }
    }

    fn test(&self) -> Option<&Test> {
        self.pattern.as_ref()?.test.get_or_init(|| Test::new(&self.value)).as_ref().ok()
    }

    pub fn matches_labels(&self, labels: &Labels) -> bool {
        self.matches(labels.get(&self.name).unwrap_or(""))
    }

    /// True when a series without the label satisfies the matcher.
    pub fn matches_empty(&self) -> bool {
        match (self.op, &self.pattern) {
            (MatchOp::Equal, _) => self.value.is_empty(),
            (MatchOp::NotEqual, _) => !self.value.is_empty(),
            (op, Some(pattern)) => pattern.matches_empty == (op == MatchOp::Regex),
            (_, None) => false,
        }
    }

    /// The values that an alternation of words allows, such as `a|b|c`; `None` for everything else.
    /// An index can look these up one by one.
    pub fn literal_alternatives(&self) -> Option<Vec<&str>> {
        match self.op {
            MatchOp::Equal => Some(vec![&self.value]),
            MatchOp::Regex => match self.test()? {
                Test::Words(words) => Some(words.iter().map(AsRef::as_ref).collect()),
                Test::Globs(_) | Test::Regex(_) => None,
            },
            _ => None,
        }
    }

    /// Whether a look at one value takes so little that many can be looked at without a pause.
    pub fn is_cheap(&self) -> bool {
        match self.test() {
            Some(Test::Regex(_)) => false,
            Some(Test::Globs(globs)) => globs.len() <= CHEAP_GLOBS_MAX,
            Some(Test::Words(_)) | None => true,
        }
    }

    /// Whether every value satisfies the matcher, the empty one too.
    pub fn matches_everything(&self) -> bool {
        self.op == MatchOp::Regex && self.value == ".*"
    }

    /// Whether every value satisfies the matcher but the empty one.
    pub fn matches_any_value(&self) -> bool {
        self.op == MatchOp::NotEqual && self.value.is_empty() || self.op == MatchOp::Regex && self.value == ".+"
    }
}

impl Test {
    fn new(pattern: &str) -> Result<Self, String> {
        if let Some(words) = plain_words(pattern) {
            return Ok(Self::words(words.map(Into::into).collect()));
        }
        if let Some(globs) = re2::globs(pattern) {
            let words: Option<Vec<Box<str>>> = globs.iter().map(|glob| glob.word().map(Into::into)).collect();
            return Ok(words.map_or_else(|| Self::Globs(globs.into()), Self::words));
        }
        let regex = Regex::with_size(pattern, Mode::Whole, REGEX_BYTES_MAX);
        regex.map(Self::Regex).map_err(|error| error.message().to_owned())
    }

    fn words(mut words: Vec<Box<str>>) -> Self {
        words.sort_unstable();
        words.dedup();
        Self::Words(words.into())
    }

    fn matches(&self, value: &str) -> bool {
        match self {
            Self::Words(words) => words.binary_search_by(|word| (**word).cmp(value)).is_ok(),
            Self::Globs(globs) => globs.iter().any(|glob| glob.matches(value)),
            Self::Regex(regex) => regex.is_match(value),
        }
    }
}

/// The words of an alternation that has nothing else in it: there may be very many.
fn plain_words(pattern: &str) -> Option<impl Iterator<Item = &str>> {
    let is_plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'/' | b':' | b' ' | b',' | b'|') || byte >= 0x80;
    pattern.bytes().all(is_plain).then(|| pattern.split('|'))
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{:?}", self.name, self.op.as_str(), self.value)
    }
}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.op == other.op && self.value == other.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use br_std::Kind;

    fn regex(pattern: &str) -> Matcher {
        Matcher::new(MatchOp::Regex, "job", pattern).expect("valid")
    }

    #[test]
    fn regexes_are_anchored_and_missing_is_empty() {
        let matcher = regex("a|b");
        assert!(matcher.matches("a") && !matcher.matches("ab") && !matcher.matches_empty());
        let negated = Matcher::new(MatchOp::NotRegex, "job", "a.*").expect("valid");
        assert!(negated.matches_labels(&Labels::empty()) && negated.literal_alternatives().is_none());
        assert!(negated.matches_empty() && !negated.matches("ab") && negated.matches("ba"));
        for refused in ["(", "a)|(b", "a++"] {
            assert!(Matcher::new(MatchOp::Regex, "job", refused).is_err(), "{refused}");
        }
        assert!(regex("a|").matches_empty() && regex("(|a.)").matches_empty() && !regex("[^a]").matches_empty());
    }

    #[test]
    fn words_and_prefixes_need_no_automaton() {
        let words = |pattern: &str| regex(pattern).literal_alternatives().map(|words| words.join(","));
        assert_eq!(words("c|a|b|a").as_deref(), Some("a,b,c"));
        assert_eq!(words("10\\.0\\.0\\.[12]:80|x").as_deref(), Some("10.0.0.1:80,10.0.0.2:80,x"));
        assert_eq!(words("a?(b|c)").as_deref(), Some("ab,ac,b,c"));
        assert_eq!(words("").as_deref(), Some(""));
        assert_eq!(words("a.*"), None);
        assert!(regex("api.*|.*v1.+|x").is_cheap() && !regex("\\d+").is_cheap());
        assert!(!regex("(a|b|c|d|e).*").is_cheap() && regex("(a|b|c|d|e).*").matches("e1"));
        assert!(regex("api.*|.*v1.+|x").matches("a v1 b") && !regex("api.*|.*v1.+|x").matches("a v1"));
    }

    #[test]
    fn compiled_when_asked_for_and_at_the_expense_of_the_query() {
        let budget = Budget::new(100 << 10);
        regex("a|b.*").prepare(&budget).expect("takes nothing");
        assert_eq!(budget.bytes_used(), 0);
        let matcher = regex("\\w{13}");
        let error = matcher.prepare(&budget).expect_err("too much");
        assert_eq!(error.kind(), Kind::OverLimit);
        let budget = Budget::unlimited();
        let (one, other) = (regex("\\w{13}"), regex("\\pL{500}"));
        one.clone().prepare(&budget).expect("has room");
        let used = budget.bytes_used();
        one.prepare(&budget).expect("was compiled");
        assert!(used > 0 && budget.bytes_used() == used);
        let error = other.prepare(&budget).expect_err("too large");
        assert!(error.message().contains("takes more than 256 KiB when compiled"), "{error}");
        assert!(!other.matches("a"));
    }
}
