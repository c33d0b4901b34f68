//! One group of rules as it runs: its schedule and the states of its rules.

use super::views::{GroupView, RuleHealth, RuleView};
use super::{Evaluator, GroupEvaluator};
use br_model::TenantId;
use br_route::GroupKey;
use br_rules::{Alert, AlertSnapshot, Group, Outcome, Rule, RuleSample, RuleState, Schedule};
use br_std::Nanos;
use parking_lot::RwLock;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

/// The place of one group in the engine.
pub(super) struct GroupSlot {
    pub(super) schedule: Schedule,
    /// Held while the group is evaluated.
    pub(super) runtime: Mutex<GroupRuntime>,
    /// What is shown; replaced after each evaluation, so that readers never wait for one.
    view: RwLock<Arc<GroupView>>,
}

impl GroupSlot {
    pub(super) fn new(group: GroupRuntime) -> Self {
        let schedule = Schedule::new(&group.file, &group.group.name, group.interval);
        let view = RwLock::new(Arc::new(group.view()));
        Self { schedule, runtime: Mutex::new(group), view }
    }

    pub(super) fn show(&self, group: &GroupRuntime) {
        *self.view.write() = Arc::new(group.view());
    }

    pub(super) fn view(&self) -> Arc<GroupView> {
        self.view.read().clone()
    }
}

pub(super) struct RuleRuntime {
    pub(super) rule: Rule,
    pub(super) state: RuleState,
    /// Under which key its alerts are kept.
    pub(super) state_key: String,
    /// What was kept last, to write only what changed.
    pub(super) kept: Vec<Durable>,
    pub(super) health: RuleHealth,
    pub(super) last_evaluation: Option<Nanos>,
    pub(super) evaluation_time: Duration,
}

/// The part of an alert that must survive; value and annotations come again with the next evaluation.
pub(super) type Durable = (String, &'static str, Option<Nanos>, Option<Nanos>, Option<Nanos>, Option<Nanos>);

pub(super) struct GroupRuntime {
    pub(super) file: String,
    pub(super) group: Group,
    pub(super) interval: Duration,
    pub(super) rules: Vec<RuleRuntime>,
    pub(super) evaluator: Arc<dyn GroupEvaluator>,
    pub(super) last_evaluation: Option<Nanos>,
    pub(super) evaluation_time: Duration,
}

impl GroupRuntime {
    pub(super) fn new(
        tenant: TenantId,
        file: &str,
        group: Group,
        default_interval: Duration,
        evaluator: Arc<dyn Evaluator>,
    ) -> Self {
        let interval = group.interval.unwrap_or(default_interval);
        let rules: Vec<RuleRuntime> =
            group.rules.iter().filter_map(|rule| RuleRuntime::new(tenant.0, file, &group, rule)).collect();
        let running: Vec<&Rule> = rules.iter().map(|running| &running.rule).collect();
        let evaluator = evaluator.group(tenant, &running);
        let (file, evaluation_time) = (file.to_owned(), Duration::ZERO);
        Self { file, group, interval, rules, evaluator, last_evaluation: None, evaluation_time }
    }

    pub(super) fn view(&self) -> GroupView {
        GroupView {
            file: self.file.clone(),
            name: self.group.name.clone(),
            interval: self.interval,
            limit: self.group.limit,
            last_evaluation: self.last_evaluation,
            evaluation_time: self.evaluation_time,
            rules: self.rules.iter().map(RuleRuntime::view).collect(),
        }
    }
}

impl RuleRuntime {
    /// Under which its alerts are told to receivers.
    pub(super) fn key_in(&self, file: &str, group: &str) -> GroupKey {
        GroupKey { rule_file: file.to_owned(), rule_group: group.to_owned(), alertname: self.rule.name().to_owned() }
    }

    fn new(tenant: u32, file: &str, group: &Group, rule: &Rule) -> Option<Self> {
        let state = RuleState::new(file, group, rule)?;
        let labels: Vec<String> = rule.labels.iter().map(|label| format!("{}={}", label.name, label.template.source())).collect();
        let identity = [file, &group.name, rule.name(), &labels.join("\u{1f}")].join("\u{1e}");
        let state_key = format!("alerts/{tenant}/rule/{:032x}", br_std::hash::hash128(identity.as_bytes()));
        Some(Self {
            rule: rule.clone(),
            state,
            state_key,
            kept: Vec::new(),
            health: RuleHealth::Unknown,
            last_evaluation: None,
            evaluation_time: Duration::ZERO,
        })
    }

    pub(super) fn alerts(&self) -> Vec<Alert> {
        self.state.alerts().into_iter().cloned().collect()
    }

    /// The alerts to keep, when they differ from those kept last.
    pub(super) fn take_changed(&mut self) -> Option<Vec<AlertSnapshot>> {
        let RuleState::Alerting(alerting) = &self.state else { return None };
        let durable: Vec<Durable> = alerting.alerts().map(durable).collect();
        if durable == self.kept {
            return None;
        }
        self.kept = durable;
        Some(alerting.snapshot())
    }

    pub(super) fn restore(&mut self, snapshots: &[AlertSnapshot]) -> Vec<br_std::Error> {
        let RuleState::Alerting(alerting) = &mut self.state else { return Vec::new() };
        let errors = alerting.restore(snapshots);
        self.kept = alerting.alerts().map(durable).collect();
        errors
    }

    /// Takes over from the same rule before a reload.
    pub(super) fn adopt(&mut self, previous: Self) {
        match (&mut self.state, previous.state) {
            (RuleState::Alerting(state), RuleState::Alerting(previous)) => state.adopt(*previous),
            (RuleState::Recording(state), RuleState::Recording(previous)) => state.adopt(previous),
            _ => return,
        }
        self.kept = previous.kept;
        self.health = previous.health;
        self.last_evaluation = previous.last_evaluation;
    }

    /// The rule is gone: markers for its series.
    pub(super) fn end(self) -> Vec<RuleSample> {
        match self.state {
            RuleState::Alerting(state) => state.end(),
            RuleState::Recording(state) => state.end(),
        }
    }

    /// The expression could not be evaluated.
    pub(super) fn failed(&mut self, at: Nanos, message: String) {
        if let RuleState::Alerting(state) = &mut self.state {
            state.step_unknown(at);
        }
        self.health = RuleHealth::Error(message);
    }

    pub(super) fn step(
        &mut self,
        at: Nanos,
        samples: &[br_rules::ResultSample],
        environment: &br_rules::Environment<'_>,
    ) -> Outcome {
        let outcome = self.state.step(at, samples, environment);
        self.health = outcome.error.as_ref().map_or(RuleHealth::Good, |error| RuleHealth::Error(error.to_string()));
        outcome
    }

    fn view(&self) -> RuleView {
        RuleView {
            rule: self.rule.clone(),
            health: self.health.clone(),
            last_evaluation: self.last_evaluation,
            evaluation_time: self.evaluation_time,
            alerts: self.alerts(),
        }
    }
}

fn durable(alert: &Alert) -> Durable {
    let times = (alert.fired_at, alert.resolved_at, alert.keep_firing_since, alert.unknown_since);
    (alert.id.clone(), alert.state.as_str(), times.0, times.1, times.2, times.3)
}
