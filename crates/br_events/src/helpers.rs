//! Threads that help a query with its pages, as long as not all cores are busy with others.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What all queries of a store share: a query has its own thread, and as many more as are free when it asks.
pub(crate) struct Helpers {
    free: AtomicUsize,
}

impl Helpers {
    pub(crate) fn new(cores: usize) -> Self {
        Self { free: AtomicUsize::new(cores.saturating_sub(1)) }
    }

    /// How much can be worked on at once right now, at least 1.
    pub(crate) fn width(&self) -> usize {
        1 + self.free.load(Ordering::Relaxed)
    }

    /// What `work` makes of each item, in their order.
    pub(crate) fn each<T: Send, R: Send>(&self, items: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
        let taken = self.take(items.len().saturating_sub(1));
        if taken.count == 0 {
            return items.into_iter().map(work).collect();
        }
        let mut done: Vec<Option<R>> = items.iter().map(|_| None).collect();
        {
            let left = Mutex::new(items.into_iter().zip(&mut done));
            // The lock is held for the next item alone.
            let next = || left.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next();
            let run = || {
                while let Some((item, place)) = next() {
                    *place = Some(work(item));
                }
            };
            std::thread::scope(|scope| {
                for _ in 0..taken.count {
                    // Without a thread the others do its part.
                    drop(std::thread::Builder::new().name("query-page".to_owned()).spawn_scoped(scope, run));
                }
                run();
            });
        }
        done.into_iter().flatten().collect()
    }

    fn take(&self, most: usize) -> Taken<'_> {
        let mut count = 0;
        let _ = self.free.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |free| {
            count = free.min(most);
            Some(free - count)
        });
        Taken { helpers: self, count }
    }
}

/// Helpers of one query, given back at the end.
struct Taken<'h> {
    helpers: &'h Helpers,
    count: usize,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.helpers.free.fetch_add(self.count, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::sync::Barrier;

    #[test]
    fn work_is_shared_in_order_and_helpers_come_back() {
        let helpers = Helpers::new(3);
        for _ in 0..3 {
            // Passes only when three work at once.
            let barrier = Barrier::new(3);
            let made = helpers.each((0..3).collect(), |item: usize| {
                barrier.wait();
                assert_eq!(helpers.width(), 1, "others have their own thread");
                let alone = helpers.each(vec![item], |item| (item, std::thread::current().id()));
                alone[0]
            });
            assert_eq!(made.iter().map(|(item, _)| *item).collect::<Vec<_>>(), [0, 1, 2]);
            assert_eq!(made.iter().map(|(_, thread)| *thread).collect::<HashSet<_>>().len(), 3);
            assert_eq!(helpers.width(), 3);
        }
        assert!(helpers.each(Vec::new(), |item: u8| item).is_empty());
        assert_eq!(Helpers::new(1).each(vec![1, 2], |item| item * 2), [2, 4]);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_helpers_come_back() {
        let helpers = Helpers::new(2);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            helpers.each(vec![0, 1, 2, 3], |item| assert!(item < 2, "too large"));
        }));
        assert!(outcome.is_err());
        assert_eq!(helpers.width(), 2);
    }
}
