//! When rollups may stand in for raw samples, and what their samples then stand for.

use super::context::{Context, Reference};
use super::range_series::RangeSeries;
use br_storage::{Points, RollupUse};

/// How far rollups may be used where the raw samples are still there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SourceResolution {
    /// Where they give the answer of the raw samples.
    #[default]
    Auto,
    /// Up to this interval, also where they give about that answer.
    UpTo { interval_ms: i64 },
    /// Never, not even where the raw samples are gone.
    Raw,
}

/// What a rollup gives of the samples of windows that end where its intervals end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    Exact,
    /// Of floats; not of histograms.
    ExactOfFloats,
    About,
}

impl Fit {
    /// Of a function over a range.
    pub(crate) fn of_function(name: &str) -> Self {
        match name {
            "rate"
            | "increase"
            | "delta"
            | "count_over_time"
            | "present_over_time"
            | "absent_over_time"
            | "min_over_time"
            | "max_over_time"
            | "first_over_time"
            | "last_over_time"
            | "ts_of_first_over_time"
            | "ts_of_last_over_time"
            | "ts_of_min_over_time"
            | "ts_of_max_over_time" => Self::Exact,
            "sum_over_time" | "avg_over_time" => Self::ExactOfFloats,
            _ => Self::About,
        }
    }
}

/// `range_ms` is 0 for instant vectors.
pub(crate) fn rollup_use(context: &Context, reference: Reference, range_ms: i64, fit: Fit) -> RollupUse {
    match (context.options.source_resolution, fit) {
        (SourceResolution::Raw, _) => RollupUse::Never,
        (SourceResolution::UpTo { interval_ms }, _) => RollupUse::UpTo { interval_ms },
        (SourceResolution::Auto, Fit::About) => RollupUse::WhenRawIsGone,
        (SourceResolution::Auto, Fit::Exact | Fit::ExactOfFloats) => {
            let (first_ms, last_ms) = context.reference_bounds(reference);
            let step_ms = if first_ms == last_ms { 0 } else { context.timeline.step_ms };
            let unit_ms = common_divisor(common_divisor(first_ms, step_ms), range_ms);
            if fit == Fit::Exact { RollupUse::Aligned { unit_ms } } else { RollupUse::AlignedFloats { unit_ms } }
        }
    }
}

/// The greatest one; 0 when both are 0.
fn common_divisor(one: i64, other: i64) -> i64 {
    let (mut one, mut other) = (one.saturating_abs(), other.saturating_abs());
    while other != 0 {
        (one, other) = (other, one % other);
    }
    one
}

impl RangeSeries<'_> {
    /// How many raw samples a window stands for.
    pub(crate) fn raw_count(&self, from: usize, to: usize) -> f64 {
        let kept = to.saturating_sub(from) as f64;
        match &self.points.weights {
            // Of an interval that is cut the count may be in another window.
            Some(weights) => weights[from..to].iter().map(|weight| weight.count).sum::<f64>().max(kept.min(2.0)),
            None => kept,
        }
    }

    /// Count and sum of the raw floats that a window stands for; `None` where each sample stands for itself, or for too little.
    pub(crate) fn raw_sum(&self, step: usize) -> Option<(f64, f64)> {
        let (from, to) = self.windows[step];
        let weights = &self.points.weights.as_ref()?[from as usize..to as usize];
        let (count, sum) = weights.iter().fold((0.0, 0.0), |all, one| (all.0 + one.count, all.1 + one.sum));
        (count > 0.0).then_some((count, sum))
    }
}

/// By how much a counter grew from one sample to the next, where a rollup knows it.
pub(crate) fn gain(points: &Points, at: usize) -> Option<f64> {
    points.weights.as_ref().map(|weights| weights[at].gain).filter(|gain| !gain.is_nan())
}

/// Whether a sample is followed by another one of its interval: what was in between was left out, and was no gap.
pub(crate) fn goes_on(points: &Points, at: usize) -> bool {
    points.weights.as_ref().is_some_and(|weights| weights[at].count == 0.0 && at + 1 < weights.len())
}

#[cfg(test)]
mod tests {
    use super::common_divisor;

    #[test]
    fn common_divisors() {
        for (one, other, expect) in [(12, 18, 6), (0, 5, 5), (7, 0, 7), (0, 0, 0), (-300, 60, 60), (i64::MIN, 2, 1)] {
            assert_eq!(common_divisor(one, other), expect, "{one}, {other}");
        }
    }
}
