//! One tenant's series as a query sees them: files, sealed parts and the open head as one.

use crate::block::file::{BlockFile, ChunkReads};
use crate::block::footer::OpenFile;
use crate::block::row::{ChunkKind, DecodedTimes, RowHead};
use crate::block::section::SectionIndex;
use crate::changes::{Group, group_of};
use crate::compact::tidy_exemplars;
use crate::head::{Asked, FloatBuffer, HeadSamples, HeadSelection, HeadSeries, SealNumber};
use crate::index::LabelLookup;
use crate::mask::{Hidden, Mask, covers, drop_hidden_exemplars, visible};
use crate::points::{self, Joints, SharedTimestamps};
use crate::store::Shared;
use crate::verdicts::Verdicts;
use br_model::{Exemplar, Labels, Metadata, TenantId};
use br_std::Result;
use br_storage::{BATCHES_AT_ONCE, Budget, MetricSource, Points, RollupUse, SeriesCursor, SeriesData, SeriesQuery};
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use roaring::RoaringBitmap;
use smallvec::SmallVec;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub(crate) struct TenantSource {
    tenant: TenantId,
    shared: Arc<Shared>,
}

/// A file that a query reads.
struct SelectedFile {
    file: Arc<BlockFile>,
    open: Arc<OpenFile>,
    sections: Vec<SelectedSection>,
}

impl SelectedFile {
    /// Whether a series that matches is one of native histograms, in a rollup.
    fn lacks_sums(&self) -> bool {
        let is_histogram =
            |index: &SectionIndex, row| index.head(row).is_some_and(|head| head.kind == ChunkKind::WeightedHistograms);
        let has = |section: &SelectedSection| {
            let SelectedSection { index, series } = section;
            series.iter().any(|id| index.rows(id, i64::MIN, i64::MAX).any(|row| is_histogram(index, row)))
        };
        self.file.rollup.has_histograms && self.sections.iter().any(has)
    }
}

/// A section of it, with the series that match.
struct SelectedSection {
    index: Arc<SectionIndex>,
    series: RoaringBitmap,
}

/// Where a series stands in files.
#[derive(Clone, Copy)]
struct Place {
    /// Positions in the list of selected files, and in its list of sections.
    file: u32,
    section: u32,
    /// Number within the section.
    id: u32,
}

/// One series that matches, and where its samples are.
struct Candidate {
    /// Of the labels, as files have it; zero when none has the series.
    hash: u128,
    head: Option<HeadSeries>,
    /// Files stored first come first.
    places: SmallVec<[Place; 4]>,
}

/// Sections that are read before looking whether the query shall go on.
const SECTIONS_PER_READ: usize = 32;
/// Series in one batch of a cursor, at most, and in the first one, when nothing is known of their size.
const BATCH_SERIES: usize = 512;
const BATCH_SERIES_FIRST: usize = 128;
/// So many are read at once even where they are large.
const BATCH_SERIES_MIN: usize = 16;
/// About what a batch may take: several are held at a time.
const BATCH_BYTES: u64 = 16 << 20;
/// A query of so many series leaves the pages that it read for the queries that come after.
const SMALL_SERIES_MAX: usize = 256;
/// What a candidate takes in memory beside its samples.
const CANDIDATE_BYTES: u64 = 128;
/// What a text takes in an answer beside its bytes.
const TEXT_BYTES: u64 = 32;

impl TenantSource {
    pub(crate) fn new(tenant: TenantId, shared: Arc<Shared>) -> Self {
        Self { tenant, shared }
    }

    /// Taken before everything else: a deletion is done with only when its files are gone.
    fn mask(&self, query: &SeriesQuery) -> Mask {
        self.shared.mask(self.tenant, query.from_ms, query.to_ms)
    }

