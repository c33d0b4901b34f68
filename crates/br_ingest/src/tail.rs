//! The live tail: records go out as they are applied, past the stores.

use crate::decoded::Decoded;
use br_events::Erasure;
use br_model::names::label_name;
use br_model::{Labels, LogRecord, Resource, TenantId};
use br_std::{Error, Result};
use br_storage::{Derived, LogRow};
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, OnceLock};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// Those who follow one tenant's logs at once; more are refused.
pub const FOLLOWERS_MAX: usize = 100;
/// What waits for one follower. All followers of a tenant wait for the same rows, which are held once: a tenant's tail holds little
/// more than this, however many there are and however slow.
const WAITING_BYTES_MAX: usize = 32 << 20;

/// What one request brought, for every follower of the tenant. Rows are made once, of the streams that somebody follows.
pub struct TailBatch {
    decoded: Arc<Decoded>,
    bytes: usize,
    streams: OnceLock<Vec<Labels>>,
    /// Of each stream.
    rows: Vec<OnceLock<Vec<LogRow>>>,
}

impl TailBatch {
    pub fn new(decoded: Arc<Decoded>) -> Self {
        // With the rows it takes about twice as much as it does.
        let bytes = decoded.memory_bytes().saturating_mul(2);
        let rows = decoded.logs.groups.iter().map(|_| OnceLock::new()).collect();
        Self { decoded, bytes, streams: OnceLock::new(), rows }
    }

    /// The labels of each stream; one may be there twice.
    pub fn streams(&self) -> &[Labels] {
        self.streams.get_or_init(|| self.decoded.logs.groups.iter().map(|group| stream_labels(&group.resource)).collect())
    }

    /// The rows of a stream, by its place among [`TailBatch::streams`]; none for a place behind the last.
    pub fn rows(&self, stream: usize) -> &[LogRow] {
        let (Some(labels), Some(rows)) = (self.streams().get(stream), self.rows.get(stream)) else { return &[] };
        rows.get_or_init(|| self.decoded.logs.groups[stream].records.iter().map(|record| row(labels, record)).collect())
    }

    /// The same without what is erased; `None` where it has nothing of that.
    fn without(&self, erasure: &Erasure) -> Option<Self> {
        let of_stream = |stream: usize| self.rows(stream).iter().map(|row| erasure.means(row)).collect::<Vec<bool>>();
        let meant: Vec<Vec<bool>> = (0..self.rows.len()).map(of_stream).collect();
        if !meant.iter().flatten().any(|is_meant| *is_meant) {
            return None;
        }
        let mut logs = self.decoded.logs.clone();
        for (group, meant) in logs.groups.iter_mut().zip(meant) {
            let mut meant = meant.into_iter();
            group.records.retain(|_| !meant.next().unwrap_or(false));
        }
        let left = Self::new(Arc::new(Decoded { logs, ..Decoded::default() }));
        Some(Self { bytes: self.bytes, ..left })
    }

    /// How many rows a follower of these streams would have had to look at.
    fn count(&self, selects: &Selects) -> usize {
        let groups = self.streams().iter().zip(&self.decoded.logs.groups);
        groups.filter(|(labels, _)| selects(labels)).map(|(_, group)| group.records.len()).sum()
    }
}

/// Whether somebody follows a stream.
pub type Selects = dyn Fn(&Labels) -> bool + Send + Sync;

/// What came for a follower since it asked last.
#[derive(Clone, Default)]
pub struct Received {
    /// `None` where there is only a loss to tell.
    pub batch: Option<Arc<TailBatch>>,
    /// Rows of its streams before these that were let go, as too much waited.
    pub dropped: usize,
}

/// Where followers come and go.
#[derive(Clone)]
pub struct Tail {
    followers: Arc<Mutex<BTreeMap<TenantId, Vec<Arc<Waiting>>>>>,
    turns: Arc<Semaphore>,
}

impl Default for Tail {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { followers: Arc::default(), turns: Arc::new(Semaphore::new((cores / 2).max(1))) }
    }
}

struct Waiting {
    queue: Mutex<Queue>,
    news: Notify,
    selects: Arc<Selects>,
}

#[derive(Default)]
struct Queue {
    batches: VecDeque<Arc<TailBatch>>,
    bytes: usize,
    dropped: usize,
}

impl Queue {
    /// The oldest make room.
    fn push(&mut self, batch: Arc<TailBatch>, selects: &Selects) {
        self.bytes += batch.bytes;
        self.batches.push_back(batch);
        while self.bytes > WAITING_BYTES_MAX
            && let Some(oldest) = self.batches.pop_front()
        {
            self.bytes -= oldest.bytes;
            self.dropped += oldest.count(selects);
        }
    }

    fn pop(&mut self) -> Option<Received> {
        let dropped = std::mem::take(&mut self.dropped);
        let batch = self.batches.pop_front();
        if let Some(batch) = &batch {
            self.bytes -= batch.bytes;
        }
        (batch.is_some() || dropped > 0).then_some(Received { batch, dropped })
    }
}

impl Tail {
    /// What of the tenant is applied from now on; `selects` counts what is lost.
    pub fn listen(&self, tenant: TenantId, selects: Arc<Selects>) -> Result<Listener> {
        let mut followers = self.followers.lock();
        let mine = followers.entry(tenant).or_default();
        if mine.len() >= FOLLOWERS_MAX {
            return Err(Error::over_limit(format!("{FOLLOWERS_MAX} clients follow the live tail already: close one of them")));
        }
        let waiting = Arc::new(Waiting { queue: Mutex::default(), news: Notify::new(), selects });
        mine.push(waiting.clone());
        Ok(Listener { tenant, waiting, tail: self.clone() })
    }

