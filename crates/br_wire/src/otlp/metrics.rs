//! OTLP metrics as Prometheus series.
//!
//! Sums with delta temporality and delta histograms are kept apart: adding them up needs state, which the caller has.

use super::common::{attributes, nanos};
use super::names::{label_name, metric_name};
use super::{Encoding, Signal, request, with_complaints};
use crate::amount::{Memory, Room};
use crate::{Decoded, Limits, Result};
use br_model::labels::METRIC_NAME;
use br_model::{
    AttributeValue, Attributes, BucketSpan, Exemplar, FloatHistogram, Label, Labels, LabelsBuilder, Metadata, MetricBatch,
    MetricType, Sample, SeriesSamples, SpanId, TraceId, Value, stale_nan,
};
use br_std::Nanos;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::metrics::v1 as wire;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What becomes a label besides a point's own attributes, `job` and `instance`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricOptions {
    /// Resource attributes that every series carries; the others are on `target_info` alone.
    pub promoted_resource_attributes: Vec<String>,
    /// `otel_scope_name` and `otel_scope_version`.
    pub has_scope_labels: bool,
}

impl Default for MetricOptions {
    fn default() -> Self {
        Self { promoted_resource_attributes: vec!["service.name".into()], has_scope_labels: true }
    }
}

/// What a request brings. Both batches have their own metadata.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics {
    pub cumulative: MetricBatch,
    /// Each sample counts what came since the one before it, from `start_ms` on.
    pub delta: MetricBatch,
}

/// The zero bucket's width where the sender does not tell it, as in Prometheus.
const ZERO_THRESHOLD: f64 = 1e-128;
const SCALE_MAX: i32 = 8;
const SCALE_MIN: i32 = -4;
/// Empty buckets up to here are written out; a longer gap starts a new span.
const GAP_BUCKETS_MAX: usize = 2;
const NO_RECORDED_VALUE: u32 = 1;
/// Buckets of one exponential histogram as they are sent, both sides together: a point with more is rejected.
const BUCKETS_MAX: usize = 65_536;
/// What a series takes with its sample, besides its labels; and the texts of a label, which the series of a point share.
const SERIES_BYTES: usize = 320;
const LABEL_TEXT_BYTES: usize = 80;

/// Reads an `ExportMetricsServiceRequest`. A point that makes no sense is rejected; `received` stands in for a time that is not told.
pub fn decode_metrics(
    body: &[u8],
    encoding: Encoding,
    received: Nanos,
    options: &MetricOptions,
    limits: &Limits,
) -> Result<Decoded<Metrics>> {
    let (message, complaints) = request(body, encoding, Signal::Metrics, limits)?;
    Ok(with_complaints(metrics_of(message, received, options, limits)?, complaints))
}

/// [`decode_metrics`] for a message that gRPC has read already.
pub fn metrics_of(
    message: ExportMetricsServiceRequest,
    received: Nanos,
    options: &MetricOptions,
    limits: &Limits,
) -> Result<Decoded<Metrics>> {
    let mut writer = Writer::new(received, limits);
    for group in message.resource_metrics {
        let resource = attributes(group.resource.map(|resource| resource.attributes).unwrap_or_default(), limits);
        let identity = Identity::of(&resource);
        let mut newest_ms = None;
        for scoped in group.scope_metrics {
            let base = base_labels(&resource, &identity, scoped.scope.as_ref(), options);
            for metric in scoped.metrics {
                newest_ms = newest_ms.max(writer.metric(metric, &base)?);
            }
        }
        if let Some(newest_ms) = newest_ms {
            writer.target_info(&resource, &identity, newest_ms);
        }
    }
    let mut decoded = writer.decoded;
    decoded.value.cumulative.metadata = writer.cumulative.into_iter().collect();
    decoded.value.delta.metadata = writer.delta.into_iter().collect();
    Ok(decoded)
}

/// `job` and `instance` of a resource; empty where it does not tell.
struct Identity {
    job: String,
    instance: String,
}

impl Identity {
    fn of(resource: &Attributes) -> Self {
        let text = |key: &str| resource.get(key).map(ToString::to_string).unwrap_or_default();
        let (namespace, name) = (text("service.namespace"), text("service.name"));
        let job = if namespace.is_empty() || name.is_empty() { name } else { format!("{namespace}/{name}") };
        Self { job, instance: text("service.instance.id") }
    }
}

