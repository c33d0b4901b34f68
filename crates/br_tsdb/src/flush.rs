//! Writing what was sealed.

use crate::block::row::{FloatRows, rows_of};
use crate::block::write::{BlockSpec, BlockWriter};
use crate::codec::CHUNK_SAMPLES_MAX;
use crate::head::{SealedPlace, SealedSamples, SealedTenant, SeriesView, TenantHead};
use crate::index::SeriesId;
use crate::options::WINDOW_SECS;
use crate::points;
use crate::rollup::RollupOf;
use br_env::Rng;
use br_model::{Exemplar, Labels, Metadata, TenantId};
use br_std::Result;
use br_storage::{FileEntry, JournalPosition, Points};
use futures::executor::block_on;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Everything that was appended between two seals. Queries see it until its files are published.
/// When writing or committing fails, write it again: nothing of it is lost, and the objects of a failed try are named by nobody.
#[must_use = "what was sealed has to be written and published"]
pub struct SealedHead {
    pub(crate) parts: Vec<(Arc<RwLock<TenantHead>>, Arc<SealedTenant>)>,
    /// About what they take in memory.
    pub(crate) bytes: usize,
    pub(crate) position: JournalPosition,
    pub(crate) rng: Arc<dyn Rng>,
    pub(crate) orders: FlushOrders,
}

/// The order in which each tenant's series stood in the files of its last flush. It is a hint: the next flush sorts what hardly
/// needs it.
#[derive(Clone, Default)]
pub(crate) struct FlushOrders(Arc<Mutex<BTreeMap<TenantId, Vec<SeriesId>>>>);

/// The writers of one tenant's files, by the start of the window in milliseconds.
struct WindowWriters<'a> {
    part: &'a SealedTenant,
    store: &'a Arc<dyn ObjectStore>,
    rng: &'a dyn Rng,
    by_window_ms: BTreeMap<i64, BlockWriter>,
    floats: Floats,
}

/// Columns and rows of one series after the other.
#[derive(Default)]
struct Floats {
    timestamps_ms: Vec<i64>,
    values: Vec<f64>,
    rows: FloatRows,
}

impl SealedHead {
    /// All records of the journal up to and with this one are in here or were sealed before.
    pub fn position(&self) -> JournalPosition {
        self.position
    }

    /// Samples in here.
    pub fn sample_count(&self) -> u64 {
        self.parts.iter().map(|(_, part)| part.samples.sample_count() as u64).sum()
    }

    /// Writes one file for each tenant and window. Blocks on the object store.
    pub fn write(&self, store: &Arc<dyn ObjectStore>) -> Result<Vec<FileEntry>> {
        let mut files = Vec::new();
        match self.write_parts(store, &mut files) {
            Ok(()) => Ok(files),
            Err(error) => {
                remove_files(&**store, &files);
                Err(error)
            }
        }
    }

    fn write_parts(&self, store: &Arc<dyn ObjectStore>, files: &mut Vec<FileEntry>) -> Result<()> {
        for (head, part) in &self.parts {
            let (by_window_ms, floats) = (BTreeMap::new(), Floats::default());
            let mut writers = WindowWriters { part, store, rng: &*self.rng, by_window_ms, floats };
            match writers.write(head, &self.orders) {
                Ok(()) => writers.finish(files)?,
                Err(error) => {
                    let aborted = writers.abort();
                    return Err(aborted.err().map_or(error, |abort| abort.context("while giving up a failed flush")));
                }
            }
        }
        Ok(())
    }
}

/// Takes back what a failed try has written: on a full disk each try would leave more. What cannot be removed, nobody names.
pub(crate) fn remove_files(store: &dyn ObjectStore, files: &[FileEntry]) {
    for file in files {
        let _ = block_on(store.delete(&Path::from(file.path.as_str())));
    }
}

