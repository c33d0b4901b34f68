//! Tokens to an expression.
//!
//! Spansets, numbers and metrics share their operators; what an operator means follows from what stands beside it.

mod field;
mod metrics;

use crate::ast::{Aggregate, Expr, Metrics, Op, Pipeline, Relation, Root, Scalar, Spanset, SpansetOp, Stage, Static};
use crate::lexer::{Token, TokenKind, tokens};
use crate::{Fault, ParseError, validate};
use std::ops::Range;

/// Deeper nesting is refused, so that no query overflows the stack.
const DEPTH_MAX: usize = 48;

/// More operators in one query are refused, for the same reason.
const NODES_MAX: usize = 1000;

/// Reads and checks a query.
pub fn parse(text: &str) -> Result<Expr, ParseError> {
    let mut parser = Parser { text, tokens: tokens(text)?, at: 0, depth: 0, nodes: 0, unsupported: None };
    let root = match parser.pipeline()? {
        Node::Spanset(spanset) => Root::Search(Pipeline { stages: vec![Stage::Spanset(spanset)] }),
        Node::Pipeline(pipeline) => Root::Search(pipeline),
        Node::Filter(stage) => Root::Search(Pipeline { stages: vec![stage] }),
        Node::Metrics(metrics, _) => Root::Metrics(metrics),
        Node::Scalar(_) | Node::Value => return Err(parser.unexpected("a comparison")),
    };
    let hints = parser.hints()?;
    if *parser.peek() != TokenKind::End {
        return Err(parser.unexpected("the end"));
    }
    if let Some(error) = parser.unsupported {
        return Err(error);
    }
    let regexes = validate::check(text, &root)?;
    Ok(Expr { root, hints, regexes })
}

/// What a part of a query turns out to be.
enum Node {
    Spanset(Spanset),
    /// Ends in spansets.
    Pipeline(Pipeline),
    /// Ends in a number for each spanset, which nothing takes.
    Value,
    Scalar(Scalar),
    Filter(Stage),
    /// With parentheses around it or not.
    Metrics(Metrics, bool),
}

struct Parser<'a> {
    text: &'a str,
    /// Ends with [`TokenKind::End`].
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
    nodes: usize,
    /// Something that reads well and is not supported: told only when nothing is wrong with the text itself.
    unsupported: Option<ParseError>,
}

/// Binary operators by precedence, weakest first.
fn precedence(symbol: &str) -> Option<usize> {
    Some(match symbol {
        "&&" | "||" => 1,
        "=" | "!=" | "<" | "<=" | ">" | ">=" | "=~" | "!~" | ">>" | "<<" | "~" | "!>" | "!<" | "!>>" | "!<<" | "&>" | "&<"
        | "&>>" | "&<<" | "&~" => 2,
        "+" | "-" => 3,
        "*" | "/" | "%" => 4,
        "^" => 5,
        _ => return None,
    })
}

fn op_of(symbol: &str) -> Option<Op> {
    Some(match symbol {
        "||" => Op::Or,
        "&&" => Op::And,
        "=" => Op::Equal,
        "!=" => Op::NotEqual,
        "<" => Op::Less,
        "<=" => Op::LessEqual,
        ">" => Op::Greater,
        ">=" => Op::GreaterEqual,
        "=~" => Op::Regex,
        "!~" => Op::NotRegex,
        "+" => Op::Add,
        "-" => Op::Subtract,
        "*" => Op::Multiply,
        "/" => Op::Divide,
        "%" => Op::Modulo,
        "^" => Op::Power,
        _ => return None,
    })
}

fn spanset_op(symbol: &str) -> Option<SpansetOp> {
    let (negated, union, rest) = match symbol {
        "&&" => return Some(SpansetOp::And),
        "||" => return Some(SpansetOp::Or),
        _ if symbol.starts_with('!') => (true, false, &symbol[1..]),
        _ if symbol.starts_with('&') => (false, true, &symbol[1..]),
        _ => (false, false, symbol),
    };
    let relation = match rest {
        ">" => Relation::Child,
        "<" => Relation::Parent,
        ">>" => Relation::Descendant,
        "<<" => Relation::Ancestor,
        "~" => Relation::Sibling,
        _ => return None,
    };
    Some(SpansetOp::Structural { relation, negated, union })
}

const AGGREGATES: [(&str, Aggregate); 5] = [
    ("count", Aggregate::Count),
    ("avg", Aggregate::Avg),
    ("min", Aggregate::Min),
    ("max", Aggregate::Max),
    ("sum", Aggregate::Sum),
];

