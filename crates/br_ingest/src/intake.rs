//! The accept path: decode, journal, hand over to the stores' lanes, acknowledge.

use crate::decode::{DecodeLimits, decode, decode_with};
use crate::decoded::{Decoded, Refused};
use crate::deploys::ToldVersions;
use crate::erasure::ErasureRequest;
use crate::files::FileCounters;
use crate::lane::{Lane, LaneStart};
use crate::redaction::{Clean, Found, Redaction, redact};
use crate::room::{Rooms, Taken, Weight};
use crate::sink::SampleSink;
use crate::syslog::SyslogCounters;
use br_env::Clock;
use br_journal::{Journal, Protocol, Record};
use br_model::{Labels, MetricBatch, TenantId};
use br_std::{Error, Nanos, Result};
use br_storage::{Budget, JournalPosition};
use br_tsdb::{Deletion, Foreseen, Tsdb};
use br_wire::{Limits, Rejection, WireError, elastic, remote_write};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A request body with what is needed to read it.
#[derive(Clone, Debug)]
pub struct Incoming {
    pub tenant: TenantId,
    pub protocol: Protocol,
    /// As the sender named it.
    pub content_type: String,
    /// As the sender named it; empty for none.
    pub content_encoding: String,
    /// What else is needed to read the body again.
    pub context: Vec<(String, String)>,
    pub body: Bytes,
}

/// What was done with a request that is now safe.
#[derive(Debug, Default)]
pub struct Receipt {
    pub samples: usize,
    pub exemplars: usize,
    pub histograms: usize,
    pub records: usize,
    pub spans: usize,
    /// Refused as the body was read.
    pub rejected: Vec<Rejection>,
    /// Refused by a store, one example for each reason.
    pub refused: Vec<String>,
    /// Of both kinds.
    pub rejected_count: u64,
    /// What was cut or left out of records that are kept, in one line.
    pub cut: Option<String>,
    /// What became of each action of a bulk request.
    pub items: Option<elastic::Items>,
    /// Where it stands in the journal; 0 when nothing of it had to be kept.
    pub position: JournalPosition,
}

impl Receipt {
    /// What was refused, in one line for the sender.
    pub fn complaint(&self) -> String {
        let decoded = self.rejected.iter().map(ToString::to_string);
        let shown: Vec<String> = decoded.chain(self.refused.iter().cloned()).take(8).collect();
        shown.join("; ")
    }

    /// The same, with what was cut of the rest.
    pub fn message(&self) -> String {
        let parts = [self.complaint(), self.cut.clone().unwrap_or_default()];
        parts.iter().filter(|part| !part.is_empty()).cloned().collect::<Vec<_>>().join("; ")
    }

    /// What was decoded is not stored in part: it does not count as taken.
    fn refused_by_store(&mut self, refused: Refused) {
        self.exemplars = self.exemplars.saturating_sub(usize::try_from(refused.exemplars).unwrap_or(usize::MAX));
        let mut left = usize::try_from(refused.samples).unwrap_or(usize::MAX);
        for taken in [&mut self.samples, &mut self.histograms] {
            let part = left.min(*taken);
            *taken -= part;
            left -= part;
        }
        self.rejected_count += refused.count;
        self.refused = refused.examples;
    }
}

/// Why nothing of a request was kept.
#[derive(Debug)]
pub enum AcceptError {
    /// The body is at fault.
    Wire(WireError),
    /// The server is.
    Other(Error),
}

impl AcceptError {
    pub fn too_large(message: String) -> Self {
        Self::Wire(WireError::TooLarge(message))
    }

    pub fn malformed(message: String) -> Self {
        Self::Wire(WireError::Malformed(message))
    }
}

