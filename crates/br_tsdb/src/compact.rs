//! Merging files: all inputs are read once, side by side.

use crate::block::row::{FloatRows, rows_of};
use crate::block::scan::{BlockScan, SeriesTexts, metric_of};
use crate::block::stats::BlockStats;
use crate::block::write::{BlockSpec, BlockWriter};
use crate::codec::CHUNK_SAMPLES_MAX;
use crate::flush::{nonce, remove_files};
use crate::mask::{Hidden, Mask, Reach, drop_hidden_exemplars, visible};
use crate::options::DAY_SECS;
use crate::parts::{Fronts, MergedSamples};
use crate::plan::CompactionJob;
use crate::rollup::thin::thin;
use br_env::Rng;
use br_model::{Exemplar, Metadata};
use br_std::{Error, Result};
use br_storage::{FileEntry, JournalPosition};
use object_store::ObjectStore;
use std::collections::BTreeMap;
use std::sync::Arc;

/// About what the exemplars of one series may take in one file; the newest stay.
pub(crate) const EXEMPLAR_BYTES_MAX: usize = 4 << 20;

/// Carries out a job: reads all inputs once, side by side, and writes the outputs. Blocks on the object store.
///
/// An input that is damaged makes the whole fail with [`br_std::Kind::Corrupt`], naming the file: a merge never loses data silently.
pub fn compact(job: &CompactionJob, store: &Arc<dyn ObjectStore>, rng: &dyn Rng) -> Result<Vec<FileEntry>> {
    compact_masked(job, &Mask::default(), store, rng).map(|(files, _)| files)
}

/// What a merge has left out.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LeftOut {
    /// There was no room for them.
    pub(crate) exemplars: u64,
    /// Samples that have another value than one of the same time that was stored before.
    pub(crate) contradictions: u64,
}

/// The same, without what is hidden.
pub(crate) fn compact_masked(
    job: &CompactionJob,
    mask: &Mask,
    store: &Arc<dyn ObjectStore>,
    rng: &dyn Rng,
) -> Result<(Vec<FileEntry>, LeftOut)> {
    let mut merge = Merge::open(job, mask, store)?;
    let (positions, metadata, deleted_to) = (merge.positions, merge.metadata.clone(), mask.last());
    let (floats, writer, files) = (FloatRows::default(), None, Vec::new());
    let mut output = Output { job, store, rng, positions, deleted_to, metadata, floats, writer, files };
    match output.write_all(&mut merge).and_then(|()| output.finish()) {
        Ok(()) => {
            merge.left_out.contradictions = merge.samples.contradictions;
            Ok((output.files, merge.left_out))
        }
        Err(error) => {
            remove_files(&**store, &output.files);
            let aborted = output.abort();
            Err(aborted.err().map_or(error, |abort| abort.context("while giving up a failed compaction")))
        }
    }
}

/// The inputs side by side, what was stored first in front.
struct Merge<'a> {
    scans: Vec<(BlockScan, Reach)>,
    fronts: Fronts,
    /// Of the series that [`Merge::next`] gave last.
    samples: MergedSamples,
    mask: &'a Mask,
    positions: (JournalPosition, JournalPosition),
    metadata: BTreeMap<String, Metadata>,
    left_out: LeftOut,
}

struct MergedSeries {
    texts: SeriesTexts,
    hash: u128,
    exemplars: Vec<Exemplar>,
}

impl<'a> Merge<'a> {
    fn open(job: &CompactionJob, mask: &'a Mask, store: &Arc<dyn ObjectStore>) -> Result<Self> {
        let mut inputs = Vec::with_capacity(job.inputs.len());
        for entry in &job.inputs {
            let stats = BlockStats::of(entry)?;
            inputs.push((stats.positions(), stats.reach(), entry));
        }
        inputs.sort_by(|(one, _, first), (other, _, second)| (one, &first.path).cmp(&(other, &second.path)));
        let from = inputs.iter().map(|(positions, ..)| positions.0).min();
        let to = inputs.iter().map(|(positions, ..)| positions.1).max();
        let (Some(from), Some(to)) = (from, to) else {
            return Err(Error::fix_request("a compaction needs at least one file"));
        };
        let scan = |(_, reach, entry): &(_, Reach, &FileEntry)| Ok((BlockScan::new(store.clone(), entry)?, *reach));
        let mut scans = inputs.iter().map(scan).collect::<Result<Vec<_>>>()?;
        let metadata = scans.iter().flat_map(|(scan, _)| scan.metadata.iter().cloned()).collect();
        let mut fronts = Fronts::default();
        for (at, (scan, _)) in scans.iter_mut().enumerate() {
            fronts.add(at, scan)?;
        }
        let samples = MergedSamples::new(scans.len());
        Ok(Self { scans, fronts, samples, mask, positions: (from, to), metadata, left_out: LeftOut::default() })
    }

