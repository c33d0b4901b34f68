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

/// Strips of many series. Never changes.
#[derive(Debug, Default)]
pub(super) struct DenseStrips {
    times: Vec<Box<[i64]>>,
    /// Every sixteenth series, and where it stands in `bytes`.
    marks: Vec<(SeriesId, u32)>,
    /// Of each series as varints: its number less that of the one before (zero at a mark), one more than the number of its times,
    /// and how many bytes its values take; then these. With zero for the times come count, length and strip as they were packed.
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
        let (mut before, mut usual) = (0, usize::MAX);
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
                before = id;
            }
            varint::put_u64(&mut dense.bytes, u64::from(id - before));
            varint::put_u64(&mut dense.bytes, number.map_or(0, |number| number as u64 + 1));
            varint::put_u64(&mut dense.bytes, payload.len() as u64);
            dense.bytes.extend_from_slice(&payload);
            before = id;
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

    /// Where a series stands, for [`DenseStrips::view`].
    pub(super) fn find(&self, id: SeriesId) -> Option<u32> {
        let mark = self.marks.partition_point(|(first, _)| *first <= id).checked_sub(1)?;
        let (first, at) = *self.marks.get(mark)?;
        let mut walk = self.walk(first, at);
        walk.find(|(other, ..)| *other >= id).filter(|(other, ..)| *other == id).map(|(_, place, _)| place)
    }

    /// `None` for a place that is none.
    pub(super) fn view(&self, place: u32) -> Option<SeriesView<'_>> {
        let (_, _, view) = self.walk(0, place).next()?;
        Some(view)
    }

    /// All series in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (SeriesId, SeriesView<'_>)> {
        self.marks.iter().flat_map(|(first, at)| self.walk(*first, *at).map(|(id, _, view)| (id, view)))
    }

    /// From a mark to the next one: number, place and strip of each series.
    fn walk(&self, first: SeriesId, at: u32) -> impl Iterator<Item = (SeriesId, u32, SeriesView<'_>)> {
        let (mut id, mut rest) = (first, self.bytes.get(at as usize..).unwrap_or_default());
        (0..SERIES_PER_MARK).map_while(move |_| {
            let place = (self.bytes.len() - rest.len()) as u32;
            id += varint::take_u64(&mut rest)? as SeriesId;
            let number = varint::take_u64(&mut rest)? as usize;
            let length = varint::take_u64(&mut rest)? as usize;
            let (payload, behind) = rest.split_at_checked(length)?;
            rest = behind;
            let view = match number.checked_sub(1) {
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
            let packed = slots.seal();
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
        let packed = slots.seal();
        let (before, after) = (packed.heap_bytes(), packed.condensed().expect("sound strips").heap_bytes());
        assert!(after < 15_000 && after < before / 3 * 2, "{before} {after}");
    }
}
