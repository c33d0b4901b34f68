//! Aggregations and arithmetic.

use super::Parser;
use super::log::compare_op;
use crate::ParseError;
use crate::ast::{
    Binary, BinaryOp, Expr, Group, Grouping, LabelReplace, LogExpr, Matching, MetricExpr, RANGE_OPS, RangeAggregation, RangeOp,
    VECTOR_OPS, VectorAggregation, VectorOp,
};
use crate::lexer::TokenKind;
use crate::units;
use br_std::re2::Mode;
use std::time::Duration;

/// Weakest first; `^` comes on top and is right-associative.
const POWER: usize = 5;

impl Parser<'_> {
    pub(super) fn expr(&mut self) -> Result<Expr, ParseError> {
        self.binary(0)
    }

    /// Operators of at least this precedence.
    fn binary(&mut self, precedence_min: usize) -> Result<Expr, ParseError> {
        let mut left = self.primary()?;
        loop {
            let start = self.start();
            let Some((op, precedence)) = self.binary_op() else { return Ok(left) };
            if precedence < precedence_min {
                return Ok(left);
            }
            self.count_node()?;
            self.advance();
            let returns_bool = self.take_word("bool");
            if returns_bool && !matches!(op, BinaryOp::Compare(_)) {
                return Err(self.error_since(start, "bool modifier can only be used on comparison operators"));
            }
            let matching = self.matching(op)?;
            let next_min = if precedence == POWER { precedence } else { precedence + 1 };
            let right = self.deeper(|parser| parser.binary(next_min))?;
            left = self.combine(start, op, left, right, returns_bool, matching)?;
        }
    }

    fn combine(
        &self,
        start: usize,
        op: BinaryOp,
        left: Expr,
        right: Expr,
        returns_bool: bool,
        matching: Matching,
    ) -> Result<Expr, ParseError> {
        let (Expr::Metric(left), Expr::Metric(right)) = (left, right) else {
            return Err(self.error_since(start, "unexpected type for a leg of a binary operation: a log query has no value"));
        };
        let is_set = matches!(op, BinaryOp::And | BinaryOp::Or | BinaryOp::Unless);
        for side in [&left, &right] {
            if is_set && matches!(side, MetricExpr::Literal(_)) {
                return Err(self.error_since(start, "unexpected literal for a leg of a logical/set binary operation"));
            }
        }
        Ok(Expr::Metric(MetricExpr::Binary(Box::new(Binary { op, left, right, returns_bool, matching }))))
    }

    fn binary_op(&self) -> Option<(BinaryOp, usize)> {
        Some(match self.peek() {
            TokenKind::Identifier(word) => match word.as_str() {
                "or" => (BinaryOp::Or, 0),
                "and" => (BinaryOp::And, 1),
                "unless" => (BinaryOp::Unless, 1),
                _ => return None,
            },
            TokenKind::Symbol(symbol) => match *symbol {
                "+" => (BinaryOp::Add, 3),
                "-" => (BinaryOp::Subtract, 3),
                "*" => (BinaryOp::Multiply, 4),
                "/" => (BinaryOp::Divide, 4),
                "%" => (BinaryOp::Modulo, 4),
                "^" => (BinaryOp::Power, POWER),
                "=" => return None,
                _ => (BinaryOp::Compare(compare_op(symbol)?), 2),
            },
            _ => return None,
        })
    }

    /// `on(a) group_left(b)`.
    fn matching(&mut self, op: BinaryOp) -> Result<Matching, ParseError> {
        let mut matching = Matching::default();
        let start = self.start();
        if self.is_word("on") || self.is_word("ignoring") {
            matching.on = self.take_word("on") || !self.take_word("ignoring");
            self.expect_symbol("(")?;
            matching.labels = self.names_until_close()?;
        }
        matching.group = match self.peek() {
            TokenKind::Identifier(word) if word == "group_left" => Group::Left,
            TokenKind::Identifier(word) if word == "group_right" => Group::Right,
            _ => return Ok(matching),
        };
        self.advance();
        if matches!(op, BinaryOp::And | BinaryOp::Or | BinaryOp::Unless) {
            return Err(self.error_since(start, "no grouping allowed for set operations"));
        }
        if self.take_symbol("(") {
            matching.include = self.names_until_close()?;
        }
        Ok(matching)
    }

    fn primary(&mut self) -> Result<Expr, ParseError> {
        let start = self.start();
        match self.peek().clone() {
            TokenKind::Symbol("{") => {
                let log = self.log_expr()?;
                self.check(&log)?;
                if let Some(stage) = log.stages.iter().find(|stage| matches!(stage.kind, crate::ast::StageKind::Unwrap(_))) {
                    return Err(self.error(stage.span.clone(), "unwrap is only allowed inside a range aggregation"));
                }
                Ok(Expr::Log(log))
            }
            TokenKind::Symbol("(") => self.parenthesised(),
            TokenKind::Symbol("+" | "-") | TokenKind::Quantity(_) => Ok(Expr::Metric(MetricExpr::Literal(self.number()?))),
            TokenKind::Identifier(word) => {
                if let Some((_, op)) = RANGE_OPS.into_iter().find(|(name, _)| *name == word) {
                    self.advance();
                    return Ok(Expr::Metric(MetricExpr::Range(self.range_aggregation(op, start)?)));
                }
                if let Some((name, op)) = VECTOR_OPS.into_iter().find(|(name, _)| *name == word) {
                    self.advance();
                    return Ok(Expr::Metric(self.vector_aggregation(name, op, start)?));
                }
                match word.as_str() {
                    "vector" => {
                        self.advance();
                        self.expect_symbol("(")?;
                        let value = self.number()?;
                        self.expect_symbol(")")?;
                        Ok(Expr::Metric(MetricExpr::Vector(value)))
                    }
                    "label_replace" => {
                        self.advance();
                        Ok(Expr::Metric(self.label_replace()?))
                    }
                    _ => Err(self.unexpected("a selector, a function or a number")),
                }
            }
            _ => Err(self.unexpected("a selector, a function or a number")),
        }
    }

    fn parenthesised(&mut self) -> Result<Expr, ParseError> {
        self.advance();
        let inner = self.deeper(Self::expr)?;
        self.expect_symbol(")")?;
        let Expr::Log(mut log) = inner else { return Ok(inner) };
        self.stages(&mut log.stages)?;
        self.check(&log)?;
        Ok(Expr::Log(log))
    }

    fn metric(&mut self) -> Result<MetricExpr, ParseError> {
        let start = self.start();
        match self.deeper(Self::expr)? {
            Expr::Metric(metric) => Ok(metric),
            Expr::Log(_) => Err(self.error_since(start, "syntax error: unexpected log query, expecting a metric query")),
        }
    }

    fn range_aggregation(&mut self, op: RangeOp, start: usize) -> Result<RangeAggregation, ParseError> {
        self.expect_symbol("(")?;
        let mut parameter = None;
        if op == RangeOp::QuantileOverTime {
            parameter = Some(self.number()?);
            self.expect_symbol(",")?;
        }
        let (log, range, offset_nanos) = self.log_range()?;
        self.expect_symbol(")")?;
        let grouping = self.grouping()?;
        let aggregation = RangeAggregation { op, parameter, log, range, offset_nanos, grouping, span: start..self.end() };
        self.check(&aggregation.log)?;
        if let Some(message) = misuse(&aggregation) {
            return Err(self.error(aggregation.span, message));
        }
        Ok(aggregation)
    }

    /// A log query with its window: `{…} | … [5m]` or `{…}[5m] | …`, in parentheses or not.
    fn log_range(&mut self) -> Result<(LogExpr, Duration, i64), ParseError> {
        let (log, window) = self.log_range_part()?;
        let Some((range, offset_nanos)) = window else { return Err(self.unexpected("RANGE")) };
        Ok((log, range, offset_nanos))
    }

    /// As [`Self::log_range`], where the window may still follow after a closing parenthesis.
    fn log_range_part(&mut self) -> Result<(LogExpr, Option<(Duration, i64)>), ParseError> {
        let (mut log, mut window) = if self.take_symbol("(") {
            let part = self.deeper(Self::log_range_part)?;
            self.expect_symbol(")")?;
            part
        } else {
            (LogExpr { matchers: self.selector()?, stages: Vec::new() }, None)
        };
        self.stages(&mut log.stages)?;
        if window.is_none() && self.is_symbol("[") {
            window = Some(self.window()?);
            self.stages(&mut log.stages)?;
        }
        Ok((log, window))
    }

    /// `[5m] offset 1m`.
    fn window(&mut self) -> Result<(Duration, i64), ParseError> {
        self.expect_symbol("[")?;
        let range = self.duration()?;
        self.expect_symbol("]")?;
        if range.is_zero() {
            return Err(self.error(self.token().span.clone(), "the window must be longer than zero"));
        }
        if !self.take_word("offset") {
            return Ok((range, 0));
        }
        let negative = self.take_symbol("-");
        let nanos = i64::try_from(self.duration()?.as_nanos()).unwrap_or(i64::MAX);
        Ok((range, if negative { -nanos } else { nanos }))
    }

    fn duration(&mut self) -> Result<Duration, ParseError> {
        let TokenKind::Quantity(text) = self.peek() else { return Err(self.unexpected("DURATION")) };
        let Some(duration) = units::query_duration(text) else {
            let message = format!("not a valid duration string: {text:?}");
            return Err(self.error(self.token().span.clone(), message));
        };
        self.advance();
        Ok(duration)
    }

    /// `by (a, b)`, `without (a)`.
    fn grouping(&mut self) -> Result<Option<Grouping>, ParseError> {
        if !self.is_word("by") && !self.is_word("without") {
            return Ok(None);
        }
        let without = self.take_word("without") || !self.take_word("by");
        self.expect_symbol("(")?;
        Ok(Some(Grouping { without, labels: self.names_until_close()? }))
    }

    fn vector_aggregation(&mut self, name: &str, op: VectorOp, start: usize) -> Result<MetricExpr, ParseError> {
        let mut grouping = self.grouping()?;
        self.expect_symbol("(")?;
        let takes_parameter = matches!(op, VectorOp::Topk | VectorOp::Bottomk | VectorOp::ApproxTopk);
        let mut parameter = None;
        if matches!((self.peek(), self.peek_after()), (TokenKind::Quantity(_), TokenKind::Symbol(","))) {
            let TokenKind::Quantity(text) = self.advance() else { return Err(self.unexpected("NUMBER")) };
            if !takes_parameter {
                return Err(self.error_since(start, format!("unsupported parameter for operation {name}({text},")));
            }
            let count = text.parse::<usize>().ok().filter(|count| *count > 0);
            parameter = Some(count.ok_or_else(|| {
                self.error_since(start, format!("invalid parameter {name}({text}, must be an integer greater than 0"))
            })?);
            self.advance();
        }
        if takes_parameter && parameter.is_none() {
            return Err(self.error_since(start, format!("parameter required for operation {name}")));
        }
        let inner = self.metric()?;
        self.expect_symbol(")")?;
        if grouping.is_none() {
            grouping = self.grouping()?;
        }
        if grouping.is_some() && matches!(op, VectorOp::Sort | VectorOp::SortDesc | VectorOp::ApproxTopk) {
            return Err(self.error_since(start, format!("grouping not allowed for {name} aggregation")));
        }
        Ok(MetricExpr::Aggregate(Box::new(VectorAggregation { op, parameter, inner, grouping })))
    }

    fn label_replace(&mut self) -> Result<MetricExpr, ParseError> {
        self.expect_symbol("(")?;
        let inner = self.metric()?;
        let mut strings = Vec::with_capacity(4);
        let mut pattern_span = 0..0;
        for _ in 0..4 {
            self.expect_symbol(",")?;
            pattern_span = self.token().span.clone();
            strings.push(self.string()?);
        }
        self.expect_symbol(")")?;
        let [destination, replacement, source, pattern] =
            <[String; 4]>::try_from(strings).map_err(|_| self.unexpected("four strings"))?;
        self.count_regex()?;
        let regex =
            crate::stages::bounded_regex(&pattern, Mode::WholeLine).map_err(|message| self.error(pattern_span, message))?;
        Ok(MetricExpr::LabelReplace(Box::new(LabelReplace { inner, destination, replacement, source, regex })))
    }
}

/// Combinations that make no sense, in Loki's words.
fn misuse(aggregation: &RangeAggregation) -> Option<String> {
    let (name, op) = RANGE_OPS.into_iter().find(|(_, op)| *op == aggregation.op)?;
    let unwrapped = aggregation.is_unwrapped();
    let lines_only = matches!(op, RangeOp::CountOverTime | RangeOp::BytesRate | RangeOp::BytesOverTime);
    let either = matches!(op, RangeOp::Rate | RangeOp::AbsentOverTime);
    if unwrapped && lines_only {
        return Some(format!("invalid aggregation {name} with unwrap"));
    }
    if !unwrapped && !lines_only && !either {
        return Some(format!("invalid aggregation {name} without unwrap"));
    }
    let groups = matches!(
        op,
        RangeOp::AvgOverTime
            | RangeOp::MinOverTime
            | RangeOp::MaxOverTime
            | RangeOp::FirstOverTime
            | RangeOp::LastOverTime
            | RangeOp::StdvarOverTime
            | RangeOp::StddevOverTime
            | RangeOp::QuantileOverTime
    );
    if aggregation.grouping.is_some() && !groups {
        return Some(format!("grouping not allowed for {name} aggregation"));
    }
    None
}
