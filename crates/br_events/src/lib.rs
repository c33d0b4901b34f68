//! The event store: logs and spans as Arrow in memory and Parquet on an object store.
//!
//! One applier appends, in the order of the journal; queries run beside it. A head is sealed at a journal position, written,
//! and published together with the catalog's transaction; until then replay restores it. Files never change: compaction writes
//! new ones, retention drops whole ones, and the catalog says which count (docs/format/event-file.md).

mod attributes;
mod compact;
mod conditions;
mod counters;
mod counts;
mod delta;
mod describe;
mod equals;
mod erase;
mod erasure;
mod error_json;
mod file;
mod filter;
mod found;
mod functions;
mod helpers;
mod json;
mod keys;
mod line_tests;
mod log_groups;
mod log_rows;
mod log_source;
mod logs_codec;
mod mask;
mod merge;
mod numbers;
mod object;
mod options;
mod order;
mod origin;
mod page_terms;
mod parts;
mod promote;
mod records;
mod retention;
mod schema;
mod sealed;
mod selection;
mod span_source;
mod spans_codec;
mod sql_columns;
mod sql_filters;
mod sql_scan;
mod sql_views;
mod store;
mod stored;
mod summary;
mod table;
mod terms;
mod traces;
mod writer;

pub use compact::Compaction;
pub use counters::{Damage, EventCounters};
pub use delta::{DeltaTable, log_folder};
pub use erase::Remains;
pub use erasure::{Erased, Erasure, LogTest};
pub use found::describe;
pub use functions::{sql_functions, sql_rewrites};
pub use options::{ATTRIBUTES_MAX, EventOptions, RecordLimits};
pub use records::StoredLog;
pub use retention::{EventRule, EventRules, ResourceRules};
pub use sealed::SealedEvents;
pub use store::EventStore;
pub use summary::FileStats;

#[cfg(test)]
mod round_trip_tests;
