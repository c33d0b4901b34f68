//! `_created` series say when a counter, histogram or summary began: the samples that they speak of learn it too.
//!
//! The series themselves stay, so that queries for them go on working.

use br_model::labels::METRIC_NAME;
use br_model::{MetricBatch, MetricType, SeriesSamples, Value};
use std::collections::HashMap;

/// Later than any start that is meant in seconds (the year 5138): such a value is no time.
const SECONDS_MAX: f64 = 1e11;

/// Sets `start_ms` where a `_created` series of the same family and labels gives it.
pub(super) fn attach_starts(batch: &mut MetricBatch) {
    let types: HashMap<&str, MetricType> =
        batch.metadata.iter().map(|(name, family)| (name.as_str(), family.metric_type)).collect();
    let mut starts = HashMap::new();
    for series in &batch.series {
        let Some(base) = series.labels.metric_name().strip_suffix("_created") else { continue };
        let total = format!("{base}_total");
        let counts =
            |name: &str| matches!(types.get(name), Some(MetricType::Counter | MetricType::Histogram | MetricType::Summary));
        if !counts(base) && !counts(&total) {
            continue;
        }
        if let Some(Value::Float(seconds)) = series.samples.last().map(|sample| &sample.value)
            && *seconds > 0.0
            && *seconds < SECONDS_MAX
        {
            starts.insert((base.to_owned(), identity(series)), (seconds * 1000.0).round() as i64);
        }
    }
    if starts.is_empty() {
        return;
    }
    for series in &mut batch.series {
        let name = series.labels.metric_name();
        let base = ["_total", "_bucket", "_count", "_sum"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name);
        let Some(start) = starts.get(&(base.to_owned(), identity(series))) else { continue };
        for sample in series.samples.iter_mut().filter(|sample| sample.start_ms.is_none()) {
            sample.start_ms = Some(*start);
        }
    }
}

/// The labels that all series of one counter, histogram or summary share.
fn identity(series: &SeriesSamples) -> u128 {
    series.labels.without(|name| matches!(name, METRIC_NAME | "le" | "quantile")).hash128()
}
