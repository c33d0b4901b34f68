//! Delta counters become cumulative ones, so that `rate` and `increase` mean the same for every sender.
//!
//! A sum that is not at hand, after a start, goes on from the last sample that the store has: what is in files is all before what is
//! read back from the journal, so the same deltas give the same sums again. Each sample carries the time from which its sum counts.

use br_model::{Labels, MetricBatch, Sample, SeriesSamples, TenantId, Value};
use br_tsdb::RejectReason;
use hashbrown::HashMap;
use std::collections::BTreeMap;

/// Series that are summed up at once, and the memory of their sums; the samples of further ones are dropped and counted.
const SERIES_MAX: usize = 500_000;
const BYTES_MAX: usize = 256 << 20;
/// Of both a tenant may have three quarters: the others are not shut out by one.
const OF_TENANT: Held = Held { series: SERIES_MAX / 4 * 3, bytes: BYTES_MAX / 4 * 3 };
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
            Value::Histogram(histogram) => histogram.memory_bytes(),
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
    /// For each series of the batch the hash by which a store knows it, where it is new here, or zero.
    pub(crate) fresh: Vec<u128>,
    /// Deltas that are older than what was summed up, are no numbers, or found no room.
    pub(crate) refused: Vec<(RejectReason, u64)>,
    pub(crate) examples: Vec<String>,
}

/// Of what was refused of one request, so much is told.
const EXAMPLES_MAX: usize = 3;

/// What sums take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Held {
    series: usize,
    bytes: usize,
}

impl Held {
    fn is_full(self, most: Self) -> bool {
        self.series >= most.series || self.bytes >= most.bytes
    }
}

/// The sums of all delta series.
#[derive(Default)]
pub(crate) struct Accumulator {
    sums: HashMap<(TenantId, u128), Sum>,
    held: BTreeMap<TenantId, Held>,
    dropped: u64,
}

impl Accumulator {
    /// Turns the deltas of one request into cumulative samples.
    pub(crate) fn accumulate(&mut self, tenant: TenantId, delta: &MetricBatch, late: Late, last: LastSample<'_>) -> Accumulated {
        let mut bytes = Vec::new();
        let mut done = Accumulated::default();
        done.batch.metadata.clone_from(&delta.metadata);
        for series in &delta.series {
            let key = (tenant, series.labels.wire_hash_with(&mut bytes));
            let is_new = !self.sums.contains_key(&key);
            if is_new && self.is_full(tenant) {
                let Held { series: count, bytes } = self.held_by(tenant);
                let bytes = bytes >> 20;
                self.dropped += series.samples.len() as u64;
                done.refuse(RejectReason::SeriesLimit, series.samples.len(), || {
                    format!("{}: there are {count} delta series of {bytes} MiB already", series.labels)
                });
                continue;
            }
            if is_new && let Some(first) = series.samples.first() {
                self.go_on(key, last(&series.labels, first.timestamp_ms));
            }
            let mut samples = Vec::with_capacity(series.samples.len());
            for sample in &series.samples {
                match self.add(key, sample, late) {
                    Added::Sum(sum) => samples.push(sum),
                    Added::Again => {}
                    Added::NoNumber => done.refuse(RejectReason::NoNumber, 1, || {
                        format!("{}: the delta at {} ms is no number", series.labels, sample.timestamp_ms)
                    }),
                    Added::Late(last_ms) => done.refuse(RejectReason::TooOld, 1, || {
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
        // What says no start was not summed up here: another sender writes a counter of that name.
        if let Some(Sample { timestamp_ms: last_ms, value, start_ms: Some(start_ms) }) = stored {
            self.put(key, Sum { value, start_ms, last_ms, last: None });
        }
    }

    fn put(&mut self, key: (TenantId, u128), sum: Sum) {
        self.forget(key.0, key.1);
        let held = self.held.entry(key.0).or_default();
        held.series += 1;
        held.bytes += sum.bytes();
        self.sums.insert(key, sum);
    }

    fn held_by(&self, tenant: TenantId) -> Held {
        self.held.get(&tenant).copied().unwrap_or_default()
    }

    fn is_full(&self, tenant: TenantId) -> bool {
        let all = self
            .held
            .values()
            .fold(Held::default(), |all, held| Held { series: all.series + held.series, bytes: all.bytes + held.bytes });
        all.is_full(Held { series: SERIES_MAX, bytes: BYTES_MAX }) || self.held_by(tenant).is_full(OF_TENANT)
    }

    /// A series that the store does not take needs no sum: it would take the place of one that the store does take.
    pub(crate) fn forget(&mut self, tenant: TenantId, key: u128) {
        if let Some(sum) = self.sums.remove(&(tenant, key)) {
            let held = self.held.entry(tenant).or_default();
            held.series -= 1;
            held.bytes -= sum.bytes();
        }
    }

    fn add(&mut self, key: (TenantId, u128), sample: &Sample, late: Late) -> Added {
        let (mut at_ms, delta) = (sample.timestamp_ms, &sample.value);
        if delta.is_stale() {
            // It says that there is nothing to add. The sum goes on behind it.
            return Added::Sum(sample.clone());
        }
        if is_no_number(delta) {
            return Added::NoNumber;
        }
        let told = |at_ms, value: &Value, start_ms| {
            Added::Sum(Sample { timestamp_ms: at_ms, value: value.clone(), start_ms: Some(start_ms) })
        };
        if late == Late::Moves
            && let Some(sum) = self.sums.get(&key)
        {
            at_ms = at_ms.max(sum.last_ms.saturating_add(1));
        }
        match self.sums.get_mut(&key) {
            Some(sum) if at_ms == sum.last_ms && sum.last.as_ref().is_none_or(|last| last == delta) => Added::Again,
            // Added now it would count for a time that was told already.
            Some(sum) if at_ms <= sum.last_ms => Added::Late(sum.last_ms),
            Some(sum) if at_ms - sum.last_ms <= IDLE_MS_MAX => {
                let before = sum.bytes();
                sum.value = plus(&sum.value, delta);
                (sum.last_ms, sum.last) = (at_ms, Some(delta.clone()));
                let held = self.held.entry(key.0).or_default();
                held.bytes = held.bytes + sum.bytes() - before;
                told(at_ms, &sum.value, sum.start_ms)
            }
            _ => {
                let start_ms = sample.start_ms.unwrap_or(at_ms);
                self.put(key, Sum { value: delta.clone(), start_ms, last_ms: at_ms, last: Some(delta.clone()) });
                told(at_ms, delta, start_ms)
            }
        }
    }

    /// Forgets series that have been idle for long.
    pub(crate) fn forget_idle(&mut self, now_ms: i64) {
        self.sums.retain(|_, sum| now_ms - sum.last_ms <= IDLE_MS_MAX);
        self.held.clear();
        for ((tenant, _), sum) in &self.sums {
            let held = self.held.entry(*tenant).or_default();
            held.series += 1;
            held.bytes += sum.bytes();
        }
    }

    /// Samples that found no room since this was asked last.
    pub(crate) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }
}

/// What becomes of a delta that is not newer than the sum of its series.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Late {
    /// Its sender hears of it.
    Refused,
    /// It was counted here: it comes right behind the sum, whatever the clock does.
    Moves,
}

enum Added {
    Sum(Sample),
    Again,
    /// It would leave none of the sum either.
    NoNumber,
    /// With the time up to which there is a sum.
    Late(i64),
}

impl Accumulated {
    fn refuse(&mut self, reason: RejectReason, count: usize, example: impl FnOnce() -> String) {
        match self.refused.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, all)) => *all += count as u64,
            None => self.refused.push((reason, count as u64)),
        }
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(example());
        }
    }

    pub(crate) fn refused_count(&self) -> u64 {
        self.refused.iter().map(|(_, count)| count).sum()
    }
}

