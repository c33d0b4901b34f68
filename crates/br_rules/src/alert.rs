//! The states of the alerts of one rule: inactive, pending, firing.
//!
//! Source: Prometheus 3, `rules`; proven against timelines of promtool (`tests/golden.rs`).
//! Beyond Prometheus: missing data is a third value ([`Alerting::step_unknown`]), and everything survives a restart.

use crate::file::{Group, LabelTemplate, Rule, RuleKind};
use crate::series::{ResultSample, RuleSample, SeriesTracker};
use crate::step::{AlertState, Cause, Effect, Environment, Outcome, RuleError, Transition};
use crate::template::{AlertData, Template};
use br_model::labels::METRIC_NAME;
use br_model::{Labels, Value};
use br_std::Nanos;
use std::collections::BTreeMap;
use std::time::Duration;

/// A resolved alert is kept this long, so that people and peers hear of the end more than once.
pub const RESOLVED_RETENTION: Duration = Duration::from_mins(15);

/// One alert: a rule and a label set.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    /// Names this episode: rule file, group, labels and the time at which it became active, as 32 hexadecimal digits.
    pub id: String,
    pub labels: Labels,
    pub annotations: Labels,
    pub state: AlertState,
    /// Of the last evaluation that had a value.
    pub value: f64,
    pub active_at: Nanos,
    pub fired_at: Option<Nanos>,
    pub resolved_at: Option<Nanos>,
    /// Since when it fires only because of `keep_firing_for`.
    pub keep_firing_since: Option<Nanos>,
    /// Since when the rule could not be evaluated: the state is the last one known.
    pub unknown_since: Option<Nanos>,
}

/// One alerting rule and its alerts.
#[derive(Clone, Debug)]
pub struct Alerting {
    /// File and group, for ids.
    scope: String,
    name: String,
    hold: Duration,
    keep_firing_for: Duration,
    labels: Vec<LabelTemplate>,
    annotations: Vec<LabelTemplate>,
    limit: usize,
    /// By hash of the label set.
    pub(crate) alerts: BTreeMap<u128, Alert>,
    series: SeriesTracker,
    /// Nothing is written before earlier state was looked for.
    is_restored: bool,
}

