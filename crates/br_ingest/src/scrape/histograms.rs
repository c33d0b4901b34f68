//! What a job does to histograms: fewer buckets, and classic ones turned into native ones with custom buckets.
//!
//! Source: Prometheus' configuration documentation and "Native Histograms" specification.

use super::job::Settings;
use br_model::histogram::CUSTOM_BUCKETS_SCHEMA;
use br_model::labels::METRIC_NAME;
use br_model::{BucketSpan, FloatHistogram, Labels, MetricBatch, MetricType, Sample, SeriesSamples, Value};
use br_std::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const SCHEMA_MIN: i32 = -4;
const SCHEMA_MAX: i32 = 8;

/// Makes native histograms as coarse as the job wants them. Fails for one that cannot be made coarse enough.
pub(super) fn limit(settings: &Settings, samples: &mut [Sample]) -> Result<()> {
    let schema_max = schema_max(settings.bucket_factor_min);
    let limit = usize::try_from(settings.bucket_limit).unwrap_or(usize::MAX);
    if limit == 0 && schema_max == SCHEMA_MAX {
        return Ok(());
    }
    for sample in samples {
        let Value::Histogram(histogram) = &mut sample.value else { continue };
        let buckets = |histogram: &FloatHistogram| histogram.positive_buckets.len() + histogram.negative_buckets.len();
        let exceeded = || Error::over_limit(format!("histogram bucket limit exceeded: native_histogram_bucket_limit is {limit}"));
        if histogram.uses_custom_buckets() {
            if limit > 0 && buckets(histogram) > limit {
                return Err(exceeded());
            }
            continue;
        }
        if histogram.schema > schema_max {
            *histogram = Arc::new(coarser(histogram, schema_max));
        }
        while limit > 0 && buckets(histogram) > limit {
            if histogram.schema <= SCHEMA_MIN {
                return Err(exceeded());
            }
            *histogram = Arc::new(coarser(histogram, histogram.schema - 1));
        }
    }
    Ok(())
}

/// The finest schema whose buckets grow by at least `factor`.
fn schema_max(factor: f64) -> i32 {
    if factor.is_nan() || factor <= 1.0 {
        return SCHEMA_MAX;
    }
    let exact = -factor.log2().log2();
    (exact.floor() as i32).clamp(SCHEMA_MIN, SCHEMA_MAX)
}

fn coarser(histogram: &FloatHistogram, schema: i32) -> FloatHistogram {
    let steps = u32::try_from(histogram.schema - schema).unwrap_or(0).min(31);
    let (positive_spans, positive_buckets) = merge(&histogram.positive_spans, &histogram.positive_buckets, steps);
    let (negative_spans, negative_buckets) = merge(&histogram.negative_spans, &histogram.negative_buckets, steps);
    FloatHistogram { schema, positive_spans, positive_buckets, negative_spans, negative_buckets, ..histogram.clone() }
}

/// Two neighbours become one at each step: bucket `i` goes into bucket `ceil(i / 2)`.
fn merge(spans: &[BucketSpan], counts: &[f64], steps: u32) -> (Vec<BucketSpan>, Vec<f64>) {
    let mut merged: Vec<(i32, f64)> = Vec::new();
    let (mut index, mut counts) = (0i32, counts.iter());
    for span in spans {
        index = index.saturating_add(span.offset);
        for count in counts.by_ref().take(span.length as usize) {
            let to = (index.saturating_sub(1) >> steps) + 1;
            match merged.last_mut() {
                Some((last, sum)) if *last == to => *sum += count,
                _ => merged.push((to, *count)),
            }
            index = index.saturating_add(1);
        }
    }
    let mut spans: Vec<BucketSpan> = Vec::new();
    let mut next = 0;
    for (index, _) in &merged {
        match spans.last_mut() {
            Some(span) if *index == next => span.length += 1,
            _ => spans.push(BucketSpan { offset: index - next, length: 1 }),
        }
        next = index + 1;
    }
    (spans, merged.into_iter().map(|(_, count)| count).collect())
}

