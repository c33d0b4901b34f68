//! A source of series in memory, for scripts and unit tests.

use br_model::labels::METRIC_NAME;
use br_model::{CounterResetHint, Exemplar, FloatHistogram, Labels, Metadata, Sample, Value};
use br_promql::histogram;
use br_std::Result;
use br_storage::testing::AtOnce;
use br_storage::{Budget, MatchOp, MetricSource, Points, SeriesCursor, SeriesData, SeriesQuery, Values};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

#[derive(Debug, Default)]
pub struct Memory {
    /// By metric name, then by labels.
    series: BTreeMap<String, BTreeMap<Labels, Vec<Entry>>>,
}

/// A sample as it was written, and its value as a store hands it out.
#[derive(Debug)]
struct Entry {
    written: Sample,
    shown: Value,
}

/// Why a sample was not taken, in the words of Prometheus' store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendError {
    OutOfOrder,
    Duplicate,
}

impl fmt::Display for AppendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OutOfOrder => "out of order sample",
            Self::Duplicate => "duplicate sample for timestamp",
        })
    }
}

impl Memory {
    /// Adds samples, in place of those of the same times.
    pub fn insert(&mut self, labels: Labels, samples: Vec<Sample>) {
        let entries = self.entries(labels);
        for sample in samples {
            let at = entries.partition_point(|entry| entry.written.timestamp_ms < sample.timestamp_ms);
            if entries.get(at).is_some_and(|entry| entry.written.timestamp_ms == sample.timestamp_ms) {
                entries.remove(at);
            }
            put(entries, at, sample);
        }
    }

    /// Adds a sample behind all others of its series. The same sample again is no error.
    pub fn append(&mut self, labels: Labels, sample: Sample) -> std::result::Result<(), AppendError> {
        let entries = self.entries(labels);
        match entries.last().map(|last| &last.written) {
            Some(last) if last.timestamp_ms > sample.timestamp_ms => return Err(AppendError::OutOfOrder),
            Some(last) if last.timestamp_ms == sample.timestamp_ms => {
                return if is_same(&last.value, &sample.value) { Ok(()) } else { Err(AppendError::Duplicate) };
            }
            _ => {}
        }
        put(entries, entries.len(), sample);
        Ok(())
    }

    /// All series with what was written to them, sorted by name and labels.
    pub fn dump(&self) -> impl Iterator<Item = (&Labels, impl Iterator<Item = &Sample>)> {
        let all = self.series.values().flatten();
        all.map(|(labels, entries)| (labels, entries.iter().map(|entry| &entry.written)))
    }

    fn entries(&mut self, labels: Labels) -> &mut Vec<Entry> {
        let of_name = self.series.entry(labels.metric_name().to_owned()).or_default();
        of_name.entry(labels).or_default()
    }

    fn matching(&self, query: &SeriesQuery) -> Vec<SeriesData> {
        let name = query.matchers.iter().find(|matcher| matcher.name == METRIC_NAME && matcher.op == MatchOp::Equal);
        let all: Vec<&BTreeMap<Labels, Vec<Entry>>> = match name {
            Some(matcher) => self.series.get(&matcher.value).into_iter().collect(),
            None => self.series.values().collect(),
        };
        let mut found = Vec::new();
        for (labels, entries) in all.into_iter().flatten() {
            if !query.matchers.iter().all(|matcher| matcher.matches_labels(labels)) {
                continue;
            }
            let from = entries.partition_point(|entry| entry.written.timestamp_ms < query.from_ms);
            let to = entries.partition_point(|entry| entry.written.timestamp_ms <= query.to_ms);
            if from < to {
                found.push(SeriesData { labels: labels.clone(), points: points(&entries[from..to]) });
            }
        }
        found
    }
}

fn is_same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Float(left), Value::Float(right)) => left.to_bits() == right.to_bits(),
        _ => left == right,
    }
}

fn put(entries: &mut Vec<Entry>, at: usize, written: Sample) {
    let shown = written.value.clone();
    entries.insert(at, Entry { written, shown });
    // The one behind it has another neighbour now.
    for at in [at, at + 1] {
        let before = at.checked_sub(1).and_then(|at| entries.get(at)).map(|entry| &entry.written.value);
        let Some(entry) = entries.get(at) else { return };
        entries[at].shown = shown_behind(before, &entry.written.value);
    }
}

/// A store knows of a counter histogram whether it goes on from the one before; of the first after a reset or a change of
/// layout it knows nothing.
fn shown_behind(before: Option<&Value>, written: &Value) -> Value {
    let Value::Histogram(now) = written else { return written.clone() };
    if now.counter_reset_hint == CounterResetHint::Gauge {
        return written.clone();
    }
    let goes_on = now.counter_reset_hint != CounterResetHint::Reset
        && matches!(before, Some(Value::Histogram(before)) if goes_on(before, now));
    let counter_reset_hint = if goes_on { CounterResetHint::NotReset } else { CounterResetHint::Unknown };
    if now.counter_reset_hint == counter_reset_hint {
        return written.clone();
    }
    Value::Histogram(Arc::new(FloatHistogram { counter_reset_hint, ..now.as_ref().clone() }))
}

fn goes_on(before: &FloatHistogram, now: &FloatHistogram) -> bool {
    let unknown = FloatHistogram { counter_reset_hint: CounterResetHint::Unknown, ..now.clone() };
    before.counter_reset_hint != CounterResetHint::Gauge
        && before.schema == now.schema
        && before.zero_threshold == now.zero_threshold
        && before.custom_values == now.custom_values
        && !histogram::is_reset(&unknown, before)
}

fn points(entries: &[Entry]) -> Points {
    let floats: Option<Vec<f64>> =
        entries.iter().map(|entry| if let Value::Float(value) = entry.shown { Some(value) } else { None }).collect();
    let values = floats.map_or_else(|| Values::Mixed(entries.iter().map(|entry| entry.shown.clone()).collect()), Values::Floats);
    let starts = || entries.iter().map(|entry| entry.written.start_ms);
    Points {
        timestamps_ms: entries.iter().map(|entry| entry.written.timestamp_ms).collect(),
        values,
        starts_ms: starts().any(|start| start.is_some()).then(|| starts().map(|start| start.unwrap_or(i64::MIN)).collect()),
        weights: None,
    }
}

impl MetricSource for Memory {
    fn select<'a>(&'a self, query: &SeriesQuery, budget: &'a Budget) -> Result<Box<dyn SeriesCursor + 'a>> {
        query.matchers.iter().try_for_each(|matcher| matcher.prepare(budget))?;
        Ok(AtOnce::new(self.matching(query)))
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

    fn metadata(&self, _metric: Option<&str>, _budget: &Budget) -> Result<Vec<(String, Metadata)>> {
        Ok(Vec::new())
    }

    fn exemplars(&self, _query: &SeriesQuery, _budget: &Budget) -> Result<Vec<(Labels, Vec<Exemplar>)>> {
        Ok(Vec::new())
    }
}
