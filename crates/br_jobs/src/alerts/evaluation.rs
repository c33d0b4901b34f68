//! Groups of rules on time. Each group keeps its own beat: one that is slow misses beats of its own and delays no other.

use super::GroupEvaluator;
use super::engine::AlertEngine;
use super::evidence::Evidence;
use super::gather::LOOKBACK;
use super::journal::Journal;
use super::runtime::{GroupRuntime, GroupSlot, RuleRuntime};
use br_model::{MetricBatch, Sample, SeriesSamples};
use br_route::GroupKey;
use br_rules::{Alert, AlertState, Cause, Effect, Environment, Outcome, ResultSample, RuleSample, Transition};
use br_std::{Error, Nanos, Result};
use br_storage::{Budget, CancelReason};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The engine looks for due groups at least this often.
const BEAT_MAX: Duration = Duration::from_secs(1);
/// Between two beats at the least.
const WAIT_MIN: Duration = Duration::from_millis(1);
/// The same while the catalog cannot be written.
const WAIT_FAILING: Duration = Duration::from_secs(1);
/// One expression may hold this much.
const EXPRESSION_BYTES_MAX: u64 = 256 << 20;
/// And take this long.
const EXPRESSION_TIME_MAX: Duration = Duration::from_mins(2);
/// Evidence may hold this much memory while it is gathered.
const EVIDENCE_BYTES_MAX: u64 = 64 << 20;

/// A rule's condition, or what was said to receivers, has changed in this way.
struct Recorded {
    alert: Alert,
    at: Nanos,
    /// With the evidence that was gathered when it fired; none when it resolved.
    evidence: Option<Evidence>,
}

impl AlertEngine {
    /// Evaluates each group at its times and sends messages when they are due, until told to stop.
    pub async fn run(self: Arc<Self>, mut stopped: watch::Receiver<bool>) {
        let mut from = self.clock.now();
        let mut running = JoinSet::new();
        loop {
            let now = self.clock.now();
            for (slot, beat) in self.due(from, now) {
                running.spawn(self.clone().evaluate_slot(slot, beat));
            }
            from = now;
            let is_kept = self.commit_and_tell(now).await;
            let wait = self.next_at(now).await.since(self.clock.now()).min(BEAT_MAX);
            // A message that is due stays due while the catalog cannot be written.
            let wait_min = if is_kept { WAIT_MIN } else { WAIT_FAILING };
            tokio::select! {
                () = tokio::time::sleep(wait.max(wait_min)) => {}
                Some(done) = running.join_next() => rethrow(done),
                _ = stopped.wait_for(|stopped| *stopped) => break,
            }
        }
        // A step that is half done would be done again after the start; to end it is cheaper.
        while let Some(done) = running.join_next().await {
            rethrow(done);
        }
        self.commit_and_tell(self.clock.now()).await;
    }

    /// Evaluates every group that has an evaluation time after `from` and not after `now`, at the last such time, and
    /// commits. Times that were missed in between are skipped, as Prometheus does.
    pub async fn evaluate_due(self: &Arc<Self>, from: Nanos, now: Nanos) {
        let mut running = JoinSet::new();
        for (slot, beat) in self.due(from, now) {
            running.spawn(self.clone().evaluate_slot(slot, beat));
        }
        while let Some(done) = running.join_next().await {
            rethrow(done);
        }
        self.commit_and_tell(now).await;
    }

    /// Groups with a beat in the time, those left out that still work on an earlier one.
    fn due(&self, from: Nanos, now: Nanos) -> Vec<(Arc<GroupSlot>, Nanos)> {
        let slots = self.slots.read();
        let due = slots.iter().filter_map(|slot| {
            let beat = slot.schedule.at_or_before(now);
            (beat > from && slot.runtime.try_lock().is_ok()).then(|| (slot.clone(), beat))
        });
        due.collect()
    }

    async fn next_at(&self, now: Nanos) -> Nanos {
        let next = self.slots.read().iter().map(|slot| slot.schedule.after(now)).min().unwrap_or(Nanos::MAX);
        self.journal.lock().await.next_message_at().map_or(next, |message| message.min(next))
    }

