//! What alerts leave behind: ledger entries, incidents, messages. Memory runs ahead of the catalog by what could not be committed
//! yet; that backlog is tried again at every beat, so a catalog that is away for a while loses nothing.

use super::evidence::Evidence;
use br_catalog::{Catalog, Change, IssueFilter, LedgerFilter, NewLedgerEntry, NewOutboxItem};
use br_incident::fact::service_of;
use br_incident::{Fact, FactKind, Incident, IncidentState, correlation_key};
use br_model::{Labels, TenantId};
use br_route::webhook::fingerprint;
use br_route::{Channel, ChannelKind, Flush, GroupKey, GroupTimes, Groups, Message, MessageAlert, payload};
use br_rules::{Alert, AlertSnapshot};
use br_std::{Error, Nanos, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// Issues among which those of an alert's errors are looked for.
const ISSUES_MAX: u32 = 100;
/// Entries that may wait for the catalog. Beyond it the oldest are given up, loudly.
const BACKLOG_MAX: usize = 20_000;
/// Alerts that one message names; those beyond are counted.
const MESSAGE_ALERTS_MAX: usize = 100;
/// Facts that are read back at the start.
const FACTS_AT_START_MAX: u32 = 100_000;
/// An incident that a person closed takes no more alerts; one of the same cause opens anew.
const PAGE: u32 = 1000;

/// The body of an `alert.…` entry.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct AlertEntry {
    pub(super) alert: AlertSnapshot,
    pub(super) incident_id: Option<String>,
    pub(super) evidence: Option<Evidence>,
}

pub(super) struct Journal {
    pub(super) tenant: TenantId,
    catalog: Catalog,
    channels: Vec<Channel>,
    times: GroupTimes,
    external_url: String,
    pub(super) incidents: BTreeMap<String, Incident>,
    /// Alert id to incident id.
    pub(super) incident_of: BTreeMap<String, String>,
    groups: Groups,
    /// They differ from what the backlog or the catalog holds; written once for each commit, not for each alert.
    groups_changed: bool,
    backlog: Change,
}

impl Journal {
    /// Reads back incidents and what receivers were told.
    pub(super) async fn open(
        tenant: TenantId,
        catalog: Catalog,
        channels: Vec<Channel>,
        times: GroupTimes,
        external_url: String,
    ) -> Result<Self> {
        let mut journal = Self {
            tenant,
            catalog,
            channels,
            times,
            external_url,
            incidents: BTreeMap::new(),
            incident_of: BTreeMap::new(),
            groups: Groups::default(),
            groups_changed: false,
            backlog: Change::default(),
        };
        if let Some(bytes) = journal.catalog.state(&journal.groups_key()).await? {
            journal.groups = serde_json::from_slice(&bytes)
                .map_err(|error| Error::corrupt(format!("what receivers were told cannot be read: {error}")))?;
        }
        let mut filter = LedgerFilter { kind_prefix: "incident.".to_owned(), ..LedgerFilter::default() };
        let mut read = 0;
        loop {
            let entries = journal.catalog.ledger(tenant, &filter, PAGE).await?;
            for entry in &entries {
                match Fact::from_json(&entry.body) {
                    Ok(fact) => journal.apply(fact),
                    Err(error) => tracing::error!(event = "IncidentFactError", ledger_id = entry.id, %error),
                }
            }
            read += entries.len() as u32;
            let Some(last) = entries.last() else { break };
            filter.after_id = last.id;
            if read >= FACTS_AT_START_MAX {
                tracing::error!(
                    event = "IncidentsReadError",
                    facts = read,
                    "more facts than are read at the start; later ones are not shown"
                );
                break;
            }
        }
        Ok(journal)
    }

    fn groups_key(&self) -> String {
        format!("alerts/{}/groups", self.tenant.0)
    }

