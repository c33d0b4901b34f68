//! Unit tests of rules, in promtool's format.
//!
//! Source: the Prometheus documentation, "Unit testing for rules". Each test has its own empty store; time passes in steps of
//! the evaluation interval, and at each the input series grow up to it and all groups are evaluated in order, as live.

mod compare;
mod file;
mod read;
mod run;

pub use file::{AlertCase, ExpectedAlert, ExpectedSample, ExpressionCase, InputSeries, Test, TestFile};
pub use read::read;
pub use run::{Options, run};

use br_rules::{Complaint, Position};

/// What came of one file.
#[derive(Clone, Debug, Default)]
pub struct FileReport {
    /// Such as a pattern that names no rule file.
    pub warnings: Vec<String>,
    /// The file itself cannot be used.
    pub complaints: Vec<Complaint>,
    pub tests: Vec<TestReport>,
}

/// What came of one test.
#[derive(Clone, Debug)]
pub struct TestReport {
    /// Its own, or `unnamed#` and its place in the file.
    pub name: String,
    pub position: Position,
    pub failures: Vec<Failure>,
    /// All series at the end, one a line, where they were asked for.
    pub dump: Vec<String>,
}

/// Something is not as the test says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// In the test file.
    pub position: Position,
    pub message: String,
    /// What was expected and what was found, in lines.
    pub difference: Option<(Vec<String>, Vec<String>)>,
}

impl FileReport {
    pub fn has_passed(&self) -> bool {
        self.complaints.is_empty() && self.tests.iter().all(|test| test.failures.is_empty())
    }
}