const IDENTITY_KEYS: [&str; 3] = ["service.name", "service.namespace", "service.instance.id"];

fn base_labels(
    resource: &Attributes,
    identity: &Identity,
    scope: Option<&InstrumentationScope>,
    options: &MetricOptions,
) -> LabelsBuilder {
    let mut base = LabelsBuilder::default();
    for key in &options.promoted_resource_attributes {
        if let Some(value) = resource.get(key) {
            base.set(&label_name(key), &value.to_string());
        }
    }
    base.set("job", &identity.job).set("instance", &identity.instance);
    if let Some(scope) = scope.filter(|_| options.has_scope_labels) {
        base.set("otel_scope_name", &scope.name).set("otel_scope_version", &scope.version);
    }
    base
}

struct Writer<'a> {
    decoded: Decoded<Metrics>,
    received_ms: i64,
    limits: &'a Limits,
    /// Data points so far.
    index: usize,
    /// A point may be many: each of its series has a sample.
    samples: Room,
    memory: Memory,
    cumulative: BTreeMap<String, Metadata>,
    delta: BTreeMap<String, Metadata>,
}

/// What all points of one metric share.
struct Family<'a> {
    name: String,
    is_delta: bool,
    base: &'a LabelsBuilder,
}

/// When a point was taken.
#[derive(Clone, Copy)]
struct When {
    timestamp_ms: i64,
    start_ms: Option<i64>,
    has_no_value: bool,
}

impl<'a> Writer<'a> {
    fn new(received: Nanos, limits: &'a Limits) -> Self {
        Self {
            decoded: Decoded::new(Metrics::default()),
            received_ms: received.as_millis(),
            limits,
            index: 0,
            samples: Room::new(limits.records_max, "samples"),
            memory: Memory::new(limits),
            cumulative: BTreeMap::new(),
            delta: BTreeMap::new(),
        }
    }

    /// Writes the points of a metric. Returns the time of the newest.
    fn metric(&mut self, metric: wire::Metric, base: &LabelsBuilder) -> Result<Option<i64>> {
        let Some(data) = metric.data else {
            self.reject(format!("metric {:?} has no data", metric.name));
            return Ok(None);
        };
        let (metric_type, temporality) = kind(&data);
        let is_delta = temporality == Some(wire::AggregationTemporality::Delta as i32);
        let is_known = temporality.is_none_or(|number| is_delta || number == wire::AggregationTemporality::Cumulative as i32);
        let is_gauge = matches!(data, wire::metric::Data::Gauge(_));
        let name = metric_name(&metric.name, &metric.unit, metric_type == MetricType::Counter, is_gauge);
        if name.is_empty() || !is_known {
            let why = if name.is_empty() { "has no name" } else { "has no aggregation temporality" };
            self.reject_points(point_count(&data), format!("metric {:?} {why}", metric.name));
            return Ok(None);
        }
        let families = if is_delta { &mut self.delta } else { &mut self.cumulative };
        let metadata = Metadata { metric_type, help: metric.description, unit: metric.unit };
        families.entry(name.clone()).or_insert(metadata);
        self.points(data, &Family { name, is_delta, base })
    }

    fn points(&mut self, data: wire::metric::Data, family: &Family<'_>) -> Result<Option<i64>> {
        match data {
            wire::metric::Data::Gauge(gauge) => newest(gauge.data_points, |point| self.number(point, family)),
            wire::metric::Data::Sum(sum) => newest(sum.data_points, |point| self.number(point, family)),
            wire::metric::Data::Histogram(histogram) => newest(histogram.data_points, |point| self.histogram(point, family)),
            wire::metric::Data::ExponentialHistogram(histogram) => {
                newest(histogram.data_points, |point| self.exponential(point, family))
            }
            wire::metric::Data::Summary(summary) => newest(summary.data_points, |point| self.summary(point, family)),
        }
    }