    fn next(&mut self) -> Result<Option<MergedSeries>> {
        let Some(front) = self.fronts.take_lowest() else { return Ok(None) };
        let (hash, texts, mut exemplars) = (front.hash, front.texts, Vec::new());
        self.samples.clear();
        let labels = if self.mask.is_empty() { None } else { Some(texts.labels()?) };
        for at in front.scans {
            let Some((scan, reach)) = self.scans.get_mut(at) else { continue };
            let hidden = labels.as_ref().map_or_else(Hidden::new, |labels| self.mask.hidden(labels, *reach));
            while let Some(row) = scan.next_row_of(hash)? {
                if !hidden.is_empty() || !self.samples.push_floats(at, &row)? {
                    self.samples.push(row.points()?.and_then(|points| visible(points, &hidden)));
                }
                exemplars.extend(row.exemplars()?);
            }
            drop_hidden_exemplars(&mut exemplars, &hidden);
            self.fronts.add(at, scan)?;
        }
        self.left_out.exemplars += tidy_exemplars(&mut exemplars, EXEMPLAR_BYTES_MAX);
        Ok(Some(MergedSeries { texts, hash, exemplars }))
    }
}

/// In time order, each once, of the newest as many as take at most so many bytes. Gives how many are left out for that.
pub(crate) fn tidy_exemplars(exemplars: &mut Vec<Exemplar>, bytes_max: usize) -> u64 {
    exemplars.sort_by(|one, other| {
        (one.timestamp_ms, &one.labels).cmp(&(other.timestamp_ms, &other.labels)).then(one.value.total_cmp(&other.value))
    });
    exemplars.dedup_by(|one, other| {
        one.timestamp_ms == other.timestamp_ms && one.labels == other.labels && one.value.to_bits() == other.value.to_bits()
    });
    let mut bytes = 0usize;
    let fits = |exemplar: &&Exemplar| {
        let labels: usize = exemplar.labels.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
        bytes = bytes.saturating_add(labels + 16);
        bytes <= bytes_max
    };
    let dropped = exemplars.len() - exemplars.iter().rev().take_while(fits).count();
    exemplars.drain(..dropped);
    dropped as u64
}

struct Output<'a> {
    job: &'a CompactionJob,
    store: &'a Arc<dyn ObjectStore>,
    rng: &'a dyn Rng,
    positions: (JournalPosition, JournalPosition),
    /// Deletions up to this record are carried out on what comes in.
    deleted_to: JournalPosition,
    metadata: BTreeMap<String, Metadata>,
    floats: FloatRows,
    writer: Option<BlockWriter>,
    files: Vec<FileEntry>,
}

impl Output<'_> {
    fn write_all(&mut self, merge: &mut Merge) -> Result<()> {
        while let Some(series) = merge.next()? {
            let may_split = self.job.window_secs == DAY_SECS;
            if self.writer.as_ref().is_some_and(|writer| may_split && writer.size_bytes() >= self.job.output_bytes_max)
                && let Some(full) = self.writer.take()
            {
                self.files.push(full.finish(&BTreeMap::new())?);
            }
            self.write(&series, &mut merge.samples)?;
        }
        Ok(())
    }

    fn write(&mut self, series: &MergedSeries, samples: &mut MergedSamples) -> Result<()> {
        let pairs = series.texts.pairs()?;
        let (metric, labels) = (metric_of(&pairs), pairs.iter().copied());
        let mut floats = std::mem::take(&mut self.floats);
        let is_raw = self.job.rollup.is_raw();
        if is_raw
            && series.exemplars.is_empty()
            && let Some((timestamps_ms, values)) = samples.only_floats(CHUNK_SAMPLES_MAX)
        {
            self.writer()?.push_texts(metric, labels, series.hash, &[floats.row(timestamps_ms, values, true)])?;
            self.floats = floats;
            return Ok(());
        }
        self.floats = floats;
        let rows = if is_raw {
            rows_of(samples.take(), &series.exemplars, true)
        } else {
            rows_of(samples.take().map(|samples| thin(&samples, self.job.rollup.interval_ms)), &[], true)
        };
        if !rows.is_empty() {
            self.writer()?.push_texts(metric, labels, series.hash, &rows)?;
        }
        Ok(())
    }

    fn writer(&mut self) -> Result<&mut BlockWriter> {
        let writer = match self.writer.take() {
            Some(writer) => writer,
            None => self.new_writer()?,
        };
        Ok(self.writer.insert(writer))
    }

    fn new_writer(&self) -> Result<BlockWriter> {
        // A rollup does not take the place of what it was made of.
        let inputs = self.job.inputs.iter().filter(|_| self.job.rollup.is_raw());
        let spec = BlockSpec {
            tenant: self.job.tenant,
            window_ms: self.job.window.as_millis(),
            window_secs: self.job.window_secs,
            level: self.job.level,
            positions: self.positions,
            deleted_to: self.deleted_to,
            rollup: self.job.rollup.clone(),
            made_of: inputs.map(|input| input.path.clone()).collect(),
            nonce: nonce(self.rng),
        };
        BlockWriter::new(self.store.clone(), spec)
    }

    /// Metadata goes with the last file.
    fn finish(&mut self) -> Result<()> {
        // A rollup of nothing says that there was nothing.
        let is_needed = !self.metadata.is_empty() || (!self.job.rollup.is_raw() && self.files.is_empty());
        if self.writer.is_none() && is_needed {
            self.writer()?;
        }
        if let Some(writer) = self.writer.take() {
            self.files.push(writer.finish(&self.metadata)?);
        }
        Ok(())
    }

    fn abort(self) -> Result<()> {
        self.writer.map_or(Ok(()), BlockWriter::abort)
    }
}
