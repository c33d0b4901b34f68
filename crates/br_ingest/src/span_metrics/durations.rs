//! How long some spans took: a native histogram in the making.

use br_model::{BucketSpan, FloatHistogram};
use std::collections::BTreeMap;

/// Eight buckets between a duration and twice as much: each is 9 % wide.
const SCHEMA: i32 = 3;
const BUCKETS_PER_DOUBLING: f64 = 8.0;

#[derive(Clone, Debug, Default)]
pub(super) struct Durations {
    count: u64,
    /// Of no length, as far as their clock could tell.
    zeros: u64,
    sum_secs: f64,
    buckets: BTreeMap<i32, u64>,
}

impl Durations {
    pub(super) fn observe(&mut self, secs: f64) {
        self.count += 1;
        self.sum_secs += secs;
        if secs > 0.0 {
            *self.buckets.entry((secs.log2() * BUCKETS_PER_DOUBLING).ceil() as i32).or_default() += 1;
        } else {
            self.zeros += 1;
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn histogram(&self) -> FloatHistogram {
        let mut spans: Vec<BucketSpan> = Vec::new();
        // The index behind the last span.
        let mut end = 0;
        for index in self.buckets.keys() {
            match spans.last_mut() {
                Some(last) if *index == end => last.length += 1,
                _ => spans.push(BucketSpan { offset: index - end, length: 1 }),
            }
            end = index + 1;
        }
        FloatHistogram {
            schema: SCHEMA,
            count: self.count as f64,
            sum: self.sum_secs,
            zero_count: self.zeros as f64,
            positive_spans: spans,
            positive_buckets: self.buckets.values().map(|count| *count as f64).collect(),
            ..FloatHistogram::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_lie_in_the_buckets_that_hold_them() {
        let mut durations = Durations::default();
        let all = [0.0, 0.001, 0.004, 0.004, 0.25, 1.0, 1.05, 90.0];
        for secs in all {
            durations.observe(secs);
        }
        let histogram = durations.histogram();
        assert_eq!((histogram.count, histogram.zero_count), (8.0, 1.0));
        let mut index = 0;
        let mut held = Vec::new();
        let mut counts = histogram.positive_buckets.iter();
        for span in &histogram.positive_spans {
            index += span.offset;
            for _ in 0..span.length {
                let (upper, count) = (2f64.powf(f64::from(index) / 8.0), *counts.next().expect("one for each"));
                held.push((upper / 2f64.powf(0.125), upper, count));
                index += 1;
            }
        }
        for secs in all.into_iter().filter(|secs| *secs > 0.0) {
            let holding: Vec<_> = held.iter().filter(|(lower, upper, _)| *lower < secs && secs <= *upper).collect();
            assert_eq!(holding.len(), 1, "{secs} in {held:?}");
        }
        assert_eq!(held.iter().map(|(.., count)| count).sum::<f64>(), 7.0);
    }
}
