//! What was sealed, packed: the strips of all series in one run of bytes, so that keeping it costs little more than they take.

use super::OpenSamples;
use super::dense::{DensePlace, DenseStrip, DenseStrips};
use super::slots::PlainStrip;
use crate::codec::strip::{self, StripBase};
use crate::index::SeriesId;
use crate::points;
use br_model::Exemplar;
use br_std::{Result, varint};
use br_storage::Points;

/// Samples of many series. Never changes.
#[derive(Debug, Default)]
pub(crate) struct SealedSamples {
    /// Ascending, with the end of each series in `bytes`.
    packed: Vec<(SeriesId, u32)>,
    /// Of each packed series: how many samples, their length in milliseconds, and the strip.
    bytes: Vec<u8>,
    /// Of these strips.
    base: StripBase,
    /// Series with more than one strip of floats, ascending by number.
    whole: Vec<(SeriesId, OpenSamples)>,
    /// In the place of the packed ones, once they are in files.
    dense: DenseStrips,
}

/// Where a series stands in a [`SealedSamples`].
#[derive(Clone, Copy, Debug)]
pub(crate) enum SealedPlace {
    Packed(u32),
    Dense(DensePlace),
    Whole(u32),
}

/// The samples of one series.
#[derive(Clone, Copy, Debug)]
pub(crate) enum SeriesView<'a> {
    Packed(PackedStrip<'a>),
    Dense(DenseStrip<'a>),
    Whole(&'a OpenSamples),
}

/// Floats in order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PackedStrip<'a> {
    pub(super) base: StripBase,
    pub(super) count: usize,
    length_ms: i64,
    pub(super) bytes: &'a [u8],
}

impl<'a> PackedStrip<'a> {
    pub(super) fn read(base: StripBase, mut bytes: &'a [u8]) -> Option<Self> {
        let count = usize::try_from(varint::take_u64(&mut bytes)?).ok()?;
        let length_ms = varint::take_i64(&mut bytes)?;
        Some(Self { base, count, length_ms, bytes })
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        varint::put_u64(out, self.count as u64);
        varint::put_i64(out, self.length_ms);
        out.extend_from_slice(self.bytes);
    }
}

impl SealedSamples {
    /// For so many strips with so many bytes, about.
    pub(super) fn new(base: StripBase, strips: usize, bytes: usize) -> Self {
        let (packed, bytes) = (Vec::with_capacity(strips), Vec::with_capacity(bytes + 4 * strips));
        Self { packed, bytes, base, ..Self::default() }
    }

    /// Takes a strip that is written against the base of these samples. Series come in ascending order. False, and nothing is taken,
    /// when all strips together would be too long.
    pub(super) fn push_packed(&mut self, id: SeriesId, strip: &PlainStrip<'_>) -> bool {
        let packed_length = self.bytes.len();
        varint::put_u64(&mut self.bytes, u64::from(strip.count));
        varint::put_i64(&mut self.bytes, strip.length_ms);
        strip.copy(&mut self.bytes);
        let end = u32::try_from(self.bytes.len());
        match end {
            Ok(end) => self.packed.push((id, end)),
            Err(_) => self.bytes.truncate(packed_length),
        }
        end.is_ok()
    }

    /// Series come in ascending order.
    pub(super) fn push_whole(&mut self, id: SeriesId, samples: OpenSamples) {
        self.whole.push((id, samples));
    }

    /// Lets go of memory that was taken for series to come.
    pub(crate) fn finish(&mut self) {
        self.packed.shrink_to_fit();
        self.bytes.shrink_to_fit();
        self.whole.shrink_to_fit();
    }

    /// The same samples in less memory, for as long as they are kept beyond their flush; `None` when that cannot be.
    pub(crate) fn condensed(&self) -> Option<Self> {
        let strips = (0..self.packed.len()).filter_map(|at| Some((self.packed[at].0, self.packed_at(at)?)));
        let dense = DenseStrips::of(self.base, strips)?;
        (dense.len() == self.packed.len()).then(|| Self { dense, whole: self.whole.clone(), ..Self::default() })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.packed.is_empty() && self.dense.is_empty() && self.whole.is_empty()
    }

    /// All series, those with more than a strip last.
    pub(crate) fn ids(&self) -> impl Iterator<Item = SeriesId> {
        let packed = self.packed.iter().map(|(id, _)| *id).chain(self.dense.iter().map(|(id, _)| id));
        packed.chain(self.whole.iter().map(|(id, _)| *id))
    }

    pub(crate) fn find(&self, id: SeriesId) -> Option<SealedPlace> {
        if let Ok(at) = self.packed.binary_search_by_key(&id, |(id, _)| *id) {
            return Some(SealedPlace::Packed(at as u32));
        }
        self.find_not_packed(id)
    }

    /// As [`Self::find`], for series asked for in ascending order: `near` starts at zero and is kept between the calls.
    pub(crate) fn find_next(&self, id: SeriesId, near: &mut usize) -> Option<SealedPlace> {
        // What stands before `low` has smaller numbers; mostly the series is the very next one, or a few farther.
        let (mut low, mut step) = (*near, 1);
        while self.packed.get(low + step).is_some_and(|(other, _)| *other < id) {
            low += step;
            step *= 2;
        }
        let end = self.packed.len().min(low + step + 1);
        let at = low + self.packed[low.min(end)..end].partition_point(|(other, _)| *other < id);
        *near = at;
        if self.packed.get(at).is_some_and(|(other, _)| *other == id) {
            return Some(SealedPlace::Packed(at as u32));
        }
        self.find_not_packed(id)
    }

    fn find_not_packed(&self, id: SeriesId) -> Option<SealedPlace> {
        if let Some(place) = self.dense.find(id) {
            return Some(SealedPlace::Dense(place));
        }
        self.whole.binary_search_by_key(&id, |(id, _)| *id).ok().map(|at| SealedPlace::Whole(at as u32))
    }

    /// `None` for a place that is not of these samples.
    pub(crate) fn view(&self, place: SealedPlace) -> Option<SeriesView<'_>> {
        match place {
            SealedPlace::Whole(at) => self.whole.get(at as usize).map(|(_, samples)| SeriesView::Whole(samples)),
            SealedPlace::Dense(place) => self.dense.view(place),
            SealedPlace::Packed(at) => self.packed_at(at as usize).map(SeriesView::Packed),
        }
    }

    fn packed_at(&self, at: usize) -> Option<PackedStrip<'_>> {
        let start = if at == 0 { 0 } else { self.packed.get(at - 1)?.1 as usize };
        let end = self.packed.get(at)?.1 as usize;
        PackedStrip::read(self.base, self.bytes.get(start..end)?)
    }

    pub(crate) fn get(&self, id: SeriesId) -> Option<SeriesView<'_>> {
        self.view(self.find(id)?)
    }

    pub(crate) fn sample_count(&self) -> usize {
        let packed: usize = (0..self.packed.len()).filter_map(|at| self.packed_at(at)).map(|strip| strip.count).sum();
        let dense: usize = self.dense.iter().map(|(_, view)| view.sample_count()).sum();
        packed + dense + self.whole.iter().map(|(_, samples)| samples.sample_count()).sum::<usize>()
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let whole: usize =
            self.whole.iter().map(|(_, samples)| size_of::<(SeriesId, OpenSamples)>() + samples.heap_bytes()).sum();
        let packed = self.packed.capacity() * size_of::<(SeriesId, u32)>() + self.bytes.capacity();
        packed + self.dense.heap_bytes() + whole
    }
}

