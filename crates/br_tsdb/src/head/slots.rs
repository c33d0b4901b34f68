//! The series of a head by number: 32 bytes for each, with the state of its open strip, and its samples in cells.

use super::cells::{CELL_BYTES, Cells, Chain};
use super::paged::Paged;
use super::sealed::SealedSamples;
use super::series::{OpenSamples, Rare, range_of};
use crate::codec::CHUNK_SAMPLES_MAX;
use crate::codec::strip::{self, Strip, StripBase, StripEnd};
use crate::index::{PairsAt, SeriesId};
use crate::outcome::RejectReason;
use br_model::{Exemplar, Sample, Value};
use br_std::Result;
use foldhash::fast::FixedState;
use hashbrown::HashMap;

/// Times in a slot have 48 bits, in milliseconds: four thousand years around 1970. What is beyond is refused.
pub(super) const TIME_MIN_MS: i64 = -TIME_MAX_MS;
pub(super) const TIME_MAX_MS: i64 = (1 << 47) - 1;

/// Before the first sample.
pub(super) const NOTHING_YET: i64 = TIME_MIN_MS - 1;

#[derive(Clone, Copy)]
struct Slot {
    /// Bits of the newest float ever, also when that was taken away; zero when it was no float.
    newest_bits: u64,
    /// Time of the newest sample ever, also when that was taken away: the lower and the upper part of it.
    newest_low: u32,
    newest_high: i16,
    /// Samples in the strip.
    count: u16,
    labels: PairsAt,
    interval_ms: i32,
    last_cell: u32,
    /// Bytes in the last cell; zero when there is none.
    fill: u8,
    idle_flushes: u8,
    has_rare: bool,
    is_used: bool,
}

// The first time of a strip stands in its first cell.
const _: () = assert!(strip::FIRST_TIMESTAMP_BYTES <= CELL_BYTES);
const _: () = assert!(size_of::<Slot>() == 32 && CHUNK_SAMPLES_MAX < u16::MAX as usize, "two slots to a line of memory");

impl Slot {
    fn new(labels: PairsAt) -> Self {
        let mut slot = Self {
            newest_bits: 0,
            newest_low: 0,
            newest_high: 0,
            count: 0,
            labels,
            interval_ms: 0,
            last_cell: 0,
            fill: 0,
            idle_flushes: 0,
            has_rare: false,
            is_used: true,
        };
        slot.set_newest_ms(NOTHING_YET);
        slot
    }

    #[inline]
    fn newest_ms(&self) -> i64 {
        i64::from(self.newest_high) << 32 | i64::from(self.newest_low)
    }

    #[inline]
    fn set_newest_ms(&mut self, timestamp_ms: i64) {
        (self.newest_low, self.newest_high) = (timestamp_ms as u32, (timestamp_ms >> 32) as i16);
    }

    fn chain(&self) -> Chain {
        Chain { last: self.last_cell, fill: self.fill }
    }

    /// The strip begins anew; its cells are the caller's.
    fn empty_strip(&mut self) {
        (self.count, self.fill) = (0, 0);
    }
}

/// A strip in cells.
pub(super) struct PlainStrip<'a> {
    pub(super) count: u32,
    pub(super) length_ms: i64,
    cells: &'a Cells,
    chain: Chain,
}

impl PlainStrip<'_> {
    /// Appends its bytes.
    pub(super) fn copy(&self, out: &mut Vec<u8>) {
        self.cells.copy(self.chain, out);
    }
}

#[derive(Default)]
pub(super) struct Slots {
    /// By [`SeriesId`].
    by_id: Paged<Slot>,
    cells: Cells,
    /// Of the series that have some.
    rare: HashMap<SeriesId, Box<Rare>, FixedState>,
    /// About what the rare samples take.
    rare_bytes: usize,
    /// Of all strips that are in cells.
    base: StripBase,
}

impl Slots {
    /// Numbers that were given out go from zero up to this, without it.
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Gives a number that is free, or the next one, to a series.
    pub(super) fn insert(&mut self, id: SeriesId, labels: PairsAt) {
        match self.by_id.get_mut(id as usize) {
            Some(slot) => *slot = Slot::new(labels),
            None => self.by_id.push(Slot::new(labels)),
        }
    }

