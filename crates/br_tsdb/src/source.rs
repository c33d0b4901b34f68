//! One tenant's series as a query sees them: files, sealed parts and the open head as one.

use crate::block::file::BlockFile;
use crate::block::index::BlockIndex;
use crate::compact::tidy_exemplars;
use crate::head::{HeadSeries, OpenSamples};
use crate::index::LabelIndex;
use crate::points;
use crate::store::Shared;
use br_model::{Exemplar, Labels, Metadata, TenantId};
use br_std::Result;
use br_storage::{Budget, MetricSource, Points, SeriesCursor, SeriesData, SeriesQuery};
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use roaring::RoaringBitmap;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub(crate) struct TenantSource {
    tenant: TenantId,
    shared: Arc<Shared>,
}

/// A file that a query reads, with the series of it that match.
struct Selected {
    file: Arc<BlockFile>,
    index: Arc<BlockIndex>,
    series: RoaringBitmap,
}

/// One series that matches, and where its samples are.
struct Candidate {
    hash: u128,
    head: Option<HeadSeries>,
    /// Position in the list of files, and number of the series there; files stored first come first.
    blocks: Vec<(u32, u32)>,
}

/// Series in one batch of a cursor.
const BATCH_SERIES: usize = 512;
/// What a candidate takes in memory beside its samples.
const CANDIDATE_BYTES: u64 = 128;

impl TenantSource {
    pub(crate) fn new(tenant: TenantId, shared: Arc<Shared>) -> Self {
        Self { tenant, shared }
    }

    /// The head is asked before the files: what is published in between is then seen twice, not never.
    fn head_series(&self, query: &SeriesQuery) -> Vec<HeadSeries> {
        self.shared.head(self.tenant).map_or_else(Vec::new, |head| head.read().select(query))
    }

    fn select_files(&self, query: &SeriesQuery, files: Vec<Arc<BlockFile>>, budget: &Budget) -> Result<Vec<Selected>> {
        let mut selected = Vec::new();
        for file in files {
            budget.check()?;
            let Some(index) = self.shared.files.index(&file)? else { continue };
            let series = index.select(&query.matchers, query.from_ms, query.to_ms);
            if !series.is_empty() {
                selected.push(Selected { file, index, series });
            }
        }
        Ok(selected)
    }

    fn selected_files(&self, query: &SeriesQuery, budget: &Budget) -> Result<Vec<Selected>> {
        let files = self.shared.files.overlapping(self.tenant, query.from_ms, query.to_ms);
        self.select_files(query, files, budget)
    }

    /// Texts that `of_head` and `of_file` find on the series that match, sorted.
    fn texts(
        &self,
        query: &SeriesQuery,
        budget: &Budget,
        find: impl for<'a> Fn(&'a LabelIndex, &RoaringBitmap) -> Vec<&'a str>,
    ) -> Result<Vec<String>> {
        let mut texts = BTreeSet::new();
        if let Some(head) = self.shared.head(self.tenant) {
            let head = head.read();
            let series: RoaringBitmap = head.matching(query).into_iter().collect();
            texts.extend(find(head.index(), &series).into_iter().map(str::to_owned));
        }
        for selected in self.selected_files(query, budget)? {
            texts.extend(find(selected.index.label_index(), &selected.series).into_iter().map(str::to_owned));
        }
        budget.charge(texts.iter().map(|text| text.len() as u64 + 24).sum())?;
        Ok(texts.into_iter().collect())
    }
}

impl MetricSource for TenantSource {
    fn select<'a>(&'a self, query: &SeriesQuery, budget: &'a Budget) -> Result<Box<dyn SeriesCursor + 'a>> {
        let head = self.head_series(query);
        let files = self.selected_files(query, budget)?;
        let candidates = candidates(head, &files);
        let held_bytes = candidates.len() as u64 * CANDIDATE_BYTES;
        budget.charge(held_bytes)?;
        Ok(Box::new(TenantCursor {
            shared: &self.shared,
            from_ms: query.from_ms,
            to_ms: query.to_ms,
            files,
            candidates: candidates.into_iter(),
            timestamps: SharedTimestamps::default(),
            budget,
            held_bytes,
            batch_bytes: 0,
        }))
    }

    fn series(&self, queries: &[SeriesQuery], budget: &Budget) -> Result<Vec<Labels>> {
        let mut found = BTreeSet::new();
        for query in queries {
            let head = self.head_series(query).into_iter().filter(|series| series.may_touch(query));
            found.extend(head.map(|series| series.labels));
            for selected in self.selected_files(query, budget)? {
                budget.charge(selected.series.len() * CANDIDATE_BYTES)?;
                found.extend(selected.series.iter().map(|id| selected.index.labels(id)));
            }
        }
        Ok(found.into_iter().collect())
    }

