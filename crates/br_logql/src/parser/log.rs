//! `{selector} | stage | stage`.

use super::Parser;
use crate::ParseError;
use crate::ast::{
    CompareOp, Conversion, Extraction, LabelChoice, LabelFilter, LabelFormat, LineFilter, LineOp, LineOperand, LogExpr, Quantity,
    Stage, StageKind, Unwrap,
};
use crate::lexer::TokenKind;
use crate::units;
use br_storage::{Budget, MatchOp, Matcher};

const LINE_OPS: [(&str, LineOp); 6] = [
    ("|=", LineOp::Contains),
    ("!=", LineOp::NotContains),
    ("|~", LineOp::Regex),
    ("!~", LineOp::NotRegex),
    ("|>", LineOp::Pattern),
    ("!>", LineOp::NotPattern),
];

/// A query may have this many stages.
const STAGES_MAX: usize = 256;

impl Parser<'_> {
    /// A selector with its stages.
    pub(super) fn log_expr(&mut self) -> Result<LogExpr, ParseError> {
        let mut log = LogExpr { matchers: self.selector()?, stages: Vec::new() };
        self.stages(&mut log.stages)?;
        Ok(log)
    }

    pub(super) fn selector(&mut self) -> Result<Vec<Matcher>, ParseError> {
        let start = self.start();
        self.expect_symbol("{")?;
        let mut matchers = Vec::new();
        while !self.take_symbol("}") {
            if !matchers.is_empty() {
                self.expect_symbol(",")?;
            }
            let name = self.identifier()?;
            let Some(op) = self.match_op() else { return Err(self.unexpected("= or != or =~ or !~")) };
            matchers.push(self.matcher(op, name)?);
        }
        if matchers.iter().all(Matcher::matches_empty) {
            return Err(self.error_since(
                start,
                "queries require at least one regexp or equality matcher that does not have an empty-compatible value. \
                 For instance, app=~\".*\" does not meet this requirement, but app=~\".+\" will",
            ));
        }
        Ok(matchers)
    }

    /// Takes a matching operator when one comes.
    fn match_op(&mut self) -> Option<MatchOp> {
        let TokenKind::Symbol(symbol) = self.peek() else { return None };
        let op =
            [MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex].into_iter().find(|op| op.as_str() == *symbol);
        if op.is_some() {
            self.advance();
        }
        op
    }

    fn matcher(&mut self, op: MatchOp, name: String) -> Result<Matcher, ParseError> {
        let start = self.start();
        if matches!(op, MatchOp::Regex | MatchOp::NotRegex) {
            self.count_regex()?;
        }
        let value = self.string()?;
        let matcher = Matcher::new(op, name, value).and_then(|matcher| {
            matcher.prepare(&Budget::unlimited())?;
            Ok(matcher)
        });
        matcher.map_err(|error| self.error_since(start, error.message().to_owned()))
    }

    pub(super) fn stages(&mut self, stages: &mut Vec<Stage>) -> Result<(), ParseError> {
        loop {
            let start = self.start();
            let kind = if let Some(filter) = self.line_filter()? {
                StageKind::LineFilter(filter)
            } else if self.take_symbol("|") {
                self.stage()?
            } else {
                return Ok(());
            };
            stages.push(Stage { kind, span: start..self.end() });
            if stages.len() > STAGES_MAX {
                return Err(self.error_since(start, format!("more than {STAGES_MAX} stages")));
            }
        }
    }

    fn line_filter(&mut self) -> Result<Option<LineFilter>, ParseError> {
        let TokenKind::Symbol(symbol) = self.peek() else { return Ok(None) };
        let Some((_, op)) = LINE_OPS.into_iter().find(|(text, _)| text == symbol) else { return Ok(None) };
        self.advance();
        let mut operands = Vec::new();
        loop {
            if matches!(op, LineOp::Regex | LineOp::NotRegex) {
                self.count_regex()?;
            }
            operands.push(self.line_operand()?);
            if !self.take_word("or") {
                break;
            }
        }
        Ok(Some(LineFilter { op, operands }))
    }

    fn line_operand(&mut self) -> Result<LineOperand, ParseError> {
        if self.is_word("ip") { Ok(LineOperand::Ip(self.ip()?)) } else { Ok(LineOperand::Text(self.string()?)) }
    }

    /// `ip("…")`.
    fn ip(&mut self) -> Result<String, ParseError> {
        self.advance();
        self.expect_symbol("(")?;
        let pattern = self.string()?;
        self.expect_symbol(")")?;
        Ok(pattern)
    }

    /// What follows a `|`.
    fn stage(&mut self) -> Result<StageKind, ParseError> {
        let TokenKind::Identifier(word) = self.peek() else { return Ok(StageKind::LabelFilter(self.label_filter()?)) };
        let word = word.clone();
        let is_filter = matches!(self.peek_after(), TokenKind::Symbol("=" | "==" | "!=" | "=~" | "!~" | ">" | ">=" | "<" | "<="));
        if is_filter {
            return Ok(StageKind::LabelFilter(self.label_filter()?));
        }
        let start = self.start();
        self.advance();
        Ok(match word.as_str() {
            "json" => StageKind::Json(self.extractions()?),
            "logfmt" => self.logfmt()?,
            "regexp" => {
                self.count_regex()?;
                StageKind::Regexp(self.string()?)
            }
            "pattern" => StageKind::Pattern(self.string()?),
            "unpack" => StageKind::Unpack,
            "line_format" => StageKind::LineFormat(self.string()?),
            "label_format" => StageKind::LabelFormat(self.label_formats()?),
            "decolorize" => StageKind::Decolorize,
            "drop" => StageKind::Drop(self.choices()?),
            "keep" => StageKind::Keep(self.choices()?),
            "unwrap" => StageKind::Unwrap(self.unwrap_stage()?),
            _ => {
                return Err(self.error_since(
                    start,
                    format!("syntax error: unexpected IDENTIFIER {word}, expecting a stage or a label filter"),
                ));
            }
        })
    }

    fn logfmt(&mut self) -> Result<StageKind, ParseError> {
        let (mut strict, mut keep_empty) = (false, false);
        while let TokenKind::Flag(flag) = self.peek() {
            match flag.as_str() {
                "strict" => strict = true,
                "keep-empty" => keep_empty = true,
                _ => return Err(self.unexpected("--strict or --keep-empty")),
            }
            self.advance();
        }
        Ok(StageKind::Logfmt { strict, keep_empty, extractions: self.extractions()? })
    }

    /// `a="x", b`; none is fine.
    fn extractions(&mut self) -> Result<Vec<Extraction>, ParseError> {
        let mut extractions = Vec::new();
        while matches!(self.peek(), TokenKind::Identifier(_)) {
            let name = self.identifier()?;
            let source = if self.take_symbol("=") { self.string()? } else { name.clone() };
            extractions.push(Extraction { name, source });
            if !self.take_symbol(",") {
                break;
            }
        }
        Ok(extractions)
    }

    fn label_formats(&mut self) -> Result<Vec<LabelFormat>, ParseError> {
        let mut formats: Vec<LabelFormat> = Vec::new();
        loop {
            let start = self.start();
            let to = self.identifier()?;
            self.expect_symbol("=")?;
            let taken = formats.iter().any(|format| match format {
                LabelFormat::Rename { to: other, .. } | LabelFormat::Template { to: other, .. } => *other == to,
            });
            if taken {
                return Err(
                    self.error_since(start, format!("multiple label name '{to}' not allowed in a single format operation"))
                );
            }
            formats.push(if let TokenKind::Identifier(from) = self.peek() {
                let from = from.clone();
                self.advance();
                LabelFormat::Rename { to, from }
            } else {
                LabelFormat::Template { to, template: self.string()? }
            });
            if !self.take_symbol(",") {
                return Ok(formats);
            }
        }
    }

    fn choices(&mut self) -> Result<Vec<LabelChoice>, ParseError> {
        let mut choices = Vec::new();
        loop {
            let name = self.identifier()?;
            choices.push(match self.match_op() {
                Some(op) => LabelChoice::Matching(self.matcher(op, name)?),
                None => LabelChoice::Name(name),
            });
            if !self.take_symbol(",") {
                return Ok(choices);
            }
        }
    }

    fn unwrap_stage(&mut self) -> Result<Unwrap, ParseError> {
        let start = self.start();
        let word = self.identifier()?;
        if !self.take_symbol("(") {
            return Ok(Unwrap { label: word, conversion: Conversion::Number });
        }
        let conversion = match word.as_str() {
            "duration" | "duration_seconds" => Conversion::Duration,
            "bytes" => Conversion::Bytes,
            _ => {
                return Err(self.error_since(
                    start,
                    format!("syntax error: unknown conversion {word}, expecting duration, duration_seconds or bytes"),
                ));
            }
        };
        let label = self.identifier()?;
        self.expect_symbol(")")?;
        Ok(Unwrap { label, conversion })
    }

    /// `or` binds weaker than `and`, a comma, or nothing between two filters.
    fn label_filter(&mut self) -> Result<LabelFilter, ParseError> {
        let mut left = self.label_filter_and()?;
        while self.take_word("or") {
            left = LabelFilter::Or(Box::new(left), Box::new(self.label_filter_and()?));
        }
        Ok(left)
    }

    fn label_filter_and(&mut self) -> Result<LabelFilter, ParseError> {
        let mut left = self.label_filter_one()?;
        loop {
            let explicit = self.take_word("and") || self.take_symbol(",");
            let starts_another = self.is_symbol("(") || (matches!(self.peek(), TokenKind::Identifier(_)) && !self.is_word("or"));
            if !explicit && (!starts_another || self.is_word("offset")) {
                return Ok(left);
            }
            left = LabelFilter::And(Box::new(left), Box::new(self.label_filter_one()?));
        }
    }

    fn label_filter_one(&mut self) -> Result<LabelFilter, ParseError> {
        self.count_node()?;
        if self.take_symbol("(") {
            let filter = self.deeper(Self::label_filter)?;
            self.expect_symbol(")")?;
            return Ok(filter);
        }
        let name = self.identifier()?;
        let TokenKind::Symbol(symbol) = *self.peek() else { return Err(self.unexpected("a comparison")) };
        let after = self.peek_after().clone();
        match (&after, symbol) {
            (TokenKind::String(_), "=" | "!=" | "=~" | "!~") => {
                let Some(op) = self.match_op() else { return Err(self.unexpected("a comparison")) };
                return Ok(LabelFilter::Text(self.matcher(op, name)?));
            }
            (TokenKind::Identifier(word), "=" | "!=") if word == "ip" => {
                self.advance();
                return Ok(LabelFilter::Ip { name, negated: symbol == "!=", pattern: self.ip()? });
            }
            _ => {}
        }
        let Some(op) = compare_op(symbol) else { return Err(self.unexpected("a comparison")) };
        self.advance();
        Ok(LabelFilter::Compare { name, op, value: self.quantity()? })
    }

    fn quantity(&mut self) -> Result<Quantity, ParseError> {
        let sign = if self.take_symbol("-") { -1.0 } else { 1.0 };
        let TokenKind::Quantity(text) = self.peek() else { return Err(self.unexpected("NUMBER, DURATION or BYTES")) };
        let value = if let Ok(number) = text.parse::<f64>() {
            Quantity::Number(sign * number)
        } else if let Some(duration) = units::query_duration(text) {
            Quantity::Duration(sign * duration.as_nanos() as f64)
        } else if let Some(bytes) = units::bytes(text) {
            Quantity::Bytes(sign * bytes)
        } else {
            return Err(self.unexpected("NUMBER, DURATION or BYTES"));
        };
        self.advance();
        Ok(value)
    }
}

pub(super) fn compare_op(symbol: &str) -> Option<CompareOp> {
    Some(match symbol {
        "=" | "==" => CompareOp::Equal,
        "!=" => CompareOp::NotEqual,
        ">" => CompareOp::Greater,
        ">=" => CompareOp::GreaterEqual,
        "<" => CompareOp::Less,
        "<=" => CompareOp::LessEqual,
        _ => return None,
    })
}
