//! Sliding windows over one series, in constant time per sample: each pane is summed once, and windows are put together
//! from panes by the two-stack method, which needs no subtraction and so loses no precision.

use crate::ast::RangeOp;
use std::collections::VecDeque;

/// A sum over samples in time order; sums of neighbours can be joined.
#[derive(Clone, Copy, Debug)]
pub(super) struct Partial {
    count: f64,
    sum: f64,
    min: f64,
    max: f64,
    first: (i64, f64),
    last: (i64, f64),
    /// Of squared distances from the mean.
    spread: f64,
    /// What a counter lost at its resets.
    resets: f64,
}

impl Partial {
    pub(super) fn one(time: i64, value: f64) -> Self {
        Self {
            count: 1.0,
            sum: value,
            min: value,
            max: value,
            first: (time, value),
            last: (time, value),
            spread: 0.0,
            resets: 0.0,
        }
    }

    /// `self` comes before `later`.
    fn join(self, later: Self) -> Self {
        let count = self.count + later.count;
        let distance = later.sum / later.count - self.sum / self.count;
        let reset = if later.first.1 < self.last.1 { self.last.1 } else { 0.0 };
        Self {
            count,
            sum: self.sum + later.sum,
            min: if self.min.is_nan() || later.min < self.min { later.min } else { self.min },
            max: if self.max.is_nan() || later.max > self.max { later.max } else { self.max },
            first: self.first,
            last: later.last,
            spread: self.spread + later.spread + distance * distance * self.count * later.count / count,
            resets: self.resets + later.resets + reset,
        }
    }

    /// With one sample more. Where it is not the last, only resets of a counter come out wrong.
    pub(super) fn with(self, time: i64, value: f64) -> Self {
        let one = Self::one(time, value);
        if time >= self.last.0 {
            return self.join(one);
        }
        let first = if time < self.first.0 { one.first } else { self.first };
        Self { first, last: self.last, ..one.join(self) }
    }

    /// With more samples, of which only the number and the sum are asked for.
    pub(super) fn with_sum(self, value: f64) -> Self {
        Self { count: self.count + 1.0, sum: self.sum + value, ..self }
    }

    /// Both, whose times may overlap: then only resets of a counter come out wrong.
    pub(super) fn merge(self, other: Self) -> Self {
        let first = if other.first.0 < self.first.0 { other.first } else { self.first };
        let last = if other.last.0 >= self.last.0 { other.last } else { self.last };
        let joined = if other.last.0 < self.first.0 { other.join(self) } else { self.join(other) };
        Self { first, last, ..joined }
    }

    /// `start` and `end` are those of the window, in nanoseconds.
    pub(super) fn value(&self, op: RangeOp, start: i64, end: i64) -> f64 {
        let seconds = (end - start) as f64 / 1e9;
        match op {
            RangeOp::Rate | RangeOp::BytesRate => self.sum / seconds,
            RangeOp::RateCounter => self.counter_rate(start, end),
            RangeOp::CountOverTime | RangeOp::BytesOverTime | RangeOp::SumOverTime => self.sum,
            RangeOp::AbsentOverTime => 1.0,
            RangeOp::AvgOverTime => self.sum / self.count,
            RangeOp::MinOverTime => self.min,
            RangeOp::MaxOverTime => self.max,
            RangeOp::FirstOverTime => self.first.1,
            RangeOp::LastOverTime => self.last.1,
            RangeOp::StdvarOverTime => self.spread / self.count,
            RangeOp::StddevOverTime => (self.spread / self.count).sqrt(),
            RangeOp::QuantileOverTime => f64::NAN,
        }
    }

    /// Increase per second, stretched to the window's ends as Prometheus does it.
    fn counter_rate(&self, start: i64, end: i64) -> f64 {
        if self.count < 2.0 {
            return 0.0;
        }
        let seconds = |from: i64, to: i64| (to - from) as f64 / 1e9;
        let increase = self.last.1 - self.first.1 + self.resets;
        let sampled = seconds(self.first.0, self.last.0);
        if sampled <= 0.0 {
            return 0.0;
        }
        let between = sampled / (self.count - 1.0);
        let (mut to_start, mut to_end) = (seconds(start, self.first.0), seconds(self.last.0, end));
        if increase > 0.0 && self.first.1 >= 0.0 {
            to_start = to_start.min(sampled * (self.first.1 / increase));
        }
        let reach = between * 1.1;
        to_start = if to_start < reach { to_start } else { between / 2.0 };
        to_end = if to_end < reach { to_end } else { between / 2.0 };
        increase * (sampled + to_start + to_end) / sampled / seconds(start, end)
    }
}

struct Pane {
    /// The first step whose window the pane is no longer in.
    expires: usize,
    partial: Partial,
    /// Only for quantiles.
    values: Vec<f64>,
}

/// One series' window.
#[derive(Default)]
pub(super) struct Window {
    /// Older panes: the oldest is last, and each holds the sum from itself to the newest of this stack.
    front: Vec<Pane>,
    back: VecDeque<Pane>,
    back_sum: Option<Partial>,
}

