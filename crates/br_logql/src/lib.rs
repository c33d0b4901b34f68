//! LogQL: parser, pipeline and metric evaluation over the storage seam.
//!
//! [`parse`] turns text into an [`Expr`]; [`query_log`], [`query_instant`] and [`query_range`] answer it from a
//! [`br_storage::LogSource`]; [`Pipeline`] runs the stages of a log query on single rows, for live tail.
//! Source of the behaviour: Grafana Loki's documentation of LogQL.

pub mod ast;
pub mod engine;
mod error;
mod fields;
mod hints;
mod ip;
mod labels;
mod lexer;
mod parser;
mod pattern;
pub mod pipeline;
mod print;
pub mod script;
mod stages;
mod template;
mod units;

pub use ast::{Expr, LogExpr, MetricExpr};
pub use engine::{LogEntry, LogOptions, LogResult, LogStream, MetricValue, Series, Stats, query_instant, query_log, query_range};
pub use error::ParseError;
pub use fields::{is_bytes, is_duration, logfmt_pairs};
pub use hints::log_hints;
pub use parser::parse;
pub use pipeline::{Pipeline, Processed};
pub use print::pretty;
