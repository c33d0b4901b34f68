//! A lane takes records from the journal into one store, in order, each once.
//!
//! While it is behind, after a start, it reads the journal's files. Once it has caught up it is handed each record as it is accepted,
//! decoded already, so that nothing is decoded twice. One thread per lane.

use crate::decode::{DecodeLimits, decode};
use crate::decoded::Decoded;
use br_journal::{Journal, Protocol, Record, Ticket};
use br_model::TenantId;
use br_std::{Error, Kind, Nanos, Result};
use br_storage::JournalPosition;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// What a lane does with a record.
pub trait Applier: Send {
    /// Whether requests of this protocol can bring something for it. What is read back from the journal is decoded only then.
    fn wants(&self, protocol: Protocol) -> bool;

    /// Called in the order of positions.
    fn apply(&mut self, tenant: TenantId, position: JournalPosition, received: Nanos, decoded: &Arc<Decoded>);

    /// Called before each record. False when it cannot be taken now: the lane waits for a moment and asks again.
    fn make_room(&mut self) -> bool {
        true
    }

    /// Called when no record waits: what was gathered may be written. False when that failed and must be tried again.
    fn idle(&mut self) -> bool {
        true
    }

    /// Called between two records: all up to `position` are applied, none after.
    fn seal(&mut self, position: JournalPosition) -> Result<()>;
}

/// What a lane starts from.
pub struct LaneStart {
    pub applier: Box<dyn Applier>,
    /// The store has everything up to here.
    pub progress: JournalPosition,
}

/// A record on its way.
struct Item {
    tenant: TenantId,
    received: Nanos,
    /// None when there is nothing in it for this store.
    decoded: Option<Arc<Decoded>>,
    ticket: Ticket,
    bytes: usize,
}

enum Work {
    Item(Item),
    Seal(oneshot::Sender<Result<JournalPosition>>),
}

#[derive(Default)]
struct Queue {
    work: VecDeque<Work>,
    /// What the items that wait take in memory.
    bytes: usize,
    is_closed: bool,
}

struct Shared {
    name: &'static str,
    queue: Mutex<Queue>,
    queue_changed: Condvar,
    /// Set once the lane has caught up with the journal; read and written inside the intake's ordering lock.
    is_live: Mutex<bool>,
    applied: watch::Sender<JournalPosition>,
    losses: Losses,
}

/// Records that are in the journal and not in the store.
#[derive(Default)]
struct Losses {
    /// Ranges of the journal that could not be read.
    damaged: AtomicU64,
    /// Records that were accepted once and cannot be decoded any more.
    undecodable: AtomicU64,
    /// Records on which the store failed inside.
    broken: AtomicU64,
}

