//! Records that wait to be sent: bounded by bytes, and never for long in the program's way.
//!
//! A writer that finds no room waits for it, which slows the program to the pace of the server. When no room is made within the
//! patience the server stands still: from then on records are dropped and counted, until it takes some again.

use super::lines::Record;
use super::output::Stream;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout_at};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) stream: Stream,
    pub(super) record: Record,
}

/// What bounds the queue and its batches.
#[derive(Clone, Copy, Debug)]
pub(super) struct QueueLimits {
    pub(super) bytes_max: usize,
    /// How long a writer may be held up in all, while nothing is taken.
    pub(super) patience: Duration,
    pub(super) batch_bytes: usize,
    pub(super) batch_records: usize,
    /// How long a record waits for others that go with it.
    pub(super) linger: Duration,
}

impl Default for QueueLimits {
    fn default() -> Self {
        Self {
            bytes_max: 64 << 20,
            patience: Duration::from_secs(5),
            batch_bytes: 1 << 20,
            batch_records: 10_000,
            linger: Duration::from_millis(100),
        }
    }
}

pub(super) struct Queue {
    limits: QueueLimits,
    state: Mutex<State>,
    arrived: Notify,
    room: Notify,
}

#[derive(Default)]
struct State {
    records: VecDeque<Waiting>,
    bytes: usize,
    /// Since when a writer has found no room; `None` once something was taken.
    full_since: Option<Instant>,
    dropped: u64,
    /// Dropped since the last record that was let in: a record in their place will say so.
    dropped_here: u64,
    is_closed: bool,
}

impl Queue {
    pub(super) fn new(limits: QueueLimits) -> Self {
        Self { limits, state: Mutex::default(), arrived: Notify::new(), room: Notify::new() }
    }

    /// Lets records in, waiting for room within the patience. The number that was dropped is returned.
    pub(super) async fn push(&self, records: impl IntoIterator<Item = Waiting>) -> u64 {
        let mut dropped = 0;
        for waiting in records {
            let mut refused = self.try_push(waiting);
            while let Some((waiting, until)) = refused {
                let room = self.room.notified();
                tokio::pin!(room);
                // From here on no notice is missed; room that was made before is seen by the next attempt.
                room.as_mut().enable();
                refused = self.try_push(waiting);
                if refused.is_none() {
                    break;
                }
                if timeout_at(until, room).await.is_err() {
                    refused = None;
                    let mut state = self.state.lock();
                    state.dropped += 1;
                    state.dropped_here += 1;
                    dropped += 1;
                }
            }
        }
        dropped
    }

    /// A record that finds no room comes back, with the time until which it may wait.
    fn try_push(&self, waiting: Waiting) -> Option<(Waiting, Instant)> {
        let mut state = self.state.lock();
        if state.is_closed {
            state.dropped += 1;
            return None;
        }
        let bytes = size_of_waiting(&waiting);
        // A record that is larger than the queue passes alone.
        if state.bytes + bytes > self.limits.bytes_max && !state.records.is_empty() {
            let since = *state.full_since.get_or_insert_with(Instant::now);
            return Some((waiting, since + self.limits.patience));
        }
        if state.dropped_here > 0 {
            let text = format!("[bellrock] {} lines were dropped here", state.dropped_here);
            let notice = Waiting { stream: Stream::Err, record: Record { at: waiting.record.at, text } };
            state.dropped_here = 0;
            state.bytes += size_of_waiting(&notice);
            state.records.push_back(notice);
        }
        state.bytes += bytes;
        state.records.push_back(waiting);
        drop(state);
        self.arrived.notify_one();
        None
    }

    /// The next batch, oldest first; `None` once the queue is closed and empty.
    pub(super) async fn take(&self) -> Option<Vec<Waiting>> {
        let mut linger_until = None;
        loop {
            {
                let mut state = self.state.lock();
                let is_full = state.bytes >= self.limits.batch_bytes || state.records.len() >= self.limits.batch_records;
                let has_lingered = linger_until.is_some_and(|until| Instant::now() >= until);
                if !state.records.is_empty() && (is_full || has_lingered || state.is_closed) {
                    return Some(self.cut(&mut state));
                }
                if state.is_closed {
                    return None;
                }
                if !state.records.is_empty() && linger_until.is_none() {
                    linger_until = Some(Instant::now() + self.limits.linger);
                }
            }
            match linger_until {
                Some(until) => tokio::select! {
                    () = self.arrived.notified() => {}
                    () = sleep_until(until) => {}
                },
                None => self.arrived.notified().await,
            }
        }
    }

