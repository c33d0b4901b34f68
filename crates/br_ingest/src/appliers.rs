//! What the lanes do: into the metrics store, into the event store, into the list of error issues.

use crate::decode::{DecodeLimits, decode};
use crate::decoded::{Decoded, Refused};
use crate::delta::{Accumulator, IDLE_MS_MAX, Late};
use crate::deploys::{DeployWatch, resources};
use crate::intake::{has_metrics, has_spans};
use crate::lane::Applier;
use crate::span_metrics::{SpanMetrics, When};
use crate::tail::Tail;
use br_catalog::{Catalog, ErrorBatch, ErrorOccurrence};
use br_env::Clock;
use br_events::{EventStore, SealedEvents};
use br_journal::Protocol;
use br_model::{KnownSeries, Labels, LogRecord, MetricBatch, Resource, TenantId};
use br_std::{Nanos, Result};
use br_storage::JournalPosition;
use br_tsdb::{AppendOutcome, Learning, SealedHead, Tsdb};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::Notify;

/// Heads that were sealed and wait to be written, oldest first. They are few: the lane seals only when the flusher asks.
#[derive(Default)]
pub struct Sealed {
    metrics: Mutex<VecDeque<SealedHead>>,
    events: Mutex<VecDeque<SealedEvents>>,
    /// Told when a head has grown so large that it should be sealed before its time.
    pub wanted: Notify,
}

impl Sealed {
    pub fn take_metrics(&self) -> Option<SealedHead> {
        self.metrics.lock().pop_front()
    }

    /// After a failure: it is the oldest still.
    pub fn put_back_metrics(&self, sealed: SealedHead) {
        self.metrics.lock().push_front(sealed);
    }

    pub fn take_events(&self) -> Option<SealedEvents> {
        self.events.lock().pop_front()
    }

    /// After a failure: it is the oldest still.
    pub fn put_back_events(&self, sealed: SealedEvents) {
        self.events.lock().push_front(sealed);
    }
}

pub struct MetricsApplier {
    store: Arc<Tsdb>,
    sealed: Arc<Sealed>,
    limits: DecodeLimits,
    clock: Arc<dyn Clock>,
    deltas: Accumulator,
    /// What spans tell, where that is kept.
    spans: Option<SpanMetrics>,
    last_received: Nanos,
    /// A flush was asked for, and the seal that begins it has not come yet.
    has_asked: bool,
    /// Records wait for room.
    is_full: bool,
}

impl MetricsApplier {
    pub fn new(store: Arc<Tsdb>, sealed: Arc<Sealed>, limits: DecodeLimits, clock: Arc<dyn Clock>) -> Self {
        let (deltas, last_received) = (Accumulator::default(), Nanos::default());
        Self { store, sealed, limits, clock, deltas, spans: None, last_received, has_asked: false, is_full: false }
    }

    /// The same, which counts spans and the calls between services.
    #[must_use]
    pub fn with_span_metrics(mut self) -> Self {
        self.spans = Some(SpanMetrics::default());
        self
    }

    /// What came with its labels.
    fn append(&self, at: Place, batch: &MetricBatch, learning: Learning<'_>, refused: &Mutex<Refused>) {
        match self.store.append_learning(at.tenant, at.position, batch, learning, at.received) {
            Ok(outcome) => tell(at.tenant, &outcome, refused),
            Err(error) => lost("metrics", at.position, &error),
        }
    }

    /// Deltas, as sums. A new series that the store refuses is not summed up either.
    fn append_deltas(&mut self, at: Place, deltas: &MetricBatch, late: Late, refused: &Mutex<Refused>) {
        let last = |labels: &Labels, at_ms: i64| {
            let hour = at_ms.saturating_sub(IDLE_MS_MAX)..=at_ms.saturating_add(IDLE_MS_MAX);
            let found = self.store.last_sample(at.tenant, labels, hour);
            found.unwrap_or_else(|error| {
                tracing::error!(event = "DeltaSumReadError", "a sum of deltas begins anew: {error}");
                None
            })
        };
        let done = self.deltas.accumulate(at.tenant, deltas, late, &last);
        self.append(at, &done.batch, Learning::default(), refused);
        let mut known = self.store.known_series(at.tenant);
        let mut look = known.look();
        for key in done.fresh.iter().filter(|key| **key != 0) {
            if look.find(*key).is_none() {
                self.deltas.forget(at.tenant, *key);
            }
        }
        let count = done.refused_count();
        if count > 0 {
            self.store.count_refused(at.tenant, &done.refused);
            let mut refused = refused.lock();
            refused.count += count;
            refused.samples += count;
            refused.examples.extend(done.examples);
        }
    }

    /// Nobody waits to hear what is refused of it: the store counts that.
    fn append_span_metrics(&mut self, position: JournalPosition, when: When) {
        let Some(spans) = &mut self.spans else { return };
        for (tenant, batch) in spans.take(self.last_received, when) {
            self.append_deltas(Place { tenant, position, received: self.last_received }, &batch, Late::Moves, &Mutex::default());
        }
    }

