//! Series from spans: each span counts at its start, in the step that ends there or after.

use crate::ast::{Expr, Field, MetricFunction, MetricOp, Metrics, Op, Pipeline, Root, Spanset, Stage};
use crate::attribute::{View, holds, is_local};
use crate::hints::span_hints;
use crate::value::{Regexes, Value, arithmetic, compare};
use br_model::AttributeValue;
use br_std::{Error, Nanos, Result};
use br_storage::{Budget, SpanParts, SpanQuery, SpanSource, TimeRange};
use std::collections::BTreeMap;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq)]
pub struct MetricSeries {
    /// In the order of `by`, with the names as the query writes them; `p` for quantiles, `__bucket` for histograms.
    pub labels: Vec<(String, AttributeValue)>,
    /// One for each step; `None` where no span was.
    pub points: Vec<(Nanos, Option<f64>)>,
}

/// A query may ask for this many points of each series.
const STEPS_MAX: i64 = 11_000;

/// A query may make this many series.
const SERIES_MAX: usize = 10_000;

/// Computes the series over `range`, whose start is included and whose end is not. Durations come out in seconds.
pub fn query_range(
    source: &dyn SpanSource,
    expr: &Expr,
    text: &str,
    range: TimeRange,
    step: Duration,
    budget: &Budget,
) -> Result<Vec<MetricSeries>> {
    let Root::Metrics(metrics) = &expr.root else {
        return Err(Error::fix_request("this query answers with traces: add a metrics function such as | rate()"));
    };
    let width = i64::try_from(step.as_nanos()).unwrap_or(i64::MAX);
    let length = range.to.0.checked_sub(range.from.0).filter(|length| *length > 0 && width > 0);
    let Some(length) = length else {
        return Err(Error::fix_request("the range must end after its start, and the step be longer than zero"));
    };
    let steps = length.div_ceil_by(width);
    if steps > STEPS_MAX {
        return Err(Error::fix_request(format!("more than {STEPS_MAX} points per series: make the step longer")));
    }
    let evaluator = Evaluator { source, regexes: &expr.regexes, text, range, width, steps: steps as usize, budget };
    let series = evaluator.metrics(metrics)?;
    let time = |at: usize| Nanos(range.from.0.saturating_add(width.saturating_mul(at as i64)));
    let shown = |(labels, values): (Key, Vec<Option<f64>>)| MetricSeries {
        labels: labels.0,
        points: values.into_iter().enumerate().map(|(at, value)| (time(at), value)).collect(),
    };
    Ok(series.into_iter().filter(|(_, values)| values.iter().any(Option::is_some)).map(shown).collect())
}

trait DivCeil {
    fn div_ceil_by(self, width: Self) -> Self;
}

impl DivCeil for i64 {
    /// Both positive.
    fn div_ceil_by(self, width: Self) -> Self {
        self / width + Self::from(self % width != 0)
    }
}

/// Labels, ordered by their text.
#[derive(Clone, Debug)]
struct Key(Vec<(String, AttributeValue)>);

impl Key {
    fn text(&self) -> String {
        format!("{:?}", self.0)
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl Eq for Key {}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.text().cmp(&other.text())
    }
}

type SeriesMap = BTreeMap<Key, Vec<Option<f64>>>;

struct Evaluator<'a> {
    source: &'a dyn SpanSource,
    regexes: &'a Regexes,
    text: &'a str,
    range: TimeRange,
    width: i64,
    steps: usize,
    budget: &'a Budget,
}

/// What falls into one step of one series.
#[derive(Clone, Debug, Default)]
struct Cell {
    count: u64,
    sum: f64,
    min: f64,
    max: f64,
    /// For quantiles and histograms only.
    values: Vec<f64>,
}

