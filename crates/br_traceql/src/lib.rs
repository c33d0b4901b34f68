//! TraceQL: parser, search and metrics over the storage seam.
//!
//! [`parse`] turns text into an [`Expr`]; [`search`] finds traces, newest first; [`query_range`] computes series from spans.
//! Source of the behaviour: Grafana Tempo's documentation of TraceQL.

pub mod ast;
mod attribute;
mod error;
mod hints;
mod lexer;
mod links;
mod metrics;
mod parser;
pub mod script;
mod search;
mod spanset;
mod trace;
mod validate;
mod value;

pub use ast::Expr;
pub use error::{Fault, ParseError};
pub use hints::span_hints;
pub use links::{ServiceLink, service_links};
pub use metrics::{EXEMPLARS_MAX, Exemplar, MetricOptions, MetricSeries, query_range};
pub use parser::parse;
pub use search::{MatchedSpan, MatchedSpanset, Rank, SearchOptions, TraceMatch, add_parts_of, hints_of, may_match, search};
