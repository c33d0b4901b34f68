//! The handle on a record that is being made durable.

use br_std::{Error, Result};
use br_storage::JournalPosition;
use parking_lot::{Condvar, Mutex};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Completes when the record is on stable storage, or when it is certain that it will not be acknowledged.
///
/// Wait for it with [`Ticket::wait`] or `.await`; clones see the same outcome. An error has the kind `Retry` or `Closed`; the
/// record may be on the disk all the same, as with every request whose answer is lost.
#[derive(Clone)]
pub struct Ticket {
    position: JournalPosition,
    outcome: Arc<Outcome>,
}

impl Ticket {
    pub(crate) fn new(position: JournalPosition, outcome: Arc<Outcome>) -> Self {
        Self { position, outcome }
    }

    pub fn position(&self) -> JournalPosition {
        self.position
    }

    /// Blocks the thread.
    pub fn wait(&self) -> Result<()> {
        let mut state = self.outcome.state.lock();
        loop {
            if let Some(settled) = state.settled.clone() {
                return settled.into_result();
            }
            self.outcome.changed.wait(&mut state);
        }
    }

    /// Blocks the thread for `timeout` at the most; `None` when the record is not settled by then.
    pub fn wait_for(&self, timeout: Duration) -> Option<Result<()>> {
        let mut state = self.outcome.state.lock();
        if state.settled.is_none() {
            self.outcome.changed.wait_while_for(&mut state, |state| state.settled.is_none(), timeout);
        }
        state.settled.clone().map(Settled::into_result)
    }

    /// The outcome, if it is known already.
    pub fn try_wait(&self) -> Option<Result<()>> {
        self.outcome.state.lock().settled.clone().map(Settled::into_result)
    }
}

impl Future for Ticket {
    type Output = Result<()>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let mut state = self.outcome.state.lock();
        if let Some(settled) = state.settled.clone() {
            return Poll::Ready(settled.into_result());
        }
        if !state.wakers.iter().any(|waker| waker.will_wake(context.waker())) {
            state.wakers.push(context.waker().clone());
        }
        Poll::Pending
    }
}

/// What became of a group of records, shared by their tickets.
#[derive(Default)]
pub(crate) struct Outcome {
    state: Mutex<OutcomeState>,
    changed: Condvar,
}

#[derive(Default)]
struct OutcomeState {
    settled: Option<Settled>,
    wakers: Vec<Waker>,
}

#[derive(Clone, Debug)]
pub(crate) enum Settled {
    Durable,
    /// Could not be written; another try later may succeed.
    Failed(String),
    /// The journal was closed before the record was written.
    Closed,
}

impl Settled {
    fn into_result(self) -> Result<()> {
        match self {
            Self::Durable => Ok(()),
            Self::Failed(message) => Err(Error::retry(message)),
            Self::Closed => Err(Error::closed("the journal was closed before the record was on the disk")),
        }
    }
}

impl Outcome {
    /// The first outcome stays.
    pub(crate) fn settle(&self, settled: Settled) {
        let wakers = {
            let mut state = self.state.lock();
            if state.settled.is_some() {
                return;
            }
            state.settled = Some(settled);
            std::mem::take(&mut state.wakers)
        };
        self.changed.notify_all();
        for waker in wakers {
            waker.wake();
        }
    }
}
