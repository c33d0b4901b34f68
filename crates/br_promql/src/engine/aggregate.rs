//! Aggregations that fold series into groups as they come: sum, avg, count, min, max, group, stddev, stdvar.

use super::aggregate_histogram::HistogramCells;
use super::context::Context;
use super::eval::vector_each;
use super::label_keys::{NumberKeys, text_key};
use super::rank;
use super::series::{Column, StepSeries};
use crate::annotations::Annotation;
use crate::kahan::{self, Mean};
use crate::syntax::ast::{AggregateOp, Expr, ExprKind};
use crate::syntax::span::Span;
use br_model::Labels;
use br_model::labels::METRIC_NAME;
use br_std::{Error, Result};
use foldhash::fast::RandomState;
use std::collections::HashMap;

/// Which group a series belongs to. The key is made once per series, without building labels.
pub(super) struct Groups {
    /// Sorted.
    names: Vec<String>,
    without: bool,
    by_text: HashMap<Vec<u8>, usize, RandomState>,
    /// The same for series whose texts are in one table, as most of a store's are: a group has as many keys as ways of writing it.
    by_number: HashMap<Vec<u8>, usize, RandomState>,
    numbers: NumberKeys,
    key: Vec<u8>,
    pub(super) labels: Vec<Labels>,
    /// A member's name is to be dropped: so is the group's.
    pub(super) drop_name: Vec<bool>,
}

impl Groups {
    pub(super) fn new(names: &[String], without: bool) -> Self {
        let mut names = names.to_vec();
        names.sort();
        Self {
            names,
            without,
            by_text: HashMap::default(),
            by_number: HashMap::default(),
            numbers: NumberKeys::default(),
            key: Vec::new(),
            labels: Vec::new(),
            drop_name: Vec::new(),
        }
    }

    pub(super) fn labels_of(&self, labels: &Labels) -> Labels {
        labels.only(|name| keeps(&self.names, self.without, name))
    }

    pub(super) fn of(&mut self, series: &StepSeries) -> usize {
        let mut key = std::mem::take(&mut self.key);
        let group = self.find(&series.labels, &mut key);
        self.key = key;
        self.drop_name[group] |= series.drop_name;
        group
    }

    fn find(&mut self, labels: &Labels, key: &mut Vec<u8>) -> usize {
        if !self.without && self.names.is_empty() {
            // All are one group.
            return if self.labels.is_empty() { self.by_texts(labels, key) } else { 0 };
        }
        if !self.numbers.key(labels, |name| keeps(&self.names, self.without, name), key) {
            return self.by_texts(labels, key);
        }
        if let Some(known) = self.by_number.get(key) {
            return *known;
        }
        let number_key = key.clone();
        let group = self.by_texts(labels, key);
        self.by_number.insert(number_key, group);
        group
    }

    fn by_texts(&mut self, labels: &Labels, key: &mut Vec<u8>) -> usize {
        let Self { names, without, .. } = self;
        text_key(labels, |name| keeps(names, *without, name), key);
        if let Some(known) = self.by_text.get(key) {
            return *known;
        }
        self.labels.push(labels.only(|name| keeps(names, *without, name)));
        self.drop_name.push(false);
        self.by_text.insert(key.clone(), self.labels.len() - 1);
        self.labels.len() - 1
    }
}

fn keeps(names: &[String], without: bool, name: &str) -> bool {
    let listed = names.iter().any(|known| known == name);
    if without { !listed && name != METRIC_NAME } else { listed }
}

pub(super) fn evaluate(context: &Context, aggregate: &Expr) -> Result<Vec<StepSeries>> {
    let ExprKind::Aggregate { op, parameter, expr, grouping, without } = &aggregate.kind else {
        return Err(Error::fix_request("not an aggregation"));
    };
    if let Some(parameter) = parameter {
        return rank::evaluate(context, *op, parameter, expr, Groups::new(grouping, *without));
    }
    let mut groups = Groups::new(grouping, *without);
    let mut cells: Vec<Cells> = Vec::new();
    vector_each(context, expr, &mut |series| {
        let group = groups.of(&series);
        if group == cells.len() {
            context.budget.charge(Cells::bytes(context.steps()))?;
            cells.push(Cells::new(*op, context.steps()));
        }
        cells[group].add(context, &series, expr.span)
    })?;
    let finished = groups.labels.into_iter().zip(groups.drop_name).zip(cells);
    let mut results = Vec::new();
    for ((labels, drop_name), cells) in finished {
        let points = cells.finish(context, expr.span);
        // What a group holds now is no more than its cells were.
        context.budget.release(Cells::bytes(context.steps()) - Column::absent_bytes(context.steps()));
        if !points.is_all_absent() {
            results.push(StepSeries { labels, drop_name, points });
        }
    }
    Ok(results)
}

