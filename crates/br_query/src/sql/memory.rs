//! What operators hold counts against the query's budget, and so against what all queries have together.

use br_storage::Budget;
use datafusion::common::{DataFusionError, Result as SqlResult};
use datafusion::execution::memory_pool::{GreedyMemoryPool, MemoryLimit, MemoryPool, MemoryReservation};
use std::fmt;
use std::sync::Arc;

/// The operators' own limit, then the budget.
#[derive(Debug)]
pub(super) struct BudgetedPool {
    operators: GreedyMemoryPool,
    budget: Arc<Budget>,
}

impl BudgetedPool {
    pub(super) fn new(bytes_max: usize, budget: Arc<Budget>) -> Self {
        Self { operators: GreedyMemoryPool::new(bytes_max), budget }
    }
}

impl fmt::Display for BudgetedPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.operators.fmt(f)
    }
}

impl MemoryPool for BudgetedPool {
    fn name(&self) -> &'static str {
        "budgeted"
    }

    /// Cannot fail: what is too much is found by the next that can.
    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        let _ = self.budget.charge(additional as u64);
        self.operators.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.budget.release(shrink as u64);
        self.operators.shrink(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> SqlResult<()> {
        self.operators.try_grow(reservation, additional)?;
        self.budget.charge(additional as u64).map_err(|error| {
            self.shrink(reservation, additional);
            DataFusionError::External(Box::new(error))
        })
    }

    fn reserved(&self) -> usize {
        self.operators.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        self.operators.memory_limit()
    }
}
