//! One tenant's series in memory: who they are, and their samples since the last flush.
//!
//! The registry of series stays across flushes, so that a steady series is registered once.
//! A flush takes the samples away as a [`SealedTenant`], which stays listed here until its files are published, and after that
//! as long as the budget for it allows: what is asked most is the last minutes, and these then need no file.

pub(crate) mod append;
pub(crate) mod caps;
mod cells;
mod dense;
mod hide;
mod listing;
mod paged;
pub(crate) mod registry;
mod seal;
mod sealed;
mod select;
mod series;
mod slots;

pub(crate) use listing::Asked;
pub(crate) use seal::{SealNumber, SealedTenant};
pub(crate) use sealed::{SealedPlace, SealedSamples, SeriesView};
pub(crate) use select::{FloatBuffer, HeadSamples, HeadSelection, HeadSeries};
pub(crate) use series::OpenSamples;

use crate::changes::group_of;
use crate::index::{LabelIndex, PairsAt, SeriesId};
use crate::options::TsdbOptions;
use crate::outcome::RejectReason;
use br_model::{Labels, Metadata, TenantId};
use caps::{Cap, CapHit, Refusals, SeriesCounts};
use registry::SharedRegistry;
use seal::HeldPart;
use slots::Slots;
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Clone, Debug)]
struct FamilyMetadata {
    metadata: Metadata,
    /// Start of the window in whose files it was written last; `None` when it has to be written.
    written_window_ms: Option<i64>,
}

pub(crate) struct TenantHead {
    pub(crate) tenant: TenantId,
    index: LabelIndex,
    series: Slots,
    registry: SharedRegistry,
    free: Vec<SeriesId>,
    counts: SeriesCounts,
    refusals: Refusals,
    dropped_since_rebuild: usize,
    metadata: BTreeMap<String, FamilyMetadata>,
    /// In the order in which they were sealed.
    sealed: Vec<HeldPart>,
    seal_number: SealNumber,
    /// Seals that count as flushes.
    flushes: u64,
    /// About what the open exemplars take.
    exemplar_bytes: usize,
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
            series: Slots::default(),
            registry: SharedRegistry::default(),
            free: Vec::new(),
            counts: SeriesCounts::default(),
            refusals: Refusals::default(),
            dropped_since_rebuild: 0,
            metadata: BTreeMap::new(),
            sealed: Vec::new(),
            seal_number: 0,
            flushes: 0,
            exemplar_bytes: 0,
            min_ms: i64::MAX,
            max_ms: i64::MIN,
            counters: HeadCounters::default(),
        }
    }

    /// The series' number, given anew when the label set is new and the limits allow one more.
    fn find_or_register(
        &mut self,
        labels: &Labels,
        (hash, wire_bytes): (u128, usize),
        predicted: SeriesId,
        options: &TsdbOptions,
    ) -> Result<SeriesId, RejectReason> {
        let known = self.registry.read().find_near(hash, predicted);
        known.map_or_else(|| self.register(labels, (hash, wire_bytes), options), Ok)
    }

    fn register(
        &mut self,
        labels: &Labels,
        (hash, wire_bytes): (u128, usize),
        options: &TsdbOptions,
    ) -> Result<SeriesId, RejectReason> {
        let label_bytes: usize = labels.iter().map(|(name, value)| name.len() + value.len()).sum();
        if labels.is_empty() || labels.len() > options.labels_max || label_bytes > options.label_bytes_max {
            return Err(RejectReason::LabelLimit);
        }
        if let Some(cap) = self.counts.reached(&self.index, labels, self.series_count(), options) {
            return Err(cap.reason());
        }
        let id = self.free.pop().unwrap_or(self.series.len() as SeriesId);
        let Some(pairs) = self.index.insert(id, labels) else {
            self.free.push(id);
            return Err(RejectReason::SeriesLimit);
        };
        self.counts.add(&mut self.index, labels);
        self.series.insert(id, pairs);
        self.registry.write().insert(id, hash, wire_bytes, group_of(labels.metric_name()));
        self.counters.series_created += 1;
        Ok(id)
    }

    /// Forgets a series; its number may be given to another.
    fn drop_series(&mut self, id: SeriesId) {
        let Some(labels) = self.series.remove(id) else { return };
        self.registry.write().remove(id);
        let pairs: Vec<_> = self.index.pairs(labels).collect();
        self.counts.take_away(&self.index, &pairs);
        self.index.remove(id, labels);
        self.free.push(id);
        self.dropped_since_rebuild += 1;
        self.counters.series_dropped += 1;
    }

    pub(crate) fn registry(&self) -> SharedRegistry {
        self.registry.clone()
    }

    /// Texts and postings of series that are gone take memory: build anew once they are the larger part.
    fn rebuild_index_when_worn(&mut self) {
        if self.dropped_since_rebuild < 1024 || self.dropped_since_rebuild < self.series_count() {
            return;
        }
        let mut index = LabelIndex::default();
        let mut counts = SeriesCounts::default();
        for (id, at) in self.series.labels_mut() {
            let labels = self.index.labels(*at);
            // There was room for all of them and more.
            let Some(anew) = index.insert(id, &labels) else { return };
            *at = anew;
            counts.add(&mut index, &labels);
        }
        self.index = index;
        self.counts = counts;
        self.dropped_since_rebuild = 0;
    }

    fn labels_at(&self, id: SeriesId) -> Option<PairsAt> {
        self.series.labels(id)
    }

    fn labels(&self, id: SeriesId) -> Option<Labels> {
        Some(self.index.labels(self.labels_at(id)?))
    }

    pub(crate) fn metadata(&self) -> impl Iterator<Item = (&String, &Metadata)> {
        self.metadata.iter().map(|(family, known)| (family, &known.metadata))
    }

    /// Targets, jobs and metrics that came to their cap; of each kind those that refused most.
    pub(crate) fn cap_hits(&self, options: &TsdbOptions, top: usize) -> Vec<CapHit> {
        self.refusals.hits(&self.counts, &self.index, self.series_count(), options, top)
    }

    pub(crate) fn cap_hit_counts(&self) -> [(Cap, u64); Cap::ALL.len()] {
        self.refusals.hit_counts()
    }

    pub(crate) fn series_count(&self) -> usize {
        self.registry.read().len()
    }

    pub(crate) fn index(&self) -> &LabelIndex {
        &self.index
    }

    /// Samples that no file holds yet, and about what they take in memory.
    pub(crate) fn unflushed(&self) -> (u64, u64) {
        let open = (self.series.sample_count(), self.series.open_bytes());
        let sealed = self.unpublished().map(|part| (part.samples.sample_count(), part.samples.heap_bytes()));
        sealed.chain([open]).fold((0, 0), |(count, bytes), (more, more_bytes)| (count + more as u64, bytes + more_bytes as u64))
    }

    /// About what samples take in memory that are not sealed.
    pub(crate) fn open_bytes(&self) -> usize {
        self.series.open_bytes()
    }

    fn unpublished(&self) -> impl Iterator<Item = &Arc<SealedTenant>> {
        self.sealed.iter().filter(|held| !held.is_published).map(|held| &held.part)
    }

    /// About what the registry of series takes in memory.
    pub(crate) fn registry_bytes(&self) -> usize {
        self.series.slot_bytes() + self.counts.heap_bytes() + self.index.heap_bytes() + self.registry.read().heap_bytes()
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
