//! The files that the catalog lists, and what was read of those that were asked lately.

use super::cache::{FileNumber, PageCache, PartCache};
use super::footer::{OpenFile, read_metadata};
use super::io::guard;
use super::pages::{KeptPages, PageRow, RecentPages, read_chunks};
use super::residency::{Residency, TimeSpan};
use super::row::RowHead;
use super::section::{SectionIndex, Wanted, read_sections};
use super::stats::BlockStats;
use crate::head::SealNumber;
use crate::mask::Reach;
use crate::rollup::{RollupOf, choose};
use br_model::{Metadata, TenantId};
use br_std::{Error, Kind, Nanos, Result};
use br_storage::{Damage, FileEntry, JournalPosition, RollupUse, Table};
use object_store::ObjectStore;
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

pub(crate) struct BlockFile {
    pub(crate) entry: FileEntry,
    number: FileNumber,
    residency: Residency,
    positions: (JournalPosition, JournalPosition),
    pub(crate) reach: Reach,
    pub(crate) rollup: RollupOf,
    /// For how many of the retention rules that are over for the whole file it was seen to hold no series.
    rules_checked: AtomicUsize,
    /// Why the file is not read any more.
    damage: Mutex<Option<String>>,
    faults: Mutex<Faults>,
}

/// What is wrong with a file that is still read.
#[derive(Default)]
struct Faults {
    /// Rows whose chunks are damaged.
    rows: BTreeSet<u32>,
    /// Why a merge of it failed.
    merge: Option<String>,
}

/// A chunk with the checksum that its file has for it; `None` where it is damaged.
pub(crate) type ReadChunk = Option<(PageRow, u32)>;

/// This part of the cache is for pages of chunks.
const PAGES_PART: usize = 8;

/// The chunks of one query.
#[derive(Default)]
pub(crate) struct ChunkReads {
    pub(crate) recent: RecentPages,
    /// Whether the pages may be of use to other queries: a large one would push out those of all others.
    pub(crate) is_small: bool,
}

pub(crate) struct FileSet {
    pub(crate) store: Arc<dyn ObjectStore>,
    /// By tenant and path.
    files: RwLock<BTreeMap<(TenantId, String), Arc<BlockFile>>>,
    cache: Mutex<PartCache>,
    pages: Mutex<PageCache>,
    next_number: AtomicU64,
    metadata: Mutex<BTreeMap<TenantId, KnownMetadata>>,
    damaged_files: AtomicU64,
    damaged_chunks: AtomicU64,
}

/// Metadata of the files that have been looked at.
#[derive(Default)]
struct KnownMetadata {
    paths: BTreeSet<String>,
    /// With the position up to which the file reached that said it: the newest word counts.
    families: BTreeMap<String, (JournalPosition, Metadata)>,
}

impl FileSet {
    pub(crate) fn new(store: Arc<dyn ObjectStore>, cache_bytes_max: usize) -> Self {
        Self {
            store,
            files: RwLock::default(),
            cache: Mutex::new(PartCache::new(cache_bytes_max - cache_bytes_max / PAGES_PART)),
            pages: Mutex::new(PageCache::new(cache_bytes_max / PAGES_PART)),
            next_number: AtomicU64::new(0),
            metadata: Mutex::default(),
            damaged_files: AtomicU64::new(0),
            damaged_chunks: AtomicU64::new(0),
        }
    }

    /// Lists the files of a seal. `seal_of` gives the number of the seal of a tenant.
    pub(crate) fn publish(&self, added: &[FileEntry], seal_of: impl Fn(TenantId) -> Option<SealNumber>) {
        let mut files = self.files.write();
        for entry in added {
            let span = time_span(entry);
            let seal = seal_of(entry.tenant);
            let residency = seal.map_or_else(|| Residency::unknown(span), |seal| Residency::of_seal(seal, span));
            self.list(&mut files, entry, residency);
        }
    }

    /// Lists files, and takes others off the list, in one step. Where both are given, the first were merged from the second.
    pub(crate) fn replace(&self, removed: &[FileEntry], added: &[FileEntry]) {
        let mut files = self.files.write();
        let gone: Vec<_> = removed.iter().filter_map(|entry| files.remove(&(entry.tenant, entry.path.clone()))).collect();
        for entry in added {
            let is_merge = !gone.is_empty() && gone.len() == removed.len();
            let residency = if is_merge && gone.iter().all(|file| file.entry.tenant == entry.tenant) {
                Residency::merged(gone.iter().map(|file| &file.residency))
            } else {
                Residency::unknown(time_span(entry))
            };
            self.list(&mut files, entry, residency);
        }
        drop(files);
        let mut cache = self.cache.lock();
        for file in &gone {
            cache.forget(file.number);
        }
        drop(cache);
        let mut pages = self.pages.lock();
        for file in &gone {
            pages.forget(file.number);
        }
        drop(pages);
        self.forget_metadata(removed);
    }

