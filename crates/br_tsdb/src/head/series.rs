//! The samples of one series since the last flush.

use crate::codec::{CHUNK_SAMPLES_MAX, histograms, strip::Strip};
use crate::outcome::RejectReason;
use crate::points::{self, START_UNKNOWN};
use br_model::{Exemplar, FloatHistogram, Sample, Value};
use br_std::Result;
use br_storage::Points;
use std::sync::Arc;

/// Samples of one series: floats in order in a strip, all that is rarer in a box of its own.
#[derive(Clone, Debug, Default)]
pub(crate) struct OpenSamples {
    strip: Strip,
    rare: Option<Box<Rare>>,
}

#[derive(Clone, Debug, Default)]
struct Rare {
    /// Full strips before the open one, with the times of their first and last sample.
    closed: Vec<(i64, i64, Strip)>,
    /// Changes of the start timestamp of float samples that came in order: from which sample on, and the start.
    starts: Vec<(u32, i64)>,
    histograms: Vec<HistogramSample>,
    /// Sorted by time; none has the time of another sample of this part.
    late: Vec<Sample>,
    exemplars: Vec<Exemplar>,
}

#[derive(Clone, Debug)]
struct HistogramSample {
    timestamp_ms: i64,
    start_ms: i64,
    histogram: Arc<FloatHistogram>,
}

impl OpenSamples {
    pub(crate) fn is_empty(&self) -> bool {
        self.strip.count() == 0 && self.rare.is_none()
    }

    /// The strip, when there is nothing else.
    pub(crate) fn only_strip(&self) -> Option<&Strip> {
        self.rare.is_none().then_some(&self.strip)
    }

    /// Empties the strip; its memory stays for the samples to come.
    pub(crate) fn clear_strip(&mut self) {
        self.strip.clear();
    }

    /// For a series that has gone quiet.
    pub(crate) fn release_memory(&mut self) {
        if self.is_empty() {
            self.strip.take();
        }
    }

    /// Takes all samples away; which was the newest stays known.
    pub(crate) fn take(&mut self) -> Self {
        Self { strip: self.strip.take(), rare: self.rare.take() }
    }

    /// Time of the newest sample that came in order, also when that was taken away; `None` before the first.
    pub(crate) fn newest_ms(&self) -> Option<i64> {
        self.strip.newest_ms()
    }

    /// As if nothing had come yet: the next sample may have any time. What is in here stays.
    pub(crate) fn forget_newest(&mut self) {
        self.close_strip();
        self.strip = Strip::default();
    }

    /// Bits of the newest float, to tell a repeat from a contradiction after its strip was sealed; `None` when it was none or zero.
    pub(crate) fn newest_bits(&self) -> Option<u64> {
        Some(self.strip.newest_bits()).filter(|bits| *bits != 0)
    }

    /// Times of the oldest and of the newest sample, without decoding them; `None` when there are only exemplars.
    pub(crate) fn time_range(&self) -> Option<(i64, i64)> {
        let open = self.strip.time_range();
        let rare = self.rare.iter().flat_map(|rare| {
            let closed = rare.closed.iter().map(|(first, last, _)| (*first, *last));
            let histograms = rare.histograms.first().zip(rare.histograms.last());
            let histograms = histograms.map(|(first, last)| (first.timestamp_ms, last.timestamp_ms));
            let late = rare.late.first().zip(rare.late.last()).map(|(first, last)| (first.timestamp_ms, last.timestamp_ms));
            closed.chain(histograms).chain(late)
        });
        rare.chain(open).reduce(|one, other| (one.0.min(other.0), one.1.max(other.1)))
    }

