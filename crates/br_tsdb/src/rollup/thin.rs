//! Fewer samples that say the same of whole intervals.
//!
//! Of each interval the first and the last sample stay, of floats also the least and the greatest, of histograms those on both
//! sides of a counter reset. They are samples as they came, at their own times. What the others said is in the weights.

use crate::points::{self, START_UNKNOWN};
use br_model::{CounterResetHint, FloatHistogram, Value};
use br_storage::{Points, Values, Weight};
use std::sync::Arc;

/// Samples that were thinned before may be thinned again to a multiple of their interval.
pub(crate) fn thin(samples: &Points, interval_ms: i64) -> Points {
    let times = &samples.timestamps_ms;
    let mut kept: Vec<(usize, Weight)> = Vec::new();
    let mut from = 0;
    while from < times.len() {
        let end_ms = interval_end(times[from], interval_ms);
        let to = from + times[from..].partition_point(|time| *time <= end_ms);
        Interval::of(samples, from, to).thin(&mut kept);
        from = to;
    }
    pick(samples, &kept)
}

/// Intervals end at multiples of their length and hold their end, as the windows of the query language do.
fn interval_end(time_ms: i64, interval_ms: i64) -> i64 {
    time_ms.saturating_add(interval_ms - 1).div_euclid(interval_ms).saturating_mul(interval_ms)
}

/// The samples of one interval that are no staleness markers.
struct Interval<'a> {
    samples: &'a Points,
    live: Vec<usize>,
    /// The marker with which it ends.
    stale: Option<usize>,
}

impl<'a> Interval<'a> {
    fn of(samples: &'a Points, from: usize, to: usize) -> Self {
        let is_stale = |at: &usize| samples.value(*at).is_stale();
        let stale = (from..to).last().filter(is_stale);
        Self { samples, live: (from..to).filter(|at| !is_stale(at)).collect(), stale }
    }

    fn thin(&self, kept: &mut Vec<(usize, Weight)>) {
        let first_kept = kept.len();
        let positions = match (self.floats(), self.histograms()) {
            (Some(floats), _) => telling_floats(&floats),
            (_, Some(histograms)) => self.telling_histograms(&histograms),
            // A series that changes its kind: rare enough to keep all.
            _ => (0..self.live.len()).collect(),
        };
        let mut next = 0;
        for position in positions {
            let gain = self.gain(next, position);
            kept.push((self.live[position], Weight { count: 0.0, sum: 0.0, gain }));
            next = position + 1;
        }
        if kept.len() > first_kept
            && let Some((_, last)) = kept.last_mut()
        {
            (last.count, last.sum) = self.total();
        }
        kept.extend(self.stale.map(|at| (at, Weight { count: 0.0, sum: 0.0, gain: f64::NAN })));
    }

    fn weight(&self, position: usize) -> Weight {
        let at = self.live[position];
        self.samples.weight(at)
    }

    fn total(&self) -> (f64, f64) {
        (0..self.live.len()).map(|at| self.weight(at)).fold((0.0, 0.0), |all, one| (all.0 + one.count, all.1 + one.sum))
    }

    fn floats(&self) -> Option<Vec<f64>> {
        let float = |at: &usize| match self.samples.value(*at) {
            Value::Float(value) => Some(value),
            Value::Histogram(_) => None,
        };
        self.live.iter().map(float).collect()
    }

    fn histograms(&self) -> Option<Vec<Arc<FloatHistogram>>> {
        let histogram = |at: &usize| match self.samples.value(*at) {
            Value::Float(_) => None,
            Value::Histogram(histogram) => Some(histogram),
        };
        self.live.iter().map(histogram).collect()
    }

    fn telling_histograms(&self, histograms: &[Arc<FloatHistogram>]) -> Vec<usize> {
        let is_reset = |at: usize| may_be_reset(&histograms[at], &histograms[at - 1]) || self.starts_anew(at);
        let sides = (1..histograms.len()).filter(|at| is_reset(*at)).flat_map(|at| [at - 1, at]);
        let mut positions: Vec<usize> = sides.chain([0, histograms.len() - 1]).collect();
        positions.sort_unstable();
        positions.dedup();
        positions
    }