    /// The head is asked before the files: what is published in between is then seen twice, not never.
    /// What it has is charged before it is copied.
    fn select_head(&self, query: &SeriesQuery, verdicts: &mut Verdicts<'_>, held: &mut Charged<'_>) -> Result<HeadSelection> {
        let Some(head) = self.shared.head(self.tenant) else { return Ok(HeadSelection::default()) };
        let (head, found) = verdicts.resolve(&head, query)?;
        held.budget.check_parts(found.len())?;
        held.set(found.len() * CANDIDATE_BYTES)?;
        Ok(head.select(query, found))
    }

    fn select_files(
        &self,
        query: &SeriesQuery,
        mask: &Mask,
        files: Vec<Arc<BlockFile>>,
        verdicts: &mut Verdicts<'_>,
        budget: &Budget,
    ) -> Result<Vec<SelectedFile>> {
        let mut selected = Vec::new();
        for file in files {
            let Some(open) = self.open(&file, budget)? else { continue };
            let mut sections = Vec::new();
            self.each_section(query, mask, (&file, &open), verdicts, budget, &mut |section| {
                sections.push(section);
                Ok(())
            })?;
            if !sections.is_empty() {
                selected.push(SelectedFile { file, open, sections });
            }
        }
        Ok(selected)
    }

    fn open(&self, file: &BlockFile, budget: &Budget) -> Result<Option<Arc<OpenFile>>> {
        budget.check()?;
        let opened = self.shared.files.open(file)?;
        note_damage(file, budget);
        Ok(opened)
    }

    /// Hands on the sections of a file with the series that match. What is not kept of them need not be held together.
    fn each_section(
        &self,
        query: &SeriesQuery,
        mask: &Mask,
        (file, open): (&BlockFile, &OpenFile),
        verdicts: &mut Verdicts<'_>,
        budget: &Budget,
        each: &mut dyn FnMut(SelectedSection) -> Result<()>,
    ) -> Result<()> {
        for numbers in open.directory.find(&query.matchers).chunks(SECTIONS_PER_READ) {
            budget.check()?;
            let Some(sections) = self.shared.files.sections(file, open, numbers)? else {
                note_damage(file, budget);
                return Ok(());
            };
            for index in sections {
                let found = index.select(verdicts, query.from_ms, query.to_ms)?;
                let series = showing(found, query, mask, file, &index);
                if !series.is_empty() {
                    each(SelectedSection { index, series })?;
                }
            }
        }
        Ok(())
    }

    /// What files have beside the seals that are in memory.
    fn selected_files(
        &self,
        query: &SeriesQuery,
        mask: &Mask,
        held: &BTreeSet<SealNumber>,
        rollups: RollupUse,
        verdicts: &mut Verdicts<'_>,
        budget: &Budget,
    ) -> Result<Vec<SelectedFile>> {
        let files = self.shared.files.overlapping(self.tenant, query.from_ms, query.to_ms, held, rollups);
        self.select_files(query, mask, files, verdicts, budget)
    }