    fn apply(&mut self, fact: Fact) {
        if let FactKind::AlertLinked { alert_id, .. } = &fact.kind {
            self.incident_of.insert(alert_id.clone(), fact.incident_id.clone());
        }
        let id = fact.incident_id.clone();
        self.incidents.entry(id.clone()).or_insert_with(|| Incident::new(id)).apply(fact);
    }

    fn record(&mut self, fact: Fact) -> Result<()> {
        let entry = NewLedgerEntry {
            at: Nanos(fact.at),
            kind: fact.ledger_kind().to_owned(),
            subject: fact.incident_id.clone(),
            body: fact.to_json()?,
        };
        self.backlog.ledger.push(entry);
        self.apply(fact);
        Ok(())
    }

    /// An alert fires: an incident takes it in, receivers will hear.
    pub(super) fn fired(&mut self, at: Nanos, key: &GroupKey, alert: &Alert, evidence: Evidence) -> Result<()> {
        let incident_id = self.incident_for(at, alert)?;
        let name = alert.labels.get("alertname").unwrap_or("").to_owned();
        self.record(Fact::new(&incident_id, at, FactKind::AlertLinked { alert_id: alert.id.clone(), name }))?;
        self.entry(at, "alert.fired", alert, Some(evidence))?;
        self.tell(at, key, alert, true);
        Ok(())
    }

    /// An alert's condition no longer holds.
    pub(super) fn resolved(&mut self, at: Nanos, key: &GroupKey, alert: &Alert) -> Result<()> {
        if let Some(incident_id) = self.incident_of.get(&alert.id).cloned() {
            let name = alert.labels.get("alertname").unwrap_or("").to_owned();
            self.record(Fact::new(incident_id, at, FactKind::AlertResolved { alert_id: alert.id.clone(), name }))?;
        }
        self.entry(at, "alert.resolved", alert, None)?;
        self.tell(at, key, alert, false);
        Ok(())
    }

    /// Links errors with the issues of their service that were seen since.
    pub(super) async fn name_issues(&self, evidence: &mut Evidence, seen_since: Nanos) -> Result<()> {
        if evidence.errors.is_empty() {
            return Ok(());
        }
        let filter = IssueFilter { service: Some(evidence.service.clone()), seen_since: Some(seen_since), status: None };
        let issues = self.catalog.issues(self.tenant, &filter, ISSUES_MAX).await?;
        for error in &mut evidence.errors {
            if let Some(issue) = issues.iter().find(|issue| issue.title.starts_with(&error.title)) {
                error.issue_id = format!("{:016x}", issue.id);
            }
        }
        Ok(())
    }

    /// The state of a rule's alerts, for the next commit.
    pub(super) fn keep(&mut self, key: String, snapshots: &[AlertSnapshot]) -> Result<()> {
        let bytes = serde_json::to_vec(snapshots).map_err(|error| Error::fix_request(format!("alert states: {error}")))?;
        self.put(key, bytes);
        Ok(())
    }

    fn put(&mut self, key: String, bytes: Vec<u8>) {
        self.backlog.state.retain(|(known, _)| *known != key);
        self.backlog.state.push((key, bytes));
    }

    fn tell(&mut self, at: Nanos, key: &GroupKey, alert: &Alert, is_firing: bool) {
        self.groups.observe(at, key, &alert.id, is_firing);
        self.groups_changed = true;
    }

    fn keep_groups(&mut self) -> Result<()> {
        let bytes = serde_json::to_vec(&self.groups).map_err(|error| Error::fix_request(format!("alert groups: {error}")))?;
        self.put(self.groups_key(), bytes);
        Ok(())
    }

    fn entry(&mut self, at: Nanos, kind: &str, alert: &Alert, evidence: Option<Evidence>) -> Result<()> {
        let body = AlertEntry { alert: alert.into(), incident_id: self.incident_of.get(&alert.id).cloned(), evidence };
        let body = serde_json::to_string(&body).map_err(|error| Error::fix_request(format!("alert entry: {error}")))?;
        self.backlog.ledger.push(NewLedgerEntry { at, kind: kind.to_owned(), subject: alert.id.clone(), body });
        Ok(())
    }

