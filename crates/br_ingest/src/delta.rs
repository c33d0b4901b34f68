//! Delta counters become cumulative ones, so that `rate` and `increase` mean the same for every sender.
//!
//! A sum that is not at hand, after a start, goes on from the last sample that the store has: what is in files is all before what is
//! read back from the journal, so the same deltas give the same sums again. Each sample carries the time from which its sum counts.

use br_model::{FloatHistogram, Labels, MetricBatch, Sample, SeriesSamples, TenantId, Value};
use hashbrown::HashMap;

/// Series that are summed up at once, and the memory of their sums; the samples of further ones are dropped and counted.
const SERIES_MAX: usize = 500_000;
const BYTES_MAX: usize = 256 << 20;
/// A series that brings nothing for this long begins anew.
pub(crate) const IDLE_MS_MAX: i64 = 3_600_000;

struct Sum {
    value: Value,
    start_ms: i64,
    last_ms: i64,
    /// The delta that came last: the same one again is a sender's second try. Not known of a sum that the store had, where any other
    /// delta of that time is taken for one.
    last: Option<Value>,
}

impl Sum {
    fn bytes(&self) -> usize {
        let of_histogram = |value: &Value| match value {
            Value::Float(_) => 0,
            Value::Histogram(histogram) => {
                let FloatHistogram { positive_buckets, negative_buckets, custom_values, .. } = &**histogram;
                let numbers = positive_buckets.len() + negative_buckets.len() + custom_values.len();
                size_of::<FloatHistogram>() + numbers * size_of::<f64>()
            }
        };
        SUM_BYTES + of_histogram(&self.value) + self.last.as_ref().map_or(0, of_histogram)
    }
}

/// With its place in the table.
const SUM_BYTES: usize = 2 * size_of::<((TenantId, u128), Sum)>();

/// Gives the sample of a series that the store took last, of the hour before a time and after it.
pub(crate) type LastSample<'s> = &'s dyn Fn(&Labels, i64) -> Option<Sample>;

/// What became of the deltas of one request.
#[derive(Default)]
pub(crate) struct Accumulated {
    pub(crate) batch: MetricBatch,
    /// For each series of the batch its key where it is new here, or zero.
    pub(crate) fresh: Vec<u128>,
    /// Deltas that are older than what was summed up, or found no room.
    pub(crate) refused: u64,
    pub(crate) examples: Vec<String>,
}

/// Of what was refused of one request, so much is told.
const EXAMPLES_MAX: usize = 3;

/// The sums of all delta series.
#[derive(Default)]
pub(crate) struct Accumulator {
    sums: HashMap<(TenantId, u128), Sum>,
    bytes: usize,
    dropped: u64,
}

impl Accumulator {
    /// Turns the deltas of one request into cumulative samples.
    pub(crate) fn accumulate(&mut self, tenant: TenantId, delta: &MetricBatch, last: LastSample<'_>) -> Accumulated {
        let mut done = Accumulated::default();
        done.batch.metadata.clone_from(&delta.metadata);
        for series in &delta.series {
            let key = (tenant, series.labels.hash128());
            let is_new = !self.sums.contains_key(&key);
            if is_new && (self.sums.len() >= SERIES_MAX || self.bytes >= BYTES_MAX) {
                let (count, bytes) = (self.sums.len(), self.bytes >> 20);
                self.dropped += series.samples.len() as u64;
                done.refuse(series.samples.len(), || {
                    format!("{}: there are {count} delta series of {bytes} MiB already", series.labels)
                });
                continue;
            }
            if is_new && let Some(first) = series.samples.first() {
                self.go_on(key, last(&series.labels, first.timestamp_ms));
            }
            let mut samples = Vec::with_capacity(series.samples.len());
            for sample in &series.samples {
                match self.add(key, sample) {
                    Added::Sum(sum) => samples.push(sum),
                    Added::Again => {}
                    Added::Late(last_ms) => done.refuse(1, || {
                        let at_ms = sample.timestamp_ms;
                        format!("{}: the delta at {at_ms} ms is not newer than the one at {last_ms} ms", series.labels)
                    }),
                }
            }
            done.fresh.push(if is_new { key.1 } else { 0 });
            done.batch.series.push(SeriesSamples { labels: series.labels.clone(), samples, exemplars: series.exemplars.clone() });
        }
        done
    }

    fn go_on(&mut self, key: (TenantId, u128), stored: Option<Sample>) {
        if let Some(Sample { timestamp_ms: last_ms, value, start_ms }) = stored {
            self.put(key, Sum { value, start_ms: start_ms.unwrap_or(last_ms), last_ms, last: None });
        }
    }

    fn put(&mut self, key: (TenantId, u128), sum: Sum) {
        self.forget(key.0, key.1);
        self.bytes += sum.bytes();
        self.sums.insert(key, sum);
    }

    /// A series that the store does not take needs no sum: it would take the place of one that the store does take.
    pub(crate) fn forget(&mut self, tenant: TenantId, key: u128) {
        if let Some(sum) = self.sums.remove(&(tenant, key)) {
            self.bytes -= sum.bytes();
        }
    }

