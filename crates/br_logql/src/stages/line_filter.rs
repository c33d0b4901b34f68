//! `|= "x" or "y"`, `!~ "re"`, `|> "<_> pattern"`, `|= ip("…")`.

use super::{Stage, bounded_regex};
use crate::ast::{LineFilter, LineOp, LineOperand};
use crate::ip::IpRange;
use crate::pattern::Pattern;
use crate::pipeline::Line;
use br_std::re2::{Mode, Regex};
use memchr::memmem::Finder;

pub(crate) struct LineFilterStage {
    negated: bool,
    /// One that holds is enough.
    tests: Vec<Test>,
}

enum Test {
    Contains(Box<Finder<'static>>),
    Regex(Regex),
    Pattern(Pattern),
    Ip(IpRange),
}

impl LineFilterStage {
    pub(crate) fn new(filter: &LineFilter) -> Result<Self, String> {
        let negated = matches!(filter.op, LineOp::NotContains | LineOp::NotRegex | LineOp::NotPattern);
        let tests = filter.operands.iter().map(|operand| Test::new(filter.op, operand)).collect::<Result<_, _>>()?;
        Ok(Self { negated, tests })
    }

    pub(crate) fn keeps(&self, line: &str) -> bool {
        self.tests.iter().any(|test| test.holds(line)) != self.negated
    }
}

impl Stage for LineFilterStage {
    fn process(&self, line: &mut Line<'_>) -> bool {
        self.keeps(&line.text)
    }
}

impl Test {
    fn new(op: LineOp, operand: &LineOperand) -> Result<Self, String> {
        Ok(match (op, operand) {
            (LineOp::Contains | LineOp::NotContains, LineOperand::Text(text)) => {
                Self::Contains(Box::new(Finder::new(text.as_bytes()).into_owned()))
            }
            (LineOp::Regex | LineOp::NotRegex, LineOperand::Text(text)) => Self::Regex(bounded_regex(text, Mode::Part)?),
            (LineOp::Pattern | LineOp::NotPattern, LineOperand::Text(text)) => Self::Pattern(Pattern::for_filter(text)?),
            (LineOp::Contains | LineOp::NotContains, LineOperand::Ip(pattern)) => Self::Ip(IpRange::parse(pattern)?),
            (_, LineOperand::Ip(_)) => return Err("ip: invalid operation: only |= and != take an address".to_owned()),
        })
    }

    fn holds(&self, line: &str) -> bool {
        match self {
            Self::Contains(finder) => finder.find(line.as_bytes()).is_some(),
            Self::Regex(regex) => regex.is_match(line),
            Self::Pattern(pattern) => pattern.matches(line),
            Self::Ip(range) => range.is_in(line),
        }
    }
}