    /// Whether the counter behind a sample began after the one before it.
    fn starts_anew(&self, position: usize) -> bool {
        let Some(starts) = &self.samples.starts_ms else { return false };
        let (at, before) = (self.live[position], self.live[position - 1]);
        let (start_ms, times) = (starts[at], &self.samples.timestamps_ms);
        let is_known = start_ms != START_UNKNOWN && start_ms != 0 && start_ms < times[at];
        is_known && (start_ms > times[before] || (start_ms == times[before] && starts[before] < start_ms && starts[before] > 0))
    }

    /// By how much a counter grew from the sample before `from` up to `to`; not known from outside of the interval.
    fn gain(&self, from: usize, to: usize) -> f64 {
        if from == 0 {
            return f64::NAN;
        }
        (from..=to).map(|position| self.gain_of(position)).sum()
    }

    fn gain_of(&self, position: usize) -> f64 {
        let known = self.weight(position).gain;
        if !known.is_nan() {
            return known;
        }
        let value = |position: usize| match self.samples.value(self.live[position]) {
            Value::Float(value) => value,
            Value::Histogram(_) => f64::NAN,
        };
        let (now, before) = (value(position), value(position - 1));
        if now < before || self.starts_anew(position) { now } else { now - before }
    }
}

/// First, last, least and greatest; of equal ones the last, as the query language takes it.
fn telling_floats(floats: &[f64]) -> Vec<usize> {
    let counted = || floats.iter().enumerate().filter(|(_, value)| !value.is_nan());
    let least = counted().min_by(|one, other| one.1.total_cmp(other.1).then(other.0.cmp(&one.0)));
    let greatest = counted().max_by(|one, other| one.1.total_cmp(other.1));
    let ends = [0, floats.len().saturating_sub(1)].into_iter().take(floats.len());
    let mut positions: Vec<usize> = ends.chain(least.map(|(at, _)| at)).chain(greatest.map(|(at, _)| at)).collect();
    positions.sort_unstable();
    positions.dedup();
    positions
}

/// Whether a histogram may be the first one after a counter reset: also where its layout is another one, so that who reads both
/// may compare them by the rules of the query language.
fn may_be_reset(current: &FloatHistogram, before: &FloatHistogram) -> bool {
    let is_same_layout = current.schema == before.schema
        && current.zero_threshold.to_bits() == before.zero_threshold.to_bits()
        && current.positive_spans == before.positive_spans
        && current.negative_spans == before.negative_spans
        && current.custom_values == before.custom_values;
    let buckets = |histogram: &FloatHistogram| {
        let ends = [histogram.count, histogram.zero_count];
        ends.into_iter().chain(histogram.positive_buckets.clone()).chain(histogram.negative_buckets.clone())
    };
    current.counter_reset_hint == CounterResetHint::Reset
        || !is_same_layout
        || buckets(current).zip(buckets(before)).any(|(now, earlier)| now < earlier)
}

fn pick(samples: &Points, kept: &[(usize, Weight)]) -> Points {
    let at = || kept.iter().map(|(at, _)| *at);
    let values = match &samples.values {
        Values::Floats(values) => Values::Floats(at().map(|at| values[at]).collect()),
        Values::Histograms(values) => Values::Histograms(at().map(|at| values[at].clone()).collect()),
        Values::Mixed(values) => points::unmixed(at().map(|at| values[at].clone()).collect()),
    };
    Points {
        timestamps_ms: at().map(|at| samples.timestamps_ms[at]).collect(),
        values,
        starts_ms: samples.starts_ms.as_ref().map(|starts| at().map(|at| starts[at]).collect()),
        weights: Some(kept.iter().map(|(_, weight)| *weight).collect()),
    }
}
