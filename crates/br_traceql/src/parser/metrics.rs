//! Metrics functions, what may follow them, and arithmetic between them.

use super::{Node, Parser, op_of};
use crate::ast::{MetricFunction, MetricOp, Metrics, Op, Scalar, Spanset, Static};
use crate::lexer::TokenKind;
use crate::{Fault, ParseError};
use std::ops::Range;

const FUNCTIONS: [(&str, MetricOp); 9] = [
    ("rate", MetricOp::Rate),
    ("count_over_time", MetricOp::CountOverTime),
    ("min_over_time", MetricOp::MinOverTime),
    ("max_over_time", MetricOp::MaxOverTime),
    ("avg_over_time", MetricOp::AvgOverTime),
    ("sum_over_time", MetricOp::SumOverTime),
    ("quantile_over_time", MetricOp::QuantileOverTime),
    ("histogram_over_time", MetricOp::HistogramOverTime),
    ("compare", MetricOp::Compare),
];

impl Parser<'_> {
    /// A metrics function when one comes.
    pub(super) fn metric_function(&mut self) -> Result<Option<(MetricFunction, Range<usize>)>, ParseError> {
        let start = self.start();
        let TokenKind::Word(word) = self.peek() else { return Ok(None) };
        let Some((_, op)) = FUNCTIONS.into_iter().find(|(name, _)| name == word) else { return Ok(None) };
        self.advance();
        self.expect("(")?;
        let mut function = MetricFunction { op, field: None, quantiles: Vec::new(), by: Vec::new(), selection: None };
        match op {
            MetricOp::Rate | MetricOp::CountOverTime => {}
            MetricOp::Compare => self.compare_arguments(&mut function)?,
            _ => {
                function.field = Some(self.field()?);
                while op == MetricOp::QuantileOverTime && self.take(",") {
                    function.quantiles.push(self.plain_number()?);
                }
                if op == MetricOp::QuantileOverTime && function.quantiles.is_empty() {
                    return Err(self.unexpected("a quantile such as .99"));
                }
            }
        }
        self.expect(")")?;
        if op != MetricOp::Compare && self.take_word("by") {
            self.expect("(")?;
            function.by.push(self.field()?);
            while self.take(",") {
                function.by.push(self.field()?);
            }
            self.expect(")")?;
        }
        Ok(Some((function, self.since(start))))
    }

    /// `{selection}, topN, start, end`.
    fn compare_arguments(&mut self, function: &mut MetricFunction) -> Result<(), ParseError> {
        match self.primary()? {
            Node::Spanset(selection @ Spanset::Filter(_)) => function.selection = Some(Box::new(selection)),
            _ => return Err(self.unexpected("a selection in braces")),
        }
        while self.take(",") {
            function.quantiles.push(self.plain_number()?);
        }
        Ok(())
    }

    fn plain_number(&mut self) -> Result<f64, ParseError> {
        match self.static_number() {
            Some(Static::Int(number)) => Ok(number as f64),
            Some(Static::Float(number)) => Ok(number),
            _ => Err(self.unexpected("a number")),
        }
    }

    /// `> 10` directly after a metrics stage.
    pub(super) fn metric_comparison(&mut self, inner: Metrics) -> Result<Metrics, ParseError> {
        let Some(op) = op_of(self.symbol()).filter(|op| op.is_comparison()) else { return Ok(inner) };
        self.advance();
        let value = self.static_number().as_ref().and_then(number).ok_or_else(|| self.unexpected("a number"))?;
        Ok(Metrics::Compare { inner: Box::new(inner), op, value })
    }

    /// `topk(5)` or `bottomk(5)`.
    pub(super) fn second_stage(&mut self, inner: Metrics) -> Result<Metrics, ParseError> {
        let start = self.start();
        let bottom = self.is_word("bottomk");
        if !bottom && !self.is_word("topk") {
            return Err(self.unexpected("topk or bottomk"));
        }
        self.advance();
        self.expect("(")?;
        let TokenKind::Int(count) = self.advance() else {
            return Err(self.error(Fault::Syntax, self.since(start), "syntax error: expecting a whole number"));
        };
        self.expect(")")?;
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        self.metric_comparison(Metrics::Top { inner: Box::new(inner), count, bottom })
    }
}

/// A duration counts in seconds, as series of durations do.
fn number(value: &Static) -> Option<f64> {
    match value {
        Static::Int(number) => Some(*number as f64),
        Static::Float(number) => Some(*number),
        Static::Duration(nanos) => Some(*nanos as f64 / 1e9),
        _ => None,
    }
}

/// Computed beforehand; durations do not take part in arithmetic.
fn folded(scalar: &Scalar) -> Option<f64> {
    match scalar {
        Scalar::Static(Static::Duration(_)) | Scalar::Aggregate { .. } => None,
        Scalar::Static(value) => number(value),
        Scalar::Binary { op, left, right } => crate::value::arithmetic(*op, folded(left)?, folded(right)?),
    }
}

/// `None` where the operator does not fit. Metrics must stand in parentheses.
pub(super) fn combine(op: Op, left: Node, right: Node) -> Option<Node> {
    if op.is_comparison() {
        let (Node::Metrics(inner, true), Node::Scalar(scalar)) = (left, right) else { return None };
        let value = if let Scalar::Static(value) = &scalar { number(value)? } else { folded(&scalar)? };
        return Some(Node::Metrics(Metrics::Compare { inner: Box::new(inner), op, value }, true));
    }
    if !matches!(op, Op::Add | Op::Subtract | Op::Multiply | Op::Divide) {
        return None;
    }
    let side = |node: Node| match node {
        Node::Metrics(metrics, true) => Some(metrics),
        Node::Scalar(scalar) => folded(&scalar).map(Metrics::Number),
        _ => None,
    };
    Some(Node::Metrics(Metrics::Math { op, left: Box::new(side(left)?), right: Box::new(side(right)?) }, true))
}
