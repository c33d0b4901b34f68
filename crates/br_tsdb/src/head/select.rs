//! What the head knows of the series that a query asks for, taken so that no lock is needed any more.

use super::sealed::{PointColumns, SealedPlace, SeriesView};
use super::{OpenSamples, SealNumber, SealedTenant, Series, TenantHead};
use crate::index::SeriesId;
use br_model::{Exemplar, Labels};
use br_std::Result;
use br_storage::{Points, SeriesQuery};
use roaring::RoaringBitmap;
use std::collections::BTreeSet;
use std::sync::Arc;

#[derive(Default)]
pub(crate) struct HeadSelection {
    pub(crate) series: Vec<HeadSeries>,
    /// Sealed parts that touch the range, first stored first.
    pub(crate) parts: Arc<[Arc<SealedTenant>]>,
    /// The seals whose samples are in memory, whether they touch the range or not: files of these need not be read.
    pub(crate) held: BTreeSet<SealNumber>,
}

/// One series, and where its samples are.
pub(crate) struct HeadSeries {
    pub(crate) labels: Labels,
    /// Positions in the list of parts, ascending, with the place in each.
    pub(super) sealed: Vec<(u32, SealedPlace)>,
    pub(super) open: Option<OpenSamples>,
}

impl HeadSeries {
    fn views<'a>(&'a self, parts: &'a [Arc<SealedTenant>]) -> impl Iterator<Item = SeriesView<'a>> {
        let view = |(part, place): &(u32, SealedPlace)| parts.get(*part as usize)?.samples.view(*place);
        self.sealed.iter().filter_map(view).chain(self.open.as_ref().map(SeriesView::Whole))
    }

    /// Samples as columns, first stored first; samples outside of the range of the query may be among them.
    pub(crate) fn points(&self, parts: &[Arc<SealedTenant>]) -> Result<Vec<Points>> {
        let mut columns = PointColumns::default();
        for view in self.views(parts) {
            columns.push(view)?;
        }
        Ok(columns.finish())
    }

    pub(crate) fn exemplars(&self, parts: &[Arc<SealedTenant>]) -> Vec<Exemplar> {
        self.views(parts).flat_map(SeriesView::exemplars).cloned().collect()
    }
}

impl TenantHead {
    /// The seals whose samples are in memory.
    pub(crate) fn held(&self) -> BTreeSet<SealNumber> {
        self.sealed.iter().map(|held| held.part.number).collect()
    }

    /// The series that match and have samples in memory that touch the range. Samples are not decoded.
    pub(crate) fn touching(&self, query: &SeriesQuery) -> RoaringBitmap {
        let parts: Vec<&SealedTenant> =
            self.sealed.iter().map(|held| &*held.part).filter(|part| part.overlaps(query.from_ms, query.to_ms)).collect();
        if parts.is_empty() && !self.open_overlaps(query) {
            return RoaringBitmap::new();
        }
        let found = self.index.resolve(&query.matchers);
        let touches = |id: &SeriesId| {
            self.series.get(*id as usize).and_then(Option::as_ref).is_some_and(|series| series.touches(*id, query, &parts))
        };
        found.iter().filter(touches).collect()
    }

    fn open_overlaps(&self, query: &SeriesQuery) -> bool {
        self.min_ms <= query.to_ms && self.max_ms >= query.from_ms
    }

    pub(crate) fn labels_of<'a>(&'a self, series: &'a RoaringBitmap) -> impl Iterator<Item = Labels> {
        series.iter().filter_map(|id| self.labels(id))
    }

    /// What the head holds of the series that match; samples outside of the range may be among them.
    pub(crate) fn select(&self, query: &SeriesQuery) -> HeadSelection {
        let overlapping = self.sealed.iter().map(|held| &held.part).filter(|part| part.overlaps(query.from_ms, query.to_ms));
        let parts: Arc<[Arc<SealedTenant>]> = overlapping.cloned().collect();
        let mut selection = HeadSelection { series: Vec::new(), parts, held: self.held() };
        let open_overlaps = self.open_overlaps(query);
        if selection.parts.is_empty() && !open_overlaps {
            return selection;
        }
        for id in self.index.resolve(&query.matchers) {
            let Some(series) = self.series.get(id as usize).and_then(Option::as_ref) else { continue };
            let places = selection.parts.iter().enumerate().filter_map(|(at, part)| Some((at as u32, part.samples.find(id)?)));
            let sealed: Vec<_> = places.collect();
            let open = (open_overlaps && !series.open.is_empty()).then(|| series.open.clone());
            if sealed.is_empty() && open.is_none() {
                continue;
            }
            selection.series.push(HeadSeries { labels: self.index.labels(series.labels), sealed, open });
        }
        selection
    }
}

impl Series {
    /// Whether a sample lies in the range, as far as the first and last times of the parts say.
    fn touches(&self, id: SeriesId, query: &SeriesQuery, parts: &[&SealedTenant]) -> bool {
        if self.open.newest_ms().is_some_and(|newest| (query.from_ms..=query.to_ms).contains(&newest)) {
            return true;
        }
        let overlaps =
            |view: SeriesView<'_>| view.time_range().is_some_and(|(min, max)| min <= query.to_ms && max >= query.from_ms);
        overlaps(SeriesView::Whole(&self.open)) || parts.iter().any(|part| part.samples.get(id).is_some_and(overlaps))
    }
}
