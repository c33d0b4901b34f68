//! Series from spans: each span counts at its start, in the step that begins there or before.

mod cell;
mod compare;
mod spans;

use crate::ast::{Expr, Field, MetricFunction, MetricOp, Metrics, Op, Pipeline, Root, Static};
use crate::attribute::View;
use crate::value::{Value, arithmetic, compare};
use br_model::{AttributeValue, TraceId};
use br_std::hash::hash64;
use br_std::{Error, Nanos, Result};
use br_storage::{Budget, SpanSource, TimeRange};
use cell::Cell;
use spans::{Spans, function_parts};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq)]
pub struct MetricSeries {
    /// In the order of `by`, with the names as the query writes them; `p` for quantiles, `__bucket` for histograms. Of a function
    /// without `by` its name under `__name__`.
    pub labels: Vec<(String, AttributeValue)>,
    /// One for each step; `None` where no span was.
    pub points: Vec<(Nanos, Option<f64>)>,
    /// By time, one for each step at most.
    pub exemplars: Vec<Exemplar>,
}

/// A span that counts in a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exemplar {
    pub trace_id: TraceId,
    pub time: Nanos,
    /// What was measured on it; of functions that count, the series' own value.
    pub value: f64,
}

#[derive(Clone, Copy, Debug)]
pub struct MetricOptions {
    /// Its start is included, its end is not.
    pub range: TimeRange,
    pub step: Duration,
    /// So many exemplars of each series. A hint in the query goes before it.
    pub exemplars: usize,
}

/// A query may ask for this many points of each series.
const STEPS_MAX: i64 = 11_000;

/// A query may make this many series.
const SERIES_MAX: usize = 10_000;

pub const EXEMPLARS_MAX: usize = 100;

/// Computes the series. Durations come out in seconds.
pub fn query_range(
    source: &dyn SpanSource,
    expr: &Expr,
    text: &str,
    options: &MetricOptions,
    budget: &Budget,
) -> Result<Vec<MetricSeries>> {
    let Root::Metrics(metrics) = &expr.root else {
        return Err(Error::fix_request("this query answers with traces: add a metrics function such as | rate()"));
    };
    let range = options.range;
    let width = i64::try_from(options.step.as_nanos()).unwrap_or(i64::MAX);
    let length = range.to.0.checked_sub(range.from.0).filter(|length| *length > 0 && width > 0);
    let Some(length) = length else {
        return Err(Error::fix_request("the range must end after its start, and the step be longer than zero"));
    };
    let steps = length.div_ceil_by(width);
    if steps > STEPS_MAX {
        return Err(Error::fix_request(format!("more than {STEPS_MAX} points per series: make the step longer")));
    }
    let exemplars = wanted_exemplars(expr, options.exemplars);
    let evaluator = Evaluator { source, expr, text, range, width, steps: steps as usize, exemplars, budget };
    let series = evaluator.metrics(metrics)?;
    let time = |at: usize| Nanos(range.from.0.saturating_add(width.saturating_mul(at as i64)));
    let shown = |(key, line): (Key, Line)| MetricSeries {
        labels: key.labels,
        points: line.values.iter().enumerate().map(|(at, value)| (time(at), *value)).collect(),
        exemplars: thinned(&line, exemplars),
    };
    Ok(series.into_iter().filter(|(_, line)| line.values.iter().any(Option::is_some)).map(shown).collect())
}

/// `with (exemplars=…)` takes a number, or true or false.
fn wanted_exemplars(expr: &Expr, default: usize) -> usize {
    let hint = expr.hints.iter().rev().find(|(name, _)| name == "exemplars").map(|(_, value)| value);
    let wanted = match hint {
        Some(Static::Bool(false)) => 0,
        Some(Static::Bool(true)) if default == 0 => EXEMPLARS_MAX,
        Some(Static::Int(count)) => usize::try_from(*count).unwrap_or(0),
        _ => default,
    };
    wanted.min(EXEMPLARS_MAX)
}

/// No more than `count`, spread over the steps.
fn thinned(line: &Line, count: usize) -> Vec<Exemplar> {
    let all: Vec<&(usize, Exemplar)> = line.exemplars.iter().filter(|(step, _)| line.values[*step].is_some()).collect();
    let kept = count.min(all.len());
    let of_step = |(step, exemplar): &(usize, Exemplar)| {
        let value = if exemplar.value.is_nan() { line.values[*step].unwrap_or(f64::NAN) } else { exemplar.value };
        Exemplar { value, ..*exemplar }
    };
    (0..kept).map(|at| of_step(all[at * all.len() / kept])).collect()
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

/// What a series without other labels is told by.
const NAME: &str = "__name__";

type SeriesLabels = Vec<(String, AttributeValue)>;

/// Labels, ordered by their text.
#[derive(Clone, Debug)]
struct Key {
    text: String,
    labels: Vec<(String, AttributeValue)>,
}

impl Key {
    fn new(labels: Vec<(String, AttributeValue)>) -> Self {
        Self { text: format!("{labels:?}"), labels }
    }

    fn unnamed(mut self) -> Self {
        self.labels.retain(|(name, _)| name != NAME);
        Self::new(self.labels)
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
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
        self.text.cmp(&other.text)
    }
}

/// What there is of a series: a value for each step, and exemplars with the numbers of their steps.
#[derive(Clone, Debug, Default)]
struct Line {
    values: Vec<Option<f64>>,
    exemplars: Vec<(usize, Exemplar)>,
}

impl Line {
    fn of(values: Vec<Option<f64>>) -> Self {
        Self { values, exemplars: Vec::new() }
    }
}

type SeriesMap = BTreeMap<Key, Line>;

struct Evaluator<'a> {
    source: &'a dyn SpanSource,
    expr: &'a Expr,
    text: &'a str,
    range: TimeRange,
    width: i64,
    steps: usize,
    exemplars: usize,
    budget: &'a Budget,
}

