//! A Pratt parser: each operand with its modifiers, then operators by precedence.

use super::ast::{AggregateOp, BinaryOp, Cardinality, Expr, ExprKind, Link, Matching, Type};
use super::check;
use super::lexer::{self, Token, TokenKind};
use super::span::{ParseError, ParseErrors, Span};
use crate::functions::signature;

/// How deep expressions may nest. Keeps recursion far from the end of a thread's stack.
pub(crate) const NESTING_MAX: u32 = 200;
/// Operators of one query: each is evaluated by itself, and `parse_query` tells of each.
const OPERATORS_MAX: u32 = 20_000;
/// The longest query that is read.
const QUERY_BYTES_MAX: usize = 1 << 20;

/// Parsing went wrong; what and where is in [`Parser::errors`].
#[derive(Debug)]
pub(crate) struct Failed;
pub(crate) type Fallible<T> = Result<T, Failed>;

pub(crate) struct Parser<'a> {
    pub(super) text: &'a str,
    tokens: Vec<Token>,
    at: usize,
    pub(super) errors: Vec<ParseError>,
    /// Inside `[…]`, where a duration may be a whole expression.
    pub(super) in_brackets: bool,
    /// How many levels the tree has that was read last: of an operand, an expression, a duration.
    pub(super) height: u32,
    operators: u32,
}

/// Reads a query and checks its types. All errors have positions.
pub fn parse(text: &str) -> Result<Expr, ParseErrors> {
    let start = Span { line: 1, column: 1, ..Span::default() };
    if text.len() > QUERY_BYTES_MAX {
        let message = format!("the query is longer than {QUERY_BYTES_MAX} bytes");
        return Err(ParseErrors(vec![ParseError { span: start, message }]));
    }
    let tokens = lexer::tokens(text).map_err(|error| ParseErrors(vec![error]))?;
    let mut parser = Parser { text, tokens, at: 0, errors: Vec::new(), in_brackets: false, height: 0, operators: 0 };
    match parser.query() {
        Ok(expr) if parser.errors.is_empty() => Ok(expr),
        _ => Err(ParseErrors(parser.errors)),
    }
}

