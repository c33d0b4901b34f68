//! Evaluates groups of rules on time.

use super::evidence::{Evidence, EvidenceSources};
use super::gather::LOOKBACK;
use super::journal::Journal;
use super::runtime::{GroupRuntime, RuleRuntime};
use super::views::{AlertView, GroupView};
use super::{Evaluator, SampleWriter};
use br_catalog::Catalog;
use br_env::Clock;
use br_incident::{FactKind, Incident, IncidentState};
use br_model::{Labels, MetricBatch, Sample, SeriesSamples, TenantId};
use br_route::{Channel, GroupKey, GroupTimes};
use br_rules::{
    Alert, AlertSnapshot, AlertState, Cause, Complaint, Effect, Environment, Outcome, RuleKind, RuleSample, Transition, parse,
};
use br_std::{Error, Nanos, Result};
use br_storage::{Budget, CancelReason};
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, watch};

/// Evidence may hold this much memory while it is gathered.
const EVIDENCE_BYTES_MAX: u64 = 64 << 20;
/// The engine looks for due groups at least this often.
const BEAT_MAX: Duration = Duration::from_secs(1);
/// Between two beats at the least.
const WAIT_MIN: Duration = Duration::from_millis(1);
/// The same while the catalog cannot be written.
const WAIT_FAILING: Duration = Duration::from_secs(1);
/// Rules that are kept state of.
const STATES_MAX: u32 = 100_000;

#[derive(Clone)]
pub struct EngineOptions {
    pub tenant: TenantId,
    /// For groups that name none.
    pub evaluation_interval: Duration,
    pub external_labels: Labels,
    pub external_url: String,
    pub channels: Vec<Channel>,
    pub group_times: GroupTimes,
}

/// The rules of one tenant with their states, and the incidents.
pub struct AlertEngine {
    options: EngineOptions,
    evaluator: Arc<dyn Evaluator>,
    writer: Arc<dyn SampleWriter>,
    sources: Option<EvidenceSources>,
    clock: Arc<dyn Clock>,
    groups: Mutex<Vec<GroupRuntime>>,
    journal: Mutex<Journal>,
    /// What is shown; replaced after each evaluation, so that readers never wait for one.
    views: RwLock<Vec<Arc<GroupView>>>,
    /// States of an earlier run that no rule has taken over yet.
    kept: parking_lot::Mutex<BTreeMap<String, Vec<u8>>>,
}

impl AlertEngine {
    /// Reads back the state of an earlier run. Without rules until [`AlertEngine::load`].
    pub async fn open(
        options: EngineOptions,
        catalog: Catalog,
        evaluator: Arc<dyn Evaluator>,
        writer: Arc<dyn SampleWriter>,
        sources: Option<EvidenceSources>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        for channel in &options.channels {
            channel.check()?;
        }
        let prefix = format!("alerts/{}/rule/", options.tenant.0);
        let kept: BTreeMap<String, Vec<u8>> = catalog.states(&prefix, STATES_MAX).await?.into_iter().collect();
        let journal =
            Journal::open(options.tenant, catalog, options.channels.clone(), options.group_times, options.external_url.clone());
        let journal = Mutex::new(journal.await?);
        Ok(Self {
            options,
            evaluator,
            writer,
            sources,
            clock,
            groups: Mutex::new(Vec::new()),
            journal,
            views: RwLock::new(Vec::new()),
            kept: parking_lot::Mutex::new(kept),
        })
    }

    /// Replaces all rules by those of `files` (name and text). When one file has an error nothing changes, and the answer says
    /// what is wrong; otherwise it holds the warnings. Rules that stay keep their alerts.
    pub async fn load(&self, files: &[(String, String)]) -> Result<Vec<(String, Complaint)>, Vec<(String, Complaint)>> {
        let mut complaints = Vec::new();
        let mut fresh = Vec::new();
        let mut has_errors = false;
        for (name, text) in files {
            let parsed = parse(name, text, &|expression| self.evaluator.check(expression));
            has_errors |= parsed.errors().next().is_some();
            complaints.extend(parsed.complaints.into_iter().map(|complaint| (name.clone(), complaint)));
            let groups = parsed.file.groups.into_iter();
            fresh.extend(
                groups.map(|group| GroupRuntime::new(self.options.tenant.0, name, group, self.options.evaluation_interval)),
            );
        }
        if has_errors {
            return Err(complaints);
        }
        let mut groups = self.groups.lock().await;
        let ended = self.take_over(&mut fresh, std::mem::take(&mut *groups));
        *groups = fresh;
        let ended = self.end(ended).await;
        *self.views.write() = groups.iter().map(|group| Arc::new(group.view())).collect();
        drop(groups);
        if let Err(error) = self.write(self.clock.now(), ended).await {
            tracing::error!(event = "RuleWriteError", %error);
        }
        Ok(complaints)
    }