impl Parser<'_> {
    fn token(&self) -> &Token {
        &self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    fn peek(&self) -> &TokenKind {
        &self.token().kind
    }

    fn start(&self) -> usize {
        self.token().span.start
    }

    /// From `start` to the end of the token before this one.
    fn since(&self, start: usize) -> Range<usize> {
        let end = self.at.checked_sub(1).map_or(start, |at| self.tokens[at].span.end);
        start..end.max(start)
    }

    fn advance(&mut self) -> TokenKind {
        let kind = self.peek().clone();
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        kind
    }

    fn symbol(&self) -> &'static str {
        if let TokenKind::Symbol(symbol) = self.peek() { symbol } else { "" }
    }

    fn take(&mut self, symbol: &str) -> bool {
        let found = self.symbol() == symbol;
        if found {
            self.advance();
        }
        found
    }

    fn expect(&mut self, symbol: &str) -> Result<(), ParseError> {
        if self.take(symbol) { Ok(()) } else { Err(self.unexpected(symbol)) }
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), TokenKind::Word(found) if found == word)
    }

    fn take_word(&mut self, word: &str) -> bool {
        let found = self.is_word(word);
        if found {
            self.advance();
        }
        found
    }

    fn error(&self, fault: Fault, span: Range<usize>, message: impl Into<String>) -> ParseError {
        ParseError::new(self.text, fault, span, message)
    }

    fn unexpected(&self, expecting: &str) -> ParseError {
        let token = self.token();
        let found = if token.kind == TokenKind::End { "the end" } else { &self.text[token.span.clone()] };
        self.error(Fault::Syntax, token.span.clone(), format!("syntax error: unexpected {found}, expecting {expecting}"))
    }

    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, ParseError>) -> Result<T, ParseError> {
        self.nodes += 1;
        if self.depth >= DEPTH_MAX || self.nodes > NODES_MAX {
            let message = format!("nested more than {DEPTH_MAX} levels deep, or more than {NODES_MAX} operators");
            return Err(self.error(Fault::Syntax, self.token().span.clone(), message));
        }
        self.depth += 1;
        let result = read(self);
        self.depth -= 1;
        result
    }

    /// Stages between `|`, up to a closing parenthesis or the end.
    fn pipeline(&mut self) -> Result<Node, ParseError> {
        let first = self.stage(true)?;
        if self.symbol() != "|" {
            return Ok(first);
        }
        let mut pipeline = Pipeline::default();
        let mut metrics = self.append(&mut pipeline, first)?;
        while self.take("|") {
            if let Some(inner) = metrics {
                metrics = Some(self.second_stage(inner)?);
                continue;
            }
            if matches!(pipeline.stages.last(), Some(Stage::Value(_))) {
                return Err(self.unexpected("a comparison before the next stage"));
            }
            if let Some((function, span)) = self.metric_function()? {
                let first = Metrics::First { pipeline: std::mem::take(&mut pipeline), function, span };
                metrics = Some(self.metric_comparison(first)?);
                continue;
            }
            let stage = self.stage(false)?;
            metrics = self.append(&mut pipeline, stage)?;
        }
        if let Some(metrics) = metrics {
            return Ok(Node::Metrics(metrics, false));
        }
        Ok(if matches!(pipeline.stages.last(), Some(Stage::Value(_))) { Node::Value } else { Node::Pipeline(pipeline) })
    }

    /// Adds what was read to the pipeline; metrics are handed back.
    fn append(&self, pipeline: &mut Pipeline, node: Node) -> Result<Option<Metrics>, ParseError> {
        match node {
            Node::Spanset(spanset) => pipeline.stages.push(Stage::Spanset(spanset)),
            Node::Pipeline(inner) => pipeline.stages.extend(inner.stages),
            Node::Filter(stage) => pipeline.stages.push(stage),
            Node::Scalar(scalar) => pipeline.stages.push(Stage::Value(scalar)),
            Node::Metrics(metrics, _) if pipeline.stages.is_empty() => return Ok(Some(metrics)),
            Node::Metrics(..) | Node::Value => return Err(self.unexpected("a stage")),
        }
        Ok(None)
    }

    fn stage(&mut self, is_first: bool) -> Result<Node, ParseError> {
        let stage = if self.take_word("by") {
            self.expect("(")?;
            let field = self.field()?;
            self.expect(")")?;
            Stage::By(field)
        } else if !is_first && self.take_word("coalesce") {
            self.expect("(")?;
            self.expect(")")?;
            Stage::Coalesce
        } else if self.take_word("select") {
            self.expect("(")?;
            let mut fields = vec![self.attribute_field()?];
            while self.take(",") {
                fields.push(self.attribute_field()?);
            }
            self.expect(")")?;
            Stage::Select(fields)
        } else {
            return self.binary(0);
        };
        Ok(Node::Pipeline(Pipeline { stages: vec![stage] }))
    }

    /// Operators of at least this precedence.
    fn binary(&mut self, precedence_min: usize) -> Result<Node, ParseError> {
        let mut left = self.primary()?;
        loop {
            let symbol = self.symbol();
            let Some(found) = precedence(symbol).filter(|found| *found >= precedence_min) else { return Ok(left) };
            let start = self.start();
            self.advance();
            let next_min = if symbol == "^" { found } else { found + 1 };
            let right = self.deeper(|parser| parser.binary(next_min))?;
            left = self.combine(start, symbol, left, right)?;
        }
    }

    fn combine(&self, start: usize, symbol: &str, left: Node, right: Node) -> Result<Node, ParseError> {
        let span = self.since(start);
        let wrong = |fault| {
            let what = if fault == Fault::Unsupported {
                "not supported between pipelines that end in a number"
            } else {
                "does not fit what stands beside it"
            };
            self.error(fault, span.clone(), format!("operator {symbol} {what}"))
        };
        let op = op_of(symbol);
        match (left, right) {
            (Node::Scalar(left), Node::Scalar(right)) => match op {
                Some(op) if op.is_arithmetic() => Ok(Node::Scalar(Scalar::Binary { op, left: left.into(), right: right.into() })),
                Some(op) if op.is_comparison() && (has_aggregate(&left) || has_aggregate(&right)) => {
                    Ok(Node::Filter(Stage::Filter { op, left, right }))
                }
                _ => Err(wrong(Fault::Syntax)),
            },
            (Node::Value, Node::Value | Node::Scalar(_)) | (Node::Scalar(_), Node::Value) => match op {
                Some(op) if op.is_arithmetic() || op.is_comparison() => Err(wrong(Fault::Unsupported)),
                _ => Err(wrong(Fault::Syntax)),
            },
            (left @ (Node::Metrics(..) | Node::Scalar(_)), right @ (Node::Metrics(..) | Node::Scalar(_))) => {
                let op = op.ok_or_else(|| wrong(Fault::Syntax))?;
                metrics::combine(op, left, right).ok_or_else(|| wrong(Fault::Syntax))
            }
            (left, right) => {
                let (Some(op), Some(left), Some(right)) = (spanset_op(symbol), as_spanset(left), as_spanset(right)) else {
                    return Err(wrong(Fault::Syntax));
                };
                Ok(Node::Spanset(Spanset::Combine { op, left: left.into(), right: right.into() }))
            }
        }
    }

    fn primary(&mut self) -> Result<Node, ParseError> {
        let start = self.start();
        if self.take("(") {
            let inner = self.deeper(Self::pipeline)?;
            self.expect(")")?;
            return Ok(match inner {
                Node::Metrics(metrics, _) => Node::Metrics(metrics, true),
                inner => inner,
            });
        }
        if self.take("{") {
            let field = if self.symbol() == "}" {
                crate::ast::Field { kind: crate::ast::FieldKind::Static(Static::Bool(true)), span: self.token().span.clone() }
            } else {
                self.field()?
            };
            self.expect("}")?;
            return Ok(Node::Spanset(Spanset::Filter(field)));
        }
        if let Some(number) = self.static_number() {
            return Ok(Node::Scalar(Scalar::Static(number)));
        }
        if let TokenKind::Word(word) = self.peek()
            && let Some((_, op)) = AGGREGATES.into_iter().find(|(name, _)| name == word)
        {
            self.advance();
            self.expect("(")?;
            let field = if op == Aggregate::Count { None } else { Some(self.field()?) };
            self.expect(")")?;
            return Ok(Node::Scalar(Scalar::Aggregate { op, field, span: self.since(start) }));
        }
        Err(self.unexpected("a spanset, an aggregate or a number"))
    }

    /// A number or a duration with an optional sign.
    fn static_number(&mut self) -> Option<Static> {
        let negative = self.symbol() == "-";
        let at = self.at + usize::from(negative);
        let sign = if negative { -1 } else { 1 };
        let value = match self.tokens.get(at)?.kind {
            TokenKind::Int(number) => Static::Int(sign * number),
            TokenKind::Float(number) => Static::Float(sign as f64 * number),
            TokenKind::Duration(nanos) => Static::Duration(sign * nanos),
            _ => return None,
        };
        self.at = at + 1;
        Some(value)
    }

    /// `with (sample=0.1, most_recent=true)`.
    fn hints(&mut self) -> Result<Vec<(String, Static)>, ParseError> {
        let mut hints = Vec::new();
        if !self.take_word("with") {
            return Ok(hints);
        }
        self.expect("(")?;
        loop {
            let TokenKind::Word(name) = self.advance() else { return Err(self.unexpected("the name of a hint")) };
            self.expect("=")?;
            let value = match self.static_number() {
                Some(number) => number,
                None => match self.advance() {
                    TokenKind::Word(word) if word == "true" || word == "false" => Static::Bool(word == "true"),
                    TokenKind::String(text) => Static::String(text),
                    _ => return Err(self.unexpected("a value for the hint")),
                },
            };
            hints.push((name, value));
            if !self.take(",") {
                break;
            }
        }
        self.expect(")")?;
        Ok(hints)
    }
}

fn has_aggregate(scalar: &Scalar) -> bool {
    match scalar {
        Scalar::Static(_) => false,
        Scalar::Aggregate { .. } => true,
        Scalar::Binary { left, right, .. } => has_aggregate(left) || has_aggregate(right),
    }
}

fn as_spanset(node: Node) -> Option<Spanset> {
    match node {
        Node::Spanset(spanset) => Some(spanset),
        Node::Pipeline(pipeline) => Some(Spanset::Pipeline(pipeline)),
        _ => None,
    }
}
