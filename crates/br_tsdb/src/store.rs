//! The store as a whole: a head for each tenant, and the files of all.

use crate::block::file::FileSet;
use crate::changes::{Change, ChangeLog, Group};
use crate::compact::compact_masked;
use crate::flush::{FlushOrders, SealedHead, window_ms};
use crate::head::registry::KnownCursor;
use crate::head::{TenantHead, append};
use crate::mask::InForce;
use crate::options::TsdbOptions;
use crate::outcome::{AppendOutcome, RejectReason};
use crate::plan::{self, CompactionJob};
use crate::rollup::RollupLevel;
use crate::source::TenantSource;
use br_env::Rng;
use br_model::{KnownSample, Labels, MetricBatch, Sample, TenantId};
use br_std::{Error, Kind, Nanos, Result};
use br_storage::{FileEntry, JournalPosition, MetricSource};
use object_store::ObjectStore;
use parking_lot::{Mutex, RwLock, RwLockWriteGuard};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// What is remembered of a batch, so that its series need not be read when they come again: see [`KnownCursor`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Learning<'a> {
    /// For each series the hash of its labels as they were sent, zero for none; or empty.
    pub identities: &'a [u128],
    /// Of what is masked: that under which these labels are as they are. Zero where nobody looked.
    pub policy: u16,
}

/// The metrics store. Cheap to clone; all clones are the same store.
#[derive(Clone)]
pub struct Tsdb {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) options: TsdbOptions,
    pub(crate) files: FileSet,
    heads: RwLock<BTreeMap<TenantId, Arc<RwLock<TenantHead>>>>,
    rng: Arc<dyn Rng>,
    flush_orders: FlushOrders,
    /// What is deleted, and what is past its time.
    pub(crate) in_force: InForce,
    pub(crate) rollup_levels: RwLock<Vec<RollupLevel>>,
    changes: Mutex<BTreeMap<TenantId, ChangeLog>>,
    /// By merges, since the start.
    pub(crate) exemplars_dropped: AtomicU64,
    /// Samples that merges left out for another value of the same time, since the start.
    pub(crate) contradictions: Mutex<BTreeMap<TenantId, u64>>,
    /// About what parts take in memory that were sealed and are not in files yet.
    unpublished_bytes: AtomicUsize,
    /// Held while a batch is taken in and while a seal is made, so that a seal holds whole batches.
    applied: Mutex<Applied>,
}

struct Applied {
    /// The last record of the journal that was appended.
    position: JournalPosition,
    /// The last record that was sealed.
    sealed: JournalPosition,
    /// About what samples of all tenants take that are not sealed.
    open_bytes: usize,
    now: Nanos,
    /// Before this much is open no flush is wanted, as far as is known.
    worth_bytes: usize,
    /// What it was at the last seal.
    now_at_seal: Nanos,
    /// Up to here, in milliseconds of `now`, seals were counted as flushes. `None` before the first.
    flushes_counted_ms: Option<i64>,
}

impl Applied {
    /// Whether a seal is one of a flush at its time, and not of one in between. However many seals come, so many count as intervals
    /// have passed; and one that comes a little early, before others that are late, counts with the next.
    /// Time goes by the records, so that a replay decides as the first time; while none comes, by `clock`.
    fn counts_as_flush(&mut self, clock: Nanos, interval: Duration) -> bool {
        let is_quiet = self.now == self.now_at_seal;
        self.now_at_seal = self.now;
        let now_ms = if is_quiet { self.now.max(clock) } else { self.now }.as_millis();
        let interval_ms = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX);
        // A clock that was set back begins anew.
        let counted_ms = self.flushes_counted_ms.map_or(now_ms, |counted_ms| counted_ms.min(now_ms));
        let is_first = self.flushes_counted_ms.is_none();
        let counts = !is_first && now_ms.saturating_sub(counted_ms) >= interval_ms;
        let counted_to = counted_ms.saturating_add(interval_ms).max(now_ms.saturating_sub(interval_ms));
        self.flushes_counted_ms = Some(if counts { counted_to } else { counted_ms });
        counts
    }
}

/// What a series has in memory, on average, before a flush is worth its row: about a minute's samples of a usual scrape.
const WANTED_PER_SERIES: usize = 64;

const WORTH_STEP_BYTES: usize = 1 << 20;

