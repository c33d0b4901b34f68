//! Range aggregations: rows to series, in one pass over the rows, which come roughly in the order of time.

use super::Stats;
use super::metric::{Column, Steps};
use super::window::{Partial, Window, quantile};
use crate::ast::{Grouping, RangeAggregation, RangeOp};
use crate::hints;
use crate::labels::{ERROR, ERROR_DETAILS};
use crate::pipeline::{Line, Pipeline};
use br_model::Labels;
use br_std::{Error, Nanos, Result};
use br_storage::{Budget, CountedRows, LineNeed, LogGroup, LogSource, Marks, MatchOp, TimeNeed, TimeRange, scan_in_order};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};

/// One aggregation may make this many series.
const SERIES_MAX: usize = 100_000;

/// Memory of a series beside its labels and values, roughly.
const SERIES_BYTES: u64 = 512;

struct Series {
    window: Window,
    /// What later windows will have, by the first step that has it and the first that has it no longer.
    coming: BTreeMap<(usize, usize), Coming>,
    column: Column,
    /// On the list of those whose window is not empty, or will not be.
    is_active: bool,
}

struct Coming {
    partial: Partial,
    /// Only for quantiles.
    values: Vec<f64>,
}

/// Memory of samples that are coming together.
const COMING_BYTES: u64 = size_of::<((usize, usize), Coming)>() as u64;

struct Aggregator<'a> {
    aggregation: &'a RangeAggregation,
    grouping: Option<&'a Grouping>,
    range: TimeRange,
    steps: Steps,
    /// Steps before this one are closed.
    step: usize,
    range_nanos: i64,
    pipeline: Pipeline,
    reads_text: bool,
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
    let mut pipeline = Pipeline::compile(&aggregation.log).map_err(|(_, message)| Error::fix_request(message))?;
    let range_nanos = i64::try_from(aggregation.range.as_nanos()).unwrap_or(i64::MAX);
    let offset = aggregation.offset_nanos;
    let steps = steps.shifted(-offset);
    // Windows leave their start out and include their end; the store does it the other way around.
    let from = steps.start.saturating_sub(range_nanos).saturating_add(1);
    let range = TimeRange::new(Nanos(from), Nanos(steps.last().saturating_add(1)));
    let grouping = grouping.or(aggregation.grouping.as_ref());
    let mut query = hints::metric_query(aggregation, grouping, range);
    query.line_tests = pipeline.take_line_tests();
    if hints::only_counts(aggregation) {
        // One step has no next one: its window alone has a start and an end.
        let width = if steps.count == 1 { range_nanos } else { steps.width };
        let starts = Marks { origin: steps.start.saturating_sub(range_nanos), width };
        query.times = TimeNeed::Between([starts, Marks { origin: steps.start, width }]);
    }
    let mut aggregator = Aggregator {
        aggregation,
        grouping,
        range,
        steps,
        step: 0,
        range_nanos,
        pipeline,
        reads_text: query.needs.line == LineNeed::Text,
        series: Vec::new(),
        by_labels: HashMap::new(),
        active: Vec::new(),
        budget,
    };
    // Only a counter's resets depend on the order.
    let is_ordered = aggregation.op == RangeOp::RateCounter;
    let mut cursor = if is_ordered { scan_in_order(source, &query, budget)? } else { source.scan_groups(&query, budget)? };
    while let Some(groups) = cursor.next_batch()? {
        budget.check()?;
        for group in &groups {
            stats.lines_kept += aggregator.add(group)?;
        }
        aggregator.close_before(cursor.reached().0);
    }
    stats.add(cursor.seen());
    aggregator.close_before(i64::MAX);
    Ok(aggregator.finish())
}

/// Times whose samples are in the same windows.
#[derive(Clone, Copy)]
struct Cell {
    first: usize,
    expires: usize,
    from: i64,
    to: i64,
}

impl Cell {
    const NONE: Self = Self { first: 0, expires: 0, from: 0, to: i64::MIN };

    fn has(&self, time: i64) -> bool {
        (self.from..=self.to).contains(&time)
    }
}

/// The samples of a group in the same windows.
struct Pane {
    cell: Cell,
    partial: Option<Partial>,
    /// Only for quantiles.
    values: Vec<f64>,
}

impl Pane {
    const fn of(cell: Cell) -> Self {
        Self { cell, partial: None, values: Vec::new() }
    }

    fn add(&mut self, op: RangeOp, time: i64, value: f64) {
        let only_sums = matches!(
            op,
            RangeOp::Rate | RangeOp::CountOverTime | RangeOp::BytesRate | RangeOp::BytesOverTime | RangeOp::SumOverTime
        );
        self.partial = Some(match self.partial {
            Some(partial) if only_sums => partial.with_sum(value),
            Some(partial) => partial.with(time, value),
            None => Partial::one(time, value),
        });
        if op == RangeOp::QuantileOverTime {
            self.values.push(value);
        }
    }
}