    fn cut(&self, state: &mut State) -> Vec<Waiting> {
        let mut bytes = 0;
        let mut batch = Vec::new();
        while let Some(waiting) = state.records.front() {
            bytes += size_of_waiting(waiting);
            if !batch.is_empty() && (bytes > self.limits.batch_bytes || batch.len() >= self.limits.batch_records) {
                break;
            }
            batch.extend(state.records.pop_front());
        }
        state.bytes -= batch.iter().map(size_of_waiting).sum::<usize>();
        state.full_since = None;
        self.room.notify_waiters();
        batch
    }

    /// Nothing more is let in; what waits is still handed out.
    pub(super) fn close(&self) {
        self.state.lock().is_closed = true;
        self.arrived.notify_one();
        self.room.notify_waiters();
    }

    pub(super) fn dropped(&self) -> u64 {
        self.state.lock().dropped
    }

    pub(super) fn len(&self) -> u64 {
        self.state.lock().records.len() as u64
    }
}

/// What a record takes in memory, about.
fn size_of_waiting(waiting: &Waiting) -> usize {
    size_of::<Waiting>() + waiting.record.text.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use br_std::Nanos;
    use std::sync::Arc;

    fn line(text: &str) -> Waiting {
        Waiting { stream: Stream::Out, record: Record { at: Nanos(1), text: text.into() } }
    }

    fn limits(bytes_max: usize) -> QueueLimits {
        QueueLimits { bytes_max, patience: Duration::from_millis(50), linger: Duration::from_millis(5), ..QueueLimits::default() }
    }

    fn texts(batch: Option<Vec<Waiting>>) -> Vec<String> {
        batch.into_iter().flatten().map(|waiting| waiting.record.text).collect()
    }

    #[tokio::test]
    async fn lines_of_a_moment_are_one_batch() {
        let queue = Queue::new(limits(1 << 20));
        for at in 0..100 {
            assert_eq!(queue.push([line(&at.to_string())]).await, 0);
        }
        assert_eq!(queue.take().await.map(|batch| batch.len()), Some(100));
        queue.push([line("last")]).await;
        queue.close();
        assert_eq!(texts(queue.take().await), ["last"]);
        assert_eq!(queue.take().await, None);
    }

    #[tokio::test]
    async fn a_batch_is_bounded() {
        let queue = Queue::new(QueueLimits { batch_records: 3, ..limits(1 << 20) });
        queue.push((0..7).map(|at| line(&at.to_string()))).await;
        queue.close();
        assert_eq!(texts(queue.take().await), ["0", "1", "2"]);
        assert_eq!(texts(queue.take().await), ["3", "4", "5"]);
        assert_eq!(texts(queue.take().await), ["6"]);
    }

    #[tokio::test]
    async fn a_reader_that_goes_on_loses_nothing_however_small_the_queue() {
        let queue = Arc::new(Queue::new(QueueLimits { batch_records: 2, patience: Duration::from_secs(20), ..limits(400) }));
        let writer = tokio::spawn({
            let queue = queue.clone();
            async move {
                let dropped = queue.push((0..1000).map(|at| line(&at.to_string()))).await;
                queue.close();
                dropped
            }
        });
        let mut all = Vec::new();
        while let Some(batch) = queue.take().await {
            all.extend(texts(Some(batch)));
        }
        assert_eq!(writer.await.expect("no panic"), 0);
        assert_eq!(all, (0..1000).map(|at| at.to_string()).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_reader_that_stands_still_holds_the_writer_up_once_and_the_loss_is_counted_and_marked() {
        let queue = Queue::new(limits(3 * size_of_waiting(&line("x"))));
        let started = Instant::now();
        assert_eq!(queue.push((0..503).map(|_| line("x"))).await, 500);
        assert!(started.elapsed() < Duration::from_secs(5), "the patience is for all, not for each");
        assert_eq!((queue.dropped(), queue.len()), (500, 3));
        assert_eq!(texts(queue.take().await), ["x", "x", "x"]);
        assert_eq!(queue.push([line("y")]).await, 0);
        queue.close();
        assert_eq!(texts(queue.take().await), ["[bellrock] 500 lines were dropped here", "y"]);
    }
}
