//! The protobuf exposition: `io.prometheus.client.MetricFamily` messages, each with its length in front.
//!
//! The only exposition that carries native histograms. Source: `io/prometheus/client/metrics.proto` (client_model).

use super::bounds::{BETWEEN_CHECKS, Bounds, check_label};
use super::{HistogramForms, NO_TIMESTAMP};
use crate::protobuf::{Field, Reader};
use crate::{Limits, Result, WireError};
use br_model::labels::METRIC_NAME;
use br_model::{
    BucketSpan, CounterResetHint, Exemplar, FloatHistogram, Labels, Metadata, MetricBatch, MetricType, Sample, SeriesSamples,
    Value,
};
use std::sync::Arc;

pub(super) fn parse(mut body: &[u8], forms: HistogramForms, bounds: &Bounds<'_>) -> Result<MetricBatch> {
    let mut batch = MetricBatch::default();
    let mut index = 0;
    while !body.is_empty() {
        let length = br_std::varint::take_u64(&mut body).and_then(|length| usize::try_from(length).ok());
        let split = length.and_then(|length| body.split_at_checked(length));
        let (message, rest) =
            split.ok_or_else(|| WireError::Malformed(format!("family {index}: the body ends inside the message")))?;
        if index % BETWEEN_CHECKS == BETWEEN_CHECKS - 1 {
            bounds.check(&batch)?;
        }
        family(message, forms, bounds, &mut batch).map_err(|error| error.context(format!("family {index}")))?;
        body = rest;
        index += 1;
    }
    Ok(batch)
}

fn family(message: &[u8], forms: HistogramForms, bounds: &Bounds<'_>, batch: &mut MetricBatch) -> Result<()> {
    let (mut name, mut metadata, mut type_number) = ("", Metadata::default(), 0);
    let mut metrics = Vec::new();
    let mut reader = Reader::new(message);
    while let Some((number, field)) = reader.next()? {
        match number {
            1 => name = field.text()?,
            2 => field.text()?.clone_into(&mut metadata.help),
            3 => type_number = field.u64()?,
            4 => metrics.push(field.bytes()?),
            5 => field.text()?.clone_into(&mut metadata.unit),
            _ => {}
        }
    }
    if name.is_empty() {
        return Err(WireError::malformed("a metric family without a name"));
    }
    metadata.metric_type = match type_number {
        0 => MetricType::Counter,
        1 => MetricType::Gauge,
        2 => MetricType::Summary,
        4 => MetricType::Histogram,
        5 => MetricType::GaugeHistogram,
        _ => MetricType::Unknown,
    };
    batch.metadata.push((name.to_owned(), metadata));
    for (at, metric) in metrics.into_iter().enumerate() {
        if at % BETWEEN_CHECKS == BETWEEN_CHECKS - 1 {
            bounds.check(batch)?;
        }
        Metric::read(metric, bounds.limits)?.write(name, forms, batch);
    }
    Ok(())
}

#[derive(Default)]
struct Metric<'a> {
    labels: Vec<(&'a str, &'a str)>,
    value: Option<f64>,
    timestamp_ms: Option<i64>,
    start_ms: Option<i64>,
    exemplars: Vec<Exemplar>,
    summary: Option<Compound>,
    histogram: Option<Compound>,
    native: Option<FloatHistogram>,
}

/// Count, sum, and what is counted below each bound or at each quantile.
#[derive(Default)]
struct Compound {
    count: f64,
    sum: f64,
    parts: Vec<(f64, f64, Option<Exemplar>)>,
}

impl<'a> Metric<'a> {
    fn read(message: &'a [u8], limits: &Limits) -> Result<Self> {
        let mut metric = Self::default();
        let mut reader = Reader::new(message);
        while let Some((number, field)) = reader.next()? {
            match number {
                1 => add_label(&mut metric.labels, field, limits)?,
                2 | 5 => metric.value = Some(single(field.bytes()?)?),
                3 => metric.read_counter(field.bytes()?, limits)?,
                4 => metric.read_summary(field.bytes()?)?,
                6 => metric.timestamp_ms = Some(field.i64()?),
                7 => metric.read_histogram(field.bytes()?, limits)?,
                _ => {}
            }
        }
        Ok(metric)
    }

    fn read_counter(&mut self, message: &[u8], limits: &Limits) -> Result<()> {
        let mut value = 0.0;
        let mut reader = Reader::new(message);
        while let Some((number, field)) = reader.next()? {
            match number {
                1 => value = field.f64()?,
                2 => self.exemplars.push(exemplar(field.bytes()?, limits)?),
                3 => self.start_ms = Some(timestamp_ms(field.bytes()?)?),
                _ => {}
            }
        }
        self.value = Some(value);
        Ok(())
    }

    fn read_summary(&mut self, message: &[u8]) -> Result<()> {
        let mut summary = Compound::default();
        let mut reader = Reader::new(message);
        while let Some((number, field)) = reader.next()? {
            match number {
                1 => summary.count = field.u64()? as f64,
                2 => summary.sum = field.f64()?,
                3 => summary.parts.push(bound_and_value(field.bytes()?)?),
                4 => self.start_ms = Some(timestamp_ms(field.bytes()?)?),
                _ => {}
            }
        }
        self.summary = Some(summary);
        Ok(())
    }