impl<'a> SeriesView<'a> {
    /// Of a copy of a strip's bytes.
    pub(super) fn of_strip(base: StripBase, bytes: &'a [u8], count: usize, length_ms: i64) -> Self {
        Self::Packed(PackedStrip { base, count, length_ms, bytes })
    }

    /// Whether there is nothing but floats in order.
    pub(super) fn is_plain(self) -> bool {
        match self {
            Self::Packed(_) | Self::Dense(_) => true,
            Self::Whole(samples) => samples.only_strip().is_some(),
        }
    }

    /// Appends the floats of a plain view to the columns.
    pub(super) fn plain_into(self, timestamps_ms: &mut Vec<i64>, values: &mut Vec<f64>) -> Result<()> {
        match self {
            Self::Packed(strip) => strip::decode_into(strip.base, strip.bytes, strip.count, timestamps_ms, values),
            Self::Dense(strip) => {
                timestamps_ms.extend_from_slice(strip.times);
                strip::take_values(strip.values, strip.times.len(), values)
            }
            Self::Whole(samples) => match samples.only_strip() {
                Some(strip) => strip::decode_into(strip.base, &strip.bytes, strip.count(), timestamps_ms, values),
                None => Ok(()),
            },
        }
    }

    pub(crate) fn sample_count(self) -> usize {
        match self {
            Self::Packed(strip) => strip.count,
            Self::Dense(strip) => strip.times.len(),
            Self::Whole(samples) => samples.sample_count(),
        }
    }

