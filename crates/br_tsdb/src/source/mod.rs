//! One tenant's series as a query sees them: files, sealed parts and the open head as one.

mod cursor;

use self::cursor::{Found, TenantCursor};
use crate::block::file::{BlockFile, ChunkReads};
use crate::block::footer::OpenFile;
use crate::block::row::ChunkKind;
use crate::block::section::SectionIndex;
use crate::changes::{Group, group_of};
use crate::compact::tidy_exemplars;
use crate::head::{Asked, HeadSelection, SealNumber};
use crate::index::LabelLookup;
use crate::mask::{Mask, covers, drop_hidden_exemplars};
use crate::store::Shared;
use crate::verdicts::Verdicts;
use br_model::labels::METRIC_NAME;
use br_model::{Exemplar, Labels, Metadata, Sample, TenantId};
use br_std::Result;
use br_storage::{Budget, Matcher, MetricSource, Points, RollupUse, SeriesCursor, SeriesQuery};
use roaring::RoaringBitmap;
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

/// Sections that are read before looking whether the query shall go on.
const SECTIONS_PER_READ: usize = 32;
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

    /// The last sample of one series that is no marker of staleness. It is looked up by the hash of its labels: those of series that have
    /// the same labels and more are not read.
    pub(crate) fn last_sample(&self, labels: &Labels, from_ms: i64, to_ms: i64) -> Result<Option<Sample>> {
        let query = SeriesQuery { matchers: vec![Matcher::equal(METRIC_NAME, labels.metric_name())], from_ms, to_ms };
        let (mask, budget) = (self.mask(&query), Budget::unlimited());
        let HeadSelection { series, samples, held } = self.select_one(labels, &query);
        let (hash, mut files) = (labels.hash128(), Vec::new());
        for file in self.shared.files.overlapping(self.tenant, from_ms, to_ms, &held, RollupUse::Never) {
            let Some(open) = self.open(&file, &budget)? else { continue };
            let mut sections = Vec::new();
            for numbers in open.directory.find(&query.matchers).chunks(SECTIONS_PER_READ) {
                for index in self.shared.files.sections(&file, &open, numbers)?.unwrap_or_default() {
                    let found = index.table.find(hash).into_iter().collect();
                    let series = showing(found, &query, &mask, &file, &index);
                    if !series.is_empty() {
                        sections.push(SelectedSection { index, series });
                    }
                }
            }
            if !sections.is_empty() {
                files.push(SelectedFile { file, open, sections });
            }
        }
        let candidates = cursor::candidates(series, &samples, &files);
        let found = Found { mask, files, samples, candidates, charged: Charged::nothing(&budget) };
        let mut cursor = TenantCursor::new(&self.shared, &query, found, &budget);
        let mut last = None;
        while let Some(batch) = cursor.next_batch()? {
            let points = batch.into_iter().map(|series| series.points);
            let of_one = |points: Points| (0..points.len()).rev().map(|at| points.sample(at)).find(|one| !one.value.is_stale());
            last = points.filter_map(of_one).next_back().or(last);
        }
        Ok(last)
    }

    fn select_one(&self, labels: &Labels, query: &SeriesQuery) -> HeadSelection {
        let Some(head) = self.shared.head(self.tenant) else { return HeadSelection::default() };
        let head = head.read();
        let found = head.registry().read().find(labels.wire_hash_with(&mut Vec::new()));
        head.select(query, found.into_iter().collect())
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
        let candidates = cursor::candidates(series, &samples, &files);
        charged.set(candidates.len() as u64 * CANDIDATE_BYTES)?;
        budget.expect_parts(candidates.len() as u64)?;
        let found = Found { mask, files, samples, candidates, charged };
        Ok(Box::new(TenantCursor::new(&self.shared, query, found, budget)))
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
