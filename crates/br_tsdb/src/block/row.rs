//! One row of a file: a chunk of one series.

use crate::codec::{CHUNK_SAMPLES_MAX, exemplars, histograms, starts, timestamps, values};
use crate::points;
use br_model::{Exemplar, Labels};
use br_std::ring::Ring;
use br_std::{Error, Result};
use br_storage::{Points, Values, Weight};
use smallvec::SmallVec;
use std::sync::Arc;

/// What the values of a chunk are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ChunkKind {
    Floats = 0,
    Histograms = 1,
    /// No samples: exemplars of a series that has none here.
    Empty = 2,
    /// The same with weights, in rollups.
    WeightedFloats = 3,
    WeightedHistograms = 4,
}

impl ChunkKind {
    fn is_weighted(self) -> bool {
        matches!(self, Self::WeightedFloats | Self::WeightedHistograms)
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        let all = [Self::Floats, Self::Histograms, Self::Empty, Self::WeightedFloats, Self::WeightedHistograms];
        all.into_iter().find(|kind| *kind as u8 == code)
    }
}

/// What the index knows of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RowHead {
    pub(crate) kind: ChunkKind,
    /// Times of the samples (of the exemplars where there are no samples), both included.
    pub(crate) min_ms: i64,
    pub(crate) max_ms: i64,
    /// Samples.
    pub(crate) count: u32,
}

/// Over the floats of a chunk that are not NaN.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Aggregates {
    pub(crate) min: f64,
    pub(crate) max: f64,
    pub(crate) sum: f64,
}

#[derive(Clone, Debug)]
pub(crate) struct ChunkRow<B = Vec<u8>> {
    pub(crate) head: RowHead,
    pub(crate) aggregates: Option<Aggregates>,
    pub(crate) timestamps: B,
    pub(crate) values: B,
    pub(crate) starts: Option<B>,
    pub(crate) exemplars: Option<B>,
}

/// Bytes of a head and of whose it is.
const HEAD_BYTES: usize = 37;
/// What is shorter is taken together with what stands around it: to begin a piece takes longer than its bytes.
const PIECE_BYTES: usize = 128;

impl<B: AsRef<[u8]>> ChunkRow<B> {
    /// Over everything that the row says, and whose it is.
    pub(crate) fn crc32(&self, series_hash: u128) -> u32 {
        let mut together: SmallVec<[u8; 512]> = SmallVec::new();
        together.extend_from_slice(&self.head.checked(series_hash));
        if let Some(Aggregates { min, max, sum }) = self.aggregates {
            for value in [min, max, sum] {
                together.extend_from_slice(&value.to_bits().to_le_bytes());
            }
        }
        let mut hasher = crc32fast::Hasher::new();
        let (starts, exemplars) = (self.starts.as_ref().map(B::as_ref), self.exemplars.as_ref().map(B::as_ref));
        for bytes in [Some(self.timestamps.as_ref()), Some(self.values.as_ref()), starts, exemplars] {
            together.extend_from_slice(&bytes.map_or(u64::MAX, |bytes| bytes.len() as u64).to_le_bytes());
            match bytes {
                Some(bytes) if bytes.len() > PIECE_BYTES => {
                    hasher.update(&together);
                    hasher.update(bytes);
                    together.clear();
                }
                Some(bytes) => together.extend_from_slice(bytes),
                None => {}
            }
        }
        hasher.update(&together);
        hasher.finalize()
    }

    /// The samples of the chunk; `None` when it has none.
    pub(crate) fn points(&self) -> Result<Option<Points>> {
        self.points_at(&mut DecodedTimes::default())
    }

    /// The same, of a row like those before it.
    pub(crate) fn points_at(&self, decoded: &mut DecodedTimes) -> Result<Option<Points>> {
        let count = self.head.count as usize;
        if self.head.kind == ChunkKind::Empty || count == 0 {
            return Ok(None);
        }
        let times = decoded.times(self.timestamps.as_ref(), count)?;
        let starts_ms = self.starts.as_ref().map(|bytes| starts::decode(bytes.as_ref(), count)).transpose()?;
        let mut input = self.values.as_ref();
        let weights = if self.head.kind.is_weighted() { Some(decode_weights(&mut input, count)?) } else { None };
        if matches!(self.head.kind, ChunkKind::Histograms | ChunkKind::WeightedHistograms) {
            let histograms = points::histograms(times, histograms::decode(input, count)?, starts_ms);
            return Ok(Some(Points { weights, ..histograms }));
        }
        let floats = values::decode(&mut input, count)?;
        if !input.is_empty() {
            return Err(Error::corrupt("damaged chunk: bytes left over after the values"));
        }
        Ok(Some(Points { weights, ..points::floats(times, floats, starts_ms) }))
    }

