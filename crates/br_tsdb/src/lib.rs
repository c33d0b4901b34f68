//! The metrics store: head, encoders, Parquet blocks, index.
//!
//! [`Tsdb::append`] is called by one thread in the order of the journal; queries run beside it on any thread.
//! [`Tsdb::seal`] takes what was appended, [`SealedHead::write`] makes files of it, the caller commits these to the catalog,
//! and [`Tsdb::publish`] lets the memory go. What the catalog lists is what counts: objects that it does not list are nothing.
//!
//! Calls that touch files block on the object store and belong on a pool for blocking work.

mod block;
mod changes;
mod codec;
mod compact;
mod deletion;
mod flush;
mod found;
mod head;
mod import;
mod index;
mod mask;
mod options;
mod outcome;
mod parts;
mod plan;
mod points;
mod retention;
mod rewrite;
mod rollup;
mod source;
mod stats;
mod store;
mod symbols;
mod verdicts;

pub use block::stats::BlockStats;
pub use compact::compact;
pub use deletion::{Deletion, Foreseen, Tombstone};
pub use flush::SealedHead;
pub use found::describe;
pub use head::caps::{Cap, CapHit};
pub use head::registry::{KnownCursor, KnownLook};
pub use import::{ImportSpec, ImportWriter, import_path, import_window_ms, inspect_import};
pub use options::{DAY_SECS, TsdbOptions, WINDOW_SECS};
pub use outcome::{AppendOutcome, RejectReason, Rejection};
pub use plan::{CompactionJob, plan_compaction};
pub use retention::{RetentionRule, RetentionRules};
pub use rollup::{RollupLevel, RollupOf, check_levels};
pub use stats::{DamagedChunks, DamagedFile, NameCount, TenantStats, TsdbStats};
pub use store::{Learning, Tsdb};
