//! The one way in: admission, byte budget, deadline, cancel and the list of running queries.
//!
//! Whatever the language, a query runs here as a closure over its [`Budget`] on the pool for blocking work.

use crate::places::{Place, PlaceLimits, Places};
use br_env::Clock;
use br_model::TenantId;
use br_std::{Error, Kind, Nanos, Result};
use br_storage::{Budget, CancelReason, LogSource, MetricSource, SharedMemory, SpanSource};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// What queries may use, and how many may run.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Memory that one query may hold.
    pub query_bytes_max: u64,
    /// Memory that all queries may hold.
    pub queries_bytes_max: u64,
    /// From the moment that a query is asked, the time in which it waits for others included.
    pub timeout: Duration,
    /// Queries that run at once; more wait.
    pub concurrent_max: usize,
    /// Of these, queries of one tenant.
    pub tenant_concurrent_max: usize,
    /// Queries that wait; more are refused. Of one tenant, as large a part of them as of those that run.
    pub waiting_max: usize,
    /// Points on one series in a range query.
    pub points_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        let concurrent_max = concurrent_for(std::thread::available_parallelism().map_or(1, usize::from));
        Self {
            query_bytes_max: 256 << 20,
            queries_bytes_max: 1 << 30,
            timeout: Duration::from_secs(30),
            concurrent_max,
            tenant_concurrent_max: concurrent_max,
            waiting_max: 256,
            points_max: 11_000,
        }
    }
}

/// How many queries may run at once on so many cores: of many more that compute, none would end in time.
fn concurrent_for(cores: usize) -> usize {
    (2 * cores).max(4)
}

/// The stores, by tenant.
pub trait Sources: Send + Sync {
    fn metrics(&self, tenant: TenantId) -> Arc<dyn MetricSource>;
    fn logs(&self, tenant: TenantId) -> Arc<dyn LogSource>;
    fn spans(&self, tenant: TenantId) -> Arc<dyn SpanSource>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    PromQl,
    LogQl,
    TraceQl,
    Sql,
    /// Calls without a language of their own, such as label names or a trace by id.
    Lookup,
}

impl Language {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PromQl => "promql",
            Self::LogQl => "logql",
            Self::TraceQl => "traceql",
            Self::Sql => "sql",
            Self::Lookup => "lookup",
        }
    }
}

/// A query that runs now.
#[derive(Clone, Debug)]
pub struct ActiveQuery {
    pub id: u64,
    pub tenant: TenantId,
    pub language: Language,
    pub text: String,
    pub started: Nanos,
    pub rows_scanned: u64,
    /// From 0 to 1, of what is known to be read.
    pub progress: Option<f64>,
    pub bytes_used: u64,
}

struct Running {
    tenant: TenantId,
    language: Language,
    text: String,
    started: Nanos,
    budget: Arc<Budget>,
}

/// How queries came and went, for `/metrics`.
#[derive(Debug, Default)]
pub struct DoorCounters {
    pub started: AtomicU64,
    pub failed: AtomicU64,
    pub refused: AtomicU64,
    pub over_limit: AtomicU64,
    /// Told to stop for want of time.
    pub timed_out: AtomicU64,
}

pub struct Door {
    limits: Limits,
    clock: Arc<dyn Clock>,
    places: Arc<Places>,
    memory: Arc<SharedMemory>,
    next_id: AtomicU64,
    running: Mutex<BTreeMap<u64, Running>>,
    pub counters: DoorCounters,
}

/// A query that reads more series than this is not quick.
const QUICK_PARTS_MAX: u64 = 6000;
/// Nor one that takes longer.
const QUICK_TIME_MAX: Duration = Duration::from_millis(5);

/// The text of a running query is kept up to this length.
const TEXT_BYTES_MAX: usize = 4 << 10;

