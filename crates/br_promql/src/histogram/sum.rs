//! A running sum of histograms with compensation in every bucket.

use super::combine::{MixedLayout, merge_hints};
use super::sparse;
use crate::kahan::Kahan;
use br_model::{CounterResetHint, FloatHistogram};

/// Sums histograms of different resolution, zero buckets and custom bounds: the result has the coarsest that suits all.
#[derive(Clone, Debug)]
pub(crate) struct HistogramSum {
    schema: i32,
    zero_threshold: f64,
    zero_count: Kahan,
    count: Kahan,
    sum: Kahan,
    positive: Vec<(i32, Kahan)>,
    negative: Vec<(i32, Kahan)>,
    custom_values: Vec<f64>,
    hint: CounterResetHint,
    pub(crate) bounds_reconciled: bool,
    pub(crate) hints_conflict: bool,
}

impl HistogramSum {
    pub(crate) fn new(first: &FloatHistogram) -> Self {
        let side = |side: sparse::Side| side.into_iter().map(|(index, count)| (index, Kahan::new(count))).collect();
        Self {
            schema: first.schema,
            zero_threshold: first.zero_threshold,
            zero_count: Kahan::new(first.zero_count),
            count: Kahan::new(first.count),
            sum: Kahan::new(first.sum),
            positive: side(sparse::positive(first)),
            negative: side(sparse::negative(first)),
            custom_values: first.custom_values.clone(),
            hint: first.counter_reset_hint,
            bounds_reconciled: false,
            hints_conflict: false,
        }
    }

    fn uses_custom_buckets(&self) -> bool {
        self.schema == br_model::histogram::CUSTOM_BUCKETS_SCHEMA
    }

    pub(crate) fn add(&mut self, other: &FloatHistogram) -> Result<(), MixedLayout> {
        self.add_scaled(other, 1.0)
    }

    /// Adds `factor × other`.
    pub(crate) fn add_scaled(&mut self, other: &FloatHistogram, factor: f64) -> Result<(), MixedLayout> {
        if self.uses_custom_buckets() != other.uses_custom_buckets() {
            return Err(MixedLayout);
        }
        let (hint, conflict) = merge_hints(self.hint, other.counter_reset_hint);
        self.hint = hint;
        self.hints_conflict |= conflict;
        let mut positive = sparse::positive(other);
        let mut negative = sparse::negative(other);
        let mut other_zero_count = other.zero_count;
        if self.uses_custom_buckets() {
            self.reconcile_bounds(other, &mut positive);
        } else {
            let threshold = self.reconcile_zero(other, &mut other_zero_count, &mut positive, &mut negative);
            self.zero_threshold = threshold;
            self.reconcile_schema(other.schema, &mut positive, &mut negative);
        }
        self.zero_count.add(other_zero_count * factor);
        self.count.add(other.count * factor);
        self.sum.add(other.sum * factor);
        merge(&mut self.positive, &positive, factor);
        merge(&mut self.negative, &negative, factor);
        Ok(())
    }

    /// Both sides get the bounds that they share.
    fn reconcile_bounds(&mut self, other: &FloatHistogram, positive: &mut sparse::Side) {
        if self.custom_values == other.custom_values {
            return;
        }
        self.bounds_reconciled = true;
        let shared = shared_bounds(&self.custom_values, &other.custom_values);
        let mut mine = Vec::with_capacity(self.positive.len());
        for (index, count) in std::mem::take(&mut self.positive) {
            push_compensated(&mut mine, rebound(index, &self.custom_values, &shared), count);
        }
        self.positive = mine;
        *positive = rebound_side(positive, &other.custom_values, &shared);
        self.custom_values = shared;
    }

    /// Widens the narrower zero bucket until both agree; gives the width. Buckets that fall into it are counted there.
    fn reconcile_zero(
        &mut self,
        other: &FloatHistogram,
        other_count: &mut f64,
        positive: &mut sparse::Side,
        negative: &mut sparse::Side,
    ) -> f64 {
        let mut mine = self.zero_threshold;
        let mut theirs = other.zero_threshold;
        // Each round swallows at least one bucket, so that this ends.
        while mine != theirs {
            if mine < theirs {
                mine = self.widen_zero(theirs);
            } else {
                theirs = widen_zero(other.schema, mine, other_count, positive, negative);
            }
        }
        mine
    }

    fn widen_zero(&mut self, threshold: f64) -> f64 {
        let mut reached = threshold;
        for side in [&mut self.positive, &mut self.negative] {
            while let Some((index, count)) = side.first().copied() {
                let lower = sparse::exponential_bound(index.saturating_sub(1), self.schema);
                if lower >= reached {
                    break;
                }
                self.zero_count.add(count.sum);
                self.zero_count.compensation += count.compensation;
                if count.sum != 0.0 {
                    reached = reached.max(sparse::exponential_bound(index, self.schema));
                }
                side.remove(0);
            }
        }
        self.zero_threshold = reached;
        if reached > threshold { self.widen_zero(reached) } else { reached }
    }