fn is_no_number(delta: &Value) -> bool {
    match delta {
        Value::Float(value) => value.is_nan(),
        Value::Histogram(histogram) => histogram.count.is_nan(),
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
            let done = accumulator.accumulate(TenantId(1), &batch(at, value), Late::Refused, &|_, _| None);
            assert_eq!(done.refused_count(), 0);
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
        let mut add = |at, value| accumulator.accumulate(TenantId(1), &batch(at, value), Late::Refused, &|_, _| None);
        assert_eq!(add(200, 3.0).fresh.len(), 1);
        for (at, value) in [(150, 1.0), (200, 4.0)] {
            let late = add(at, value);
            assert_eq!((late.refused_count(), late.batch.series[0].samples.len(), late.fresh[0]), (1, 0, 0));
            assert!(late.examples[0].contains("not newer than the one at 200 ms"), "{:?}", late.examples);
        }
    }
    #[test]
    fn a_sum_goes_on_from_what_the_store_has() {
        let mut accumulator = Accumulator::default();
        let stored = |_: &Labels, at_ms: i64| {
            (at_ms < 1000).then_some(Sample { timestamp_ms: 150, value: Value::Float(7.0), start_ms: Some(20) })
        };
        let mut add = |at, value| accumulator.accumulate(TenantId(1), &batch(at, value), Late::Refused, &stored);
        let late = add(140, 1.0);
        assert_eq!((late.refused_count(), late.batch.series[0].samples.len()), (1, 0), "it is in the store's sum");
        let again = add(150, 3.0);
        assert_eq!(
            (again.refused_count(), again.batch.series[0].samples.len()),
            (0, 0),
            "a sender whose answer got lost tries again"
        );
        let next = &add(200, 3.0).batch.series[0].samples[0];
        assert_eq!((&next.value, next.start_ms), (&Value::Float(10.0), Some(20)));
        accumulator.forget_idle(i64::MAX);
        assert!(accumulator.held.is_empty());
    }

    #[test]
    fn sums_take_a_bounded_place() {
        let full = |tenant: u32| BTreeMap::from([(TenantId(tenant), OF_TENANT)]);
        let mut accumulator = Accumulator { held: full(1), ..Accumulator::default() };
        let refused = accumulator.accumulate(TenantId(1), &batch(100, 1.0), Late::Refused, &|_, _| None);
        assert_eq!((refused.refused_count(), accumulator.take_dropped()), (1, 1));
        assert!(refused.examples[0].contains("375000 delta series of 192 MiB already"), "{:?}", refused.examples);
        let other = accumulator.accumulate(TenantId(2), &batch(100, 1.0), Late::Refused, &|_, _| None);
        assert_eq!(other.refused_count(), 0, "one tenant leaves room for others");
    }

    #[test]
    fn a_sum_stays_one() {
        let mut accumulator = Accumulator::default();
        let mut add = |at, value, late| accumulator.accumulate(TenantId(1), &batch(at, value), late, &|_, _| None);
        add(100, 1.0, Late::Refused);
        let marker = add(200, br_model::stale_nan(), Late::Refused);
        assert!(marker.batch.series[0].samples[0].value.is_stale() && marker.refused.is_empty());
        let no_number = add(300, f64::NAN, Late::Refused);
        assert_eq!((no_number.refused_count(), no_number.batch.series[0].samples.len()), (1, 0));
        let moved = add(50, 2.0, Late::Moves);
        let sample = &moved.batch.series[0].samples[0];
        assert_eq!((sample.timestamp_ms, &sample.value), (101, &Value::Float(3.0)));
    }
}
