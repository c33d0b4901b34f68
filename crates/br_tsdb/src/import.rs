//! Files from elsewhere: written series by series out of another store's data, and verified whole before the catalog lists them.

use crate::block::footer::OpenFile;
use crate::block::row::{self, rows_of};
use crate::block::scan::BlockScan;
use crate::block::section::{SectionIndex, Wanted, read_sections};
use crate::block::stats::BlockStats;
use crate::block::write::{BlockSpec, BlockWriter};
use crate::codec::CHUNK_SAMPLES_MAX;
use crate::compact::{EXEMPLAR_BYTES_MAX, tidy_exemplars};
use crate::found;
use crate::options::{DAY_SECS, WINDOW_SECS};
use crate::points;
use crate::rollup::RollupOf;
use br_model::{Exemplar, Labels, Metadata, TenantId};
use br_std::{Error, Result};
use br_storage::{FileEntry, JournalPosition, Points};
use object_store::ObjectStore;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// What an imported file is to be.
#[derive(Clone, Copy, Debug)]
pub struct ImportSpec {
    pub tenant: TenantId,
    /// Start of the window, in milliseconds: a multiple of its length.
    pub window_ms: i64,
    /// [`WINDOW_SECS`] or [`DAY_SECS`].
    pub window_secs: u32,
    /// Makes the path one that was never used.
    pub nonce: u128,
}

/// Writes one file. It holds no record of the journal, and so says that its records are those before the first.
pub struct ImportWriter {
    spec: ImportSpec,
    writer: BlockWriter,
    last: Option<Labels>,
}

impl ImportWriter {
    pub fn new(store: Arc<dyn ObjectStore>, spec: ImportSpec) -> Result<Self> {
        Ok(Self { spec, writer: BlockWriter::new(store, block_spec(spec))?, last: None })
    }

    /// The order in which series have to come: by metric, then by labels.
    pub fn order(one: &Labels, other: &Labels) -> std::cmp::Ordering {
        row::order(one, other)
    }

    /// Adds a series. Its parts may overlap: where two have a sample of the same time, the first of them counts.
    /// What lies outside the window is left out. Gives the number of samples that were written.
    pub fn push(&mut self, labels: &Labels, parts: Vec<Points>, exemplars: &[Exemplar]) -> Result<u64> {
        if self.last.as_ref().is_some_and(|last| row::order(last, labels).is_ge()) {
            return Err(Error::fix_request(format!("the series {labels} does not come in order")));
        }
        let (from_ms, to_ms) = (self.spec.window_ms, window_end_ms(&self.spec) - 1);
        let parts = parts.into_iter().map(|part| points::cut(part, from_ms, to_ms)).collect();
        let mut exemplars: Vec<Exemplar> = exemplars.to_vec();
        exemplars.retain(|exemplar| (from_ms..=to_ms).contains(&exemplar.timestamp_ms));
        tidy_exemplars(&mut exemplars, EXEMPLAR_BYTES_MAX);
        let samples = points::merge(parts);
        let count = samples.as_ref().map_or(0, |samples| samples.len() as u64);
        self.writer.push(labels, labels.hash128(), &rows_of(samples, &exemplars, true))?;
        self.last = Some(labels.clone());
        Ok(count)
    }

    /// Bytes that the file has taken so far, about.
    pub fn size_bytes(&self) -> u64 {
        self.writer.size_bytes()
    }

    pub fn finish(self, metadata: &BTreeMap<String, Metadata>) -> Result<FileEntry> {
        self.writer.finish(metadata)
    }

    /// Gives up; nothing becomes visible.
    pub fn abort(self) -> Result<()> {
        self.writer.abort()
    }
}

fn window_end_ms(spec: &ImportSpec) -> i64 {
    spec.window_ms.saturating_add(i64::from(spec.window_secs) * 1000)
}