/// One classic histogram at one time, as its series have it.
#[derive(Default)]
struct Classic {
    /// Cumulative counts by upper bound.
    buckets: Vec<(f64, f64)>,
    count: Option<f64>,
    sum: f64,
    /// Where its series stand in the batch.
    places: Vec<usize>,
}

/// Replaces classic histograms by native ones with custom buckets, or adds those. What makes no histogram stays as it is, and so
/// does one that has a native form already.
pub(super) fn convert_classic(batch: &mut MetricBatch, keeps_classic: bool) {
    let is_histogram = |kind: MetricType| matches!(kind, MetricType::Histogram);
    let families: BTreeSet<&str> =
        batch.metadata.iter().filter(|(_, metadata)| is_histogram(metadata.metric_type)).map(|(name, _)| name.as_str()).collect();
    let mut found: BTreeMap<Labels, Classic> = BTreeMap::new();
    let mut native = BTreeSet::new();
    for (place, series) in batch.series.iter().enumerate() {
        let name = series.labels.metric_name();
        let [sample] = series.samples.as_slice() else { continue };
        let Value::Float(value) = sample.value else {
            native.insert(series.labels.clone());
            continue;
        };
        let Some((family, suffix)) = name.rsplit_once('_').filter(|(family, _)| families.contains(family)) else { continue };
        let upper = series.labels.get("le").and_then(|le| le.parse::<f64>().ok());
        if !matches!((suffix, upper), ("bucket", Some(_)) | ("count" | "sum", None)) {
            continue;
        }
        let mut labels = series.labels.without(|label| label == "le").to_builder();
        labels.set(METRIC_NAME, family);
        let classic = found.entry(labels.build()).or_default();
        classic.places.push(place);
        match (suffix, upper) {
            ("bucket", Some(upper)) => classic.buckets.push((upper, value)),
            ("count", _) => classic.count = Some(value),
            _ => classic.sum = value,
        }
    }
    let mut replaced = BTreeSet::new();
    let mut converted = Vec::new();
    for (labels, classic) in found {
        if native.contains(&labels) {
            continue;
        }
        let Some(histogram) = custom_buckets(&classic) else { continue };
        let of_places = || classic.places.iter().map(|place| &batch.series[*place]);
        let Some(first) = of_places().next().and_then(|series| series.samples.first()) else { continue };
        let exemplars = of_places().flat_map(|series| series.exemplars.iter().cloned()).collect();
        let sample = Sample { value: Value::Histogram(Arc::new(histogram)), ..first.clone() };
        converted.push(SeriesSamples { labels, samples: vec![sample], exemplars });
        replaced.extend(classic.places);
    }
    if !keeps_classic {
        let mut place = 0;
        batch.series.retain(|_| {
            place += 1;
            !replaced.contains(&(place - 1))
        });
    }
    batch.series.extend(converted);
}

/// `None` where the counts fall or contradict each other.
fn custom_buckets(classic: &Classic) -> Option<FloatHistogram> {
    let mut buckets = classic.buckets.clone();
    buckets.sort_by(|left, right| left.0.total_cmp(&right.0));
    let (highest, highest_count) = *buckets.last()?;
    let count = classic.count.unwrap_or(highest_count);
    if highest != f64::INFINITY {
        buckets.push((f64::INFINITY, count));
    }
    let mut before = 0.0;
    let mut counts = Vec::with_capacity(buckets.len());
    for (_, cumulative) in &buckets {
        if *cumulative < before {
            return None;
        }
        counts.push(cumulative - before);
        before = *cumulative;
    }
    let is_whole = before == count;
    is_whole.then(|| FloatHistogram {
        schema: CUSTOM_BUCKETS_SCHEMA,
        count,
        sum: classic.sum,
        positive_spans: vec![BucketSpan { offset: 0, length: counts.len() as u32 }],
        positive_buckets: counts,
        custom_values: buckets.iter().map(|(upper, _)| *upper).filter(|upper| upper.is_finite()).collect(),
        ..FloatHistogram::default()
    })
}