    /// Rules that a reload took away: receivers and incidents hear the end of what fired. Gives markers for their series.
    async fn end(&self, rules: Vec<(GroupKey, RuleRuntime)>) -> Vec<RuleSample> {
        let now = self.clock.now();
        let mut journal = self.journal.lock().await;
        let mut markers = Vec::new();
        for (key, rule) in rules {
            for mut alert in rule.alerts().into_iter().filter(|alert| alert.state == AlertState::Firing) {
                alert.state = AlertState::Inactive;
                alert.resolved_at = Some(now);
                if let Err(error) = journal.resolved(now, &key, &alert) {
                    tracing::error!(event = "AlertRecordError", alert = %alert.id, %error);
                }
            }
            if let Err(error) = journal.keep(rule.state_key.clone(), &[]) {
                tracing::error!(event = "AlertKeepError", rule = rule.rule.name(), %error);
            }
            markers.extend(rule.end());
        }
        if let Err(error) = journal.commit(now).await {
            tracing::error!(event = "AlertCommitError", %error);
        }
        markers
    }

    /// Moves the states of rules that stay into `fresh`; gives the rules that go.
    fn take_over(&self, fresh: &mut [GroupRuntime], old: Vec<GroupRuntime>) -> Vec<(GroupKey, RuleRuntime)> {
        let mut previous: BTreeMap<String, (GroupKey, RuleRuntime)> = BTreeMap::new();
        for group in old {
            for rule in group.rules {
                let alertname = rule.rule.name().to_owned();
                let key = GroupKey { rule_file: group.file.clone(), rule_group: group.group.name.clone(), alertname };
                previous.insert(rule.state_key.clone(), (key, rule));
            }
        }
        for rule in fresh.iter_mut().flat_map(|group| &mut group.rules) {
            if let Some((_, previous)) = previous.remove(&rule.state_key) {
                rule.adopt(previous);
                continue;
            }
            let Some(bytes) = self.kept.lock().remove(&rule.state_key) else { continue };
            match serde_json::from_slice::<Vec<AlertSnapshot>>(&bytes) {
                Ok(snapshots) => {
                    for error in rule.restore(&snapshots) {
                        tracing::error!(event = "AlertRestoreError", rule = rule.rule.name(), %error);
                    }
                }
                Err(error) => tracing::error!(event = "AlertRestoreError", rule = rule.rule.name(), %error),
            }
        }
        previous.into_values().collect()
    }

    /// Evaluates each group at its times and sends messages when they are due, until told to stop.
    pub async fn run(self: Arc<Self>, mut stopped: watch::Receiver<bool>) {
        let mut from = self.clock.now();
        loop {
            let now = self.clock.now();
            let is_kept = self.evaluate_due(from, now).await;
            from = now;
            let wait = self.next_at(now).await.since(self.clock.now()).min(BEAT_MAX);
            // A message that is due stays due while the catalog cannot be written.
            let wait_min = if is_kept { WAIT_MIN } else { WAIT_FAILING };
            tokio::select! {
                () = tokio::time::sleep(wait.max(wait_min)) => {}
                _ = stopped.wait_for(|stopped| *stopped) => return,
            }
        }
    }

    /// Evaluates every group that has an evaluation time after `from` and not after `now`, at the last such time, and
    /// commits. Times that were missed in between are skipped, as Prometheus does. False when something could not be committed.
    pub async fn evaluate_due(&self, from: Nanos, now: Nanos) -> bool {
        let mut groups = self.groups.lock().await;
        for (at, group) in groups.iter_mut().enumerate() {
            let beat = group.schedule.at_or_before(now);
            if beat <= from {
                continue;
            }
            let missed = group.last_evaluation.map_or(0, |last| group.schedule.missed(last, beat));
            if missed > 0 {
                tracing::warn!(event = "RuleEvaluationMissed", group = %group.group.name, missed);
            }
            self.evaluate(group, beat).await;
            if let Some(view) = self.views.write().get_mut(at) {
                *view = Arc::new(group.view());
            }
        }
        drop(groups);
        let mut journal = self.journal.lock().await;
        if let Err(error) = journal.commit(now).await {
            tracing::error!(event = "AlertCommitError", %error);
            return false;
        }
        if let Err(error) = journal.flush(now).await {
            tracing::error!(event = "AlertMessageError", %error);
            return false;
        }
        true
    }

