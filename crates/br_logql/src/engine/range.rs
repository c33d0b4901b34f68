//! Range aggregations: rows to series, in one pass over the rows.

use super::Stats;
use super::metric::{Column, Steps};
use super::window::{Window, quantile};
use crate::ast::{Grouping, RangeAggregation, RangeOp};
use crate::labels::{ERROR, ERROR_DETAILS};
use crate::pipeline::{Line, Pipeline};
use br_model::Labels;
use br_std::{Error, Nanos, Result};
use br_storage::{Budget, Direction, LogRow, LogSource, MatchOp, TimeRange};
use std::collections::HashMap;

/// One aggregation may make this many series.
const SERIES_MAX: usize = 100_000;

/// Memory of a series beside its labels and values, roughly.
const SERIES_BYTES: u64 = 512;

struct Series {
    window: Window,
    column: Column,
    /// On the list of those whose window is not empty.
    is_active: bool,
}

struct Aggregator<'a> {
    aggregation: &'a RangeAggregation,
    grouping: Option<&'a Grouping>,
    steps: Steps,
    range_nanos: i64,
    pipeline: Pipeline,
    series: Vec<Series>,
    by_labels: HashMap<Labels, usize>,
    active: Vec<usize>,
    budget: &'a Budget,
}

/// `grouping` replaces the aggregation's own: an outer `sum by (…)` that can be taken inside.
pub(super) fn evaluate(
    source: &dyn LogSource,
    aggregation: &RangeAggregation,
    grouping: Option<&Grouping>,
    steps: Steps,
    budget: &Budget,
    stats: &mut Stats,
) -> Result<Vec<Column>> {
    let pipeline = Pipeline::compile(&aggregation.log).map_err(|(_, message)| Error::fix_request(message))?;
    let range_nanos = i64::try_from(aggregation.range.as_nanos()).unwrap_or(i64::MAX);
    let offset = aggregation.offset_nanos;
    let steps = steps.shifted(-offset);
    // Windows leave their start out and include their end; the store does it the other way around.
    let from = steps.start.saturating_sub(range_nanos).saturating_add(1);
    let range = TimeRange::new(Nanos(from), Nanos(steps.last().saturating_add(1)));
    let query = crate::log_query(&aggregation.log, range, Direction::Forward, None);
    let mut aggregator = Aggregator {
        aggregation,
        grouping: grouping.or(aggregation.grouping.as_ref()),
        steps,
        range_nanos,
        pipeline,
        series: Vec::new(),
        by_labels: HashMap::new(),
        active: Vec::new(),
        budget,
    };
    let mut cursor = source.scan(&query, budget)?;
    let mut step = 0;
    while let Some(rows) = cursor.next_batch()? {
        budget.check()?;
        stats.seen(&rows);
        for row in rows.iter().filter(|row| range.contains(row.timestamp)) {
            while step < steps.count && steps.time(step) < row.timestamp.0 {
                aggregator.close(step);
                step += 1;
            }
            stats.lines_kept += u64::from(aggregator.add(row, step)?);
        }
    }
    for step in step..steps.count {
        aggregator.close(step);
    }
    Ok(aggregator.finish())
}

impl Aggregator<'_> {
    /// Whether the row became a sample.
    fn add(&mut self, row: &LogRow, step: usize) -> Result<bool> {
        let expires = self.steps.first_after(row.timestamp.0.saturating_add(self.range_nanos));
        if expires <= step {
            return Ok(false);
        }
        let sampled = self.pipeline.sample(row, self.budget);
        self.budget.check()?;
        let Some((line, value)) = sampled else { return Ok(false) };
        if line.labels.has_error() {
            return Err(Error::fix_request(format!(
                "pipeline error: '{}' for series: '{}': {}. To leave such lines out, add | __error__=\"\"",
                line.labels.get_or_empty(ERROR),
                row.stream,
                line.labels.get_or_empty(ERROR_DETAILS),
            )));
        }
        let value = self.value(&line, value);
        let labels = match (self.aggregation.op, self.grouping) {
            (RangeOp::AbsentOverTime, _) => Labels::empty(),
            (_, Some(grouping)) => line.labels.build_grouped(grouping.without, &grouping.labels),
            (_, None) => line.labels.build(),
        };
        let at = self.series_of(labels)?;
        let keeps_values = self.aggregation.op == RangeOp::QuantileOverTime;
        if keeps_values {
            self.budget.charge(size_of::<f64>() as u64)?;
        }
        let series = &mut self.series[at];
        series.window.push(expires, row.timestamp.0, value, keeps_values);
        if !series.is_active {
            series.is_active = true;
            self.active.push(at);
        }
        Ok(true)
    }

    fn value(&self, line: &Line<'_>, value: f64) -> f64 {
        match self.aggregation.op {
            RangeOp::BytesRate | RangeOp::BytesOverTime => line.text.len() as f64,
            _ => value,
        }
    }

    fn series_of(&mut self, labels: Labels) -> Result<usize> {
        if let Some(at) = self.by_labels.get(&labels) {
            return Ok(*at);
        }
        if self.series.len() >= SERIES_MAX {
            return Err(Error::over_limit(format!(
                "maximum of series ({SERIES_MAX}) reached for a single query: aggregate with sum by (…), or drop labels with | keep"
            )));
        }
        let label_bytes: usize = labels.iter().map(|(name, value)| name.len() + value.len() + 32).sum();
        self.budget.charge(SERIES_BYTES + label_bytes as u64 + (self.steps.count * size_of::<Option<f64>>()) as u64)?;
        let at = self.series.len();
        self.series.push(Series {
            window: Window::default(),
            column: Column::empty(labels.clone(), self.steps.count),
            is_active: false,
        });
        self.by_labels.insert(labels, at);
        Ok(at)
    }

    /// Writes the values of one step, and forgets series that fell silent.
    fn close(&mut self, step: usize) {
        let end = self.steps.time(step);
        let start = end.saturating_sub(self.range_nanos);
        let (op, parameter) = (self.aggregation.op, self.aggregation.parameter);
        let series = &mut self.series;
        self.active.retain(|at| {
            let series = &mut series[*at];
            series.window.advance(step);
            let Some(sum) = series.window.sum() else {
                series.is_active = false;
                return false;
            };
            let value = match parameter {
                Some(q) => quantile(q, series.window.values()),
                None => sum.value(op, start, end),
            };
            series.column.values[step] = Some(value);
            true
        });
    }

    fn finish(self) -> Vec<Column> {
        if self.aggregation.op == RangeOp::AbsentOverTime {
            return vec![self.absent()];
        }
        let mut columns: Vec<Column> = self.series.into_iter().map(|series| series.column).filter(Column::has_value).collect();
        columns.sort_by(|left, right| left.labels.cmp(&right.labels));
        columns
    }

    /// 1 where nothing was found, named by what the selector says for certain.
    fn absent(self) -> Column {
        let equal = self.aggregation.log.matchers.iter().filter(|matcher| matcher.op == MatchOp::Equal);
        let labels = Labels::from_pairs(equal.map(|matcher| (matcher.name.as_str(), matcher.value.as_str())));
        let mut column = Column::empty(labels, self.steps.count);
        let present = self.series.first().map(|series| &series.column.values);
        for (step, value) in column.values.iter_mut().enumerate() {
            *value = present.is_none_or(|present| present[step].is_none()).then_some(1.0);
        }
        column
    }
}
