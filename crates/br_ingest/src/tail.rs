//! The live tail: records go out as they are applied, past the stores.

use br_events::Erasure;
use br_model::names::label_name;
use br_model::{Labels, LogBatch, LogRecord, Resource, TenantId};
use br_std::{Error, Result};
use br_storage::{Derived, LogRow};
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// Those who follow one tenant's logs at once; more are refused.
pub const FOLLOWERS_MAX: usize = 100;
/// What waits for one follower. All followers of a tenant wait for the same rows, which are held once: a tenant's tail holds little
/// more than this, however many there are and however slow.
const WAITING_BYTES_MAX: usize = 32 << 20;

/// Rows of one request, for every follower of the tenant.
#[derive(Clone, Debug)]
struct TailBatch {
    rows: Arc<Vec<LogRow>>,
    bytes: usize,
}

/// What came for a follower since it asked last.
#[derive(Clone, Debug, Default)]
pub struct Received {
    /// Empty where there is only a loss to tell.
    pub rows: Arc<Vec<LogRow>>,
    /// Rows before these that were let go, as too much waited.
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

#[derive(Default)]
struct Waiting {
    queue: Mutex<Queue>,
    news: Notify,
}

#[derive(Default)]
struct Queue {
    batches: VecDeque<TailBatch>,
    bytes: usize,
    dropped: usize,
}

impl Queue {
    /// The oldest make room.
    fn push(&mut self, batch: TailBatch) {
        self.bytes += batch.bytes;
        self.batches.push_back(batch);
        while self.bytes > WAITING_BYTES_MAX
            && let Some(oldest) = self.batches.pop_front()
        {
            self.bytes -= oldest.bytes;
            self.dropped += oldest.rows.len();
        }
    }

    fn pop(&mut self) -> Option<Received> {
        let dropped = std::mem::take(&mut self.dropped);
        match self.batches.pop_front() {
            Some(batch) => {
                self.bytes -= batch.bytes;
                Some(Received { rows: batch.rows, dropped })
            }
            None => (dropped > 0).then(|| Received { rows: Arc::default(), dropped }),
        }
    }
}

impl Tail {
    /// Everything of the tenant that is applied from now on.
    pub fn listen(&self, tenant: TenantId) -> Result<Listener> {
        let mut followers = self.followers.lock();
        let mine = followers.entry(tenant).or_default();
        if mine.len() >= FOLLOWERS_MAX {
            return Err(Error::over_limit(format!("{FOLLOWERS_MAX} clients follow the live tail already: close one of them")));
        }
        let waiting = Arc::new(Waiting::default());
        mine.push(waiting.clone());
        Ok(Listener { tenant, waiting, tail: self.clone() })
    }

    /// What waits for followers loses what is erased. What they have is theirs.
    pub(crate) fn erase(&self, tenant: TenantId, erasure: &Erasure) {
        let followers = self.followers.lock().get(&tenant).cloned().unwrap_or_default();
        for follower in followers {
            for batch in &mut follower.queue.lock().batches {
                if batch.rows.iter().any(|row| erasure.means(row)) {
                    batch.rows = Arc::new(batch.rows.iter().filter(|row| !erasure.means(row)).cloned().collect());
                }
            }
        }
    }

    /// Costs nothing while nobody listens.
    pub(crate) fn publish(&self, tenant: TenantId, batch: &LogBatch) {
        let followers = match self.followers.lock().get(&tenant) {
            Some(followers) if !batch.groups.is_empty() => followers.clone(),
            _ => return,
        };
        let mut rows = Vec::with_capacity(batch.record_count());
        for group in &batch.groups {
            let stream = stream_labels(&group.resource);
            rows.extend(group.records.iter().map(|record| row(&stream, record)));
        }
        let bytes = rows.iter().map(row_bytes).sum();
        let batch = TailBatch { rows: Arc::new(rows), bytes };
        for follower in followers {
            follower.queue.lock().push(batch.clone());
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

/// Roughly what a row holds. Its stream's labels are shared.
fn row_bytes(row: &LogRow) -> usize {
    let pair = |(name, value): &(String, String)| name.len() + value.len() + size_of::<(String, String)>();
    size_of::<LogRow>() + row.line.len() + row.metadata.iter().map(pair).sum::<usize>()
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
    use br_model::Severity;

    fn batch(rows: usize, bytes: usize) -> TailBatch {
        let line = |_| {
            let record = LogRecord { body: "x".into(), ..LogRecord::default() };
            row(&Labels::empty(), &record)
        };
        TailBatch { rows: Arc::new((0..rows).map(line).collect()), bytes }
    }

    #[test]
    fn a_slow_follower_loses_the_oldest_and_is_told() {
        let mut queue = Queue::default();
        for rows in 1..=3 {
            queue.push(batch(rows, WAITING_BYTES_MAX / 2));
        }
        let first = queue.pop().expect("two are left");
        assert_eq!((first.rows.len(), first.dropped), (2, 1));
        queue.push(batch(7, WAITING_BYTES_MAX + 1));
        let told = queue.pop().expect("a loss is told");
        assert_eq!((told.rows.len(), told.dropped), (0, 10));
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
        let mut all: Vec<Listener> = (0..FOLLOWERS_MAX).map(|_| tail.listen(TenantId(1)).expect("a place")).collect();
        assert!(tail.listen(TenantId(1)).is_err() && tail.listen(TenantId(2)).is_ok());
        all.pop();
        assert!(tail.listen(TenantId(1)).is_ok());
        drop(all);
        assert!(tail.followers.lock().is_empty());
    }
}