    fn list(&self, files: &mut BTreeMap<(TenantId, String), Arc<BlockFile>>, entry: &FileEntry, residency: Residency) {
        if entry.table != Table::Metrics {
            return;
        }
        let (positions, reach, rollup, damage) = match BlockStats::of(entry) {
            Ok(stats) => (stats.positions(), stats.reach(), stats.rollup(), None),
            Err(error) => {
                self.damaged_files.fetch_add(1, Ordering::Relaxed);
                let reach = Reach::of_seal(JournalPosition(0));
                (Default::default(), reach, RollupOf::default(), Some(error.message().to_owned()))
            }
        };
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        let (entry, rules_checked, damage) = (entry.clone(), AtomicUsize::new(0), Mutex::new(damage));
        let faults = Mutex::default();
        let file = BlockFile { entry, number, residency, positions, reach, rollup, rules_checked, damage, faults };
        files.insert((file.entry.tenant, file.entry.path.clone()), Arc::new(file));
    }

    fn forget_metadata(&self, removed: &[FileEntry]) {
        let mut metadata = self.metadata.lock();
        for entry in removed {
            if let Some(known) = metadata.get_mut(&entry.tenant) {
                known.paths.remove(&entry.path);
            }
        }
    }

    pub(crate) fn of_tenant(&self, tenant: TenantId) -> Vec<Arc<BlockFile>> {
        let files = self.files.read();
        let of_tenant = files.range((tenant, String::new())..).take_while(|((other, _), _)| *other == tenant);
        let mut found: Vec<_> = of_tenant.map(|(_, file)| file.clone()).collect();
        // What was stored first comes first; the path decides between equals so that the order is always the same.
        found.sort_by(|one, other| one.order(other));
        found
    }

    pub(crate) fn all(&self) -> Vec<Arc<BlockFile>> {
        self.files.read().values().cloned().collect()
    }

    /// Files with samples between two times, both included, that are not in memory with the seals `held`; first stored first.
    pub(crate) fn overlapping(
        &self,
        tenant: TenantId,
        from_ms: i64,
        to_ms: i64,
        held: &BTreeSet<SealNumber>,
        rollups: RollupUse,
    ) -> Vec<Arc<BlockFile>> {
        let range = TimeSpan { from_ms, to_ms };
        let mut files = choose(self.of_tenant(tenant), held, rollups);
        files.retain(|file| {
            let is_inside = file.entry.min_time.as_millis() <= to_ms && file.entry.max_time.as_millis() >= from_ms;
            file.entry.rows > 0 && is_inside && file.residency.needs_file(held, range)
        });
        files
    }

    /// Files whose window touches the range: exemplars may lie beside the samples.
    pub(crate) fn overlapping_windows(
        &self,
        tenant: TenantId,
        from_ms: i64,
        to_ms: i64,
        held: &BTreeSet<SealNumber>,
    ) -> Vec<Arc<BlockFile>> {
        let mut files = self.of_tenant(tenant);
        files.retain(|file| {
            let end = file.entry.window + Duration::from_secs(u64::from(file.entry.window_secs));
            let is_inside = file.entry.window.as_millis() <= to_ms && end.as_millis() >= from_ms;
            file.entry.rows > 0 && file.rollup.is_raw() && is_inside && !file.residency.is_held(held)
        });
        files
    }

    /// The footer of a file; `None` when the file is damaged, which is counted and answered by the other files.
    pub(crate) fn open(&self, file: &BlockFile) -> Result<Option<Arc<OpenFile>>> {
        if file.damage.lock().is_some() {
            return Ok(None);
        }
        if let Some(open) = self.cache.lock().footer(file.number) {
            return Ok(Some(open));
        }
        let opened = OpenFile::open(self.store.clone(), &file.entry).map(Arc::new);
        let Some(open) = self.pass_damage(file, opened)? else { return Ok(None) };
        self.cache.lock().insert_footer(file.number, open.clone());
        Ok(Some(open))
    }

