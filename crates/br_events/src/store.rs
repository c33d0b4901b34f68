//! The store: heads that grow, sealed heads on their way into files, files.

use crate::counters::EventCounters;
use crate::erase::without;
use crate::erasure::Erased;
use crate::file::{EventFile, TailCache};
use crate::helpers::Helpers;
use crate::log_source::TenantLogs;
use crate::logs_codec::encode_logs;
use crate::mask::Mask;
use crate::options::EventOptions;
use crate::origin::Origin;
use crate::schema::damaged;
use crate::sealed::{SealedEvents, SealedPart};
use crate::span_source::TenantSpans;
use crate::spans_codec::encode_spans;
use crate::summary::PAGE_ROWS;
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use br_model::{LogBatch, SpanBatch, TenantId};
use br_std::{Nanos, Result};
use br_storage::{FileEntry, JournalPosition, LogSource, SpanSource, Table};
use object_store::ObjectStore;
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Logs and spans of all tenants.
pub struct EventStore {
    pub(crate) options: EventOptions,
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) counters: Arc<EventCounters>,
    pub(crate) cache: Arc<TailCache>,
    pub(crate) helpers: Helpers,
    pub(crate) state: RwLock<State>,
}

#[derive(Default)]
pub(crate) struct State {
    /// By tenant, table and start of the window.
    pub(crate) heads: BTreeMap<(TenantId, Table, Nanos), Vec<RecordBatch>>,
    pub(crate) head_bytes: usize,
    /// Oldest first.
    pub(crate) sealed: Vec<SealedEvents>,
    sealed_up_to: JournalPosition,
    pub(crate) files: BTreeMap<(TenantId, Table), Vec<Arc<EventFile>>>,
    /// Not carried out on all files yet.
    pub(crate) erased: Vec<Erased>,
}

/// What one query reads: each record is in exactly one of the two.
pub(crate) struct Snapshot {
    pub(crate) batches: Vec<RecordBatch>,
    pub(crate) files: Vec<Arc<EventFile>>,
}

impl EventStore {
    /// Takes over the files that the catalog lists. A file whose entry cannot be read is reported and left out.
    pub fn open(files: Vec<FileEntry>, store: Arc<dyn ObjectStore>, options: EventOptions) -> Arc<Self> {
        let events = Self {
            cache: Arc::new(TailCache::new(options.open_files_max)),
            helpers: Helpers::new(options.threads),
            options,
            store,
            counters: Arc::new(EventCounters::default()),
            state: RwLock::new(State::default()),
        };
        events.add_files(&mut events.state.write(), files);
        Arc::new(events)
    }

    /// Everything up to here is in files. Called once, before the first record.
    pub fn resume(&self, progress: JournalPosition) {
        let mut state = self.state.write();
        state.sealed_up_to = state.sealed_up_to.max(progress);
    }

    pub fn options(&self) -> &EventOptions {
        &self.options
    }

    pub fn counters(&self) -> &EventCounters {
        &self.counters
    }

    pub(crate) fn add_files(&self, state: &mut State, files: Vec<FileEntry>) {
        for entry in files {
            let key = (entry.tenant, entry.table);
            let path = entry.path.clone();
            let mask = Mask::new(self.options.retention.clone());
            match EventFile::new(entry, self.store.clone(), self.cache.clone(), self.counters.clone(), mask) {
                Ok(file) => {
                    let concerning =
                        state.erased.iter().filter(|erased| erased.tenant == key.0 && erased.erasure.concerns(key.1));
                    concerning.for_each(|erased| file.hide(erased));
                    let known = state.files.entry(key).or_default();
                    if known.iter().all(|known| known.entry.path != path) {
                        known.push(Arc::new(file));
                    }
                }
                Err(error) => self.counters.damaged(&path, error.message()),
            }
        }
    }

    /// Adds log records that stand in the journal at `position`. They are seen by every query that starts afterwards.
    /// What was sealed already is not added again.
    pub fn append_logs(&self, tenant: TenantId, position: JournalPosition, batch: &LogBatch) -> Result<()> {
        if self.is_sealed(position) {
            return Ok(());
        }
        let origins: Vec<Origin> = batch.groups.iter().map(|group| Origin::new(&group.resource, &group.scope)).collect();
        let mut windows: BTreeMap<Nanos, Vec<(usize, &br_model::LogRecord)>> = BTreeMap::new();
        for (origin, group) in batch.groups.iter().enumerate() {
            for record in &group.records {
                windows.entry(record.timestamp.window(self.options.window)).or_default().push((origin, record));
            }
        }
        let mut encoded = Vec::with_capacity(windows.len());
        for (window, rows) in windows {
            encoded.push((window, encode_logs(&rows, &origins, &self.options.limits, &self.counters)?));
        }
        EventCounters::add(&self.counters.logs_appended, batch.record_count());
        self.append(tenant, Table::Logs, position, encoded)
    }

    /// Adds spans, as [`Self::append_logs`] adds log records. A span belongs to the window in which it starts.
    pub fn append_spans(&self, tenant: TenantId, position: JournalPosition, batch: &SpanBatch) -> Result<()> {
        if self.is_sealed(position) {
            return Ok(());
        }
        let origins: Vec<Origin> = batch.groups.iter().map(|group| Origin::new(&group.resource, &group.scope)).collect();
        let mut windows: BTreeMap<Nanos, Vec<(usize, &br_model::Span)>> = BTreeMap::new();
        for (origin, group) in batch.groups.iter().enumerate() {
            for span in &group.spans {
                windows.entry(span.start.window(self.options.window)).or_default().push((origin, span));
            }
        }
        let mut encoded = Vec::with_capacity(windows.len());
        for (window, rows) in windows {
            encoded.push((window, encode_spans(&rows, &origins, &self.options.limits, &self.counters)?));
        }
        EventCounters::add(&self.counters.spans_appended, batch.span_count());
        self.append(tenant, Table::Spans, position, encoded)
    }

