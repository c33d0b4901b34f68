//! Erasures: kept in the catalog from the moment that they hide what they name until nothing of it is left, and carried out on files,
//! the journal and the catalog itself.
//!
//! Each step asks how things are and does what is missing, so that it may be cut off anywhere and begun again.

use crate::flush::{Flusher, Pace, aside};
use br_catalog::Catalog;
use br_events::{Erased, EventStore, Remains};
use br_ingest::erasure::ErasureRequest;
use br_model::TenantId;
use br_model::labels::METRIC_NAME;
use br_std::{Error, Nanos, Result};
use br_storage::{JournalPosition, MatchOp, Matcher};
use br_tsdb::{Deletion, Foreseen, Tombstone};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

const PREFIX: &str = "events/erasure/";
/// More than all tenants may have.
const KEYS_MAX: u32 = 1_000_000;
/// That something was erased is told for so long after.
const TOLD: Duration = Duration::from_hours(400 * 24);
const REMOVED_AT_ONCE: u32 = 10_000;

/// What an erasure has come to. Times are nanoseconds since the epoch.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ErasureState {
    pub version: u32,
    pub id: String,
    pub by: String,
    /// When it was asked for; no query finds what it names since then.
    pub requested_at: i64,
    /// Nothing of it is left by then.
    pub deadline: i64,
    /// Gone when it is carried out: it names what was to be forgotten.
    pub request: Option<ErasureRequest>,
    /// The journal's end when the metrics that were made of spans had lost it too.
    #[serde(default)]
    pub metrics_deleted_at: Option<u64>,
    /// Of all files together.
    pub files_rewritten: u64,
    /// Since then no file that counts holds anything of it.
    pub files_clean_at: Option<i64>,
    /// Texts in issues, evidence and messages that were replaced.
    pub texts_replaced: u64,
    /// Since then the replaced files are gone from the disk.
    pub files_gone_at: Option<i64>,
    /// Since then the journal does not hold it any more.
    pub journal_cut_at: Option<i64>,
    pub finished_at: Option<i64>,
    /// Files that cannot be read, and may hold something of it.
    pub blocked_by: Vec<String>,
}

const VERSION: u32 = 1;

/// One that the catalog knows.
#[derive(Clone, Debug)]
pub struct KnownErasure {
    pub tenant: TenantId,
    pub position: JournalPosition,
    pub state: ErasureState,
}

impl KnownErasure {
    /// All that names it is in records up to here.
    fn behind(&self) -> JournalPosition {
        self.state.metrics_deleted_at.map_or(self.position, |deleted| self.position.max(JournalPosition(deleted)))
    }
}

/// The series of metrics of spans whose labels have something of what is erased.
fn span_metrics(request: Option<&ErasureRequest>) -> Result<Vec<Vec<Matcher>>> {
    const LABELS: [&str; 4] = ["service", "span_name", "client", "server"];
    let Some(request) = request.filter(|request| request.of.as_deref() != Some("logs")) else { return Ok(Vec::new()) };
    let mut selectors = Vec::new();
    for text in request.texts() {
        let pattern = format!("(?s).*{}.*", br_std::re2::escape(&text));
        for label in LABELS {
            selectors.push(vec![
                Matcher::new(MatchOp::Regex, METRIC_NAME, "traces_spanmetrics_.+|traces_service_graph_.+")?,
                Matcher::new(MatchOp::Regex, label, pattern.as_str())?,
            ]);
        }
    }
    Ok(selectors)
}

fn key(tenant: TenantId, position: JournalPosition) -> String {
    format!("{PREFIX}{}/{:020}", tenant.0, position.0)
}

impl ErasureState {
    fn new(request: ErasureRequest, within: Duration) -> Self {
        let (requested_at, deadline) = (request.at, (Nanos(request.at) + within).0);
        Self {
            version: VERSION,
            id: request.id.clone(),
            by: request.by.clone(),
            requested_at,
            deadline,
            request: Some(request),
            metrics_deleted_at: None,
            files_rewritten: 0,
            files_clean_at: None,
            texts_replaced: 0,
            files_gone_at: None,
            journal_cut_at: None,
            finished_at: None,
            blocked_by: Vec::new(),
        }
    }

    pub fn is_overdue(&self, now: Nanos) -> bool {
        self.finished_at.unwrap_or(now.0) > self.deadline
    }
}