/// Reads a file that somebody sent, whole, and makes its entry. Refused is whatever the store's own writer would not have written:
/// a wrong checksum, labels or series out of order, samples or exemplars outside the window or out of order, sections that do not
/// lead to their metrics. Blocks on the object store.
pub fn inspect_import(store: &Arc<dyn ObjectStore>, path: &str, size_bytes: u64) -> Result<FileEntry> {
    let found = found::describe(store, path, size_bytes)?;
    let wrong = |what: String| Error::fix_request(format!("{path}: {what}"));
    if found.positions != Some((JournalPosition(0), JournalPosition(0))) || !found.made_of.is_empty() {
        return Err(wrong("this file is not from an import".to_owned()));
    }
    let entry = found.entry;
    let width = i64::from(entry.window_secs) * 1000;
    let from_ms = entry.window.as_millis();
    if !matches!(entry.window_secs, WINDOW_SECS | DAY_SECS) || from_ms.rem_euclid(width) != 0 {
        return Err(wrong(format!("no window of {} s begins at {from_ms} ms", entry.window_secs)));
    }
    if BlockStats::of(&entry)?.interval_ms != 0 {
        return Err(wrong("this is a rollup, and an import brings samples".to_owned()));
    }
    let mut scan = BlockScan::new(store.clone(), &entry)?;
    let mut last: Option<Labels> = None;
    while let Some((hash, texts)) = scan.peek_texts()? {
        let labels = texts.labels()?;
        // As they stand they make the hash, by which a series is known in all files.
        if hash != labels.hash128() {
            return Err(wrong(format!("the labels of {labels} are not sorted, or one of them is empty or comes twice")));
        }
        if last.is_some_and(|last| row::order(&last, &labels).is_ge()) {
            return Err(wrong(format!("the series {labels} does not come in order")));
        }
        if let Some(what) = fault_of_rows(&mut scan, hash, from_ms..from_ms.saturating_add(width))? {
            return Err(wrong(format!("{labels}: {what}")));
        }
        last = Some(labels);
    }
    check_sections(store, &entry)?;
    Ok(entry)
}

/// What is wrong with the rows of the next series, all of whose times have to lie in the window.
fn fault_of_rows(scan: &mut BlockScan, hash: u128, window_ms: Range<i64>) -> Result<Option<&'static str>> {
    let mut before_ms = window_ms.start.saturating_sub(1);
    let mut is_first = true;
    while let Some(row) = scan.next_row_of(hash)? {
        let said = (row.head.min_ms, row.head.max_ms);
        let exemplars = row.exemplars()?;
        let of_exemplars = || exemplars.iter().map(|exemplar| exemplar.timestamp_ms);
        if of_exemplars().any(|timestamp_ms| !window_ms.contains(&timestamp_ms)) {
            return Ok(Some("exemplars are outside the window"));
        }
        if !is_first && !exemplars.is_empty() {
            return Ok(Some("exemplars stand behind the first chunk"));
        }
        is_first = false;
        let points = row.points()?;
        let times = points.as_ref().map_or(&[][..], |points| &points.timestamps_ms);
        let (Some(first), Some(end)) = (times.first(), times.last()) else {
            if of_exemplars().min().zip(of_exemplars().max()) != Some(said) {
                return Ok(Some("the times of a chunk are not those that it says"));
            }
            continue;
        };
        if points.as_ref().is_some_and(|points| points.weights.is_some()) {
            return Ok(Some("a chunk is one of a rollup"));
        }
        if !times.is_sorted_by(|one, next| one < next) || *first <= before_ms || *end >= window_ms.end {
            return Ok(Some("samples are out of order or outside the window"));
        }
        if (*first, *end) != said || row.head.count as usize != times.len() || times.len() > CHUNK_SAMPLES_MAX {
            return Ok(Some("times or number of the samples of a chunk are not those that it says"));
        }
        before_ms = *end;
    }
    Ok(None)
}

/// Whether a query finds all of it: by the sections that its footer names.
fn check_sections(store: &Arc<dyn ObjectStore>, entry: &FileEntry) -> Result<()> {
    let open = OpenFile::open(store.clone(), entry)?;
    for number in 0.. {
        let Some(section) = open.directory.section(number) else { break };
        let read = read_sections(&open, &[Wanted { section: number, table: None }])?;
        let is_named = |index: &SectionIndex| index.table.labels(0).metric_name() == section.first_metric;
        if !read.first().is_some_and(is_named) {
            let (path, metric) = (&entry.path, &section.first_metric);
            return Err(Error::fix_request(format!("{path}: section {number} does not begin with the metric {metric:?}")));
        }
    }
    Ok(())
}

/// Where a file of an import goes, as [`ImportWriter`] names it.
pub fn import_path(spec: &ImportSpec) -> String {
    block_spec(*spec).path()
}

/// The samples never were in the journal: deletions that are not carried out yet are for them too.
fn block_spec(spec: ImportSpec) -> BlockSpec {
    let ImportSpec { tenant, window_ms, window_secs, nonce } = spec;
    let none = JournalPosition(0);
    BlockSpec {
        tenant,
        window_ms,
        window_secs,
        level: 0,
        positions: (none, none),
        deleted_to: none,
        rollup: RollupOf::default(),
        made_of: Vec::new(),
        nonce,
    }
}

