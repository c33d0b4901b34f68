//! The head and what is hidden: deletions, and what it still holds of before them.

use super::sealed::SeriesView;
use super::slots::NOTHING_YET;
use super::{HeadSamples, HeadSeries, SealedTenant, TenantHead};
use crate::deletion::Deletion;
use crate::mask::{Hidden, Mask, Reach, covers, drop_hidden_exemplars, visible};
use crate::points;
use br_model::Exemplar;
use br_std::Result;
use br_storage::{JournalPosition, Points, SeriesQuery};
use roaring::RoaringBitmap;

impl SealedTenant {
    pub(crate) fn reach(&self) -> Reach {
        Reach::of_seal(self.positions.1)
    }
}

impl TenantHead {
    /// What of a mask concerns the samples in memory that touch the range of a query. Mostly nothing: they are new.
    pub(crate) fn concerning(&self, mask: &Mask, query: &SeriesQuery) -> Mask {
        let sealed = self.sealed.iter().map(|held| (held.part.reach(), held.part.min_ms, held.part.max_ms));
        let all = sealed.chain([(Reach::OPEN, self.min_ms, self.max_ms)]);
        let touching: Vec<_> = all.filter(|(_, min_ms, max_ms)| *min_ms <= query.to_ms && *max_ms >= query.from_ms).collect();
        mask.concerning(&touching)
    }

    /// Whether samples may lie between two times that were not sealed yet.
    pub(crate) fn has_open(&self, from_ms: i64, to_ms: i64) -> bool {
        self.min_ms <= to_ms && self.max_ms >= from_ms
    }

    /// Whether a sealed part is in memory that may hold samples between two times of records before this one.
    pub(crate) fn holds_before(&self, position: JournalPosition, from_ms: i64, to_ms: i64) -> bool {
        self.sealed.iter().any(|held| held.part.positions.1 < position && held.part.overlaps(from_ms, to_ms))
    }

    /// Whether a deletion takes the newest sample of any series.
    pub(crate) fn has_newest(&self, deletion: &Deletion) -> bool {
        self.series.has_newest(deletion.from_ms, deletion.to_ms)
    }

    /// Where the newest sample of one of these series is deleted, the next one is compared with nothing: it may be written again.
    pub(crate) fn forget_newest(&mut self, found: &RoaringBitmap, deletion: &Deletion) {
        for id in found {
            let newest_ms = self.series.newest_ms(id);
            if newest_ms.is_some_and(|newest| newest != NOTHING_YET && (deletion.from_ms..=deletion.to_ms).contains(&newest)) {
                self.series.forget_newest(id);
            }
        }
    }
}

impl HeadSeries {
    /// Each part with what is hidden of the series in it.
    fn masked<'a>(&'a self, samples: &'a HeadSamples, mask: &'a Mask) -> impl Iterator<Item = (SeriesView<'a>, Hidden)> {
        let labels = samples.labels(self);
        let open = samples.open(self).map(|view| (view, mask.hidden(&labels, Reach::OPEN)));
        samples.sealed(self).map(move |(part, view)| (view, mask.hidden(&labels, part.reach()))).chain(open)
    }

    /// Whether a part in the range is not hidden whole.
    pub(crate) fn shows(&self, samples: &HeadSamples, query: &SeriesQuery, mask: &Mask) -> bool {
        self.masked(samples, mask).any(|(view, hidden)| {
            let touching = view.time_range().filter(|(min, max)| *min <= query.to_ms && *max >= query.from_ms);
            touching.is_some_and(|(min, max)| !covers(&hidden, min, max))
        })
    }

    /// As [`HeadSeries::points`], without what is hidden.
    pub(crate) fn visible_points(&self, samples: &HeadSamples, mask: &Mask) -> Result<Vec<Points>> {
        if mask.is_empty() {
            return self.points(samples);
        }
        let mut found = Vec::new();
        for (view, hidden) in self.masked(samples, mask) {
            found.extend(view.points()?.and_then(|points| visible(points, &hidden)));
        }
        Ok(points::merge(found).into_iter().collect())
    }

    pub(crate) fn visible_exemplars(&self, samples: &HeadSamples, mask: &Mask) -> Vec<Exemplar> {
        if mask.is_empty() {
            return self.exemplars(samples);
        }
        let mut found = Vec::new();
        for (view, hidden) in self.masked(samples, mask) {
            let mut exemplars = view.exemplars().to_vec();
            drop_hidden_exemplars(&mut exemplars, &hidden);
            found.append(&mut exemplars);
        }
        found
    }
}
