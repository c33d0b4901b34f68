//! What runs by itself: flushes, compaction, retention, rules, delivery.

pub mod alerts;
mod delta;
pub mod erasures;
pub mod files;
pub mod flush;
pub mod imports;
pub mod push;
pub mod rescue;
mod snapshot;
pub mod tombstones;
pub mod upkeep;
