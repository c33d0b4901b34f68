//! The samples of one series since the last flush, beside the one strip that most have.

use crate::codec::histograms;
use crate::codec::strip::Strip;
use crate::outcome::RejectReason;
use crate::points::{self, START_UNKNOWN};
use br_model::{Exemplar, FloatHistogram, Sample, Value};
use br_std::Result;
use br_storage::Points;
use std::sync::Arc;

/// Samples of one series, taken out of the head or copied: floats in order in a strip, and all that is rarer.
#[derive(Clone, Debug, Default)]
pub(crate) struct OpenSamples {
    pub(super) strip: Strip,
    pub(super) rare: Option<Box<Rare>>,
}

/// What few series have.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rare {
    /// Full strips before the open one.
    pub(super) closed: Vec<Strip>,
    /// Changes of the start timestamp of float samples that came in order: from which sample on, and the start.
    starts: Vec<(u32, i64)>,
    histograms: Vec<HistogramSample>,
    /// Sorted by time; none has the time of another sample of this part.
    late: Vec<Sample>,
    exemplars: Vec<Exemplar>,
    /// What histograms and exemplars take beside their places in here.
    outside_bytes: usize,
}

/// What a name with its value takes beside the bytes of both.
const TEXTS_BYTES: usize = 64;

#[derive(Clone, Debug)]
struct HistogramSample {
    timestamp_ms: i64,
    start_ms: i64,
    histogram: Arc<FloatHistogram>,
}

impl Rare {
    pub(super) fn is_empty(&self) -> bool {
        let has_floats = !self.closed.is_empty() || !self.starts.is_empty();
        !has_floats && self.histograms.is_empty() && self.late.is_empty() && self.exemplars.is_empty()
    }

    /// Times of the oldest and of the newest sample of each kind, unsorted, without decoding them.
    fn time_ranges(&self) -> impl Iterator<Item = (i64, i64)> {
        let closed = self.closed.iter().filter_map(Strip::time_range);
        let histograms = self.histograms.first().zip(self.histograms.last());
        let histograms = histograms.map(|(first, last)| (first.timestamp_ms, last.timestamp_ms));
        let late = self.late.first().zip(self.late.last()).map(|(first, last)| (first.timestamp_ms, last.timestamp_ms));
        closed.chain(histograms).chain(late)
    }

    pub(super) fn push_histogram(&mut self, timestamp_ms: i64, start_ms: Option<i64>, histogram: &Arc<FloatHistogram>) {
        let start_ms = start_ms.unwrap_or(START_UNKNOWN);
        self.outside_bytes += points::histogram_bytes(histogram);
        self.histograms.push(HistogramSample { timestamp_ms, start_ms, histogram: histogram.clone() });
    }

    /// Takes note of the start of the next float in order, which comes after `open_count` ones that are not closed.
    pub(super) fn note_start(&mut self, start_ms: Option<i64>, open_count: usize) {
        let known = self.starts.last().map_or(START_UNKNOWN, |(_, start)| *start);
        let start = start_ms.unwrap_or(START_UNKNOWN);
        if start != known {
            let at = self.closed_count() + open_count;
            self.starts.push((at as u32, start));
        }
    }

    fn closed_count(&self) -> usize {
        self.closed.iter().map(Strip::count).sum()
    }

    /// The value at a time, if there is one.
    pub(super) fn find(&self, timestamp_ms: i64) -> Result<Option<Value>> {
        for strip in &self.closed {
            if strip.time_range().is_some_and(|(first, last)| (first..=last).contains(&timestamp_ms)) {
                let (timestamps, values) = strip.decode()?;
                if let Ok(at) = timestamps.binary_search(&timestamp_ms) {
                    return Ok(Some(Value::Float(values[at])));
                }
            }
        }
        if let Ok(at) = self.histograms.binary_search_by_key(&timestamp_ms, |sample| sample.timestamp_ms) {
            return Ok(Some(Value::Histogram(self.histograms[at].histogram.clone())));
        }
        let at = self.late.binary_search_by_key(&timestamp_ms, |sample| sample.timestamp_ms);
        Ok(at.ok().map(|at| self.late[at].value.clone()))
    }

    pub(super) fn late_count(&self) -> usize {
        self.late.len()
    }

    /// Adds a sample whose time is not among those of this part.
    pub(super) fn insert_late(&mut self, sample: Sample) {
        let at = self.late.partition_point(|other| other.timestamp_ms < sample.timestamp_ms);
        if let Value::Histogram(histogram) = &sample.value {
            self.outside_bytes += points::histogram_bytes(histogram);
        }
        self.late.insert(at, sample);
    }

    /// Adds an exemplar: false when it was there already, an error when there are `count_max` others.
    pub(super) fn add_exemplar(&mut self, exemplar: &Exemplar, count_max: usize) -> Result<bool, RejectReason> {
        let exemplars = &mut self.exemplars;
        let end = exemplars.partition_point(|other| other.timestamp_ms <= exemplar.timestamp_ms);
        let same_time = |other: &&Exemplar| other.timestamp_ms == exemplar.timestamp_ms;
        if exemplars[..end].iter().rev().take_while(same_time).any(|other| other == exemplar) {
            return Ok(false);
        }
        if exemplars.len() >= count_max {
            return Err(RejectReason::ExemplarLimit);
        }
        exemplars.insert(end, exemplar.clone());
        self.outside_bytes += exemplar.labels.iter().map(|(name, value)| name.len() + value.len() + TEXTS_BYTES).sum::<usize>();
        Ok(true)
    }

    /// Samples beside those of the open strip.
    pub(super) fn sample_count(&self) -> usize {
        self.closed_count() + self.histograms.len() + self.late.len()
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let closed: usize = self.closed.iter().map(|strip| size_of::<Strip>() + strip.heap_bytes()).sum();
        let fixed = size_of::<Self>() + self.starts.len() * 16 + self.late.len() * size_of::<Sample>();
        let places = self.histograms.len() * size_of::<HistogramSample>() + self.exemplars.len() * size_of::<Exemplar>();
        closed + fixed + places + self.outside_bytes
    }
}

impl OpenSamples {
    /// The strip, when there is nothing else.
    pub(crate) fn only_strip(&self) -> Option<&Strip> {
        self.rare.is_none().then_some(&self.strip)
    }

    /// Times of the oldest and of the newest sample, without decoding them; `None` when there are only exemplars.
    pub(crate) fn time_range(&self) -> Option<(i64, i64)> {
        range_of(self.strip.time_range(), self.rare.as_deref())
    }

    pub(crate) fn exemplars(&self) -> &[Exemplar] {
        self.rare.as_ref().map_or(&[], |rare| &rare.exemplars)
    }

    pub(crate) fn sample_count(&self) -> usize {
        self.strip.count() + self.rare.as_ref().map_or(0, |rare| rare.sample_count())
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.strip.heap_bytes() + self.rare.as_deref().map_or(0, Rare::heap_bytes)
    }

    /// All samples in time order.
    pub(crate) fn points(&self) -> Result<Option<Points>> {
        let (mut timestamps, mut values) = (Vec::new(), Vec::new());
        let closed = self.rare.iter().flat_map(|rare| &rare.closed);
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
}

/// Times of the oldest and of the newest of a strip and of what else there is.
pub(super) fn range_of(strip: Option<(i64, i64)>, rare: Option<&Rare>) -> Option<(i64, i64)> {
    let rare = rare.into_iter().flat_map(Rare::time_ranges);
    rare.chain(strip).reduce(|one, other| (one.0.min(other.0), one.1.max(other.1)))
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
