//! Results as Loki writes them.

use crate::written::{Each, Shown};
use br_logql::{LogEntry, LogResult, LogStream, MetricValue, Series, Stats};
use br_std::Nanos;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use std::time::Duration;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Data<R> {
    result_type: &'static str,
    result: R,
    stats: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    encoding_flags: Option<[&'static str; 1]>,
}

pub(super) fn streams(result: &LogResult, categorize: bool, took: Duration) -> impl Serialize {
    Data {
        result_type: "streams",
        result: Each(move || result.streams.iter().map(move |stream| Stream { stream, categorize })),
        stats: stats(result.stats, took),
        encoding_flags: categorize.then_some(["categorize-labels"]),
    }
}

struct Stream<'r> {
    stream: &'r LogStream,
    categorize: bool,
}

impl Serialize for Stream<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Written<'r, V> {
            stream: Shown<'r>,
            values: V,
        }
        let Self { stream, categorize } = *self;
        let values = Each(move || stream.entries.iter().map(move |entry| Entry { entry, categorize }));
        Written { stream: Shown(&stream.labels), values }.serialize(serializer)
    }
}

struct Entry<'r> {
    entry: &'r LogEntry,
    categorize: bool,
}

impl Serialize for Entry<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Categories<'r> {
            structured_metadata: Shown<'r>,
            parsed: Shown<'r>,
        }
        let LogEntry { timestamp, line, metadata, parsed } = self.entry;
        let time = timestamp.0.to_string();
        if !self.categorize {
            return (time, line).serialize(serializer);
        }
        let categories = Categories { structured_metadata: Shown(metadata), parsed: Shown(parsed) };
        (time, line, categories).serialize(serializer)
    }
}

/// An instant query answers a scalar or a vector, a range query a matrix.
pub(super) fn metric(value: &MetricValue, is_instant: bool, counted: Stats, took: Duration) -> impl Serialize {
    let result_type = match value {
        MetricValue::Scalar(_) if is_instant => "scalar",
        MetricValue::Series(_) if is_instant => "vector",
        _ => "matrix",
    };
    Data { result_type, result: Metric { value, is_instant }, stats: stats(counted, took), encoding_flags: None }
}

struct Metric<'r> {
    value: &'r MetricValue,
    is_instant: bool,
}

#[derive(Serialize)]
struct Sample<'r> {
    metric: Shown<'r>,
    value: Option<(Value, String)>,
}

#[derive(Serialize)]
struct Row<M, V> {
    metric: M,
    values: V,
}

impl Serialize for Metric<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.value {
            MetricValue::Scalar(points) if self.is_instant => points.first().map(point).serialize(serializer),
            MetricValue::Scalar(points) => {
                [Row { metric: json!({}), values: Each(|| points.iter().map(point)) }].serialize(serializer)
            }
            MetricValue::Series(all) if self.is_instant => serializer.collect_seq(
                all.iter().map(|Series { labels, points }| Sample { metric: Shown(labels), value: points.first().map(point) }),
            ),
            MetricValue::Series(all) => {
                serializer.collect_seq(all.iter().map(|Series { labels, points }| Row {
                    metric: Shown(labels),
                    values: Each(move || points.iter().map(point)),
                }))
            }
        }
    }
}

fn point((at, value): &(Nanos, f64)) -> (Value, String) {
    (seconds(*at), br_promql::format_float(*value))
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