    /// The number is free from now on. Of a series that has no samples.
    pub(super) fn remove(&mut self, id: SeriesId) -> Option<PairsAt> {
        let slot = self.by_id.get_mut(id as usize).filter(|slot| slot.is_used)?;
        slot.is_used = false;
        Some(slot.labels)
    }

    #[inline]
    fn slot(&self, id: SeriesId) -> Option<&Slot> {
        self.by_id.get(id as usize).filter(|slot| slot.is_used)
    }

    pub(super) fn labels(&self, id: SeriesId) -> Option<PairsAt> {
        self.slot(id).map(|slot| slot.labels)
    }

    /// All series with where their labels are, which may be changed.
    pub(super) fn labels_mut(&mut self) -> impl Iterator<Item = (SeriesId, &mut PairsAt)> {
        let used = self.by_id.iter_mut().enumerate().filter(|(_, slot)| slot.is_used);
        used.map(|(id, slot)| (id as SeriesId, &mut slot.labels))
    }

    /// Time of the newest sample that came in order, also when that was taken away; [`NOTHING_YET`] before the first, and `None` when
    /// there is no such series.
    #[inline]
    pub(super) fn newest_ms(&self, id: SeriesId) -> Option<i64> {
        self.slot(id).map(Slot::newest_ms)
    }

    /// Whether the newest sample of any series lies between two times, both included.
    pub(super) fn has_newest(&self, from_ms: i64, to_ms: i64) -> bool {
        let range = from_ms.max(TIME_MIN_MS)..=to_ms;
        self.by_id.iter().any(|slot| slot.is_used && range.contains(&slot.newest_ms()))
    }

    /// Bits of the newest float, to tell a repeat from a contradiction after its strip was sealed; `None` when it was none or zero.
    pub(super) fn newest_bits(&self, id: SeriesId) -> Option<u64> {
        self.slot(id).map(|slot| slot.newest_bits).filter(|bits| *bits != 0)
    }

    pub(super) fn is_empty(&self, id: SeriesId) -> bool {
        self.slot(id).is_none_or(|slot| slot.count == 0 && !slot.has_rare)
    }

    /// Appends a sample that is newer than all that came in order before it. False, and nothing is taken, when there is no memory for it.
    #[inline]
    pub(super) fn push(&mut self, id: SeriesId, sample: &Sample) -> bool {
        match &sample.value {
            Value::Float(value) => self.push_float(id, sample.timestamp_ms, *value, sample.start_ms),
            Value::Histogram(histogram) => {
                self.close_strip(id);
                let Some(slot) = self.by_id.get_mut(id as usize) else { return false };
                slot.newest_bits = 0;
                slot.set_newest_ms(sample.timestamp_ms);
                self.change_rare(id, |rare| rare.push_histogram(sample.timestamp_ms, sample.start_ms, histogram));
                true
            }
        }
    }

    #[inline]
    fn push_float(&mut self, id: SeriesId, timestamp_ms: i64, value: f64, start_ms: Option<i64>) -> bool {
        if self.cells.are_used_up() {
            return false;
        }
        let Some(slot) = self.by_id.get_mut(id as usize) else { return false };
        if usize::from(slot.count) >= CHUNK_SAMPLES_MAX || slot.has_rare || start_ms.is_some() {
            self.prepare_rare(id, start_ms);
        }
        if self.cells.is_empty() {
            self.base.from_ms = timestamp_ms;
        }
        let Some(slot) = self.by_id.get_mut(id as usize) else { return false };
        let mut end = StripEnd {
            newest_ms: slot.newest_ms(),
            newest_bits: slot.newest_bits,
            interval_ms: slot.interval_ms,
            count: u32::from(slot.count),
        };
        let encoded = end.push(self.base, timestamp_ms, value);
        let mut chain = slot.chain();
        self.cells.append(&mut chain, encoded.as_slice());
        (slot.last_cell, slot.fill) = (chain.last, chain.fill);
        (slot.newest_bits, slot.interval_ms) = (end.newest_bits, end.interval_ms);
        slot.count = end.count as u16;
        slot.set_newest_ms(timestamp_ms);
        true
    }