impl Door {
    pub fn new(limits: Limits, clock: Arc<dyn Clock>) -> Arc<Self> {
        let (places, places_per_tenant) = (limits.concurrent_max, limits.tenant_concurrent_max);
        let waiting_per_tenant = limits.waiting_max * places_per_tenant / places.max(1);
        Arc::new(Self {
            places: Places::new(PlaceLimits { places, places_per_tenant, waiting: limits.waiting_max, waiting_per_tenant }),
            memory: SharedMemory::new(limits.queries_bytes_max),
            limits,
            clock,
            next_id: AtomicU64::new(1),
            running: Mutex::new(BTreeMap::new()),
            counters: DoorCounters::default(),
        })
    }

    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Runs blocking work for a query. When the returned future is dropped, because the caller went away, the work is told to stop.
    ///
    /// Work can only be stopped where it looks at its budget. Until then it may go on past its time limit: it stays in the list of
    /// running queries, but its place is free, so that what others may ask does not depend on it.
    pub async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        tenant: TenantId,
        language: Language,
        text: &str,
        timeout: Option<Duration>,
        work: impl FnOnce(&Budget) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let deadline = self.deadline(timeout);
        let Admission { listing, place: _place } = self.admit(tenant, language, text, deadline, self.budget()).await?;
        self.on_the_pool(listing, deadline, work).await
    }

    /// The same for work that is over soon as a rule. It is tried where the caller stands, so that no other thread has to be woken
    /// for it and by it, and done anew on the pool when it turns out to be long.
    pub async fn run_quick<T: Send + 'static>(
        self: &Arc<Self>,
        tenant: TenantId,
        language: Language,
        text: &str,
        timeout: Option<Duration>,
        work: impl Fn(&Budget) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        if Handle::current().runtime_flavor() != RuntimeFlavor::MultiThread {
            return self.run(tenant, language, text, timeout, work).await;
        }
        let deadline = self.deadline(timeout);
        let started = Instant::now();
        let budget = self.budget().attempt(QUICK_PARTS_MAX, move || started.elapsed() > QUICK_TIME_MAX);
        let Admission { mut listing, place: _place } = self.admit(tenant, language, text, deadline, budget).await?;
        let attempt = || catch_unwind(AssertUnwindSafe(|| work(&listing.budget)));
        let outcome = tokio::task::block_in_place(attempt).unwrap_or_else(|_| Err(Error::corrupt("the query failed inside")));
        if !outcome.as_ref().is_err_and(|error| CancelReason::of(error) == Some(CancelReason::NotQuick)) {
            return self.conclude(outcome);
        }
        listing.renew(self.budget());
        self.on_the_pool(listing, deadline, work).await
    }

    async fn on_the_pool<T: Send + 'static>(
        &self,
        listing: Listing,
        deadline: Instant,
        work: impl FnOnce(&Budget) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let budget = listing.budget.clone();
        let task = tokio::task::spawn_blocking(move || {
            let outcome = work(&listing.budget);
            drop(listing);
            outcome
        });
        self.outcome(StopOnDrop { task, budget }, deadline).await
    }

    /// The same for work that is itself asynchronous, such as SQL. It runs on `workers`, a runtime of its own: an operator that
    /// computes long between two of its awaits then holds up other SQL at the most, never the server's sockets, and its time limit
    /// is kept by somebody who is not stuck behind it. As many may go on past their time as `workers` has threads.
    pub async fn run_async<T, F>(
        self: &Arc<Self>,
        tenant: TenantId,
        language: Language,
        text: &str,
        workers: &Handle,
        work: impl FnOnce(Arc<Budget>) -> F,
    ) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let deadline = self.deadline(None);
        let Admission { listing, place: _place } = self.admit(tenant, language, text, deadline, self.budget()).await?;
        let budget = listing.budget.clone();
        let work = work(budget.clone());
        let task = workers.spawn(async move {
            let outcome = work.await;
            drop(listing);
            outcome
        });
        self.outcome(StopOnDrop { task, budget }, deadline).await
    }

    fn budget(&self) -> Budget {
        Budget::drawing_from(self.memory.clone(), self.limits.query_bytes_max)
    }

    /// The clock runs from the moment that a query is asked.
    fn deadline(&self, timeout: Option<Duration>) -> Instant {
        Instant::now() + timeout.map_or(self.limits.timeout, |timeout| timeout.min(self.limits.timeout))
    }

    /// What comes of a query by its deadline.
    async fn outcome<T>(&self, mut running: StopOnDrop<Result<T>>, deadline: Instant) -> Result<T> {
        let outcome = tokio::select! {
            outcome = &mut running.task => {
                outcome.unwrap_or_else(|panic| Err(Error::corrupt(format!("the query failed inside: {panic}"))))
            }
            () = tokio::time::sleep_until(deadline) => {
                running.budget.cancel(CancelReason::Deadline);
                Err(CancelReason::Deadline.error())
            }
        };
        self.conclude(outcome)
    }

    fn conclude<T>(&self, outcome: Result<T>) -> Result<T> {
        if let Err(error) = &outcome {
            self.counters.failed.fetch_add(1, Ordering::Relaxed);
            if error.kind() == Kind::OverLimit {
                self.counters.over_limit.fetch_add(1, Ordering::Relaxed);
            }
            if CancelReason::of(error) == Some(CancelReason::Deadline) {
                self.counters.timed_out.fetch_add(1, Ordering::Relaxed);
            }
        }
        outcome
    }

    /// Waits for a place. What is returned keeps the place and stops the query when it is dropped.
    async fn admit(
        self: &Arc<Self>,
        tenant: TenantId,
        language: Language,
        text: &str,
        deadline: Instant,
        budget: Budget,
    ) -> Result<Admission> {
        let place = match self.places.take(tenant, deadline).await {
            Ok(place) => place,
            Err(error) if error.kind() == Kind::Retry => {
                self.counters.refused.fetch_add(1, Ordering::Relaxed);
                return Err(error);
            }
            Err(error) => return self.conclude(Err(error)),
        };
        self.counters.started.fetch_add(1, Ordering::Relaxed);
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let budget = Arc::new(budget);
        let text = text.chars().take(TEXT_BYTES_MAX / 4).collect();
        let running = Running { tenant, language, text, started: self.clock.now(), budget: budget.clone() };
        self.running.lock().insert(id, running);
        Ok(Admission { listing: Listing { id, door: self.clone(), budget }, place })
    }

    /// What runs now for a tenant, oldest first.
    pub fn active(&self, tenant: TenantId) -> Vec<ActiveQuery> {
        let running = self.running.lock();
        let mine = running.iter().filter(|(_, query)| query.tenant == tenant);
        mine.map(|(id, query)| ActiveQuery {
            id: *id,
            tenant,
            language: query.language,
            text: query.text.clone(),
            started: query.started,
            rows_scanned: query.budget.rows_scanned(),
            progress: query.budget.progress(),
            bytes_used: query.budget.bytes_used(),
        })
        .collect()
    }

    /// How many still compute although they were told to stop.
    pub fn overdue(&self) -> usize {
        self.running.lock().values().filter(|query| query.budget.check().is_err()).count()
    }

    /// What all queries hold of the memory that they share.
    pub fn bytes_taken(&self) -> u64 {
        self.memory.bytes_taken()
    }

    /// Tells a tenant's running query to stop.
    pub fn cancel(&self, tenant: TenantId, id: u64) -> Result<()> {
        let running = self.running.lock();
        let query = running.get(&id).filter(|query| query.tenant == tenant);
        query.ok_or_else(|| Error::not_found(format!("no running query {id}")))?.budget.cancel(CancelReason::Caller);
        Ok(())
    }

    /// Tells all queries to stop and admits no more.
    pub fn close(&self) {
        self.places.close();
        for query in self.running.lock().values() {
            query.budget.cancel(CancelReason::Shutdown);
        }
    }
}