    pub(crate) fn exemplars(&self) -> Result<Vec<Exemplar>> {
        self.exemplars.as_ref().map_or_else(|| Ok(Vec::new()), |bytes| exemplars::decode(bytes.as_ref()))
    }
}

/// The timestamps that were decoded last: series that are scraped together have the same.
pub(crate) struct DecodedTimes(Ring<DecodedColumn>);

struct DecodedColumn {
    bytes: Box<[u8]>,
    times: Arc<[i64]>,
}

impl Default for DecodedTimes {
    fn default() -> Self {
        Self(Ring::new(points::GROUPS_MAX, points::GROUPS_BYTES_MAX))
    }
}

impl DecodedTimes {
    pub(crate) fn bytes(&self) -> u64 {
        self.0.bytes() as u64
    }

    fn times(&mut self, bytes: &[u8], count: usize) -> Result<Arc<[i64]>> {
        let hash = br_std::hash::hash64(bytes);
        let known = self.0.find(hash, |known| known.times.len() == count && *known.bytes == *bytes);
        if let Some(at) = known {
            return Ok(self.0[at].times.clone());
        }
        let times: Arc<[i64]> = timestamps::decode(bytes, count)?.into();
        let column = DecodedColumn { bytes: bytes.into(), times: times.clone() };
        self.0.push(hash, bytes.len() + size_of_val(&*times), column);
        Ok(times)
    }
}

impl RowHead {
    fn checked(&self, series_hash: u128) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes[..16].copy_from_slice(&series_hash.to_le_bytes());
        bytes[16] = self.kind as u8;
        bytes[17..25].copy_from_slice(&self.min_ms.to_le_bytes());
        bytes[25..33].copy_from_slice(&self.max_ms.to_le_bytes());
        bytes[33..].copy_from_slice(&self.count.to_le_bytes());
        bytes
    }
}

/// A checksum over the heads of many rows, which are taken together.
#[derive(Clone, Default)]
pub(crate) struct HeadsChecksum {
    hasher: crc32fast::Hasher,
    waiting: Vec<u8>,
}

impl HeadsChecksum {
    pub(crate) fn add(&mut self, head: RowHead, series_hash: u128) {
        self.waiting.extend_from_slice(&head.checked(series_hash));
        if self.waiting.len() >= HEAD_BYTES * 128 {
            self.hasher.update(&self.waiting);
            self.waiting.clear();
        }
    }

    pub(crate) fn finalize(mut self) -> u32 {
        self.hasher.update(&self.waiting);
        self.hasher.finalize()
    }
}

/// The order of rows in a file: by metric, then by labels.
pub(crate) fn order(one: &Labels, other: &Labels) -> std::cmp::Ordering {
    one.metric_name().cmp(other.metric_name()).then_with(|| one.cmp(other))
}

/// Samples and exemplars of one series as rows, in time order. Aggregates only where the file is to live long.
pub(crate) fn rows_of(samples: Option<Points>, exemplars: &[Exemplar], with_aggregates: bool) -> Vec<ChunkRow> {
    let mut rows = Vec::new();
    if let Some(samples) = samples {
        let mut from = 0;
        for end in points::kind_ends(&samples) {
            while from < end {
                let to = end.min(from + CHUNK_SAMPLES_MAX);
                rows.push(chunk_of(points::of_one_kind(points::slice(&samples, from, to)), with_aggregates));
                from = to;
            }
        }
    }
    if exemplars.is_empty() {
        return rows;
    }
    let bytes = Some(exemplars::encode(exemplars));
    if let Some(row) = rows.first_mut() {
        row.exemplars = bytes;
        return rows;
    }
    let times = || exemplars.iter().map(|exemplar| exemplar.timestamp_ms);
    let (min_ms, max_ms) = (times().min().unwrap_or(0), times().max().unwrap_or(0));
    let head = RowHead { kind: ChunkKind::Empty, min_ms, max_ms, count: 0 };
    vec![ChunkRow { head, aggregates: None, timestamps: Vec::new(), values: Vec::new(), starts: None, exemplars: bytes }]
}

