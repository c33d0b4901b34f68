//! What one query may use. A query that reaches a limit says which, and what to do.

use crate::damage::DamageNotes;
use br_std::{Error, Kind, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering};

/// Why a running query must stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum CancelReason {
    /// The caller went away.
    Caller = 1,
    /// The deadline passed.
    Deadline = 2,
    /// The server is shutting down.
    Shutdown = 3,
    /// It was to be quick and is not: whoever tried it does it in another way.
    NotQuick = 4,
}

impl std::fmt::Display for CancelReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Caller => "the query was cancelled",
            Self::Deadline => "the query ran into its time limit: narrow the time range or raise limits.query_timeout",
            Self::Shutdown => "the server is shutting down",
            Self::NotQuick => "the query takes longer than a quick one",
        })
    }
}

/// The source of the error with which a stopped query ends: an API whose clients tell a timeout from other limits finds it there.
impl std::error::Error for CancelReason {}

impl CancelReason {
    /// Why a query was stopped, where that is what the error is about.
    pub fn of(error: &Error) -> Option<Self> {
        std::error::Error::source(error)?.downcast_ref().copied()
    }

    /// The error with which a stopped query ends.
    pub fn error(self) -> Error {
        let kind = if self == Self::Deadline { Kind::OverLimit } else { Kind::Closed };
        Error::new(kind, self.to_string()).with_source(self)
    }
}

/// Memory that many share: all queries together, or all answers on their way.
#[derive(Debug)]
pub struct SharedMemory {
    bytes_max: u64,
    bytes_taken: AtomicU64,
}

impl SharedMemory {
    pub fn new(bytes_max: u64) -> Arc<Self> {
        Arc::new(Self { bytes_max, bytes_taken: AtomicU64::new(0) })
    }

    /// False when there is not as much left.
    pub fn take(&self, bytes: u64) -> bool {
        let fits = |taken: u64| taken.checked_add(bytes).filter(|taken| *taken <= self.bytes_max);
        self.bytes_taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }

    /// Only what was taken.
    pub fn give_back(&self, bytes: u64) {
        self.bytes_taken.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    pub fn bytes_taken(&self) -> u64 {
        self.bytes_taken.load(Ordering::Relaxed)
    }
}

/// Budgets draw from the shared memory in steps of this size: charges are many and small, and all cores share one counter.
const DRAW_BYTES: u64 = 1 << 20;
/// What a budget keeps of what it has drawn when less is in use.
const KEPT_BYTES: u64 = 4 * DRAW_BYTES;

/// Shared by all parts of one query: they charge what they hold or read, and stop when told to.
#[derive(Debug)]
pub struct Budget {
    bytes_max: u64,
    bytes_used: AtomicU64,
    /// Where all queries together have a limit.
    shared: Option<Arc<SharedMemory>>,
    bytes_drawn: AtomicU64,
    rows_scanned: AtomicU64,
    parts_known: AtomicU64,
    parts_done: AtomicU64,
    rollup_ms: AtomicI64,
    cancelled: AtomicU8,
    attempt: Option<Attempt>,
    damage: DamageNotes,
}

/// Ends a query that turns out not to be quick.
struct Attempt {
    parts_max: u64,
    is_over: Box<dyn Fn() -> bool + Send + Sync>,
}

impl std::fmt::Debug for Attempt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attempt").field("parts_max", &self.parts_max).finish_non_exhaustive()
    }
}

impl Budget {
    /// `bytes_max` bounds the memory that the query may hold at any moment, as charged by its parts.
    pub fn new(bytes_max: u64) -> Self {
        Self {
            bytes_max,
            bytes_used: AtomicU64::new(0),
            shared: None,
            bytes_drawn: AtomicU64::new(0),
            rows_scanned: AtomicU64::new(0),
            parts_known: AtomicU64::new(0),
            parts_done: AtomicU64::new(0),
            rollup_ms: AtomicI64::new(0),
            cancelled: AtomicU8::new(0),
            attempt: None,
            damage: DamageNotes::default(),
        }
    }

    /// The same, of a query that has to share with others.
    pub fn drawing_from(shared: Arc<SharedMemory>, bytes_max: u64) -> Self {
        let mut budget = Self::new(bytes_max);
        budget.shared = Some(shared);
        budget
    }

    /// The same, of a query that stops with [`CancelReason::NotQuick`] once it is known to read more than `parts_max`, or `is_over`.
    #[must_use]
    pub fn attempt(mut self, parts_max: u64, is_over: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        self.attempt = Some(Attempt { parts_max, is_over: Box::new(is_over) });
        self
    }

