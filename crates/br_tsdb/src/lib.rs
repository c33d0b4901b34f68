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
mod flush;
mod found;
mod head;
mod index;
mod options;
mod outcome;
mod points;
mod source;
mod stats;
mod store;
mod symbols;

pub use block::stats::BlockStats;
pub use compact::{CompactionJob, compact, plan_compaction};
pub use flush::SealedHead;
pub use found::describe;
pub use head::identities::{KnownCursor, KnownLook};
pub use options::{DAY_SECS, TsdbOptions, WINDOW_SECS};
pub use outcome::{AppendOutcome, RejectReason, Rejection};
pub use stats::{DamagedFile, NameCount, TenantStats, TsdbStats};
pub use store::Tsdb;