/// All that the catalog knows, the oldest first.
pub async fn list(catalog: &Catalog, tenant: Option<TenantId>) -> Result<Vec<KnownErasure>> {
    let prefix = tenant.map_or_else(|| PREFIX.to_owned(), |tenant| format!("{PREFIX}{}/", tenant.0));
    let mut known = Vec::new();
    for (key, value) in catalog.states(&prefix, KEYS_MAX).await? {
        let damaged = || Error::corrupt(format!("the catalog's state {key:?} is no erasure"));
        let place = key.strip_prefix(PREFIX).and_then(|place| place.split_once('/')).ok_or_else(damaged)?;
        let tenant = TenantId(place.0.parse().map_err(|_| damaged())?);
        let position = JournalPosition(place.1.parse().map_err(|_| damaged())?);
        let state: ErasureState = serde_json::from_slice(&value).map_err(|error| damaged().with_source(error))?;
        known.push(KnownErasure { tenant, position, state });
    }
    known.sort_by_key(|one| one.position);
    Ok(known)
}

/// Gives the store the erasures that are not carried out yet. The journal brings those that came later.
pub async fn restore(catalog: &Catalog, events: &EventStore) -> Result<()> {
    for KnownErasure { tenant, position, state } in list(catalog, None).await? {
        if let Some(request) = &state.request {
            let erasure = Arc::new(request.compile().map_err(|error| error.context(format!("erasure {}", state.id)))?);
            events.restore_erasure(Erased { tenant, position, erasure });
        }
    }
    Ok(())
}

impl Flusher {
    /// Erases what an administrator names. Returns when no query finds it any more.
    pub async fn erase_events(&self, tenant: TenantId, request: ErasureRequest) -> Result<KnownErasure> {
        self.parts.events.check_erasure(tenant)?;
        let position = self.parts.intake.erase_events(tenant, &request).await?;
        let state = ErasureState::new(request, self.parts.erased_within);
        self.save_erasure(tenant, position, &state).await?;
        self.parts.sealed.wanted.notify_one();
        Ok(KnownErasure { tenant, position, state })
    }

    async fn save_erasure(&self, tenant: TenantId, position: JournalPosition, state: &ErasureState) -> Result<()> {
        let bytes = serde_json::to_vec(state).map_err(|error| Error::corrupt(error.to_string()))?;
        self.parts.catalog.put_state(&key(tenant, position), &bytes).await
    }

    /// Sees to it that the catalog has those of the store. Before the store's position is committed: behind that the journal is not
    /// read again.
    pub(crate) async fn save_erasures(&self) -> Result<()> {
        for erased in self.parts.events.erasures() {
            if self.parts.catalog.state(&key(erased.tenant, erased.position)).await?.is_none() {
                let request = ErasureRequest::decode(&erased.erasure.source)?;
                let state = ErasureState::new(request, self.parts.erased_within);
                self.save_erasure(erased.tenant, erased.position, &state).await?;
            }
        }
        Ok(())
    }

    /// One round for each erasure that is not finished.
    pub(crate) async fn carry_out_erasures(&self) -> Result<()> {
        let mut failed = Ok(());
        let now = self.parts.clock.now();
        for mut known in list(&self.parts.catalog, None).await? {
            if let Some(finished) = known.state.finished_at {
                if Nanos(finished) < now - TOLD {
                    self.parts.catalog.remove_state(&key(known.tenant, known.position)).await?;
                }
                continue;
            }
            if known.state.is_overdue(now) {
                let (erasure, deadline) = (&known.state.id, Nanos(known.state.deadline));
                tracing::error!(event = "ErasureOverdue", erasure, %deadline, blocked_by = ?known.state.blocked_by);
            }
            if let Err(error) = self.carry_out(&mut known).await {
                failed = Err(error.context(format!("erasure {}", known.state.id)));
            }
        }
        failed
    }

    async fn carry_out(&self, known: &mut KnownErasure) -> Result<()> {
        if known.state.request.is_some() {
            if !self.clean_files(known).await? || !self.wait_for_traces(known).await? {
                return Ok(());
            }
            // What was gathered before it, and written down after.
            known.state.texts_replaced += self.scrub(known).await?;
            known.state.request = None;
            self.save(known).await?;
        }
        // Everything but the catalog has forgotten it, and now its files and its copy do.
        self.save_tombstones().await?;
        self.parts.catalog.compact_files().await?;
        self.copy_catalog_now().await?;
        self.parts.events.forget_erasure(known.tenant, known.position);
        known.state.finished_at = Some(self.parts.clock.now().0);
        self.save(known).await?;
        let erasure = &known.state.id;
        tracing::info!(event = "ErasureFinished", erasure, files = known.state.files_rewritten);
        Ok(())
    }

