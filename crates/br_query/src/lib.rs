//! The front door for queries: one language, one range, limits, a stream of batches.

pub mod sql;

pub mod door;

mod places;

pub mod range_cache;