    /// Samples of series that were known as the request was decoded. False when one of them is no longer, and nothing was taken.
    fn append_known(&self, at: Place, decoded: &Decoded) -> bool {
        match self.store.append_known(at.tenant, at.position, &decoded.known, at.received) {
            Ok(Some(outcome)) => tell(at.tenant, &outcome, &decoded.refused),
            Ok(None) => return false,
            Err(error) => lost("metrics", at.position, &error),
        }
        true
    }
}

/// Whose record, and which.
#[derive(Clone, Copy)]
struct Place {
    tenant: TenantId,
    position: JournalPosition,
    received: Nanos,
}

fn tell(tenant: TenantId, outcome: &AppendOutcome, refused: &Mutex<Refused>) {
    if outcome.rejected.is_empty() && outcome.refused_exemplars == 0 {
        return;
    }
    let mut refused = refused.lock();
    refused.count += outcome.rejected_count();
    refused.samples += outcome.refused_samples;
    refused.exemplars += outcome.refused_exemplars;
    for rejection in &outcome.rejected {
        refused.examples.push(rejection.example.clone());
        let (reason, count) = (rejection.reason.as_str(), rejection.count);
        tracing::debug!(event = "SamplesRejected", tenant = tenant.0, reason, count, "{}", rejection.example);
    }
}

impl Applier for MetricsApplier {
    fn wants(&self, protocol: Protocol) -> bool {
        has_metrics(protocol) || (self.spans.is_some() && has_spans(protocol))
    }

    /// A head that is large is flushed soon; while it cannot be, senders are asked to come again.
    fn make_room(&mut self) -> bool {
        let is_full = !self.store.has_room();
        if is_full && !self.is_full {
            tracing::error!(
                event = "MetricsHeadFull",
                "samples wait in the journal until those in memory can be written to files"
            );
        }
        self.is_full = is_full;
        if !self.has_asked && (is_full || self.store.is_flush_wanted()) {
            self.has_asked = true;
            self.sealed.wanted.notify_one();
        }
        !is_full
    }

    fn apply(&mut self, tenant: TenantId, position: JournalPosition, received: Nanos, decoded: &Arc<Decoded>) {
        self.last_received = received;
        if let Some(deletion) = &decoded.deletion {
            // The store seals what it has: what was counted until now goes with it.
            self.append_span_metrics(position, When::AtOnce);
            let foreseen = std::mem::take(&mut *decoded.foreseen.lock());
            let sealed = self.store.delete(tenant, position, deletion.clone(), foreseen, received);
            self.sealed.metrics.lock().extend(sealed);
            return;
        }
        let at = Place { tenant, position, received };
        if !decoded.known.is_empty()
            && !self.append_known(at, decoded)
            && let Some(Ok(whole)) = decoded.record.as_ref().map(|record| decode(record, &self.limits))
        {
            let learning = Learning { identities: &whole.identities, policy: decoded.policy };
            return self.append(at, &whole.metrics, learning, &decoded.refused);
        }
        let learning = Learning { identities: &decoded.identities, policy: decoded.policy };
        self.append(at, &decoded.metrics, learning, &decoded.refused);
        if !decoded.delta_metrics.series.is_empty() {
            self.append_deltas(at, &decoded.delta_metrics, Late::Refused, &decoded.refused);
        }
        if let Some(spans) = &mut self.spans {
            spans.observe(tenant, &decoded.spans, received);
        }
        self.append_span_metrics(position, When::Due);
    }

    fn seal(&mut self, position: JournalPosition) -> Result<()> {
        self.has_asked = false;
        self.append_span_metrics(position, When::AtOnce);
        self.deltas.forget_idle(self.last_received.as_millis());
        let dropped = self.deltas.take_dropped();
        if dropped > 0 {
            tracing::warn!(event = "DeltaSeriesLimit", dropped, "more delta series than can be summed up");
        }
        let sealed = self.store.seal_at(position, self.clock.now());
        self.sealed.metrics.lock().extend(sealed);
        Ok(())
    }
}

pub struct EventsApplier {
    pub store: Arc<EventStore>,
    pub sealed: Arc<Sealed>,
    pub tail: Tail,
}

impl Applier for EventsApplier {
    fn wants(&self, protocol: Protocol) -> bool {
        !has_metrics(protocol)
    }

    /// Heads are written out when they are large, whatever the time; while they cannot be, senders are asked to come again.
    fn make_room(&mut self) -> bool {
        let options = self.store.options();
        let bytes = self.store.head_bytes();
        if bytes >= options.head_bytes_wanted {
            self.sealed.wanted.notify_one();
        }
        bytes < options.head_bytes_max
    }

