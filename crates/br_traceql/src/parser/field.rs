//! What stands between braces.

use super::{Parser, op_of, precedence};
use crate::ast::{Attribute, Field, FieldKind, Intrinsic, Place, Static};
use crate::lexer::TokenKind;
use crate::{Fault, ParseError};
use br_model::{SpanKind, SpanStatus};

/// By their short name.
const SHORT: [(&str, Intrinsic); 11] = [
    ("duration", Intrinsic::Duration),
    ("name", Intrinsic::Name),
    ("status", Intrinsic::Status),
    ("statusMessage", Intrinsic::StatusMessage),
    ("kind", Intrinsic::Kind),
    ("rootName", Intrinsic::RootName),
    ("rootServiceName", Intrinsic::RootService),
    ("traceDuration", Intrinsic::TraceDuration),
    ("nestedSetLeft", Intrinsic::NestedSetLeft),
    ("nestedSetRight", Intrinsic::NestedSetRight),
    ("nestedSetParent", Intrinsic::NestedSetParent),
];

/// By scope and name.
const SCOPED: [(&str, &str, Intrinsic); 18] = [
    ("trace", "duration", Intrinsic::TraceDuration),
    ("trace", "rootName", Intrinsic::RootName),
    ("trace", "rootService", Intrinsic::RootService),
    ("trace", "id", Intrinsic::TraceId),
    ("span", "duration", Intrinsic::Duration),
    ("span", "name", Intrinsic::Name),
    ("span", "kind", Intrinsic::Kind),
    ("span", "status", Intrinsic::Status),
    ("span", "statusMessage", Intrinsic::StatusMessage),
    ("span", "id", Intrinsic::SpanId),
    ("span", "parentID", Intrinsic::ParentId),
    ("span", "childCount", Intrinsic::ChildCount),
    ("event", "name", Intrinsic::EventName),
    ("event", "timeSinceStart", Intrinsic::EventTimeSinceStart),
    ("link", "traceID", Intrinsic::LinkTraceId),
    ("link", "spanID", Intrinsic::LinkSpanId),
    ("instrumentation", "name", Intrinsic::InstrumentationName),
    ("instrumentation", "version", Intrinsic::InstrumentationVersion),
];

fn word_static(word: &str) -> Option<Static> {
    Some(match word {
        "true" => Static::Bool(true),
        "false" => Static::Bool(false),
        "nil" => Static::Nil,
        "minInt" => Static::Int(i64::MIN),
        "maxInt" => Static::Int(i64::MAX),
        "ok" => Static::Status(SpanStatus::Ok),
        "error" => Static::Status(SpanStatus::Error),
        "unset" => Static::Status(SpanStatus::Unset),
        "unspecified" => Static::Kind(SpanKind::Unspecified),
        "internal" => Static::Kind(SpanKind::Internal),
        "server" => Static::Kind(SpanKind::Server),
        "client" => Static::Kind(SpanKind::Client),
        "producer" => Static::Kind(SpanKind::Producer),
        "consumer" => Static::Kind(SpanKind::Consumer),
        _ => return None,
    })
}

impl Parser<'_> {
    pub(super) fn field(&mut self) -> Result<Field, ParseError> {
        self.deeper(|parser| parser.field_binary(0))
    }

    /// A place in a span, nothing computed.
    pub(super) fn attribute_field(&mut self) -> Result<Field, ParseError> {
        let start = self.start();
        let field = self.field_primary()?;
        if matches!(field.kind, FieldKind::Attribute(_)) {
            Ok(field)
        } else {
            Err(self.error(Fault::Syntax, self.since(start), "expected an attribute"))
        }
    }

    fn field_binary(&mut self, precedence_min: usize) -> Result<Field, ParseError> {
        let start = self.start();
        let mut left = self.field_primary()?;
        loop {
            let symbol = self.symbol();
            let Some(op) = op_of(symbol) else { return Ok(left) };
            let Some(found) = precedence(symbol).filter(|found| *found >= precedence_min) else { return Ok(left) };
            self.advance();
            let next_min = if symbol == "^" { found } else { found + 1 };
            let right = self.deeper(|parser| parser.field_binary(next_min))?;
            let kind = FieldKind::Binary { op, left: Box::new(left), right: Box::new(right) };
            left = Field { kind, span: self.since(start) };
        }
    }

    fn field_primary(&mut self) -> Result<Field, ParseError> {
        let start = self.start();
        let kind = match self.peek().clone() {
            TokenKind::Symbol("(") => {
                self.advance();
                let inner = self.field()?;
                self.expect(")")?;
                return Ok(inner);
            }
            TokenKind::Symbol("!") => {
                self.advance();
                FieldKind::Not(Box::new(self.deeper(Self::field_primary)?))
            }
            TokenKind::Symbol("-") => {
                self.advance();
                FieldKind::Negative(Box::new(self.deeper(Self::field_primary)?))
            }
            TokenKind::Attribute { scope, name } => FieldKind::Attribute(attribute(&scope, name)),
            TokenKind::Scoped { scope, name } => {
                let found = SCOPED.into_iter().find(|(of, called, _)| *of == scope && *called == name);
                let Some((_, _, intrinsic)) = found else { return Err(self.unexpected("an intrinsic such as span:duration")) };
                FieldKind::Attribute(Attribute { of_parent: false, place: Place::Intrinsic(intrinsic) })
            }
            TokenKind::String(text) => FieldKind::Static(Static::String(text)),
            TokenKind::Int(number) => FieldKind::Static(Static::Int(number)),
            TokenKind::Float(number) => FieldKind::Static(Static::Float(number)),
            TokenKind::Duration(nanos) => FieldKind::Static(Static::Duration(nanos)),
            TokenKind::Word(word) => {
                if word == "parent" {
                    let span = self.token().span.clone();
                    let message = "parent alone is not supported: name an attribute of it, such as parent.span.x";
                    let error = self.error(Fault::Unsupported, span, message);
                    self.unsupported.get_or_insert(error);
                    FieldKind::Static(Static::Nil)
                } else if let Some((_, intrinsic)) = SHORT.into_iter().find(|(name, _)| *name == word) {
                    FieldKind::Attribute(Attribute { of_parent: false, place: Place::Intrinsic(intrinsic) })
                } else if let Some(value) = word_static(&word) {
                    FieldKind::Static(value)
                } else {
                    return Err(self.unexpected("an attribute, an intrinsic or a value"));
                }
            }
            TokenKind::Symbol(_) | TokenKind::End => return Err(self.unexpected("an attribute, an intrinsic or a value")),
        };
        if matches!(kind, FieldKind::Attribute(_) | FieldKind::Static(_)) {
            self.advance();
        }
        Ok(Field { kind, span: self.since(start) })
    }
}

fn attribute(scope: &str, name: String) -> Attribute {
    let (of_parent, scope) = match scope {
        "parent" => (true, ""),
        _ => scope.strip_prefix("parent.").map_or((false, scope), |scope| (true, scope)),
    };
    let place = match scope {
        "span" => Place::Span(name),
        "resource" => Place::Resource(name),
        "event" => Place::Event(name),
        "link" => Place::Link(name),
        "instrumentation" => Place::Instrumentation(name),
        _ => match SHORT.into_iter().find(|(short, _)| of_parent && *short == name) {
            Some((_, intrinsic)) => Place::Intrinsic(intrinsic),
            None => Place::Any(name),
        },
    };
    Attribute { of_parent, place }
}
