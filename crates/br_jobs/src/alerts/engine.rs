//! The rules of one tenant, their alerts and incidents: loaded, shown, acted on by people. `evaluation.rs` runs them.

use super::evidence::{Evidence, EvidenceSources};
use super::journal::Journal;
use super::runtime::{GroupRuntime, GroupSlot, RuleRuntime};
use super::views::{AlertView, GroupView};
use super::{Evaluator, SampleWriter};
use br_catalog::Catalog;
use br_env::Clock;
use br_incident::{FactKind, Incident, IncidentState};
use br_model::{Labels, TenantId};
use br_route::{Channel, GroupKey, GroupTimes};
use br_rules::{Alert, AlertSnapshot, AlertState, Complaint, RuleKind, RuleSample, parse};
use br_std::{Error, Result};
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, Semaphore};

/// Expressions that are evaluated at once, over all groups; more wait their turn.
const EXPRESSIONS_AT_ONCE: usize = 4;
/// Rules that are kept state of.
const STATES_MAX: u32 = 100_000;

#[derive(Clone)]
pub struct EngineOptions {
    pub tenant: TenantId,
    /// For groups that name none.
    pub evaluation_interval: Duration,
    /// How far in the past expressions are evaluated in groups that do not say.
    pub query_offset: Duration,
    pub external_labels: Labels,
    pub external_url: String,
    pub channels: Vec<Channel>,
    pub group_times: GroupTimes,
}

/// The rules of one tenant with their states, and the incidents.
pub struct AlertEngine {
    pub(super) options: EngineOptions,
    pub(super) evaluator: Arc<dyn Evaluator>,
    pub(super) writer: Arc<dyn SampleWriter>,
    pub(super) sources: Option<EvidenceSources>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) slots: RwLock<Vec<Arc<GroupSlot>>>,
    pub(super) turns: Semaphore,
    pub(super) journal: Mutex<Journal>,
    /// Held by a load: two of them must not share out the same states.
    loading: Mutex<()>,
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
            slots: RwLock::new(Vec::new()),
            turns: Semaphore::new(EXPRESSIONS_AT_ONCE),
            journal,
            loading: Mutex::new(()),
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
            fresh.extend(groups.map(|group| {
                let EngineOptions { tenant, evaluation_interval, .. } = self.options;
                GroupRuntime::new(tenant, name, group, evaluation_interval, self.evaluator.clone())
            }));
        }
        if has_errors {
            return Err(complaints);
        }
        let _loading = self.loading.lock().await;
        let old = std::mem::take(&mut *self.slots.write());
        let mut previous = Vec::new();
        for slot in old {
            // Waits for an evaluation under way; one that comes later finds no rules.
            let mut group = slot.runtime.lock().await;
            let rules = std::mem::take(&mut group.rules);
            previous.extend(rules.into_iter().map(|rule| (rule.key_in(&group.file, &group.group.name), rule)));
        }
        let ended = self.take_over(&mut fresh, previous);
        let ended = self.end(ended).await;
        *self.slots.write() = fresh.into_iter().map(|group| Arc::new(GroupSlot::new(group))).collect();
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
    fn take_over(&self, fresh: &mut [GroupRuntime], old: Vec<(GroupKey, RuleRuntime)>) -> Vec<(GroupKey, RuleRuntime)> {
        let mut previous: BTreeMap<String, (GroupKey, RuleRuntime)> =
            old.into_iter().map(|(key, rule)| (rule.state_key.clone(), (key, rule))).collect();
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

    /// All groups with their rules and alerts, as of their last evaluation.
    pub fn groups(&self) -> Vec<Arc<GroupView>> {
        self.slots.read().iter().map(|slot| slot.view()).collect()
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