    /// False when something could not be committed.
    async fn commit_and_tell(&self, now: Nanos) -> bool {
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

    async fn evaluate_slot(self: Arc<Self>, slot: Arc<GroupSlot>, beat: Nanos) {
        let mut group = slot.runtime.lock().await;
        let missed = group.last_evaluation.map_or(0, |last| slot.schedule.missed(last, beat));
        if missed > 0 {
            tracing::warn!(event = "RuleEvaluationMissed", group = %group.group.name, missed);
        }
        self.evaluate(&mut group, beat).await;
        slot.show(&group);
    }

    async fn evaluate(&self, group: &mut GroupRuntime, at: Nanos) {
        let started = self.clock.monotonic();
        let query_at = at - group.group.query_offset.unwrap_or(self.options.query_offset);
        let GroupRuntime { file, group: rule_group, rules, evaluator, .. } = group;
        evaluator.begin();
        for (place, rule) in rules.iter_mut().enumerate() {
            let key = rule.key_in(file, &rule_group.name);
            let asked = self.ask(evaluator.clone(), place, query_at);
            let Some(outcome) = self.evaluate_rule(rule, at, asked).await else { continue };
            self.follow(&key, rule, outcome, query_at).await;
        }
        group.last_evaluation = Some(at);
        group.evaluation_time = self.clock.monotonic().saturating_sub(started);
    }

    /// Asks for the rule's samples and takes the step; none when the samples could not be had.
    async fn evaluate_rule(
        &self,
        rule: &mut RuleRuntime,
        at: Nanos,
        asked: impl Future<Output = Result<Vec<ResultSample>>>,
    ) -> Option<Outcome> {
        let started = self.clock.monotonic();
        let asked = asked.await;
        // Templates may ask again, which blocks: rare, and as quick as the rule itself. A rule that breaks inside stops no other.
        let stepped = asked.and_then(|samples| {
            let step = || tokio::task::block_in_place(|| self.step(rule, at, &samples));
            catch_unwind(AssertUnwindSafe(step)).map_err(|_| Error::corrupt("the rule failed inside"))
        });
        let outcome = match stepped {
            Ok(outcome) => Some(outcome),
            Err(error) => {
                rule.failed(at, error.to_string());
                None
            }
        };
        rule.last_evaluation = Some(at);
        rule.evaluation_time = self.clock.monotonic().saturating_sub(started);
        outcome
    }

    /// The samples of a rule's expression, asked for where blocking is allowed. A query that breaks inside fails its rule and nothing
    /// else.
    async fn ask(&self, evaluator: Arc<dyn GroupEvaluator>, place: usize, at: Nanos) -> Result<Vec<ResultSample>> {
        let _turn = self.turns.acquire().await.map_err(|_| Error::closed("the alert engine has stopped"))?;
        let budget = Arc::new(Budget::new(EXPRESSION_BYTES_MAX));
        let work_budget = budget.clone();
        let mut work = tokio::task::spawn_blocking(move || {
            catch_unwind(AssertUnwindSafe(|| evaluator.instant(place, at, &work_budget)))
                .unwrap_or_else(|_| Err(Error::corrupt("the query failed inside")))
        });
        let in_time = tokio::time::timeout(EXPRESSION_TIME_MAX, &mut work).await;
        let done = if let Ok(done) = in_time {
            done
        } else {
            budget.cancel(CancelReason::Deadline);
            work.await
        };
        done.unwrap_or_else(|error| Err(Error::closed(error.to_string())))
    }

    fn step(&self, rule: &mut RuleRuntime, at: Nanos, samples: &[ResultSample]) -> Outcome {
        let query = |expression: &str, at: Nanos| {
            let budget = Budget::new(EXPRESSION_BYTES_MAX);
            self.evaluator.instant(self.options.tenant, expression, at, &budget).map_err(|error| error.to_string())
        };
        let environment = Environment {
            external_labels: &self.options.external_labels,
            external_url: &self.options.external_url,
            query: &query,
        };
        rule.step(at, samples, &environment)
    }

    /// Writes the samples under the time that the expression was asked for, and records what changed.
    async fn follow(&self, key: &GroupKey, rule: &mut RuleRuntime, outcome: Outcome, query_at: Nanos) {
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
        if let Err(error) = self.write(query_at, samples).await {
            tracing::error!(event = "RuleWriteError", rule = rule.rule.name(), %error);
        }
        let recorded = self.recorded(rule, &changes).await;
        self.record(key, rule, recorded).await;
    }

    /// What of the changes the ledger is to hold, with evidence gathered for those that fire.
    async fn recorded(&self, rule: &RuleRuntime, changes: &[Transition]) -> Vec<Recorded> {
        if changes.is_empty() {
            return Vec::new();
        }
        let alerts: BTreeMap<String, Alert> = rule.alerts().into_iter().map(|alert| (alert.id.clone(), alert)).collect();
        let mut recorded = Vec::new();
        for change in changes {
            let Some(alert) = alerts.get(&change.id).cloned() else { continue };
            let evidence = match (change.from, change.to, change.cause) {
                (_, AlertState::Firing, _) => Some(self.evidence(&alert, &rule.rule.expression, change.at).await),
                (AlertState::Firing, AlertState::Inactive, Cause::Condition) => None,
                _ => continue,
            };
            recorded.push(Recorded { alert, at: change.at, evidence });
        }
        recorded
    }

    /// In one hold of the journal: what a rule did and the state it did it from are committed together or not at all.
    async fn record(&self, key: &GroupKey, rule: &mut RuleRuntime, recorded: Vec<Recorded>) {
        let mut journal = self.journal.lock().await;
        for Recorded { alert, at, evidence } in recorded {
            let outcome = match evidence {
                Some(evidence) => journal.fired(at, key, &alert, evidence),
                None => journal.resolved(at, key, &alert),
            };
            if let Err(error) = outcome {
                tracing::error!(event = "AlertRecordError", alert = %alert.id, %error);
            }
        }
        if let Some(snapshots) = rule.take_changed()
            && let Err(error) = journal.keep(rule.state_key.clone(), &snapshots)
        {
            tracing::error!(event = "AlertKeepError", rule = rule.rule.name(), %error);
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

    pub(super) async fn write(&self, at: Nanos, samples: Vec<RuleSample>) -> Result<()> {
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
}

/// A panic of a step is a broken invariant: the engine stops on it.
fn rethrow(done: std::result::Result<(), tokio::task::JoinError>) {
    if let Err(error) = done
        && let Ok(panic) = error.try_into_panic()
    {
        std::panic::resume_unwind(panic);
    }
}