/// The series of one function while spans come.
struct Cells {
    /// By the text of the values that it is grouped by.
    numbers: HashMap<String, usize>,
    series: Vec<(SeriesLabels, Vec<Cell>)>,
    /// Whether durations are measured.
    is_duration: bool,
}

impl<'a> Evaluator<'a> {
    fn spans(&self) -> Spans<'a> {
        Spans { source: self.source, expr: self.expr, range: self.range, budget: self.budget }
    }

    /// Of a time in the range.
    fn step_of(&self, time: Nanos) -> usize {
        ((time.0 - self.range.from.0) / self.width) as usize
    }

    fn metrics(&self, metrics: &Metrics) -> Result<SeriesMap> {
        Ok(match metrics {
            Metrics::First { pipeline, function, .. } => self.first(pipeline, function)?,
            Metrics::Top { inner, count, bottom } => self.top(self.metrics(inner)?, *count, *bottom),
            Metrics::Compare { inner, op, value } => {
                let mut series = self.metrics(inner)?;
                let wanted = Value::Float(*value);
                for slot in series.values_mut().flat_map(|line| &mut line.values) {
                    *slot = slot.filter(|found| compare(*op, &Value::Float(*found), &wanted, &self.expr.regexes));
                }
                series
            }
            Metrics::Math { op, left, right } => self.math(*op, left, right)?,
            Metrics::Number(value) => BTreeMap::from([(Key::new(Vec::new()), Line::of(vec![Some(*value); self.steps]))]),
        })
    }

    fn math(&self, op: Op, left: &Metrics, right: &Metrics) -> Result<SeriesMap> {
        let join = |left: &Line, right: &Line| {
            let values = left.values.iter().zip(&right.values);
            Line::of(values.map(|(left, right)| arithmetic(op, (*left)?, (*right)?)).collect())
        };
        // The result of an operator has no name, and its sides match without theirs.
        let unnamed = |series: SeriesMap| series.into_iter().map(|(key, line)| (key.unnamed(), line)).collect::<SeriesMap>();
        let (left_series, right_series) = (unnamed(self.metrics(left)?), unnamed(self.metrics(right)?));
        if let (Metrics::Number(_), Some(number)) = (left, left_series.values().next()) {
            return Ok(right_series.iter().map(|(key, line)| (key.clone(), join(number, line))).collect());
        }
        if let (Metrics::Number(_), Some(number)) = (right, right_series.values().next()) {
            return Ok(left_series.iter().map(|(key, line)| (key.clone(), join(line, number))).collect());
        }
        let pairs = left_series.iter().filter_map(|(key, line)| Some((key.clone(), join(line, right_series.get(key)?))));
        Ok(pairs.collect())
    }

    fn top(&self, mut series: SeriesMap, count: usize, bottom: bool) -> SeriesMap {
        for step in 0..self.steps {
            let mut values: Vec<f64> = series.values().filter_map(|line| line.values[step]).collect();
            values.sort_by(|left, right| if bottom { left.total_cmp(right) } else { right.total_cmp(left) });
            let Some(last) = count.checked_sub(1).and_then(|at| values.get(at)).copied() else { continue };
            let mut left = count;
            let mut ties = count - values[..count].iter().filter(|value| **value != last).count();
            for slot in series.values_mut().map(|line| &mut line.values[step]) {
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
        if function.op == MetricOp::Compare {
            return compare::compare(self, pipeline, function);
        }
        let parts = function_parts(pipeline, function);
        let mut cells = Cells { numbers: HashMap::new(), series: Vec::new(), is_duration: false };
        let mut text = String::new();
        self.spans().each(pipeline, function, &parts, &mut |view| {
            let Some(value) = measured(view, function) else { return Ok(()) };
            cells.is_duration = value.is_duration;
            let at = self.number_of(&mut cells, &mut text, view, function)?;
            self.add(&mut cells.series[at].1[self.step_of(view.stored.span.start)], view, function, value)
        })?;
        Ok(self.finish(function, cells))
    }

    /// Where the series of a span stands.
    fn number_of(&self, cells: &mut Cells, text: &mut String, view: View<'_>, function: &MetricFunction) -> Result<usize> {
        text.clear();
        for field in &function.by {
            // Text in memory takes it.
            let _ = write!(text, "{:?},", view.field(field));
        }
        if let Some(number) = cells.numbers.get(text) {
            return Ok(*number);
        }
        if cells.series.len() >= SERIES_MAX {
            return Err(Error::over_limit(format!("more than {SERIES_MAX} series: group by fewer fields")));
        }
        self.budget.charge((self.steps * size_of::<Cell>() + 3 * text.len() + 256) as u64)?;
        let labels = function.by.iter().map(|field| (self.name(field), view.field(field).to_attribute())).collect();
        cells.series.push((labels, vec![Cell::default(); self.steps]));
        cells.numbers.insert(text.clone(), cells.series.len() - 1);
        Ok(cells.series.len() - 1)
    }

    fn add(&self, cell: &mut Cell, view: View<'_>, function: &MetricFunction, measured: Measured) -> Result<()> {
        let span = &view.stored.span;
        cell.add(measured.value);
        match function.op {
            MetricOp::QuantileOverTime => cell.spread.add(measured.value, self.budget)?,
            MetricOp::HistogramOverTime => cell.spread.add_to_bucket(measured.raw, self.budget)?,
            _ => {}
        }
        if self.exemplars > 0 {
            let hash = hash64(&span.span_id.0);
            if cell.exemplar.is_none_or(|(known, other)| (hash, span.trace_id) < (known, other.trace_id)) {
                let value = if function.field.is_some() { measured.value } else { f64::NAN };
                cell.exemplar = Some((hash, Exemplar { trace_id: span.trace_id, time: span.start, value }));
            }
        }
        Ok(())
    }

    fn name(&self, field: &Field) -> String {
        self.text.get(field.span.clone()).unwrap_or_default().to_owned()
    }

    fn finish(&self, function: &MetricFunction, cells: Cells) -> SeriesMap {
        let mut series = SeriesMap::new();
        let is_duration = cells.is_duration;
        let seconds = self.width as f64 / 1e9;
        for (labels, cells) in cells.series {
            let exemplars = || cells.iter().enumerate().filter_map(|(step, cell)| Some((step, cell.exemplar?.1))).collect();
            match function.op {
                MetricOp::QuantileOverTime => {
                    for q in &function.quantiles {
                        let mut labels = labels.clone();
                        labels.push(("p".to_owned(), AttributeValue::Double(*q)));
                        let values = cells.iter().map(|cell| cell.quantile(*q)).collect();
                        series.insert(Key::new(labels), Line { values, exemplars: exemplars() });
                    }
                }
                MetricOp::HistogramOverTime => self.histogram((&labels, is_duration), &cells, &mut series),
                op => {
                    let mut labels = labels.clone();
                    if labels.is_empty() {
                        labels.push((NAME.to_owned(), AttributeValue::String(op.as_str().to_owned())));
                    }
                    let values = cells.iter().map(|cell| cell.value(op, seconds)).collect();
                    series.insert(Key::new(labels), Line { values, exemplars: exemplars() });
                }
            }
        }
        series
    }

    /// A series for each bucket. An exemplar belongs to the bucket that it falls into.
    fn histogram(&self, (labels, is_duration): (&[(String, AttributeValue)], bool), cells: &[Cell], series: &mut SeriesMap) {
        for (step, cell) in cells.iter().enumerate() {
            for (bound, count) in cell.spread.buckets() {
                let bound = if is_duration { bound / 1e9 } else { bound };
                let mut labels = labels.to_vec();
                labels.push(("__bucket".to_owned(), AttributeValue::Double(bound)));
                let line = series.entry(Key::new(labels)).or_insert_with(|| Line::of(vec![None; self.steps]));
                line.values[step] = Some(count as f64);
                let exemplar =
                    cell.exemplar.map(|(_, found)| found).filter(|found| found.value > bound / 2.0 && found.value <= bound);
                line.exemplars.extend(exemplar.map(|found| (step, found)));
            }
        }
    }
}

/// What a span adds to a series.
#[derive(Clone, Copy)]
struct Measured {
    /// Durations in seconds.
    value: f64,
    /// Durations in nanoseconds: as in Tempo, their buckets end at powers of two of these.
    raw: f64,
    is_duration: bool,
}

/// 1 for counting functions; `None` when the span lacks the field.
fn measured(view: View<'_>, function: &MetricFunction) -> Option<Measured> {
    let Some(field) = &function.field else { return Some(Measured { value: 1.0, raw: 1.0, is_duration: false }) };
    let value = view.field(field);
    let raw = value.as_number().filter(|number| number.is_finite())?;
    let is_duration = matches!(value, Value::Duration(_));
    Some(Measured { value: if is_duration { raw / 1e9 } else { raw }, raw, is_duration })
}
