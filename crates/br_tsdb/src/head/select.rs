//! What the head knows of the series that a query asks for, taken so that no lock is needed any more.

use super::listing::{LabelArena, LabelsAt, Listing};
use super::sealed::{PointColumns, SealedPlace, SeriesView};
use super::slots::{NOTHING_YET, Slots};
use super::{OpenSamples, SealNumber, SealedTenant, TenantHead};
use crate::codec::strip::StripBase;
use crate::index::SeriesId;
use br_model::{Exemplar, Labels};
use br_std::Result;
use br_storage::{Points, SeriesQuery};
use roaring::RoaringBitmap;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

#[derive(Default)]
pub(crate) struct HeadSelection {
    pub(crate) series: Vec<HeadSeries>,
    pub(crate) samples: HeadSamples,
    /// The seals whose samples are in memory, whether they touch the range or not: files of these need not be read.
    pub(crate) held: BTreeSet<SealNumber>,
}

/// The samples of all series of a selection, in a few long vectors: a selection may have a million series.
#[derive(Default)]
pub(crate) struct HeadSamples {
    /// Sealed parts that touch the range, first stored first.
    parts: Vec<Arc<SealedTenant>>,
    /// Positions in the list of parts, of each series ascending, with the place in each.
    places: Vec<(u32, SealedPlace)>,
    /// Copies of open strips, and what they are written against.
    strips: Vec<u8>,
    base: StripBase,
    labels: LabelArena,
}

/// One series, and where its samples are.
pub(crate) struct HeadSeries {
    labels: LabelsAt,
    /// In [`HeadSamples::places`].
    sealed: Range<u32>,
    open: Option<Open>,
}

/// A copy of samples that are not sealed yet.
enum Open {
    /// `at` in [`HeadSamples::strips`].
    Strip {
        at: Range<usize>,
        count: u32,
        length_ms: i64,
    },
    Whole(Box<OpenSamples>),
}

/// Columns that are filled for one series after the other.
#[derive(Default)]
pub(crate) struct FloatBuffer {
    pub(crate) timestamps_ms: Vec<i64>,
    pub(crate) values: Vec<f64>,
}

impl HeadSelection {
    /// The labels of those series that `shows` shows.
    pub(crate) fn list(self, mut shows: impl FnMut(&HeadSeries, &HeadSamples) -> Result<bool>) -> Result<Listing> {
        let mut shown = Vec::with_capacity(self.series.len());
        for series in &self.series {
            if shows(series, &self.samples)? {
                shown.push(series.labels);
            }
        }
        Ok(Listing::Series(self.samples.labels, shown))
    }
}

impl HeadSamples {
    pub(crate) fn labels(&self, series: &HeadSeries) -> Labels {
        self.labels.labels(series.labels)
    }

    /// What sealed parts have of a series, first stored first.
    pub(super) fn sealed<'a>(
        &'a self,
        series: &HeadSeries,
    ) -> impl Iterator<Item = (&'a SealedTenant, SeriesView<'a>)> + use<'a> {
        let places = self.places.get(series.sealed.start as usize..series.sealed.end as usize).unwrap_or_default();
        places.iter().filter_map(|(part, place)| {
            let part = self.parts.get(*part as usize)?;
            Some((&**part, part.samples.view(*place)?))
        })
    }

    pub(super) fn open<'a>(&'a self, series: &'a HeadSeries) -> Option<SeriesView<'a>> {
        match series.open.as_ref()? {
            Open::Strip { at, count, length_ms } => {
                Some(SeriesView::of_strip(self.base, self.strips.get(at.clone())?, *count as usize, *length_ms))
            }
            Open::Whole(samples) => Some(SeriesView::Whole(samples)),
        }
    }

    fn copy_open(&mut self, series: &Slots, id: SeriesId) -> Open {
        let Some(strip) = series.plain(id) else { return Open::Whole(Box::new(series.copy(id))) };
        let from = self.strips.len();
        strip.copy(&mut self.strips);
        Open::Strip { at: from..self.strips.len(), count: strip.count, length_ms: strip.length_ms }
    }
}

impl HeadSeries {
    fn views<'a>(&'a self, samples: &'a HeadSamples) -> impl Iterator<Item = SeriesView<'a>> {
        samples.sealed(self).map(|(_, view)| view).chain(samples.open(self))
    }

    /// Samples as columns, first stored first; samples outside of the range of the query may be among them.
    pub(crate) fn points(&self, samples: &HeadSamples) -> Result<Vec<Points>> {
        let mut columns = PointColumns::default();
        for view in self.views(samples) {
            columns.push(view)?;
        }
        Ok(columns.finish())
    }