    fn apply(&mut self, tenant: TenantId, position: JournalPosition, _received: Nanos, decoded: &Arc<Decoded>) {
        if let Some(erasure) = &decoded.erasure {
            self.tail.erase(tenant, erasure);
            if let Err(error) = self.store.erase(tenant, position, erasure.clone()) {
                lost("erasure", position, &error);
            }
            return;
        }
        if !decoded.logs.groups.is_empty() {
            if let Err(error) = self.store.append_logs(tenant, position, &decoded.logs) {
                lost("logs", position, &error);
            }
            self.tail.publish(tenant, decoded);
        }
        if !decoded.spans.groups.is_empty()
            && let Err(error) = self.store.append_spans(tenant, position, &decoded.spans)
        {
            lost("spans", position, &error);
        }
    }

    fn seal(&mut self, position: JournalPosition) -> Result<()> {
        let sealed = self.store.seal(position);
        self.sealed.events.lock().extend(sealed);
        Ok(())
    }
}

/// A store that breaks on a record has broken an invariant of its own. The record stays in the journal until it is cut.
fn lost(store: &str, position: JournalPosition, error: &br_std::Error) {
    tracing::error!(event = "StoreApplyError", store, position = position.0, "{error}");
}

/// Counts error events into issues, and notes deploys. Writes to the catalog when nothing waits, or when enough has gathered.
pub struct IssuesApplier {
    catalog: Arc<Catalog>,
    runtime: Handle,
    gathered: Vec<ErrorBatch>,
    deploys: DeployWatch,
    /// Told once, however often it is tried.
    is_failing: bool,
}

const GATHERED_MAX: usize = 512;

impl IssuesApplier {
    pub fn new(catalog: Arc<Catalog>, runtime: Handle) -> Self {
        Self { catalog, runtime, gathered: Vec::new(), deploys: DeployWatch::default(), is_failing: false }
    }

    /// What the catalog does not take stays gathered, and is tried again: nothing else could keep the count right.
    fn write(&mut self) -> Result<()> {
        let written = self.runtime.block_on(async {
            // First what the position of the other may not overtake.
            self.deploys.write(&self.catalog).await?;
            if self.gathered.is_empty() {
                return Ok(());
            }
            self.catalog.record_errors(&self.gathered).await.map(drop)
        });
        match &written {
            Ok(()) => self.gathered.clear(),
            Err(error) if !self.is_failing => tracing::error!(event = "IssuesWriteError", "{error}"),
            Err(_) => {}
        }
        self.is_failing = written.is_err();
        written
    }
}

impl Applier for IssuesApplier {
    fn wants(&self, protocol: Protocol) -> bool {
        !has_metrics(protocol)
    }

    fn apply(&mut self, tenant: TenantId, position: JournalPosition, received: Nanos, decoded: &Arc<Decoded>) {
        for resource in resources(decoded) {
            self.deploys.hear(tenant, resource, received);
        }
        let mut occurrences = Vec::new();
        for group in &decoded.logs.groups {
            occurrences.extend(group.records.iter().filter_map(|record| occurrence(&group.resource, record)));
        }
        if !occurrences.is_empty() {
            self.gathered.push(ErrorBatch { tenant, position, occurrences });
        }
    }

    fn make_room(&mut self) -> bool {
        self.gathered.len() < GATHERED_MAX || self.write().is_ok()
    }

    fn idle(&mut self) -> bool {
        self.write().is_ok()
    }

    fn seal(&mut self, position: JournalPosition) -> Result<()> {
        // An empty batch moves the position, so that the journal need not be kept for days without errors.
        if self.gathered.last().is_none_or(|last| last.position < position) {
            self.gathered.push(ErrorBatch { tenant: TenantId(0), position, occurrences: Vec::new() });
        }
        self.write()
    }
}

fn occurrence(resource: &Resource, record: &LogRecord) -> Option<ErrorOccurrence> {
    let error = record.error.as_ref()?;
    let primary = error.primary();
    let culprit = error.culprit().map(|frame| {
        let place = if frame.module.is_empty() { &frame.filename } else { &frame.module };
        format!("{place} in {}", frame.function)
    });
    let grouping = error.grouping();
    // An SDK may tell a raise twice at the same height of the stack: in a span's event and in a log record.
    let channel = if record.attributes.get("span.name").is_some() { "span" } else { "record" };
    Some(ErrorOccurrence {
        issue: grouping.hash,
        at: record.timestamp,
        title: error.title(),
        error_type: primary.map(|exception| exception.exception_type.clone()).unwrap_or_default(),
        value: primary.map(|exception| exception.value.clone()).unwrap_or_default(),
        culprit: culprit.unwrap_or_else(|| error.transaction.clone()),
        service: resource.service_name().to_owned(),
        level: record.severity.as_str().to_owned(),
        release: error.release.clone(),
        trace_id: if record.trace_id.is_none() { String::new() } else { record.trace_id.to_string() },
        grouping: grouping.explanation,
        stack: error.raise_stack(),
        reporter: format!("{} {channel}", error.sdk),
        is_custom: grouping.is_custom,
    })
}
