//! Many series at once, as a flush and a lookup ask for them.

use super::TenantHead;
use crate::index::{LabelLookup, SeriesId};
use crate::symbols::Symbol;
use br_model::labels::METRIC_NAME;
use br_model::{Labels, Texts};
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use roaring::RoaringBitmap;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

/// What a lookup asks of the series that match.
#[derive(Clone, Copy)]
pub(crate) enum Asked<'a> {
    Names,
    /// Of one label.
    Values(&'a str),
    Series,
}

/// What was taken out of a head for a lookup, as numbers: what takes long is done with it when the head's lock is free.
pub(crate) enum Listing {
    /// The names or values that were asked for, each once.
    Texts(Arc<Texts>, Vec<Symbol>),
    Series(LabelArena, Vec<LabelsAt>),
}

/// The labels of many series, by number.
#[derive(Default)]
pub(crate) struct LabelArena {
    texts: Arc<Texts>,
    full: Vec<Arc<[(Symbol, Symbol)]>>,
    filling: Vec<(Symbol, Symbol)>,
}

/// Pairs in one page of a [`LabelArena`]: an answer keeps the pages that its labels lie in.
const ARENA_PAGE: usize = 8192;

/// Where the labels of one series are.
#[derive(Clone, Copy)]
pub(crate) struct LabelsAt {
    page: u32,
    from: u32,
    to: u32,
}

impl LabelArena {
    pub(super) fn new(texts: Arc<Texts>) -> Self {
        Self { texts, ..Self::default() }
    }

    pub(super) fn push(&mut self, pairs: impl Iterator<Item = (Symbol, Symbol)>) -> LabelsAt {
        let from = self.filling.len() as u32;
        self.filling.extend(pairs);
        let at = LabelsAt { page: self.full.len() as u32, from, to: self.filling.len() as u32 };
        if self.filling.len() >= ARENA_PAGE {
            self.finish();
        }
        at
    }

    /// What was pushed can be asked for from now on.
    pub(super) fn finish(&mut self) {
        self.full.push(self.filling.as_slice().into());
        self.filling.clear();
    }

    pub(super) fn labels(&self, LabelsAt { page, from, to }: LabelsAt) -> Labels {
        let Some(pairs) = self.full.get(page as usize) else { return Labels::empty() };
        Labels::numbered(self.texts.clone(), pairs.clone(), from..to)
    }

    fn pairs(&self, LabelsAt { page, from, to }: LabelsAt) -> &[(Symbol, Symbol)] {
        self.full.get(page as usize).and_then(|pairs| pairs.get(from as usize..to as usize)).unwrap_or_default()
    }
}

impl Listing {
    /// The numbers of all that is in here.
    pub(crate) fn all(&self) -> RoaringBitmap {
        let count = match self {
            Self::Texts(_, symbols) => symbols.len(),
            Self::Series(_, series) => series.len(),
        };
        (0..count as u32).collect()
    }

    /// Texts of some of it: of series those that `choose` names, each once.
    fn texts(&self, of: &RoaringBitmap, choose: impl Fn(&LabelArena, LabelsAt, &mut BTreeSet<Symbol>)) -> Vec<&str> {
        match self {
            Self::Texts(texts, symbols) => {
                of.iter().filter_map(|at| symbols.get(at as usize)).map(|symbol| texts.get(*symbol)).collect()
            }
            Self::Series(labels, series) => {
                let mut chosen = BTreeSet::new();
                of.iter().filter_map(|at| series.get(at as usize)).for_each(|at| choose(labels, *at, &mut chosen));
                chosen.into_iter().map(|symbol| labels.texts.get(symbol)).collect()
            }
        }
    }
}

impl LabelLookup for Listing {
    fn names_unsorted(&self, series: &RoaringBitmap) -> Vec<&str> {
        self.texts(series, |labels, at, chosen| chosen.extend(labels.pairs(at).iter().map(|(name, _)| *name)))
    }

    fn values_unsorted(&self, name: &str, series: &RoaringBitmap) -> Vec<&str> {
        self.texts(series, |labels, at, chosen| {
            let of_name = |(label, _): &&(Symbol, Symbol)| labels.texts.get(*label) == name;
            chosen.extend(labels.pairs(at).iter().find(of_name).map(|(_, value)| *value));
        })
    }

    fn labels_of(&self, id: SeriesId) -> Option<Labels> {
        match self {
            Self::Texts(..) => None,
            Self::Series(labels, series) => series.get(id as usize).map(|at| labels.labels(*at)),
        }
    }
}

impl TenantHead {
    /// What a lookup asks of these series.
    pub(crate) fn list(&self, asked: Asked<'_>, series: &RoaringBitmap) -> Listing {
        let texts = self.index.texts().clone();
        match asked {
            Asked::Names => Listing::Texts(texts, self.index.names_unsorted(series)),
            Asked::Values(name) => Listing::Texts(texts, self.index.values_unsorted(name, series)),
            Asked::Series => {
                let mut labels = LabelArena::new(texts);
                let mut listed = Vec::with_capacity(usize::try_from(series.len()).unwrap_or(0));
                listed.extend(series.iter().filter_map(|id| Some(labels.push(self.index.pairs(self.labels_at(id)?)))));
                labels.finish();
                Listing::Series(labels, listed)
            }
        }
    }

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
