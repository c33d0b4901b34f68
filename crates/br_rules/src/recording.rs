//! Recording rules: the result of an expression under a name of its own.

use crate::file::{Group, Rule, RuleKind};
use crate::series::{ResultSample, RuleSample, SeriesTracker};
use crate::step::RuleError;
use br_model::labels::METRIC_NAME;
use std::collections::BTreeSet;

/// One recording rule and the series that it wrote last.
#[derive(Clone, Debug)]
pub struct Recording {
    record: String,
    /// Set on every sample; an empty value removes the label.
    labels: Vec<(String, String)>,
    limit: usize,
    series: SeriesTracker,
}

impl Recording {
    /// `None` for an alerting rule.
    pub fn new(group: &Group, rule: &Rule) -> Option<Self> {
        let RuleKind::Recording { record } = &rule.kind else { return None };
        let labels = rule.labels.iter().map(|label| (label.name.clone(), label.template.source().to_owned())).collect();
        Some(Self { record: record.clone(), labels, limit: group.limit, series: SeriesTracker::default() })
    }

    /// What to write for this result. On an error nothing is written and nothing marked stale, as in Prometheus.
    pub fn step(&mut self, samples: &[ResultSample]) -> Result<Vec<RuleSample>, RuleError> {
        if self.limit > 0 && samples.len() > self.limit {
            return Err(RuleError::OverLimit { limit: self.limit, count: samples.len() });
        }
        let mut seen = BTreeSet::new();
        let mut output = Vec::with_capacity(samples.len());
        for sample in samples {
            let mut labels = sample.labels.to_builder();
            labels.set(METRIC_NAME, &self.record);
            for (name, value) in &self.labels {
                labels.set(name, value);
            }
            let labels = labels.build();
            if !seen.insert(labels.clone()) {
                return Err(RuleError::DuplicateLabels { labels });
            }
            output.push(RuleSample { labels, value: sample.value.clone() });
        }
        Ok(self.series.step(output))
    }

    /// After a reload that kept the rule: series that it no longer writes are still marked stale.
    pub fn adopt(&mut self, previous: Self) {
        self.series = previous.series;
    }

    /// Markers for all its series: the rule is gone.
    pub fn end(self) -> Vec<RuleSample> {
        self.series.end()
    }
}
