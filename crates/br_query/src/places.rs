//! Places of queries that run at once. A free one goes to the tenant that has the fewest, and none may have them all: what one asks
//! for, however much, leaves room for the others.

use br_model::TenantId;
use br_std::{Error, Result};
use br_storage::CancelReason;
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// How many may run, and how many may wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlaceLimits {
    pub(crate) places: usize,
    pub(crate) places_per_tenant: usize,
    pub(crate) waiting: usize,
    pub(crate) waiting_per_tenant: usize,
}

pub(crate) struct Places {
    limits: PlaceLimits,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    taken: usize,
    is_closed: bool,
    /// Counts those that had to wait, in their order.
    turns: u64,
    tenants: BTreeMap<TenantId, Line>,
}

/// The queries of one tenant.
#[derive(Default)]
struct Line {
    taken: usize,
    waiting: VecDeque<(u64, oneshot::Sender<Place>)>,
}

impl Line {
    /// Forgets those that wait no longer.
    fn prune(&mut self) {
        self.waiting.retain(|(_, waits)| !waits.is_closed());
    }
}

/// One place, for as long as this lives.
pub(crate) struct Place {
    places: Arc<Places>,
    tenant: TenantId,
}

impl Places {
    pub(crate) fn new(limits: PlaceLimits) -> Arc<Self> {
        Arc::new(Self { limits, state: Mutex::default() })
    }

    /// A place at once where one is free, or else when it is this tenant's turn, until the deadline.
    pub(crate) async fn take(self: &Arc<Self>, tenant: TenantId, deadline: Instant) -> Result<Place> {
        let turn = {
            let mut state = self.state.lock();
            if state.is_closed {
                return Err(CancelReason::Shutdown.error());
            }
            let is_free = state.taken < self.limits.places;
            let line = state.tenants.entry(tenant).or_default();
            if is_free && line.taken < self.limits.places_per_tenant {
                line.taken += 1;
                state.taken += 1;
                return Ok(Place { places: self.clone(), tenant });
            }
            state.wait(tenant, self.limits)?
        };
        match tokio::time::timeout_at(deadline, turn).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) => Err(CancelReason::Shutdown.error()),
            Err(_) => Err(CancelReason::Deadline.error().context("the server was busy with other queries")),
        }
    }

    /// Gives no more places, and lets nobody wait.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.is_closed = true;
        state.tenants.values_mut().for_each(|line| line.waiting.clear());
    }

    fn give_back(self: &Arc<Self>, tenant: TenantId) {
        let next = {
            let mut state = self.state.lock();
            state.taken -= 1;
            if let Some(line) = state.tenants.get_mut(&tenant) {
                line.taken -= 1;
            }
            state.next(self.limits)
        };
        if let Some((tenant, waits)) = next {
            // Who has just gone away drops it, and so gives it to the next.
            let _ = waits.send(Place { places: self.clone(), tenant });
        }
    }
}

impl State {
    fn wait(&mut self, tenant: TenantId, limits: PlaceLimits) -> Result<oneshot::Receiver<Place>> {
        self.tenants.values_mut().for_each(Line::prune);
        let all: usize = self.tenants.values().map(|line| line.waiting.len()).sum();
        let line = self.tenants.entry(tenant).or_default();
        if all >= limits.waiting || line.waiting.len() >= limits.waiting_per_tenant {
            return Err(Error::retry(format!("{all} queries are waiting already: try again in a moment")));
        }
        self.turns += 1;
        let (waits, turn) = oneshot::channel();
        line.waiting.push_back((self.turns, waits));
        Ok(turn)
    }

    /// Takes a place for whose turn it is: of those that wait, the tenant with the fewest places; among equals who came first.
    fn next(&mut self, limits: PlaceLimits) -> Option<(TenantId, oneshot::Sender<Place>)> {
        self.tenants.values_mut().for_each(Line::prune);
        if self.taken >= limits.places {
            return None;
        }
        let may = self.tenants.iter().filter(|(_, line)| line.taken < limits.places_per_tenant);
        let turns = may.filter_map(|(tenant, line)| Some((line.taken, line.waiting.front()?.0, *tenant)));
        let (.., tenant) = turns.min()?;
        let line = self.tenants.get_mut(&tenant)?;
        let (_, waits) = line.waiting.pop_front()?;
        line.taken += 1;
        self.taken += 1;
        Some((tenant, waits))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.give_back(self.tenant);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const BUSY: TenantId = TenantId(1);
    const OTHER: TenantId = TenantId(2);

    fn places() -> Arc<Places> {
        Places::new(PlaceLimits { places: 3, places_per_tenant: 2, waiting: 4, waiting_per_tenant: 3 })
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(1)
    }

    #[tokio::test(start_paused = true)]
    async fn one_tenant_leaves_room_for_the_others() {
        let places = places();
        let _first = places.take(BUSY, soon()).await.expect("free");
        let second = places.take(BUSY, soon()).await.expect("free");
        let error = places.take(BUSY, soon()).await.err().expect("its share is taken");
        assert_eq!(CancelReason::of(&error), Some(CancelReason::Deadline));
        let _other = places.take(OTHER, soon()).await.expect("kept free for others");
        let (busy, other) = (places.take(BUSY, soon()), places.take(OTHER, soon()));
        tokio::pin!(busy, other);
        assert!(futures::poll!(busy.as_mut()).is_pending() && futures::poll!(other.as_mut()).is_pending());
        drop(second);
        let turn = tokio::select! { _ = busy => BUSY, _ = other => OTHER };
        assert_eq!(turn, BUSY, "both have one: who came first");
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_bounded_and_who_went_away_is_forgotten() {
        let places = places();
        let held = [places.take(BUSY, soon()).await.expect("free"), places.take(BUSY, soon()).await.expect("free")];
        let mut waiting: Vec<_> = (0..3).map(|_| Box::pin(places.take(BUSY, soon()))).collect();
        for wait in &mut waiting {
            assert!(futures::poll!(wait.as_mut()).is_pending());
        }
        let error = places.take(BUSY, soon()).await.err().expect("too many wait");
        assert!(error.message().contains("3 queries are waiting"), "{error}");
        let last = waiting.pop().expect("three");
        drop(waiting);
        drop(held);
        let _place = last.await.expect("the first two are gone");
        assert_eq!(places.state.lock().taken, 1);
        places.close();
        assert!(places.take(OTHER, soon()).await.is_err());
    }
}