/// `samples` are of one kind, and at least one.
fn chunk_of(samples: Points, with_aggregates: bool) -> ChunkRow {
    let times = &samples.timestamps_ms;
    let mut bytes = Vec::new();
    let weights = samples.weights.as_deref();
    if let Some(weights) = weights {
        encode_weights(weights, &mut bytes);
    }
    let mut aggregates = None;
    let kind = match &samples.values {
        Values::Floats(floats) => {
            values::encode(floats, &mut bytes);
            aggregates = with_aggregates.then(|| aggregates_of(floats));
            if weights.is_some() { ChunkKind::WeightedFloats } else { ChunkKind::Floats }
        }
        Values::Histograms(values) => {
            bytes.extend(histograms::encode(values));
            if weights.is_some() { ChunkKind::WeightedHistograms } else { ChunkKind::Histograms }
        }
        // `points::of_one_kind` leaves no mixed column with samples.
        Values::Mixed(_) => ChunkKind::Empty,
    };
    let head = RowHead {
        kind,
        min_ms: times.first().copied().unwrap_or(0),
        max_ms: times.last().copied().unwrap_or(0),
        count: times.len() as u32,
    };
    let has_starts = |starts: &&Vec<i64>| starts.iter().any(|start| *start != points::START_UNKNOWN);
    let starts = samples.starts_ms.as_ref().filter(has_starts).map(|starts| starts::encode(starts));
    ChunkRow { head, aggregates, timestamps: timestamps::encode(times), values: bytes, starts, exemplars: None }
}

/// Makes rows of plain floats one after the other, in memory that it keeps.
#[derive(Default)]
pub(crate) struct FloatRows {
    /// Of the row before: series that were scraped together have the same, and stand together.
    timestamps_ms: Vec<i64>,
    timestamps: Vec<u8>,
    values: Vec<u8>,
}

impl FloatRows {
    /// `timestamps_ms` ascend; there are as many floats, at least one and no more than a chunk may hold.
    pub(crate) fn row(&mut self, timestamps_ms: &[i64], floats: &[f64], with_aggregates: bool) -> ChunkRow<&[u8]> {
        if self.timestamps_ms != timestamps_ms {
            self.timestamps_ms.clear();
            self.timestamps_ms.extend_from_slice(timestamps_ms);
            self.timestamps = timestamps::encode(timestamps_ms);
        }
        self.values.clear();
        values::encode(floats, &mut self.values);
        let head = RowHead {
            kind: ChunkKind::Floats,
            min_ms: timestamps_ms.first().copied().unwrap_or(0),
            max_ms: timestamps_ms.last().copied().unwrap_or(0),
            count: timestamps_ms.len() as u32,
        };
        let aggregates = with_aggregates.then(|| aggregates_of(floats));
        ChunkRow { head, aggregates, timestamps: &self.timestamps, values: &self.values, starts: None, exemplars: None }
    }
}

/// Counts, then sums, then gains.
fn encode_weights(weights: &[Weight], out: &mut Vec<u8>) {
    for column in [|weight: &Weight| weight.count, |weight: &Weight| weight.sum, |weight: &Weight| weight.gain] {
        values::encode(&weights.iter().map(column).collect::<Vec<f64>>(), out);
    }
}

fn decode_weights(input: &mut &[u8], count: usize) -> Result<Vec<Weight>> {
    let (counts, sums, gains) = (values::decode(input, count)?, values::decode(input, count)?, values::decode(input, count)?);
    Ok((0..count).map(|at| Weight { count: counts[at], sum: sums[at], gain: gains[at] }).collect())
}

fn aggregates_of(floats: &[f64]) -> Aggregates {
    let (mut min, mut max, mut sum, mut counted) = (f64::INFINITY, f64::NEG_INFINITY, -0.0, 0);
    for value in floats.iter().copied().filter(|value| !value.is_nan()) {
        min = if value < min { value } else { min };
        max = if value > max { value } else { max };
        sum += value;
        counted += 1;
    }
    if counted == 0 {
        return Aggregates { min: f64::NAN, max: f64::NAN, sum: f64::NAN };
    }
    Aggregates { min, max, sum }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_alone_become_the_rows_that_they_become_among_others() {
        let mut rows = FloatRows::default();
        let times = [[0, 10, 20, 30], [0, 10, 20, 30], [0, 10, 25, 30]];
        let columns = [[1.0, 2.0, 4.0, 8.5], [7.0; 4], [f64::NAN, -0.0, 1e300, 0.1]];
        for (timestamps_ms, values) in times.iter().zip(columns) {
            for with_aggregates in [false, true] {
                let samples = points::floats(timestamps_ms.as_slice().into(), values.to_vec(), None);
                let expected = rows_of(Some(samples), &[], with_aggregates);
                let row = rows.row(timestamps_ms, &values, with_aggregates);
                assert_eq!(expected.len(), 1);
                assert_eq!(row.crc32(9), expected[0].crc32(9), "head, aggregates and bytes: {row:?} {expected:?}");
            }
        }
    }
}
