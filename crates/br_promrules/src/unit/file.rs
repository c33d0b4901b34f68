//! A file of unit tests.

use br_model::Labels;
use br_rules::Position;
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
pub struct TestFile {
    /// Patterns, taken from the file's own folder.
    pub rule_files: Vec<String>,
    pub evaluation_interval_ms: i64,
    /// Floats may differ in their last bit.
    pub fuzzy_compare: bool,
    /// Names of groups that are evaluated in this order.
    pub group_eval_order: Vec<String>,
    pub tests: Vec<Test>,
}

#[derive(Clone, Debug)]
pub struct Test {
    pub position: Position,
    pub name: Option<String>,
    /// Between the values of the input series.
    pub interval_ms: i64,
    /// Time begins here.
    pub start_ms: i64,
    pub input_series: Vec<InputSeries>,
    pub alerts: Vec<AlertCase>,
    pub expressions: Vec<ExpressionCase>,
    pub external_labels: Labels,
    pub external_url: String,
}

#[derive(Clone, Debug)]
pub struct InputSeries {
    pub position: Position,
    pub series: String,
    pub values: String,
}

/// Which alerts of one name fire at a time.
#[derive(Clone, Debug)]
pub struct AlertCase {
    pub position: Position,
    /// Since the start.
    pub eval_time_ms: i64,
    pub alertname: String,
    pub expected: Vec<ExpectedAlert>,
}

/// Texts as they are written: an empty one is not the same as none.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExpectedAlert {
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
}

/// What an expression yields at a time.
#[derive(Clone, Debug)]
pub struct ExpressionCase {
    pub position: Position,
    /// Since the start.
    pub eval_time_ms: i64,
    pub expression: String,
    pub expected: Vec<ExpectedSample>,
}

#[derive(Clone, Debug)]
pub struct ExpectedSample {
    pub labels: String,
    pub value: f64,
    /// `{{…}}`; empty for a float.
    pub histogram: String,
}

impl Test {
    /// The last time, since the start, at which something is expected.
    pub fn eval_time_max_ms(&self) -> i64 {
        let alerts = self.alerts.iter().map(|case| case.eval_time_ms);
        alerts.chain(self.expressions.iter().map(|case| case.eval_time_ms)).max().unwrap_or(0)
    }
}
