//! Selectors and the modifiers behind an operand: ranges, subqueries, `offset`, `@`, `anchored`, `smoothed`.

use super::ast::{At, DurationExpr, Expr, ExprKind, Extension, VectorSelector};
use super::duration::QuerySpan;
use super::lexer::TokenKind;
use super::parser::{Failed, Fallible, Parser, is_word};
use super::span::{ParseError, Span};
use br_model::labels::METRIC_NAME;
use br_storage::{MatchOp, Matcher};

/// How many matchers one selector may have.
const MATCHERS_MAX: usize = 1000;

impl Parser<'_> {
    /// A metric's name, or braces, or both.
    pub(super) fn vector_selector(&mut self, name: Option<String>) -> Fallible<Expr> {
        let start = self.span();
        let mut span = start;
        let mut selector =
            VectorSelector { name: None, matchers: Vec::new(), offset: None, at: None, extension: Extension::None };
        if let Some(name) = name {
            self.advance();
            selector.matchers.push(Matcher::equal(METRIC_NAME, name.as_str()));
            selector.name = Some(name);
        }
        if *self.peek() == TokenKind::Symbol("{") {
            let end = self.matchers(&mut selector)?;
            span = start.to(end);
        }
        Ok(Expr { kind: ExprKind::Vector(selector), span })
    }

    fn matchers(&mut self, selector: &mut VectorSelector) -> Fallible<Span> {
        self.advance();
        loop {
            if *self.peek() == TokenKind::Symbol("}") {
                break;
            }
            self.matcher(selector)?;
            if selector.matchers.len() > MATCHERS_MAX {
                return self.fail(format!("a selector may have {MATCHERS_MAX} matchers"));
            }
            match self.peek() {
                TokenKind::Symbol(",") => self.advance(),
                TokenKind::Symbol("}") => break,
                _ => return self.unexpected("label matching", "\",\" or \"}\""),
            }
        }
        self.expect("}", "label matching")
    }

    /// `name="value"`, `"utf8 name"="value"`, or a quoted metric name alone.
    fn matcher(&mut self, selector: &mut VectorSelector) -> Fallible<()> {
        let span = self.span();
        let (name, is_quoted) = match self.peek().clone() {
            TokenKind::Identifier(word) if !word.contains(':') => (word, false),
            TokenKind::Number(_) => (self.text[span.start as usize..span.end as usize].to_owned(), false),
            TokenKind::String(word, true) => (word, true),
            _ => return self.unexpected("label matching", "identifier or \"}\""),
        };
        self.advance();
        let op = match self.peek() {
            TokenKind::Symbol("=") => MatchOp::Equal,
            TokenKind::Symbol("!=") => MatchOp::NotEqual,
            TokenKind::Symbol("=~") => MatchOp::Regex,
            TokenKind::Symbol("!~") => MatchOp::NotRegex,
            TokenKind::Symbol("," | "}") if is_quoted => return self.quoted_name(selector, name, span),
            _ => return self.unexpected("label matching", "label matching operator"),
        };
        self.advance();
        let TokenKind::String(value, true) = self.peek().clone() else {
            return self.unexpected("label matching", "string");
        };
        let value_span = self.span();
        self.advance();
        match Matcher::new(op, name, value) {
            Ok(matcher) => selector.matchers.push(matcher),
            Err(error) => return self.fail_at(value_span, error.message()),
        }
        Ok(())
    }

    fn quoted_name(&mut self, selector: &mut VectorSelector, name: String, span: Span) -> Fallible<()> {
        if let Some(first) = &selector.name {
            let message = format!("metric name must not be set twice: {first:?} or {name:?}");
            return self.fail_at(span, message);
        }
        selector.matchers.push(Matcher::equal(METRIC_NAME, name.as_str()));
        selector.name = Some(name);
        Ok(())
    }

    /// All that may stand behind an operand, in any order that makes sense.
    pub(super) fn modifiers(&mut self, mut expr: Expr, depth: u32) -> Fallible<Expr> {
        loop {
            match self.peek().clone() {
                TokenKind::Symbol("[") => expr = self.brackets(expr, depth)?,
                TokenKind::Symbol("@") => {
                    self.advance();
                    let at = self.at_time()?;
                    self.place_at(&mut expr, at)?;
                }
                TokenKind::Identifier(word) if is_word(&word, "offset") => {
                    self.advance();
                    let height = self.height;
                    let offset = self.duration_operand(depth)?;
                    self.rise(depth, self.height)?;
                    self.height = self.height.max(height);
                    self.place_offset(&mut expr, offset)?;
                }
                TokenKind::Identifier(word) if is_word(&word, "anchored") => self.extend(&mut expr, Extension::Anchored)?,
                TokenKind::Identifier(word) if is_word(&word, "smoothed") => self.extend(&mut expr, Extension::Smoothed)?,
                _ => return Ok(expr),
            }
            expr.span = expr.span.to(self.span_before());
        }
    }

    /// `[range]` or `[range:step]`.
    fn brackets(&mut self, expr: Expr, depth: u32) -> Fallible<Expr> {
        let open = self.span();
        let mut height = self.height;
        self.advance();
        let was_in_brackets = std::mem::replace(&mut self.in_brackets, true);
        let range = self.duration_expr(0, depth);
        height = height.max(self.height);
        let is_subquery = range.is_ok() && *self.peek() == TokenKind::Symbol(":");
        let mut step = None;
        if is_subquery {
            self.advance();
            if *self.peek() != TokenKind::Symbol("]") {
                step = Some(self.duration_expr(0, depth)?);
                height = height.max(self.height);
            }
        }
        self.in_brackets = was_in_brackets;
        let range = range?;
        let context = if is_subquery { "subquery selector" } else { "matrix selector" };
        let end = self.expect("]", context)?;
        self.rise(depth, height)?;
        self.require_positive(&range, open);
        let span = expr.span.to(end);
        if is_subquery {
            if let Some(step) = &step {
                self.require_positive(step, open);
            }
            self.require_vector(&expr)?;
            let kind = ExprKind::Subquery { expr: Box::new(expr), range, step, offset: None, at: None };
            return Ok(Expr { kind, span });
        }
        let ExprKind::Vector(selector) = &expr.kind else {
            return self.fail_at(open, "ranges only allowed for vector selectors");
        };
        if selector.offset.is_some() {
            return self.fail_at(open, "no offset modifiers allowed before range");
        }
        if selector.at.is_some() {
            return self.fail_at(open, "no @ modifiers allowed before range");
        }
        Ok(Expr { kind: ExprKind::Matrix { vector: Box::new(expr), range }, span })
    }

    fn require_positive(&mut self, duration: &DurationExpr, span: Span) {
        if !duration.is_constant() {
            return;
        }
        if let Err(error) = duration.positive_millis(QuerySpan::default()) {
            self.errors.push(ParseError { span, message: error.message().to_owned() });
        }
    }

    /// A timestamp in seconds, `start()` or `end()`.
    fn at_time(&mut self) -> Fallible<At> {
        if let TokenKind::Identifier(word) = self.peek() {
            let at = match word.to_ascii_lowercase().as_str() {
                "start" => At::Start,
                "end" => At::End,
                _ => return self.unexpected("@", "timestamp, start() or end()"),
            };
            self.advance();
            self.expect("(", "@")?;
            self.expect(")", "@")?;
            return Ok(at);
        }
        let span = self.span();
        let secs = self.signed_number("@")?;
        let millis = (secs * 1000.0).round();
        if !millis.is_finite() || millis.abs() >= 9.2e18 {
            return self.fail_at(span, format!("timestamp out of bounds for @ modifier: {secs}"));
        }
        Ok(At::Millis(millis as i64))
    }

    fn place_at(&mut self, expr: &mut Expr, at: At) -> Fallible<()> {
        let slot = match &mut expr.kind {
            ExprKind::Vector(selector) => &mut selector.at,
            ExprKind::Subquery { at, .. } => at,
            ExprKind::Matrix { vector, .. } => match &mut vector.kind {
                ExprKind::Vector(selector) => &mut selector.at,
                _ => return Err(Failed),
            },
            _ => {
                let message = "@ modifier must be preceded by an instant vector selector or range vector selector or a subquery";
                return self.fail_at(expr.span, message);
            }
        };
        if slot.replace(at).is_some() {
            return self.fail_at(expr.span, "@ <timestamp> may not be set multiple times");
        }
        Ok(())
    }

    fn place_offset(&mut self, expr: &mut Expr, offset: DurationExpr) -> Fallible<()> {
        let slot = match &mut expr.kind {
            ExprKind::Vector(selector) => &mut selector.offset,
            ExprKind::Subquery { offset, .. } => offset,
            ExprKind::Matrix { vector, .. } => match &mut vector.kind {
                ExprKind::Vector(selector) => &mut selector.offset,
                _ => return Err(Failed),
            },
            _ => {
                let message =
                    "offset modifier must be preceded by an instant vector selector or range vector selector or a subquery";
                return self.fail_at(expr.span, message);
            }
        };
        if slot.replace(offset).is_some() {
            return self.fail_at(expr.span, "offset may not be set multiple times");
        }
        Ok(())
    }

    fn extend(&mut self, expr: &mut Expr, extension: Extension) -> Fallible<()> {
        let word = if extension == Extension::Anchored { "anchored" } else { "smoothed" };
        let slot = match &mut expr.kind {
            ExprKind::Vector(selector) => &mut selector.extension,
            ExprKind::Matrix { vector, .. } => match &mut vector.kind {
                ExprKind::Vector(selector) => &mut selector.extension,
                _ => return Err(Failed),
            },
            ExprKind::Subquery { .. } => {
                return self.fail(format!("{word} modifier is not supported for subqueries"));
            }
            _ => return self.fail(format!("{word} modifier not implemented")),
        };
        if *slot != Extension::None {
            return self.fail("anchored and smoothed modifiers may be set once, and not together");
        }
        *slot = extension;
        self.advance();
        Ok(())
    }
}