impl Alerting {
    /// `None` for a recording rule. `file` and the group's name become part of the alerts' ids.
    pub fn new(file: &str, group: &Group, rule: &Rule) -> Option<Self> {
        let RuleKind::Alerting { alert, hold, keep_firing_for, annotations } = &rule.kind else { return None };
        Some(Self {
            scope: format!("{file}\u{1f}{}", group.name),
            name: alert.clone(),
            hold: *hold,
            keep_firing_for: *keep_firing_for,
            labels: rule.labels.clone(),
            annotations: annotations.clone(),
            limit: group.limit,
            alerts: BTreeMap::new(),
            series: SeriesTracker::default(),
            is_restored: true,
        })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn hold(&self) -> Duration {
        self.hold
    }

    /// All alerts, the lately resolved among them, in a stable order.
    pub fn alerts(&self) -> impl Iterator<Item = &Alert> {
        self.alerts.values()
    }

    /// Until [`Alerting::restored`] is called, alerts are tracked but no series written.
    pub fn await_restore(&mut self) {
        self.is_restored = false;
    }

    pub fn restored(&mut self) {
        self.is_restored = true;
    }

    /// Takes over the alerts of the same rule before a reload.
    pub fn adopt(&mut self, previous: Self) {
        self.alerts = previous.alerts;
        self.series = previous.series;
        self.is_restored = previous.is_restored;
    }

    /// Markers for all its series: the rule is gone.
    pub fn end(self) -> Vec<RuleSample> {
        self.series.end()
    }

    /// The expression yielded `samples` at `at`.
    pub fn step(&mut self, at: Nanos, samples: &[ResultSample], environment: &Environment<'_>) -> Outcome {
        let present = match self.alert_set(at, samples, environment) {
            Ok(present) => present,
            Err(error) => return Outcome { effects: Vec::new(), error: Some(error) },
        };
        let before: BTreeMap<u128, AlertState> = self.alerts.iter().map(|(key, alert)| (*key, alert.state)).collect();
        let mut is_present: Vec<u128> = Vec::with_capacity(present.len());
        for (key, fresh) in present {
            is_present.push(key);
            match self.alerts.get_mut(&key) {
                Some(alert) if alert.state != AlertState::Inactive => {
                    alert.value = fresh.value;
                    alert.annotations = fresh.annotations;
                }
                _ => {
                    self.alerts.insert(key, fresh);
                }
            }
        }
        is_present.sort_unstable();
        let mut causes = BTreeMap::new();
        let mut forgotten = Vec::new();
        for (key, alert) in &mut self.alerts {
            alert.unknown_since = None;
            let holds = is_present.binary_search(key).is_ok();
            match advance(alert, at, holds, self.hold, self.keep_firing_for) {
                Advance::Keep(cause) => {
                    causes.insert(*key, cause);
                }
                Advance::Forget => forgotten.push(*key),
            }
        }
        let mut effects = self.transitions(at, &before, &causes);
        for key in forgotten {
            if let Some(alert) = self.alerts.remove(&key)
                && alert.state == AlertState::Pending
            {
                effects.push(Effect::Changed(transition(
                    &alert,
                    AlertState::Pending,
                    AlertState::Inactive,
                    at,
                    Cause::Condition,
                )));
            }
        }
        let active = self.alerts.values().filter(|alert| alert.state != AlertState::Inactive).count();
        if self.limit > 0 && active > self.limit {
            return self.drop_all(at, &before, active);
        }
        effects.extend(self.output().into_iter().map(Effect::Write));
        Outcome { effects, error: None }
    }

    /// The expression could not be evaluated, or its source is gone. Nothing changes but the mark on each alert.
    pub fn step_unknown(&mut self, at: Nanos) {
        for alert in self.alerts.values_mut().filter(|alert| alert.state != AlertState::Inactive) {
            alert.unknown_since.get_or_insert(at);
        }
    }

    /// The label sets that the result stands for, with rule labels and annotations expanded.
    fn alert_set(
        &self,
        at: Nanos,
        samples: &[ResultSample],
        environment: &Environment<'_>,
    ) -> Result<Vec<(u128, Alert)>, RuleError> {
        let mut set: BTreeMap<u128, Alert> = BTreeMap::new();
        for sample in samples {
            let value = sample.as_float();
            let data = AlertData { labels: &sample.labels, value, at, environment };
            let expand = |template: &Template| data.expand(&self.name, template);
            let mut labels = sample.labels.to_builder();
            labels.remove(METRIC_NAME);
            for label in &self.labels {
                labels.set(&label.name, &expand(&label.template));
            }
            labels.set("alertname", &self.name);
            let labels = labels.build();
            let annotations = self.annotations.iter().map(|annotation| (&annotation.name, expand(&annotation.template)));
            let alert = Alert {
                id: self.alert_id(&labels, at),
                annotations: Labels::from_pairs(annotations),
                state: AlertState::Pending,
                value,
                active_at: at,
                fired_at: None,
                resolved_at: None,
                keep_firing_since: None,
                unknown_since: None,
                labels,
            };
            let key = alert.labels.hash128();
            if let Some(twin) = set.insert(key, alert) {
                return Err(RuleError::DuplicateLabels { labels: twin.labels });
            }
        }
        Ok(set.into_iter().collect())
    }

    fn alert_id(&self, labels: &Labels, active_at: Nanos) -> String {
        let identity = format!("{}\u{1f}{:032x}\u{1f}{}", self.scope, labels.hash128(), active_at.0);
        format!("{:032x}", br_std::hash::hash128(identity.as_bytes()))
    }

    fn transitions(&self, at: Nanos, before: &BTreeMap<u128, AlertState>, causes: &BTreeMap<u128, Cause>) -> Vec<Effect> {
        let mut effects = Vec::new();
        for (key, alert) in &self.alerts {
            let from = before.get(key).copied().unwrap_or(AlertState::Inactive);
            let Some(cause) = causes.get(key) else { continue };
            if from != alert.state {
                effects.push(Effect::Changed(transition(alert, from, alert.state, at, *cause)));
            }
        }
        effects
    }

    fn drop_all(&mut self, at: Nanos, before: &BTreeMap<u128, AlertState>, count: usize) -> Outcome {
        let dropped = std::mem::take(&mut self.alerts);
        let effects = dropped.iter().filter_map(|(key, alert)| {
            let from = before.get(key).copied().filter(|state| *state != AlertState::Inactive)?;
            Some(Effect::Changed(transition(alert, from, AlertState::Inactive, at, Cause::Limit)))
        });
        let effects = effects.collect();
        Outcome { effects, error: Some(RuleError::OverLimit { limit: self.limit, count }) }
    }

    /// `ALERTS` and `ALERTS_FOR_STATE` of what is pending or firing, and markers for what is no longer.
    fn output(&mut self) -> Vec<RuleSample> {
        if !self.is_restored {
            return Vec::new();
        }
        let mut samples = Vec::with_capacity(2 * self.alerts.len());
        for alert in self.alerts.values().filter(|alert| alert.state != AlertState::Inactive) {
            let mut labels = alert.labels.to_builder();
            labels.set(METRIC_NAME, "ALERTS").set("alertstate", alert.state.as_str());
            samples.push(RuleSample { labels: labels.build(), value: Value::Float(1.0) });
            samples.push(RuleSample { labels: for_state_labels(alert), value: Value::Float(alert.active_at.as_secs() as f64) });
        }
        self.series.step(samples)
    }
}

/// The series in which Prometheus keeps the time at which an alert became active.
pub(crate) fn for_state_labels(alert: &Alert) -> Labels {
    let mut labels = alert.labels.to_builder();
    labels.set(METRIC_NAME, "ALERTS_FOR_STATE");
    labels.build()
}

enum Advance {
    Keep(Cause),
    Forget,
}

/// Moves one alert to `at`; `holds` says whether the expression yielded it.
fn advance(alert: &mut Alert, at: Nanos, holds: bool, hold: Duration, keep_firing_for: Duration) -> Advance {
    if holds {
        alert.keep_firing_since = None;
    } else {
        let keeps = alert.state == AlertState::Firing && !keep_firing_for.is_zero() && {
            let since = *alert.keep_firing_since.get_or_insert(at);
            at.since(since) < keep_firing_for
        };
        let is_old = alert.resolved_at.is_some_and(|resolved| at.since(resolved) > RESOLVED_RETENTION);
        if alert.state == AlertState::Pending || is_old {
            return Advance::Forget;
        }
        if !keeps {
            if alert.state == AlertState::Firing {
                alert.state = AlertState::Inactive;
                alert.resolved_at = Some(at);
            }
            return Advance::Keep(Cause::Condition);
        }
    }
    let is_due = at.since(alert.active_at) >= hold;
    if alert.state == AlertState::Pending && is_due {
        alert.state = AlertState::Firing;
        alert.fired_at = Some(at);
    } else if alert.state == AlertState::Firing && !is_due {
        alert.state = AlertState::Pending;
        alert.fired_at = None;
        alert.keep_firing_since = None;
        return Advance::Keep(Cause::Rule);
    }
    Advance::Keep(Cause::Condition)
}

fn transition(alert: &Alert, from: AlertState, to: AlertState, at: Nanos, cause: Cause) -> Transition {
    Transition { id: alert.id.clone(), labels: alert.labels.clone(), from, to, at, cause }
}
