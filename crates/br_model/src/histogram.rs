//! Native histograms, as the query languages and the stores see them.
//!
//! Source: Prometheus "Native Histograms" specification. Counts are floats and absolute here, whatever the wire carried.

/// What is known about a counter reset between this histogram and the one before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CounterResetHint {
    #[default]
    Unknown,
    Reset,
    NotReset,
    Gauge,
}

/// A run of buckets next to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BucketSpan {
    /// Gap to the end of the span before; for the first span the index of its first bucket.
    pub offset: i32,
    pub length: u32,
}

/// Bucket bounds are listed one by one in `custom_values`.
pub const CUSTOM_BUCKETS_SCHEMA: i32 = -53;

/// A native histogram with absolute float counts.
///
/// With `schema` in -4..=8 bucket `i` covers `(base^(i-1), base^i]` with `base = 2^(2^-schema)`;
/// with [`CUSTOM_BUCKETS_SCHEMA`] bucket `i` covers `(custom_values[i-1], custom_values[i]]` and only positive buckets exist.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FloatHistogram {
    pub counter_reset_hint: CounterResetHint,
    pub schema: i32,
    /// Observations in `[-zero_threshold, zero_threshold]` are in the zero bucket.
    pub zero_threshold: f64,
    pub zero_count: f64,
    pub count: f64,
    pub sum: f64,
    pub positive_spans: Vec<BucketSpan>,
    pub negative_spans: Vec<BucketSpan>,
    /// Counts of the buckets that `positive_spans` cover, in order.
    pub positive_buckets: Vec<f64>,
    pub negative_buckets: Vec<f64>,
    /// Upper bounds, ascending, without the final +Inf; empty except with [`CUSTOM_BUCKETS_SCHEMA`].
    pub custom_values: Vec<f64>,
}

impl FloatHistogram {
    pub fn uses_custom_buckets(&self) -> bool {
        self.schema == CUSTOM_BUCKETS_SCHEMA
    }

    /// Roughly what it holds.
    pub fn memory_bytes(&self) -> usize {
        let spans = self.positive_spans.len() + self.negative_spans.len();
        let numbers = self.positive_buckets.len() + self.negative_buckets.len() + self.custom_values.len();
        size_of::<Self>() + spans * size_of::<BucketSpan>() + numbers * size_of::<f64>()
    }
}