    /// Times of the first and the last sample; `None` when there are only exemplars. Decodes nothing but a time.
    pub(crate) fn time_range(self) -> Option<(i64, i64)> {
        match self {
            Self::Packed(strip) => {
                let first = strip::first_timestamp_ms(strip.base, strip.bytes);
                Some((first, first.wrapping_add(strip.length_ms)))
            }
            Self::Dense(strip) => strip.times.first().copied().zip(strip.times.last().copied()),
            Self::Whole(samples) => samples.time_range(),
        }
    }

    pub(crate) fn exemplars(self) -> &'a [Exemplar] {
        match self {
            Self::Packed(_) | Self::Dense(_) => &[],
            Self::Whole(samples) => samples.exemplars(),
        }
    }

    /// All samples in time order.
    pub(crate) fn points(self) -> Result<Option<Points>> {
        let mut columns = PointColumns::default();
        columns.push(self)?;
        Ok(points::merge(columns.finish()))
    }
}

/// Columns of one series out of parts that follow each other: as long as these are plain strips, they become one column.
#[derive(Default)]
pub(crate) struct PointColumns {
    columns: Vec<Points>,
    timestamps_ms: Vec<i64>,
    values: Vec<f64>,
}

impl PointColumns {
    pub(crate) fn push(&mut self, view: SeriesView<'_>) -> Result<()> {
        let samples = match view {
            SeriesView::Packed(strip) => return self.push_strip(strip.base, strip.bytes, strip.count),
            SeriesView::Dense(strip) => return self.push_dense(strip),
            SeriesView::Whole(samples) => samples,
        };
        if let Some(strip) = samples.only_strip() {
            return self.push_strip(strip.base, &strip.bytes, strip.count());
        }
        self.close();
        self.columns.extend(samples.points()?);
        Ok(())
    }

    fn push_strip(&mut self, base: StripBase, bytes: &[u8], count: usize) -> Result<()> {
        let is_later = self.timestamps_ms.last().is_none_or(|last| *last < strip::first_timestamp_ms(base, bytes));
        if !is_later {
            self.close();
        }
        strip::decode_into(base, bytes, count, &mut self.timestamps_ms, &mut self.values)
    }

    fn push_dense(&mut self, strip: DenseStrip<'_>) -> Result<()> {
        if self.timestamps_ms.last().zip(strip.times.first()).is_some_and(|(last, first)| last >= first) {
            self.close();
        }
        self.timestamps_ms.extend_from_slice(strip.times);
        strip::take_values(strip.values, strip.times.len(), &mut self.values)
    }

    fn close(&mut self) {
        if !self.timestamps_ms.is_empty() {
            let timestamps_ms = std::mem::take(&mut self.timestamps_ms).into();
            self.columns.push(points::floats(timestamps_ms, std::mem::take(&mut self.values), None));
        }
    }

    /// What was pushed first stands first.
    pub(crate) fn finish(mut self) -> Vec<Points> {
        self.close();
        self.columns
    }
}