    fn incident_for(&mut self, at: Nanos, alert: &Alert) -> Result<String> {
        let key = correlation_key(&alert.labels);
        let open = self.incidents.values().find(|incident| {
            incident.state() != IncidentState::Resolved && incident.correlation_key() == key && !incident.is_full()
        });
        if let Some(open) = open {
            return Ok(open.id.clone());
        }
        let identity = format!("{key}\u{1f}{}", alert.id);
        let id = format!("{:032x}", br_std::hash::hash128(identity.as_bytes()));
        let service = service_of(&alert.labels).to_owned();
        let name = alert.labels.get("alertname").unwrap_or("");
        let title = if service.is_empty() { name.to_owned() } else { format!("{name} on {service}") };
        let severity = alert.labels.get("severity").unwrap_or("").to_owned();
        self.record(Fact::new(&id, at, FactKind::Opened { title, severity, service, correlation_key: key }))?;
        Ok(id)
    }

    /// What a person does to an incident. It is done when this returns.
    pub(super) async fn act(&mut self, id: &str, at: Nanos, kind: FactKind) -> Result<Incident> {
        let incident = self.incidents.get(id).ok_or_else(|| Error::not_found(format!("there is no incident {id}")))?;
        if incident.is_full() {
            return Err(Error::over_limit("the incident has as many entries as are kept"));
        }
        let is_repeat = match kind {
            FactKind::Acknowledged { .. } => incident.acknowledged().is_some(),
            FactKind::Resolved { .. } => incident.resolved().is_some(),
            _ => false,
        };
        if !is_repeat {
            let fact = Fact::new(id, at, kind);
            let entry = NewLedgerEntry { at, kind: fact.ledger_kind().to_owned(), subject: id.to_owned(), body: fact.to_json()? };
            // First on stable storage: a person who was told "done" must be able to rely on it.
            self.commit(at).await?;
            self.catalog.append_ledger(self.tenant, &[entry], &[], at).await?;
            self.apply(fact);
        }
        self.incidents.get(id).cloned().ok_or_else(|| Error::not_found(format!("there is no incident {id}")))
    }

    /// Commits what happened since the last time.
    pub(super) async fn commit(&mut self, now: Nanos) -> Result<()> {
        if self.groups_changed {
            self.keep_groups()?;
            self.groups_changed = false;
        }
        if self.backlog.ledger.is_empty() && self.backlog.outbox.is_empty() && self.backlog.state.is_empty() {
            return Ok(());
        }
        match self.catalog.commit_change(self.tenant, &self.backlog, now).await {
            Ok(_) => {
                self.backlog = Change::default();
                Ok(())
            }
            Err(error) => {
                let excess = self.backlog.ledger.len().saturating_sub(BACKLOG_MAX);
                if excess > 0 {
                    self.backlog.ledger.drain(..excess);
                    tracing::error!(event = "AlertLedgerLost", entries = excess, "the catalog was away for too long");
                }
                Err(error.context("alert states are not on stable storage yet"))
            }
        }
    }

    pub(super) fn next_message_at(&self) -> Option<Nanos> {
        self.groups.next_at(self.times)
    }

    /// Puts messages that are due into the outbox. Returns how many.
    pub(super) async fn flush(&mut self, now: Nanos) -> Result<usize> {
        if self.next_message_at().is_none_or(|due| due > now) {
            return Ok(0);
        }
        // Bodies are made from the ledger, so everything must be in it.
        self.commit(now).await?;
        let before = self.groups.clone();
        let flushes = self.groups.step(now, self.times);
        match self.queue(&flushes, now).await {
            Ok(count) => Ok(count),
            Err(error) => {
                self.groups = before;
                self.backlog = Change::default();
                Err(error)
            }
        }
    }

