//! Rules whose expressions are PromQL: neither of the two crates beneath knows the other.
//!
//! [`results`] is how an expression's value becomes what a rule steps on; [`lint`] checks rule files; [`unit`] runs unit tests
//! of rules over series in [`memory`], with the engine and the alert states of live evaluation.
//! [`notation`] is how tests write series down. No sockets, no stores, no threads.

mod condition;
pub mod files;
pub mod lint;
pub mod memory;
pub mod notation;
pub mod unit;

pub use condition::{check, results};