impl Parser<'_> {
    fn query(&mut self) -> Fallible<Expr> {
        if *self.peek() == TokenKind::End {
            return self.fail("no expression found in input");
        }
        let expr = self.expr(0, 0)?;
        if *self.peek() != TokenKind::End {
            return self.unexpected("", "");
        }
        check::root(&expr, &mut self.errors);
        Ok(expr)
    }

    fn expr(&mut self, precedence_min: u8, depth: u32) -> Fallible<Expr> {
        if depth > NESTING_MAX {
            return self.fail(nested_too_deeply());
        }
        let first = self.unary(depth)?;
        let (mut links, mut height) = (Vec::new(), self.height);
        while let Some(op) = self.peek_binary_op() {
            if op.precedence() < precedence_min {
                break;
            }
            self.operators += 1;
            if self.operators > OPERATORS_MAX {
                return self.fail(format!(
                    "the expression has more than {OPERATORS_MAX} operators; use a regular expression or an aggregation"
                ));
            }
            self.advance();
            let (return_bool, matching) = self.binary_modifiers(op)?;
            let next_min = if op == BinaryOp::Pow { op.precedence() } else { op.precedence() + 1 };
            let rhs = self.expr(next_min, depth + 1)?;
            height = height.max(self.height);
            links.push(Link { op, return_bool, matching, rhs });
        }
        let Some(last) = links.last() else { return Ok(first) };
        self.rise(depth, height)?;
        let span = first.span.to(last.rhs.span);
        Ok(Expr { kind: ExprKind::Binary { first: Box::new(first), links }, span })
    }

    /// Takes note that a tree of this height is now below one more node, at this depth. The height of the whole is what counts:
    /// an operand may be higher than what was read to get to it.
    pub(super) fn rise(&mut self, depth: u32, height: u32) -> Fallible<()> {
        self.height = height + 1;
        if depth + self.height > NESTING_MAX {
            return self.fail(nested_too_deeply());
        }
        Ok(())
    }

    /// A sign binds tighter than `*` and looser than `^`.
    fn unary(&mut self, depth: u32) -> Fallible<Expr> {
        let TokenKind::Symbol(sign @ ("-" | "+")) = *self.peek() else {
            return self.operand(depth);
        };
        let start = self.span();
        self.advance();
        let inner = self.expr(BinaryOp::Pow.precedence(), depth + 1)?;
        let span = start.to(inner.span);
        let negative = sign == "-";
        if let ExprKind::Number { value, is_duration } = inner.kind {
            let value = if negative { -value } else { value };
            return Ok(Expr { kind: ExprKind::Number { value, is_duration }, span });
        }
        self.rise(depth, self.height)?;
        Ok(Expr { kind: ExprKind::Unary { negative, expr: Box::new(inner) }, span })
    }

    /// A value and the modifiers behind it.
    fn operand(&mut self, depth: u32) -> Fallible<Expr> {
        let span = self.span();
        self.height = 1;
        let expr = match self.peek().clone() {
            TokenKind::Number(value) => {
                self.advance();
                Expr { kind: ExprKind::Number { value, is_duration: false }, span }
            }
            TokenKind::Duration(millis) => {
                self.advance();
                Expr { kind: ExprKind::Number { value: millis as f64 / 1000.0, is_duration: true }, span }
            }
            TokenKind::String(value, is_utf8) => {
                self.advance();
                let raw = (!is_utf8).then(|| self.text[span.start as usize..span.end as usize].to_owned());
                Expr { kind: ExprKind::String { value, raw }, span }
            }
            TokenKind::Symbol("(") => {
                self.advance();
                let inner = self.expr(0, depth + 1)?;
                let end = self.expect(")", "paren expression")?;
                self.rise(depth, self.height)?;
                Expr { kind: ExprKind::Paren(Box::new(inner)), span: span.to(end) }
            }
            TokenKind::Symbol("{") => self.vector_selector(None)?,
            TokenKind::Identifier(word) => self.word(&word, depth)?,
            _ => return self.unexpected("", ""),
        };
        self.modifiers(expr, depth)
    }

    /// An aggregation, a call or a metric.
    fn word(&mut self, word: &str, depth: u32) -> Fallible<Expr> {
        let opens = |kind: &TokenKind| *kind == TokenKind::Symbol("(");
        if let Some(op) = AggregateOp::from_word(word) {
            let follows = self.peek_after();
            let is_clause = matches!(follows, TokenKind::Identifier(next) if is_word(next, "by") || is_word(next, "without"));
            if opens(follows) || is_clause {
                return self.aggregate(op, depth);
            }
        }
        if opens(self.peek_after()) {
            return self.call(word, depth);
        }
        self.vector_selector(Some(word.to_owned()))
    }

    fn aggregate(&mut self, op: AggregateOp, depth: u32) -> Fallible<Expr> {
        let start = self.span();
        self.advance();
        let mut clause = self.grouping_clause()?;
        let (mut arguments, mut end) = self.arguments("aggregation", depth)?;
        if clause.is_none() {
            clause = self.grouping_clause()?;
            end = self.tokens[self.at - 1].span;
        }
        let span = start.to(end);
        let expected = if op.takes_parameter() { 2 } else { 1 };
        if arguments.is_empty() {
            return self.fail_at(span, "no arguments for aggregate expression provided");
        }
        if arguments.len() != expected {
            let message = format!(
                "wrong number of arguments for aggregate expression provided, expected {expected}, got {}",
                arguments.len()
            );
            return self.fail_at(span, message);
        }
        let expr = arguments.pop().map(Box::new).ok_or(Failed)?;
        let parameter = arguments.pop().map(Box::new);
        let (grouping, without) = clause.unwrap_or_default();
        Ok(Expr { kind: ExprKind::Aggregate { op, parameter, expr, grouping, without }, span })
    }

    /// `by (…)` or `without (…)`: the labels, and whether they are those to drop.
    fn grouping_clause(&mut self) -> Fallible<Option<(Vec<String>, bool)>> {
        let TokenKind::Identifier(word) = self.peek() else { return Ok(None) };
        let without = is_word(word, "without");
        if !without && !is_word(word, "by") {
            return Ok(None);
        }
        self.advance();
        Ok(Some((self.label_list("grouping opts")?, without)))
    }

    fn call(&mut self, name: &str, depth: u32) -> Fallible<Expr> {
        let start = self.span();
        let Some(function) = signature::find(name) else {
            return self.fail(format!("unknown function with name {name:?}"));
        };
        self.advance();
        let (arguments, end) = self.arguments("function call", depth)?;
        Ok(Expr { kind: ExprKind::Call { function, arguments }, span: start.to(end) })
    }

    fn arguments(&mut self, context: &str, depth: u32) -> Fallible<(Vec<Expr>, Span)> {
        self.expect("(", context)?;
        let mut arguments = Vec::new();
        let mut height = 0;
        loop {
            if *self.peek() == TokenKind::Symbol(")") && arguments.is_empty() {
                break;
            }
            arguments.push(self.argument(depth)?);
            height = height.max(self.height);
            if *self.peek() != TokenKind::Symbol(",") {
                break;
            }
            self.advance();
            if *self.peek() == TokenKind::Symbol(")") {
                return self.fail("trailing commas not allowed in function call args");
            }
        }
        let end = self.expect(")", context)?;
        self.rise(depth, height)?;
        Ok((arguments, end))
    }

    fn argument(&mut self, depth: u32) -> Fallible<Expr> {
        let was_in_brackets = std::mem::replace(&mut self.in_brackets, false);
        let argument = self.expr(0, depth + 1);
        self.in_brackets = was_in_brackets;
        argument
    }

    fn peek_binary_op(&self) -> Option<BinaryOp> {
        match self.peek() {
            TokenKind::Symbol(symbol) => BinaryOp::from_text(symbol),
            TokenKind::Identifier(word) => BinaryOp::from_text(word),
            _ => None,
        }
    }

    /// `bool`, `on`, `ignoring`, `group_left`, `group_right` and the fills.
    fn binary_modifiers(&mut self, op: BinaryOp) -> Fallible<(bool, Matching)> {
        let mut matching = Matching::default();
        if op.is_set() {
            matching.cardinality = Cardinality::ManyToMany;
        }
        let return_bool = self.take_word("bool");
        if return_bool && !op.is_comparison() {
            return self.fail("bool modifier can only be used on comparison operators");
        }
        let on = self.take_word("on");
        if on || self.take_word("ignoring") {
            matching.on = on;
            matching.labels = self.label_list("grouping opts")?;
            self.group_modifier(op, &mut matching)?;
        }
        self.fill_modifiers(op, &mut matching)?;
        Ok((return_bool, matching))
    }

    fn group_modifier(&mut self, op: BinaryOp, matching: &mut Matching) -> Fallible<()> {
        let cardinality = match self.peek() {
            TokenKind::Identifier(word) if is_word(word, "group_left") => Cardinality::ManyToOne,
            TokenKind::Identifier(word) if is_word(word, "group_right") => Cardinality::OneToMany,
            _ => return Ok(()),
        };
        if op.is_set() {
            return self.fail(format!("no grouping allowed for {:?} operation", op.as_str()));
        }
        self.advance();
        matching.cardinality = cardinality;
        if *self.peek() == TokenKind::Symbol("(") {
            matching.include = self.label_list("grouping opts")?;
        }
        if matching.on
            && let Some(label) = matching.include.iter().find(|label| matching.labels.contains(label))
        {
            let message = format!("label {label:?} must not occur in ON and GROUP clause at once");
            return self.fail(message);
        }
        Ok(())
    }

    /// A `fill` needs its parenthesis: a metric may have that name.
    fn fill_modifiers(&mut self, op: BinaryOp, matching: &mut Matching) -> Fallible<()> {
        loop {
            let TokenKind::Identifier(word) = self.peek() else { return Ok(()) };
            let (left, right) = match word.to_ascii_lowercase().as_str() {
                "fill" => (true, true),
                "fill_left" => (true, false),
                "fill_right" => (false, true),
                _ => return Ok(()),
            };
            if *self.peek_after() != TokenKind::Symbol("(") {
                return Ok(());
            }
            if op.is_set() {
                return self.fail("filling in missing series not allowed for set operators");
            }
            self.advance();
            self.advance();
            let value = self.signed_number("fill modifier")?;
            self.expect(")", "fill modifier")?;
            if left {
                matching.fill.left = Some(value);
            }
            if right {
                matching.fill.right = Some(value);
            }
        }
    }

    /// A number with any signs in front.
    pub(super) fn signed_number(&mut self, context: &str) -> Fallible<f64> {
        let mut sign = 1.0;
        loop {
            match *self.peek() {
                TokenKind::Symbol("-") => sign = -sign,
                TokenKind::Symbol("+") => {}
                TokenKind::Number(value) => {
                    self.advance();
                    return Ok(sign * value);
                }
                TokenKind::Duration(millis) => {
                    self.advance();
                    return Ok(sign * millis as f64 / 1000.0);
                }
                _ => return self.unexpected(context, "number"),
            }
            self.advance();
        }
    }

    /// `(a, "b.c", d)`, where a comma may end the list.
    pub(super) fn label_list(&mut self, context: &str) -> Fallible<Vec<String>> {
        self.expect("(", context)?;
        let mut labels = Vec::new();
        loop {
            match self.peek().clone() {
                TokenKind::Symbol(")") => break,
                TokenKind::Identifier(word) if !word.contains(':') => labels.push(word),
                TokenKind::String(word, true) if !word.is_empty() => labels.push(word),
                TokenKind::Number(_) => {
                    let span = self.span();
                    labels.push(self.text[span.start as usize..span.end as usize].to_owned());
                }
                _ => return self.unexpected(context, "label"),
            }
            self.advance();
            match self.peek() {
                TokenKind::Symbol(",") => self.advance(),
                TokenKind::Symbol(")") => break,
                _ => return self.unexpected(context, "\",\" or \")\""),
            }
        }
        self.expect(")", context)?;
        Ok(labels)
    }

    pub(super) fn peek(&self) -> &TokenKind {
        &self.tokens[self.at].kind
    }

    pub(super) fn peek_after(&self) -> &TokenKind {
        let next = (self.at + 1).min(self.tokens.len() - 1);
        &self.tokens[next].kind
    }

    /// Stays on the last token, which is [`TokenKind::End`].
    pub(super) fn advance(&mut self) {
        self.at = (self.at + 1).min(self.tokens.len() - 1);
    }

    pub(super) fn span(&self) -> Span {
        self.tokens[self.at].span
    }

    /// Where the token before this one stands.
    pub(super) fn span_before(&self) -> Span {
        self.tokens[self.at.saturating_sub(1)].span
    }

    pub(super) fn take_word(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), TokenKind::Identifier(next) if is_word(next, word));
        if found {
            self.advance();
        }
        found
    }

    pub(super) fn expect(&mut self, symbol: &'static str, context: &str) -> Fallible<Span> {
        if *self.peek() != TokenKind::Symbol(symbol) {
            return self.unexpected(context, &format!("{symbol:?}"));
        }
        let span = self.span();
        self.advance();
        Ok(span)
    }

    pub(super) fn fail<T>(&mut self, message: impl Into<String>) -> Fallible<T> {
        let span = self.span();
        self.fail_at(span, message)
    }

    pub(super) fn fail_at<T>(&mut self, span: Span, message: impl Into<String>) -> Fallible<T> {
        self.errors.push(ParseError { span, message: message.into() });
        Err(Failed)
    }

    /// Complains about the token at hand.
    pub(super) fn unexpected<T>(&mut self, context: &str, expected: &str) -> Fallible<T> {
        let span = self.span();
        let what = match self.peek() {
            TokenKind::End => "end of input".to_owned(),
            TokenKind::Identifier(word) => format!("identifier {word:?}"),
            TokenKind::Number(_) => format!("number {:?}", &self.text[span.start as usize..span.end as usize]),
            TokenKind::Duration(_) => format!("duration {:?}", &self.text[span.start as usize..span.end as usize]),
            TokenKind::String(value, _) => format!("string {value:?}"),
            TokenKind::Symbol(symbol) => format!("{symbol:?}"),
        };
        let mut message = format!("unexpected {what}");
        if !context.is_empty() {
            message = format!("{message} in {context}");
        }
        if !expected.is_empty() {
            message = format!("{message}, expected {expected}");
        }
        self.fail_at(span, message)
    }

    /// A subquery needs an instant vector.
    pub(super) fn require_vector(&mut self, expr: &Expr) -> Fallible<()> {
        if expr.value_type() == Type::Vector {
            return Ok(());
        }
        let message = format!("subquery is only allowed on instant vector, got {} instead", expr.value_type().as_str());
        self.fail_at(expr.span, message)
    }
}

fn nested_too_deeply() -> String {
    format!("the expression is nested too deeply: operators, calls and parentheses within one another may be {NESTING_MAX}")
}

/// Keywords do not care for case.
pub(super) fn is_word(text: &str, keyword: &str) -> bool {
    text.eq_ignore_ascii_case(keyword)
}
