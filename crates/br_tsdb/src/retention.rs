//! How long samples are kept, where that depends on the series.

use br_env::Clock;
use br_model::Labels;
use br_storage::Matcher;
use std::sync::Arc;
use std::time::Duration;

/// Series that satisfy all matchers are kept for so long.
#[derive(Clone, Debug)]
pub struct RetentionRule {
    pub matchers: Vec<Matcher>,
    pub keep: Duration,
}

/// Rules in order: of those that match a series the first one counts.
#[derive(Clone)]
pub struct RetentionRules {
    rules: Vec<RetentionRule>,
    clock: Arc<dyn Clock>,
}

impl RetentionRules {
    /// `rest` is for series that no rule matches.
    pub fn new(mut rules: Vec<RetentionRule>, rest: Duration, clock: Arc<dyn Clock>) -> Self {
        rules.push(RetentionRule { matchers: Vec::new(), keep: rest });
        Self { rules, clock }
    }

    pub(crate) fn now_ms(&self) -> i64 {
        self.clock.now().as_millis()
    }

    /// With their positions.
    pub(crate) fn rules(&self) -> impl Iterator<Item = (usize, &RetentionRule)> {
        self.rules.iter().enumerate()
    }

    /// Whether this is what holds for series that no rule names.
    pub(crate) fn is_rest(&self, rule: usize) -> bool {
        rule + 1 == self.rules.len()
    }

    /// The one that counts for a series.
    pub(crate) fn rule_of(&self, labels: &Labels) -> usize {
        let matches = |rule: &RetentionRule| rule.matchers.iter().all(|matcher| matcher.matches_labels(labels));
        self.rules.iter().position(matches).unwrap_or(self.rules.len().saturating_sub(1))
    }
}

impl RetentionRule {
    /// What lies before this is over.
    pub(crate) fn cutoff_ms(&self, now_ms: i64) -> i64 {
        now_ms.saturating_sub(i64::try_from(self.keep.as_millis()).unwrap_or(i64::MAX))
    }
}