    /// Texts that `find` finds on the series that match, sorted.
    fn texts(
        &self,
        query: &SeriesQuery,
        asked: Asked<'_>,
        budget: &Budget,
        find: impl for<'a> Fn(&'a dyn LabelLookup, &RoaringBitmap) -> Vec<&'a str>,
    ) -> Result<Vec<String>> {
        let mut texts = BTreeSet::new();
        self.each_lookup(query, asked, budget, &mut |labels, series| {
            // Of values a series has one at most; of names there are few.
            let listed = series.len() * size_of::<&str>() as u64;
            budget.charge(listed)?;
            for text in find(labels, series) {
                if !texts.contains(text) {
                    budget.charge(text.len() as u64 + TEXT_BYTES)?;
                    texts.insert(text.to_owned());
                }
            }
            budget.release(listed);
            Ok(())
        })?;
        Ok(texts.into_iter().collect())
    }

    /// Hands on what is asked of the series that match and are not hidden: of those of the head, then of those of files, section by
    /// section. Nothing is done with it while a lock is held.
    fn each_lookup(
        &self,
        query: &SeriesQuery,
        asked: Asked<'_>,
        budget: &Budget,
        each: &mut dyn FnMut(&dyn LabelLookup, &RoaringBitmap) -> Result<()>,
    ) -> Result<()> {
        let mask = self.mask(query);
        let mut held = BTreeSet::new();
        let mut verdicts = Verdicts::new(&query.matchers, budget)?;
        if let Some(head) = self.shared.head(self.tenant) {
            let mut charged = Charged::nothing(budget);
            let listing = {
                let (head, found) = verdicts.resolve(&head, query)?;
                held = head.held();
                let touching = head.touching(query, &found);
                let mask = head.concerning(&mask, query);
                if mask.is_empty() {
                    charged.set(touching.len() * listed_bytes(asked))?;
                    head.list(asked, &touching)
                } else {
                    charged.set(touching.len() * CANDIDATE_BYTES)?;
                    let selection = head.select(query, touching);
                    drop(head);
                    // Deletions have expressions too: they are asked when the lock is free.
                    selection.list(|series, samples| budget.check().map(|()| series.shows(samples, query, &mask)))?
                }
            };
            each(&listing, &listing.all())?;
        }
        for file in self.shared.files.overlapping(self.tenant, query.from_ms, query.to_ms, &held, RollupUse::WhenRawIsGone) {
            let Some(open) = self.open(&file, budget)? else { continue };
            self.each_section(query, &mask, (&file, &open), &mut verdicts, budget, &mut |section| {
                each(&*section.index.table, &section.series)
            })?;
        }
        Ok(())
    }
}

/// What was charged for something that is held. It is released when this goes.
struct Charged<'b> {
    budget: &'b Budget,
    bytes: u64,
}

impl<'b> Charged<'b> {
    fn nothing(budget: &'b Budget) -> Self {
        Self { budget, bytes: 0 }
    }

    /// So much is held now.
    fn set(&mut self, bytes: u64) -> Result<()> {
        let before = std::mem::replace(&mut self.bytes, bytes);
        if bytes > before {
            return self.budget.charge(bytes - before);
        }
        self.budget.release(before - bytes);
        Ok(())
    }
}

impl Drop for Charged<'_> {
    fn drop(&mut self) {
        self.budget.release(self.bytes);
    }
}

/// What is taken out of the head for one series that matches, at the most: a series has one value of a label, and names are few.
fn listed_bytes(asked: Asked<'_>) -> u64 {
    match asked {
        Asked::Names => 0,
        Asked::Values(_) => size_of::<u32>() as u64,
        Asked::Series => CANDIDATE_BYTES,
    }
}

/// What a set of labels weighs of which an answer is made, about.
fn labels_bytes(labels: &Labels) -> u64 {
    labels.iter().map(|(name, value)| (name.len() + value.len()) as u64 + TEXT_BYTES).sum::<u64>() + 64
}

impl MetricSource for TenantSource {
    fn version(&self) -> Option<u64> {
        Some(self.shared.version(self.tenant))
    }

    fn changed_since(&self, version: u64, metrics: Option<&[String]>) -> Option<i64> {
        let groups: Option<Vec<Group>> = metrics.map(|metrics| metrics.iter().map(|metric| group_of(metric)).collect());
        Some(self.shared.changed_since(self.tenant, version, groups.as_deref()))
    }

    fn select<'a>(&'a self, query: &SeriesQuery, budget: &'a Budget) -> Result<Box<dyn SeriesCursor + 'a>> {
        self.select_with(query, RollupUse::WhenRawIsGone, budget)
    }