/// The handle on a lane.
pub struct Lane {
    shared: Arc<Shared>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

/// Memory that records may take while they wait for a lane; beyond that senders are asked to come again.
const WAITING_BYTES_MAX: usize = 128 << 20;
/// How near to the end of the journal a lane must be to catch up under the ordering lock.
const NEAR: u64 = 64;
/// How long a lane that waits for the disk looks away at a time.
const PATIENCE: Duration = Duration::from_millis(20);
/// The same for a lane whose store cannot write.
const STORE_PATIENCE: Duration = Duration::from_millis(500);

impl Lane {
    /// Starts the thread of a lane whose store holds everything before `next`.
    #[allow(clippy::disallowed_methods, reason = "a lane is a named worker of the shell")]
    pub(crate) fn start(
        name: &'static str,
        journal: Arc<Journal>,
        order: Arc<Mutex<()>>,
        limits: DecodeLimits,
        start: LaneStart,
    ) -> Result<Self> {
        let next = start.progress.next();
        let (applied, _) = watch::channel(JournalPosition(next.0.saturating_sub(1)));
        let shared = Arc::new(Shared {
            name,
            queue: Mutex::default(),
            queue_changed: Condvar::new(),
            is_live: Mutex::new(false),
            applied,
            losses: Losses::default(),
        });
        let runner = Runner { shared: shared.clone(), journal, order, limits, next, applier: start.applier };
        let thread = std::thread::Builder::new().name(format!("lane-{name}")).spawn(move || runner.run());
        let thread = thread.map_err(|error| Error::from(error).context("starting a lane"))?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    /// Whether another record that takes `bytes` in memory may be accepted now.
    pub(crate) fn check_room(&self, bytes: usize) -> Result<()> {
        let waiting = self.shared.queue.lock().bytes;
        if waiting > 0 && waiting + bytes > WAITING_BYTES_MAX {
            return Err(Error::retry(format!("{} is {} MiB behind: try again in a moment", self.shared.name, waiting >> 20)));
        }
        Ok(())
    }

    /// Hands over an accepted record. Must be called inside the ordering lock, in the order of positions.
    pub(crate) fn push(&self, tenant: TenantId, received: Nanos, decoded: &Arc<Decoded>, ticket: &Ticket, bytes: usize) {
        // A lane that is behind will read the record from the journal.
        if !*self.shared.is_live.lock() {
            return;
        }
        let item = Item { tenant, received, decoded: Some(decoded.clone()), ticket: ticket.clone(), bytes };
        let mut queue = self.shared.queue.lock();
        queue.bytes += bytes;
        queue.work.push_back(Work::Item(item));
        drop(queue);
        self.shared.queue_changed.notify_one();
    }

    /// Lets the lane know of a record that holds nothing for its store: its position is all that counts, and of many in a row
    /// the last one alone.
    pub(crate) fn pass(&self, tenant: TenantId, received: Nanos, ticket: &Ticket) {
        if !*self.shared.is_live.lock() {
            return;
        }
        let mut queue = self.shared.queue.lock();
        if let Some(Work::Item(last)) = queue.work.back_mut()
            && last.decoded.is_none()
        {
            last.ticket = ticket.clone();
            return;
        }
        let item = Item { tenant, received, decoded: None, ticket: ticket.clone(), bytes: 0 };
        queue.work.push_back(Work::Item(item));
        drop(queue);
        self.shared.queue_changed.notify_one();
    }

    /// Seals the store's head between two records and returns the last position in it.
    pub async fn seal(&self) -> Result<JournalPosition> {
        let told = self.ask_for_seal()?;
        told.await.map_err(|_| Error::closed("the lane is closed"))?
    }

    fn ask_for_seal(&self) -> Result<oneshot::Receiver<Result<JournalPosition>>> {
        let (tell, told) = oneshot::channel();
        let mut queue = self.shared.queue.lock();
        if queue.is_closed {
            return Err(Error::closed("the lane is closed"));
        }
        queue.work.push_back(Work::Seal(tell));
        drop(queue);
        self.shared.queue_changed.notify_one();
        Ok(told)
    }

    pub fn applied(&self) -> JournalPosition {
        *self.shared.applied.borrow()
    }

    pub fn is_live(&self) -> bool {
        *self.shared.is_live.lock()
    }

    /// Waits until the store has a record, for a moment at the most. Returns at once while the lane is behind.
    pub(crate) async fn wait_applied(&self, position: JournalPosition, patience: Duration) {
        if self.is_live() {
            let mut applied = self.shared.applied.subscribe();
            let _ = tokio::time::timeout(patience, applied.wait_for(|applied| *applied >= position)).await;
        }
    }

    /// What is in the journal and not in the store, by reason.
    pub fn losses(&self) -> [(&'static str, u64); 3] {
        let Losses { damaged, undecodable, broken } = &self.shared.losses;
        [("damaged", damaged), ("undecodable", undecodable), ("broken", broken)]
            .map(|(reason, count)| (reason, count.load(Ordering::Relaxed)))
    }

    /// Ends the thread after the record at hand. What is left is in the journal.
    pub fn close(&self) {
        self.shared.queue.lock().is_closed = true;
        self.shared.queue_changed.notify_all();
        if let Some(thread) = self.thread.lock().take() {
            let _ = thread.join();
        }
    }
}

/// Whether a replay waits until the store has room for the next record. Not under the ordering lock, which holds up all senders:
/// the records that are read there are few.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Room {
    Awaited,
    Assumed,
}

/// What runs on the lane's thread.
struct Runner {
    shared: Arc<Shared>,
    journal: Arc<Journal>,
    order: Arc<Mutex<()>>,
    limits: DecodeLimits,
    /// All before this are applied.
    next: JournalPosition,
    applier: Box<dyn Applier>,
}

impl Runner {
    fn run(mut self) {
        if !self.catch_up() {
            return;
        }
        while let Some(work) = self.wait_for_work() {
            match work {
                Work::Item(item) => self.apply_live(&item),
                Work::Seal(tell) => self.seal(tell),
            }
        }
    }

    /// Reads the journal to its end and goes live. False when the lane was closed meanwhile.
    fn catch_up(&mut self) -> bool {
        loop {
            self.replay(Room::Awaited);
            if self.serve_seals() {
                return false;
            }
            let last = self.journal.status().last_position;
            if last.0.saturating_sub(self.next.0.saturating_sub(1)) <= NEAR {
                let order = self.order.clone();
                let guard = order.lock();
                // No position is given out now: what was given out settles within one sync.
                self.wait_until_settled();
                self.replay(Room::Assumed);
                *self.shared.is_live.lock() = true;
                drop(guard);
                self.applier.idle();
                tracing::info!(event = "LaneLive", lane = self.shared.name, position = self.next.0.saturating_sub(1));
                return true;
            }
        }
    }

    fn wait_until_settled(&self) {
        while self.journal.status().queued_bytes > 0 {
            let mut queue = self.shared.queue.lock();
            if queue.is_closed {
                return;
            }
            self.shared.queue_changed.wait_for(&mut queue, PATIENCE);
        }
    }

