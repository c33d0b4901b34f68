//! Runs conformance scripts and says what passed.

pub mod exposition;
pub mod grouping;
pub mod promql;
pub mod promtool;
pub mod redaction;
pub mod traces;
