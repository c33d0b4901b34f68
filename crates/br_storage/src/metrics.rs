//! Reading series. Timestamps are milliseconds.

use crate::{Budget, Matcher};
use br_model::{Exemplar, FloatHistogram, Labels, Metadata, Value};
use br_std::Result;
use std::sync::Arc;

/// Which series, and which of their samples.
#[derive(Clone, Debug)]
pub struct SeriesQuery {
    /// All must hold.
    pub matchers: Vec<Matcher>,
    /// Included.
    pub from_ms: i64,
    /// Included.
    pub to_ms: i64,
}

/// One tenant's series.
pub trait MetricSource: Send + Sync {
    /// The samples of all series that match and have at least one sample in the range, staleness markers among them.
    /// Each series comes exactly once, in no particular order.
    fn select<'a>(&'a self, query: &SeriesQuery, budget: &'a Budget) -> Result<Box<dyn SeriesCursor + 'a>>;

    /// The label sets that match any of `queries`, sorted, each once.
    fn series(&self, queries: &[SeriesQuery], budget: &Budget) -> Result<Vec<Labels>>;

    /// Sorted names of the labels on the series that match.
    fn label_names(&self, query: &SeriesQuery, budget: &Budget) -> Result<Vec<String>>;

    /// Sorted values of one label on the series that match.
    fn label_values(&self, name: &str, query: &SeriesQuery, budget: &Budget) -> Result<Vec<String>>;

    /// What is known of one metric family, or of all; sorted by name.
    fn metadata(&self, metric: Option<&str>) -> Result<Vec<(String, Metadata)>>;

    /// Exemplars of the series that match, in time order.
    fn exemplars(&self, query: &SeriesQuery, budget: &Budget) -> Result<Vec<(Labels, Vec<Exemplar>)>>;

    /// A number that grows with each change of what [`Self::select`] gives; `None` where the source does not count.
    fn version(&self) -> Option<u64> {
        None
    }

    /// The earliest time (milliseconds) of a sample that may have come, changed or gone since a version; `i64::MAX` when there is
    /// none, `None` when the source does not know.
    fn changed_since(&self, version: u64) -> Option<i64> {
        let _ = version;
        None
    }
}

/// Hands out series in batches, so that a query need not hold them all.
pub trait SeriesCursor {
    /// `None` at the end.
    fn next_batch(&mut self) -> Result<Option<Vec<SeriesData>>>;
}

#[derive(Clone, Debug, PartialEq)]
pub struct SeriesData {
    pub labels: Labels,
    pub points: Points,
}

/// Samples of one series by column: ascending timestamps, each once.
#[derive(Clone, Debug, PartialEq)]
pub struct Points {
    /// Series that were scraped together share one vector; compare by pointer to compute window bounds once.
    pub timestamps_ms: Arc<[i64]>,
    pub values: Values,
    /// When the counter behind each sample began to count; `None` where no sample says so, `i64::MIN` for one that does not.
    pub starts_ms: Option<Vec<i64>>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    Floats(Vec<f64>),
    Histograms(Vec<Arc<FloatHistogram>>),
    /// A series that changed its kind.
    Mixed(Vec<Value>),
}

impl Points {
    pub fn len(&self) -> usize {
        self.timestamps_ms.len()
    }

    pub fn is_empty(&self) -> bool {
        self.timestamps_ms.is_empty()
    }

    /// The value at a position below [`Points::len`].
    pub fn value(&self, at: usize) -> Value {
        match &self.values {
            Values::Floats(values) => Value::Float(values[at]),
            Values::Histograms(values) => Value::Histogram(values[at].clone()),
            Values::Mixed(values) => values[at].clone(),
        }
    }
}
