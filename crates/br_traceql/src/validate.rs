//! Does a query make sense? Types fit, regular expressions compile, aggregates look at spans.

use crate::ast::{Field, FieldKind, Intrinsic, MetricOp, Metrics, Op, Pipeline, Place, Root, Scalar, Spanset, Stage, Static};
use crate::value::{Regexes, regex};
use crate::{Fault, ParseError};
use std::ops::Range;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    /// An attribute: known only when it is seen.
    Any,
    Nil,
    Number,
    String,
    Bool,
    Status,
    Kind,
}

/// Regular expressions in one query: each is compiled while it is read.
const REGEXES_MAX: usize = 100;

impl Type {
    fn fits(self, other: Self) -> bool {
        self == other || self == Self::Any || other == Self::Any
    }
}

/// The compiled regular expressions, or the first thing that is wrong.
pub(crate) fn check(text: &str, root: &Root) -> Result<Regexes, ParseError> {
    let mut checker = Checker { text, regexes: Regexes::new() };
    match root {
        Root::Search(pipeline) => checker.pipeline(pipeline)?,
        Root::Metrics(metrics) => checker.metrics(metrics)?,
    }
    Ok(checker.regexes)
}

struct Checker<'a> {
    text: &'a str,
    regexes: Regexes,
}

impl Checker<'_> {
    fn wrong(&self, span: &Range<usize>, message: impl Into<String>) -> ParseError {
        ParseError::new(self.text, Fault::Invalid, span.clone(), message)
    }

    fn pipeline(&mut self, pipeline: &Pipeline) -> Result<(), ParseError> {
        for stage in &pipeline.stages {
            match stage {
                Stage::Spanset(spanset) => self.spanset(spanset)?,
                Stage::Filter { left, right, .. } => {
                    self.scalar(left)?;
                    self.scalar(right)?;
                }
                Stage::Value(scalar) => self.scalar(scalar)?,
                Stage::By(field) => {
                    self.field(field)?;
                    self.looks_at_span(field, "by")?;
                }
                Stage::Select(fields) => fields.iter().try_for_each(|field| self.field(field).map(drop))?,
                Stage::Coalesce => {}
            }
        }
        Ok(())
    }

    fn spanset(&mut self, spanset: &Spanset) -> Result<(), ParseError> {
        match spanset {
            Spanset::Filter(field) => {
                if self.field(field)?.fits(Type::Bool) {
                    return Ok(());
                }
                Err(self.wrong(&field.span, "a span filter must be true or false"))
            }
            Spanset::Combine { left, right, .. } => {
                self.spanset(left)?;
                self.spanset(right)
            }
            Spanset::Pipeline(pipeline) => self.pipeline(pipeline),
        }
    }

    fn scalar(&mut self, scalar: &Scalar) -> Result<(), ParseError> {
        match scalar {
            Scalar::Static(_) | Scalar::Aggregate { field: None, .. } => Ok(()),
            Scalar::Binary { left, right, .. } => {
                self.scalar(left)?;
                self.scalar(right)
            }
            Scalar::Aggregate { field: Some(field), span, .. } => {
                if !self.field(field)?.fits(Type::Number) {
                    return Err(self.wrong(span, "an aggregate needs a number"));
                }
                self.looks_at_span(field, "an aggregate")
            }
        }
    }

    fn looks_at_span(&self, field: &Field, what: &str) -> Result<(), ParseError> {
        if has_attribute(field) { Ok(()) } else { Err(self.wrong(&field.span, format!("{what} must look at the span"))) }
    }

    fn metrics(&mut self, metrics: &Metrics) -> Result<(), ParseError> {
        match metrics {
            Metrics::Number(_) => Ok(()),
            Metrics::First { pipeline, function, span } => {
                self.pipeline(pipeline)?;
                if let Some(field) = &function.field
                    && !self.field(field)?.fits(Type::Number)
                {
                    return Err(self.wrong(span, "a metric over time needs a number"));
                }
                for field in &function.by {
                    self.field(field)?;
                    self.looks_at_span(field, "by")?;
                }
                if let Some(quantile) =
                    function.quantiles.iter().find(|q| function.op == MetricOp::QuantileOverTime && !(0.0..=1.0).contains(*q))
                {
                    return Err(self.wrong(span, format!("quantile {quantile} is not between 0 and 1")));
                }
                function.selection.as_ref().map_or(Ok(()), |selection| self.spanset(selection))
            }
            Metrics::Top { inner, count, .. } => {
                if *count == 0 {
                    return Err(self.wrong(&(0..self.text.len()), "limit must be greater than 0"));
                }
                self.no_compare(inner)?;
                self.metrics(inner)
            }
            Metrics::Compare { inner, .. } => {
                self.no_compare(inner)?;
                self.metrics(inner)
            }
            Metrics::Math { left, right, .. } => {
                for side in [left, right] {
                    self.no_compare(side)?;
                    self.metrics(side)?;
                }
                Ok(())
            }
        }
    }

    /// `compare` answers with its own kind of series, which nothing can follow.
    fn no_compare(&self, metrics: &Metrics) -> Result<(), ParseError> {
        match metrics {
            Metrics::First { function, span, .. } if function.op == MetricOp::Compare => {
                Err(self.wrong(span, "nothing can follow compare()"))
            }
            _ => Ok(()),
        }
    }

    fn field(&mut self, field: &Field) -> Result<Type, ParseError> {
        Ok(match &field.kind {
            FieldKind::Static(value) => type_of(value),
            FieldKind::Attribute(attribute) => match attribute.place {
                Place::Intrinsic(intrinsic) => type_of_intrinsic(intrinsic),
                _ => Type::Any,
            },
            FieldKind::Not(inner) => {
                if !self.field(inner)?.fits(Type::Bool) {
                    return Err(self.wrong(&field.span, "! needs something true or false"));
                }
                Type::Bool
            }
            FieldKind::Negative(inner) => {
                if !self.field(inner)?.fits(Type::Number) {
                    return Err(self.wrong(&field.span, "- needs a number"));
                }
                Type::Number
            }
            FieldKind::Binary { op, left, right } => self.binary(field, *op, left, right)?,
        })
    }

    fn binary(&mut self, field: &Field, op: Op, left: &Field, right: &Field) -> Result<Type, ParseError> {
        let types = (self.field(left)?, self.field(right)?);
        let both = |wanted: Type| types.0.fits(wanted) && types.1.fits(wanted);
        if op.is_arithmetic() {
            return if both(Type::Number) {
                Ok(Type::Number)
            } else {
                Err(self.wrong(&field.span, "arithmetic needs numbers on both sides"))
            };
        }
        let fits = if op.is_logic() {
            both(Type::Bool)
        } else if matches!(op, Op::Regex | Op::NotRegex) {
            self.pattern(right)?;
            both(Type::String)
        } else if matches!(op, Op::Equal | Op::NotEqual) {
            self.existence(op, left, right)?;
            types.0.fits(types.1) || types.0 == Type::Nil || types.1 == Type::Nil
        } else {
            both(Type::Number) || both(Type::String)
        };
        if fits { Ok(Type::Bool) } else { Err(self.wrong(&field.span, format!("{op:?} cannot compare these types"))) }
    }

    fn pattern(&mut self, field: &Field) -> Result<(), ParseError> {
        let FieldKind::Static(Static::String(pattern)) = &field.kind else { return Ok(()) };
        if self.regexes.contains_key(pattern) {
            return Ok(());
        }
        if self.regexes.len() == REGEXES_MAX {
            let message = format!("more than {REGEXES_MAX} regular expressions: join some of them with |");
            return Err(self.wrong(&field.span, message));
        }
        let compiled = regex(pattern).map_err(|message| self.wrong(&field.span, message))?;
        self.regexes.insert(pattern.clone(), compiled);
        Ok(())
    }

    /// What every span has cannot be missing.
    fn existence(&self, op: Op, left: &Field, right: &Field) -> Result<(), ParseError> {
        if op != Op::Equal {
            return Ok(());
        }
        for (nil, other) in [(left, right), (right, left)] {
            let FieldKind::Attribute(attribute) = &other.kind else { continue };
            let always = match &attribute.place {
                Place::Intrinsic(_) => true,
                Place::Resource(name) => name == "service.name",
                _ => false,
            };
            if always && nil.kind == FieldKind::Static(Static::Nil) {
                return Err(self.wrong(&other.span, "this is never nil"));
            }
        }
        Ok(())
    }
}

fn type_of(value: &Static) -> Type {
    match value {
        Static::Nil => Type::Nil,
        Static::Int(_) | Static::Float(_) | Static::Duration(_) => Type::Number,
        Static::String(_) => Type::String,
        Static::Bool(_) => Type::Bool,
        Static::Status(_) => Type::Status,
        Static::Kind(_) => Type::Kind,
    }
}

fn type_of_intrinsic(intrinsic: Intrinsic) -> Type {
    match intrinsic {
        Intrinsic::Status => Type::Status,
        Intrinsic::Kind => Type::Kind,
        Intrinsic::Duration
        | Intrinsic::ChildCount
        | Intrinsic::NestedSetLeft
        | Intrinsic::NestedSetRight
        | Intrinsic::NestedSetParent
        | Intrinsic::TraceDuration
        | Intrinsic::EventTimeSinceStart => Type::Number,
        _ => Type::String,
    }
}

fn has_attribute(field: &Field) -> bool {
    match &field.kind {
        FieldKind::Static(_) => false,
        FieldKind::Attribute(_) => true,
        FieldKind::Not(inner) | FieldKind::Negative(inner) => has_attribute(inner),
        FieldKind::Binary { left, right, .. } => has_attribute(left) || has_attribute(right),
    }
}