impl Aggregator<'_> {
    /// How many rows became samples.
    fn add(&mut self, group: &LogGroup) -> Result<u64> {
        let sampled = self.pipeline.sample(&group.row, self.budget);
        self.budget.check()?;
        let Some((line, value)) = sampled else { return Ok(0) };
        let counts_bytes = matches!(self.aggregation.op, RangeOp::BytesRate | RangeOp::BytesOverTime);
        let value = if counts_bytes { line.text.len() as f64 } else { value };
        let has_error = line.labels.has_error();
        let mut series = None;
        let mut pane = Pane::of(Cell::NONE);
        let mut count = 0;
        for (member, CountedRows { time, rows, bytes }) in group.all().enumerate() {
            if !pane.cell.has(time.0) {
                self.add_pane(series, std::mem::replace(&mut pane, Pane::of(self.cell(time.0))))?;
            }
            if pane.cell.expires <= pane.cell.first || !self.range.contains(time) {
                continue;
            }
            if has_error {
                return Err(Error::fix_request(format!(
                    "pipeline error: '{}' for series: '{}': {}. To leave such lines out, add | __error__=\"\"",
                    line.labels.get_or_empty(ERROR),
                    group.row.stream,
                    line.labels.get_or_empty(ERROR_DETAILS),
                )));
            }
            if series.is_none() {
                series = Some(self.series_of(self.labels_of(&line))?);
            }
            let value = match group.numbers.get(member) {
                Some(number) => *number,
                None if counts_bytes && !self.reads_text => bytes as f64,
                None => value * rows as f64,
            };
            pane.add(self.aggregation.op, time.0, value);
            count += rows;
        }
        self.add_pane(series, pane)?;
        Ok(count)
    }

    fn labels_of(&self, line: &Line<'_>) -> Labels {
        match (self.aggregation.op, self.grouping) {
            (RangeOp::AbsentOverTime, _) => Labels::empty(),
            (_, Some(grouping)) => line.labels.build_grouped(grouping.without, &grouping.labels),
            (_, None) => line.labels.build(),
        }
    }

    /// The steps whose windows have a sample of this time.
    fn cell(&self, time: i64) -> Cell {
        let steps = self.steps;
        let first = steps.first_after(time);
        let expires = steps.first_after(time.saturating_add(self.range_nanos));
        // No step comes after the last: what is in its window may go at once.
        let (expires, leaves) = if expires < steps.count {
            (expires, steps.time(expires).saturating_sub(self.range_nanos))
        } else {
            (steps.count, i64::MAX)
        };
        let before = |step: usize| step.checked_sub(1).map_or(i64::MIN, |before| steps.time(before).saturating_add(1));
        Cell {
            first,
            expires,
            from: before(first).max(before(expires).saturating_sub(self.range_nanos)),
            to: steps.time(first).min(leaves),
        }
    }

    /// Adds what rows of one group have in the same windows.
    fn add_pane(&mut self, series: Option<usize>, pane: Pane) -> Result<()> {
        let (Some(at), Some(partial)) = (series, pane.partial) else { return Ok(()) };
        self.budget.charge((pane.values.len() * size_of::<f64>()) as u64)?;
        let series = &mut self.series[at];
        match series.coming.entry((pane.cell.first, pane.cell.expires)) {
            Entry::Occupied(known) => {
                let coming = known.into_mut();
                coming.partial = coming.partial.merge(partial);
                coming.values.extend(pane.values);
            }
            Entry::Vacant(new) => {
                self.budget.charge(COMING_BYTES)?;
                new.insert(Coming { partial, values: pane.values });
            }
        }
        if !series.is_active {
            series.is_active = true;
            self.active.push(at);
        }
        Ok(())
    }

    /// Closes the steps that no row can belong to which is still to come.
    fn close_before(&mut self, time: i64) {
        while self.step < self.steps.count && self.steps.time(self.step) < time {
            self.close(self.step);
            self.step += 1;
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
            coming: BTreeMap::new(),
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
        let (series, budget) = (&mut self.series, self.budget);
        self.active.retain(|at| {
            let series = &mut series[*at];
            while let Some(next) = series.coming.first_entry().filter(|next| next.key().0 <= step) {
                let ((_, expires), coming) = next.remove_entry();
                budget.release(COMING_BYTES);
                series.window.push(expires, coming.partial, coming.values);
            }
            series.window.advance(step);
            let Some(sum) = series.window.sum() else {
                series.is_active = !series.coming.is_empty();
                return series.is_active;
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