/// Series that are taken in before a waiting query gets its turn.
const SERIES_PER_LOCK: usize = 2048;

impl Tsdb {
    /// Opens the store over the files that the catalog lists. Files are not touched before a query asks for them.
    pub fn open(files: Vec<FileEntry>, store: Arc<dyn ObjectStore>, rng: Arc<dyn Rng>, options: TsdbOptions) -> Self {
        let set = FileSet::new(store, options.index_cache_bytes);
        set.replace(&[], &files);
        let position = set.position();
        let now = Nanos::default();
        let applied = Applied {
            position,
            sealed: position,
            open_bytes: 0,
            now,
            worth_bytes: 0,
            now_at_seal: now,
            flushes_counted_ms: None,
        };
        let applied = Mutex::new(applied);
        let (heads, in_force, rollup_levels) = (RwLock::default(), InForce::default(), RwLock::default());
        let (changes, exemplars_dropped, contradictions) = (Mutex::default(), AtomicU64::new(0), Mutex::default());
        let flush_orders = FlushOrders::default();
        let shared = Shared {
            options,
            files: set,
            heads,
            rng,
            flush_orders,
            in_force,
            rollup_levels,
            changes,
            exemplars_dropped,
            contradictions,
            unpublished_bytes: AtomicUsize::new(0),
            applied,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Everything up to here is in files, also where the last records brought no samples. Called once, before the first batch.
    pub fn resume(&self, progress: JournalPosition) {
        let mut applied = self.shared.applied.lock();
        applied.position = applied.position.max(progress);
        applied.sealed = applied.sealed.max(progress);
    }

    /// Takes a batch in. Called by one thread, in the order of the journal; `now` is when the record was received,
    /// so that a replay decides as the first time.
    ///
    /// Samples that were stored before are recognised, so that a record may be applied twice.
    /// The error is a broken invariant of the store itself; what is wrong with the batch stands in the outcome.
    pub fn append(&self, tenant: TenantId, position: JournalPosition, batch: &MetricBatch, now: Nanos) -> Result<AppendOutcome> {
        self.append_learning(tenant, position, batch, Learning::default(), now)
    }

    /// The same, for senders that send the same series again and again.
    pub fn append_learning(
        &self,
        tenant: TenantId,
        position: JournalPosition,
        batch: &MetricBatch,
        learning: Learning<'_>,
        now: Nanos,
    ) -> Result<AppendOutcome> {
        let options = &self.shared.options;
        let mut applied = self.shared.applied.lock();
        applied.position = applied.position.max(position);
        applied.now = now;
        let head = self.shared.head_or_new(tenant);
        let samples = batch.series.iter().flat_map(|series| &series.samples);
        let first_ms = samples.map(|sample| sample.timestamp_ms).min();
        let _changing = self.shared.changing(tenant, Change::of_batch(batch, now));
        let (batch, past, example) = self.shared.in_time(batch, first_ms, now);
        let mut outcome = AppendOutcome::default();
        let mut cursor = append::AppendCursor::default();
        let times = append::AcceptedTimes::new(now, options);
        let mut locked = head.write();
        let open_before = locked.open_bytes();
        locked.refuse_past(past, example, &mut outcome);
        locked.append_metadata(&batch.metadata, window_ms(now.as_millis()), options, &mut outcome);
        let mut identities = learning.identities;
        for series in batch.series.chunks(SERIES_PER_LOCK) {
            let (of_these, rest) = identities.split_at(series.len().min(identities.len()));
            identities = rest;
            locked.append(series, Learning { identities: of_these, ..learning }, times, options, &mut outcome, &mut cursor)?;
            RwLockWriteGuard::bump(&mut locked);
        }
        locked.counters.accepted += outcome.accepted;
        locked.counters.repeated += outcome.repeated;
        applied.open_bytes = (applied.open_bytes + locked.open_bytes()).saturating_sub(open_before);
        Ok(outcome)
    }

    /// What is known of a tenant's series, for a decoder.
    pub fn known_series(&self, tenant: TenantId) -> KnownCursor {
        KnownCursor::new(self.shared.head_or_new(tenant).read().registry())
    }

    /// Takes samples of series that a decoder found known. `None`, and nothing is taken, when one of them is not kept any more:
    /// then the labels have to be read.
    pub fn append_known(
        &self,
        tenant: TenantId,
        position: JournalPosition,
        samples: &[KnownSample],
        now: Nanos,
    ) -> Result<Option<AppendOutcome>> {
        let options = &self.shared.options;
        let mut applied = self.shared.applied.lock();
        let head = self.shared.head_or_new(tenant);
        let mut locked = head.write();
        if !locked.keeps_all(samples) {
            return Ok(None);
        }
        let first_ms = samples.iter().map(|sample| sample.timestamp_ms).min();
        if self.shared.may_be_past(first_ms, now) {
            // Which rule is theirs, their labels say.
            return Ok(None);
        }
        applied.position = applied.position.max(position);
        applied.now = now;
        let change = locked.change_of(samples, now);
        let _changing = self.shared.changing(tenant, change);
        let mut outcome = AppendOutcome::default();
        let open_before = locked.open_bytes();
        locked.append_known(samples, append::AcceptedTimes::new(now, options), options, &mut outcome)?;
        locked.counters.accepted += outcome.accepted;
        locked.counters.repeated += outcome.repeated;
        applied.open_bytes = (applied.open_bytes + locked.open_bytes()).saturating_sub(open_before);
        Ok(Some(outcome))
    }

    /// Takes everything that was appended since the last seal, of all tenants; `None` when there is nothing.
    ///
    /// `up_to` is the last record that the caller applied. The seal's own position is that or, when the applier was faster, a later one:
    /// commit [`SealedHead::position`] together with the files.
    /// Keep a seal until it is committed, and commit seals in their order: a position stands for everything before it.
    pub fn seal(&self, up_to: JournalPosition) -> Option<SealedHead> {
        self.seal_at(up_to, Nanos::default())
    }

    /// The same, told the time: while nothing comes in, series without samples leave all the same.
    pub fn seal_at(&self, up_to: JournalPosition, clock: Nanos) -> Option<SealedHead> {
        let mut applied = self.shared.applied.lock();
        applied.position = applied.position.max(up_to);
        let positions = (applied.sealed.next(), applied.position.max(applied.sealed.next()));
        let window_ms = window_ms(applied.now.as_millis());
        let counts_as_flush = applied.counts_as_flush(clock, self.shared.options.flush_interval);
        let mut parts = Vec::new();
        for head in self.shared.heads() {
            let mut locked = head.write();
            match locked.seal(positions, window_ms, counts_as_flush) {
                Some(part) => parts.push((head.clone(), part)),
                None if counts_as_flush => locked.drop_idle(&self.shared.options),
                None => {}
            }
        }
        let bytes: usize = parts.iter().map(|(_, part)| part.samples.heap_bytes()).sum();
        self.shared.unpublished_bytes.fetch_add(bytes, Ordering::Relaxed);
        (applied.sealed, applied.open_bytes, applied.worth_bytes) = (applied.position, 0, 0);
        let position = applied.position;
        let (rng, orders) = (self.shared.rng.clone(), self.shared.flush_orders.clone());
        (!parts.is_empty()).then(|| SealedHead { parts, bytes, position, rng, orders })
    }

    /// Whether so much waits to be sealed that a flush should not wait for its time.
    pub fn is_flush_wanted(&self) -> bool {
        let options = &self.shared.options;
        let (open_bytes, worth_bytes) = {
            let applied = self.shared.applied.lock();
            (applied.open_bytes, applied.worth_bytes)
        };
        if open_bytes < options.head_bytes_wanted.max(worth_bytes) {
            return false;
        }
        let series: usize = self.shared.heads().iter().map(|head| head.read().series_count()).sum();
        let wanted_bytes = series.saturating_mul(WANTED_PER_SERIES).min(options.head_bytes_max / 3);
        // There may be fewer series by then: all heads are looked at again when some more has come.
        self.shared.applied.lock().worth_bytes = wanted_bytes.min(open_bytes.saturating_add(WORTH_STEP_BYTES));
        open_bytes >= wanted_bytes
    }

    /// Whether samples that no file holds take less memory than they may. Where flushes fail it is used up at some time: then let the
    /// next records wait until one succeeds.
    pub fn has_room(&self) -> bool {
        let open_bytes = self.shared.applied.lock().open_bytes;
        open_bytes + self.shared.unpublished_bytes.load(Ordering::Relaxed) < self.shared.options.head_bytes_max
    }

    /// Lists the files of a seal after the catalog has them, and lets its memory go as soon as other seals need it.
    pub fn publish(&self, sealed: SealedHead, files: &[FileEntry]) {
        // The files come first: a query in between sees samples twice, which it merges, and never misses one.
        let number_of =
            |tenant: TenantId| sealed.parts.iter().find(|(_, part)| part.tenant == tenant).map(|(_, part)| part.number);
        self.shared.files.publish(files, number_of);
        self.shared.unpublished_bytes.fetch_sub(sealed.bytes, Ordering::Relaxed);
        for (head, part) in &sealed.parts {
            // Not under the lock: it takes some tens of milliseconds for half a million series.
            let condensed = part.condensed();
            head.write().release(part, condensed, &self.shared.options);
        }
        self.shared.trim_retained();
    }

    /// The next compaction that is worth doing. Damaged files are left alone.
    pub fn plan_compaction(&self, now: Nanos) -> Option<CompactionJob> {
        let files = self.shared.files.all();
        let sound: Vec<FileEntry> =
            files.iter().filter(|file| file.is_sound() && file.rollup.is_raw()).map(|file| file.entry.clone()).collect();
        let options = &self.shared.options;
        plan::plan_compaction(&sound, options.compaction_bytes_max, options.out_of_order_window, now)
    }

    /// Carries out a compaction. The caller replaces inputs by outputs in the catalog and then calls [`Tsdb::replace`].
    /// Where an input is damaged, the next plan goes without it; queries go on reading what of it is sound.
    pub fn compact(&self, job: &CompactionJob) -> Result<Vec<FileEntry>> {
        let mask = self.shared.mask(job.tenant, i64::MIN, i64::MAX);
        let compacted = compact_masked(job, &mask, &self.shared.files.store, &*self.shared.rng);
        let (files, left_out) = compacted.inspect_err(|error| self.set_damaged_aside(job, error))?;
        self.shared.exemplars_dropped.fetch_add(left_out.exemplars, Ordering::Relaxed);
        // What a rollup is made of stays, and is merged by itself.
        if job.rollup.is_raw() && left_out.contradictions > 0 {
            *self.shared.contradictions.lock().entry(job.tenant).or_default() += left_out.contradictions;
        }
        Ok(files)
    }

    /// Takes files off the list and puts others on it in one step: after a compaction, and with no new ones after retention.
    /// Queries that run keep reading the old ones: remove these from the object store some minutes later.
    pub fn replace(&self, removed: &[FileEntry], added: &[FileEntry]) {
        // A merge may leave out what was deleted or has been rolled up.
        let files = removed.iter().chain(added);
        let changing: Vec<_> =
            files.map(|file| self.shared.changing(file.tenant, Change::from(file.min_time.as_millis()))).collect();
        self.shared.files.replace(removed, added);
        drop(changing);
    }

    /// Files that hold nothing at or after `cutoff`.
    pub fn expired(&self, cutoff: Nanos) -> Vec<FileEntry> {
        self.shared.files.older_than(cutoff)
    }

    /// The series of one tenant: head, sealed parts and files as one.
    pub fn source(&self, tenant: TenantId) -> Arc<dyn MetricSource> {
        Arc::new(TenantSource::new(tenant, self.shared.clone()))
    }

    /// The last sample of a series within a range of times, markers of staleness left aside, for who goes on counting from there.
    pub fn last_sample(&self, tenant: TenantId, labels: &Labels, times_ms: RangeInclusive<i64>) -> Result<Option<Sample>> {
        TenantSource::new(tenant, self.shared.clone()).last_sample(labels, *times_ms.start(), *times_ms.end())
    }

    /// Counts samples that were refused before they came here.
    pub fn count_refused(&self, tenant: TenantId, refused: &[(RejectReason, u64)]) {
        let head = self.shared.head_or_new(tenant);
        let rejected = &mut head.write().counters.rejected;
        for (reason, count) in refused {
            rejected[*reason as usize] += count;
        }
    }

    /// An error of a compaction begins with the path of the file that it is about.
    fn set_damaged_aside(&self, job: &CompactionJob, error: &Error) {
        if !matches!(error.kind(), Kind::Corrupt | Kind::NotFound) {
            return;
        }
        for file in self.shared.files.of_tenant(job.tenant) {
            if error.message().contains(&file.entry.path) {
                self.shared.files.mark_unmergeable(&file, error.message());
            }
        }
    }
}

/// A change under way: it counts when it begins and, with all of it to be seen, when it has ended.
pub(crate) struct Changing<'s> {
    shared: &'s Shared,
    tenant: TenantId,
    change: Change,
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        self.shared.record_change(self.tenant, &self.change);
    }
}