    /// Appends a sample that is newer than all that came in order before it.
    pub(crate) fn push(&mut self, sample: &Sample) {
        match &sample.value {
            Value::Float(value) => self.push_float(sample.timestamp_ms, *value, sample.start_ms),
            Value::Histogram(histogram) => {
                self.close_strip();
                self.strip.pass(sample.timestamp_ms);
                self.rare().histograms.push(HistogramSample {
                    timestamp_ms: sample.timestamp_ms,
                    start_ms: sample.start_ms.unwrap_or(START_UNKNOWN),
                    histogram: histogram.clone(),
                });
            }
        }
    }

    /// The next sample begins a new strip.
    fn close_strip(&mut self) {
        if self.strip.count() == 0 {
            return;
        }
        let full = self.strip.take();
        if let Some((first, last)) = full.time_range() {
            self.rare().closed.push((first, last, full));
        }
    }

    fn push_float(&mut self, timestamp_ms: i64, value: f64, start_ms: Option<i64>) {
        if self.strip.count() >= CHUNK_SAMPLES_MAX {
            self.close_strip();
        }
        let known = self.rare.as_ref().and_then(|rare| rare.starts.last()).map_or(START_UNKNOWN, |(_, start)| *start);
        let start = start_ms.unwrap_or(START_UNKNOWN);
        if start != known {
            let at = self.float_count() as u32;
            self.rare().starts.push((at, start));
        }
        self.strip.push(timestamp_ms, value);
    }

    fn float_count(&self) -> usize {
        let closed = self.rare.as_ref().map_or(0, |rare| rare.closed.iter().map(|(.., strip)| strip.count()).sum());
        closed + self.strip.count()
    }

    /// The value at a time, if there is one.
    pub(crate) fn find(&self, timestamp_ms: i64) -> Result<Option<Value>> {
        if let Some(value) = find_in(&self.strip, timestamp_ms)? {
            return Ok(Some(value));
        }
        let Some(rare) = &self.rare else { return Ok(None) };
        for (first, last, strip) in &rare.closed {
            if (*first..=*last).contains(&timestamp_ms)
                && let Some(value) = find_in(strip, timestamp_ms)?
            {
                return Ok(Some(value));
            }
        }
        if let Ok(at) = rare.histograms.binary_search_by_key(&timestamp_ms, |sample| sample.timestamp_ms) {
            return Ok(Some(Value::Histogram(rare.histograms[at].histogram.clone())));
        }
        let at = rare.late.binary_search_by_key(&timestamp_ms, |sample| sample.timestamp_ms);
        Ok(at.ok().map(|at| rare.late[at].value.clone()))
    }

    pub(crate) fn late_count(&self) -> usize {
        self.rare.as_ref().map_or(0, |rare| rare.late.len())
    }

    /// Adds a sample whose time is not among those of this part.
    pub(crate) fn insert_late(&mut self, sample: Sample) {
        let late = &mut self.rare().late;
        let at = late.partition_point(|other| other.timestamp_ms < sample.timestamp_ms);
        late.insert(at, sample);
    }

    /// Adds an exemplar: false when it was there already, an error when there are `count_max` others.
    pub(crate) fn add_exemplar(&mut self, exemplar: &Exemplar, count_max: usize) -> Result<bool, RejectReason> {
        let exemplars = &mut self.rare().exemplars;
        let end = exemplars.partition_point(|other| other.timestamp_ms <= exemplar.timestamp_ms);
        let same_time = |other: &&Exemplar| other.timestamp_ms == exemplar.timestamp_ms;
        if exemplars[..end].iter().rev().take_while(same_time).any(|other| other == exemplar) {
            return Ok(false);
        }
        if exemplars.len() >= count_max {
            return Err(RejectReason::ExemplarLimit);
        }
        exemplars.insert(end, exemplar.clone());
        Ok(true)
    }

    pub(crate) fn exemplars(&self) -> &[Exemplar] {
        self.rare.as_ref().map_or(&[], |rare| &rare.exemplars)
    }