/// What the sum of histograms at one step takes besides the buckets.
const FOLD_BYTES: u64 = 256;

/// One group: a cell for each step.
struct Cells {
    op: AggregateOp,
    seen: Vec<bool>,
    /// Sum, mean, least or greatest, by operation.
    values: Vec<f64>,
    /// Compensation or squared distances, by operation.
    extra: Vec<f64>,
    counts: Vec<f64>,
    means: Vec<Mean>,
    histograms: Option<HistogramCells>,
}

impl Cells {
    fn bytes(steps: usize) -> u64 {
        steps as u64 * 57 + 200
    }

    fn new(op: AggregateOp, steps: usize) -> Self {
        let is_avg = op == AggregateOp::Avg;
        Self {
            op,
            seen: vec![false; steps],
            values: vec![0.0; steps],
            extra: vec![0.0; steps],
            counts: vec![0.0; steps],
            means: if is_avg { vec![Mean::default(); steps] } else { Vec::new() },
            histograms: None,
        }
    }

    fn add(&mut self, context: &Context, series: &StepSeries, span: Span) -> Result<()> {
        let points = &series.points;
        match self.op {
            AggregateOp::Count | AggregateOp::Group => {
                for step in 0..points.len() {
                    if points.is_present(step) {
                        self.seen[step] = true;
                        self.counts[step] += 1.0;
                    }
                }
                return Ok(());
            }
            AggregateOp::Sum => self.each_float(points, |cells, step, value| {
                kahan::add(&mut cells.values[step], &mut cells.extra[step], value);
            }),
            AggregateOp::Avg => self.each_float(points, |cells, step, value| cells.means[step].add(value)),
            AggregateOp::Min => self.each_float(points, |cells, step, value| {
                let least = cells.values[step];
                if !cells.seen[step] || value < least || least.is_nan() {
                    cells.values[step] = value;
                }
            }),
            AggregateOp::Max => self.each_float(points, |cells, step, value| {
                let greatest = cells.values[step];
                if !cells.seen[step] || value > greatest || greatest.is_nan() {
                    cells.values[step] = value;
                }
            }),
            _ => self.each_float(points, |cells, step, value| {
                cells.counts[step] += 1.0;
                let distance = value - cells.values[step];
                cells.values[step] += distance / cells.counts[step];
                cells.extra[step] += distance * (value - cells.values[step]);
            }),
        }
        if points.has_histograms() {
            self.add_histograms(context, series, span)?;
        }
        Ok(())
    }

    #[inline]
    fn each_float(&mut self, points: &Column, change: impl Fn(&mut Self, usize, f64)) {
        points.each_float(|step, value| {
            change(self, step, value);
            self.seen[step] = true;
        });
    }

    fn add_histograms(&mut self, context: &Context, series: &StepSeries, span: Span) -> Result<()> {
        if !matches!(self.op, AggregateOp::Sum | AggregateOp::Avg) {
            if (0..series.points.len()).any(|step| series.points.histogram(step).is_some()) {
                context.note(&Annotation::HistogramIgnoredInAggregation { operation: self.op.as_str() }, span);
            }
            return Ok(());
        }
        let is_avg = self.op == AggregateOp::Avg;
        let cells = self.histograms.get_or_insert_with(|| HistogramCells::new(series.points.len(), is_avg));
        for step in 0..series.points.len() {
            let Some(histogram) = series.points.histogram(step) else { continue };
            if !cells.has(step) {
                context.budget.charge(FOLD_BYTES + 2 * histogram.memory_bytes() as u64)?;
            }
            if cells.add(step, histogram).is_err() {
                let metric = series.labels.metric_name().to_owned();
                context.note(&Annotation::MixedExponentialCustom { metric }, span);
            }
        }
        Ok(())
    }

    fn finish(self, context: &Context, span: Span) -> Column {
        let steps = self.seen.len();
        let mut column = Column::absent(steps);
        for step in 0..steps {
            let has_histograms = self.histograms.as_ref().is_some_and(|cells| cells.has(step));
            if has_histograms && self.seen[step] {
                context.note(&Annotation::MixedFloatsHistogramsAggregation, span);
                continue;
            }
            if self.seen[step] {
                column.set_float(step, self.float(step));
            }
        }
        if let Some(cells) = self.histograms {
            cells.finish(context, span, &self.seen, &mut column);
        }
        column
    }

    fn float(&self, step: usize) -> f64 {
        match self.op {
            AggregateOp::Sum => self.values[step] + self.extra[step],
            AggregateOp::Avg => self.means[step].value(),
            AggregateOp::Count => self.counts[step],
            AggregateOp::Group => 1.0,
            AggregateOp::Stddev => (self.extra[step] / self.counts[step]).sqrt(),
            AggregateOp::Stdvar => self.extra[step] / self.counts[step],
            _ => self.values[step],
        }
    }
}
