//! One rule of either kind, with what it remembers from one evaluation to the next.

use crate::alert::{Alert, Alerting};
use crate::file::{Group, Rule, RuleKind};
use crate::recording::Recording;
use crate::series::ResultSample;
use crate::step::{Effect, Environment, Outcome};
use br_std::Nanos;

#[derive(Clone, Debug)]
pub enum RuleState {
    Alerting(Box<Alerting>),
    Recording(Recording),
}

impl RuleState {
    /// `file` and the group's name become part of the alerts' ids.
    pub fn new(file: &str, group: &Group, rule: &Rule) -> Option<Self> {
        match rule.kind {
            RuleKind::Alerting { .. } => Alerting::new(file, group, rule).map(Box::new).map(Self::Alerting),
            RuleKind::Recording { .. } => Recording::new(group, rule).map(Self::Recording),
        }
    }

    /// The expression yielded `samples` at `at`.
    pub fn step(&mut self, at: Nanos, samples: &[ResultSample], environment: &Environment<'_>) -> Outcome {
        match self {
            Self::Alerting(alerting) => alerting.step(at, samples, environment),
            Self::Recording(recording) => match recording.step(samples) {
                Ok(written) => Outcome { effects: written.into_iter().map(Effect::Write).collect(), error: None },
                Err(error) => Outcome { effects: Vec::new(), error: Some(error) },
            },
        }
    }

    /// In a stable order, the lately resolved among them; none of a recording rule.
    pub fn alerts(&self) -> Vec<&Alert> {
        match self {
            Self::Alerting(alerting) => alerting.alerts().collect(),
            Self::Recording(_) => Vec::new(),
        }
    }
}