    fn number(&mut self, point: wire::NumberDataPoint, family: &Family<'_>) -> Result<Option<i64>> {
        let when = self.when(point.time_unix_nano, point.start_time_unix_nano, point.flags);
        let value = match point.value {
            Some(wire::number_data_point::Value::AsDouble(value)) => value,
            Some(wire::number_data_point::Value::AsInt(value)) => value as f64,
            None if when.has_no_value => 0.0,
            None => {
                self.reject(format!("metric {:?}: a point without a value", family.name));
                return Ok(None);
            }
        };
        let Some(labels) = self.labels(point.attributes, family, 1)? else { return Ok(None) };
        let exemplars = self.exemplars(point.exemplars);
        self.push(family, &family.name, &labels, None, when, value, exemplars);
        Ok(Some(when.timestamp_ms))
    }

    fn histogram(&mut self, point: wire::HistogramDataPoint, family: &Family<'_>) -> Result<Option<i64>> {
        let when = self.when(point.time_unix_nano, point.start_time_unix_nano, point.flags);
        let (bounds, counts) = (&point.explicit_bounds, &point.bucket_counts);
        if !(counts.is_empty() && bounds.is_empty()) && counts.len() != bounds.len() + 1 {
            self.reject(format!("metric {:?}: {} buckets do not fit {} bounds", family.name, counts.len(), bounds.len()));
            return Ok(None);
        }
        if !bounds.is_sorted_by(|one, two| one < two) || bounds.iter().any(|bound| bound.is_nan()) {
            self.reject(format!("metric {:?}: the bounds are not ascending", family.name));
            return Ok(None);
        }
        let Some(labels) = self.labels(point.attributes, family, bounds.len() + 3)? else { return Ok(None) };
        let mut exemplars = self.exemplars(point.exemplars);
        // In the order of the buckets, and in each as they were sent.
        let of_bucket = |exemplar: &Exemplar| match exemplar.value {
            value if value.is_nan() => bounds.len(),
            value => bounds.partition_point(|bound| *bound < value),
        };
        exemplars.sort_by_key(of_bucket);
        let mut exemplars = exemplars.into_iter().peekable();
        if let Some(sum) = point.sum.or(when.has_no_value.then_some(0.0)) {
            self.push(family, &format!("{}_sum", family.name), &labels, None, when, sum, Vec::new());
        }
        self.push(family, &format!("{}_count", family.name), &labels, None, when, point.count as f64, Vec::new());
        let bucket = format!("{}_bucket", family.name);
        let mut total = 0u64;
        for (bound, count) in bounds.iter().filter(|bound| **bound != f64::INFINITY).zip(counts) {
            total = total.saturating_add(*count);
            let here = std::iter::from_fn(|| exemplars.next_if(|exemplar| exemplar.value <= *bound)).collect();
            self.push(family, &bucket, &labels, Some(("le", &bound.to_string())), when, total as f64, here);
        }
        self.push(family, &bucket, &labels, Some(("le", "+Inf")), when, point.count as f64, exemplars.collect());
        Ok(Some(when.timestamp_ms))
    }

    fn exponential(&mut self, point: wire::ExponentialHistogramDataPoint, family: &Family<'_>) -> Result<Option<i64>> {
        let when = self.when(point.time_unix_nano, point.start_time_unix_nano, point.flags);
        if point.scale < SCALE_MIN {
            self.reject(format!("metric {:?}: scale {} is below {SCALE_MIN}", family.name, point.scale));
            return Ok(None);
        }
        let sides = [&point.positive, &point.negative].into_iter().flatten();
        let bucket_count: usize = sides.map(|side| side.bucket_counts.len()).sum();
        if bucket_count > BUCKETS_MAX {
            self.reject(format!("metric {:?}: {bucket_count} buckets, at most {BUCKETS_MAX} are taken", family.name));
            return Ok(None);
        }
        self.memory.take(bucket_count * size_of::<f64>())?;
        let Some(labels) = self.labels(point.attributes, family, 1)? else { return Ok(None) };
        let schema = point.scale.min(SCALE_MAX);
        let shift = (point.scale - schema).unsigned_abs();
        let (positive_spans, positive_buckets) = buckets(point.positive, shift);
        let (negative_spans, negative_buckets) = buckets(point.negative, shift);
        let histogram = FloatHistogram {
            schema,
            zero_threshold: if point.zero_threshold > 0.0 { point.zero_threshold } else { ZERO_THRESHOLD },
            zero_count: point.zero_count as f64,
            count: point.count as f64,
            sum: if when.has_no_value { stale_nan() } else { point.sum.unwrap_or(0.0) },
            positive_spans,
            negative_spans,
            positive_buckets,
            negative_buckets,
            ..FloatHistogram::default()
        };
        let exemplars = self.exemplars(point.exemplars);
        self.push_value(family, &family.name, &labels, None, when, Value::Histogram(Arc::new(histogram)), exemplars);
        Ok(Some(when.timestamp_ms))
    }

