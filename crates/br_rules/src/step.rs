//! What an evaluation is given and what it yields.

use crate::series::{ResultSample, RuleSample};
use br_model::Labels;
use br_std::Nanos;
use std::fmt;

/// Asked by the template function `query`: expression and time to result.
pub type Query<'a> = &'a dyn Fn(&str, Nanos) -> Result<Vec<ResultSample>, String>;

/// What templates may see besides the alert.
#[derive(Clone, Copy)]
pub struct Environment<'a> {
    pub external_labels: &'a Labels,
    /// Where people reach this server, such as `https://bellrock.example/`.
    pub external_url: &'a str,
    pub query: Query<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AlertState {
    Inactive,
    Pending,
    Firing,
}

impl AlertState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inactive => "inactive",
            Self::Pending => "pending",
            Self::Firing => "firing",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Inactive, Self::Pending, Self::Firing].into_iter().find(|state| state.as_str() == name)
    }
}

/// What the caller must do after an evaluation.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Append this sample at the time of the evaluation.
    Write(RuleSample),
    /// An alert changed its state: persist, notify.
    Changed(Transition),
}

/// One alert's step from one state to another.
#[derive(Clone, Debug, PartialEq)]
pub struct Transition {
    /// The alert's episode, see [`crate::Alert::id`].
    pub id: String,
    pub labels: Labels,
    pub from: AlertState,
    pub to: AlertState,
    pub at: Nanos,
    pub cause: Cause,
}

/// Why an alert changed its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The expression began or ceased to hold.
    Condition,
    /// The rule yielded more alerts than its limit; they were dropped, which says nothing about the condition.
    Limit,
    /// The rule's `for` was lengthened.
    Rule,
}

/// The outcome of one evaluation of one rule.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    pub effects: Vec<Effect>,
    /// The rule failed. Its alerts are as they were, except after [`RuleError::OverLimit`].
    pub error: Option<RuleError>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum RuleError {
    /// Two elements of the result have the same labels after those of the rule were set.
    DuplicateLabels {
        labels: Labels,
    },
    OverLimit {
        limit: usize,
        count: usize,
    },
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DuplicateLabels { labels } => {
                write!(f, "vector contains metrics with the same labelset after applying rule labels: {labels}")
            }
            Self::OverLimit { limit, count } => write!(f, "exceeded limit of {limit} with {count}"),
        }
    }
}

impl std::error::Error for RuleError {}
