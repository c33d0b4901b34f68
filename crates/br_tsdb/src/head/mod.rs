//! One tenant's series in memory: who they are, and their samples since the last flush.
//!
//! The registry of series stays across flushes, so that a steady series is registered once.
//! A flush takes the samples away as a [`SealedTenant`], which stays listed here until its files are published, and after that
//! as long as the budget for it allows: what is asked most is the last minutes, and these then need no file.

pub(crate) mod append;
pub(crate) mod caps;
mod hide;
pub(crate) mod identities;
mod seal;
mod sealed;
mod select;
mod series;

pub(crate) use seal::{SealNumber, SealedTenant};
pub(crate) use select::{HeadSelection, HeadSeries};
pub(crate) use series::OpenSamples;

use crate::index::{LabelIndex, SeriesId, SymbolPairs};
use crate::options::TsdbOptions;
use crate::outcome::RejectReason;
use br_model::{Labels, Metadata, SeriesHandle, TenantId};
use caps::{Cap, CapHit, Refusals, SeriesCounts};
use hashbrown::HashTable;
use identities::SharedIdentities;
use seal::HeldPart;
use std::collections::BTreeMap;
use std::sync::Arc;

/// In [`Series::newest_ms`]: nothing was appended yet.
const NOTHING_YET: i64 = i64::MIN;

struct Series {
    pairs: SymbolPairs,
    open: OpenSamples,
    newest_ms: i64,
    /// Bits of the newest float, to tell a repeat from a contradiction after its strip was sealed.
    newest_bits: u64,
    idle_flushes: u8,
}

#[derive(Clone, Debug)]
struct FamilyMetadata {
    metadata: Metadata,
    /// Start of the window in whose files it was written last; `None` when it has to be written.
    written_window_ms: Option<i64>,
}

pub(crate) struct TenantHead {
    pub(crate) tenant: TenantId,
    index: LabelIndex,
    /// By [`SeriesId`]; `None` for numbers that are free.
    series: Vec<Option<Series>>,
    /// Hashes of the label sets, by [`SeriesId`].
    hashes: Vec<u128>,
    by_hash: HashTable<SeriesId>,
    /// How often each number has been given, by [`SeriesId`].
    generations: Vec<u32>,
    identities: SharedIdentities,
    free: Vec<SeriesId>,
    counts: SeriesCounts,
    refusals: Refusals,
    dropped_since_rebuild: usize,
    metadata: BTreeMap<String, FamilyMetadata>,
    /// In the order in which they were sealed.
    sealed: Vec<HeldPart>,
    seal_number: SealNumber,
    exemplar_count: usize,
    /// Times of the open samples; `i64::MAX` and `i64::MIN` when there are none.
    min_ms: i64,
    max_ms: i64,
    pub(crate) counters: HeadCounters,
}

/// What happened since the start.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HeadCounters {
    pub(crate) accepted: u64,
    pub(crate) repeated: u64,
    pub(crate) out_of_order: u64,
    pub(crate) series_created: u64,
    pub(crate) series_dropped: u64,
    /// By position in [`RejectReason::ALL`].
    pub(crate) rejected: [u64; RejectReason::ALL.len()],
}

impl TenantHead {
    pub(crate) fn new(tenant: TenantId) -> Self {
        Self {
            tenant,
            index: LabelIndex::default(),
            series: Vec::new(),
            hashes: Vec::new(),
            by_hash: HashTable::new(),
            generations: Vec::new(),
            identities: SharedIdentities::default(),
            free: Vec::new(),
            counts: SeriesCounts::default(),
            refusals: Refusals::default(),
            dropped_since_rebuild: 0,
            metadata: BTreeMap::new(),
            sealed: Vec::new(),
            seal_number: 0,
            exemplar_count: 0,
            min_ms: i64::MAX,
            max_ms: i64::MIN,
            counters: HeadCounters::default(),
        }
    }

    fn find(&self, hash: u128) -> Option<SeriesId> {
        self.by_hash.find(hash as u64, |id| self.hashes[*id as usize] == hash).copied()
    }

