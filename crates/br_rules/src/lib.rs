//! Rules: files, groups, alert states and templates as pure steps.
//!
//! Time, results of expressions and earlier state are passed in, so that live evaluation, rule tests, backtests and drills
//! run the same code. This crate knows no query language and no store.

pub mod complaint;
pub mod file;
pub mod parse;
pub mod yaml;

pub mod schedule;

pub mod step;

pub mod alert;
pub mod recording;
pub mod restore;
pub mod series;
pub mod state;

pub mod template;

pub use alert::{Alert, Alerting, RESOLVED_RETENTION};
pub use complaint::{Complaint, Position, Severity};
pub use file::{Group, LabelTemplate, Parsed, Rule, RuleFile, RuleKind};
pub use parse::{CheckExpression, NameValidation, ParseOptions, parse, parse_with};
pub use recording::Recording;
pub use restore::{AlertSnapshot, RestoreOptions, restored_active_at};
pub use schedule::Schedule;
pub use series::{ResultSample, RuleSample};
pub use state::RuleState;
pub use step::{AlertState, Cause, Effect, Environment, Outcome, Query, RuleError, Transition};
pub use template::Template;
