//! Taking the samples of a flush out of the head.

use super::{OpenSamples, TenantHead};
use crate::index::SeriesId;
use crate::options::TsdbOptions;
use br_model::{Metadata, TenantId};
use br_storage::JournalPosition;
use std::sync::Arc;

/// What one tenant got between two seals. Never changes; queries read it until its files are published.
#[derive(Debug)]
pub(crate) struct SealedTenant {
    pub(crate) tenant: TenantId,
    /// Sorted by id. The head keeps the labels of these ids until this part is published.
    pub(crate) series: Vec<SealedSeries>,
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

#[derive(Debug)]
pub(crate) struct SealedSeries {
    pub(crate) id: SeriesId,
    pub(crate) samples: OpenSamples,
}

impl SealedTenant {
    pub(crate) fn find(&self, id: SeriesId) -> Option<usize> {
        self.series.binary_search_by_key(&id, |series| series.id).ok()
    }
}

impl TenantHead {
    /// Moves all open samples into a sealed part; `None` when there is nothing to write.
    pub(crate) fn seal(&mut self, positions: (JournalPosition, JournalPosition), window_ms: i64) -> Option<Arc<SealedTenant>> {
        let mut sealed = Vec::new();
        for (id, slot) in self.series.iter_mut().enumerate() {
            let Some(series) = slot else { continue };
            if series.open.is_empty() {
                series.idle_flushes = series.idle_flushes.saturating_add(1);
                continue;
            }
            series.idle_flushes = 0;
            sealed.push(SealedSeries { id: id as SeriesId, samples: std::mem::take(&mut series.open) });
        }
        let unwritten = self.metadata.iter_mut().filter(|(_, known)| known.written_window_ms.is_none());
        let metadata: Vec<_> = unwritten
            .map(|(family, known)| {
                known.written_window_ms = Some(window_ms);
                (family.clone(), known.metadata.clone())
            })
            .collect();
        let (min_ms, max_ms) = (self.min_ms, self.max_ms);
        (self.min_ms, self.max_ms, self.exemplar_count) = (i64::MAX, i64::MIN, 0);
        if sealed.is_empty() && metadata.is_empty() {
            return None;
        }
        let tenant = self.tenant;
        let part = Arc::new(SealedTenant { tenant, series: sealed, metadata, min_ms, max_ms, window_ms, positions });
        self.sealed.push(part.clone());
        Some(part)
    }

    /// Lets go of a part whose files are listed now, and of series that have been idle for long.
    pub(crate) fn release(&mut self, part: &Arc<SealedTenant>, options: &TsdbOptions) {
        self.sealed.retain(|other| !Arc::ptr_eq(other, part));
        self.drop_idle(options);
    }

    /// A sealed part names its series by number: none is dropped while one waits for its files.
    pub(crate) fn drop_idle(&mut self, options: &TsdbOptions) {
        if !self.sealed.is_empty() {
            return;
        }
        let is_idle = |series: &super::Series| series.idle_flushes > options.idle_flushes_max && series.open.is_empty();
        let idle: Vec<SeriesId> =
            (0..self.series.len() as SeriesId).filter(|id| self.series[*id as usize].as_ref().is_some_and(is_idle)).collect();
        for id in idle {
            self.drop_series(id);
        }
        self.rebuild_index_when_worn();
    }
}
