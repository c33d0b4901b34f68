//! What became of a batch.

/// Why a sample, a series or an exemplar was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RejectReason {
    /// Further behind the newest sample of its series than the out-of-order window, or older than the retention.
    TooOld,
    /// Further ahead of the clock than allowed.
    TooFarInFuture,
    /// The series has another value at this time already; the first one stays.
    DuplicateTimestamp,
    /// Too many samples out of order wait for a flush.
    OutOfOrderLimit,
    /// The tenant has as many active series as it may have.
    SeriesLimit,
    /// The metric has as many active series as it may have.
    MetricSeriesLimit,
    /// The target, which is a job and an instance, has as many active series as it may have.
    TargetSeriesLimit,
    /// The job has as many active series as it may have.
    JobSeriesLimit,
    /// The series has no label, or too many, or too long ones.
    LabelLimit,
    /// A native histogram has too many buckets.
    HistogramLimit,
    /// Too many exemplars wait for a flush.
    ExemplarLimit,
    /// Too many metric families have metadata.
    MetadataLimit,
    /// A delta that is no number, of which no sum can be made.
    NoNumber,
}

impl RejectReason {
    pub const ALL: [Self; 13] = [
        Self::TooOld,
        Self::TooFarInFuture,
        Self::DuplicateTimestamp,
        Self::OutOfOrderLimit,
        Self::SeriesLimit,
        Self::MetricSeriesLimit,
        Self::TargetSeriesLimit,
        Self::JobSeriesLimit,
        Self::LabelLimit,
        Self::HistogramLimit,
        Self::ExemplarLimit,
        Self::MetadataLimit,
        Self::NoNumber,
    ];

    /// The word in Bellrock's own metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooOld => "too_old",
            Self::TooFarInFuture => "too_far_in_future",
            Self::DuplicateTimestamp => "duplicate_timestamp",
            Self::OutOfOrderLimit => "out_of_order_limit",
            Self::SeriesLimit => "series_limit",
            Self::MetricSeriesLimit => "metric_series_limit",
            Self::TargetSeriesLimit => "target_series_limit",
            Self::JobSeriesLimit => "job_series_limit",
            Self::LabelLimit => "label_limit",
            Self::HistogramLimit => "histogram_limit",
            Self::ExemplarLimit => "exemplar_limit",
            Self::MetadataLimit => "metadata_limit",
            Self::NoNumber => "no_number",
        }
    }
}

/// How much was refused for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub reason: RejectReason,
    /// Samples, or exemplars or metric families where the reason is about those.
    pub count: u64,
    /// The first one in words: the series and what is wrong with it.
    pub example: String,
}

/// What became of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppendOutcome {
    /// Samples that are now stored.
    pub accepted: u64,
    /// Samples that were stored before with the same value: a sender tried again.
    pub repeated: u64,
    /// In the order in which the reasons first came up.
    pub rejected: Vec<Rejection>,
    /// Of these, and of the exemplars of series that were not let in.
    pub refused_samples: u64,
    pub refused_exemplars: u64,
}

impl AppendOutcome {
    pub fn rejected_count(&self) -> u64 {
        self.rejected.iter().map(|rejection| rejection.count).sum()
    }

    pub(crate) fn reject(&mut self, reason: RejectReason, count: u64, example: impl FnOnce() -> String) {
        if count == 0 {
            return;
        }
        match self.rejected.iter_mut().find(|rejection| rejection.reason == reason) {
            Some(rejection) => rejection.count += count,
            None => self.rejected.push(Rejection { reason, count, example: example() }),
        }
    }
}