    /// Some sections (ascending) of a file; `None` when the file is damaged.
    pub(crate) fn sections(&self, file: &BlockFile, open: &OpenFile, numbers: &[u32]) -> Result<Option<Vec<Arc<SectionIndex>>>> {
        let mut found: BTreeMap<u32, Arc<SectionIndex>> = BTreeMap::new();
        let mut wanted = Vec::new();
        let mut cache = self.cache.lock();
        for number in numbers {
            let Some(section) = open.directory.section(*number) else { continue };
            match cache.section(file.number, *number, section.identity) {
                Some(known) => {
                    found.insert(*number, known);
                }
                None => wanted.push(Wanted { section: *number, table: cache.table(section.identity) }),
            }
        }
        drop(cache);
        if !wanted.is_empty() {
            let Some(read) = self.pass_damage(file, read_sections(open, &wanted))? else { return Ok(None) };
            let mut cache = self.cache.lock();
            for (wanted, section) in wanted.iter().zip(read) {
                let section = Arc::new(section);
                cache.insert_section(file.number, wanted.section, section.table.identity(), section.clone());
                found.insert(wanted.section, section);
            }
        }
        Ok(Some(found.into_values().collect()))
    }

    /// Notes damage of a file and makes it `None`; other errors pass.
    pub(crate) fn pass_damage<T>(&self, file: &BlockFile, read: Result<T>) -> Result<Option<T>> {
        let error = match read {
            Ok(value) => return Ok(Some(value)),
            Err(error) => error,
        };
        let is_listed = self.files.read().contains_key(&(file.entry.tenant, file.entry.path.clone()));
        match error.kind() {
            Kind::NotFound if !is_listed => {
                Err(Error::retry(format!("{}: was compacted while the query ran; try again", file.entry.path)))
            }
            Kind::Corrupt | Kind::NotFound => {
                self.mark_damaged(file, error.message());
                Ok(None)
            }
            _ => Err(error),
        }
    }