    fn label_names(&self, query: &SeriesQuery, budget: &Budget) -> Result<Vec<String>> {
        self.texts(query, budget, LabelIndex::names_unsorted)
    }

    fn label_values(&self, name: &str, query: &SeriesQuery, budget: &Budget) -> Result<Vec<String>> {
        self.texts(query, budget, |index, series| index.values_unsorted(name, series))
    }

    fn metadata(&self, metric: Option<&str>) -> Result<Vec<(String, Metadata)>> {
        let mut families = self.shared.files.metadata(self.tenant)?;
        if let Some(head) = self.shared.head(self.tenant) {
            families.extend(head.read().metadata().map(|(family, metadata)| (family.clone(), metadata.clone())));
        }
        families.retain(|family, _| metric.is_none_or(|metric| metric == family));
        Ok(families.into_iter().collect())
    }

    fn exemplars(&self, query: &SeriesQuery, budget: &Budget) -> Result<Vec<(Labels, Vec<Exemplar>)>> {
        let mut found: BTreeMap<Labels, Vec<Exemplar>> = BTreeMap::new();
        for series in self.head_series(query) {
            let exemplars: Vec<Exemplar> = series.parts().flat_map(|samples| samples.exemplars().to_vec()).collect();
            if !exemplars.is_empty() {
                found.entry(series.labels).or_default().extend(exemplars);
            }
        }
        let files = self.shared.files.overlapping_windows(self.tenant, query.from_ms, query.to_ms);
        let everything = SeriesQuery { matchers: query.matchers.clone(), from_ms: i64::MIN, to_ms: i64::MAX };
        for selected in self.select_files(&everything, files, budget)? {
            self.file_exemplars(&selected, budget, &mut found)?;
        }
        for exemplars in found.values_mut() {
            exemplars.retain(|exemplar| (query.from_ms..=query.to_ms).contains(&exemplar.timestamp_ms));
            tidy_exemplars(exemplars, usize::MAX);
        }
        found.retain(|_, exemplars| !exemplars.is_empty());
        Ok(found.into_iter().collect())
    }
}

impl TenantSource {
    fn file_exemplars(&self, selected: &Selected, budget: &Budget, found: &mut BTreeMap<Labels, Vec<Exemplar>>) -> Result<()> {
        let ids: Vec<u32> = selected.series.iter().collect();
        for ids in ids.chunks(BATCH_SERIES) {
            budget.check()?;
            // Exemplars stand in the first row of their series.
            let firsts = ids.iter().filter_map(|id| Some((selected.index.rows(*id, i64::MIN, i64::MAX).next()?, *id)));
            let (rows, ids): (Vec<u32>, Vec<u32>) = firsts.unzip();
            let chunks = self.shared.files.pass_damage(&selected.file, selected.index.block.chunks(&rows))?;
            for ((row, crc32), id) in chunks.into_iter().flatten().zip(ids) {
                if row.exemplars.is_none() {
                    continue;
                }
                let exemplars = if row.crc32(selected.index.hash(id)) == crc32 { row.exemplars().ok() } else { None };
                let Some(exemplars) = exemplars else {
                    self.shared.files.count_damaged_chunk();
                    continue;
                };
                budget.charge(exemplars.len() as u64 * CANDIDATE_BYTES)?;
                found.entry(selected.index.labels(id)).or_default().extend(exemplars);
            }
        }
        Ok(())
    }
}

impl HeadSeries {
    /// What the head holds of the series, first stored first.
    fn parts(&self) -> impl Iterator<Item = &OpenSamples> {
        let sealed = self.sealed.iter().filter_map(|(part, at)| part.series.get(*at)).map(|series| &series.samples);
        sealed.chain(self.open.as_ref())
    }

    /// Whether a sample lies in the range. What cannot be decoded is not left out here: [`SeriesCursor`] reports it.
    fn may_touch(&self, query: &SeriesQuery) -> bool {
        self.parts().any(|samples| {
            samples
                .points()
                .map_or(true, |points| points.is_some_and(|points| !points::cut(points, query.from_ms, query.to_ms).is_empty()))
        })
    }
}

/// Joins the series of head and files by the hash of their labels.
fn candidates(head: Vec<HeadSeries>, files: &[Selected]) -> Vec<Candidate> {
    let mut places: HashMap<u128, usize, FixedState> = HashMap::default();
    let mut candidates: Vec<Candidate> = Vec::new();
    for (at, selected) in files.iter().enumerate() {
        for id in &selected.series {
            let hash = selected.index.hash(id);
            let place = *places.entry(hash).or_insert_with(|| {
                candidates.push(Candidate { hash, head: None, blocks: Vec::new() });
                candidates.len() - 1
            });
            candidates[place].blocks.push((at as u32, id));
        }
    }
    for series in head {
        match places.get(&series.hash) {
            Some(place) => candidates[*place].head = Some(series),
            None => candidates.push(Candidate { hash: series.hash, head: Some(series), blocks: Vec::new() }),
        }
    }
    candidates
}

