//! Series, samples and what comes with them. Timestamps are milliseconds since the Unix epoch, as in Prometheus.

use crate::{FloatHistogram, Labels};
use std::sync::Arc;

/// The bits of the NaN that says: this series has ended here. Any other NaN is an ordinary value.
pub const STALE_NAN_BITS: u64 = 0x7ff0_0000_0000_0002;

pub fn stale_nan() -> f64 {
    f64::from_bits(STALE_NAN_BITS)
}

pub fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE_NAN_BITS
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Float(f64),
    Histogram(Arc<FloatHistogram>),
}

impl Value {
    /// A staleness marker; a histogram says it by its sum.
    pub fn is_stale(&self) -> bool {
        match self {
            Self::Float(value) => is_stale(*value),
            Self::Histogram(histogram) => is_stale(histogram.sum),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub timestamp_ms: i64,
    pub value: Value,
    /// When the counter behind this sample began to count, where the sender says so.
    pub start_ms: Option<i64>,
}

impl Sample {
    pub fn float(timestamp_ms: i64, value: f64) -> Self {
        Self { timestamp_ms, value: Value::Float(value), start_ms: None }
    }
}

/// A single observation kept beside a series, usually with the trace it came from.
#[derive(Clone, Debug, PartialEq)]
pub struct Exemplar {
    pub labels: Labels,
    pub value: f64,
    pub timestamp_ms: i64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MetricType {
    #[default]
    Unknown,
    Counter,
    Gauge,
    Histogram,
    GaugeHistogram,
    Summary,
    Info,
    StateSet,
}

impl MetricType {
    /// The word in exposition formats and in the Prometheus API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::GaugeHistogram => "gaugehistogram",
            Self::Summary => "summary",
            Self::Info => "info",
            Self::StateSet => "stateset",
        }
    }
}

impl std::str::FromStr for MetricType {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Ok(match text {
            "unknown" | "untyped" => Self::Unknown,
            "counter" => Self::Counter,
            "gauge" => Self::Gauge,
            "histogram" => Self::Histogram,
            "gaugehistogram" => Self::GaugeHistogram,
            "summary" => Self::Summary,
            "info" => Self::Info,
            "stateset" => Self::StateSet,
            _ => return Err(()),
        })
    }
}

/// What a metric family is, as its sender describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    pub metric_type: MetricType,
    pub help: String,
    pub unit: String,
}

/// Samples of one series, oldest first where the sender keeps order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SeriesSamples {
    pub labels: Labels,
    pub samples: Vec<Sample>,
    pub exemplars: Vec<Exemplar>,
}

/// What one request, scrape or rule evaluation brings.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MetricBatch {
    pub series: Vec<SeriesSamples>,
    /// By metric family name.
    pub metadata: Vec<(String, Metadata)>,
}

impl MetricBatch {
    pub fn sample_count(&self) -> usize {
        self.series.iter().map(|series| series.samples.len()).sum()
    }
}

/// One sample of a series that a store knows by number: its labels were not read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KnownSample {
    pub series: SeriesHandle,
    pub timestamp_ms: i64,
    pub value: f64,
}

/// A series as a store numbers it, for as long as the store keeps it under this number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeriesHandle {
    pub number: u32,
    /// Numbers are given again; each time this is another.
    pub generation: u32,
}

/// What a decoder may ask: whether a series is known by the hash of its labels as its sender writes them.
pub trait KnownSeries {
    /// Called in the order of the request: a sender that keeps its order makes each answer a look at the next place.
    fn find(&mut self, identity: u128) -> Option<SeriesHandle>;

    /// How many bytes the labels take of the series that a sender who keeps its order sends next; zero for no idea.
    fn expected_bytes(&self) -> usize {
        0
    }

    /// Looks at that series alone.
    fn find_expected(&mut self, _identity: u128) -> Option<SeriesHandle> {
        None
    }
}

/// Nothing is known: every label is read.
impl KnownSeries for () {
    fn find(&mut self, _identity: u128) -> Option<SeriesHandle> {
        None
    }
}