    fn summary(&mut self, point: wire::SummaryDataPoint, family: &Family<'_>) -> Result<Option<i64>> {
        let when = self.when(point.time_unix_nano, point.start_time_unix_nano, point.flags);
        let series = point.quantile_values.len() + 2;
        let Some(labels) = self.labels(point.attributes, family, series)? else { return Ok(None) };
        self.push(family, &format!("{}_sum", family.name), &labels, None, when, point.sum, Vec::new());
        self.push(family, &format!("{}_count", family.name), &labels, None, when, point.count as f64, Vec::new());
        for quantile in point.quantile_values {
            let label = quantile.quantile.to_string();
            self.push(family, &family.name, &labels, Some(("quantile", &label)), when, quantile.value, Vec::new());
        }
        Ok(Some(when.timestamp_ms))
    }

    /// The attributes of a resource, once, on a series of value 1, as far as they are not `job` and `instance` already.
    fn target_info(&mut self, resource: &Attributes, identity: &Identity, timestamp_ms: i64) {
        let rest = resource.iter().filter(|(key, _)| !IDENTITY_KEYS.contains(&key.as_str()));
        let mut labels = LabelsBuilder::default();
        set_attributes(&mut labels, rest);
        let is_anonymous = identity.job.is_empty() && identity.instance.is_empty();
        if is_anonymous || labels.clone().build().is_empty() {
            return;
        }
        labels.set("job", &identity.job).set("instance", &identity.instance).set(METRIC_NAME, "target_info");
        let metadata = Metadata { metric_type: MetricType::Gauge, help: "Target metadata".into(), unit: String::new() };
        self.cumulative.entry("target_info".into()).or_insert(metadata);
        let samples = vec![Sample::float(timestamp_ms, 1.0)];
        self.decoded.value.cumulative.series.push(SeriesSamples { labels: labels.build(), samples, exemplars: Vec::new() });
    }

    fn when(&mut self, time: u64, start: u64, flags: u32) -> When {
        self.index += 1;
        let timestamp_ms = nanos(time).map_or(self.received_ms, Nanos::as_millis);
        let start_ms = nanos(start).map(Nanos::as_millis).filter(|start| *start <= timestamp_ms);
        When { timestamp_ms, start_ms, has_no_value: flags & NO_RECORDED_VALUE != 0 }
    }

    /// The labels of a point without the metric's name. `None` when they are over a limit; the point is rejected then.
    /// `series` is how many the point makes: it is an error when they are too many for the request, and none of them is made.
    fn labels(&mut self, point: Vec<KeyValue>, family: &Family<'_>, series: usize) -> Result<Option<LabelsBuilder>> {
        let attributes = attributes(point, self.limits);
        let mut labels = LabelsBuilder::default();
        set_attributes(&mut labels, attributes.iter());
        let mut merged = family.base.clone();
        for (name, value) in labels.build().iter() {
            merged.set(name, value);
        }
        let built = merged.clone().build();
        let too_long = built.iter().find(|(name, value)| {
            name.len() > self.limits.label_name_bytes_max || value.len() > self.limits.label_value_bytes_max
        });
        let reason = match too_long {
            Some((name, value)) => {
                format!("label {:?} is too long ({} bytes)", name.chars().take(64).collect::<String>(), value.len())
            }
            None if built.len() >= self.limits.labels_max => {
                format!("{} labels, at most {} are taken", built.len(), self.limits.labels_max)
            }
            None => {
                self.samples.take(series)?;
                let bytes_each = SERIES_BYTES + (built.len() + 2) * size_of::<Label>();
                self.memory.take(attributes.0.len() * LABEL_TEXT_BYTES + series.saturating_mul(bytes_each))?;
                return Ok(Some(merged));
            }
        };
        self.reject(format!("metric {:?}: {reason}", family.name));
        Ok(None)
    }

