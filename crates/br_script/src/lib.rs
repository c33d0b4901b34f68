//! Runs conformance scripts and says what passed.

pub mod grouping;
pub mod promql;
