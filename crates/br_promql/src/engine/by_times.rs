//! What follows from the timestamps of a series alone, worked out once for series that share them.

use br_std::ring::Ring;
use std::sync::Arc;

/// Timestamps that alternate in the order of series: as many as targets that are scraped.
const SHARED_TIMES_MAX: usize = 1024;
const SHARED_BYTES_MAX: usize = 4 << 20;

/// A column of `T` for each vector of timestamps.
pub(crate) struct ByTimes<T>(Ring<(Arc<[i64]>, Vec<T>)>);

impl<T> Default for ByTimes<T> {
    fn default() -> Self {
        Self(Ring::new(SHARED_TIMES_MAX, SHARED_BYTES_MAX))
    }
}

impl<T> ByTimes<T> {
    pub(crate) fn get(&mut self, timestamps_ms: &Arc<[i64]>, make: impl FnOnce() -> Vec<T>) -> &[T] {
        let hash = br_std::hash::spread(timestamps_ms.as_ptr() as u64);
        let known = self.0.find(hash, |(times, _)| Arc::ptr_eq(times, timestamps_ms));
        let at = known.unwrap_or_else(|| {
            let made = make();
            let bytes = size_of_val(&*made) + size_of_val(&**timestamps_ms);
            self.0.push(hash, bytes, (timestamps_ms.clone(), made))
        });
        &self.0[at].1
    }
}