    pub(crate) fn sample_count(&self) -> usize {
        self.float_count() + self.rare.as_ref().map_or(0, |rare| rare.histograms.len() + rare.late.len())
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let of_rare = |rare: &Rare| {
            let closed: usize = rare.closed.iter().map(|(.., strip)| strip.heap_bytes() + 72).sum();
            let fixed = size_of::<Rare>() + rare.starts.len() * 16 + rare.late.len() * size_of::<Sample>();
            closed + fixed + rare.histograms.len() * 512 + rare.exemplars.len() * 256
        };
        self.strip.heap_bytes() + self.rare.as_deref().map_or(0, of_rare)
    }

    /// All samples in time order.
    pub(crate) fn points(&self) -> Result<Option<Points>> {
        let (mut timestamps, mut values) = (Vec::new(), Vec::new());
        let closed = self.rare.iter().flat_map(|rare| rare.closed.iter().map(|(.., strip)| strip));
        for strip in closed.chain([&self.strip]) {
            let (times, floats) = strip.decode()?;
            timestamps.extend(times);
            values.extend(floats);
        }
        let starts = self.rare.as_ref().and_then(|rare| float_starts(&rare.starts, timestamps.len()));
        let mut parts = vec![points::floats(timestamps.into(), values, starts)];
        if let Some(rare) = &self.rare {
            parts.push(histogram_points(&rare.histograms));
            parts.extend(late_points(&rare.late));
        }
        Ok(points::merge(parts))
    }

    fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }
}

/// Whether a sender that sends both means the same.
pub(crate) fn is_same_value(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Float(one), Value::Float(other)) => one.to_bits() == other.to_bits(),
        (Value::Histogram(one), Value::Histogram(other)) => {
            one == other || histograms::encode(std::slice::from_ref(one)) == histograms::encode(std::slice::from_ref(other))
        }
        _ => false,
    }
}

fn find_in(strip: &Strip, timestamp_ms: i64) -> Result<Option<Value>> {
    if strip.count() == 0 || strip.newest_ms().is_some_and(|newest| timestamp_ms > newest) {
        return Ok(None);
    }
    let (timestamps, values) = strip.decode()?;
    Ok(timestamps.binary_search(&timestamp_ms).ok().map(|at| Value::Float(values[at])))
}

fn float_starts(changes: &[(u32, i64)], count: usize) -> Option<Vec<i64>> {
    if changes.is_empty() || count == 0 {
        return None;
    }
    let mut starts = vec![START_UNKNOWN; count];
    for (from, start) in changes {
        starts[(*from as usize).min(count)..].fill(*start);
    }
    Some(starts)
}

fn histogram_points(samples: &[HistogramSample]) -> Points {
    let has_starts = samples.iter().any(|sample| sample.start_ms != START_UNKNOWN);
    points::histograms(
        samples.iter().map(|sample| sample.timestamp_ms).collect(),
        samples.iter().map(|sample| sample.histogram.clone()).collect(),
        has_starts.then(|| samples.iter().map(|sample| sample.start_ms).collect()),
    )
}

/// Each late sample as a part of its own kind: floats first, then histograms; their times differ.
fn late_points(samples: &[Sample]) -> [Points; 2] {
    let start = |sample: &Sample| sample.start_ms.unwrap_or(START_UNKNOWN);
    let (mut times, mut floats, mut starts) = (Vec::new(), Vec::new(), Vec::new());
    let mut with_histogram = Vec::new();
    for sample in samples {
        match &sample.value {
            Value::Float(value) => {
                times.push(sample.timestamp_ms);
                floats.push(*value);
                starts.push(start(sample));
            }
            Value::Histogram(histogram) => with_histogram.push(HistogramSample {
                timestamp_ms: sample.timestamp_ms,
                start_ms: start(sample),
                histogram: histogram.clone(),
            }),
        }
    }
    let has_starts = starts.iter().any(|start| *start != START_UNKNOWN);
    [points::floats(times.into(), floats, has_starts.then_some(starts)), histogram_points(&with_histogram)]
}