    async fn next_at(&self, now: Nanos) -> Nanos {
        let groups = self.groups.lock().await;
        let next = groups.iter().map(|group| group.schedule.after(now)).min().unwrap_or(Nanos::MAX);
        drop(groups);
        self.journal.lock().await.next_message_at().map_or(next, |message| message.min(next))
    }

    async fn evaluate(&self, group: &mut GroupRuntime, at: Nanos) {
        let started = self.clock.monotonic();
        let query_at = at - group.group.query_offset.unwrap_or_default();
        for slot in 0..group.rules.len() {
            let rule = group.rules.swap_remove(slot);
            let (rule, outcome) = self.evaluate_rule(rule, at, query_at).await;
            group.rules.push(rule);
            let last = group.rules.len() - 1;
            group.rules.swap(slot, last);
            if let Some(outcome) = outcome {
                self.follow(&group.file, &group.group.name, &mut group.rules[slot], outcome, at).await;
            }
        }
        group.last_evaluation = Some(at);
        group.evaluation_time = self.clock.monotonic().saturating_sub(started);
    }

    /// The query and the step run where blocking is allowed.
    async fn evaluate_rule(&self, mut rule: RuleRuntime, at: Nanos, query_at: Nanos) -> (RuleRuntime, Option<Outcome>) {
        let (evaluator, tenant, clock) = (self.evaluator.clone(), self.options.tenant, self.clock.clone());
        let (labels, url) = (self.options.external_labels.clone(), self.options.external_url.clone());
        let work = move || {
            let started = clock.monotonic();
            let outcome = match evaluator.instant(tenant, &rule.rule.expression, query_at) {
                Ok(samples) => {
                    let query = |expression: &str, at: Nanos| {
                        evaluator.instant(tenant, expression, at).map_err(|error| error.to_string())
                    };
                    let environment = Environment { external_labels: &labels, external_url: &url, query: &query };
                    Some(rule.step(at, &samples, &environment))
                }
                Err(error) => {
                    rule.failed(at, error.to_string());
                    None
                }
            };
            rule.last_evaluation = Some(at);
            rule.evaluation_time = clock.monotonic().saturating_sub(started);
            (rule, outcome)
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(done) => done,
            // The rule went with the panic: a broken invariant, on which the engine stops.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// Writes the samples, and records what changed.
    async fn follow(&self, file: &str, group: &str, rule: &mut RuleRuntime, outcome: Outcome, at: Nanos) {
        if let Some(error) = &outcome.error {
            tracing::warn!(event = "RuleEvaluationError", rule = rule.rule.name(), %error);
        }
        let (mut samples, mut changes) = (Vec::new(), Vec::new());
        for effect in outcome.effects {
            match effect {
                Effect::Write(sample) => samples.push(sample),
                Effect::Changed(change) => changes.push(change),
            }
        }
        if let Err(error) = self.write(at, samples).await {
            tracing::error!(event = "RuleWriteError", rule = rule.rule.name(), %error);
        }
        let key = GroupKey { rule_file: file.to_owned(), rule_group: group.to_owned(), alertname: rule.rule.name().to_owned() };
        let alerts: BTreeMap<String, Alert> = if changes.is_empty() {
            BTreeMap::new()
        } else {
            rule.alerts().into_iter().map(|alert| (alert.id.clone(), alert)).collect()
        };
        for change in &changes {
            if let Some(alert) = alerts.get(&change.id)
                && let Err(error) = self.record(&key, &rule.rule.expression, change, alert).await
            {
                tracing::error!(event = "AlertRecordError", alert = %change.id, %error);
            }
        }
        if let Some(snapshots) = rule.take_changed()
            && let Err(error) = self.journal.lock().await.keep(rule.state_key.clone(), &snapshots)
        {
            tracing::error!(event = "AlertKeepError", rule = rule.rule.name(), %error);
        }
    }

    async fn record(&self, key: &GroupKey, query: &str, change: &Transition, alert: &Alert) -> Result<()> {
        match (change.from, change.to, change.cause) {
            (_, AlertState::Firing, _) => {
                let evidence = self.evidence(alert, query, change.at).await;
                self.journal.lock().await.fired(change.at, key, alert, evidence)
            }
            (AlertState::Firing, AlertState::Inactive, Cause::Condition) => {
                self.journal.lock().await.resolved(change.at, key, alert)
            }
            _ => Ok(()),
        }
    }

    /// Gathered within two seconds; what takes longer is named as missing, and the alert goes out all the same.
    async fn evidence(&self, alert: &Alert, query: &str, at: Nanos) -> Evidence {
        let mut evidence = Evidence::of_alert(alert, query, at);
        let budget = Arc::new(Budget::new(EVIDENCE_BYTES_MAX));
        let (work_budget, mut gathered) = (budget.clone(), evidence.clone());
        let (evaluator, tenant, sources) = (self.evaluator.clone(), self.options.tenant, self.sources.clone());
        let labels = alert.labels.clone();
        let work = tokio::task::spawn_blocking(move || {
            gathered.gather_curve(&*evaluator, tenant, &labels, at, &work_budget);
            if let Some(sources) = sources {
                gathered.gather(&sources, at, &work_budget);
            }
            gathered
        });
        let reason = match tokio::time::timeout(Journal::EVIDENCE_TIME_MAX, work).await {
            Ok(Ok(mut gathered)) => {
                if let Err(error) = self.journal.lock().await.name_issues(&mut gathered, at - LOOKBACK).await {
                    gathered.missing.push(format!("issues: {error}"));
                }
                return gathered;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => {
                budget.cancel(CancelReason::Deadline);
                "not gathered within two seconds".to_owned()
            }
        };
        evidence.missing.push(reason);
        evidence
    }

    async fn write(&self, at: Nanos, samples: Vec<RuleSample>) -> Result<()> {
        if samples.is_empty() {
            return Ok(());
        }
        let series = samples.into_iter().map(|sample| SeriesSamples {
            labels: sample.labels,
            samples: vec![Sample { timestamp_ms: at.as_millis(), value: sample.value, start_ms: None }],
            exemplars: Vec::new(),
        });
        self.writer.write(self.options.tenant, MetricBatch { series: series.collect(), metadata: Vec::new() }).await
    }

    /// All groups with their rules and alerts, as of their last evaluation.
    pub fn groups(&self) -> Vec<Arc<GroupView>> {
        self.views.read().clone()
    }

    /// All alerts, those in `state` only when it is given; lately resolved ones are inactive.
    pub async fn alerts(&self, state: Option<AlertState>) -> Vec<AlertView> {
        let journal = self.journal.lock().await;
        let mut alerts = Vec::new();
        for group in self.groups() {
            for rule in &group.rules {
                let RuleKind::Alerting { hold, .. } = rule.rule.kind else { continue };
                for alert in rule.alerts.iter().filter(|alert| state.is_none_or(|state| alert.state == state)) {
                    alerts.push(AlertView {
                        alert: alert.clone(),
                        file: group.file.clone(),
                        group: group.name.clone(),
                        query: rule.rule.expression.clone(),
                        hold,
                        incident_id: journal.incident_of.get(&alert.id).cloned(),
                    });
                }
            }
        }
        alerts
    }

    /// One alert with the evidence that was frozen when it fired; also one that has long ended.
    pub async fn alert(&self, id: &str) -> Result<(Alert, Option<String>, Option<Evidence>)> {
        let live = self.alerts(None).await.into_iter().find(|view| view.alert.id == id);
        let entries = self.journal.lock().await.alert_entries(id).await?;
        let evidence = entries.iter().find_map(|entry| entry.evidence.clone());
        if let Some(view) = live {
            return Ok((view.alert, view.incident_id, evidence));
        }
        let latest = entries.last().ok_or_else(|| Error::not_found(format!("there is no alert {id}")))?;
        Ok((latest.alert.to_alert()?, latest.incident_id.clone(), evidence))
    }

    /// Newest first; those in `state` only when it is given.
    pub async fn incidents(&self, state: Option<IncidentState>) -> Vec<Incident> {
        let journal = self.journal.lock().await;
        let wanted = journal.incidents.values().filter(|incident| state.is_none_or(|state| incident.state() == state));
        let mut incidents: Vec<Incident> = wanted.cloned().collect();
        incidents.sort_by_key(|incident| std::cmp::Reverse(incident.opened_at()));
        incidents
    }

    pub async fn incident(&self, id: &str) -> Result<Incident> {
        let journal = self.journal.lock().await;
        journal.incidents.get(id).cloned().ok_or_else(|| Error::not_found(format!("there is no incident {id}")))
    }

    /// Like the two below on stable storage when it returns; a second time it changes nothing.
    pub async fn acknowledge(&self, id: &str, by: &str, text: &str) -> Result<Incident> {
        self.act(id, FactKind::by_person(FactKind::acknowledged, by, text)?).await
    }

    pub async fn resolve(&self, id: &str, by: &str, text: &str) -> Result<Incident> {
        self.act(id, FactKind::by_person(FactKind::resolved, by, text)?).await
    }

    pub async fn note(&self, id: &str, by: &str, text: &str) -> Result<Incident> {
        self.act(id, FactKind::by_person(FactKind::noted, by, text)?).await
    }

    async fn act(&self, id: &str, kind: FactKind) -> Result<Incident> {
        self.journal.lock().await.act(id, self.clock.now(), kind).await
    }
}