    /// Before a float of a series whose strip is full, or that has starts or may have them.
    #[cold]
    fn prepare_rare(&mut self, id: SeriesId, start_ms: Option<i64>) {
        let Some(slot) = self.slot(id) else { return };
        if usize::from(slot.count) >= CHUNK_SAMPLES_MAX {
            self.close_strip(id);
        }
        let Some(slot) = self.slot(id) else { return };
        let (count, has_rare) = (usize::from(slot.count), slot.has_rare);
        if has_rare || start_ms.is_some() {
            self.change_rare(id, |rare| rare.note_start(start_ms, count));
        }
    }

    /// The next sample begins a new strip.
    fn close_strip(&mut self, id: SeriesId) {
        let Some(slot) = self.slot(id).filter(|slot| slot.count > 0).copied() else { return };
        let closed = self.copy_strip(&slot);
        self.cells.release(slot.chain());
        if let Some(slot) = self.by_id.get_mut(id as usize) {
            slot.empty_strip();
        }
        self.change_rare(id, |rare| rare.closed.push(closed));
    }

    fn copy_strip(&self, slot: &Slot) -> Strip {
        let mut bytes = Vec::new();
        self.cells.copy(slot.chain(), &mut bytes);
        Strip { base: self.base, bytes, count: u32::from(slot.count), last_ms: slot.newest_ms() }
    }

    fn rare(&self, id: SeriesId) -> Option<&Rare> {
        self.rare.get(&id).map(|rare| &**rare)
    }

    fn change_rare<T>(&mut self, id: SeriesId, change: impl FnOnce(&mut Rare) -> T) -> T {
        let had_rare = self.slot(id).is_some_and(|slot| slot.has_rare);
        let rare = self.rare.entry(id).or_default();
        let before = if had_rare { rare.heap_bytes() } else { 0 };
        let outcome = change(rare);
        let has_rare = !rare.is_empty();
        let after = if has_rare { rare.heap_bytes() } else { 0 };
        self.rare_bytes = (self.rare_bytes + after).saturating_sub(before);
        if !has_rare {
            self.rare.remove(&id);
        }
        if let Some(slot) = self.by_id.get_mut(id as usize) {
            slot.has_rare = has_rare;
        }
        outcome
    }

    /// The value at a time, if there is one that is not sealed.
    pub(super) fn find(&self, id: SeriesId, timestamp_ms: i64) -> Result<Option<Value>> {
        let Some(slot) = self.slot(id) else { return Ok(None) };
        if slot.count > 0 && timestamp_ms == slot.newest_ms() {
            return Ok(Some(Value::Float(f64::from_bits(slot.newest_bits))));
        }
        if slot.count > 0 && timestamp_ms < slot.newest_ms() {
            let (timestamps, values) = self.copy_strip(slot).decode()?;
            if let Ok(at) = timestamps.binary_search(&timestamp_ms) {
                return Ok(Some(Value::Float(values[at])));
            }
        }
        self.rare(id).map_or(Ok(None), |rare| rare.find(timestamp_ms))
    }

    pub(super) fn late_count(&self, id: SeriesId) -> usize {
        self.rare(id).map_or(0, Rare::late_count)
    }

    /// Adds a sample whose time is not among those that are not sealed.
    pub(super) fn insert_late(&mut self, id: SeriesId, sample: Sample) {
        self.change_rare(id, |rare| rare.insert_late(sample));
    }

    /// Adds an exemplar: false when it was there already, an error when there are `count_max` others.
    pub(super) fn add_exemplar(&mut self, id: SeriesId, exemplar: &Exemplar, count_max: usize) -> Result<bool, RejectReason> {
        self.change_rare(id, |rare| rare.add_exemplar(exemplar, count_max))
    }

    /// As if nothing had come yet: the next sample may have any time. What is in here stays.
    pub(super) fn forget_newest(&mut self, id: SeriesId) {
        self.close_strip(id);
        if let Some(slot) = self.by_id.get_mut(id as usize) {
            slot.newest_bits = 0;
            slot.set_newest_ms(NOTHING_YET);
        }
    }

    /// Times of the oldest and of the newest sample that are not sealed, without decoding them.
    pub(super) fn time_range(&self, id: SeriesId) -> Option<(i64, i64)> {
        let slot = self.slot(id)?;
        let strip = (slot.count > 0).then(|| {
            let first = strip::first_timestamp_ms(self.base, self.cells.first(slot.chain()));
            (first, slot.newest_ms())
        });
        range_of(strip, if slot.has_rare { self.rare(id) } else { None })
    }

