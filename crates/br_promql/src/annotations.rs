//! What a query's answer carries beside its values: warnings and remarks, each with the place it is about.

use crate::syntax::ast::BinaryOp;
use crate::syntax::span::Span;
use std::cell::RefCell;
use std::collections::BTreeSet;

/// More distinct texts than this are counted, not kept.
const KEPT_MAX: usize = 1000;

/// One warning or remark. The texts are those of Prometheus, so that tools that know them keep working.
#[derive(Clone, Debug, PartialEq)]
pub enum Annotation {
    InvalidQuantile { quantile: f64 },
    InvalidRatio { ratio: f64, capped: f64 },
    BadBucketLabel { metric: String, le: String },
    MixedFloatsHistograms { metric: String },
    MixedFloatsHistogramsAggregation,
    MixedClassicNative { metric: String },
    NotCounter { metric: String },
    NotGauge { metric: String },
    MixedExponentialCustom { metric: String },
    IncompatibleBucketLayout { op: BinaryOp },
    StartTimeOverlap { metric: String },
    CounterResetCollision { operation: &'static str },
    PossibleNonCounter { metric: String },
    PossibleNonCounterType { metric: String, metric_type: String },
    ForcedMonotonicity { metric: String },
    IncompatibleTypes { lhs: &'static str, op: BinaryOp, rhs: &'static str },
    HistogramIgnoredInAggregation { operation: &'static str },
    HistogramIgnoredInMixedRange { metric: String },
    QuantileNanResult { metric: String },
    QuantileNanSkew { metric: String },
    FractionNan { metric: String },
    MismatchedCustomBuckets { operation: &'static str },
}

impl Annotation {
    fn is_warning(&self) -> bool {
        matches!(
            self,
            Self::InvalidQuantile { .. }
                | Self::InvalidRatio { .. }
                | Self::BadBucketLabel { .. }
                | Self::MixedFloatsHistograms { .. }
                | Self::MixedFloatsHistogramsAggregation
                | Self::MixedClassicNative { .. }
                | Self::NotCounter { .. }
                | Self::NotGauge { .. }
                | Self::MixedExponentialCustom { .. }
                | Self::IncompatibleBucketLayout { .. }
                | Self::StartTimeOverlap { .. }
                | Self::CounterResetCollision { .. }
        )
    }

    fn text(&self) -> String {
        let named = |text: &str, metric: &str| {
            if metric.is_empty() { text.to_owned() } else { format!("{text} for metric name {metric:?}") }
        };
        let short = crate::number::format_short;
        match self {
            Self::InvalidQuantile { quantile } => {
                format!("quantile value should be between 0 and 1, got {}", short(*quantile))
            }
            Self::InvalidRatio { ratio, capped } => {
                format!("ratio value should be between -1 and 1, got {}, capping to {}", short(*ratio), short(*capped))
            }
            Self::BadBucketLabel { metric, le } => {
                named(&format!("bucket label \"le\" is missing or has a malformed value of {le:?}"), metric)
            }
            Self::MixedFloatsHistograms { metric } => {
                format!("encountered a mix of histograms and floats for metric name {metric:?}")
            }
            Self::MixedFloatsHistogramsAggregation => "encountered a mix of histograms and floats for aggregation".to_owned(),
            Self::MixedClassicNative { metric } => named("vector contains a mix of classic and native histograms", metric),
            Self::NotCounter { metric } => format!("this native histogram metric is not a counter: {metric:?}"),
            Self::NotGauge { metric } => format!("this native histogram metric is not a gauge: {metric:?}"),
            Self::MixedExponentialCustom { metric } => format!(
                "vector contains a mix of histograms with exponential and custom buckets schemas for metric name {metric:?}"
            ),
            Self::IncompatibleBucketLayout { op } => {
                format!("incompatible bucket layout encountered for binary operator {op}")
            }
            Self::StartTimeOverlap { metric } => {
                format!("sample has start time that overlaps with previous sample timestamp for metric {metric:?}")
            }
            Self::CounterResetCollision { operation } => format!("conflicting counter resets during histogram {operation}"),
            Self::PossibleNonCounter { metric } => {
                format!("metric might not be a counter, name does not end in _total/_sum/_count/_bucket: {metric:?}")
            }
            Self::PossibleNonCounterType { metric, metric_type } => format!(
                "metric might not be a counter, __type__ label is not set to \"counter\" or \"histogram\", got {metric_type:?}: {metric:?}"
            ),
            Self::ForcedMonotonicity { metric } => named(
                "input to histogram_quantile needed to be fixed for monotonicity (see https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile)",
                metric,
            ),
            Self::IncompatibleTypes { lhs, op, rhs } => {
                format!("incompatible sample types encountered for binary operator {:?}: {lhs} {op} {rhs}", op.as_str())
            }
            Self::HistogramIgnoredInAggregation { operation } => format!("ignored histogram in {operation} aggregation"),
            Self::HistogramIgnoredInMixedRange { metric } => {
                format!("ignored histograms in a range containing both floats and histograms for metric name {metric:?}")
            }
            Self::QuantileNanResult { metric } => {
                named("input to histogram_quantile has NaN observations, result is NaN", metric)
            }
            Self::QuantileNanSkew { metric } => {
                named("input to histogram_quantile has NaN observations, result is skewed higher", metric)
            }
            Self::FractionNan { metric } => {
                named("input to histogram_fraction has NaN observations, which are excluded from all fractions", metric)
            }
            Self::MismatchedCustomBuckets { operation } => {
                format!("mismatched custom buckets were reconciled during {operation}")
            }
        }
    }
}

/// Collects annotations; the same text at the same place counts once.
#[derive(Debug, Default)]
pub struct Annotations {
    kept: RefCell<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// Each series of a metric tends to say the same.
    last: Option<(Annotation, Span)>,
    /// How often something was said, the same again included.
    count: u64,
    warnings: BTreeSet<String>,
    infos: BTreeSet<String>,
}

impl Annotations {
    pub(crate) fn add(&self, annotation: &Annotation, span: Span) {
        let mut kept = self.kept.borrow_mut();
        kept.count += 1;
        if kept.last.as_ref().is_some_and(|(last, at)| *at == span && last == annotation) {
            return;
        }
        kept.last = Some((annotation.clone(), span));
        let (kind, texts) = if annotation.is_warning() { ("warning", &mut kept.warnings) } else { ("info", &mut kept.infos) };
        if texts.len() < KEPT_MAX {
            texts.insert(format!("PromQL {kind}: {} ({span})", annotation.text()));
        }
    }

    pub(crate) fn count(&self) -> u64 {
        self.kept.borrow().count
    }

    /// Warnings and remarks, sorted.
    pub(crate) fn into_texts(self) -> (Vec<String>, Vec<String>) {
        let kept = self.kept.into_inner();
        (kept.warnings.into_iter().collect(), kept.infos.into_iter().collect())
    }
}
