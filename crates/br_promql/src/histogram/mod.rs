//! What can be computed from native histograms: buckets with bounds, sums, differences, quantiles, fractions, trimming.
//!
//! Source: the Prometheus documentation, "Native Histograms" and "Operators".

mod buckets;
mod combine;
mod reset;
mod sparse;
mod statistics;
mod sum;
mod trim;

pub use buckets::{Bucket, buckets, describe};
pub use combine::{Combined, MixedLayout, add, divide, equal, scale, subtract};
pub use reset::is_reset;
pub use sparse::compact;
pub use statistics::{QuantileNote, fraction, quantile, variance};
pub(crate) use sum::HistogramSum;
pub use trim::{Keep, trim};
