//! What the regular expressions of a query say of label values: each value is asked about once, and never under a lock.

use crate::head::TenantHead;
use crate::index::Resolved;
use br_std::Result;
use br_storage::{Budget, Matcher, SeriesQuery};
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use parking_lot::{RwLock, RwLockReadGuard};
use roaring::RoaringBitmap;

/// What it takes to remember one value, beside its text.
const VALUE_BYTES: u64 = 64;

/// Of one query. Matchers that are cheap to ask are asked by whoever needs to know.
pub(crate) struct Verdicts<'m> {
    pub(crate) matchers: &'m [Matcher],
    budget: &'m Budget,
    by_value: Known,
    charged: u64,
    /// What is assumed of values that were not asked about.
    assumed: Option<bool>,
}

/// What was said of values, by position of the matcher.
pub(crate) type Known = Vec<HashMap<Box<str>, bool, FixedState>>;

impl<'m> Verdicts<'m> {
    /// Compiles what is to be compiled.
    pub(crate) fn new(matchers: &'m [Matcher], budget: &'m Budget) -> Result<Self> {
        matchers.iter().try_for_each(|matcher| matcher.prepare(budget))?;
        let by_value = matchers.iter().map(|_| HashMap::default()).collect();
        Ok(Self { matchers, budget, by_value, charged: 0, assumed: None })
    }

    /// With what the same matchers said before. Nothing more is asked: all other values count as satisfying.
    pub(crate) fn foreseen(matchers: &'m [Matcher], budget: &'m Budget, known: Option<Known>) -> Result<Self> {
        let mut verdicts = Self::new(matchers, budget)?;
        verdicts.assumed = Some(true);
        if let Some(known) = known.filter(|known| known.len() == matchers.len()) {
            verdicts.by_value = known;
        }
        Ok(verdicts)
    }

    pub(crate) fn into_known(mut self) -> Known {
        std::mem::take(&mut self.by_value)
    }

    /// Whether a value satisfies a matcher, where that was asked before or is assumed.
    pub(crate) fn known(&self, matcher: usize, value: &str) -> Option<bool> {
        self.by_value[matcher].get(value).copied().or(self.assumed)
    }

    /// Whether a value satisfies a matcher. An error once the query was cancelled.
    pub(crate) fn ask(&mut self, matcher: usize, value: &str) -> Result<bool> {
        if self.matchers[matcher].is_cheap() {
            return Ok(self.matchers[matcher].matches(value));
        }
        if let Some(known) = self.known(matcher, value) {
            return Ok(known);
        }
        let bytes = VALUE_BYTES + value.len() as u64;
        self.charged += bytes;
        self.budget.charge(bytes)?;
        let is_satisfied = self.matchers[matcher].matches(value);
        self.by_value[matcher].insert(value.into(), is_satisfied);
        Ok(is_satisfied)
    }

    /// The series of a head that satisfy all matchers, with the lock under which that holds. Nothing is found where the head has no
    /// samples in the range.
    pub(crate) fn resolve<'h>(
        &mut self,
        head: &'h RwLock<TenantHead>,
        query: &SeriesQuery,
    ) -> Result<(RwLockReadGuard<'h, TenantHead>, RoaringBitmap)> {
        self.resolve_where(head, |head| head.overlaps(query))
    }

    /// The same, where nothing is found and nothing asked unless `is_concerned`.
    pub(crate) fn resolve_where<'h>(
        &mut self,
        head: &'h RwLock<TenantHead>,
        is_concerned: impl Fn(&TenantHead) -> bool,
    ) -> Result<(RwLockReadGuard<'h, TenantHead>, RoaringBitmap)> {
        loop {
            let locked = head.read();
            if !is_concerned(&locked) {
                return Ok((locked, RoaringBitmap::new()));
            }
            match locked.index().resolve(self) {
                Resolved::Series(found) => return Ok((locked, found)),
                // A value that comes meanwhile is asked about in the next round.
                Resolved::Unknown { matcher, values } => {
                    drop(locked);
                    self.ask_all(matcher, &values)?;
                }
            }
        }
    }

    pub(crate) fn ask_all(&mut self, matcher: usize, values: &[Box<str>]) -> Result<()> {
        values.iter().try_for_each(|value| self.ask(matcher, value).map(drop))
    }
}

impl Drop for Verdicts<'_> {
    fn drop(&mut self) {
        self.budget.release(self.charged);
    }
}
