//! Delta counters become cumulative ones, so that `rate` and `increase` mean the same for every sender.
//!
//! The sums begin anew after a restart, which reads as a counter reset; each sample carries the time from which its sum counts.

use br_model::{MetricBatch, Sample, SeriesSamples, TenantId, Value};
use hashbrown::HashMap;

/// Series that are summed up at once; the samples of further ones are dropped and counted.
const SERIES_MAX: usize = 500_000;
/// A series that brings nothing for this long begins anew.
const IDLE_MS_MAX: i64 = 3_600_000;

struct Sum {
    value: Value,
    start_ms: i64,
    last_ms: i64,
    /// The delta that came last: the same one again is a sender's second try.
    last: Value,
}

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
    dropped: u64,
}

impl Accumulator {
    /// Turns the deltas of one request into cumulative samples.
    pub(crate) fn accumulate(&mut self, tenant: TenantId, delta: &MetricBatch) -> Accumulated {
        let mut done = Accumulated::default();
        done.batch.metadata.clone_from(&delta.metadata);
        for series in &delta.series {
            let key = (tenant, series.labels.hash128());
            let is_new = !self.sums.contains_key(&key);
            if is_new && self.sums.len() >= SERIES_MAX {
                self.dropped += series.samples.len() as u64;
                done.refuse(series.samples.len(), || format!("{}: there are {SERIES_MAX} delta series already", series.labels));
                continue;
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

    /// A series that the store does not take needs no sum: it would take the place of one that the store does take.
    pub(crate) fn forget(&mut self, tenant: TenantId, key: u128) {
        self.sums.remove(&(tenant, key));
    }

    fn add(&mut self, key: (TenantId, u128), sample: &Sample) -> Added {
        let start_ms = sample.start_ms.unwrap_or(sample.timestamp_ms);
        let sum = match self.sums.get_mut(&key) {
            Some(sum) if sample.timestamp_ms == sum.last_ms && sample.value == sum.last => return Added::Again,
            // Added now it would count for a time that was told already.
            Some(sum) if sample.timestamp_ms <= sum.last_ms => return Added::Late(sum.last_ms),
            Some(sum) if sample.timestamp_ms - sum.last_ms <= IDLE_MS_MAX => {
                sum.value = plus(&sum.value, &sample.value);
                (sum.last_ms, sum.last) = (sample.timestamp_ms, sample.value.clone());
                sum
            }
            _ => {
                let (value, last) = (sample.value.clone(), sample.value.clone());
                self.sums.entry(key).insert(Sum { value, start_ms, last_ms: sample.timestamp_ms, last }).into_mut()
            }
        };
        Added::Sum(Sample { timestamp_ms: sample.timestamp_ms, value: sum.value.clone(), start_ms: Some(sum.start_ms) })
    }

    /// Forgets series that have been idle for long.
    pub(crate) fn forget_idle(&mut self, now_ms: i64) {
        self.sums.retain(|_, sum| now_ms - sum.last_ms <= IDLE_MS_MAX);
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
            let done = accumulator.accumulate(TenantId(1), &batch(at, value));
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
        let mut add = |at, value| accumulator.accumulate(TenantId(1), &batch(at, value));
        assert_eq!(add(200, 3.0).fresh.len(), 1);
        for (at, value) in [(150, 1.0), (200, 4.0)] {
            let late = add(at, value);
            assert_eq!((late.refused, late.batch.series[0].samples.len(), late.fresh[0]), (1, 0, 0));
            assert!(late.examples[0].contains("not newer than the one at 200 ms"), "{:?}", late.examples);
        }
    }
}
