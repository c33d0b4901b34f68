//! Sources for the tests of what stands above the seam.

use crate::{Budget, MetricSource, SeriesCursor, SeriesData, SeriesQuery};
use br_model::{Exemplar, Labels, Metadata};
use br_std::Result;

/// A [`MetricSource`] that is only asked for samples: of everything else it has nothing.
pub trait SelectOnly: Send + Sync {
    /// [`MetricSource::select`].
    fn select_only<'a>(&'a self, query: &SeriesQuery, budget: &'a Budget) -> Result<Box<dyn SeriesCursor + 'a>>;
}

impl<S: SelectOnly> MetricSource for S {
    fn select<'a>(&'a self, query: &SeriesQuery, budget: &'a Budget) -> Result<Box<dyn SeriesCursor + 'a>> {
        self.select_only(query, budget)
    }

    fn series(&self, _: &[SeriesQuery], _: &Budget) -> Result<Vec<Labels>> {
        Ok(Vec::new())
    }

    fn label_names(&self, _: &SeriesQuery, _: &Budget) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn label_values(&self, _: &str, _: &SeriesQuery, _: &Budget) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn metadata(&self, _: Option<&str>, _: &Budget) -> Result<Vec<(String, Metadata)>> {
        Ok(Vec::new())
    }

    fn exemplars(&self, _: &SeriesQuery, _: &Budget) -> Result<Vec<(Labels, Vec<Exemplar>)>> {
        Ok(Vec::new())
    }
}

/// Series that come in one batch.
pub struct AtOnce(Vec<SeriesData>);

impl AtOnce {
    pub fn new(series: impl IntoIterator<Item = SeriesData>) -> Box<Self> {
        Box::new(Self(series.into_iter().collect()))
    }
}

impl SeriesCursor for AtOnce {
    fn next_batch(&mut self) -> Result<Option<Vec<SeriesData>>> {
        let series = std::mem::take(&mut self.0);
        Ok((!series.is_empty()).then_some(series))
    }
}