    /// Fills the buffer with the samples between two times, both included, perhaps with some around them.
    /// False where these are more than plain floats in order: [`Self::points`] then has them.
    pub(crate) fn floats(&self, samples: &HeadSamples, from_ms: i64, to_ms: i64, buffer: &mut FloatBuffer) -> Result<bool> {
        let FloatBuffer { timestamps_ms, values } = buffer;
        timestamps_ms.clear();
        values.clear();
        for view in self.views(samples) {
            if !view.is_plain() {
                return Ok(false);
            }
            let Some((first_ms, last_ms)) = view.time_range() else { continue };
            if first_ms > to_ms || last_ms < from_ms {
                continue;
            }
            if timestamps_ms.last().is_some_and(|last| *last >= first_ms) {
                return Ok(false);
            }
            view.plain_into(timestamps_ms, values)?;
        }
        Ok(true)
    }

    pub(crate) fn exemplars(&self, samples: &HeadSamples) -> Vec<Exemplar> {
        self.views(samples).flat_map(SeriesView::exemplars).cloned().collect()
    }
}

impl TenantHead {
    /// The seals whose samples are in memory.
    pub(crate) fn held(&self) -> BTreeSet<SealNumber> {
        self.sealed.iter().map(|held| held.part.number).collect()
    }

    /// Of series that match those that have samples in memory that touch the range. Samples are not decoded.
    pub(crate) fn touching(&self, query: &SeriesQuery, found: &RoaringBitmap) -> RoaringBitmap {
        let parts: Vec<&SealedTenant> =
            self.sealed.iter().map(|held| &*held.part).filter(|part| part.overlaps(query.from_ms, query.to_ms)).collect();
        let touches = |id: &SeriesId| self.touches(*id, query, &parts);
        found.iter().filter(touches).collect()
    }

    /// Whether there can be samples in memory that lie in the range.
    pub(crate) fn overlaps(&self, query: &SeriesQuery) -> bool {
        self.open_overlaps(query) || self.sealed.iter().any(|held| held.part.overlaps(query.from_ms, query.to_ms))
    }

    fn open_overlaps(&self, query: &SeriesQuery) -> bool {
        self.min_ms <= query.to_ms && self.max_ms >= query.from_ms
    }

    /// What the head holds of series that match; samples outside of the range may be among them.
    pub(crate) fn select(&self, query: &SeriesQuery, found: RoaringBitmap) -> HeadSelection {
        let overlapping = self.sealed.iter().map(|held| &held.part).filter(|part| part.overlaps(query.from_ms, query.to_ms));
        let mut samples = HeadSamples { parts: overlapping.cloned().collect(), ..HeadSamples::default() };
        let mut selection = HeadSelection { held: self.held(), ..HeadSelection::default() };
        let open_overlaps = self.open_overlaps(query);
        selection.series.reserve(usize::try_from(found.len()).unwrap_or(0));
        let mut near = vec![0; samples.parts.len()];
        (samples.labels, samples.base) = (LabelArena::new(self.index.texts().clone()), self.series.base());
        for id in found {
            let Some(labels) = self.series.labels(id) else { continue };
            let first_place = samples.places.len() as u32;
            for (at, (part, near)) in samples.parts.iter().zip(&mut near).enumerate() {
                samples.places.extend(part.samples.find_next(id, near).map(|place| (at as u32, place)));
            }
            let sealed = first_place..samples.places.len() as u32;
            let open = (open_overlaps && !self.series.is_empty(id)).then(|| samples.copy_open(&self.series, id));
            if sealed.is_empty() && open.is_none() {
                continue;
            }
            let labels = samples.labels.push(self.index.pairs(labels));
            selection.series.push(HeadSeries { labels, sealed, open });
        }
        samples.labels.finish();
        selection.samples = samples;
        selection
    }

    /// Whether a sample of a series lies in the range, as far as the first and last times of the parts say.
    fn touches(&self, id: SeriesId, query: &SeriesQuery, parts: &[&SealedTenant]) -> bool {
        let Some(newest_ms) = self.series.newest_ms(id) else { return false };
        if newest_ms != NOTHING_YET && (query.from_ms..=query.to_ms).contains(&newest_ms) {
            return true;
        }
        let overlaps = |range: Option<(i64, i64)>| range.is_some_and(|(min, max)| min <= query.to_ms && max >= query.from_ms);
        let in_part = |part: &&SealedTenant| part.samples.get(id).is_some_and(|view| overlaps(view.time_range()));
        overlaps(self.series.time_range(id)) || parts.iter().any(in_part)
    }
}
