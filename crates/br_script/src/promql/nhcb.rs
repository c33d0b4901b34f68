//! Native histograms with custom buckets from series with `le` buckets.

use br_model::histogram::CUSTOM_BUCKETS_SCHEMA;
use br_model::labels::METRIC_NAME;
use br_model::{BucketSpan, FloatHistogram, Labels, Sample, Value};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What one histogram has at one time.
#[derive(Default)]
struct Parts {
    /// Cumulative counts by upper bound.
    buckets: Vec<(f64, f64)>,
    sum: f64,
    count: Option<f64>,
}

/// The native histograms that the `_bucket`, `_sum` and `_count` series stand for.
pub(super) fn convert(loaded: &[(Labels, Vec<Sample>)]) -> Vec<(Labels, Vec<Sample>)> {
    let mut all: BTreeMap<Labels, BTreeMap<i64, Parts>> = BTreeMap::new();
    for (labels, samples) in loaded {
        let name = labels.metric_name();
        let Some((base, suffix)) = name.rsplit_once('_') else { continue };
        let upper = labels.get("le").and_then(|le| le.parse::<f64>().ok());
        if !matches!((suffix, upper), ("bucket", Some(_)) | ("sum" | "count", None)) {
            continue;
        }
        let mut builder = labels.without(|label| label == "le").to_builder();
        builder.set(METRIC_NAME, base);
        let times = all.entry(builder.build()).or_default();
        for sample in samples {
            let Value::Float(value) = sample.value else { continue };
            let parts = times.entry(sample.timestamp_ms).or_default();
            match (suffix, upper) {
                ("bucket", Some(upper)) => parts.buckets.push((upper, value)),
                ("sum", _) => parts.sum = value,
                _ => parts.count = Some(value),
            }
        }
    }
    all.into_iter()
        .map(|(labels, times)| {
            let samples = times.into_iter().filter_map(|(timestamp_ms, parts)| {
                let value = Value::Histogram(Arc::new(histogram(parts)?));
                Some(Sample { timestamp_ms, value, start_ms: None })
            });
            (labels, samples.collect::<Vec<Sample>>())
        })
        .filter(|(_, samples)| !samples.is_empty())
        .collect()
}

/// `None` where counts fall or contradict each other.
fn histogram(mut parts: Parts) -> Option<FloatHistogram> {
    if parts.buckets.is_empty() {
        return None;
    }
    parts.buckets.sort_by(|left, right| left.0.total_cmp(&right.0));
    let (highest, highest_count) = *parts.buckets.last()?;
    let count = parts.count.unwrap_or(highest_count);
    if highest != f64::INFINITY {
        parts.buckets.push((f64::INFINITY, count));
    }
    let mut before = 0.0;
    let mut counts = Vec::new();
    for (_, cumulative) in &parts.buckets {
        if *cumulative < before {
            return None;
        }
        counts.push(cumulative - before);
        before = *cumulative;
    }
    if before != count {
        return None;
    }
    let bounds = parts.buckets.iter().map(|(upper, _)| *upper).filter(|upper| upper.is_finite());
    Some(FloatHistogram {
        schema: CUSTOM_BUCKETS_SCHEMA,
        count,
        sum: parts.sum,
        positive_spans: vec![BucketSpan { offset: 0, length: counts.len() as u32 }],
        positive_buckets: counts,
        custom_values: bounds.collect(),
        ..FloatHistogram::default()
    })
}