    fn exemplars(&self, wire: Vec<wire::Exemplar>) -> Vec<Exemplar> {
        wire.into_iter().filter_map(|exemplar| self.exemplar(exemplar)).collect()
    }

    fn exemplar(&self, wire: wire::Exemplar) -> Option<Exemplar> {
        let value = match wire.value? {
            wire::exemplar::Value::AsDouble(value) => value,
            wire::exemplar::Value::AsInt(value) => value as f64,
        };
        let mut labels = LabelsBuilder::default();
        set_attributes(&mut labels, attributes(wire.filtered_attributes, self.limits).iter());
        let (trace_id, span_id) = (TraceId::from_bytes(&wire.trace_id), SpanId::from_bytes(&wire.span_id));
        if !trace_id.is_none() {
            labels.set("trace_id", &trace_id.to_string());
        }
        if !span_id.is_none() {
            labels.set("span_id", &span_id.to_string());
        }
        let timestamp_ms = nanos(wire.time_unix_nano).map_or(self.received_ms, Nanos::as_millis);
        Some(Exemplar { labels: labels.build(), value, timestamp_ms })
    }

    #[allow(clippy::too_many_arguments, reason = "a sample with everything that names it")]
    fn push(
        &mut self,
        family: &Family<'_>,
        name: &str,
        labels: &LabelsBuilder,
        extra: Option<(&str, &str)>,
        when: When,
        value: f64,
        exemplars: Vec<Exemplar>,
    ) {
        let value = if when.has_no_value { stale_nan() } else { value };
        self.push_value(family, name, labels, extra, when, Value::Float(value), exemplars);
    }

    #[allow(clippy::too_many_arguments, reason = "a sample with everything that names it")]
    fn push_value(
        &mut self,
        family: &Family<'_>,
        name: &str,
        labels: &LabelsBuilder,
        extra: Option<(&str, &str)>,
        when: When,
        value: Value,
        exemplars: Vec<Exemplar>,
    ) {
        let mut labels = labels.clone();
        labels.set(METRIC_NAME, name);
        if let Some((name, value)) = extra {
            labels.set(name, value);
        }
        let labels: Labels = labels.build();
        let sample = Sample { timestamp_ms: when.timestamp_ms, value, start_ms: when.start_ms };
        let metrics = &mut self.decoded.value;
        let batch = if family.is_delta { &mut metrics.delta } else { &mut metrics.cumulative };
        batch.series.push(SeriesSamples { labels, samples: vec![sample], exemplars });
    }

    fn reject(&mut self, reason: String) {
        self.decoded.reject(self.index.saturating_sub(1), 1, reason);
    }

    fn reject_points(&mut self, points: usize, reason: String) {
        self.decoded.reject(self.index, points, reason);
        self.index += points;
    }
}

/// Writes points one after the other, until one is too many. Returns the newest time.
fn newest<P>(points: Vec<P>, mut write: impl FnMut(P) -> Result<Option<i64>>) -> Result<Option<i64>> {
    points.into_iter().try_fold(None, |newest_ms: Option<i64>, point| Ok(newest_ms.max(write(point)?)))
}

/// Type and, for those that add up, temporality.
fn kind(data: &wire::metric::Data) -> (MetricType, Option<i32>) {
    match data {
        wire::metric::Data::Gauge(_) => (MetricType::Gauge, None),
        wire::metric::Data::Sum(sum) => {
            let metric_type = if sum.is_monotonic { MetricType::Counter } else { MetricType::Gauge };
            (metric_type, Some(sum.aggregation_temporality))
        }
        wire::metric::Data::Histogram(histogram) => (MetricType::Histogram, Some(histogram.aggregation_temporality)),
        wire::metric::Data::ExponentialHistogram(histogram) => (MetricType::Histogram, Some(histogram.aggregation_temporality)),
        wire::metric::Data::Summary(_) => (MetricType::Summary, None),
    }
}