    /// The series' number, given anew when the label set is new and the limits allow one more.
    fn find_or_register(
        &mut self,
        labels: &Labels,
        hash: u128,
        predicted: SeriesId,
        options: &TsdbOptions,
    ) -> Result<SeriesId, RejectReason> {
        if self.hashes.get(predicted as usize) == Some(&hash) && self.series[predicted as usize].is_some() {
            return Ok(predicted);
        }
        match self.find(hash) {
            Some(id) => Ok(id),
            None => self.register(labels, hash, options),
        }
    }

    fn register(&mut self, labels: &Labels, hash: u128, options: &TsdbOptions) -> Result<SeriesId, RejectReason> {
        let label_bytes: usize = labels.iter().map(|(name, value)| name.len() + value.len()).sum();
        if labels.is_empty() || labels.len() > options.labels_max || label_bytes > options.label_bytes_max {
            return Err(RejectReason::LabelLimit);
        }
        if let Some(cap) = self.counts.reached(&self.index, labels, self.by_hash.len(), options) {
            return Err(cap.reason());
        }
        let id = self.free.pop().unwrap_or(self.series.len() as SeriesId);
        let pairs = self.index.insert(id, labels);
        self.counts.add(&mut self.index, labels);
        let series = Series { pairs, open: OpenSamples::default(), newest_ms: NOTHING_YET, newest_bits: 0, idle_flushes: 0 };
        if id as usize == self.series.len() {
            self.series.push(Some(series));
            self.hashes.push(hash);
            self.generations.push(0);
        } else {
            self.series[id as usize] = Some(series);
            self.hashes[id as usize] = hash;
        }
        let hashes = &self.hashes;
        self.by_hash.insert_unique(hash as u64, id, |id| hashes[*id as usize] as u64);
        self.counters.series_created += 1;
        Ok(id)
    }

    /// Forgets a series; its number may be given to another.
    fn drop_series(&mut self, id: SeriesId) {
        let Some(series) = self.series[id as usize].take() else { return };
        let hash = self.hashes[id as usize];
        self.generations[id as usize] = self.generations[id as usize].wrapping_add(1);
        if let Ok(slot) = self.by_hash.find_entry(hash as u64, |other| *other == id) {
            slot.remove();
        }
        self.counts.take_away(&self.index, &series.pairs);
        self.index.remove(id, &series.pairs);
        self.free.push(id);
        self.dropped_since_rebuild += 1;
        self.counters.series_dropped += 1;
    }

    /// Whether the number still stands for the series that it was given for.
    pub(crate) fn keeps(&self, handle: SeriesHandle) -> bool {
        let at = handle.number as usize;
        self.generations.get(at) == Some(&handle.generation) && self.series[at].is_some()
    }

    fn learn(&self, identity: u128, id: SeriesId) {
        let handle = SeriesHandle { number: id, generation: self.generations[id as usize] };
        self.identities.write().learn(identity, handle, self.by_hash.len());
    }

    pub(crate) fn identities(&self) -> SharedIdentities {
        self.identities.clone()
    }

    fn metric_symbol(&self, pairs: &[(u32, u32)]) -> Option<u32> {
        let name = self.index.symbol(br_model::labels::METRIC_NAME)?;
        let metric = pairs.iter().find(|(label, _)| *label == name).map(|(_, value)| *value);
        metric.or_else(|| self.index.symbol(""))
    }

    /// Texts and postings of series that are gone take memory: build anew once they are the larger part.
    fn rebuild_index_when_worn(&mut self) {
        if self.dropped_since_rebuild < 1024 || self.dropped_since_rebuild < self.by_hash.len() {
            return;
        }
        let mut index = LabelIndex::default();
        let mut counts = SeriesCounts::default();
        for (id, slot) in self.series.iter_mut().enumerate() {
            let Some(series) = slot else { continue };
            let labels = self.index.labels(&series.pairs);
            series.pairs = index.insert(id as SeriesId, &labels);
            counts.add(&mut index, &labels);
        }
        self.index = index;
        self.counts = counts;
        self.dropped_since_rebuild = 0;
    }

