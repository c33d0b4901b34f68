//! Taking the samples of a flush out of the head.

use super::TenantHead;
use super::sealed::SealedSamples;
use crate::options::TsdbOptions;
use br_model::{Metadata, TenantId};
use br_storage::JournalPosition;
use std::sync::Arc;

/// Number of a seal of one tenant: 1 for the first, one more for each.
pub(crate) type SealNumber = u64;

/// What one tenant got between two seals. Never changes; queries read it until its files are published, and for some time after.
#[derive(Debug)]
pub(crate) struct SealedTenant {
    pub(crate) tenant: TenantId,
    pub(crate) number: SealNumber,
    /// The head keeps the labels of these series as long as it holds this part.
    pub(crate) samples: SealedSamples,
    /// Metadata that has to be written.
    pub(crate) metadata: Vec<(String, Metadata)>,
    /// Times of the samples and exemplars, both included; `min` above `max` when there is only metadata.
    pub(crate) min_ms: i64,
    pub(crate) max_ms: i64,
    /// Window of the last append, for a part without samples.
    pub(crate) window_ms: i64,
    /// The records of the journal that this part may hold: after the first, up to and with the second.
    pub(crate) positions: (JournalPosition, JournalPosition),
}

/// A sealed part that the head holds.
#[derive(Clone)]
pub(super) struct HeldPart {
    pub(super) part: Arc<SealedTenant>,
    /// Its files are listed: it is kept only to spare queries the files.
    pub(super) is_published: bool,
    /// Seals that counted as flushes, up to and with this one.
    flushes: u64,
}

/// Values of labels whose postings are packed with one seal: some tens of milliseconds.
const PACKED_AT_ONCE: usize = 100_000;

/// Published parts of one tenant that are kept, at the most: a query looks for each of its series in each of them.
const RETAINED_PARTS_MAX: usize = 64;

impl SealedTenant {
    /// The same in less memory. What files have now, and queries do not ask the head for, is left out.
    pub(crate) fn condensed(&self) -> Option<Self> {
        let samples = self.samples.condensed()?;
        Some(Self { samples, metadata: Vec::new(), ..*self })
    }

    pub(crate) fn overlaps(&self, from_ms: i64, to_ms: i64) -> bool {
        self.min_ms <= to_ms && self.max_ms >= from_ms
    }
}

impl TenantHead {
    /// Moves all open samples into a sealed part; `None` when there is nothing to write. For a series without samples it is a flush
    /// more without any where that `counts_as_flush`.
    pub(crate) fn seal(
        &mut self,
        positions: (JournalPosition, JournalPosition),
        window_ms: i64,
        counts_as_flush: bool,
    ) -> Option<Arc<SealedTenant>> {
        self.seal_number += 1;
        self.flushes += u64::from(counts_as_flush);
        let samples = self.series.seal(counts_as_flush);
        self.index.pack_when_grown(PACKED_AT_ONCE);
        let unwritten = self.metadata.iter_mut().filter(|(_, known)| known.written_window_ms.is_none());
        let metadata: Vec<_> = unwritten
            .map(|(family, known)| {
                known.written_window_ms = Some(window_ms);
                (family.clone(), known.metadata.clone())
            })
            .collect();
        let (min_ms, max_ms) = (self.min_ms, self.max_ms);
        (self.min_ms, self.max_ms, self.exemplar_bytes) = (i64::MAX, i64::MIN, 0);
        if samples.is_empty() && metadata.is_empty() {
            return None;
        }
        let (tenant, number) = (self.tenant, self.seal_number);
        let part = Arc::new(SealedTenant { tenant, number, samples, metadata, min_ms, max_ms, window_ms, positions });
        self.sealed.push(HeldPart { part: part.clone(), is_published: false, flushes: self.flushes });
        Some(part)
    }

    /// Marks a part whose files are listed now, and lets go of series that have been idle for long. `condensed` is the part again.
    pub(crate) fn release(&mut self, part: &Arc<SealedTenant>, condensed: Option<SealedTenant>, options: &TsdbOptions) {
        let condensed = condensed.map(Arc::new);
        for held in self.sealed.iter_mut().filter(|held| Arc::ptr_eq(&held.part, part)) {
            held.is_published = true;
            if let Some(condensed) = &condensed {
                held.part = condensed.clone();
            }
        }
        self.drop_idle(options);
    }

    /// Published parts that are kept, oldest first: the first record of the journal, the number, and the memory of each.
    /// A part that was published before an older one does not count: what was stored first has to be seen first.
    pub(crate) fn retained(&self) -> impl Iterator<Item = (JournalPosition, SealNumber, usize)> {
        let retained = self.sealed.iter().take_while(|held| held.is_published).map(|held| &held.part);
        retained.map(|part| (part.positions.0, part.number, part.samples.heap_bytes()))
    }

    /// Lets go of published parts up to and with this one.
    pub(crate) fn let_go(&mut self, up_to: SealNumber) {
        let is_kept = |held: &HeldPart| !held.is_published || held.part.number > up_to;
        let first_kept = self.sealed.iter().position(is_kept).unwrap_or(self.sealed.len());
        self.sealed.drain(..first_kept);
    }

    /// A sealed part names its series by number: none is dropped while one waits for its files.
    /// Parts that were kept beyond that go before the series that they name: a series is idle for as long as they are old.
    pub(crate) fn drop_idle(&mut self, options: &TsdbOptions) {
        let beyond = self.sealed.len().saturating_sub(RETAINED_PARTS_MAX);
        let is_old = |held: &HeldPart| self.flushes - held.flushes > u64::from(options.idle_flushes_max);
        let going = self.sealed.iter().enumerate().take_while(|(at, held)| *at < beyond || is_old(held));
        if let Some(up_to) = going.last().map(|(_, held)| held.part.number) {
            self.let_go(up_to);
        }
        if self.sealed.iter().any(|held| !held.is_published) {
            return;
        }
        for id in self.series.idle(options.idle_flushes_max) {
            self.drop_series(id);
        }
        self.rebuild_index_when_worn();
    }
}