    /// What waits for followers loses what is erased. What they have is theirs.
    pub(crate) fn erase(&self, tenant: TenantId, erasure: &Erasure) {
        let followers = self.followers.lock().get(&tenant).cloned().unwrap_or_default();
        for follower in followers {
            for batch in &mut follower.queue.lock().batches {
                if let Some(left) = batch.without(erasure) {
                    *batch = Arc::new(left);
                }
            }
        }
    }

    /// Costs nothing while nobody listens, and little else: those who follow make the rows.
    pub(crate) fn publish(&self, tenant: TenantId, decoded: &Arc<Decoded>) {
        let followers = match self.followers.lock().get(&tenant) {
            Some(followers) => followers.clone(),
            None => return,
        };
        let batch = Arc::new(TailBatch::new(decoded.clone()));
        for follower in followers {
            follower.queue.lock().push(batch.clone(), &*follower.selects);
            follower.news.notify_one();
        }
    }
}

/// One follower's end.
pub struct Listener {
    tenant: TenantId,
    waiting: Arc<Waiting>,
    tail: Tail,
}

impl Listener {
    /// Waits until there is something. Nothing is taken yet: what waits is bounded, what was taken is not.
    pub async fn wait(&self) {
        loop {
            let news = self.waiting.news.notified();
            {
                let queue = self.waiting.queue.lock();
                if !queue.batches.is_empty() || queue.dropped > 0 {
                    return;
                }
            }
            news.await;
        }
    }

    /// Waits for leave to compute: all followers together take half of the cores at the most.
    pub async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        self.tail.turns.clone().acquire_owned().await.ok()
    }

    /// The oldest rows that wait.
    pub fn take(&self) -> Option<Received> {
        self.waiting.queue.lock().pop()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut followers = self.tail.followers.lock();
        if let Some(mine) = followers.get_mut(&self.tenant) {
            mine.retain(|waiting| !Arc::ptr_eq(waiting, &self.waiting));
            if mine.is_empty() {
                followers.remove(&self.tenant);
            }
        }
    }
}

fn stream_labels(resource: &Resource) -> Labels {
    Labels::from_pairs(resource.attributes.iter().map(|(key, value)| (label_name(key), value.to_string())))
}

/// A row as the store gives it.
fn row(stream: &Labels, record: &LogRecord) -> LogRow {
    let mut metadata: Vec<(String, String)> =
        record.attributes.iter().map(|(key, value)| (label_name(key), value.to_string())).collect();
    let derived = Derived {
        severity: record.severity,
        severity_text: &record.severity_text,
        trace_id: record.trace_id,
        span_id: record.span_id,
    };
    derived.add_to(&mut metadata);
    LogRow {
        timestamp: record.timestamp,
        stream: stream.clone(),
        line: record.body.clone(),
        kind: record.kind,
        severity: record.severity,
        trace_id: record.trace_id,
        span_id: record.span_id,
        metadata,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use br_model::{LogBatch, ResourceLogs, Severity};

    /// Rows of the stream `a`, and one of another.
    fn batch(rows: usize, bytes: usize) -> Arc<TailBatch> {
        let group = |name: &str, rows: usize| {
            let attributes = [("app", name)].into_iter().collect();
            let records = vec![LogRecord { body: "x".into(), ..LogRecord::default() }; rows];
            ResourceLogs { resource: Arc::new(Resource { attributes }), scope: Arc::default(), records }
        };
        let logs = LogBatch { groups: vec![group("a", rows), group("b", 1)] };
        let decoded = Arc::new(Decoded { logs, ..Decoded::default() });
        Arc::new(TailBatch { bytes, ..TailBatch::new(decoded) })
    }

    fn of_a(labels: &Labels) -> bool {
        labels.get("app") == Some("a")
    }

    #[test]
    fn a_slow_follower_loses_the_oldest_and_is_told() {
        let mut queue = Queue::default();
        for rows in 1..=3 {
            queue.push(batch(rows, WAITING_BYTES_MAX / 2), &of_a);
        }
        let rows = |received: &Received| received.batch.as_ref().map(|batch| batch.rows(0).len());
        let first = queue.pop().expect("two are left");
        assert_eq!((rows(&first), first.dropped), (Some(2), 1));
        queue.push(batch(7, WAITING_BYTES_MAX + 1), &of_a);
        let told = queue.pop().expect("a loss is told");
        assert_eq!((rows(&told), told.dropped), (None, 10));
        assert!(queue.pop().is_none() && queue.bytes == 0);
    }

    #[test]
    fn the_level_is_always_among_the_metadata() {
        let mut record = LogRecord { severity: Severity::WARN, severity_text: "Warning".into(), ..LogRecord::default() };
        let metadata = |record: &LogRecord| {
            let pairs = row(&Labels::empty(), record).metadata;
            pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(metadata(&record), "severity_text=Warning detected_level=warn");
        record.attributes.push("detected_level", "mine");
        assert_eq!(metadata(&record), "detected_level=mine severity_text=Warning");
        assert_eq!(metadata(&LogRecord::default()), "");
    }

    #[test]
    fn followers_are_counted_by_tenant() {
        let tail = Tail::default();
        let mut all: Vec<Listener> =
            (0..FOLLOWERS_MAX).map(|_| tail.listen(TenantId(1), Arc::new(of_a)).expect("a place")).collect();
        assert!(tail.listen(TenantId(1), Arc::new(of_a)).is_err() && tail.listen(TenantId(2), Arc::new(of_a)).is_ok());
        all.pop();
        assert!(tail.listen(TenantId(1), Arc::new(of_a)).is_ok());
        drop(all);
        assert!(tail.followers.lock().is_empty());
    }
}
