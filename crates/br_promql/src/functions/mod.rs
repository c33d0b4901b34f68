//! The functions: one registry line in [`signature`], one body in a family's file.

mod absent;
pub(crate) mod call;
pub(crate) mod extended;
mod histograms;
mod info;
mod labels;
mod math;
mod over_time;
pub(crate) mod quantile;
mod rate;
pub(crate) mod signature;
mod sort;
mod starts;
mod time;