/// A task that is not wanted any more when nobody waits for it.
struct StopOnDrop<T> {
    task: JoinHandle<T>,
    budget: Arc<Budget>,
}

impl<T> Drop for StopOnDrop<T> {
    fn drop(&mut self) {
        self.budget.cancel(CancelReason::Caller);
        self.task.abort();
    }
}

struct Admission {
    listing: Listing,
    place: Place,
}

/// A line in the list of running queries.
struct Listing {
    id: u64,
    door: Arc<Door>,
    budget: Arc<Budget>,
}

impl Listing {
    /// The query begins again.
    fn renew(&mut self, budget: Budget) {
        let budget = Arc::new(budget);
        let mut running = self.door.running.lock();
        if let Some(query) = running.get_mut(&self.id) {
            query.budget = budget.clone();
        }
        self.budget = budget;
    }
}

impl Drop for Listing {
    fn drop(&mut self) {
        self.budget.cancel(CancelReason::Caller);
        self.door.running.lock().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use br_env::real::SystemClock;

    fn door(limits: Limits) -> Arc<Door> {
        Door::new(limits, Arc::new(SystemClock::new()))
    }

    fn spin(budget: &Budget) -> Result<()> {
        loop {
            budget.check()?;
            std::thread::yield_now();
        }
    }

    #[tokio::test]
    async fn a_query_past_its_deadline_stops_and_says_so() {
        let door = door(Limits { timeout: Duration::from_millis(20), ..Limits::default() });
        let error = door.run(TenantId(1), Language::PromQl, "up", None, spin).await.expect_err("deadline");
        assert!(error.message().contains("time limit"), "{error}");
        while !door.active(TenantId(1)).is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(door.counters.timed_out.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn the_time_in_the_queue_counts() {
        let door = door(Limits { concurrent_max: 1, tenant_concurrent_max: 1, ..Limits::default() });
        let busy = door.clone();
        let busy = tokio::spawn(async move { busy.run(TenantId(1), Language::PromQl, "heavy", None, spin).await });
        while door.active(TenantId(1)).is_empty() {
            tokio::task::yield_now().await;
        }
        let timeout = Some(Duration::from_millis(20));
        let error = door.run(TenantId(1), Language::PromQl, "light", timeout, |_| Ok(())).await.expect_err("no place in time");
        assert_eq!(CancelReason::of(&error), Some(CancelReason::Deadline));
        assert!(error.message().contains("busy with other queries"), "{error}");
        busy.abort();
    }

    #[tokio::test]
    async fn blocking_work_past_its_time_keeps_no_place_and_stays_listed() {
        let timeout = Duration::from_millis(20);
        let door = door(Limits { timeout, concurrent_max: 1, tenant_concurrent_max: 1, ..Limits::default() });
        let (release, released) = std::sync::mpsc::channel::<()>();
        let stuck = move |_: &Budget| released.recv().map_err(|_| Error::closed("gone"));
        let error = door.run(TenantId(1), Language::PromQl, "stuck", None, stuck).await.expect_err("deadline");
        assert!(error.message().contains("time limit"), "{error}");
        assert_eq!((door.active(TenantId(1)).len(), door.overdue()), (1, 1), "it still computes");
        let next = door.run(TenantId(1), Language::PromQl, "next", None, |_| Ok(2)).await;
        assert_eq!(next.expect("the place is free"), 2);
        release.send(()).expect("it listens");
        while door.overdue() > 0 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn queries_together_hold_no_more_than_their_memory() {
        let door = door(Limits { queries_bytes_max: 8 << 20, ..Limits::default() });
        let (release, released) = std::sync::mpsc::channel::<()>();
        let large = move |budget: &Budget| {
            budget.charge(7 << 20)?;
            let _ = released.recv();
            Ok(())
        };
        let other = door.clone();
        let holds = tokio::spawn(async move { other.run(TenantId(1), Language::PromQl, "large", None, large).await });
        while door.bytes_taken() < 7 << 20 {
            tokio::task::yield_now().await;
        }
        let charge = |budget: &Budget| budget.charge(2 << 20);
        let error = door.run(TenantId(2), Language::PromQl, "more", None, charge).await.expect_err("no memory");
        assert!(error.kind() == Kind::Retry && error.message().contains("limits.queries_memory"), "{error}");
        release.send(()).expect("it listens");
        holds.await.expect("joined").expect("it fits");
        door.run(TenantId(2), Language::PromQl, "again", None, charge).await.expect("given back");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_not_quick_is_done_on_the_pool() {
        let door = door(Limits::default());
        let caller = std::thread::current().id();
        let ask = async |parts: u64| {
            let work = move |budget: &Budget| {
                budget.check_parts(parts)?;
                Ok(std::thread::current().id() == caller)
            };
            door.run_quick(TenantId(1), Language::PromQl, "up", None, work).await.expect("works")
        };
        assert!(ask(1).await);
        assert!(!ask(QUICK_PARTS_MAX + 1).await);
        let long = move |budget: &Budget| if std::thread::current().id() == caller { spin(budget) } else { Ok(()) };
        door.run_quick(TenantId(1), Language::PromQl, "long", None, long).await.expect("ends on the pool");
        let broken = |_: &Budget| -> Result<()> { panic!("on purpose") };
        assert!(door.run_quick(TenantId(1), Language::PromQl, "broken", None, broken).await.is_err());
        assert_eq!((door.active(TenantId(1)).len(), door.counters.started.load(Ordering::Relaxed)), (0, 4));
    }

    #[tokio::test]
    async fn a_query_whose_caller_went_away_stops() {
        let door = door(Limits::default());
        let (tell, told) = tokio::sync::oneshot::channel();
        let query = door.run(TenantId(1), Language::PromQl, "up", None, move |budget| {
            let outcome = spin(budget);
            let _ = tell.send(outcome.is_err());
            outcome
        });
        let _ = tokio::time::timeout(Duration::from_millis(20), query).await;
        assert_eq!(told.await, Ok(true));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn work_that_never_awaits_holds_up_nobody() {
        let workers = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("a runtime");
        let door =
            door(Limits { timeout: Duration::from_millis(20), concurrent_max: 1, tenant_concurrent_max: 1, ..Limits::default() });
        let (release, released) = std::sync::mpsc::channel::<()>();
        let stuck = async move |_: Arc<Budget>| {
            let _ = released.recv();
            Ok(())
        };
        let error = door.run_async(TenantId(1), Language::Sql, "SELECT 1", workers.handle(), stuck).await.expect_err("deadline");
        assert!(error.message().contains("time limit"), "{error}");
        assert_eq!(door.active(TenantId(1)).len(), 1, "it still computes");
        let next = door.run_async(TenantId(1), Language::Sql, "SELECT 2", workers.handle(), async |_| Ok(2)).await;
        assert_eq!(next.expect("the place is free"), 2);
        let next = door.run(TenantId(1), Language::PromQl, "up", None, |_| Ok(3)).await;
        assert_eq!(next.expect("the place is free"), 3);
        release.send(()).expect("it listens");
        while !door.active(TenantId(1)).is_empty() {
            tokio::task::yield_now().await;
        }
        workers.shutdown_background();
    }

    #[tokio::test]
    async fn only_the_tenants_own_queries_are_seen_and_cancelled() {
        let door = door(Limits::default());
        let other = door.clone();
        let query = tokio::spawn(async move { other.run(TenantId(1), Language::LogQl, "{}", None, spin).await });
        let id = loop {
            if let Some(query) = door.active(TenantId(1)).first() {
                break query.id;
            }
            tokio::task::yield_now().await;
        };
        assert!(door.active(TenantId(2)).is_empty());
        assert!(door.cancel(TenantId(2), id).is_err());
        door.cancel(TenantId(1), id).expect("mine");
        assert!(query.await.expect("joined").is_err());
    }
}