    fn reconcile_schema(&mut self, other: i32, positive: &mut sparse::Side, negative: &mut sparse::Side) {
        let target = self.schema.min(other);
        if self.schema != target {
            for side in [&mut self.positive, &mut self.negative] {
                let mut coarse = Vec::with_capacity(side.len());
                for (index, count) in std::mem::take(side) {
                    push_compensated(&mut coarse, sparse::coarser_index(index, self.schema, target), count);
                }
                *side = coarse;
            }
            self.schema = target;
        }
        if other != target {
            *positive = coarsen(positive, other, target);
            *negative = coarsen(negative, other, target);
        }
    }

    pub(crate) fn scale(&mut self, factor: f64) {
        self.zero_count.scale(factor);
        self.count.scale(factor);
        self.sum.scale(factor);
        for (_, count) in self.positive.iter_mut().chain(&mut self.negative) {
            count.scale(factor);
        }
    }

    /// Whether a field has become infinite.
    pub(crate) fn overflowed(&self) -> bool {
        let fields = [self.zero_count, self.count, self.sum];
        let buckets = self.positive.iter().chain(&self.negative).map(|(_, count)| *count);
        fields.into_iter().chain(buckets).any(|value| value.sum.is_infinite())
    }

    /// The sum with its compensation.
    pub(crate) fn value(&self) -> FloatHistogram {
        self.finish(Kahan::value)
    }

    /// The sum as plain addition would give it.
    pub(crate) fn plain(&self) -> FloatHistogram {
        self.finish(|field| field.sum)
    }

    fn finish(&self, read: impl Fn(Kahan) -> f64) -> FloatHistogram {
        let side = |side: &[(i32, Kahan)]| side.iter().map(|(index, count)| (*index, read(*count))).collect::<sparse::Side>();
        let mut histogram = FloatHistogram {
            counter_reset_hint: self.hint,
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            zero_count: read(self.zero_count),
            count: read(self.count),
            sum: read(self.sum),
            custom_values: self.custom_values.clone(),
            ..FloatHistogram::default()
        };
        sparse::set_sides(&mut histogram, &side(&self.positive), &side(&self.negative));
        histogram
    }
}

/// Merges counts into compensated ones; both are sorted.
fn merge(into: &mut Vec<(i32, Kahan)>, from: &[(i32, f64)], factor: f64) {
    let mut merged = Vec::with_capacity(into.len() + from.len());
    let mut mine = std::mem::take(into).into_iter().peekable();
    for (index, count) in from {
        while let Some(entry) = mine.next_if(|entry| entry.0 < *index) {
            merged.push(entry);
        }
        let mut entry = mine.next_if(|entry| entry.0 == *index).unwrap_or((*index, Kahan::default()));
        entry.1.add(count * factor);
        merged.push(entry);
    }
    merged.extend(mine);
    *into = merged;
}

/// Appends to a side whose last index is not above `index`.
fn push_compensated(side: &mut Vec<(i32, Kahan)>, index: i32, count: Kahan) {
    match side.last_mut() {
        Some((last, total)) if *last == index => {
            total.add(count.sum);
            total.compensation += count.compensation;
        }
        _ => side.push((index, count)),
    }
}

fn push_plain(side: &mut sparse::Side, index: i32, count: f64) {
    match side.last_mut() {
        Some((last, total)) if *last == index => *total += count,
        _ => side.push((index, count)),
    }
}

pub(super) fn coarsen(side: &[(i32, f64)], schema: i32, target: i32) -> sparse::Side {
    let mut coarse = sparse::Side::with_capacity(side.len());
    for (index, count) in side {
        push_plain(&mut coarse, sparse::coarser_index(*index, schema, target), *count);
    }
    coarse
}

/// Takes the buckets that lie below `threshold` into the zero bucket; a bucket that straddles it widens it. Gives the width.
pub(super) fn widen_zero(
    schema: i32,
    threshold: f64,
    zero_count: &mut f64,
    positive: &mut sparse::Side,
    negative: &mut sparse::Side,
) -> f64 {
    let mut reached = threshold;
    for side in [&mut *positive, &mut *negative] {
        let mut swallowed = 0;
        for (index, count) in side.iter() {
            if sparse::exponential_bound(index.saturating_sub(1), schema) >= reached {
                break;
            }
            *zero_count += count;
            reached = reached.max(sparse::exponential_bound(*index, schema));
            swallowed += 1;
        }
        side.drain(..swallowed);
    }
    if reached > threshold { widen_zero(schema, reached, zero_count, positive, negative) } else { reached }
}

/// Bounds that are in both lists; both are sorted.
pub(super) fn shared_bounds(left: &[f64], right: &[f64]) -> Vec<f64> {
    left.iter().copied().filter(|bound| right.iter().any(|other| other == bound)).collect()
}

/// The index that a bucket of custom bounds `from` has among `to`, which are some of them.
fn rebound(index: i32, from: &[f64], to: &[f64]) -> i32 {
    match usize::try_from(index).ok().and_then(|at| from.get(at)) {
        Some(upper) => to.partition_point(|bound| bound < upper) as i32,
        None => to.len() as i32,
    }
}

pub(super) fn rebound_side(side: &[(i32, f64)], from: &[f64], to: &[f64]) -> sparse::Side {
    let mut rebounded = sparse::Side::with_capacity(side.len());
    for (index, count) in side {
        push_plain(&mut rebounded, rebound(*index, from, to), *count);
    }
    rebounded
}
