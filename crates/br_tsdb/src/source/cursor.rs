//! The samples of the series that a query found, batch by batch: rows of files and what is in memory as one.

use super::{Charged, SelectedFile, SelectedSection, note_damage};
use crate::block::file::{BlockFile, ChunkReads};
use crate::block::row::{DecodedTimes, RowHead};
use crate::head::{FloatBuffer, HeadSamples, HeadSeries};
use crate::mask::{Hidden, Mask, visible};
use crate::points::{self, Joints, SharedTimestamps};
use crate::store::Shared;
use br_model::Labels;
use br_std::Result;
use br_storage::{BATCHES_AT_ONCE, Budget, Points, SeriesCursor, SeriesData, SeriesQuery};
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use smallvec::SmallVec;

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
pub(super) struct Candidate {
    /// Of the labels, as files have it; zero when none has the series.
    hash: u128,
    head: Option<HeadSeries>,
    /// Files stored first come first.
    places: SmallVec<[Place; 4]>,
}

/// Series in one batch of a cursor, at most, and in the first one, when nothing is known of their size.
const BATCH_SERIES: usize = 512;
const BATCH_SERIES_FIRST: usize = 128;
/// So many are read at once even where they are large.
const BATCH_SERIES_MIN: usize = 16;
/// About what a batch may take: several are held at a time.
const BATCH_BYTES: u64 = 16 << 20;
/// A query of so many series leaves the pages that it read for the queries that come after.
const SMALL_SERIES_MAX: usize = 256;

/// What a query found.
pub(super) struct Found<'a> {
    pub(super) mask: Mask,
    pub(super) files: Vec<SelectedFile>,
    /// What is in memory.
    pub(super) samples: HeadSamples,
    pub(super) candidates: Vec<Candidate>,
    /// For the candidates.
    pub(super) charged: Charged<'a>,
}

/// Joins the series of head and files by the hash of their labels.
pub(super) fn candidates(head: Vec<HeadSeries>, samples: &HeadSamples, files: &[SelectedFile]) -> Vec<Candidate> {
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

/// Reads the series that a query found, batch by batch.
pub(super) struct TenantCursor<'a> {
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

impl<'a> TenantCursor<'a> {
    pub(super) fn new(shared: &'a Shared, query: &SeriesQuery, found: Found<'a>, budget: &'a Budget) -> Self {
        let Found { mask, files, samples, candidates, charged } = found;
        Self {
            shared,
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
        }
    }

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
