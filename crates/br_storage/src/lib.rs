//! The seam between languages and stores: what a query may ask, and nothing about how it is kept.
//!
//! Languages and rules see these traits, never a store. All calls are synchronous and may read from disk:
//! the shell runs them on its pool for blocking work. Every source is already scoped to one tenant.

pub mod budget;
pub mod damage;
pub mod line_test;
pub mod logs;
pub mod manifest;
pub mod matcher;
pub mod metrics;
pub mod range;
pub mod spans;
pub mod testing;

pub use budget::{Budget, CancelReason, Held, SharedMemory};
pub use damage::{Damage, DamageNotes};
pub use line_test::{LinePattern, LineTest};
pub use logs::{
    CountedRows, Derived, LineNeed, LinesSeen, LogCursor, LogGroup, LogGroupCursor, LogHint, LogNeeds, LogQuery, LogRow,
    LogSource, Marks, TimeNeed, scan_in_order,
};
pub use manifest::{FileEntry, FoundFile, JournalPosition, Table};
pub use matcher::{MatchOp, Matcher};
pub use metrics::{BATCHES_AT_ONCE, MetricSource, Points, RollupUse, SeriesCursor, SeriesData, SeriesQuery, Values, Weight};
pub use range::{Direction, TimeRange};
pub use spans::{SpanCursor, SpanHint, SpanParts, SpanQuery, SpanSource, StoredSpan, TakeTrace};