    /// What the strips are written against.
    pub(super) fn base(&self) -> StripBase {
        self.base
    }

    /// The strip, when there is one and nothing else.
    pub(super) fn plain(&self, id: SeriesId) -> Option<PlainStrip<'_>> {
        let slot = self.slot(id).filter(|slot| slot.count > 0 && !slot.has_rare)?;
        let chain = slot.chain();
        let first = strip::first_timestamp_ms(self.base, self.cells.first(chain));
        let length_ms = slot.newest_ms().wrapping_sub(first);
        Some(PlainStrip { count: u32::from(slot.count), length_ms, cells: &self.cells, chain })
    }

    /// All samples that are not sealed.
    pub(super) fn copy(&self, id: SeriesId) -> OpenSamples {
        let strip = self.slot(id).filter(|slot| slot.count > 0).map(|slot| self.copy_strip(slot));
        OpenSamples { strip: strip.unwrap_or_default(), rare: self.rare.get(&id).cloned() }
    }

    /// Moves all samples out. Which was the newest of each series stays known.
    pub(super) fn seal(&mut self, counts_as_flush: bool) -> SealedSamples {
        let used = self.by_id.iter().filter(|slot| slot.count > 0).count();
        let mut sealed = SealedSamples::new(self.base, used, self.cells.byte_count());
        let mut usual = Majority::default();
        for at in 0..self.by_id.len() {
            let Some(slot) = self.by_id.get(at).filter(|slot| slot.is_used).copied() else { continue };
            let id = at as SeriesId;
            let is_idle = slot.count == 0 && !slot.has_rare;
            if slot.count > 1 {
                usual.count(slot.interval_ms);
            }
            let is_packed = self.plain(id).is_some_and(|strip| sealed.push_packed(id, &strip));
            if !is_packed && !is_idle {
                sealed.push_whole(id, self.take(id, &slot));
            }
            let Some(slot) = self.by_id.get_mut(at) else { continue };
            slot.empty_strip();
            slot.has_rare = false;
            slot.idle_flushes = if is_idle { slot.idle_flushes.saturating_add(u8::from(counts_as_flush)) } else { 0 };
        }
        sealed.finish();
        self.cells.clear();
        (self.rare, self.rare_bytes) = (HashMap::default(), 0);
        self.base.interval_ms = usual.interval_ms;
        sealed
    }

    fn take(&mut self, id: SeriesId, slot: &Slot) -> OpenSamples {
        let strip = if slot.count > 0 { self.copy_strip(slot) } else { Strip::default() };
        OpenSamples { strip, rare: self.rare.remove(&id) }
    }

    /// Series without samples for more than so many flushes.
    pub(super) fn idle(&self, flushes_max: u8) -> Vec<SeriesId> {
        let is_idle = |slot: &Slot| slot.is_used && slot.idle_flushes > flushes_max && slot.count == 0 && !slot.has_rare;
        let idle = self.by_id.iter().enumerate().filter(|(_, slot)| is_idle(slot));
        idle.map(|(id, _)| id as SeriesId).collect()
    }

    /// Samples that are not sealed.
    pub(super) fn sample_count(&self) -> usize {
        let plain: usize = self.by_id.iter().map(|slot| usize::from(slot.count)).sum();
        plain + self.rare.values().map(|rare| rare.sample_count()).sum::<usize>()
    }

    /// About what the samples take that are not sealed.
    pub(super) fn open_bytes(&self) -> usize {
        self.cells.heap_bytes() + self.rare_bytes
    }

    /// What the series take without their samples.
    pub(super) fn slot_bytes(&self) -> usize {
        self.by_id.heap_bytes()
    }
}

/// The interval that more than half of many have, if there is one: by Boyer and Moore, in one pass.
#[derive(Default)]
struct Majority {
    interval_ms: i32,
    votes: usize,
}

impl Majority {
    fn count(&mut self, interval_ms: i32) {
        if self.votes == 0 {
            self.interval_ms = interval_ms;
        }
        if self.interval_ms == interval_ms {
            self.votes += 1;
        } else {
            self.votes -= 1;
        }
    }
}
