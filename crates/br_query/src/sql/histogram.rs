//! Native histograms as text: as rows show them, in SQL and in exports.

use br_model::{BucketSpan, FloatHistogram};
use serde_json::json;

/// Buckets by their index, those without observations left away.
pub fn histogram_json(histogram: &FloatHistogram) -> String {
    json!({
        "count": histogram.count,
        "sum": histogram.sum,
        "schema": histogram.schema,
        "zero_threshold": histogram.zero_threshold,
        "zero_count": histogram.zero_count,
        "positive": buckets(&histogram.positive_spans, &histogram.positive_buckets),
        "negative": buckets(&histogram.negative_spans, &histogram.negative_buckets),
        "custom_values": histogram.custom_values,
    })
    .to_string()
}

fn buckets(spans: &[BucketSpan], counts: &[f64]) -> Vec<(i64, f64)> {
    let mut index = 0i64;
    let mut found = Vec::new();
    let mut counts = counts.iter();
    for span in spans {
        index += i64::from(span.offset);
        for count in counts.by_ref().take(span.length as usize) {
            if *count != 0.0 {
                found.push((index, *count));
            }
            index += 1;
        }
    }
    found
}
