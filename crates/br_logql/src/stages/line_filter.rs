//! `|= "x" or "y"`, `!~ "re"`, `|> "<_> pattern"`, `|= ip("…")`.

use super::{Stage, bounded_regex};
use crate::ast::{LineFilter, LineOp, LineOperand};
use crate::ip::IpRange;
use crate::pattern::Pattern;
use crate::pipeline::Line;
use br_std::re2::{Mode, required_literal};
use br_storage::{LinePattern, LineTest};
use std::sync::Arc;

/// A shorter text that an expression requires is in too many lines to look for it first.
const LITERAL_BYTES_MIN: usize = 3;

/// What a filter asks of a line: all of these tests.
pub(crate) fn line_tests(filter: &LineFilter) -> Result<Vec<LineTest>, String> {
    let is_negated = matches!(filter.op, LineOp::NotContains | LineOp::NotRegex | LineOp::NotPattern);
    let any_of = filter.operands.iter().map(|operand| pattern(filter.op, operand)).collect::<Result<_, _>>()?;
    let mut tests = Vec::new();
    // A text is found faster than an expression is matched, and it is not in most lines.
    if let (LineOp::Regex, [LineOperand::Text(text)]) = (filter.op, filter.operands.as_slice()) {
        let literal = required_literal(text, Mode::Part).filter(|literal| literal.len() >= LITERAL_BYTES_MIN);
        tests.extend(literal.map(|literal| LineTest::contains(&literal)));
    }
    tests.push(LineTest { any_of, is_negated });
    Ok(tests)
}

fn pattern(op: LineOp, operand: &LineOperand) -> Result<LinePattern, String> {
    Ok(match (op, operand) {
        (LineOp::Contains | LineOp::NotContains, LineOperand::Text(text)) => LinePattern::contains(text),
        (LineOp::Regex | LineOp::NotRegex, LineOperand::Text(text)) => LinePattern::Regex(bounded_regex(text, Mode::Part)?),
        (LineOp::Pattern | LineOp::NotPattern, LineOperand::Text(text)) => {
            let pattern = Pattern::for_filter(text)?;
            LinePattern::Other(Arc::new(move |line| pattern.matches(line)))
        }
        (LineOp::Contains | LineOp::NotContains, LineOperand::Ip(pattern)) => {
            let range = IpRange::parse(pattern)?;
            LinePattern::Other(Arc::new(move |line| range.is_in(line)))
        }
        (_, LineOperand::Ip(_)) => return Err("ip: invalid operation: only |= and != take an address".to_owned()),
    })
}

/// A filter behind a stage that changes the line.
pub(super) struct LineFilterStage(pub(super) Vec<LineTest>);

impl Stage for LineFilterStage {
    fn process(&self, line: &mut Line<'_>) -> bool {
        self.0.iter().all(|test| test.holds(&line.text))
    }
}