    fn select_with<'a>(
        &'a self,
        query: &SeriesQuery,
        rollups: RollupUse,
        budget: &'a Budget,
    ) -> Result<Box<dyn SeriesCursor + 'a>> {
        let mask = self.mask(query);
        let mut verdicts = Verdicts::new(&query.matchers, budget)?;
        let mut charged = Charged::nothing(budget);
        let HeadSelection { series, samples, held } = self.select_head(query, &mut verdicts, &mut charged)?;
        let mut files = self.selected_files(query, &mask, &held, rollups, &mut verdicts, budget)?;
        if matches!(rollups, RollupUse::AlignedFloats { .. }) && files.iter().any(SelectedFile::lacks_sums) {
            files = self.selected_files(query, &mask, &held, RollupUse::WhenRawIsGone, &mut verdicts, budget)?;
        }
        let coarsest_ms = files.iter().map(|selected| selected.file.rollup.interval_ms).max();
        budget.used_rollup(coarsest_ms.unwrap_or(0));
        let candidates = candidates(series, &samples, &files);
        charged.set(candidates.len() as u64 * CANDIDATE_BYTES)?;
        budget.expect_parts(candidates.len() as u64)?;
        Ok(Box::new(TenantCursor {
            shared: &self.shared,
            from_ms: query.from_ms,
            to_ms: query.to_ms,
            mask,
            files,
            samples,
            reads: ChunkReads { is_small: candidates.len() <= SMALL_SERIES_MAX, ..ChunkReads::default() },
            candidates: candidates.into_iter(),
            timestamps: SharedTimestamps::default(),
            decoded: DecodedTimes::default(),
            joints: Joints::default(),
            buffer: FloatBuffer::default(),
            budget,
            _charged: charged,
            batches_bytes: [0; BATCHES_AT_ONCE],
            shared_bytes: 0,
            batch_series: BATCH_SERIES_FIRST,
        }))
    }

    fn series(&self, queries: &[SeriesQuery], budget: &Budget) -> Result<Vec<Labels>> {
        let mut found = BTreeSet::new();
        for query in queries {
            self.each_lookup(query, Asked::Series, budget, &mut |lookup, series| {
                for labels in series.iter().filter_map(|id| lookup.labels_of(id)) {
                    if !found.contains(&labels) {
                        budget.charge(labels_bytes(&labels))?;
                        // On their own: else they would keep all texts of the section.
                        found.insert(Labels::from_pairs(labels.iter()));
                    }
                }
                Ok(())
            })?;
        }
        Ok(found.into_iter().collect())
    }

    fn label_names(&self, query: &SeriesQuery, budget: &Budget) -> Result<Vec<String>> {
        self.texts(query, Asked::Names, budget, |labels, series| labels.names_unsorted(series))
    }

    fn label_values(&self, name: &str, query: &SeriesQuery, budget: &Budget) -> Result<Vec<String>> {
        self.texts(query, Asked::Values(name), budget, |labels, series| labels.values_unsorted(name, series))
    }

    fn metadata(&self, metric: Option<&str>, budget: &Budget) -> Result<Vec<(String, Metadata)>> {
        let mut families = BTreeMap::new();
        let mut take = |family: &String, metadata: &Metadata| {
            if metric.is_none_or(|metric| metric == family) {
                budget.charge((family.len() + metadata.help.len() + metadata.unit.len()) as u64 + CANDIDATE_BYTES)?;
                families.insert(family.clone(), metadata.clone());
            }
            Ok(())
        };
        self.shared.files.each_metadata(self.tenant, &mut take)?;
        if let Some(head) = self.shared.head(self.tenant) {
            head.read().metadata().try_for_each(|(family, metadata)| take(family, metadata))?;
        }
        Ok(families.into_iter().collect())
    }

    fn exemplars(&self, query: &SeriesQuery, budget: &Budget) -> Result<Vec<(Labels, Vec<Exemplar>)>> {
        let mut found: BTreeMap<Labels, Vec<Exemplar>> = BTreeMap::new();
        let mask = self.mask(query);
        let mut verdicts = Verdicts::new(&query.matchers, budget)?;
        let mut charged = Charged::nothing(budget);
        let HeadSelection { series, samples, held } = self.select_head(query, &mut verdicts, &mut charged)?;
        for series in series {
            let exemplars = series.visible_exemplars(&samples, &mask);
            if !exemplars.is_empty() {
                budget.charge(exemplars.len() as u64 * CANDIDATE_BYTES)?;
                found.entry(samples.labels(&series).alone()).or_default().extend(exemplars);
            }
        }
        let files = self.shared.files.overlapping_windows(self.tenant, query.from_ms, query.to_ms, &held);
        let everything = SeriesQuery { matchers: query.matchers.clone(), from_ms: i64::MIN, to_ms: i64::MAX };
        for selected in self.select_files(&everything, &Mask::default(), files, &mut verdicts, budget)? {
            self.file_exemplars(&selected, &mask, budget, &mut found)?;
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
    fn file_exemplars(
        &self,
        selected: &SelectedFile,
        mask: &Mask,
        budget: &Budget,
        found: &mut BTreeMap<Labels, Vec<Exemplar>>,
    ) -> Result<()> {
        let mut reads = ChunkReads::default();
        for SelectedSection { index, series } in &selected.sections {
            budget.check()?;
            // Exemplars stand in the first row of their series.
            let firsts = series.iter().filter_map(|id| {
                let row = index.rows(id, i64::MIN, i64::MAX).next()?;
                Some(((row, index.head(row)?), id))
            });
            let (rows, ids): (Vec<_>, Vec<u32>) = firsts.unzip();
            let chunks = self.shared.files.chunks(&selected.file, &selected.open, &rows, &mut reads)?;
            for ((chunk, id), (number, _)) in chunks.into_iter().flatten().zip(ids).zip(&rows) {
                let Some((row, crc32)) = chunk else { continue };
                if row.exemplars.is_none() {
                    continue;
                }
                let exemplars = if row.crc32(index.table.hash(id)) == crc32 { row.exemplars().ok() } else { None };
                let Some(mut exemplars) = exemplars else {
                    self.shared.files.mark_damaged_chunk(&selected.file, *number);
                    continue;
                };
                let labels = index.table.labels(id);
                if !mask.is_empty() {
                    drop_hidden_exemplars(&mut exemplars, &mask.hidden(&labels, selected.file.reach));
                }
                budget.charge(exemplars.len() as u64 * CANDIDATE_BYTES)?;
                found.entry(labels).or_default().extend(exemplars);
            }
        }
        note_damage(&selected.file, budget);
        Ok(())
    }
}

/// Tells the query what it cannot read of a file.
fn note_damage(file: &BlockFile, budget: &Budget) {
    if let Some(damage) = file.known_damage() {
        budget.damage().note(&file.entry.path, damage);
    }
}

/// Of some series of a section those of which a row in the range is not hidden whole.
fn showing(found: RoaringBitmap, query: &SeriesQuery, mask: &Mask, file: &BlockFile, index: &SectionIndex) -> RoaringBitmap {
    if mask.is_empty() {
        return found;
    }
    let shows = |id: &u32| {
        let hidden = mask.hidden(&index.table.labels(*id), file.reach);
        let mut heads = index.rows(*id, query.from_ms, query.to_ms).filter_map(|row| index.head(row));
        hidden.is_empty() || heads.any(|head| !covers(&hidden, head.min_ms, head.max_ms))
    };
    found.iter().filter(shows).collect()
}

/// Joins the series of head and files by the hash of their labels.
fn candidates(head: Vec<HeadSeries>, samples: &HeadSamples, files: &[SelectedFile]) -> Vec<Candidate> {
    let mut positions: HashMap<u128, usize, FixedState> = HashMap::default();
    let mut candidates: Vec<Candidate> = Vec::new();
    for (file, selected) in files.iter().enumerate() {
        for (section, SelectedSection { index, series }) in selected.sections.iter().enumerate() {
            for id in series {
                let hash = index.table.hash(id);
                let position = *positions.entry(hash).or_insert_with(|| {
                    candidates.push(Candidate { hash, head: None, places: SmallVec::new() });
                    candidates.len() - 1
                });
                candidates[position].places.push(Place { file: file as u32, section: section as u32, id });
            }
        }
    }
    let mut bytes = Vec::new();
    for series in head {
        // With no file to be joined with, nobody asks for the hash.
        let hash = if positions.is_empty() { 0 } else { samples.labels(&series).hash128_with(&mut bytes) };
        match positions.get(&hash) {
            Some(position) => candidates[*position].head = Some(series),
            None => candidates.push(Candidate { hash, head: Some(series), places: SmallVec::new() }),
        }
    }
    candidates
}

struct TenantCursor<'a> {
    shared: &'a Shared,
    from_ms: i64,
    to_ms: i64,
    mask: Mask,
    files: Vec<SelectedFile>,
    /// What is in memory.
    samples: HeadSamples,
    candidates: std::vec::IntoIter<Candidate>,
    reads: ChunkReads,
    timestamps: SharedTimestamps,
    decoded: DecodedTimes,
    joints: Joints,
    buffer: FloatBuffer,
    budget: &'a Budget,
    /// For the candidates.
    _charged: Charged<'a>,
    /// What the last batches were charged for, the newest first.
    batches_bytes: [u64; BATCHES_AT_ONCE],
    /// What is charged for timestamps that series share.
    shared_bytes: u64,
    /// Series in the next one, by what those of the last one took.
    batch_series: usize,
}

