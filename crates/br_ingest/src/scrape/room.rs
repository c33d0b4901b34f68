//! What a scrape may take while it is under way, alone and with all others.

use br_std::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bodies of all scrapes that are under way, in the clear, in KiB.
const ROOM_KIB: usize = 256 << 10;

/// Memory that the bodies of all scrapes share.
#[derive(Clone)]
pub(super) struct Room {
    kib: Arc<Semaphore>,
}

impl Default for Room {
    fn default() -> Self {
        Self { kib: Arc::new(Semaphore::new(ROOM_KIB)) }
    }
}

/// A place in the room. It is free again when this is dropped.
#[derive(Default)]
pub(super) struct Place {
    held: Option<OwnedSemaphorePermit>,
}

impl Place {
    /// Takes room for more bytes that have come; an error when there is none.
    pub(super) fn take(&mut self, room: &Room, bytes: usize) -> Result<()> {
        let none = |_| Error::retry(format!("{} MiB of scrapes are on their way already", ROOM_KIB >> 10));
        let permit = room.kib.clone().try_acquire_many_owned(kib(bytes)).map_err(none)?;
        self.merge(permit);
        Ok(())
    }

    /// Waits until there is room for so many bytes in all.
    pub(super) async fn grow(&mut self, room: &Room, bytes: usize) -> Result<()> {
        let held = self.held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let wanted = (kib(bytes) as usize).min(ROOM_KIB).saturating_sub(held);
        let closed = |_| Error::closed("the server is shutting down");
        let permit = room.kib.clone().acquire_many_owned(u32::try_from(wanted).unwrap_or(u32::MAX)).await.map_err(closed)?;
        self.merge(permit);
        Ok(())
    }

    fn merge(&mut self, permit: OwnedSemaphorePermit) {
        match &mut self.held {
            Some(held) => held.merge(permit),
            None => self.held = Some(permit),
        }
    }
}

fn kib(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(1 << 10)).unwrap_or(u32::MAX)
}

/// Whether somebody still waits for a scrape that is being read.
#[derive(Debug, Default)]
pub(super) struct Patience {
    state: AtomicU8,
}

const LATE: u8 = 1;
const UNWANTED: u8 = 2;

impl Patience {
    /// The time of the scrape is over.
    pub(super) fn run_out(&self) {
        self.state.store(LATE, Ordering::Relaxed);
    }

    /// Nobody wants to know any more.
    pub(super) fn give_up(&self) {
        self.state.store(UNWANTED, Ordering::Relaxed);
    }

    pub(super) fn has_ended(&self) -> bool {
        self.state.load(Ordering::Relaxed) != 0
    }

    pub(super) fn is_unwanted(&self) -> bool {
        self.state.load(Ordering::Relaxed) == UNWANTED
    }
}