    pub(crate) fn is_sealed(&self, position: JournalPosition) -> bool {
        let is_sealed = position <= self.state.read().sealed_up_to;
        if is_sealed {
            EventCounters::add(&self.counters.appends_skipped, 1);
        }
        is_sealed
    }

    fn append(
        &self,
        tenant: TenantId,
        table: Table,
        position: JournalPosition,
        encoded: Vec<(Nanos, RecordBatch)>,
    ) -> Result<()> {
        let mut state = self.state.write();
        // As the journal is read back, what was erased later is not shown in the meantime.
        let later = |erased: &&Erased| erased.tenant == tenant && erased.position > position && erased.erasure.concerns(table);
        let later: Vec<Erased> = state.erased.iter().filter(later).cloned().collect();
        for (window, mut batch) in encoded {
            for erased in &later {
                batch = without(&batch, table, &erased.erasure)?;
            }
            if batch.num_rows() == 0 {
                continue;
            }
            let window = self.room_for(&state, tenant, table, window);
            state.head_bytes += batch.get_array_memory_size();
            let head = state.heads.entry((tenant, table, window)).or_default();
            head.push(batch);
            merge_last(head)?;
        }
        Ok(())
    }

    /// The window itself, or the newest one when there are too many already.
    fn room_for(&self, state: &State, tenant: TenantId, table: Table, window: Nanos) -> Nanos {
        if state.heads.contains_key(&(tenant, table, window)) {
            return window;
        }
        let mut mine = state.heads.range((tenant, table, Nanos::MIN)..=(tenant, table, Nanos::MAX));
        if mine.clone().count() < self.options.head_windows_max {
            return window;
        }
        EventCounters::add(&self.counters.windows_joined, 1);
        mine.next_back().map_or(window, |((_, _, newest), _)| *newest)
    }

    /// Bytes that heads hold in memory, sealed ones that are not yet published included.
    pub fn head_bytes(&self) -> usize {
        let state = self.state.read();
        state.head_bytes + state.sealed.iter().map(SealedEvents::bytes).sum::<usize>()
    }

    /// Closes the heads: they hold everything up to and including `up_to`, and are queried as before until they are published.
    /// `None` when they are empty; the position is then taken note of all the same.
    pub fn seal(&self, up_to: JournalPosition) -> Option<SealedEvents> {
        let mut state = self.state.write();
        let positions = (state.sealed_up_to.next().min(up_to), up_to);
        state.sealed_up_to = state.sealed_up_to.max(up_to);
        let heads = std::mem::take(&mut state.heads);
        let bytes = std::mem::take(&mut state.head_bytes);
        if heads.is_empty() {
            return None;
        }
        let parts = heads.into_iter().map(|((tenant, table, window), batches)| SealedPart { tenant, table, window, batches });
        let sealed = SealedEvents::new(positions, parts.collect(), bytes, self.options.clone());
        state.sealed.push(sealed.clone());
        Some(sealed)
    }

    /// Puts the files, as the catalog has them now, in the place of the sealed heads that they were written from.
    pub fn publish(&self, sealed: &SealedEvents, files: Vec<FileEntry>) {
        let mut state = self.state.write();
        state.sealed.retain(|other| !other.is_same(sealed));
        self.add_files(&mut state, files);
        EventCounters::add(&self.counters.files_written, sealed.part_count());
    }

    pub(crate) fn snapshot(&self, tenant: TenantId, table: Table) -> Snapshot {
        let state = self.state.read();
        let mut batches = Vec::new();
        for sealed in &state.sealed {
            batches.extend(sealed.batches(tenant, table));
        }
        for (_, head) in state.heads.range((tenant, table, Nanos::MIN)..=(tenant, table, Nanos::MAX)) {
            batches.extend(head.iter().cloned());
        }
        let files = state.files.get(&(tenant, table)).cloned().unwrap_or_default();
        drop(state);
        if let Some(rules) = &self.options.retention {
            for batch in &mut batches {
                // What is wrong with one shows where it is read.
                if let Ok(visible) = rules.visible(table, batch) {
                    *batch = visible;
                }
            }
            batches.retain(|batch| batch.num_rows() > 0);
        }
        Snapshot { batches, files }
    }

    /// The files that the store answers from.
    pub fn files(&self) -> Vec<FileEntry> {
        self.state.read().files.values().flatten().map(|file| file.entry.clone()).collect()
    }

    /// A tenant's log records.
    pub fn logs(self: &Arc<Self>, tenant: TenantId) -> Arc<dyn LogSource> {
        Arc::new(TenantLogs::new(self.clone(), tenant))
    }

    /// A tenant's spans.
    pub fn spans(self: &Arc<Self>, tenant: TenantId) -> Arc<dyn SpanSource> {
        Arc::new(TenantSpans::new(self.clone(), tenant))
    }
}

/// Joins batches at the end of a head that are of like size, so that few large ones remain and each row is copied a few times only.
fn merge_last(head: &mut Vec<RecordBatch>) -> Result<()> {
    while let [.., before, last] = head.as_slice() {
        let rows = before.num_rows() + last.num_rows();
        if rows > PAGE_ROWS || last.num_rows() * 2 < before.num_rows() {
            return Ok(());
        }
        let merged = concat_batches(before.schema_ref(), [before, last]).map_err(damaged)?;
        head.truncate(head.len() - 2);
        head.push(merged);
    }
    Ok(())
}