/// The series of a batch are charged in portions of this size.
const CHARGE_BYTES: u64 = 16 << 10;

/// A chunk that a batch needs.
struct WantedRow {
    /// Position in the list of selected files.
    file: u32,
    row: u32,
    head: RowHead,
    /// Position in the batch.
    candidate: usize,
}

impl SeriesCursor for TenantCursor<'_> {
    fn next_batch(&mut self) -> Result<Option<Vec<SeriesData>>> {
        self.batches_bytes.rotate_right(1);
        self.budget.release(std::mem::take(&mut self.batches_bytes[0]));
        loop {
            self.budget.check()?;
            let batch: Vec<Candidate> = self.candidates.by_ref().take(self.batch_series).collect();
            if batch.is_empty() {
                return Ok(None);
            }
            let count = batch.len() as u64;
            let series = self.read(batch)?;
            self.budget.parts_done(count);
            if !series.is_empty() {
                let of_one = self.batches_bytes[0] / count;
                let fitting = usize::try_from(BATCH_BYTES / of_one.max(1)).unwrap_or(BATCH_SERIES);
                self.batch_series = fitting.clamp(BATCH_SERIES_MIN, BATCH_SERIES);
                return Ok(Some(series));
            }
        }
    }
}

impl TenantCursor<'_> {
    fn read(&mut self, batch: Vec<Candidate>) -> Result<Vec<SeriesData>> {
        let mut parts: Vec<Vec<Points>> = batch.iter().map(|_| Vec::new()).collect();
        let mut rows = self.rows(&batch);
        rows.sort_unstable_by_key(|wanted| (wanted.file, wanted.row));
        for rows in rows.chunk_by(|one, other| one.file == other.file) {
            self.read_file(rows, &batch, &mut parts)?;
        }
        let mut series = Vec::with_capacity(batch.len());
        let (mut scanned, mut owed) = (0, 0);
        for (candidate, parts) in batch.into_iter().zip(parts) {
            let Some(points) = self.points(&candidate, parts)?.filter(|points| !points.is_empty()) else { continue };
            owed += points::heap_bytes(&points);
            if owed >= CHARGE_BYTES {
                self.charge_batch(std::mem::take(&mut owed))?;
            }
            scanned += points.len() as u64;
            series.push(SeriesData { labels: self.labels(&candidate), points });
        }
        self.charge_batch(owed)?;
        self.charge_shared()?;
        self.budget.scanned(scanned);
        Ok(series)
    }

    /// For what series share, beside the batches.
    fn charge_shared(&mut self) -> Result<()> {
        let bytes = self.timestamps.bytes() + self.decoded.bytes() + self.joints.bytes();
        self.budget.release(std::mem::replace(&mut self.shared_bytes, 0));
        self.budget.charge(bytes)?;
        self.shared_bytes = bytes;
        Ok(())
    }

    fn charge_batch(&mut self, bytes: u64) -> Result<()> {
        self.batches_bytes[0] += bytes;
        self.budget.charge(bytes)
    }

    /// The samples of a series in the range of the query: `parts` is what files have of it.
    fn points(&mut self, candidate: &Candidate, mut parts: Vec<Points>) -> Result<Option<Points>> {
        let (from_ms, to_ms) = (self.from_ms, self.to_ms);
        if let Some(head) = &candidate.head {
            let is_alone = parts.is_empty() && self.mask.is_empty();
            if is_alone && head.floats(&self.samples, from_ms, to_ms, &mut self.buffer)? {
                let FloatBuffer { timestamps_ms, values } = &self.buffer;
                let start = timestamps_ms.partition_point(|timestamp| *timestamp < from_ms);
                let end = timestamps_ms.partition_point(|timestamp| *timestamp <= to_ms).max(start);
                let timestamps_ms = self.timestamps.shared(&timestamps_ms[start..end]);
                return Ok(Some(points::floats(timestamps_ms, values[start..end].to_vec(), None)));
            }
            for mut part in head.visible_points(&self.samples, &self.mask)? {
                part.timestamps_ms = self.timestamps.shared(&part.timestamps_ms);
                parts.push(part);
            }
        }
        if let Some(points) = self.joints.floats(&parts, from_ms, to_ms) {
            return Ok(Some(points));
        }
        let Some(points) = points::merge(parts) else { return Ok(None) };
        let mut points = points::cut(points, from_ms, to_ms);
        points.timestamps_ms = self.timestamps.shared(&points.timestamps_ms);
        Ok(Some(points))
    }

    /// The rows that a batch needs.
    fn rows(&self, batch: &[Candidate]) -> Vec<WantedRow> {
        let mut rows = Vec::new();
        for (candidate, Place { file, section, id }) in
            batch.iter().enumerate().flat_map(|(at, candidate)| candidate.places.iter().map(move |place| (at, *place)))
        {
            let index = &self.files[file as usize].sections[section as usize].index;
            let of_series = index.rows(id, self.from_ms, self.to_ms);
            rows.extend(of_series.filter_map(|row| Some(WantedRow { file, row, head: index.head(row)?, candidate })));
        }
        rows
    }

    /// Adds what one file has of the series of a batch. All rows are of that file, ascending.
    fn read_file(&mut self, rows: &[WantedRow], batch: &[Candidate], parts: &mut [Vec<Points>]) -> Result<()> {
        let Some(first) = rows.first() else { return Ok(()) };
        let SelectedFile { file, open, .. } = &self.files[first.file as usize];
        let numbers: Vec<(u32, RowHead)> = rows.iter().map(|wanted| (wanted.row, wanted.head)).collect();
        let chunks = self.shared.files.chunks(file, open, &numbers, &mut self.reads)?;
        for (chunk, WantedRow { candidate, row: number, .. }) in chunks.into_iter().flatten().zip(rows) {
            let Some((row, crc32)) = chunk else { continue };
            let points = if row.crc32(batch[*candidate].hash) == crc32 { row.points_at(&mut self.decoded).ok() } else { None };
            match points {
                Some(points) => {
                    let hidden = self.hidden(&batch[*candidate], file);
                    parts[*candidate].extend(points.and_then(|points| visible(points, &hidden)));
                }
                None => self.shared.files.mark_damaged_chunk(file, *number),
            }
        }
        note_damage(file, self.budget);
        Ok(())
    }

    fn hidden(&self, candidate: &Candidate, file: &BlockFile) -> Hidden {
        if self.mask.is_empty() { Hidden::new() } else { self.mask.hidden(&self.labels(candidate), file.reach) }
    }

    fn labels(&self, candidate: &Candidate) -> Labels {
        if let Some(head) = &candidate.head {
            return self.samples.labels(head);
        }
        let Some(Place { file, section, id }) = candidate.places.first() else { return Labels::empty() };
        self.files[*file as usize].sections[*section as usize].index.table.labels(*id)
    }
}

impl Drop for TenantCursor<'_> {
    fn drop(&mut self) {
        self.budget.release(self.shared_bytes + self.batches_bytes.iter().sum::<u64>());
    }
}
