//! Reading series. Timestamps are milliseconds.

use crate::{Budget, Matcher};
use br_model::{Exemplar, FloatHistogram, Labels, Metadata, Sample, Value};
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

    /// As [`MetricSource::select`], which takes rollups only where the raw samples are gone; a source without rollups has these only.
    fn select_with<'a>(
        &'a self,
        query: &SeriesQuery,
        rollups: RollupUse,
        budget: &'a Budget,
    ) -> Result<Box<dyn SeriesCursor + 'a>> {
        let _ = rollups;
        self.select(query, budget)
    }

    /// The label sets that match any of `queries`, sorted, each once.
    fn series(&self, queries: &[SeriesQuery], budget: &Budget) -> Result<Vec<Labels>>;

    /// Sorted names of the labels on the series that match.
    fn label_names(&self, query: &SeriesQuery, budget: &Budget) -> Result<Vec<String>>;

    /// Sorted values of one label on the series that match.
    fn label_values(&self, name: &str, query: &SeriesQuery, budget: &Budget) -> Result<Vec<String>>;

    /// What is known of one metric family, or of all; sorted by name.
    fn metadata(&self, metric: Option<&str>, budget: &Budget) -> Result<Vec<(String, Metadata)>>;

    /// Exemplars of the series that match, in time order.
    fn exemplars(&self, query: &SeriesQuery, budget: &Budget) -> Result<Vec<(Labels, Vec<Exemplar>)>>;

    /// A number that grows with each change of what [`Self::select`] gives; `None` where the source does not count.
    fn version(&self) -> Option<u64> {
        None
    }

    /// The earliest time (milliseconds) of a sample that may have come, changed or gone since a version; `i64::MAX` when there is
    /// none, `None` when the source does not know. Of these metrics only, or of all.
    fn changed_since(&self, version: u64, metrics: Option<&[String]>) -> Option<i64> {
        let _ = (version, metrics);
        None
    }
}

/// Hands out series in batches, so that a query need not hold them all. Another thread may read on while a batch is looked at.
pub trait SeriesCursor: Send {
    /// `None` at the end. What a batch takes is charged to the query until [`BATCHES_AT_ONCE`] others were asked for.
    fn next_batch(&mut self) -> Result<Option<Vec<SeriesData>>>;
}

/// Batches that are held at a time by who reads on while a batch is looked at: this one, one that waits, and one that is being read.
pub const BATCHES_AT_ONCE: usize = 3;

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
    /// What each sample stands for where some were left out; `None` where none was.
    pub weights: Option<Vec<Weight>>,
}

/// What a sample that was kept stands for.
#[derive(Clone, Copy, Debug)]
pub struct Weight {
    /// Raw samples; the last one of an interval counts for all of it, the others for none.
    pub count: f64,
    /// Of their values, where these are floats.
    pub sum: f64,
    /// By how much a counter grew since the sample before this one, resets taken into account; NaN where the two samples tell.
    pub gain: f64,
}

/// By the bits of its numbers.
impl PartialEq for Weight {
    fn eq(&self, other: &Self) -> bool {
        let bits = |weight: &Self| [weight.count, weight.sum, weight.gain].map(f64::to_bits);
        bits(self) == bits(other)
    }
}

/// When rollups may stand in for raw samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RollupUse {
    /// Never, not even where nothing else is left.
    Never,
    /// Only where the raw samples are gone.
    WhenRawIsGone,
    /// Where their interval divides this number of milliseconds: the ends of all windows are then ends of intervals.
    Aligned { unit_ms: i64 },
    /// The same, of floats: sums are wanted, which rollups do not keep of histograms.
    AlignedFloats { unit_ms: i64 },
    /// Where their interval is at most so long.
    UpTo { interval_ms: i64 },
}

impl RollupUse {
    /// Whether a rollup may stand in for samples that are still there.
    pub fn allows(self, interval_ms: i64) -> bool {
        match self {
            Self::Never | Self::WhenRawIsGone => false,
            Self::Aligned { unit_ms } | Self::AlignedFloats { unit_ms } => unit_ms.checked_rem(interval_ms) == Some(0),
            Self::UpTo { interval_ms: longest_ms } => interval_ms <= longest_ms,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    Floats(Vec<f64>),
    Histograms(Vec<Arc<FloatHistogram>>),
    /// A series that changed its kind.
    Mixed(Vec<Value>),
}

impl Weight {
    /// Of a sample that stands for itself.
    pub fn of_raw(value: f64) -> Self {
        Self { count: 1.0, sum: value, gain: f64::NAN }
    }
}

impl Points {
    pub fn len(&self) -> usize {
        self.timestamps_ms.len()
    }

    pub fn is_empty(&self) -> bool {
        self.timestamps_ms.is_empty()
    }

    /// What the sample at a position below [`Points::len`] stands for.
    pub fn weight(&self, at: usize) -> Weight {
        match (&self.weights, &self.values) {
            (Some(weights), _) => weights[at],
            (None, Values::Floats(values)) => Weight::of_raw(values[at]),
            (None, Values::Histograms(_)) => Weight::of_raw(f64::NAN),
            (None, Values::Mixed(values)) => match &values[at] {
                Value::Float(value) => Weight::of_raw(*value),
                Value::Histogram(_) => Weight::of_raw(f64::NAN),
            },
        }
    }

    /// The sample at a position below [`Points::len`].
    pub fn sample(&self, at: usize) -> Sample {
        let start_ms = self.starts_ms.as_ref().map(|starts_ms| starts_ms[at]).filter(|start_ms| *start_ms != i64::MIN);
        Sample { timestamp_ms: self.timestamps_ms[at], value: self.value(at), start_ms }
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
