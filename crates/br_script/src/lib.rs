//! Runs conformance scripts and says what passed.

pub mod promql;
