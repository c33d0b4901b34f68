//! How long samples are kept, where that depends on the series.

use crate::head::append::short;
use br_env::Clock;
use br_model::{Labels, MetricBatch};
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

    /// What is not older than this is in time by every rule.
    pub(crate) fn first_cutoff_ms(&self, now_ms: i64) -> i64 {
        self.rules.iter().map(|rule| rule.cutoff_ms(now_ms)).max().unwrap_or(i64::MIN)
    }

    /// Takes out the samples whose time is over by the rule of their series. Says how many, with one of them in words.
    pub(crate) fn take_out(&self, batch: &mut MetricBatch, now_ms: i64) -> (u64, String) {
        let (mut count, mut example) = (0, String::new());
        for series in &mut batch.series {
            let Some(rule) = self.rules.get(self.rule_of(&series.labels)) else { continue };
            let cutoff_ms = rule.cutoff_ms(now_ms);
            let Some(first) = series.samples.iter().find(|sample| sample.timestamp_ms < cutoff_ms) else { continue };
            if count == 0 {
                let (labels, keep) = (short(&series.labels), br_std::duration::format(rule.keep));
                let at_ms = first.timestamp_ms;
                example =
                    format!("{labels}: the sample at {at_ms} ms is older than the {keep} for which its retention rule keeps it");
            }
            let before = series.samples.len();
            series.samples.retain(|sample| sample.timestamp_ms >= cutoff_ms);
            count += (before - series.samples.len()) as u64;
        }
        (count, example)
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