struct TenantCursor<'a> {
    shared: &'a Shared,
    from_ms: i64,
    to_ms: i64,
    files: Vec<Selected>,
    candidates: std::vec::IntoIter<Candidate>,
    timestamps: SharedTimestamps,
    budget: &'a Budget,
    /// What the candidates were charged for.
    held_bytes: u64,
    /// What the last batch was charged for.
    batch_bytes: u64,
}

impl SeriesCursor for TenantCursor<'_> {
    fn next_batch(&mut self) -> Result<Option<Vec<SeriesData>>> {
        loop {
            self.budget.check()?;
            self.budget.release(std::mem::take(&mut self.batch_bytes));
            let batch: Vec<Candidate> = self.candidates.by_ref().take(BATCH_SERIES).collect();
            if batch.is_empty() {
                return Ok(None);
            }
            let series = self.read(&batch)?;
            if !series.is_empty() {
                return Ok(Some(series));
            }
        }
    }
}

impl TenantCursor<'_> {
    fn read(&mut self, batch: &[Candidate]) -> Result<Vec<SeriesData>> {
        let mut parts: Vec<Vec<Points>> = batch.iter().map(|_| Vec::new()).collect();
        for file in 0..self.files.len() {
            self.read_file(file, batch, &mut parts)?;
        }
        let mut series = Vec::with_capacity(batch.len());
        for (candidate, mut parts) in batch.iter().zip(parts) {
            for samples in candidate.head.iter().flat_map(HeadSeries::parts) {
                parts.extend(samples.points()?);
            }
            let Some(points) = points::merge(parts) else { continue };
            let mut points = points::cut(points, self.from_ms, self.to_ms);
            if points.is_empty() {
                continue;
            }
            let bytes = points::heap_bytes(&points);
            self.batch_bytes += bytes;
            self.budget.charge(bytes)?;
            self.budget.scanned(points.len() as u64);
            self.timestamps.share(&mut points);
            series.push(SeriesData { labels: self.labels(candidate), points });
        }
        Ok(series)
    }

    /// Adds what one file has of the series of a batch.
    fn read_file(&self, file: usize, batch: &[Candidate], parts: &mut [Vec<Points>]) -> Result<()> {
        let Selected { file: block, index, .. } = &self.files[file];
        let mut rows: Vec<(u32, usize)> = Vec::new();
        for (at, candidate) in batch.iter().enumerate() {
            let of_file = candidate.blocks.iter().filter(|(other, _)| *other as usize == file);
            for (_, id) in of_file {
                rows.extend(index.rows(*id, self.from_ms, self.to_ms).map(|row| (row, at)));
            }
        }
        if rows.is_empty() {
            return Ok(());
        }
        rows.sort_unstable();
        let numbers: Vec<u32> = rows.iter().map(|(row, _)| *row).collect();
        let Some(chunks) = self.shared.files.pass_damage(block, index.block.chunks(&numbers))? else { return Ok(()) };
        for ((row, crc32), (_, at)) in chunks.into_iter().zip(rows) {
            let points = if row.crc32(batch[at].hash) == crc32 { row.points().ok() } else { None };
            match points {
                Some(points) => parts[at].extend(points),
                None => self.shared.files.count_damaged_chunk(),
            }
        }
        Ok(())
    }

    fn labels(&self, candidate: &Candidate) -> Labels {
        if let Some(head) = &candidate.head {
            return head.labels.clone();
        }
        let first = candidate.blocks.first();
        first.map_or_else(Labels::empty, |(file, id)| self.files[*file as usize].index.labels(*id))
    }
}

impl Drop for TenantCursor<'_> {
    fn drop(&mut self) {
        self.budget.release(self.held_bytes + self.batch_bytes);
    }
}

/// The timestamp vectors that came last, so that series scraped together share one.
#[derive(Default)]
struct SharedTimestamps {
    recent: Vec<Arc<[i64]>>,
    next: usize,
}

/// Scrape groups that alternate in the order of series.
const RECENT_MAX: usize = 16;

impl SharedTimestamps {
    fn share(&mut self, points: &mut Points) {
        let times = &points.timestamps_ms;
        let is_same = |other: &&Arc<[i64]>| other.first() == times.first() && other.last() == times.last() && *other == times;
        if let Some(known) = self.recent.iter().find(is_same) {
            points.timestamps_ms = known.clone();
            return;
        }
        if self.recent.len() < RECENT_MAX {
            self.recent.push(times.clone());
        } else {
            self.recent[self.next] = times.clone();
            self.next = (self.next + 1) % RECENT_MAX;
        }
    }
}