impl Shared {
    /// To be held while a tenant's samples change.
    pub(crate) fn changing(&self, tenant: TenantId, change: Change) -> Changing<'_> {
        self.record_change(tenant, &change);
        Changing { shared: self, tenant, change }
    }

    fn record_change(&self, tenant: TenantId, change: &Change) {
        self.changes.lock().entry(tenant).or_default().record(change);
    }

    /// The version of a tenant's samples. Damage that was found counts in the upper half: it is rare and changes anything.
    pub(crate) fn version(&self, tenant: TenantId) -> u64 {
        let version = self.changes.lock().get(&tenant).map_or(0, ChangeLog::version);
        self.damage_count() << 40 | version
    }

    pub(crate) fn changed_since(&self, tenant: TenantId, version: u64, groups: Option<&[Group]>) -> i64 {
        if version >> 40 != self.damage_count() {
            return i64::MIN;
        }
        let version = version & ((1 << 40) - 1);
        self.changes.lock().get(&tenant).map_or(i64::MAX, |changes| changes.since(version, groups))
    }

    fn damage_count(&self) -> u64 {
        let (files, chunks) = self.files.damage_counts();
        (files + chunks) & ((1 << 24) - 1)
    }

    /// Whether the time of samples from here on may be over by a retention rule.
    fn may_be_past(&self, first_ms: Option<i64>, now: Nanos) -> bool {
        let rules = self.in_force.retention.read();
        rules.as_ref().zip(first_ms).is_some_and(|(rules, first_ms)| first_ms < rules.first_cutoff_ms(now.as_millis()))
    }

    /// A batch without samples that no query would show; how many these are, and one in words.
    fn in_time<'b>(&self, batch: &'b MetricBatch, first_ms: Option<i64>, now: Nanos) -> (Cow<'b, MetricBatch>, u64, String) {
        if !self.may_be_past(first_ms, now) {
            return (Cow::Borrowed(batch), 0, String::new());
        }
        let mut left = batch.clone();
        let rules = self.in_force.retention.read();
        let (count, example) = rules.as_ref().map(|rules| rules.take_out(&mut left, now.as_millis())).unwrap_or_default();
        (Cow::Owned(left), count, example)
    }

    pub(crate) fn head(&self, tenant: TenantId) -> Option<Arc<RwLock<TenantHead>>> {
        self.heads.read().get(&tenant).cloned()
    }

    fn head_or_new(&self, tenant: TenantId) -> Arc<RwLock<TenantHead>> {
        if let Some(head) = self.head(tenant) {
            return head;
        }
        let mut heads = self.heads.write();
        heads.entry(tenant).or_insert_with(|| Arc::new(RwLock::new(TenantHead::new(tenant)))).clone()
    }

    fn heads(&self) -> Vec<Arc<RwLock<TenantHead>>> {
        self.heads.read().values().cloned().collect()
    }

    /// A record that brought no samples.
    pub(crate) fn pass(&self, position: JournalPosition, now: Nanos) {
        let mut applied = self.applied.lock();
        applied.position = applied.position.max(position);
        applied.now = now;
    }

    /// Lets go of samples that are in files, the oldest first, down to the budget for them.
    fn trim_retained(&self) {
        let heads = self.heads();
        let mut retained: Vec<_> = Vec::new();
        for (at, head) in heads.iter().enumerate() {
            retained.extend(head.read().retained().map(|(position, number, bytes)| (position, at, number, bytes)));
        }
        retained.sort_unstable();
        let mut bytes: usize = retained.iter().map(|(.., bytes)| bytes).sum();
        for (_, at, number, freed) in retained {
            if bytes <= self.options.retained_bytes_max {
                return;
            }
            heads[at].write().let_go(number);
            bytes -= freed;
        }
    }

    pub(crate) fn tenants(&self) -> Vec<TenantId> {
        let mut tenants = self.files.tenants();
        tenants.extend(self.heads.read().keys());
        tenants.into_iter().collect()
    }

    pub(crate) fn positions(&self) -> (JournalPosition, JournalPosition) {
        let applied = self.applied.lock();
        (applied.position, applied.sealed)
    }
}
