//! A source of series in memory, filled by `load`.

use super::{items, nhcb, script, series};
use br_model::{CounterResetHint, Exemplar, FloatHistogram, Labels, Metadata, Sample, Value};
use br_promql::histogram;
use br_std::Result;
use br_storage::{Budget, MetricSource, Points, SeriesCursor, SeriesData, SeriesQuery, Values};
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Default)]
pub(super) struct Store {
    /// Samples by time.
    series: BTreeMap<Labels, BTreeMap<i64, Sample>>,
}

/// Adds the series of a `load` block.
pub(super) fn load(store: &mut Store, block: &script::Block) -> std::result::Result<(), String> {
    let mut words = block.head.split_whitespace();
    let with_nhcb = words.next() == Some("load_with_nhcb");
    let step_ms = script::millis(words.next().unwrap_or(""))?;
    let mut starts: Option<(Labels, Vec<Option<i64>>)> = None;
    let mut loaded = Vec::new();
    for line in &block.body {
        let Some((labels, rest)) = series::split(line)? else { return Err(format!("no series in {line:?}")) };
        if let Some(offsets) = rest.strip_prefix("@st") {
            starts = Some((labels, items::offsets(offsets)?));
            continue;
        }
        let offsets = starts.take().filter(|(known, _)| *known == labels).map(|(_, offsets)| offsets).unwrap_or_default();
        let mut samples = Vec::new();
        for (at, item) in items::parse(rest).map_err(|reason| format!("{line}: {reason}"))?.into_iter().enumerate() {
            let Some(item) = item else { continue };
            let timestamp_ms = step_ms * at as i64;
            let start_ms = offsets.get(at).copied().flatten().map(|offset_ms| timestamp_ms + offset_ms);
            samples.push(Sample { timestamp_ms, value: item.value, start_ms });
        }
        loaded.push((labels, samples));
    }
    if with_nhcb {
        let converted = nhcb::convert(&loaded);
        loaded.extend(converted);
    }
    for (labels, samples) in loaded {
        let known = store.series.entry(labels).or_default();
        known.extend(samples.into_iter().map(|sample| (sample.timestamp_ms, sample)));
    }
    Ok(())
}

impl Store {
    fn matching(&self, query: &SeriesQuery) -> Vec<SeriesData> {
        let mut found = Vec::new();
        for (labels, samples) in &self.series {
            if !query.matchers.iter().all(|matcher| matcher.matches_labels(labels)) {
                continue;
            }
            let all: Vec<Sample> = with_hints(samples.values());
            let in_range = |sample: &&Sample| (query.from_ms..=query.to_ms).contains(&sample.timestamp_ms);
            let kept: Vec<&Sample> = all.iter().filter(in_range).collect();
            if !kept.is_empty() {
                found.push(SeriesData { labels: labels.clone(), points: points(&kept) });
            }
        }
        found
    }
}

/// A store knows of a counter histogram whether it goes on from the one before; of the first after a reset or a change of
/// layout it knows nothing.
fn with_hints<'s>(samples: impl Iterator<Item = &'s Sample>) -> Vec<Sample> {
    let mut before: Option<Arc<FloatHistogram>> = None;
    let mut hinted = Vec::new();
    for sample in samples {
        let mut sample = sample.clone();
        let Value::Histogram(histogram) = &mut sample.value else {
            before = None;
            hinted.push(sample);
            continue;
        };
        let written = histogram.clone();
        if written.counter_reset_hint != CounterResetHint::Gauge {
            let goes_on = written.counter_reset_hint != CounterResetHint::Reset
                && before.as_ref().is_some_and(|before| goes_on(before, &written));
            let hint = if goes_on { CounterResetHint::NotReset } else { CounterResetHint::Unknown };
            Arc::make_mut(histogram).counter_reset_hint = hint;
        }
        before = Some(written);
        hinted.push(sample);
    }
    hinted
}

fn goes_on(before: &FloatHistogram, now: &FloatHistogram) -> bool {
    let unknown = FloatHistogram { counter_reset_hint: CounterResetHint::Unknown, ..now.clone() };
    before.counter_reset_hint != CounterResetHint::Gauge
        && before.schema == now.schema
        && before.zero_threshold == now.zero_threshold
        && before.custom_values == now.custom_values
        && !histogram::is_reset(&unknown, before)
}

fn points(samples: &[&Sample]) -> Points {
    let floats: Option<Vec<f64>> =
        samples.iter().map(|sample| if let Value::Float(value) = sample.value { Some(value) } else { None }).collect();
    let values =
        floats.map_or_else(|| Values::Mixed(samples.iter().map(|sample| sample.value.clone()).collect()), Values::Floats);
    let has_starts = samples.iter().any(|sample| sample.start_ms.is_some());
    Points {
        timestamps_ms: samples.iter().map(|sample| sample.timestamp_ms).collect(),
        values,
        starts_ms: has_starts.then(|| samples.iter().map(|sample| sample.start_ms.unwrap_or(i64::MIN)).collect()),
        weights: None,
    }
}

struct Once(Option<Vec<SeriesData>>);

impl SeriesCursor for Once {
    fn next_batch(&mut self) -> Result<Option<Vec<SeriesData>>> {
        Ok(self.0.take())
    }
}

impl MetricSource for Store {
    fn select<'a>(&'a self, query: &SeriesQuery, _budget: &'a Budget) -> Result<Box<dyn SeriesCursor + 'a>> {
        Ok(Box::new(Once(Some(self.matching(query)))))
    }

    fn series(&self, queries: &[SeriesQuery], _budget: &Budget) -> Result<Vec<Labels>> {
        let found = queries.iter().flat_map(|query| self.matching(query));
        let mut labels: Vec<Labels> = found.map(|data| data.labels).collect();
        labels.sort();
        labels.dedup();
        Ok(labels)
    }

    fn label_names(&self, query: &SeriesQuery, _budget: &Budget) -> Result<Vec<String>> {
        let found = self.matching(query);
        let mut names: Vec<String> = found.iter().flat_map(|data| data.labels.iter().map(|(name, _)| name.to_owned())).collect();
        names.sort();
        names.dedup();
        Ok(names)
    }

    fn label_values(&self, name: &str, query: &SeriesQuery, _budget: &Budget) -> Result<Vec<String>> {
        let found = self.matching(query);
        let mut values: Vec<String> = found.iter().filter_map(|data| data.labels.get(name).map(str::to_owned)).collect();
        values.sort();
        values.dedup();
        Ok(values)
    }

    fn metadata(&self, _metric: Option<&str>) -> Result<Vec<(String, Metadata)>> {
        Ok(Vec::new())
    }

    fn exemplars(&self, _query: &SeriesQuery, _budget: &Budget) -> Result<Vec<(Labels, Vec<Exemplar>)>> {
        Ok(Vec::new())
    }
}
