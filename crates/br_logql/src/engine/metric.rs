//! Metric queries: numbers over time.

use super::{Stats, aggregate, binary, range};
use crate::ast::{Grouping, LabelReplace, MetricExpr, RangeAggregation, RangeOp, VectorAggregation, VectorOp};
use br_model::Labels;
use br_std::text::BoundedText;
use br_std::{Error, Nanos, Result};
use br_storage::{Budget, LogSource};
use std::time::Duration;

/// As in Prometheus: a range query may ask for this many points of each series.
const STEPS_MAX: i64 = 11_000;
/// A label's value that is made of others may be this long.
const LABEL_BYTES_MAX: usize = 64 << 10;

#[derive(Clone, Debug, PartialEq)]
pub enum MetricValue {
    /// The value of an expression without series, at each step.
    Scalar(Vec<(Nanos, f64)>),
    /// Instant queries have one point in each series; sorted by labels, except where the query sorts.
    Series(Vec<Series>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    pub labels: Labels,
    /// In time order.
    pub points: Vec<(Nanos, f64)>,
}

/// The points in time at which an expression is evaluated.
#[derive(Clone, Copy, Debug)]
pub(super) struct Steps {
    pub(super) start: i64,
    pub(super) width: i64,
    /// At least 1.
    pub(super) count: usize,
}

impl Steps {
    pub(super) fn time(self, step: usize) -> i64 {
        self.start.saturating_add(self.width.saturating_mul(step as i64))
    }

    pub(super) fn last(self) -> i64 {
        self.time(self.count - 1)
    }

    pub(super) fn shifted(self, nanos: i64) -> Self {
        Self { start: self.start.saturating_add(nanos), ..self }
    }

    /// The first step at `time` or later.
    pub(super) fn first_after(self, time: i64) -> usize {
        let distance = i128::from(time) - i128::from(self.start);
        let step = (distance + i128::from(self.width) - 1).div_euclid(i128::from(self.width));
        usize::try_from(step.max(0)).unwrap_or(usize::MAX)
    }
}

/// One series with a slot for each step.
#[derive(Clone, Debug)]
pub(super) struct Column {
    pub(super) labels: Labels,
    pub(super) values: Vec<Option<f64>>,
}

impl Column {
    pub(super) fn empty(labels: Labels, steps: usize) -> Self {
        Self { labels, values: vec![None; steps] }
    }

    pub(super) fn has_value(&self) -> bool {
        self.values.iter().any(Option::is_some)
    }
}

pub(super) enum Node {
    Scalar(f64),
    Columns(Vec<Column>),
}

/// The values at one point in time.
pub fn query_instant(source: &dyn LogSource, expr: &MetricExpr, at: Nanos, budget: &Budget) -> Result<(MetricValue, Stats)> {
    run(source, expr, Steps { start: at.0, width: 1, count: 1 }, true, budget)
}

/// The values at `start`, `start + step` … up to and including `end`.
pub fn query_range(
    source: &dyn LogSource,
    expr: &MetricExpr,
    (start, end): (Nanos, Nanos),
    step: Duration,
    budget: &Budget,
) -> Result<(MetricValue, Stats)> {
    let width = i64::try_from(step.as_nanos()).unwrap_or(i64::MAX);
    if width == 0 {
        return Err(Error::fix_request("zero or negative query resolution step widths are not accepted. Try a positive integer"));
    }
    let Some(length) = end.0.checked_sub(start.0).filter(|length| *length >= 0) else {
        return Err(Error::fix_request("end timestamp must not be before start time"));
    };
    if length / width >= STEPS_MAX {
        return Err(Error::fix_request(format!(
            "exceeded maximum resolution of {STEPS_MAX} points per time series. Try increasing the value of the step parameter"
        )));
    }
    let steps = Steps { start: start.0, width, count: (length / width) as usize + 1 };
    run(source, expr, steps, false, budget)
}

fn run(source: &dyn LogSource, expr: &MetricExpr, steps: Steps, instant: bool, budget: &Budget) -> Result<(MetricValue, Stats)> {
    let mut evaluator = Evaluator { source, steps, instant, budget, stats: Stats::default() };
    let node = evaluator.node(expr)?;
    let value = match node {
        Node::Scalar(value) => MetricValue::Scalar((0..steps.count).map(|step| (Nanos(steps.time(step)), value)).collect()),
        Node::Columns(mut columns) => {
            if !(instant && is_sorted(expr)) {
                columns.sort_by(|left, right| left.labels.cmp(&right.labels));
            }
            MetricValue::Series(columns.into_iter().filter(Column::has_value).map(|column| series(column, steps)).collect())
        }
    };
    Ok((value, evaluator.stats))
}

fn series(column: Column, steps: Steps) -> Series {
    let points = column.values.into_iter().enumerate();
    let points = points.filter_map(|(step, value)| value.map(|value| (Nanos(steps.time(step)), value))).collect();
    Series { labels: column.labels, points }
}

/// Whether the order of the values is what the query asks for.
fn is_sorted(expr: &MetricExpr) -> bool {
    match expr {
        MetricExpr::Aggregate(aggregation) => {
            matches!(
                aggregation.op,
                VectorOp::Sort | VectorOp::SortDesc | VectorOp::Topk | VectorOp::Bottomk | VectorOp::ApproxTopk
            )
        }
        MetricExpr::Binary(binary) => match (&binary.left, &binary.right) {
            (left, MetricExpr::Literal(_)) => is_sorted(left),
            (MetricExpr::Literal(_), right) => is_sorted(right),
            _ => false,
        },
        MetricExpr::LabelReplace(replace) => is_sorted(&replace.inner),
        MetricExpr::Literal(_) | MetricExpr::Vector(_) | MetricExpr::Range(_) => false,
    }
}

struct Evaluator<'a> {
    source: &'a dyn LogSource,
    steps: Steps,
    instant: bool,
    budget: &'a Budget,
    stats: Stats,
}