    async fn queue(&mut self, flushes: &[Flush], now: Nanos) -> Result<usize> {
        let mut items = Vec::new();
        for flush in flushes {
            let alerts = self.message_alerts(flush).await?;
            for channel in &self.channels {
                match self.item(channel, flush, &alerts, now) {
                    Ok(item) => items.extend(item),
                    // One message that cannot be written must not hold up the others.
                    Err(error) => tracing::error!(event = "MessageBuildError", channel = %channel.name, %error),
                }
            }
        }
        let count = items.len();
        self.keep_groups()?;
        self.backlog.outbox = items;
        self.commit(now).await?;
        Ok(count)
    }

    fn item(&self, channel: &Channel, flush: &Flush, alerts: &[MessageAlert], now: Nanos) -> Result<Option<NewOutboxItem>> {
        let heard = |alert: &&MessageAlert| channel.send_resolved || alert.ends_at.is_none();
        let heard: Vec<MessageAlert> = alerts.iter().filter(heard).cloned().collect();
        if heard.is_empty() {
            return Ok(None);
        }
        let ChannelKind::Webhook(webhook) = &channel.kind;
        let total = flush.firing.len() + flush.resolved.len();
        let message = Message {
            receiver: channel.name.clone(),
            external_url: self.external_url.clone(),
            group_labels: Labels::from_pairs([("alertname", flush.key.alertname.as_str())]),
            group_key: format!(
                "{{}}/{{{}/{}}}:{{alertname={:?}}}",
                flush.key.rule_file, flush.key.rule_group, flush.key.alertname
            ),
            left_out: flush.left_out + total.saturating_sub(alerts.len()) as u64,
            alerts: heard,
        };
        let payload = payload(&message, webhook.payload_bytes_max)?;
        let dedup_key = format!("{}/{}", channel.name, flush.dedup_key);
        Ok(Some(NewOutboxItem { dedup_key, channel: channel.name.clone(), payload, not_before: now }))
    }

    /// The alerts of a message, as the ledger has them: firing ones first.
    async fn message_alerts(&self, flush: &Flush) -> Result<Vec<MessageAlert>> {
        let mut alerts = Vec::new();
        for id in flush.firing.iter().chain(&flush.resolved).take(MESSAGE_ALERTS_MAX) {
            let entries = self.alert_entries(id).await?;
            let Some(latest) = entries.last() else {
                tracing::error!(event = "MessageAlertError", alert = %id, "the ledger does not know an alert that was to be told");
                continue;
            };
            let alert = latest.alert.to_alert()?;
            let evidence = entries.iter().find_map(|entry| entry.evidence.as_ref());
            let evidence = evidence.map(serde_json::to_value).transpose();
            let evidence = evidence.map_err(|error| Error::corrupt(format!("evidence of alert {id}: {error}")))?;
            alerts.push(MessageAlert {
                id: id.clone(),
                starts_at: alert.fired_at.unwrap_or(alert.active_at),
                ends_at: alert.resolved_at,
                generator_url: format!("{}/alerts/{id}#{}", self.external_url.trim_end_matches('/'), fingerprint(&alert.labels)),
                evidence,
                incident_id: latest.incident_id.clone(),
                labels: alert.labels,
                annotations: alert.annotations,
            });
        }
        Ok(alerts)
    }

    /// What the ledger says of one alert, oldest first.
    pub(super) async fn alert_entries(&self, id: &str) -> Result<Vec<AlertEntry>> {
        let filter = LedgerFilter { kind_prefix: "alert.".to_owned(), subject: Some(id.to_owned()), ..LedgerFilter::default() };
        let entries = self.catalog.ledger(self.tenant, &filter, PAGE).await?;
        let read = |entry: &br_catalog::LedgerEntry| {
            serde_json::from_str(&entry.body).map_err(|error| Error::corrupt(format!("ledger entry {}: {error}", entry.id)))
        };
        entries.iter().map(read).collect()
    }

    /// Evidence may take this long to gather.
    pub(super) const EVIDENCE_TIME_MAX: Duration = Duration::from_secs(2);
}