    fn read_histogram(&mut self, message: &[u8], limits: &Limits) -> Result<()> {
        let mut classic = Compound::default();
        let mut native = FloatHistogram::default();
        let mut is_native = false;
        let (mut positive, mut negative) = (Vec::new(), Vec::new());
        let mut reader = Reader::new(message);
        while let Some((number, field)) = reader.next()? {
            match number {
                1 => classic.count = field.u64()? as f64,
                4 => classic.count = field.f64()?,
                2 => classic.sum = field.f64()?,
                3 => classic.parts.push(bucket(field.bytes()?, limits)?),
                5 => native.schema = schema(field)?,
                6 => {
                    native.zero_threshold = field.f64()?;
                    is_native |= native.zero_threshold > 0.0;
                }
                7 => native.zero_count = field.u64()? as f64,
                8 => native.zero_count = field.f64()?,
                9 => keep(&mut native.negative_spans, span(field.bytes()?)?),
                10 => field.each_varint(|value| keep(&mut negative, br_std::varint::unzigzag(value)))?,
                11 => field.each_f64(|value| keep(&mut native.negative_buckets, value))?,
                12 => keep(&mut native.positive_spans, span(field.bytes()?)?),
                13 => field.each_varint(|value| keep(&mut positive, br_std::varint::unzigzag(value)))?,
                14 => field.each_f64(|value| keep(&mut native.positive_buckets, value))?,
                15 => self.start_ms = Some(timestamp_ms(field.bytes()?)?),
                16 => self.exemplars.push(exemplar(field.bytes()?, limits)?),
                _ => {}
            }
        }
        is_native |= native.zero_count > 0.0 || !native.negative_spans.is_empty() || !native.positive_spans.is_empty();
        if is_native {
            (native.count, native.sum) = (classic.count, classic.sum);
            add_deltas(&mut native.positive_buckets, &positive, &native.positive_spans)?;
            add_deltas(&mut native.negative_buckets, &negative, &native.negative_spans)?;
            self.native = Some(native);
        }
        self.histogram = Some(classic);
        Ok(())
    }

    fn write(self, name: &str, forms: HistogramForms, batch: &mut MetricBatch) {
        let Self { labels, value, timestamp_ms, start_ms, mut exemplars, summary, histogram, native } = self;
        let mut push = |name: String, extra: Option<(&str, String)>, value: Value, exemplars: Vec<Exemplar>| {
            let own = labels.iter().copied().chain(extra.as_ref().map(|(name, value)| (*name, value.as_str())));
            let labels = Labels::from_pairs(own.chain([(METRIC_NAME, name.as_str())]));
            let samples = vec![Sample { timestamp_ms: timestamp_ms.unwrap_or(NO_TIMESTAMP), value, start_ms }];
            batch.series.push(SeriesSamples { labels, samples, exemplars });
        };
        if let Some(value) = value {
            push(name.to_owned(), None, Value::Float(value), std::mem::take(&mut exemplars));
        }
        let native = native.filter(|_| forms.native);
        let has_native = native.is_some();
        if let Some(mut histogram) = native {
            histogram.counter_reset_hint = CounterResetHint::Unknown;
            push(name.to_owned(), None, Value::Histogram(Arc::new(histogram)), exemplars);
        }
        if let Some(summary) = summary {
            push(format!("{name}_count"), None, Value::Float(summary.count), Vec::new());
            push(format!("{name}_sum"), None, Value::Float(summary.sum), Vec::new());
            for (quantile, value, _) in summary.parts {
                push(name.to_owned(), Some(("quantile", bound_text(quantile))), Value::Float(value), Vec::new());
            }
        }
        // A histogram without classic buckets is only native.
        let is_read = |classic: &Compound| !has_native || forms.classic_too && !classic.parts.is_empty();
        let Some(classic) = histogram.filter(is_read) else { return };
        push(format!("{name}_count"), None, Value::Float(classic.count), Vec::new());
        push(format!("{name}_sum"), None, Value::Float(classic.sum), Vec::new());
        let has_infinity = classic.parts.iter().any(|(bound, ..)| *bound == f64::INFINITY);
        let infinity = (!has_infinity).then_some((f64::INFINITY, classic.count, None));
        for (bound, count, exemplar) in classic.parts.into_iter().chain(infinity) {
            push(format!("{name}_bucket"), Some(("le", bound_text(bound))), Value::Float(count), exemplar.into_iter().collect());
        }
    }
}

/// A bound as label text, `1.0` rather than `1`, as OpenMetrics and Prometheus 3 have it.
fn bound_text(bound: f64) -> String {
    if bound == f64::INFINITY { "+Inf".into() } else { format!("{bound:?}") }
}

/// The buckets of one side, and its spans; with more the histogram is none.
const BUCKETS_MAX: usize = 16_384;