fn point_count(data: &wire::metric::Data) -> usize {
    match data {
        wire::metric::Data::Gauge(gauge) => gauge.data_points.len(),
        wire::metric::Data::Sum(sum) => sum.data_points.len(),
        wire::metric::Data::Histogram(histogram) => histogram.data_points.len(),
        wire::metric::Data::ExponentialHistogram(histogram) => histogram.data_points.len(),
        wire::metric::Data::Summary(summary) => summary.data_points.len(),
    }
}

/// Sets a label for each attribute. Where two keys become one label their values are joined with `;`, in the order of the keys.
fn set_attributes<'a>(labels: &mut LabelsBuilder, attributes: impl Iterator<Item = &'a (String, AttributeValue)>) {
    let sorted: BTreeMap<&str, &AttributeValue> = attributes.map(|(key, value)| (key.as_str(), value)).collect();
    for (key, value) in sorted {
        let name = label_name(key);
        let joined = match labels.get(&name) {
            Some(before) => format!("{before};{value}"),
            None => value.to_string(),
        };
        labels.set(&name, &joined);
    }
}

/// Buckets with their spans. OpenTelemetry counts buckets by their lower bound, Prometheus by their upper: the index is one higher.
/// Each step of `shift` makes one bucket of two.
fn buckets(wire: Option<wire::exponential_histogram_data_point::Buckets>, shift: u32) -> (Vec<BucketSpan>, Vec<f64>) {
    let (mut spans, mut counts): (Vec<BucketSpan>, Vec<f64>) = (Vec::new(), Vec::new());
    let Some(wire) = wire else { return (spans, counts) };
    let mut merged: Vec<(i64, f64)> = Vec::new();
    for (at, count) in wire.bucket_counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        let index = ((i64::from(wire.offset) + at as i64) >> shift.min(62)) + 1;
        match merged.last_mut() {
            Some((last, total)) if *last == index => *total += *count as f64,
            _ => merged.push((index, *count as f64)),
        }
    }
    let mut next = 0i64;
    for (index, count) in merged {
        let gap = index - next;
        let is_near = gap <= GAP_BUCKETS_MAX as i64;
        match spans.last_mut().filter(|_| is_near) {
            Some(span) => {
                span.length = span.length.saturating_add(gap as u32 + 1);
                counts.extend(std::iter::repeat_n(0.0, gap as usize));
            }
            None => spans.push(BucketSpan { offset: gap.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32, length: 1 }),
        }
        counts.push(count);
        next = index + 1;
    }
    (spans, counts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::WireError;

    /// A histogram with one point that becomes two series more than it has buckets.
    fn histogram(buckets: usize) -> wire::Metric {
        let explicit_bounds = (1..buckets).map(|bound| bound as f64).collect();
        let (bucket_counts, sum) = (vec![1; buckets], Some(1.0));
        let point = wire::HistogramDataPoint { explicit_bounds, bucket_counts, sum, ..wire::HistogramDataPoint::default() };
        let data = wire::Histogram { data_points: vec![point], aggregation_temporality: 2 };
        wire::Metric { name: "t".into(), data: Some(wire::metric::Data::Histogram(data)), ..wire::Metric::default() }
    }

    #[test]
    fn a_point_of_too_many_series_makes_none_of_them() {
        let limits = Limits { records_max: 10, ..Limits::default() };
        let made = |buckets| {
            let mut writer = Writer::new(Nanos(1), &limits);
            let written = writer.metric(histogram(buckets), &LabelsBuilder::default());
            (written.map(drop).map_err(|error| error.http_status()), writer.decoded.value.cumulative.series.len())
        };
        assert_eq!(made(8), (Ok(()), 10));
        assert_eq!(made(9), (Err(413), 0));
    }

    #[test]
    fn series_are_weighed_before_they_are_made() {
        let limits = Limits { memory_bytes_max: 100 << 10, ..Limits::default() };
        let made = |buckets| {
            let mut writer = Writer::new(Nanos(1), &limits);
            let written = writer.metric(histogram(buckets), &LabelsBuilder::default());
            (matches!(written, Err(WireError::NeedsMemory(_))), writer.decoded.value.cumulative.series.len())
        };
        assert_eq!(made(100), (false, 102));
        assert_eq!(made(500), (true, 0));
    }
}
