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
}

/// The sums of all delta series.
#[derive(Default)]
pub(crate) struct Accumulator {
    sums: HashMap<(TenantId, u128), Sum>,
    dropped: u64,
}

impl Accumulator {
    /// Turns the deltas of one request into cumulative samples.
    pub(crate) fn accumulate(&mut self, tenant: TenantId, delta: &MetricBatch) -> MetricBatch {
        let mut batch = MetricBatch { series: Vec::with_capacity(delta.series.len()), metadata: delta.metadata.clone() };
        for series in &delta.series {
            let key = (tenant, series.labels.hash128());
            if !self.sums.contains_key(&key) && self.sums.len() >= SERIES_MAX {
                self.dropped += series.samples.len() as u64;
                continue;
            }
            let samples = series.samples.iter().filter_map(|sample| self.add(key, sample)).collect();
            batch.series.push(SeriesSamples { labels: series.labels.clone(), samples, exemplars: series.exemplars.clone() });
        }
        batch
    }

    /// `None` for a delta that is older than what was summed already: adding it again would count it twice.
    fn add(&mut self, key: (TenantId, u128), sample: &Sample) -> Option<Sample> {
        let start_ms = sample.start_ms.unwrap_or(sample.timestamp_ms);
        let sum = match self.sums.get_mut(&key) {
            Some(sum) if sample.timestamp_ms <= sum.last_ms => return None,
            Some(sum) if sample.timestamp_ms - sum.last_ms <= IDLE_MS_MAX => {
                sum.value = plus(&sum.value, &sample.value);
                sum.last_ms = sample.timestamp_ms;
                sum
            }
            _ => self
                .sums
                .entry(key)
                .insert(Sum { value: sample.value.clone(), start_ms, last_ms: sample.timestamp_ms })
                .into_mut(),
        };
        Some(Sample { timestamp_ms: sample.timestamp_ms, value: sum.value.clone(), start_ms: Some(sum.start_ms) })
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
        let mut add = |at, value| accumulator.accumulate(TenantId(1), &batch(at, value)).series[0].samples.clone();
        let value = |sample: &Sample| (sample.value.clone(), sample.start_ms);
        assert_eq!(value(&add(100, 2.0)[0]), (Value::Float(2.0), Some(90)));
        assert_eq!(value(&add(200, 3.0)[0]), (Value::Float(5.0), Some(90)));
        assert!(add(200, 3.0).is_empty(), "a sender that tries again is not counted twice");
        assert_eq!(value(&add(200 + IDLE_MS_MAX + 1, 1.0)[0]).0, Value::Float(1.0), "after a long pause the sum begins anew");
    }
}