    async fn save(&self, known: &KnownErasure) -> Result<()> {
        self.save_erasure(known.tenant, known.position, &known.state).await
    }

    async fn scrub(&self, known: &KnownErasure) -> Result<u64> {
        let texts = known.state.request.as_ref().map(ErasureRequest::texts).unwrap_or_default();
        self.parts.catalog.scrub(known.tenant, &texts).await
    }

    /// Names of spans and of services stand in metrics that are made of spans.
    async fn delete_span_metrics(&self, known: &mut KnownErasure) -> Result<()> {
        let intake = &self.parts.intake;
        let selectors = span_metrics(known.state.request.as_ref())?;
        if !selectors.is_empty() {
            let deletion = Deletion { selectors, from_ms: i64::MIN, to_ms: i64::MAX };
            intake.delete_series(known.tenant, deletion, Foreseen::default()).await?;
        }
        known.state.metrics_deleted_at = Some(intake.journal().status().last_position.0);
        self.save(known).await
    }

    /// Whether files of metrics wait to be written anew without it.
    fn has_metrics_of(&self, known: &KnownErasure) -> bool {
        let waits = |of: &Tombstone| of.tenant == known.tenant && (known.position..=known.behind()).contains(&of.position);
        self.parts.metrics.tombstones().iter().any(|tombstone| waits(tombstone))
    }

    /// Writes anew what holds something of it, and takes it out of issues and evidence; false when it has to wait for something.
    async fn clean_files(&self, known: &mut KnownErasure) -> Result<bool> {
        if known.state.files_clean_at.is_some() {
            return Ok(true);
        }
        if known.state.metrics_deleted_at.is_none() {
            self.delete_span_metrics(known).await?;
        }
        // What came before it must be in files and in the list of issues.
        if self.taken_in().await? < known.behind() || self.has_metrics_of(known) {
            return Ok(false);
        }
        let store = self.parts.events.clone();
        let Some(erased) = store.erasures().into_iter().find(|one| one.tenant == known.tenant && one.position == known.position)
        else {
            return Err(Error::corrupt("the store does not know it"));
        };
        loop {
            let _tending = self.tend().await;
            let (asked, of) = (store.clone(), erased.clone());
            match aside(Pace::GivesWay, move || asked.remains(&of)).await?? {
                Remains::File(job) => {
                    let (writer, inputs) = (store.clone(), job.inputs.clone());
                    let made = aside(Pace::GivesWay, move || writer.compact(&job)).await??;
                    self.exchange(&inputs, &made, |made| store.exchange(&inputs, made)).await?;
                    known.state.files_rewritten += inputs.len() as u64;
                    self.save(known).await?;
                }
                Remains::Memory => return Ok(false),
                Remains::Damaged(files) => {
                    if known.state.blocked_by != files {
                        known.state.blocked_by = files;
                        self.save(known).await?;
                    }
                    return Ok(false);
                }
                Remains::Nothing => break,
            }
        }
        known.state.texts_replaced += self.scrub(known).await?;
        known.state.blocked_by.clear();
        known.state.files_clean_at = Some(self.parts.clock.now().0);
        self.save(known).await?;
        Ok(true)
    }

    /// Whether the replaced files have left the disk, and the journal has been cut behind it.
    async fn wait_for_traces(&self, known: &mut KnownErasure) -> Result<bool> {
        let now = self.parts.clock.now();
        let clean_at = known.state.files_clean_at.map_or(now, Nanos);
        if known.state.files_gone_at.is_none() {
            let before = clean_at + Duration::from_nanos(1);
            let waiting = self.parts.catalog.files_to_delete(before, REMOVED_AT_ONCE).await?;
            if !waiting.iter().any(|(file, _)| file.tenant == known.tenant) {
                known.state.files_gone_at = Some(now.0);
                self.save(known).await?;
            }
        }
        if known.state.journal_cut_at.is_none() {
            let journal = self.parts.intake.journal();
            if journal.first_kept() > known.behind() {
                known.state.journal_cut_at = Some(now.0);
                self.save(known).await?;
            } else {
                // The next flush cuts it.
                journal.end_segment();
                self.want_copy();
            }
        }
        Ok(known.state.files_gone_at.is_some() && known.state.journal_cut_at.is_some())
    }
}