/// One more than that shows that the spans do not fit.
fn keep<T>(all: &mut Vec<T>, one: T) {
    if all.len() <= BUCKETS_MAX {
        all.push(one);
    }
}

fn add_deltas(counts: &mut Vec<f64>, deltas: &[i64], spans: &[BucketSpan]) -> Result<()> {
    if counts.is_empty() {
        let mut count = 0i64;
        for delta in deltas {
            count = count.checked_add(*delta).ok_or_else(|| WireError::malformed("histogram: the bucket counts overflow"))?;
            counts.push(count as f64);
        }
    }
    if counts.len() > BUCKETS_MAX || spans.len() > BUCKETS_MAX {
        return Err(WireError::malformed(format_args!("histogram: more than {BUCKETS_MAX} buckets on one side")));
    }
    let covered: u64 = spans.iter().map(|span| u64::from(span.length)).sum();
    // A span without buckets only says that the histogram is native.
    if covered == counts.len() as u64 { Ok(()) } else { Err(WireError::malformed("histogram: the spans do not fit the buckets")) }
}

fn add_label<'a>(labels: &mut Vec<(&'a str, &'a str)>, field: Field<'a>, limits: &Limits) -> Result<()> {
    let (name, value) = label(field.bytes()?)?;
    check_label(limits, labels.len(), name, value).map_err(WireError::Malformed)?;
    labels.push((name, value));
    Ok(())
}

fn label(message: &[u8]) -> Result<(&str, &str)> {
    let (mut name, mut value) = ("", "");
    let mut reader = Reader::new(message);
    while let Some((number, field)) = reader.next()? {
        match number {
            1 => name = field.text()?,
            2 => value = field.text()?,
            _ => {}
        }
    }
    Ok((name, value))
}

/// A gauge or an untyped value.
fn single(message: &[u8]) -> Result<f64> {
    let mut value = 0.0;
    let mut reader = Reader::new(message);
    while let Some((number, field)) = reader.next()? {
        if number == 1 {
            value = field.f64()?;
        }
    }
    Ok(value)
}

fn bound_and_value(message: &[u8]) -> Result<(f64, f64, Option<Exemplar>)> {
    let (mut bound, mut value) = (0.0, 0.0);
    let mut reader = Reader::new(message);
    while let Some((number, field)) = reader.next()? {
        match number {
            1 => bound = field.f64()?,
            2 => value = field.f64()?,
            _ => {}
        }
    }
    Ok((bound, value, None))
}

fn bucket(message: &[u8], limits: &Limits) -> Result<(f64, f64, Option<Exemplar>)> {
    let (mut bound, mut count, mut of_bucket) = (0.0, 0.0, None);
    let mut reader = Reader::new(message);
    while let Some((number, field)) = reader.next()? {
        match number {
            1 => count = field.u64()? as f64,
            4 => count = field.f64()?,
            2 => bound = field.f64()?,
            3 => of_bucket = Some(exemplar(field.bytes()?, limits)?),
            _ => {}
        }
    }
    Ok((bound, count, of_bucket))
}

fn exemplar(message: &[u8], limits: &Limits) -> Result<Exemplar> {
    let mut labels = Vec::new();
    let mut exemplar = Exemplar { labels: Labels::empty(), value: 0.0, timestamp_ms: NO_TIMESTAMP };
    let mut reader = Reader::new(message);
    while let Some((number, field)) = reader.next()? {
        match number {
            1 => add_label(&mut labels, field, limits)?,
            2 => exemplar.value = field.f64()?,
            3 => exemplar.timestamp_ms = timestamp_ms(field.bytes()?)?,
            _ => {}
        }
    }
    exemplar.labels = Labels::from_pairs(labels);
    Ok(exemplar)
}

/// A `google.protobuf.Timestamp`.
fn timestamp_ms(message: &[u8]) -> Result<i64> {
    let (mut seconds, mut nanos) = (0i64, 0i64);
    let mut reader = Reader::new(message);
    while let Some((number, field)) = reader.next()? {
        match number {
            1 => seconds = field.i64()?,
            2 => nanos = field.i64()?,
            _ => {}
        }
    }
    Ok(seconds.saturating_mul(1000).saturating_add(nanos / 1_000_000))
}

fn span(message: &[u8]) -> Result<BucketSpan> {
    let mut span = BucketSpan { offset: 0, length: 0 };
    let out_of_range = |_| WireError::malformed("histogram: bucket span out of range");
    let mut reader = Reader::new(message);
    while let Some((number, field)) = reader.next()? {
        match (number, field) {
            (1, field) => span.offset = i32::try_from(field.zigzag()?).map_err(out_of_range)?,
            (2, Field::Varint(length)) => span.length = u32::try_from(length).map_err(out_of_range)?,
            _ => {}
        }
    }
    Ok(span)
}

fn schema(field: Field<'_>) -> Result<i32> {
    i32::try_from(field.zigzag()?).map_err(|_| WireError::malformed("histogram: schema out of range"))
}