#[cfg(test)]
mod tests {
    use super::super::config::{GlobalConfig, ScrapeConfig};
    use super::super::job::Job;
    use super::*;
    use br_wire::exposition::{Format, parse_format};

    fn settings(yaml: &str) -> Settings {
        let config = serde_norway::from_str::<ScrapeConfig>(&format!("{{job_name: a, {yaml}}}")).expect(yaml);
        Job::new(config, &GlobalConfig::default()).expect(yaml).settings
    }

    #[test]
    fn buckets_are_merged_until_they_fit() {
        let histogram = FloatHistogram {
            schema: 1,
            count: 10.0,
            positive_spans: vec![BucketSpan { offset: -1, length: 3 }, BucketSpan { offset: 2, length: 1 }],
            positive_buckets: vec![1.0, 2.0, 3.0, 4.0],
            ..FloatHistogram::default()
        };
        let limited = |yaml: &str| {
            let mut samples = [Sample { timestamp_ms: 0, value: Value::Histogram(Arc::new(histogram.clone())), start_ms: None }];
            limit(&settings(yaml), &mut samples).map(|()| match &samples[0].value {
                Value::Histogram(histogram) => {
                    (histogram.schema, histogram.positive_buckets.clone(), histogram.positive_spans.clone())
                }
                Value::Float(_) => unreachable!("it stays a histogram"),
            })
        };
        let spans = |offset, length| vec![BucketSpan { offset, length }];
        // -1 and 0 to 0, 1 to 1, 4 to 2.
        let coarser = (0, vec![3.0, 3.0, 4.0], spans(0, 3));
        assert_eq!(limited("native_histogram_bucket_limit: 3").expect("fits"), coarser);
        assert_eq!(limited("native_histogram_min_bucket_factor: 2").expect("fits"), coarser);
        assert_eq!(limited("native_histogram_bucket_limit: 2").expect("fits"), (-1, vec![3.0, 7.0], spans(0, 2)));
        let error = limited("native_histogram_bucket_limit: 1").expect_err("0 and 1 never meet");
        assert!(error.to_string().starts_with("histogram bucket limit exceeded"));
        assert_eq!((schema_max(0.0), schema_max(1.1), schema_max(65536.0)), (8, 2, -4));
    }

    #[test]
    fn classic_histograms_become_native_ones() {
        let text = "# TYPE h histogram\nh_bucket{le=\"1\",a=\"b\"} 2\nh_bucket{le=\"+Inf\",a=\"b\"} 3\nh_sum{a=\"b\"} 7\nh_count{a=\"b\"} 3\n\
                    # TYPE bad histogram\nbad_bucket{le=\"1\"} 2\nbad_bucket{le=\"+Inf\"} 1\n# TYPE g gauge\ng_count 1\n";
        let names = |keeps_classic| {
            let mut batch = parse_format(text.as_bytes(), Format::Text).expect("valid");
            convert_classic(&mut batch, keeps_classic);
            let names = batch.series.iter().map(|series| series.labels.to_string()).collect::<Vec<String>>();
            (names, batch)
        };
        let (series, batch) = names(false);
        assert_eq!(series, [r#"bad_bucket{le="1"}"#, r#"bad_bucket{le="+Inf"}"#, "g_count", r#"h{a="b"}"#]);
        let Value::Histogram(histogram) = &batch.series[3].samples[0].value else { panic!("a histogram") };
        assert_eq!((histogram.count, histogram.sum), (3.0, 7.0));
        assert_eq!((&histogram.positive_buckets, &histogram.custom_values), (&vec![2.0, 1.0], &vec![1.0]));
        assert_eq!(names(true).0.len(), 8);
    }
}
