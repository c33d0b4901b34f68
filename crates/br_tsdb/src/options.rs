//! What the store is allowed to hold and to accept.

use std::time::Duration;

/// Length of the window that a freshly written file belongs to, in seconds.
pub const WINDOW_SECS: u32 = 2 * 3600;

/// Length of the window of files that compaction is done with, in seconds.
pub const DAY_SECS: u32 = 24 * 3600;

/// Limits of the metrics store. Reaching one refuses what goes beyond it, is counted, and is told to the sender.
#[derive(Clone, Debug)]
pub struct TsdbOptions {
    /// How far behind the newest sample of its series a sample may come.
    pub out_of_order_window: Duration,
    /// How far ahead of the clock a sample may be.
    pub future_max: Duration,
    /// How far behind the clock a sample may be at all: the retention, since older data would be dropped at once.
    pub age_max: Duration,
    /// Active series of one tenant.
    pub series_max: usize,
    /// Active series with the same `job` and `instance` of one tenant: one process of a service, scraped or not.
    pub series_per_target_max: usize,
    /// Active series with the same `job` of one tenant.
    pub series_per_job_max: usize,
    /// Active series of one metric name of one tenant.
    pub series_per_metric_max: usize,
    /// Labels of one series.
    pub labels_max: usize,
    /// Bytes of all names and values of one series.
    pub label_bytes_max: usize,
    /// Buckets of one native histogram, positive and negative together.
    pub histogram_buckets_max: usize,
    /// Samples that came out of order and wait for a flush, of one series.
    pub out_of_order_samples_max: usize,
    /// About what exemplars of one tenant may take in memory between two flushes.
    pub exemplar_bytes_max: usize,
    /// Exemplars of one series between two flushes.
    pub exemplars_per_series_max: usize,
    /// Metric families whose metadata is kept, of one tenant.
    pub metadata_max: usize,
    /// From one flush to the next, where none comes before its time.
    pub flush_interval: Duration,
    /// A series without samples for this many flushes leaves the head. Those that come before their time do not count.
    pub idle_flushes_max: u8,
    /// Samples in memory that no file holds are worth a flush before its time once they take about this much, over all tenants; where
    /// there are many series, later: a file of a sample or two of each would be all rows.
    pub head_bytes_wanted: usize,
    /// Samples that no file holds take no more than about this, over all tenants; what comes then waits in the journal, and its sender
    /// is asked to come again.
    pub head_bytes_max: usize,
    /// Memory for footers and series of files that were asked lately.
    pub index_cache_bytes: usize,
    /// Memory, over all tenants, for samples that are in files already: the last minutes are then answered without a file.
    /// The oldest go first; none is kept longer than for `idle_flushes_max` flushes.
    pub retained_bytes_max: usize,
    /// Input of one compaction, and about the size of each file that it writes.
    pub compaction_bytes_max: u64,
}

impl Default for TsdbOptions {
    fn default() -> Self {
        Self {
            out_of_order_window: Duration::from_mins(30),
            future_max: Duration::from_mins(10),
            age_max: Duration::from_hours(15 * 24),
            series_max: 2_000_000,
            series_per_target_max: 250_000,
            series_per_job_max: 1_500_000,
            series_per_metric_max: 500_000,
            labels_max: 128,
            label_bytes_max: 64 << 10,
            histogram_buckets_max: 4096,
            out_of_order_samples_max: 4096,
            exemplar_bytes_max: 64 << 20,
            exemplars_per_series_max: 10_000,
            metadata_max: 50_000,
            flush_interval: Duration::from_mins(1),
            idle_flushes_max: 10,
            head_bytes_wanted: 48 << 20,
            head_bytes_max: 384 << 20,
            index_cache_bytes: 64 << 20,
            retained_bytes_max: 24 << 20,
            compaction_bytes_max: 512 << 20,
        }
    }
}