impl WindowWriters<'_> {
    fn write(&mut self, head: &RwLock<TenantHead>, orders: &FlushOrders) -> Result<()> {
        let part = self.part;
        let before = orders.0.lock().remove(&part.tenant).unwrap_or_default();
        let (in_order, places) = listed(&part.samples, &before);
        drop(before);
        let by_metric = head.read().by_metric(in_order.iter().copied());
        let (mut bytes, mut order) = (Vec::new(), in_order);
        order.clear();
        // A metric at a time: label sets are large, and only those of one metric have to be in memory for sorting.
        for ids in by_metric {
            let label_sets = head.read().label_sets(ids.iter().copied());
            let mut series: Vec<_> = ids.iter().zip(label_sets).filter_map(|(id, labels)| Some((labels?, *id))).collect();
            series.sort_by(|(one, _), (other, _)| one.cmp(other));
            for (labels, id) in &series {
                let place = places.get(*id as usize).copied().flatten();
                let Some(samples) = place.and_then(|place| part.samples.view(place)) else { continue };
                let hash = labels.hash128_with(&mut bytes);
                order.push(*id);
                if !self.write_floats(labels, hash, samples)? {
                    self.write_series(labels, hash, samples.points()?, samples.exemplars())?;
                }
            }
        }
        orders.0.lock().insert(part.tenant, order);
        if !part.metadata.is_empty() && self.by_window_ms.is_empty() {
            self.writer(part.window_ms)?;
        }
        Ok(())
    }

    /// Writes what is nothing but floats of one window, no more than a chunk may hold; false for everything else.
    fn write_floats(&mut self, labels: &Labels, hash: u128, samples: SeriesView<'_>) -> Result<bool> {
        if !samples.is_plain() || samples.sample_count() > CHUNK_SAMPLES_MAX {
            return Ok(false);
        }
        let mut floats = std::mem::take(&mut self.floats);
        floats.timestamps_ms.clear();
        floats.values.clear();
        samples.plain_into(&mut floats.timestamps_ms, &mut floats.values)?;
        let window = match (floats.timestamps_ms.first(), floats.timestamps_ms.last()) {
            (Some(first), Some(last)) if window_ms(*first) == window_ms(*last) => window_ms(*first),
            _ => {
                self.floats = floats;
                return Ok(false);
            }
        };
        self.writer(window)?.push(labels, hash, &[floats.rows.row(&floats.timestamps_ms, &floats.values, false)])?;
        self.floats = floats;
        Ok(true)
    }

    fn write_series(&mut self, labels: &Labels, hash: u128, samples: Option<Points>, exemplars: &[Exemplar]) -> Result<()> {
        let mut by_window: BTreeMap<i64, (Option<Points>, Vec<Exemplar>)> = BTreeMap::new();
        for exemplar in exemplars {
            by_window.entry(window_ms(exemplar.timestamp_ms)).or_default().1.push(exemplar.clone());
        }
        if let Some(samples) = samples {
            let mut from = 0;
            while let Some(first) = samples.timestamps_ms.get(from) {
                let window = window_ms(*first);
                let end = window.saturating_add(i64::from(WINDOW_SECS) * 1000);
                let to = samples.timestamps_ms.partition_point(|timestamp| *timestamp < end).max(from + 1);
                by_window.entry(window).or_default().0 = Some(points::slice(&samples, from, to));
                from = to;
            }
        }
        for (window, (samples, exemplars)) in by_window {
            self.writer(window)?.push(labels, hash, &rows_of(samples, &exemplars, false))?;
        }
        Ok(())
    }

    fn writer(&mut self, window_ms: i64) -> Result<&mut BlockWriter> {
        use std::collections::btree_map::Entry;
        match self.by_window_ms.entry(window_ms) {
            Entry::Occupied(writer) => Ok(writer.into_mut()),
            Entry::Vacant(slot) => {
                let spec = BlockSpec {
                    tenant: self.part.tenant,
                    window_ms,
                    window_secs: WINDOW_SECS,
                    level: 0,
                    positions: self.part.positions,
                    deleted_to: JournalPosition(0),
                    rollup: RollupOf::default(),
                    made_of: Vec::new(),
                    nonce: nonce(self.rng),
                };
                Ok(slot.insert(BlockWriter::new(self.store.clone(), spec)?))
            }
        }
    }

    /// Metadata goes with the newest window.
    fn finish(self, files: &mut Vec<FileEntry>) -> Result<()> {
        let newest = self.by_window_ms.keys().next_back().copied();
        let metadata: BTreeMap<String, Metadata> = self.part.metadata.iter().cloned().collect();
        let nothing = BTreeMap::new();
        for (window, writer) in self.by_window_ms {
            files.push(writer.finish(if Some(window) == newest { &metadata } else { &nothing })?);
        }
        Ok(())
    }

    fn abort(self) -> Result<()> {
        self.by_window_ms.into_values().try_for_each(BlockWriter::abort)
    }
}

/// The series with samples, those of the last flush first and in its order; and the place of each by its number.
fn listed(samples: &SealedSamples, before: &[SeriesId]) -> (Vec<SeriesId>, Vec<Option<SealedPlace>>) {
    let mut places: Vec<Option<SealedPlace>> = Vec::new();
    let mut near = 0;
    for id in samples.ids() {
        let at = id as usize;
        if at >= places.len() {
            places.resize(at + 1, None);
        }
        places[at] = samples.find_next(id, &mut near);
    }
    let mut is_listed = vec![false; places.len()];
    let mut in_order = Vec::with_capacity(places.len());
    for id in before.iter().copied().chain(samples.ids()) {
        let at = id as usize;
        if places.get(at).is_some_and(Option::is_some) && !is_listed[at] {
            is_listed[at] = true;
            in_order.push(id);
        }
    }
    (in_order, places)
}

/// Start of the window that holds this time.
pub(crate) fn window_ms(timestamp_ms: i64) -> i64 {
    let width = i64::from(WINDOW_SECS) * 1000;
    timestamp_ms.div_euclid(width).saturating_mul(width)
}

pub(crate) fn nonce(rng: &dyn Rng) -> u128 {
    u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64())
}
