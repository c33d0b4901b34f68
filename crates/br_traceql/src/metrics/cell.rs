//! What falls into one step of one series.

use super::Exemplar;
use crate::ast::MetricOp;
use br_std::Result;
use br_storage::Budget;
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default)]
pub(super) struct Cell {
    count: u64,
    sum: f64,
    min: f64,
    max: f64,
    pub(super) spread: Spread,
    /// The one with the smallest hash: any, and always the same.
    pub(super) exemplar: Option<(u64, Exemplar)>,
}

/// How the numbers of a cell lie.
#[derive(Clone, Debug, Default)]
pub(super) enum Spread {
    #[default]
    None,
    /// All of them, while they are few.
    Few(Vec<f64>),
    /// How many lie between bounds that are a constant factor apart, by the number of the lower bound.
    Many(BTreeMap<i32, u64>),
}

/// More than these are counted by bounds.
const FEW_MAX: usize = 64;
/// Bounds between a number and its double: neighbours are about 2 % apart.
const BOUNDS: f64 = 32.0;
const BUCKET_BYTES: u64 = 32;

impl Cell {
    pub(super) fn add(&mut self, value: f64) {
        self.min = if self.count == 0 { value } else { self.min.min(value) };
        self.max = if self.count == 0 { value } else { self.max.max(value) };
        self.count += 1;
        self.sum += value;
    }

    /// Counts are 0 where no span was, all else is missing there.
    pub(super) fn value(&self, op: MetricOp, seconds: f64) -> Option<f64> {
        let count = self.count as f64;
        match op {
            MetricOp::Rate => Some(count / seconds),
            MetricOp::CountOverTime => Some(count),
            _ if self.count == 0 => None,
            MetricOp::MinOverTime => Some(self.min),
            MetricOp::MaxOverTime => Some(self.max),
            MetricOp::AvgOverTime => Some(self.sum / count),
            MetricOp::SumOverTime => Some(self.sum),
            MetricOp::QuantileOverTime | MetricOp::HistogramOverTime | MetricOp::Compare => None,
        }
    }

    pub(super) fn quantile(&self, q: f64) -> Option<f64> {
        self.spread.quantile(q).map(|value| value.clamp(self.min, self.max))
    }
}

impl Spread {
    /// For quantiles.
    pub(super) fn add(&mut self, value: f64, budget: &Budget) -> Result<()> {
        match self {
            Self::None => {
                budget.charge(FEW_MAX as u64 * 8)?;
                *self = Self::Few(vec![value]);
            }
            Self::Few(values) if values.len() < FEW_MAX => values.push(value),
            Self::Few(values) => {
                let values = std::mem::take(values);
                *self = Self::Many(BTreeMap::new());
                for value in values.into_iter().chain([value]) {
                    self.count(bound_below(value), budget)?;
                }
            }
            Self::Many(_) => self.count(bound_below(value), budget)?,
        }
        Ok(())
    }

    /// For histograms, whose buckets end at powers of two. What is not positive is in none.
    pub(super) fn add_to_bucket(&mut self, value: f64, budget: &Budget) -> Result<()> {
        if value > 0.0 {
            if matches!(self, Self::None) {
                *self = Self::Many(BTreeMap::new());
            }
            self.count(value.log2().ceil() as i32, budget)?;
        }
        Ok(())
    }

    fn count(&mut self, bucket: i32, budget: &Budget) -> Result<()> {
        let Self::Many(buckets) = self else { return Ok(()) };
        if let Some(count) = buckets.get_mut(&bucket) {
            *count += 1;
            return Ok(());
        }
        budget.charge(BUCKET_BYTES)?;
        buckets.insert(bucket, 1);
        Ok(())
    }

    /// Of a histogram the upper bounds of its buckets, with how many are in each.
    pub(super) fn buckets(&self) -> Vec<(f64, u64)> {
        match self {
            Self::Many(buckets) => buckets.iter().map(|(power, count)| (f64::from(*power).exp2(), *count)).collect(),
            Self::None | Self::Few(_) => Vec::new(),
        }
    }

    /// Linear between the two nearest ranks, or between two bounds.
    fn quantile(&self, q: f64) -> Option<f64> {
        match self {
            Self::None => None,
            Self::Few(values) => {
                let mut sorted = values.clone();
                sorted.sort_by(f64::total_cmp);
                let rank = q * sorted.len().checked_sub(1)? as f64;
                let low = *sorted.get(rank.floor() as usize)?;
                let high = *sorted.get(rank.ceil() as usize)?;
                Some(low + (high - low) * (rank - rank.floor()))
            }
            Self::Many(buckets) => {
                let total: u64 = buckets.values().sum();
                let rank = q * total.checked_sub(1)? as f64;
                let mut before = 0.0;
                for (bound, count) in buckets {
                    let count = *count as f64;
                    if rank < before + count {
                        let share = ((rank - before + 0.5) / count).min(1.0);
                        return Some(value_above(f64::from(*bound) + share));
                    }
                    before += count;
                }
                buckets.last_key_value().map(|(bound, _)| value_above(f64::from(*bound) + 1.0))
            }
        }
    }
}

fn bound_below(value: f64) -> i32 {
    if value > 0.0 { (value.log2() * BOUNDS).floor() as i32 } else { i32::MIN }
}

fn value_above(bound: f64) -> f64 {
    if bound < -2000.0 * BOUNDS { 0.0 } else { (bound / BOUNDS).exp2() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_many_are_near_those_of_all() {
        let budget = Budget::unlimited();
        let mut cell = Cell::default();
        let mut values: Vec<f64> = (0..5000u32).map(|at| f64::from(at * 7919 % 5000) * 0.003).collect();
        for value in &values {
            cell.add(*value);
            cell.spread.add(*value, &budget).expect("unlimited");
        }
        assert!(matches!(&cell.spread, Spread::Many(buckets) if buckets.len() < 500));
        values.sort_by(f64::total_cmp);
        for q in [0.01, 0.5, 0.9, 0.99, 1.0] {
            let exact = values[(q * 4999.0) as usize];
            let found = cell.quantile(q).expect("values");
            assert!((found - exact).abs() <= exact * 0.03, "{q}: {found} and {exact}");
        }
        assert_eq!(cell.quantile(0.0), Some(0.0));
        assert_eq!(Cell::default().quantile(0.5), None);
    }
}
