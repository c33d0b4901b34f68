//! Many series at once, as a flush asks for them.

use super::TenantHead;
use crate::index::SeriesId;
use crate::symbols::Symbol;
use br_model::Labels;
use br_model::labels::METRIC_NAME;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use std::ops::Range;
use std::sync::Arc;

impl TenantHead {
    /// Label sets of some series that are kept. What they are made of stands in one run of memory.
    pub(crate) fn label_sets(&self, ids: impl Iterator<Item = SeriesId>) -> Vec<Option<Labels>> {
        let mut pairs: Vec<(Symbol, Symbol)> = Vec::new();
        let mut add = |id| {
            let from = pairs.len() as u32;
            pairs.extend(self.index.pairs(self.labels_at(id)?));
            Some(from..pairs.len() as u32)
        };
        let ranges: Vec<Option<Range<u32>>> = ids.map(&mut add).collect();
        let (texts, pairs): (_, Arc<[_]>) = (self.index.texts(), pairs.into());
        ranges.into_iter().map(|range| Some(Labels::numbered(texts.clone(), pairs.clone(), range?))).collect()
    }

    /// These series by metric, the metrics in the order of their names, the series of each as they came.
    pub(crate) fn by_metric(&self, ids: impl Iterator<Item = SeriesId>) -> Vec<Vec<SeriesId>> {
        let name = self.index.symbol(METRIC_NAME);
        let mut numbers: HashMap<Option<Symbol>, usize, FixedState> = HashMap::default();
        let mut metrics: Vec<(&str, Vec<SeriesId>)> = Vec::new();
        let mut last: Option<(Option<Symbol>, usize)> = None;
        for id in ids {
            let Some(labels) = self.labels_at(id) else { continue };
            let metric = self.index.pairs(labels).find(|(label, _)| Some(*label) == name).map(|(_, value)| value);
            let at = match last {
                Some((before, at)) if before == metric => at,
                _ => *numbers.entry(metric).or_insert_with(|| {
                    metrics.push((metric.map_or("", |metric| self.index.text(metric)), Vec::new()));
                    metrics.len() - 1
                }),
            };
            last = Some((metric, at));
            metrics[at].1.push(id);
        }
        metrics.sort_unstable_by_key(|(metric, _)| *metric);
        metrics.into_iter().map(|(_, ids)| ids).collect()
    }
}