    /// For tests and for work that is bounded by other means.
    pub fn unlimited() -> Self {
        Self::new(u64::MAX)
    }

    /// Takes `bytes` from the budget and looks whether the query was cancelled.
    pub fn charge(&self, bytes: u64) -> Result<()> {
        let used = self.bytes_used.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if used > self.bytes_max {
            return Err(Error::over_limit(format!(
                "the query needs more than its {} MiB of memory: narrow the time range, add label matchers, or raise limits.query_memory",
                self.bytes_max >> 20
            )));
        }
        if let Some(shared) = &self.shared
            && used > self.bytes_drawn.load(Ordering::Relaxed)
        {
            self.draw(shared, used)?;
        }
        self.check()
    }

    /// Takes from the shared memory until `used` is covered.
    fn draw(&self, shared: &SharedMemory, used: u64) -> Result<()> {
        loop {
            let drawn = self.bytes_drawn.load(Ordering::Relaxed);
            if used <= drawn {
                return Ok(());
            }
            let more = (used - drawn).next_multiple_of(DRAW_BYTES);
            if !shared.take(more) {
                return Err(Error::retry(format!(
                    "all queries together need more than their {} MiB of memory: try again in a moment, ask for less, or raise \
                     limits.queries_memory",
                    shared.bytes_max() >> 20
                )));
            }
            if self.bytes_drawn.compare_exchange(drawn, drawn + more, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                return Ok(());
            }
            shared.give_back(more);
        }
    }

    /// Gives back what was charged for something that is no longer held.
    pub fn release(&self, bytes: u64) {
        let used = self.bytes_used.fetch_sub(bytes, Ordering::Relaxed).saturating_sub(bytes);
        let Some(shared) = &self.shared else { return };
        let drawn = self.bytes_drawn.load(Ordering::Relaxed);
        let kept = used.next_multiple_of(DRAW_BYTES) + KEPT_BYTES;
        // A charge at the same moment may find less than it saw: the next one draws it again.
        if drawn > 2 * kept && self.bytes_drawn.compare_exchange(drawn, kept, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            shared.give_back(drawn - kept);
        }
    }

    /// An error once the query was cancelled. Cheap: call it in every loop that can run long.
    pub fn check(&self) -> Result<()> {
        if self.attempt.as_ref().is_some_and(|attempt| (attempt.is_over)()) {
            self.cancel(CancelReason::NotQuick);
        }
        match self.cancelled.load(Ordering::Relaxed) {
            0 => Ok(()),
            reason if reason == CancelReason::Deadline as u8 => Err(CancelReason::Deadline.error()),
            reason if reason == CancelReason::Shutdown as u8 => Err(CancelReason::Shutdown.error()),
            reason if reason == CancelReason::NotQuick as u8 => Err(CancelReason::NotQuick.error()),
            _ => Err(CancelReason::Caller.error()),
        }
    }

    /// Before parts are gathered one by one: an error when a quick query would not do so.
    pub fn check_parts(&self, parts: u64) -> Result<()> {
        if self.attempt.as_ref().is_some_and(|attempt| parts > attempt.parts_max) {
            self.cancel(CancelReason::NotQuick);
        }
        self.check()
    }

    /// The first reason stays.
    pub fn cancel(&self, reason: CancelReason) {
        let _ = self.cancelled.compare_exchange(0, reason as u8, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Counts rows or samples that were looked at, for the progress display and for the query log.
    pub fn scanned(&self, rows: u64) {
        self.rows_scanned.fetch_add(rows, Ordering::Relaxed);
    }

    /// So many parts more will be read: series, files or pages, whatever the store goes through one by one. An error when a quick
    /// query would not read as many.
    pub fn expect_parts(&self, parts: u64) -> Result<()> {
        self.parts_known.fetch_add(parts, Ordering::Relaxed);
        self.check_parts(parts)
    }

    pub fn parts_done(&self, parts: u64) {
        self.parts_done.fetch_add(parts, Ordering::Relaxed);
    }

    /// How much has been read of what is known to be read, from 0 to 1; none before anything is known. A query that finds out
    /// later that it reads more, such as the other side of an operator, falls back.
    pub fn progress(&self) -> Option<f64> {
        let (known, done) = (self.parts_known.load(Ordering::Relaxed), self.parts_done.load(Ordering::Relaxed));
        (known > 0).then(|| (done as f64 / known as f64).min(1.0))
    }

    /// Takes note that samples of a rollup with this interval were read.
    pub fn used_rollup(&self, interval_ms: i64) {
        self.rollup_ms.fetch_max(interval_ms, Ordering::Relaxed);
    }

    /// The longest interval of the rollups that were read; 0 when none was.
    pub fn rollup_ms(&self) -> i64 {
        self.rollup_ms.load(Ordering::Relaxed)
    }

    /// What could not be read.
    pub fn damage(&self) -> &DamageNotes {
        &self.damage
    }

    pub fn rows_scanned(&self) -> u64 {
        self.rows_scanned.load(Ordering::Relaxed)
    }

    pub fn bytes_used(&self) -> u64 {
        self.bytes_used.load(Ordering::Relaxed)
    }
}

impl Drop for Budget {
    fn drop(&mut self) {
        if let Some(shared) = &self.shared {
            shared.give_back(self.bytes_drawn.load(Ordering::Relaxed));
        }
    }
}

/// What was charged for something, given back when this goes.
pub struct Held<'b> {
    budget: &'b Budget,
    bytes: u64,
}

impl<'b> Held<'b> {
    pub fn new(budget: &'b Budget) -> Self {
        Self { budget, bytes: 0 }
    }