impl Evaluator<'_> {
    fn metrics(&self, metrics: &Metrics) -> Result<SeriesMap> {
        Ok(match metrics {
            Metrics::First { pipeline, function, .. } => self.first(pipeline, function)?,
            Metrics::Top { inner, count, bottom } => self.top(self.metrics(inner)?, *count, *bottom),
            Metrics::Compare { inner, op, value } => {
                let mut series = self.metrics(inner)?;
                let wanted = Value::Float(*value);
                for slot in series.values_mut().flatten() {
                    *slot = slot.filter(|found| compare(*op, &Value::Float(*found), &wanted, self.regexes));
                }
                series
            }
            Metrics::Math { op, left, right } => self.math(*op, left, right)?,
            Metrics::Number(value) => BTreeMap::from([(Key(Vec::new()), vec![Some(*value); self.steps])]),
        })
    }

    fn math(&self, op: Op, left: &Metrics, right: &Metrics) -> Result<SeriesMap> {
        let join = |left: &[Option<f64>], right: &[Option<f64>]| -> Vec<Option<f64>> {
            left.iter().zip(right).map(|(left, right)| arithmetic(op, (*left)?, (*right)?)).collect()
        };
        let (left_series, right_series) = (self.metrics(left)?, self.metrics(right)?);
        if let (Metrics::Number(_), Some(number)) = (left, left_series.values().next()) {
            return Ok(right_series.iter().map(|(key, values)| (key.clone(), join(number, values))).collect());
        }
        if let (Metrics::Number(_), Some(number)) = (right, right_series.values().next()) {
            return Ok(left_series.iter().map(|(key, values)| (key.clone(), join(values, number))).collect());
        }
        let pairs = left_series.iter().filter_map(|(key, values)| Some((key.clone(), join(values, right_series.get(key)?))));
        Ok(pairs.collect())
    }

    fn top(&self, mut series: SeriesMap, count: usize, bottom: bool) -> SeriesMap {
        for step in 0..self.steps {
            let mut values: Vec<f64> = series.values().filter_map(|values| values[step]).collect();
            values.sort_by(|left, right| if bottom { left.total_cmp(right) } else { right.total_cmp(left) });
            let Some(last) = count.checked_sub(1).and_then(|at| values.get(at)).copied() else { continue };
            let mut left = count;
            let mut ties = count - values[..count].iter().filter(|value| **value != last).count();
            for slot in series.values_mut().map(|values| &mut values[step]) {
                let Some(value) = *slot else { continue };
                let better = if bottom { value < last } else { value > last };
                let tie = value == last && ties > 0;
                ties -= usize::from(tie);
                if left > 0 && (better || tie) {
                    left -= 1;
                } else {
                    *slot = None;
                }
            }
        }
        series
    }

    fn first(&self, pipeline: &Pipeline, function: &MetricFunction) -> Result<SeriesMap> {
        let filters = local_filters(pipeline, function)?;
        let keeps_values = matches!(function.op, MetricOp::QuantileOverTime | MetricOp::HistogramOverTime);
        let query = SpanQuery { range: self.range, hints: span_hints(pipeline), parts: SpanParts::ALL };
        let mut cursor = self.source.scan(&query, self.budget)?;
        let mut cells: BTreeMap<Key, Vec<Cell>> = BTreeMap::new();
        while let Some(spans) = cursor.next_batch()? {
            self.budget.check()?;
            for stored in spans.iter().filter(|stored| self.range.contains(stored.span.start)) {
                let view = View { stored, trace: None, regexes: self.regexes };
                if !filters.iter().all(|filter| holds(view, filter)) {
                    continue;
                }
                let Some(value) = measured(view, function) else { continue };
                let key = Key(function.by.iter().map(|field| (self.name(field), view.field(field).to_attribute())).collect());
                let step = ((stored.span.start.0 - self.range.from.0) / self.width) as usize;
                if !cells.contains_key(&key) {
                    if cells.len() >= SERIES_MAX {
                        return Err(Error::over_limit(format!("more than {SERIES_MAX} series: group by fewer fields")));
                    }
                    self.budget.charge((self.steps * size_of::<Cell>()) as u64)?;
                }
                let cell = &mut cells.entry(key).or_insert_with(|| vec![Cell::default(); self.steps])[step];
                if keeps_values {
                    self.budget.charge(size_of::<f64>() as u64)?;
                }
                cell.add(value, keeps_values);
            }
        }
        Ok(self.finish(function, cells))
    }

    fn name(&self, field: &Field) -> String {
        self.text.get(field.span.clone()).unwrap_or_default().to_owned()
    }

    fn finish(&self, function: &MetricFunction, cells: BTreeMap<Key, Vec<Cell>>) -> SeriesMap {
        let mut series = SeriesMap::new();
        for (key, cells) in cells {
            match function.op {
                MetricOp::QuantileOverTime => {
                    for q in &function.quantiles {
                        let mut labels = key.0.clone();
                        labels.push(("p".to_owned(), AttributeValue::Double(*q)));
                        series.insert(Key(labels), cells.iter().map(|cell| quantile(*q, &cell.values)).collect());
                    }
                }
                MetricOp::HistogramOverTime => self.histogram(&key, &cells, &mut series),
                op => {
                    let seconds = self.width as f64 / 1e9;
                    series.insert(key, cells.iter().map(|cell| cell.value(op, seconds)).collect());
                }
            }
        }
        series
    }

    /// Buckets whose upper bounds are powers of two.
    fn histogram(&self, key: &Key, cells: &[Cell], series: &mut SeriesMap) {
        for (step, cell) in cells.iter().enumerate() {
            for value in cell.values.iter().filter(|value| **value > 0.0) {
                let mut labels = key.0.clone();
                labels.push(("__bucket".to_owned(), AttributeValue::Double(value.log2().ceil().exp2())));
                let slot = &mut series.entry(Key(labels)).or_insert_with(|| vec![None; self.steps])[step];
                *slot = Some(slot.unwrap_or(0.0) + 1.0);
            }
        }
    }
}