impl Window {
    /// Samples that leave the window together; `values` for quantiles only. They come in time order, so `expires` never falls.
    pub(super) fn push(&mut self, expires: usize, partial: Partial, values: Vec<f64>) {
        self.back_sum = Some(self.back_sum.map_or(partial, |sum| sum.join(partial)));
        match self.back.back_mut().filter(|pane| pane.expires == expires) {
            Some(pane) => {
                pane.partial = pane.partial.join(partial);
                pane.values.extend(values);
            }
            None => self.back.push_back(Pane { expires, partial, values }),
        }
    }

    /// Forgets what is not in the window of `step`.
    pub(super) fn advance(&mut self, step: usize) {
        loop {
            if self.front.is_empty() {
                if self.back.front().is_none_or(|pane| pane.expires > step) {
                    return;
                }
                self.flip();
            }
            while self.front.last().is_some_and(|pane| pane.expires <= step) {
                self.front.pop();
            }
            if !self.front.is_empty() {
                return;
            }
        }
    }

    fn flip(&mut self) {
        let mut sum: Option<Partial> = None;
        while let Some(mut pane) = self.back.pop_back() {
            let joined = sum.map_or(pane.partial, |later| pane.partial.join(later));
            pane.partial = joined;
            sum = Some(joined);
            self.front.push(pane);
        }
        self.back_sum = None;
    }

    pub(super) fn sum(&self) -> Option<Partial> {
        match (self.front.last(), self.back_sum) {
            (Some(front), Some(back)) => Some(front.partial.join(back)),
            (Some(front), None) => Some(front.partial),
            (None, back) => back,
        }
    }

    pub(super) fn values(&self) -> Vec<f64> {
        self.front.iter().rev().chain(&self.back).flat_map(|pane| pane.values.iter().copied()).collect()
    }
}

/// Linear between the two nearest ranks; beyond 0 and 1 an infinity, as Prometheus has it.
pub(super) fn quantile(q: f64, mut values: Vec<f64>) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    values.sort_by(f64::total_cmp);
    let rank = q * (values.len() - 1) as f64;
    let low = rank.floor() as usize;
    let high = (low + 1).min(values.len() - 1);
    let weight = rank - rank.floor();
    if weight == 0.0 { values[low] } else { values[low] * (1.0 - weight) + values[high] * weight }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles() {
        assert_eq!(quantile(0.5, vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(quantile(0.75, vec![1.0, 2.0]), 1.75);
        assert_eq!(quantile(2.0, vec![1.0]), f64::INFINITY);
    }

    #[test]
    fn sums_of_times_that_overlap() {
        let (one, other) = (Partial::one(2, 1.0).with(6, 4.0), Partial::one(1, 2.0).with(5, 9.0));
        for sum in [one.merge(other), other.merge(one)] {
            assert_eq!((sum.count, sum.sum, sum.min, sum.max), (4.0, 16.0, 1.0, 9.0));
            assert_eq!((sum.first, sum.last), ((1, 2.0), (6, 4.0)));
            assert!((sum.spread / sum.count - 9.5).abs() < 1e-9, "the variance of 1, 4, 2, 9");
        }
        let (early, late) = (Partial::one(1, 8.0), Partial::one(2, 3.0));
        for sum in [early.merge(late), late.merge(early)] {
            assert_eq!((sum.first.1, sum.last.1, sum.resets), (8.0, 3.0, 8.0), "a counter that was reset");
        }
    }

    #[test]
    fn samples_of_one_pane_come_in_any_order() {
        let sum = Partial::one(5, 1.0).with(7, 4.0).with(3, 2.0).with(6, 9.0);
        assert_eq!((sum.count, sum.sum, sum.min, sum.max), (4.0, 16.0, 1.0, 9.0));
        assert_eq!((sum.first, sum.last), ((3, 2.0), (7, 4.0)));
        assert!((sum.spread / sum.count - 9.5).abs() < 1e-9, "the variance of 1, 4, 2, 9");
    }

    proptest::proptest! {
        /// Against summing each window anew.
        #[test]
        fn windows_equal_rescans(samples in proptest::collection::vec((0i64..40, -5i32..5), 1..40), width in 1i64..12) {
            let mut samples = samples;
            samples.sort_by_key(|(time, _)| *time);
            let mut window = Window::default();
            let mut next = 0;
            for step in 0..40usize {
                while next < samples.len() && samples[next].0 <= step as i64 {
                    let (time, value) = samples[next];
                    window.push((time + width) as usize, Partial::one(time, f64::from(value)), vec![f64::from(value)]);
                    next += 1;
                }
                window.advance(step);
                let expect: Vec<f64> = samples[..next].iter().filter(|(time, _)| *time > step as i64 - width).map(|(_, value)| f64::from(*value)).collect();
                proptest::prop_assert_eq!(window.values(), expect.clone());
                let sum = window.sum().map(|sum| (sum.sum, sum.min, sum.max, sum.last.1));
                let wanted = (!expect.is_empty()).then(|| (
                    expect.iter().sum::<f64>(),
                    expect.iter().copied().fold(f64::INFINITY, f64::min),
                    expect.iter().copied().fold(f64::NEG_INFINITY, f64::max),
                    expect[expect.len() - 1],
                ));
                proptest::prop_assert_eq!(sum, wanted);
            }
        }
    }
}