/// Start of the window that a time falls into, in milliseconds.
pub fn import_window_ms(timestamp_ms: i64, window_secs: u32) -> i64 {
    let width = i64::from(window_secs) * 1000;
    timestamp_ms.div_euclid(width).saturating_mul(width)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::row::{ChunkKind, ChunkRow};
    use crate::block::series_table::hash_pairs;
    use object_store::memory::InMemory;

    const T0: i64 = 1_700_006_400_000;
    type Pairs<'a> = &'a [(&'a str, &'a str)];

    const WIDTH_MS: i64 = WINDOW_SECS as i64 * 1000;

    fn floats(times: &[i64]) -> Vec<ChunkRow> {
        rows_of(Some(points::floats(times.into(), vec![1.0; times.len()], None)), &[], true)
    }

    fn exemplars(times: &[i64]) -> Vec<ChunkRow> {
        let one = |timestamp_ms: &i64| Exemplar {
            labels: Labels::from_pairs([("trace_id", "t")]),
            value: 1.0,
            timestamp_ms: *timestamp_ms,
        };
        rows_of(None, &times.iter().map(one).collect::<Vec<_>>(), true)
    }

    /// Writes what is told, sound or not, with checksums that fit; what is wrong with it.
    fn inspect(series: &[(Pairs<'_>, Vec<ChunkRow>)]) -> Option<String> {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let spec = ImportSpec { tenant: TenantId(1), window_ms: T0, window_secs: WINDOW_SECS, nonce: 7 };
        let mut writer = BlockWriter::new(store.clone(), block_spec(spec)).expect("begun");
        for (pairs, rows) in series {
            let metric = pairs.iter().find(|(name, _)| *name == "__name__").map_or("", |(_, value)| value);
            let hash = hash_pairs(pairs, &mut Vec::new());
            writer.push_texts(metric, pairs.iter().copied(), hash, rows).expect("written");
        }
        let entry = writer.finish(&BTreeMap::new()).expect("written");
        inspect_import(&store, &entry.path, entry.size_bytes).err().map(|error| error.message().to_owned())
    }

    #[test]
    fn what_would_be_answered_wrongly_is_refused() {
        let m: Pairs<'_> = &[("__name__", "m"), ("a", "1"), ("b", "2")];
        let n: Pairs<'_> = &[("__name__", "n")];
        assert_eq!(inspect(&[(m, floats(&[T0, T0 + 5])), (n, exemplars(&[T0 + 3, T0 + WIDTH_MS - 1]))]), None);
        let said = |change: fn(&mut ChunkRow)| {
            let mut rows = floats(&[T0, T0 + 5]);
            rows.iter_mut().for_each(change);
            rows
        };
        let mut late_exemplars = floats(&[T0]);
        late_exemplars.extend(exemplars(&[T0 + 1]));
        let mut nothing = exemplars(&[T0]);
        nothing[0].exemplars = None;
        for (pairs, rows, words) in [
            (&[("__name__", "m"), ("b", "2"), ("a", "1")][..], floats(&[T0]), "not sorted"),
            (&[("__name__", "m"), ("a", "1"), ("a", "1")], floats(&[T0]), "comes twice"),
            (&[("__name__", "m"), ("a", "1"), ("a", "2")], floats(&[T0]), "comes twice"),
            (&[("__name__", "m"), ("a", "")], floats(&[T0]), "empty"),
            (m, exemplars(&[T0, T0 + 50 * 24 * 3_600_000]), "exemplars are outside the window"),
            (m, exemplars(&[T0 - 1]), "exemplars are outside the window"),
            (m, late_exemplars, "behind the first chunk"),
            (m, nothing, "not those that it says"),
            (m, floats(&[T0 + WIDTH_MS]), "outside the window"),
            (m, floats(&[T0 - 1]), "outside the window"),
            (m, said(|row| row.head.max_ms += 1), "not those that it says"),
            (m, said(|row| row.head.kind = ChunkKind::Empty), "not those that it says"),
        ] {
            let told = inspect(&[(pairs, rows)]).unwrap_or_default();
            assert!(told.contains(words), "{words:?} in {told:?}");
        }
        assert!(inspect(&[(n, floats(&[T0])), (m, floats(&[T0]))]).expect("refused").contains("does not come in order"));
    }
}
