//! Strips that are kept beyond their flush, as small as they can be asked: series that were scraped together share their times.

use super::sealed::{PackedStrip, SeriesView};
use crate::codec::strip::{self, StripBase};
use crate::index::SeriesId;
use br_std::varint;
use foldhash::fast::FixedState;
use hashbrown::HashMap;

/// A series is found by its mark and a walk from there.
const SERIES_PER_MARK: usize = 16;
/// Ways of being scraped that are told apart. A series beyond keeps its times to itself.
const TIMES_MAX: usize = 4096;

/// In the place of a number of times: before a mark there are none.
const NO_TIMES: u64 = u64::MAX;

/// Where a series stands, for [`DenseStrips::view`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct DensePlace {
    /// In the bytes.
    at: u32,
    /// Of the series before it.
    times_before: u32,
}

/// Strips of many series. Never changes.
#[derive(Debug, Default)]
pub(super) struct DenseStrips {
    times: Vec<Box<[i64]>>,
    /// Every sixteenth series, and where it stands in `bytes`.
    marks: Vec<(SeriesId, u32)>,
    /// Of each series as varints: twice how many bytes its values take, where its number is one more than that of the series before and
    /// its times are the same; else that and one more, its number less that of the one before (of the mark itself at a mark), and one
    /// more than the number of its times. Then its values; with zero for the times come count, length and strip as they were packed.
    bytes: Vec<u8>,
    /// Of the strips that are as they were packed.
    base: StripBase,
    series: usize,
}

impl DenseStrips {
    /// `None` when a strip cannot be read, or all of them are too long.
    pub(super) fn of<'a>(base: StripBase, strips: impl Iterator<Item = (SeriesId, PackedStrip<'a>)>) -> Option<Self> {
        let mut dense = Self { base, ..Self::default() };
        let mut numbers: HashMap<Box<[i64]>, usize, FixedState> = HashMap::default();
        let (mut times, mut values, mut payload) = (Vec::new(), Vec::new(), Vec::new());
        let (mut before, mut times_before, mut usual) = (0, 0, usize::MAX);
        for (id, packed) in strips {
            times.clear();
            values.clear();
            payload.clear();
            strip::decode_into(base, packed.bytes, packed.count, &mut times, &mut values).ok()?;
            let is_usual = dense.times.get(usual).is_some_and(|shared| **shared == *times);
            let known = if is_usual { Some(usual) } else { numbers.get(&*times).copied() };
            let number = known.or_else(|| {
                (dense.times.len() < TIMES_MAX).then(|| {
                    dense.times.push(times.as_slice().into());
                    numbers.insert(times.as_slice().into(), dense.times.len() - 1);
                    dense.times.len() - 1
                })
            });
            match number {
                Some(number) => {
                    usual = number;
                    strip::put_values(&mut payload, &values);
                }
                None => packed.put(&mut payload),
            }
            if dense.series.is_multiple_of(SERIES_PER_MARK) {
                dense.marks.push((id, u32::try_from(dense.bytes.len()).ok()?));
                (before, times_before) = (id, NO_TIMES);
            }
            let times = number.map_or(0, |number| number as u64 + 1);
            let is_next = id.wrapping_sub(before) == 1 && times == times_before;
            varint::put_u64(&mut dense.bytes, payload.len() as u64 * 2 + u64::from(!is_next));
            if !is_next {
                varint::put_u64(&mut dense.bytes, u64::from(id - before));
                varint::put_u64(&mut dense.bytes, times);
            }
            dense.bytes.extend_from_slice(&payload);
            (before, times_before) = (id, times);
            dense.series += 1;
        }
        dense.bytes.shrink_to_fit();
        dense.marks.shrink_to_fit();
        Some(dense)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.series == 0
    }

    pub(super) fn len(&self) -> usize {
        self.series
    }

    pub(super) fn find(&self, id: SeriesId) -> Option<DensePlace> {
        let mark = self.marks.partition_point(|(first, _)| *first <= id).checked_sub(1)?;
        let (first, at) = *self.marks.get(mark)?;
        let mut walk = self.walk(first, DensePlace { at, times_before: 0 });
        walk.find(|(other, ..)| *other >= id).filter(|(other, ..)| *other == id).map(|(_, place, _)| place)
    }

    /// `None` for a place that is none.
    pub(super) fn view(&self, place: DensePlace) -> Option<SeriesView<'_>> {
        let (_, _, view) = self.walk(0, place).next()?;
        Some(view)
    }

    /// All series in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (SeriesId, SeriesView<'_>)> {
        self.marks
            .iter()
            .flat_map(|(first, at)| self.walk(*first, DensePlace { at: *at, times_before: 0 }).map(|(id, _, view)| (id, view)))
    }

    /// From a mark to the next one: number, place and strip of each series.
    fn walk(&self, first: SeriesId, from: DensePlace) -> impl Iterator<Item = (SeriesId, DensePlace, SeriesView<'_>)> {
        let (mut id, mut rest) = (first, self.bytes.get(from.at as usize..).unwrap_or_default());
        let mut times = u64::from(from.times_before);
        (0..SERIES_PER_MARK).map_while(move |_| {
            let place = DensePlace { at: (self.bytes.len() - rest.len()) as u32, times_before: times as u32 };
            let header = varint::take_u64(&mut rest)?;
            if header.is_multiple_of(2) {
                id += 1;
            } else {
                id += varint::take_u64(&mut rest)? as SeriesId;
                times = varint::take_u64(&mut rest)?;
            }
            let (payload, behind) = rest.split_at_checked((header / 2) as usize)?;
            rest = behind;
            let view = match (times as usize).checked_sub(1) {
                Some(number) => SeriesView::Dense(DenseStrip { times: self.times.get(number)?, values: payload }),
                None => SeriesView::Packed(PackedStrip::read(self.base, payload)?),
            };
            Some((id, place, view))
        })
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let times: usize = self.times.iter().map(|times| 16 + times.len() * 8).sum();
        times + self.marks.capacity() * size_of::<(SeriesId, u32)>() + self.bytes.capacity()
    }
}