impl std::fmt::Display for AcceptError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Wire(error) => error.fmt(f),
            Self::Other(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for AcceptError {}

impl From<WireError> for AcceptError {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

impl From<Error> for AcceptError {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

/// Counts for `/metrics`.
#[derive(Debug, Default)]
pub struct IntakeCounters {
    pub requests: AtomicU64,
    pub samples: AtomicU64,
    pub records: AtomicU64,
    pub spans: AtomicU64,
    pub errors: AtomicU64,
    pub rejected: AtomicU64,
    pub refused_overload: AtomicU64,
    pub body_bytes: AtomicU64,
    pub lines_cut: AtomicU64,
    pub attributes_cut: AtomicU64,
    pub attributes_dropped: AtomicU64,
    pub span_children_dropped: AtomicU64,
    /// Spans that span metrics lack.
    pub spans_uncounted: AtomicU64,
    pub syslog: SyslogCounters,
    pub files: Arc<FileCounters>,
    unknown_items: Mutex<BTreeMap<String, u64>>,
}

impl IntakeCounters {
    /// Items of envelopes that nothing here reads, by type.
    pub fn unknown_items(&self) -> Vec<(String, u64)> {
        self.unknown_items.lock().iter().map(|(kind, count)| (kind.clone(), *count)).collect()
    }

    /// Types are the sender's words: only so many are told apart.
    fn count_unknown(&self, kind: &str) {
        const KINDS_MAX: usize = 50;
        let mut counts = self.unknown_items.lock();
        let kind = if counts.len() < KINDS_MAX || counts.contains_key(kind) { kind } else { "other" };
        *counts.entry(kind.chars().take(64).collect()).or_default() += 1;
    }
}

/// The stores' lanes.
pub struct Lanes {
    pub metrics: Lane,
    pub events: Lane,
    pub issues: Lane,
}

/// A request that is decoded, and what it takes.
struct Accepted {
    decoded: Decoded,
    bytes: usize,
    /// Of what came from outside, until the lanes have it.
    room: Option<Taken>,
}

impl Accepted {
    /// A small body may hold much: what waits for a lane counts by what it takes in memory.
    fn new(decoded: Decoded, record: &Record) -> Self {
        let bytes = decoded.memory_bytes().max(record.body.len());
        Self { decoded, bytes, room: None }
    }
}

pub struct Intake {
    journal: Arc<Journal>,
    clock: Arc<dyn Clock>,
    /// Held while a record gets its position and goes into the lanes.
    order: Arc<Mutex<()>>,
    limits: DecodeLimits,
    /// Asked, as requests are decoded, for the series that it knows.
    metrics: Arc<Tsdb>,
    /// For bodies that are being decoded.
    rooms: Rooms,
    versions: ToldVersions,
    /// Comes before the journal.
    pub redaction: Redaction,
    pub lanes: Lanes,
    pub counters: IntakeCounters,
}

/// An acknowledgement waits this long for the stores to show what it acknowledges: who writes and then reads finds it.
const SHOWN_WITHIN: Duration = Duration::from_secs(2);
/// The same for an erasure, which looks through all that is in memory.
const HIDDEN_WITHIN: Duration = Duration::from_secs(30);

/// Whether requests of this protocol bring metrics; all others bring events.
pub(crate) fn has_metrics(protocol: Protocol) -> bool {
    matches!(protocol, Protocol::REMOTE_WRITE_1 | Protocol::REMOTE_WRITE_2 | Protocol::OTLP_METRICS | Protocol::DELETE_SERIES)
}

/// Whether they may bring spans.
pub(crate) fn has_spans(protocol: Protocol) -> bool {
    matches!(
        protocol,
        Protocol::OTLP_TRACES | Protocol::ZIPKIN_2 | Protocol::JAEGER_THRIFT | Protocol::SENTRY_ENVELOPE | Protocol::SENTRY_STORE
    )
}

impl Intake {
    /// Starts the lanes; each first reads what the journal has beyond its store.
    pub fn start(
        journal: Arc<Journal>,
        clock: Arc<dyn Clock>,
        limits: DecodeLimits,
        store: Arc<Tsdb>,
        [metrics, events, issues]: [LaneStart; 3],
    ) -> Result<Self> {
        let order = Arc::new(Mutex::new(()));
        let lane = |name, start: LaneStart| Lane::start(name, journal.clone(), order.clone(), limits.clone(), start);
        let lanes =
            Lanes { metrics: lane("metrics", metrics)?, events: lane("events", events)?, issues: lane("issues", issues)? };
        let (rooms, versions) = (Rooms::default(), ToldVersions::default());
        let (redaction, counters) = (Redaction::default(), IntakeCounters::default());
        Ok(Self { journal, clock, order, limits, metrics: store, rooms, versions, redaction, lanes, counters })
    }

    pub fn journal(&self) -> &Arc<Journal> {
        &self.journal
    }

    pub(crate) fn now(&self) -> Nanos {
        self.clock.now()
    }

    /// What one body may have.
    pub(crate) fn body_bytes_max(&self) -> usize {
        self.limits.wire.body_bytes_max
    }

    /// Whether all stores have caught up with the journal.
    pub fn is_caught_up(&self) -> bool {
        let lanes = &self.lanes;
        [&lanes.metrics, &lanes.events, &lanes.issues].iter().all(|lane| lane.is_live())
    }

    /// Takes a request. Returns when it is on the disk; an error means that nothing of it was kept.
    pub async fn accept(&self, incoming: Incoming) -> Result<Receipt, AcceptError> {
        self.journal.check_accepting().inspect_err(|_| self.count_overload())?;
        let bytes = incoming.body.len();
        // One store that cannot write does not stop what is for the other; what a body is for in detail, `keep` sees.
        let lane = if has_metrics(incoming.protocol) { &self.lanes.metrics } else { &self.lanes.events };
        lane.check_room(bytes).inspect_err(|_| self.count_overload())?;
        let record = Record {
            tenant: incoming.tenant,
            protocol: incoming.protocol,
            received: self.clock.now(),
            is_compressed: !matches!(incoming.content_encoding.as_str(), "" | "identity"),
            context: context(&incoming),
            body: incoming.body,
        };
        let (record, accepted) = self.decode(record).await?;
        Ok(self.keep(record, accepted).await?)
    }

    /// Masks and decodes a body within the room that all bodies share. The record that comes back is the one to journal.
    async fn decode(&self, mut record: Record) -> Result<(Record, Accepted), AcceptError> {
        self.limits.remember(&mut record);
        let mut weight = Weight::of(&record, &self.limits.wire);
        let options = self.redaction.options();
        loop {
            let room = self.rooms.take(weight).await.inspect_err(|_| self.count_overload())?;
            let (store, limits) =
                (self.metrics.clone(), DecodeLimits { wire: weight.limits(self.limits.wire), ..self.limits.clone() });
            let policy = options.clone();
            let decoding = tokio::task::spawn_blocking(move || {
                // A sender that has gone ends the wait, not the work: what it takes stays counted until it is done.
                let mut room = room;
                let (tenant, number) = (record.tenant, policy.policy());
                let known_alone = |message: &[u8]| {
                    let mut series = store.known_series(tenant);
                    remote_write::v1::known_alone(message, &limits.wire, &mut series.look_under(number))
                };
                let Clean { record, unpacked, found, known } = match redact(record, &policy, &limits.wire, &known_alone) {
                    Ok(clean) => clean,
                    Err(refused) => {
                        let (record, error) = *refused;
                        return (record, Found::new(), Err(error));
                    }
                };
                let readable = unpacked.as_ref().unwrap_or(&record);
                let limits = if unpacked.is_some() { limits.for_unpacked() } else { limits };
                // Only here are labels sent in the same bytes each time: no other request takes the lock, or makes a head for its tenant.
                let decoded = if let Some(known) = known {
                    let mut decoded = Decoded { known, ..Decoded::default() };
                    limits.times.refuse(&mut decoded, record.received);
                    Ok(decoded)
                } else if record.protocol == Protocol::REMOTE_WRITE_1 {
                    decode_with(readable, &limits, &mut store.known_series(tenant).look_under(number))
                } else {
                    decode(readable, &limits)
                };
                drop(unpacked);
                let accepted = decoded.map(|mut decoded| -> Result<Accepted> {
                    decoded.policy = number;
                    let accepted = Accepted::new(decoded, &record);
                    room.settle(accepted.bytes)?;
                    Ok(Accepted { room: Some(room), ..accepted })
                });
                (record, found, accepted)
            });
            let outcome = decoding.await.map_err(|panic| Error::corrupt(format!("decoding failed inside: {panic}")))?;
            let same = match outcome {
                (record, found, Ok(accepted)) => {
                    let accepted = accepted.inspect_err(|_| self.count_overload())?;
                    self.redaction.count(&found);
                    return Ok((record, accepted));
                }
                (same, found, Err(error)) => {
                    // What is masked by now is not found again.
                    if !options.is_dry_run {
                        self.redaction.count(&found);
                    }
                    weight = weight.more(&error).ok_or(error)?;
                    same
                }
            };
            record = same;
        }
    }

    /// Masks samples that did not come as a body, before anything else keeps them.
    pub fn redact_batch(&self, batch: &mut MetricBatch) {
        self.redaction.redact_batch(batch);
    }

    /// The same labels as a store will have them.
    pub fn redact_labels(&self, labels: &Labels) -> Labels {
        self.redaction.redact_labels(labels)
    }

    /// Takes samples that were made here. They are journaled as a remote-write request.
    pub async fn accept_samples(&self, tenant: TenantId, mut batch: MetricBatch) -> Result<Receipt> {
        self.journal.check_accepting()?;
        self.lanes.metrics.check_room(0)?;
        self.redact_batch(&mut batch);
        let received = self.clock.now();
        let encoding = tokio::task::spawn_blocking(move || {
            let body = Bytes::from(remote_write::v2::encode(&batch));
            let context = vec![("content-encoding".to_owned(), "snappy".to_owned())];
            let record = Record { tenant, protocol: Protocol::REMOTE_WRITE_2, received, is_compressed: true, context, body };
            let accepted = Accepted::new(Decoded { metrics: batch, ..Decoded::default() }, &record);
            (record, accepted)
        });
        let (record, accepted) = encoding.await.map_err(|panic| Error::corrupt(format!("encoding failed inside: {panic}")))?;
        self.keep(record, accepted).await
    }

    /// Deletes samples between two times, both included, of the series that any of these selectors matches. What comes later stays.
    /// `foreseen` is what [`Intake::foresee_deletion`] gave a moment before.
    pub async fn delete_series(&self, tenant: TenantId, deletion: Deletion, foreseen: Foreseen) -> Result<()> {
        self.metrics.check_deletion(tenant)?;
        self.journal.check_accepting()?;
        let (received, body) = (self.clock.now(), Bytes::from(deletion.encode()));
        let (protocol, context) = (Protocol::DELETE_SERIES, Vec::new());
        let record = Record { tenant, protocol, received, is_compressed: false, context, body };
        let decoded = Decoded { deletion: Some(deletion), foreseen: foreseen.into(), ..Decoded::default() };
        let accepted = Accepted::new(decoded, &record);
        self.keep(record, accepted).await.map(drop)
    }

    /// What takes long of a deletion, within the budget of a query: everything that comes in waits while a deletion is carried out.
    pub fn foresee_deletion(&self, tenant: TenantId, deletion: &Deletion, budget: &Budget) -> Result<Foreseen> {
        self.metrics.foresee(tenant, deletion, budget)
    }

    /// Erases the logs and spans that are meant, of what was accepted until now. Returns when no query finds them any more (while
    /// the journal is still read back: when it is on the disk), with the record of it.
    pub async fn erase_events(&self, tenant: TenantId, request: &ErasureRequest) -> Result<JournalPosition> {
        let erasure = request.compile()?;
        self.journal.check_accepting()?;
        let (received, body) = (self.clock.now(), Bytes::from(request.encode()));
        let (protocol, context) = (Protocol::ERASE_EVENTS, Vec::new());
        let record = Record { tenant, protocol, received, is_compressed: false, context, body };
        let accepted = Accepted::new(Decoded { erasure: Some(erasure), ..Decoded::default() }, &record);
        let position = self.keep(record, accepted).await?.position;
        self.lanes.events.wait_applied(position, HIDDEN_WITHIN).await;
        Ok(position)
    }

    async fn keep(&self, record: Record, accepted: Accepted) -> Result<Receipt> {
        let Accepted { mut decoded, bytes, room } = accepted;
        let (uses_metrics, uses_events) = (decoded.has_metrics(), decoded.has_events());
        let lanes = &self.lanes;
        let errors = decoded.error_count();
        let uses_issues = errors > 0;
        let mut users = [(&lanes.metrics, uses_metrics), (&lanes.events, uses_events), (&lanes.issues, uses_issues)];
        for (lane, _) in users.iter().filter(|(_, is_used)| *is_used) {
            lane.check_room(bytes).inspect_err(|_| self.count_overload())?;
        }
        // Spans are counted on the metrics lane as well. Where that is far behind they are kept all the same.
        let spans = decoded.spans.span_count();
        if spans > 0 && !uses_metrics {
            users[0].1 = lanes.metrics.check_room(bytes).is_ok();
            self.counters.spans_uncounted.fetch_add(if users[0].1 { 0 } else { spans as u64 }, Ordering::Relaxed);
        }
        // The lane of issues notes deploys, too; the same version is told again only after a while.
        users[2].1 = uses_issues
            || lanes.issues.check_room(bytes).is_ok() && self.versions.is_news(record.tenant, &decoded, record.received);
        let mut receipt = receipt(&mut decoded, &self.limits.wire);
        self.count(&receipt, &decoded, errors, record.body.len());
        if !uses_metrics && !uses_events {
            return Ok(receipt);
        }
        if !decoded.known.is_empty() {
            decoded.record = Some(record.clone());
        }
        let refused = decoded.refused.clone();
        let decoded = Arc::new(decoded);
        let ticket = {
            let _order = self.order.lock();
            let ticket = self.journal.append(&record).inspect_err(|_| self.count_overload())?;
            // Every lane hears of every record: that is how it knows how far it is.
            for (lane, is_used) in users {
                if is_used {
                    lane.push(record.tenant, record.received, &decoded, &ticket, bytes);
                } else {
                    lane.pass(record.tenant, record.received, &ticket);
                }
            }
            ticket
        };
        // The lanes have it, and count it as long as they do. One that is behind will read it from the journal.
        drop((record, decoded, room));
        let position = ticket.position();
        ticket.await?;
        if uses_metrics {
            self.lanes.metrics.wait_applied(position, SHOWN_WITHIN).await;
        }
        if uses_events {
            self.lanes.events.wait_applied(position, SHOWN_WITHIN).await;
        }
        // A lane that is behind has refused nothing yet; what it will refuse is counted by its store.
        receipt.position = position;
        let refused = std::mem::take(&mut *refused.lock());
        self.counters.rejected.fetch_add(refused.count, Ordering::Relaxed);
        receipt.refused_by_store(refused);
        Ok(receipt)
    }

    fn count(&self, receipt: &Receipt, decoded: &Decoded, errors: usize, body_bytes: usize) {
        let counters = &self.counters;
        let add = |counter: &AtomicU64, count: usize| counter.fetch_add(count as u64, Ordering::Relaxed);
        add(&counters.requests, 1);
        add(&counters.body_bytes, body_bytes);
        add(&counters.samples, receipt.samples);
        add(&counters.records, receipt.records);
        add(&counters.spans, receipt.spans);
        counters.rejected.fetch_add(receipt.rejected_count, Ordering::Relaxed);
        add(&counters.errors, errors);
        for (counter, count) in [
            (&counters.lines_cut, decoded.cuts.lines),
            (&counters.attributes_cut, decoded.cuts.attributes_cut),
            (&counters.attributes_dropped, decoded.cuts.attributes_dropped),
            (&counters.span_children_dropped, decoded.cuts.span_children),
        ] {
            counter.fetch_add(count, Ordering::Relaxed);
        }
        for kind in &decoded.unknown_items {
            counters.count_unknown(kind);
        }
    }

    fn count_overload(&self) {
        self.counters.refused_overload.fetch_add(1, Ordering::Relaxed);
    }

    /// Stops taking requests, lets the journal settle, ends the lanes.
    pub fn close(&self) {
        self.journal.close();
        for lane in [&self.lanes.metrics, &self.lanes.events, &self.lanes.issues] {
            lane.close();
        }
    }
}

fn context(incoming: &Incoming) -> Vec<(String, String)> {
    let pairs = [("content-type", &incoming.content_type), ("content-encoding", &incoming.content_encoding)];
    let pairs = pairs.into_iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| (name.to_owned(), value.clone()));
    pairs.chain(incoming.context.iter().cloned()).collect()
}

fn receipt(decoded: &mut Decoded, limits: &Limits) -> Receipt {
    let series = || decoded.metrics.series.iter().chain(&decoded.delta_metrics.series);
    let samples = || series().flat_map(|series| &series.samples);
    let histograms = samples().filter(|sample| matches!(sample.value, br_model::Value::Histogram(_))).count();
    let (all, exemplars) = (samples().count(), series().map(|series| series.exemplars.len()).sum());
    Receipt {
        samples: all - histograms + decoded.known.len(),
        histograms,
        exemplars,
        records: decoded.logs.record_count(),
        spans: decoded.spans.span_count(),
        rejected: std::mem::take(&mut decoded.rejected),
        refused: Vec::new(),
        rejected_count: decoded.rejected_count,
        cut: decoded.cuts.warning(limits),
        items: decoded.items.take(),
        position: JournalPosition::default(),
    }
}

/// The intake as one tenant's sink.
pub struct TenantSink {
    pub intake: Arc<Intake>,
    pub tenant: TenantId,
}

impl SampleSink for TenantSink {
    fn write(&self, batch: MetricBatch) -> Pin<Box<dyn Future<Output = Result<Option<String>>> + Send + '_>> {
        Box::pin(async move {
            let receipt = self.intake.accept_samples(self.tenant, batch).await?;
            let count = receipt.rejected_count;
            Ok((count > 0).then(|| format!("{count} samples were refused: {}", receipt.complaint())))
        })
    }
}
