//! PromQL: parser with spans and evaluator over the storage seam.
//!
//! [`parse`] turns text into an [`Expr`] or into [`ParseErrors`] with positions; [`Engine`] evaluates it against a
//! [`br_storage::MetricSource`], at one instant or over a range. The language is that of the Prometheus documentation,
//! native histograms and the experimental parts included; the [`Options`] switch those off.

mod annotations;
mod engine;
mod functions;
pub mod histogram;
mod kahan;
mod number;
mod output;
mod syntax;

pub use annotations::{Annotation, Annotations};
pub use engine::{CommonParts, Engine, FEATURES, Options, SharedValues, SourceResolution, points_bytes};
pub use functions::signature::{Signature, signatures};
pub use number::{format_float, write_float};
pub use output::{Point, QueryOutput, RangeOutput, Series, Value, VectorSample};
pub use syntax::ast::{
    AggregateOp, At, BinaryOp, Cardinality, DurationExpr, DurationOp, Expr, ExprKind, Extension, Fill, Link, Matching, Type,
    VectorSelector,
};
pub use syntax::parser::parse;
pub use syntax::print::Pretty;
pub use syntax::span::{ParseError, ParseErrors, Span};
