//! Results as Loki writes them.

use crate::json::labels;
use br_logql::{LogResult, MetricValue, Series, Stats};
use br_std::Nanos;
use serde_json::{Value, json};
use std::time::Duration;

pub(super) fn streams(result: &LogResult, categorize: bool, took: Duration) -> Value {
    let streams: Vec<Value> = result
        .streams
        .iter()
        .map(|stream| {
            let values: Vec<Value> = stream
                .entries
                .iter()
                .map(|entry| {
                    let (time, line) = (entry.timestamp.0.to_string(), &entry.line);
                    if !categorize {
                        return json!([time, line]);
                    }
                    json!([time, line, { "structuredMetadata": labels(&entry.metadata), "parsed": labels(&entry.parsed) }])
                })
                .collect();
            json!({ "stream": labels(&stream.labels), "values": values })
        })
        .collect();
    let mut data = json!({ "resultType": "streams", "result": streams, "stats": stats(result.stats, took) });
    if categorize {
        data["encodingFlags"] = json!(["categorize-labels"]);
    }
    data
}

/// An instant query answers a scalar or a vector, a range query a matrix.
pub(super) fn metric(value: &MetricValue, is_instant: bool, counted: Stats, took: Duration) -> Value {
    let (kind, result) = match value {
        MetricValue::Scalar(points) if is_instant => {
            ("scalar", points.first().map_or(Value::Null, |(at, value)| point(*at, *value)))
        }
        MetricValue::Scalar(points) => {
            let points: Vec<Value> = points.iter().map(|(at, value)| point(*at, *value)).collect();
            ("matrix", json!([{ "metric": {}, "values": points }]))
        }
        MetricValue::Series(series) if is_instant => ("vector", series.iter().map(vector_sample).collect()),
        MetricValue::Series(series) => ("matrix", series.iter().map(matrix_series).collect()),
    };
    json!({ "resultType": kind, "result": result, "stats": stats(counted, took) })
}

fn point(at: Nanos, value: f64) -> Value {
    json!([seconds(at), br_promql::format_float(value)])
}

fn vector_sample(series: &Series) -> Value {
    let value = series.points.first().map(|(at, value)| point(*at, *value));
    json!({ "metric": labels(&series.labels), "value": value })
}

fn matrix_series(series: &Series) -> Value {
    let points: Vec<Value> = series.points.iter().map(|(at, value)| point(*at, *value)).collect();
    json!({ "metric": labels(&series.labels), "values": points })
}

fn seconds(at: Nanos) -> Value {
    let millis = at.as_millis();
    if millis % 1000 == 0 { json!(millis / 1000) } else { json!(millis as f64 / 1000.0) }
}

fn stats(stats: Stats, took: Duration) -> Value {
    let took = took.as_secs_f64();
    let per_second = |count: u64| if took > 0.0 { (count as f64 / took) as u64 } else { 0 };
    json!({ "summary": {
        "bytesProcessedPerSecond": per_second(stats.bytes_processed),
        "linesProcessedPerSecond": per_second(stats.lines_processed),
        "totalBytesProcessed": stats.bytes_processed,
        "totalLinesProcessed": stats.lines_processed,
        "totalPostFilterLines": stats.lines_kept,
        "execTime": took,
    } })
}
