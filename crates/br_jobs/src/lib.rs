//! What runs by itself: flushes, compaction, retention, rules, delivery.

pub mod files;
pub mod flush;
pub mod upkeep;