    /// The file is not read any more until the program starts again.
    pub(crate) fn mark_damaged(&self, file: &BlockFile, why: &str) {
        let mut damage = file.damage.lock();
        if damage.is_none() {
            *damage = Some(why.to_owned());
            self.damaged_files.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A merge of it failed. It is still read: what of it is sound answers.
    pub(crate) fn mark_unmergeable(&self, file: &BlockFile, why: &str) {
        let mut faults = file.faults.lock();
        if faults.merge.is_none() && file.damage.lock().is_none() {
            faults.merge = Some(why.to_owned());
            self.damaged_files.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// One chunk is damaged: it is left out, and the rest of the file still answers.
    pub(crate) fn mark_damaged_chunk(&self, file: &BlockFile, row: u32) {
        if file.faults.lock().rows.insert(row) {
            self.damaged_chunks.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The chunks at these rows (ascending) whose heads are known; `None` when the file is damaged.
    pub(crate) fn chunks(
        &self,
        file: &BlockFile,
        open: &OpenFile,
        rows: &[(u32, RowHead)],
        reads: &mut ChunkReads,
    ) -> Result<Option<Vec<ReadChunk>>> {
        let known = file.faults.lock().rows.clone();
        let shared = reads.is_small.then_some(&self.pages);
        let mut kept = KeptPages { file: file.number, recent: &mut reads.recent, shared };
        if known.is_empty() {
            return self.pass_damage(file, self.sound_chunks(file, open, rows, &mut kept));
        }
        let sound: Vec<(u32, RowHead)> = rows.iter().filter(|(row, _)| !known.contains(row)).copied().collect();
        let Some(read) = self.pass_damage(file, self.sound_chunks(file, open, &sound, &mut kept))? else { return Ok(None) };
        let mut read = read.into_iter();
        Ok(Some(rows.iter().map(|(row, _)| if known.contains(row) { None } else { read.next().flatten() }).collect()))
    }

    /// A page that cannot be decoded costs its own rows only: they are found by halves, once.
    fn sound_chunks(
        &self,
        file: &BlockFile,
        open: &OpenFile,
        rows: &[(u32, RowHead)],
        kept: &mut KeptPages<'_>,
    ) -> Result<Vec<ReadChunk>> {
        match (guard(&open.block.path, || read_chunks(&open.block, rows, kept)), rows) {
            (Ok(chunks), _) => Ok(chunks.into_iter().map(Some).collect()),
            (Err(error), [(row, _)]) if error.kind() == Kind::Corrupt => {
                self.mark_damaged_chunk(file, *row);
                Ok(vec![None])
            }
            (Err(error), _) if error.kind() == Kind::Corrupt && !rows.is_empty() => {
                let (first, second) = rows.split_at(rows.len() / 2);
                let mut chunks = self.sound_chunks(file, open, first, kept)?;
                chunks.extend(self.sound_chunks(file, open, second, kept)?);
                Ok(chunks)
            }
            (Err(error), _) => Err(error),
        }
    }

    /// Files and chunks that were found damaged since the start.
    pub(crate) fn damage_counts(&self) -> (u64, u64) {
        (self.damaged_files.load(Ordering::Relaxed), self.damaged_chunks.load(Ordering::Relaxed))
    }

    pub(crate) fn index_cache_bytes(&self) -> usize {
        self.cache.lock().bytes() + self.pages.lock().bytes()
    }

    /// Hands on what the files say about metric families.
    pub(crate) fn each_metadata(&self, tenant: TenantId, each: &mut dyn FnMut(&String, &Metadata) -> Result<()>) -> Result<()> {
        for file in self.of_tenant(tenant) {
            let is_known = self.metadata.lock().get(&tenant).is_some_and(|known| known.paths.contains(&file.entry.path));
            if is_known || file.damage().is_some() {
                continue;
            }
            let Some(open) = self.open(&file)? else { continue };
            let Some(families) = self.pass_damage(&file, read_metadata(&open.block))? else { continue };
            self.learn(tenant, &file, families);
        }
        let known = self.metadata.lock();
        let families = known.get(&tenant).map(|known| &known.families);
        families.into_iter().flatten().try_for_each(|(family, (_, metadata))| each(family, metadata))
    }

    fn learn(&self, tenant: TenantId, file: &BlockFile, families: Vec<(String, Metadata)>) {
        let mut known = self.metadata.lock();
        let known = known.entry(tenant).or_default();
        known.paths.insert(file.entry.path.clone());
        let position = file.positions.1;
        for (family, metadata) in families {
            if known.families.get(&family).is_none_or(|(before, _)| *before <= position) {
                known.families.insert(family, (position, metadata));
            }
        }
    }

    /// Tenants that have files.
    pub(crate) fn tenants(&self) -> BTreeSet<TenantId> {
        self.files.read().keys().map(|(tenant, _)| *tenant).collect()
    }

    /// The last record of the journal that is in files.
    pub(crate) fn position(&self) -> JournalPosition {
        self.files.read().values().map(|file| file.positions.1).max().unwrap_or_default()
    }

    /// Files whose samples are all older.
    pub(crate) fn older_than(&self, cutoff: Nanos) -> Vec<FileEntry> {
        let files = self.files.read();
        let is_over = |entry: &FileEntry| {
            let window_end = entry.window + Duration::from_secs(u64::from(entry.window_secs));
            entry.max_time < cutoff && (entry.rows > 0 || window_end < cutoff)
        };
        files.values().filter(|file| is_over(&file.entry)).map(|file| file.entry.clone()).collect()
    }
}

impl BlockFile {
    pub(crate) fn order(&self, other: &Self) -> std::cmp::Ordering {
        (self.positions, &self.entry.path).cmp(&(other.positions, &other.entry.path))
    }

    pub(crate) fn first_record(&self) -> JournalPosition {
        self.positions.0
    }

    /// Whether samples of it are in memory as well.
    pub(crate) fn is_partly_held(&self, held: &BTreeSet<SealNumber>) -> bool {
        self.residency.is_partly_held(held)
    }

    pub(crate) fn may_hold(&self, from_ms: i64, to_ms: i64) -> bool {
        self.entry.rows > 0 && self.entry.min_time.as_millis() <= to_ms && self.entry.max_time.as_millis() >= from_ms
    }

    pub(crate) fn rules_checked(&self) -> usize {
        self.rules_checked.load(Ordering::Relaxed)
    }

    pub(crate) fn set_rules_checked(&self, count: usize) {
        self.rules_checked.store(count, Ordering::Relaxed);
    }

    /// Why it is not read any more.
    pub(crate) fn damage(&self) -> Option<String> {
        self.damage.lock().clone()
    }

    /// Why it is not read any more, or is not merged.
    pub(crate) fn fault(&self) -> Option<String> {
        self.damage().or_else(|| self.faults.lock().merge.clone())
    }

    /// Rows of chunks that were found damaged.
    pub(crate) fn damaged_rows(&self) -> Vec<u32> {
        self.faults.lock().rows.iter().copied().collect()
    }

    /// Whether no damage of it is known: only then it is merged, written anew, or taken for others.
    pub(crate) fn is_sound(&self) -> bool {
        let faults = self.faults.lock();
        faults.rows.is_empty() && faults.merge.is_none() && self.damage.lock().is_none()
    }

    /// What an answer lacks that was read from it.
    pub(crate) fn known_damage(&self) -> Option<Damage> {
        if self.damage.lock().is_some() {
            return Some(Damage::File);
        }
        let count = self.faults.lock().rows.len() as u64;
        (count > 0).then_some(Damage::Chunks(count))
    }
}

fn time_span(entry: &FileEntry) -> TimeSpan {
    TimeSpan { from_ms: entry.min_time.as_millis(), to_ms: entry.max_time.as_millis() }
}