    fn add(&mut self, key: (TenantId, u128), sample: &Sample) -> Added {
        let (at_ms, delta) = (sample.timestamp_ms, &sample.value);
        let told =
            |value: &Value, start_ms| Added::Sum(Sample { timestamp_ms: at_ms, value: value.clone(), start_ms: Some(start_ms) });
        match self.sums.get_mut(&key) {
            Some(sum) if at_ms == sum.last_ms && sum.last.as_ref().is_none_or(|last| last == delta) => Added::Again,
            // Added now it would count for a time that was told already.
            Some(sum) if at_ms <= sum.last_ms => Added::Late(sum.last_ms),
            Some(sum) if at_ms - sum.last_ms <= IDLE_MS_MAX => {
                let before = sum.bytes();
                sum.value = plus(&sum.value, delta);
                (sum.last_ms, sum.last) = (at_ms, Some(delta.clone()));
                self.bytes = self.bytes + sum.bytes() - before;
                told(&sum.value, sum.start_ms)
            }
            _ => {
                let start_ms = sample.start_ms.unwrap_or(at_ms);
                self.put(key, Sum { value: delta.clone(), start_ms, last_ms: at_ms, last: Some(delta.clone()) });
                told(delta, start_ms)
            }
        }
    }

    /// Forgets series that have been idle for long.
    pub(crate) fn forget_idle(&mut self, now_ms: i64) {
        self.sums.retain(|_, sum| now_ms - sum.last_ms <= IDLE_MS_MAX);
        self.bytes = self.sums.values().map(Sum::bytes).sum();
    }

    /// Samples that found no room.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }
}

enum Added {
    Sum(Sample),
    Again,
    /// With the time up to which there is a sum.
    Late(i64),
}

impl Accumulated {
    fn refuse(&mut self, count: usize, example: impl FnOnce() -> String) {
        self.refused += count as u64;
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(example());
        }
    }
}

/// A series that changes its kind or its bucket layout begins anew with what came last.
fn plus(sum: &Value, delta: &Value) -> Value {
    match (sum, delta) {
        (Value::Float(sum), Value::Float(delta)) => Value::Float(sum + delta),
        (Value::Histogram(sum), Value::Histogram(delta)) => {
            let added = br_promql::histogram::add(sum, delta);
            added.map_or_else(|_| Value::Histogram(delta.clone()), |added| Value::Histogram(added.histogram.into()))
        }
        (_, delta) => delta.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use br_model::Labels;

    fn batch(timestamp_ms: i64, value: f64) -> MetricBatch {
        let sample = Sample { timestamp_ms, value: Value::Float(value), start_ms: Some(timestamp_ms - 10) };
        let series =
            SeriesSamples { labels: Labels::from_pairs([("__name__", "x")]), samples: vec![sample], exemplars: Vec::new() };
        MetricBatch { series: vec![series], metadata: Vec::new() }
    }

    #[test]
    fn deltas_add_up_once() {
        let mut accumulator = Accumulator::default();
        let mut add = |at, value| {
            let done = accumulator.accumulate(TenantId(1), &batch(at, value), &|_, _| None);
            assert_eq!(done.refused, 0);
            done.batch.series[0].samples.clone()
        };
        let value = |sample: &Sample| (sample.value.clone(), sample.start_ms);
        assert_eq!(value(&add(100, 2.0)[0]), (Value::Float(2.0), Some(90)));
        assert_eq!(value(&add(200, 3.0)[0]), (Value::Float(5.0), Some(90)));
        assert!(add(200, 3.0).is_empty(), "a sender that tries again is not counted twice");
        assert_eq!(value(&add(200 + IDLE_MS_MAX + 1, 1.0)[0]).0, Value::Float(1.0), "after a long pause the sum begins anew");
    }

    #[test]
    fn a_delta_that_comes_too_late_is_told() {
        let mut accumulator = Accumulator::default();
        let mut add = |at, value| accumulator.accumulate(TenantId(1), &batch(at, value), &|_, _| None);
        assert_eq!(add(200, 3.0).fresh.len(), 1);
        for (at, value) in [(150, 1.0), (200, 4.0)] {
            let late = add(at, value);
            assert_eq!((late.refused, late.batch.series[0].samples.len(), late.fresh[0]), (1, 0, 0));
            assert!(late.examples[0].contains("not newer than the one at 200 ms"), "{:?}", late.examples);
        }
    }
    #[test]
    fn a_sum_goes_on_from_what_the_store_has() {
        let mut accumulator = Accumulator::default();
        let stored = |_: &Labels, at_ms: i64| {
            (at_ms < 1000).then_some(Sample { timestamp_ms: 150, value: Value::Float(7.0), start_ms: Some(20) })
        };
        let mut add = |at, value| accumulator.accumulate(TenantId(1), &batch(at, value), &stored);
        let late = add(140, 1.0);
        assert_eq!((late.refused, late.batch.series[0].samples.len()), (1, 0), "it is in the store's sum");
        let again = add(150, 3.0);
        assert_eq!((again.refused, again.batch.series[0].samples.len()), (0, 0), "a sender whose answer got lost tries again");
        let next = &add(200, 3.0).batch.series[0].samples[0];
        assert_eq!((&next.value, next.start_ms), (&Value::Float(10.0), Some(20)));
        accumulator.forget_idle(i64::MAX);
        assert_eq!(accumulator.bytes, 0);
    }

    #[test]
    fn sums_take_a_bounded_place() {
        let mut accumulator = Accumulator { bytes: BYTES_MAX, ..Accumulator::default() };
        let refused = accumulator.accumulate(TenantId(1), &batch(100, 1.0), &|_, _| None);
        assert_eq!((refused.refused, accumulator.dropped()), (1, 1));
        assert!(refused.examples[0].contains("256 MiB already"), "{:?}", refused.examples);
    }
}
