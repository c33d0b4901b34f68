//! The one way in: admission, byte budget, deadline, cancel and the list of running queries.
//!
//! Whatever the language, a query runs here as a closure over its [`Budget`] on the pool for blocking work.

use br_env::Clock;
use br_model::TenantId;
use br_std::{Error, Kind, Nanos, Result};
use br_storage::{Budget, CancelReason, LogSource, MetricSource, SpanSource};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// What one query may use, and how many may run.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Memory that one query may hold.
    pub query_bytes_max: u64,
    pub timeout: Duration,
    /// Queries that run at once; more wait.
    pub concurrent_max: usize,
    /// Queries that wait; more are refused.
    pub waiting_max: usize,
    /// Points on one series in a range query.
    pub points_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            query_bytes_max: 256 << 20,
            timeout: Duration::from_secs(30),
            concurrent_max: 16,
            waiting_max: 256,
            points_max: 11_000,
        }
    }
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
}

pub struct Door {
    limits: Limits,
    clock: Arc<dyn Clock>,
    places: Arc<Semaphore>,
    waiting: AtomicU64,
    next_id: AtomicU64,
    running: Mutex<BTreeMap<u64, Running>>,
    pub counters: DoorCounters,
}

/// The text of a running query is kept up to this length.
const TEXT_BYTES_MAX: usize = 4 << 10;

impl Door {
    pub fn new(limits: Limits, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            places: Arc::new(Semaphore::new(limits.concurrent_max)),
            limits,
            clock,
            waiting: AtomicU64::new(0),
            next_id: AtomicU64::new(1),
            running: Mutex::new(BTreeMap::new()),
            counters: DoorCounters::default(),
        })
    }

    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Runs blocking work for a query. When the returned future is dropped, because the caller went away, the work is told to stop.
    pub async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        tenant: TenantId,
        language: Language,
        text: &str,
        timeout: Option<Duration>,
        work: impl FnOnce(&Budget) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let admission = self.admit(tenant, language, text).await?;
        let budget = admission.listing.budget.clone();
        let mut task = tokio::task::spawn_blocking(move || work(&budget));
        let timeout = timeout.map_or(self.limits.timeout, |timeout| timeout.min(self.limits.timeout));
        let outcome = tokio::select! {
            outcome = &mut task => outcome,
            () = tokio::time::sleep(timeout) => {
                admission.listing.budget.cancel(CancelReason::Deadline);
                task.await
            }
        };
        self.conclude(outcome.unwrap_or_else(|panic| Err(Error::corrupt(format!("the query failed inside: {panic}")))))
    }

    /// The same for work that is itself asynchronous, such as SQL. It runs on `workers`, a runtime of its own: an operator that
    /// computes long between two of its awaits then holds up other SQL at the most, never the server's sockets, and its time limit
    /// is kept by somebody who is not stuck behind it.
    ///
    /// A task can only be stopped where it awaits or looks at its budget. Until then it may go on past its time limit, as many at
    /// once as `workers` has threads; it stays in the list of running queries, but its place is free: what others may ask does not
    /// depend on it.
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
        let Admission { listing, place: _place } = self.admit(tenant, language, text).await?;
        let budget = listing.budget.clone();
        let work = work(budget.clone());
        let task = workers.spawn(async move {
            let outcome = work.await;
            drop(listing);
            outcome
        });
        let mut task = StopOnDrop { task, budget: budget.clone() };
        let outcome = tokio::select! {
            outcome = &mut task.task => outcome.unwrap_or_else(|panic| Err(Error::corrupt(format!("the query failed inside: {panic}")))),
            () = tokio::time::sleep(self.limits.timeout) => {
                budget.cancel(CancelReason::Deadline);
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
        }
        outcome
    }

    /// Waits for a place. What is returned keeps the place and stops the query when it is dropped.
    async fn admit(self: &Arc<Self>, tenant: TenantId, language: Language, text: &str) -> Result<Admission> {
        let waiting = Waiting::new(&self.waiting);
        if waiting.others >= self.limits.waiting_max as u64 {
            self.counters.refused.fetch_add(1, Ordering::Relaxed);
            return Err(Error::retry(format!("{} queries are waiting already: try again in a moment", waiting.others)));
        }
        let place = self.places.clone().acquire_owned().await.map_err(|_| CancelReason::Shutdown.error())?;
        drop(waiting);
        self.counters.started.fetch_add(1, Ordering::Relaxed);
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let budget = Arc::new(Budget::new(self.limits.query_bytes_max));
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

/// Counts one that waits for as long as it lives.
struct Waiting<'a> {
    count: &'a AtomicU64,
    others: u64,
}

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicU64) -> Self {
        let others = count.fetch_add(1, Ordering::Relaxed);
        Self { count, others }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
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
    place: tokio::sync::OwnedSemaphorePermit,
}

/// A line in the list of running queries.
struct Listing {
    id: u64,
    door: Arc<Door>,
    budget: Arc<Budget>,
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
        assert!(door.active(TenantId(1)).is_empty());
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
        let door = door(Limits { timeout: Duration::from_millis(20), concurrent_max: 1, ..Limits::default() });
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