/// The filters of a pipeline that can be judged span by span.
fn local_filters<'p>(pipeline: &'p Pipeline, function: &MetricFunction) -> Result<Vec<&'p Field>> {
    let unsupported = |what: &str| Err(Error::fix_request(format!("{what} is not supported in metrics queries")));
    if function.op == MetricOp::Compare {
        return unsupported("compare()");
    }
    if !function.by.iter().chain(&function.field).all(is_local) {
        return unsupported("a field of the trace or of the parent");
    }
    let mut filters = Vec::new();
    for stage in &pipeline.stages {
        match stage {
            Stage::Spanset(Spanset::Filter(field)) if is_local(field) => filters.push(field),
            Stage::Select(_) => {}
            _ => return unsupported("anything but filters on single spans before the metrics function"),
        }
    }
    Ok(filters)
}

/// 1 for counting functions; durations in seconds; `None` when the span lacks the field.
fn measured(view: View<'_>, function: &MetricFunction) -> Option<f64> {
    let Some(field) = &function.field else { return Some(1.0) };
    match view.field(field) {
        Value::Duration(nanos) => Some(nanos as f64 / 1e9),
        value => value.as_number(),
    }
}

impl Cell {
    fn add(&mut self, value: f64, keeps_values: bool) {
        self.min = if self.count == 0 { value } else { self.min.min(value) };
        self.max = if self.count == 0 { value } else { self.max.max(value) };
        self.count += 1;
        self.sum += value;
        if keeps_values {
            self.values.push(value);
        }
    }

    /// Counts are 0 where no span was, all else is missing there.
    fn value(&self, op: MetricOp, seconds: f64) -> Option<f64> {
        let count = self.count as f64;
        match op {
            MetricOp::Rate => Some(count / seconds),
            MetricOp::CountOverTime => Some(count),
            _ if self.count == 0 => None,
            MetricOp::MinOverTime => Some(self.min),
            MetricOp::MaxOverTime => Some(self.max),
            MetricOp::AvgOverTime => Some(self.sum / count),
            MetricOp::SumOverTime => Some(self.sum),
            MetricOp::QuantileOverTime | MetricOp::HistogramOverTime | MetricOp::Compare => None,
        }
    }
}

/// Linear between the two nearest ranks.
fn quantile(q: f64, values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = q * sorted.len().checked_sub(1)? as f64;
    let low = *sorted.get(rank.floor() as usize)?;
    let high = *sorted.get(rank.ceil() as usize)?;
    Some(low + (high - low) * (rank - rank.floor()))
}
