//! Durations in brackets and after `offset`: their grammar and their value.

use super::ast::{DurationExpr, DurationOp};
use super::lexer::TokenKind;
use super::parser::{Fallible, NESTING_MAX, Parser};
use br_std::{Error, Result};

/// What `step()` and `range()` stand for, in seconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct QuerySpan {
    pub(crate) step_secs: f64,
    pub(crate) range_secs: f64,
}

/// Bounds that keep milliseconds far from overflow.
const DURATION_SECS_MAX: f64 = 9.2e15 / 1000.0;

impl DurationExpr {
    /// The duration in milliseconds; an error when it is out of range or divides by zero.
    pub(crate) fn millis(&self, span: QuerySpan) -> Result<i64> {
        let secs = self.secs(span)?;
        if !secs.is_finite() || secs.abs() > DURATION_SECS_MAX {
            return Err(Error::fix_request("duration out of range"));
        }
        Ok((secs * 1000.0).round() as i64)
    }

    /// The same where it must be above zero, as in a range.
    pub(crate) fn positive_millis(&self, span: QuerySpan) -> Result<i64> {
        let millis = self.millis(span)?;
        if millis <= 0 {
            return Err(Error::fix_request("duration must be greater than 0"));
        }
        Ok(millis)
    }

    fn secs(&self, span: QuerySpan) -> Result<f64> {
        Ok(match self {
            Self::Seconds { value, .. } => *value,
            Self::Step => span.step_secs,
            Self::Range => span.range_secs,
            Self::Negative(inner) => -inner.secs(span)?,
            Self::Positive(inner) | Self::Paren(inner) => inner.secs(span)?,
            Self::Binary { op, lhs, rhs } => {
                let (lhs, rhs) = (lhs.secs(span)?, rhs.secs(span)?);
                match op {
                    DurationOp::Add => lhs + rhs,
                    DurationOp::Sub => lhs - rhs,
                    DurationOp::Mul => lhs * rhs,
                    DurationOp::Div if rhs == 0.0 => return Err(Error::fix_request("division by zero")),
                    DurationOp::Div => lhs / rhs,
                    DurationOp::Mod if rhs == 0.0 => return Err(Error::fix_request("modulo by zero")),
                    DurationOp::Mod => lhs % rhs,
                    DurationOp::Pow => lhs.powf(rhs),
                    DurationOp::Min => lhs.min(rhs),
                    DurationOp::Max => lhs.max(rhs),
                }
            }
        })
    }

    /// Whether the value is known without the query's step and range.
    pub(crate) fn is_constant(&self) -> bool {
        match self {
            Self::Seconds { .. } => true,
            Self::Step | Self::Range => false,
            Self::Negative(inner) | Self::Positive(inner) | Self::Paren(inner) => inner.is_constant(),
            Self::Binary { lhs, rhs, .. } => lhs.is_constant() && rhs.is_constant(),
        }
    }
}

impl Parser<'_> {
    /// A whole expression, as it may stand in brackets.
    pub(super) fn duration_expr(&mut self, precedence_min: u8, depth: u32) -> Fallible<DurationExpr> {
        if depth > NESTING_MAX {
            return self.fail("the duration is nested too deeply");
        }
        let mut lhs = self.duration_operand(depth)?;
        while let Some((op, precedence)) = self.peek_duration_op() {
            if precedence < precedence_min {
                break;
            }
            let height = self.height;
            if depth + height >= NESTING_MAX {
                return self.fail("the duration has too many operators");
            }
            self.advance();
            let next_min = if op == DurationOp::Pow { precedence } else { precedence + 1 };
            let rhs = self.duration_expr(next_min, depth + 1)?;
            self.rise(depth, height.max(self.height))?;
            lhs = DurationExpr::Binary { op, lhs: Box::new(lhs), rhs: Box::new(rhs) };
        }
        Ok(lhs)
    }

    /// One operand, as it may stand after `offset` without parentheses around it.
    pub(super) fn duration_operand(&mut self, depth: u32) -> Fallible<DurationExpr> {
        if depth > NESTING_MAX {
            return self.fail("the duration is nested too deeply");
        }
        self.height = 1;
        match self.peek().clone() {
            TokenKind::Number(value) => {
                self.advance();
                Ok(DurationExpr::Seconds { value, is_duration: false })
            }
            TokenKind::Duration(millis) => {
                self.advance();
                Ok(DurationExpr::Seconds { value: millis as f64 / 1000.0, is_duration: true })
            }
            TokenKind::Symbol("-") => {
                self.advance();
                let inner = self.signed_duration(depth)?;
                Ok(DurationExpr::Negative(Box::new(inner)))
            }
            TokenKind::Symbol("+") => {
                self.advance();
                let inner = self.signed_duration(depth)?;
                Ok(DurationExpr::Positive(Box::new(inner)))
            }
            TokenKind::Symbol("(") => {
                self.advance();
                let was_in_brackets = std::mem::replace(&mut self.in_brackets, true);
                let inner = self.duration_expr(0, depth + 1);
                self.in_brackets = was_in_brackets;
                let inner = inner?;
                self.expect(")", "duration expression")?;
                self.rise(depth, self.height)?;
                Ok(DurationExpr::Paren(Box::new(inner)))
            }
            TokenKind::Identifier(word) => self.duration_function(&word, depth),
            _ => self.unexpected("duration expression", "number, duration, step(), or range()"),
        }
    }

    /// After a sign: in brackets `^` binds tighter than the sign, after `offset` nothing but the operand belongs to it.
    fn signed_duration(&mut self, depth: u32) -> Fallible<DurationExpr> {
        let inner = if self.in_brackets { self.duration_expr(POWER, depth + 1) } else { self.duration_operand(depth + 1) }?;
        self.rise(depth, self.height)?;
        Ok(inner)
    }

    fn duration_function(&mut self, word: &str, depth: u32) -> Fallible<DurationExpr> {
        let name = word.to_ascii_lowercase();
        let op = match name.as_str() {
            "step" | "range" => None,
            "min_of" | "min" => Some(DurationOp::Min),
            "max_of" | "max" => Some(DurationOp::Max),
            _ => return self.unexpected("duration expression", "number, duration, step(), or range()"),
        };
        self.advance();
        self.expect("(", "duration expression")?;
        let Some(op) = op else {
            self.expect(")", "duration expression")?;
            return Ok(if name == "step" { DurationExpr::Step } else { DurationExpr::Range });
        };
        let lhs = self.duration_expr(0, depth + 1)?;
        let height = self.height;
        self.expect(",", "duration expression")?;
        let rhs = self.duration_expr(0, depth + 1)?;
        self.expect(")", "duration expression")?;
        self.rise(depth, height.max(self.height))?;
        Ok(DurationExpr::Binary { op, lhs: Box::new(lhs), rhs: Box::new(rhs) })
    }

    fn peek_duration_op(&self) -> Option<(DurationOp, u8)> {
        let TokenKind::Symbol(symbol) = self.peek() else { return None };
        Some(match *symbol {
            "+" => (DurationOp::Add, 1),
            "-" => (DurationOp::Sub, 1),
            "*" => (DurationOp::Mul, 2),
            "/" => (DurationOp::Div, 2),
            "%" => (DurationOp::Mod, 2),
            "^" => (DurationOp::Pow, POWER),
            _ => return None,
        })
    }
}

const POWER: u8 = 3;
