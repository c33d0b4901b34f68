//! Records on their way to the writer: bounded, in order, in groups.

use crate::format::EncodedRecord;
use crate::ticket::{Outcome, Settled, Ticket};
use br_std::{Error, Result};
use br_storage::JournalPosition;
use std::collections::VecDeque;
use std::sync::Arc;

/// Records that are written and synced together.
#[derive(Default)]
pub(crate) struct Group {
    pub(crate) records: Vec<EncodedRecord>,
    /// What the records take in a segment.
    pub(crate) bytes: usize,
    outcome: Arc<Outcome>,
}

impl Group {
    /// Positions of the first and the last record; a group that was handed out is never empty.
    pub(crate) fn positions(&self) -> Option<(JournalPosition, JournalPosition)> {
        Some((self.records.first()?.position(), self.records.last()?.position()))
    }

    pub(crate) fn settle(&self, settled: Settled) {
        self.outcome.settle(settled);
    }
}

/// A group that nobody settled, because the writer is gone, must not leave its senders waiting.
impl Drop for Group {
    fn drop(&mut self) {
        self.outcome.settle(Settled::Closed);
    }
}

/// Whether records are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    Open,
    /// Less is free on the disk than the operator wants to keep.
    DiskFull {
        free_bytes: u64,
    },
    /// The disk refuses writes.
    ReadOnly {
        reason: String,
    },
    Closed,
}

impl Gate {
    fn check(&self) -> Result<()> {
        match self {
            Self::Open => Ok(()),
            Self::DiskFull { free_bytes } => Err(Error::retry(format!(
                "the disk is nearly full ({} MiB free): nothing is accepted until there is space again",
                free_bytes >> 20
            ))),
            Self::ReadOnly { reason } => Err(Error::retry(format!("the journal cannot be written: {reason}"))),
            Self::Closed => Err(Error::closed("the journal is closed")),
        }
    }
}

/// The state behind the ordering lock.
pub(crate) struct Queue {
    pub(crate) gate: Gate,
    pub(crate) next: JournalPosition,
    /// In order; none of them is empty, all but the last are full.
    groups: VecDeque<Group>,
    /// Waiting or being written.
    pub(crate) bytes: usize,
    bytes_max: usize,
    group_bytes_max: usize,
}

impl Queue {
    pub(crate) fn new(next: JournalPosition, bytes_max: usize, group_bytes_max: usize) -> Self {
        Self { gate: Gate::Open, next, groups: VecDeque::new(), bytes: 0, bytes_max, group_bytes_max }
    }

    /// The error that every append would get now, however small its record.
    pub(crate) fn check(&self) -> Result<()> {
        self.gate.check()?;
        if self.bytes >= self.bytes_max { Err(self.full()) } else { Ok(()) }
    }

    fn full(&self) -> Error {
        Error::retry(format!("{} KiB wait to be written to the journal: the disk does not keep up", self.bytes >> 10))
    }

    /// Gives the record its position and its place. A record larger than the whole queue is taken when nothing else waits.
    pub(crate) fn push(&mut self, mut record: EncodedRecord) -> Result<Ticket> {
        self.check()?;
        let record_bytes = record.total_bytes();
        if self.bytes > 0 && self.bytes.saturating_add(record_bytes) > self.bytes_max {
            return Err(self.full());
        }
        let position = self.next;
        record.set_position(position);
        self.next = position.next();
        self.bytes += record_bytes;
        let has_room = self.groups.back().is_some_and(|group| group.bytes.saturating_add(record_bytes) <= self.group_bytes_max);
        if !has_room {
            self.groups.push_back(Group::default());
        }
        let group = self.groups.back_mut().expect("a group was pushed above when there was none");
        group.bytes += record_bytes;
        group.records.push(record);
        Ok(Ticket::new(position, group.outcome.clone()))
    }

    pub(crate) fn pop(&mut self) -> Option<Group> {
        self.groups.pop_front()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// More waits than goes into one group, so that waiting for more is pointless.
    pub(crate) fn has_full_group(&self) -> bool {
        self.groups.len() > 1 || self.groups.front().is_some_and(|group| group.bytes >= self.group_bytes_max)
    }

    /// Empties the queue. The caller settles the groups, without the lock: whoever is woken may come back at once.
    pub(crate) fn take_all(&mut self) -> VecDeque<Group> {
        let groups = std::mem::take(&mut self.groups);
        self.bytes -= groups.iter().map(|group| group.bytes).sum::<usize>();
        groups
    }
}