    fn labels(&self, id: SeriesId) -> Option<Labels> {
        Some(self.index.labels(&self.series.get(id as usize)?.as_ref()?.pairs))
    }

    /// Label sets and hashes of some series that are kept.
    pub(crate) fn label_sets(&self, ids: impl Iterator<Item = SeriesId>) -> Vec<Option<(Labels, u128)>> {
        ids.map(|id| Some((self.labels(id)?, self.hashes[id as usize]))).collect()
    }

    /// These series by metric, the metrics in the order of their names.
    pub(crate) fn by_metric(&self, ids: impl Iterator<Item = SeriesId>) -> Vec<Vec<SeriesId>> {
        let mut by_name: BTreeMap<&str, Vec<SeriesId>> = BTreeMap::new();
        for id in ids {
            let Some(series) = self.series.get(id as usize).and_then(Option::as_ref) else { continue };
            let metric = self.metric_symbol(&series.pairs).map_or("", |metric| self.index.text(metric));
            by_name.entry(metric).or_default().push(id);
        }
        by_name.into_values().collect()
    }

    pub(crate) fn metadata(&self) -> impl Iterator<Item = (&String, &Metadata)> {
        self.metadata.iter().map(|(family, known)| (family, &known.metadata))
    }

    /// Targets, jobs and metrics that came to their cap; of each kind those that refused most.
    pub(crate) fn cap_hits(&self, options: &TsdbOptions, top: usize) -> Vec<CapHit> {
        self.refusals.hits(&self.counts, &self.index, self.by_hash.len(), options, top)
    }

    pub(crate) fn cap_hit_counts(&self) -> [(Cap, u64); Cap::ALL.len()] {
        self.refusals.hit_counts()
    }

    pub(crate) fn series_count(&self) -> usize {
        self.by_hash.len()
    }

    pub(crate) fn index(&self) -> &LabelIndex {
        &self.index
    }

    /// Samples that no file holds yet, and about what they take in memory.
    pub(crate) fn unflushed(&self) -> (u64, u64) {
        let add = |(count, bytes): (u64, u64), (more, more_bytes)| (count + more as u64, bytes + more_bytes as u64);
        let open = self.series.iter().flatten().map(|series| &series.open).filter(|samples| !samples.is_empty());
        let open = open.map(|samples| (samples.sample_count(), samples.heap_bytes()));
        let sealed = self.unpublished().map(|part| (part.samples.sample_count(), part.samples.heap_bytes()));
        open.chain(sealed).fold((0, 0), add)
    }

    fn unpublished(&self) -> impl Iterator<Item = &Arc<SealedTenant>> {
        self.sealed.iter().filter(|held| !held.is_published).map(|held| &held.part)
    }

    /// About what the registry of series takes in memory.
    pub(crate) fn registry_bytes(&self) -> usize {
        let pairs: usize = self.series.iter().flatten().map(|series| series.pairs.len() * 8).sum();
        let fixed = self.series.capacity() * size_of::<Option<Series>>() + self.hashes.capacity() * 20;
        pairs
            + fixed
            + self.counts.heap_bytes()
            + self.by_hash.capacity() * 5
            + self.index.heap_bytes()
            + self.identities.read().heap_bytes()
    }

    pub(crate) fn sealed_count(&self) -> usize {
        self.unpublished().count()
    }

    /// About what the parts take in memory that are in files already.
    pub(crate) fn retained_bytes(&self) -> usize {
        self.sealed.iter().filter(|held| held.is_published).map(|held| held.part.samples.heap_bytes()).sum()
    }

    /// Time of the oldest and of the newest sample that no file holds yet.
    pub(crate) fn time_range(&self) -> Option<(i64, i64)> {
        let min = self.unpublished().map(|part| part.min_ms).fold(self.min_ms, i64::min);
        let max = self.unpublished().map(|part| part.max_ms).fold(self.max_ms, i64::max);
        (min <= max).then_some((min, max))
    }
}