    /// Applies what the journal's files hold now.
    fn replay(&mut self, room: Room) {
        let mut replay = self.journal.replay(self.next);
        for found in replay.by_ref() {
            match found {
                Ok((position, record)) => {
                    if room == Room::Awaited && !self.wait_for_room() {
                        return;
                    }
                    self.apply_replayed(position, &record);
                }
                Err(error) if error.kind() == Kind::Corrupt => {
                    self.shared.losses.damaged.fetch_add(1, Ordering::Relaxed);
                    tracing::error!(event = "JournalDamagedError", lane = self.shared.name, "{error}");
                }
                Err(error) => {
                    tracing::error!(event = "JournalReadError", lane = self.shared.name, "{error}");
                    let mut queue = self.shared.queue.lock();
                    if queue.is_closed {
                        return;
                    }
                    self.shared.queue_changed.wait_for(&mut queue, PATIENCE);
                }
            }
            if self.serve_seals() {
                return;
            }
        }
        self.advance(JournalPosition(replay.next_position().0.saturating_sub(1)));
    }

    fn apply_replayed(&mut self, position: JournalPosition, record: &Record) {
        if !self.applier.wants(record.protocol) {
            return self.advance(position);
        }
        match decode(record, &self.limits) {
            Ok(decoded) => self.apply(record.tenant, position, record.received, &Arc::new(decoded)),
            // It was decoded when it was accepted: a newer version that reads less is a fault, and is told.
            Err(error) => {
                self.shared.losses.undecodable.fetch_add(1, Ordering::Relaxed);
                tracing::error!(event = "ReplayDecodeError", lane = self.shared.name, position = position.0, "{error}");
            }
        }
        self.advance(position);
    }

    fn apply_live(&mut self, item: &Item) {
        let position = item.ticket.position();
        // Nothing is seen that could be lost: the store gets the record when the disk has it.
        if item.ticket.wait().is_ok()
            && let Some(decoded) = &item.decoded
        {
            self.apply(item.tenant, position, item.received, decoded);
        }
        self.advance(position);
        self.shared.queue.lock().bytes -= item.bytes;
    }

    /// A record on which a store fails inside is left out, loudly: the lane of all the others must not end with it.
    fn apply(&mut self, tenant: TenantId, position: JournalPosition, received: Nanos, decoded: &Arc<Decoded>) {
        let applier = &mut self.applier;
        let applied = catch_unwind(AssertUnwindSafe(|| applier.apply(tenant, position, received, decoded)));
        if applied.is_err() {
            self.shared.losses.broken.fetch_add(1, Ordering::Relaxed);
            tracing::error!(
                event = "RecordApplyError",
                lane = self.shared.name,
                position = position.0,
                "the store failed inside"
            );
        }
    }

    fn seal(&mut self, tell: oneshot::Sender<Result<JournalPosition>>) {
        let position = JournalPosition(self.next.0.saturating_sub(1));
        let _ = tell.send(self.applier.seal(position).map(|()| position));
    }

    /// False when the lane was closed meanwhile; what it did not take is in the journal.
    fn wait_for_room(&mut self) -> bool {
        while !self.applier.make_room() {
            let mut queue = self.shared.queue.lock();
            // A seal is what makes room: it must not wait behind records that wait for room.
            if let Some(tell) = take_seal(&mut queue.work) {
                drop(queue);
                self.seal(tell);
                continue;
            }
            if !queue.is_closed {
                self.shared.queue_changed.wait_for(&mut queue, STORE_PATIENCE);
            }
            if queue.is_closed {
                return false;
            }
        }
        true
    }

    fn advance(&mut self, position: JournalPosition) {
        if position >= self.next {
            self.next = position.next();
            self.shared.applied.send_replace(position);
        }
    }

    /// A long replay must not fill the memory: heads are sealed and written while it goes on. True when the lane was closed.
    fn serve_seals(&mut self) -> bool {
        loop {
            let work = {
                let mut queue = self.shared.queue.lock();
                if queue.is_closed {
                    return true;
                }
                queue.work.pop_front()
            };
            match work {
                Some(Work::Seal(tell)) => self.seal(tell),
                Some(Work::Item(item)) => self.apply_live(&item),
                None => return false,
            }
        }
    }

    /// `None` when the lane was closed.
    fn wait_for_work(&mut self) -> Option<Work> {
        if !self.wait_for_room() {
            return None;
        }
        loop {
            {
                let mut queue = self.shared.queue.lock();
                if queue.is_closed {
                    return None;
                }
                if let Some(work) = queue.work.pop_front() {
                    return Some(work);
                }
            }
            let is_done = self.applier.idle();
            let mut queue = self.shared.queue.lock();
            if queue.work.is_empty() && !queue.is_closed {
                if is_done {
                    self.shared.queue_changed.wait(&mut queue);
                } else {
                    self.shared.queue_changed.wait_for(&mut queue, STORE_PATIENCE);
                }
            }
        }
    }
}

fn take_seal(work: &mut VecDeque<Work>) -> Option<oneshot::Sender<Result<JournalPosition>>> {
    let at = work.iter().position(|work| matches!(work, Work::Seal(_)))?;
    match work.remove(at) {
        Some(Work::Seal(tell)) => Some(tell),
        _ => None,
    }
}