impl Evaluator<'_> {
    fn node(&mut self, expr: &MetricExpr) -> Result<Node> {
        self.budget.check()?;
        Ok(match expr {
            MetricExpr::Literal(value) => Node::Scalar(*value),
            MetricExpr::Vector(value) => {
                Node::Columns(vec![Column { labels: Labels::empty(), values: vec![Some(*value); self.steps.count] }])
            }
            MetricExpr::Range(aggregation) => Node::Columns(self.range(aggregation, None)?),
            MetricExpr::Aggregate(aggregation) => Node::Columns(self.aggregate(aggregation)?),
            MetricExpr::Binary(inner) => {
                let left = self.node(&inner.left)?;
                let right = self.node(&inner.right)?;
                binary::evaluate(inner, left, right, self.steps.count)?
            }
            MetricExpr::LabelReplace(replace) => {
                Node::Columns(label_replace(replace, self.columns(&replace.inner)?, self.steps.count, self.budget)?)
            }
        })
    }

    fn columns(&mut self, expr: &MetricExpr) -> Result<Vec<Column>> {
        match self.node(expr)? {
            Node::Columns(columns) => Ok(columns),
            Node::Scalar(_) => Err(Error::fix_request("expected a vector here, found a scalar: write vector(…)")),
        }
    }

    fn range(&mut self, aggregation: &RangeAggregation, grouping: Option<&Grouping>) -> Result<Vec<Column>> {
        range::evaluate(self.source, aggregation, grouping, self.steps, self.budget, &mut self.stats)
    }

    fn aggregate(&mut self, aggregation: &VectorAggregation) -> Result<Vec<Column>> {
        if aggregation.op == VectorOp::ApproxTopk && !self.instant {
            return Err(Error::fix_request("approx_topk is only supported on instant queries"));
        }
        if let MetricExpr::Range(inner) = &aggregation.inner
            && is_sum_of_sums(aggregation.op, inner)
        {
            let all = Grouping { without: false, labels: Vec::new() };
            return self.range(inner, Some(aggregation.grouping.as_ref().unwrap_or(&all)));
        }
        let columns = self.columns(&aggregation.inner)?;
        Ok(aggregate::evaluate(aggregation, columns, self.steps.count))
    }
}

/// A sum over series of sums over lines is one sum: it needs no series in between,
/// of which there can be as many as lines when records carry ids.
fn is_sum_of_sums(op: VectorOp, inner: &RangeAggregation) -> bool {
    let sums = matches!(
        inner.op,
        RangeOp::CountOverTime | RangeOp::Rate | RangeOp::BytesOverTime | RangeOp::BytesRate | RangeOp::SumOverTime
    );
    op == VectorOp::Sum && sums
}

fn label_replace(replace: &LabelReplace, columns: Vec<Column>, steps: usize, budget: &Budget) -> Result<Vec<Column>> {
    let mut out: Vec<Column> = Vec::with_capacity(columns.len());
    for mut column in columns {
        let source = column.labels.get(&replace.source).unwrap_or("");
        if let Some(captures) = replace.regex.captures(source) {
            let mut value = BoundedText::new(LABEL_BYTES_MAX);
            let expanded = value.push_expanded(&replace.replacement, &|name| captures.group(name));
            expanded.map_err(|error| Error::over_limit(format!("label_replace: {error}")))?;
            budget.charge(value.len() as u64)?;
            let mut builder = column.labels.to_builder();
            builder.set(&replace.destination, value.as_str());
            column.labels = builder.build();
        }
        out.push(column);
    }
    binary::refuse_duplicates(&out, steps)?;
    Ok(out)
}