/// Floats in order, and the times that they share with others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DenseStrip<'a> {
    pub(super) times: &'a [i64],
    /// As [`strip::put_values`] writes them.
    pub(super) values: &'a [u8],
}

#[cfg(test)]
mod tests {
    use super::super::slots::Slots;
    use crate::index::LabelIndex;
    use br_model::{Labels, Sample};
    use proptest::prelude::*;

    fn add_series(slots: &mut Slots, id: crate::index::SeriesId) {
        let labels = LabelIndex::default().insert(id, &Labels::empty()).expect("room");
        slots.insert(id, labels);
    }

    proptest! {
        /// Some series are scraped together, some by themselves, some have few samples or numbers far apart.
        #[test]
        fn condensed_samples_are_the_same_samples(
            series in prop::collection::vec((0u32..40, 0usize..3, prop::collection::vec(prop_oneof![Just(7.0), -1e3..1e3, Just(f64::NAN)], 1..9)), 1..60)
        ) {
            let mut slots = Slots::default();
            let mut id = 0;
            for (gap, way, values) in &series {
                for _ in 0..=*gap {
                    id += 1;
                    add_series(&mut slots, id);
                }
                for (at, value) in values.iter().enumerate() {
                    let own = if *way == 2 { i64::from(id) } else { 0 };
                    slots.push(id, &Sample::float(1_700_000_000_000 + *way as i64 + own + at as i64 * 15_000, *value));
                }
            }
            let packed = slots.seal(true);
            let dense = packed.condensed().expect("sound strips");
            prop_assert_eq!(dense.ids().collect::<Vec<_>>(), packed.ids().collect::<Vec<_>>());
            prop_assert_eq!(dense.sample_count(), packed.sample_count());
            for id in 0..id + 2 {
                let (one, other) = (packed.get(id), dense.get(id));
                prop_assert_eq!(one.is_some(), other.is_some());
                let (Some(one), Some(other)) = (one, other) else { continue };
                prop_assert_eq!(one.time_range(), other.time_range());
                let shown = |view: super::SeriesView<'_>| format!("{:?}", view.points().expect("sound"));
                prop_assert_eq!(shown(one), shown(other));
            }
        }
    }

    #[test]
    fn a_minute_of_a_steady_counter_takes_little() {
        let mut slots = Slots::default();
        for id in 0..1000 {
            add_series(&mut slots, id);
            for at in 0..4 {
                slots.push(id, &Sample::float(1_700_000_000_000 + at * 15_000, 1_000_000.0 + f64::from(id) + at as f64 * 9.0));
            }
        }
        let packed = slots.seal(true);
        let (before, after) = (packed.heap_bytes(), packed.condensed().expect("sound strips").heap_bytes());
        assert!(after < 10_000 && after < before / 2, "{before} {after}");
    }
}