    pub fn add(&mut self, bytes: u64) -> Result<()> {
        self.bytes += bytes;
        self.budget.charge(bytes)
    }

    /// Gives back a part before the rest goes.
    pub fn give_back(&mut self, bytes: u64) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.budget.release(bytes);
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.budget.release(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_ends_when_it_is_not_quick() {
        let reason = |outcome: Result<()>| CancelReason::of(&outcome.expect_err("stopped").context("reading"));
        let budget = Budget::unlimited().attempt(10, || false);
        assert!(budget.check_parts(10).is_ok());
        assert_eq!(reason(budget.check_parts(11)), Some(CancelReason::NotQuick));
        assert_eq!(reason(Budget::unlimited().attempt(10, || false).expect_parts(11)), Some(CancelReason::NotQuick));
        assert_eq!(reason(Budget::unlimited().attempt(10, || true).check()), Some(CancelReason::NotQuick));
        assert!(Budget::unlimited().check_parts(u64::MAX).is_ok());
    }

    #[test]
    fn progress_is_of_what_is_known() {
        let budget = Budget::unlimited();
        assert_eq!(budget.progress(), None);
        budget.expect_parts(4).expect("any number");
        budget.parts_done(2);
        assert_eq!(budget.progress(), Some(0.5));
        budget.expect_parts(4).expect("any number");
        assert_eq!(budget.progress(), Some(0.25));
    }

    #[test]
    fn queries_share_what_all_have_together() {
        let shared = SharedMemory::new(10 << 20);
        let (one, other) = (Budget::drawing_from(shared.clone(), 8 << 20), Budget::drawing_from(shared.clone(), 8 << 20));
        one.charge(8 << 20).expect("within");
        other.charge(2 << 20).expect("the rest");
        let error = other.charge(1).expect_err("nothing is left");
        assert_eq!(error.kind(), Kind::Retry);
        assert!(error.message().contains("10 MiB") && error.message().contains("limits.queries_memory"), "{error}");
        drop(one);
        other.charge(5 << 20).expect("given back");
        drop(other);
        assert_eq!(shared.bytes_taken(), 0);
    }

    #[test]
    fn what_a_query_releases_is_for_others() {
        let shared = SharedMemory::new(100 << 20);
        let budget = Budget::drawing_from(shared.clone(), 100 << 20);
        for _ in 0..3 {
            budget.charge(90 << 20).expect("within");
            budget.release(90 << 20);
            assert!(shared.bytes_taken() <= KEPT_BYTES, "{}", shared.bytes_taken());
        }
        budget.charge(1).expect("covered by what it kept");
        assert!(shared.bytes_taken() > 0);
    }

    #[test]
    fn says_which_limit() {
        let budget = Budget::new(10);
        assert!(budget.charge(10).is_ok());
        assert_eq!(budget.charge(1).map_err(|error| error.kind()), Err(Kind::OverLimit));
        let budget = Budget::unlimited();
        budget.cancel(CancelReason::Deadline);
        budget.cancel(CancelReason::Caller);
        let error = budget.check().expect_err("cancelled").context("reading a block");
        assert!(error.message().contains("time limit"));
        assert_eq!(CancelReason::of(&error), Some(CancelReason::Deadline));
        assert_eq!(CancelReason::of(&Error::over_limit("memory")), None);
    }
}
