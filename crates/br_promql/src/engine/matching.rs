//! Arithmetic and comparisons between two vectors: which series belong together, and what the result is called.

use super::binary::Operation;
use super::context::Context;
use super::eval::{Sink, vector};
use super::series::{Column, Sample, StepSeries, is_metadata_label, labels_bytes, without_metadata};
use crate::syntax::ast::{Cardinality, Expr, Matching};
use br_model::Labels;
use br_model::labels::METRIC_NAME;
use br_std::{Error, Result};
use std::collections::HashMap;

/// The labels by which series match.
pub(super) fn signature(labels: &Labels, matching: &Matching) -> Labels {
    let listed = |name: &str| matching.labels.iter().any(|known| known == name);
    if matching.on { labels.only(listed) } else { labels.without(|name| name == METRIC_NAME || listed(name)) }
}

/// The series of both sides that share a signature, by position.
#[derive(Default)]
struct Partners {
    many: Vec<usize>,
    one: Vec<usize>,
}

pub(super) fn evaluate(
    context: &Context,
    operation: Operation,
    matching: &Matching,
    lhs: &Expr,
    rhs: &Expr,
    sink: &mut Sink,
) -> Result<()> {
    let (left, right) = (vector(context, lhs)?, vector(context, rhs)?);
    let one_is_left = matching.cardinality == Cardinality::OneToMany;
    let (many, one) = if one_is_left { (&right, &left) } else { (&left, &right) };
    let mut order: Vec<Labels> = Vec::new();
    let mut partners: HashMap<Labels, Partners> = HashMap::new();
    for (side, is_many) in [(many, true), (one, false)] {
        for (at, series) in side.iter().enumerate() {
            let key = signature(&series.labels, matching);
            if !partners.contains_key(&key) {
                context.budget.charge(labels_bytes(&key))?;
                order.push(key.clone());
            }
            let entry = partners.entry(key).or_default();
            if is_many { entry.many.push(at) } else { entry.one.push(at) }
        }
    }
    let mut joined = Joined { context, operation, matching, one_is_left, many, one, results: HashMap::new(), order: Vec::new() };
    for key in &order {
        if let Some(partners) = partners.get(key) {
            joined.group(key, partners)?;
        }
    }
    let Joined { mut results, order, .. } = joined;
    for key in order {
        if let Some(points) = results.remove(&key)
            && !points.is_all_absent()
        {
            let (labels, drop_name) = key;
            sink(StepSeries { labels, drop_name, points })?;
        }
    }
    Ok(())
}

struct Joined<'j> {
    context: &'j Context<'j>,
    operation: Operation,
    matching: &'j Matching,
    one_is_left: bool,
    many: &'j [StepSeries],
    one: &'j [StepSeries],
    results: HashMap<(Labels, bool), Column>,
    order: Vec<(Labels, bool)>,
}

impl<'j> Joined<'j> {
    fn group(&mut self, signature: &Labels, partners: &Partners) -> Result<()> {
        let fill_many = if self.one_is_left { self.matching.fill.right } else { self.matching.fill.left };
        let fill_one = if self.one_is_left { self.matching.fill.left } else { self.matching.fill.right };
        if (partners.many.is_empty() && fill_many.is_none()) || (partners.one.is_empty() && fill_one.is_none()) {
            return self.check_one_side(signature, partners);
        }
        let side: &'j [StepSeries] = self.many;
        let many_series: Vec<&'j StepSeries> = partners.many.iter().map(|at| &side[*at]).collect();
        for step in 0..self.context.steps() {
            self.context.budget.check()?;
            let one = self.one_at(signature, partners, step)?;
            let one_sample = one.and_then(|series| series.points.get(step)).or(fill_one.map(Sample::Float));
            let mut matched_once = false;
            let mut any_many = false;
            for series in &many_series {
                let Some(sample) = series.points.get(step) else { continue };
                any_many = true;
                let Some(one_sample) = &one_sample else { continue };
                let labels = self.result_labels(Some(series), one, signature);
                self.put(step, labels, &sample, one_sample, &mut matched_once)?;
            }
            if let (false, Some(fill), Some(one)) = (any_many, fill_many, one)
                && let Some(one_sample) = one.points.get(step)
            {
                let labels = self.result_labels(None, Some(one), signature);
                self.put(step, labels, &Sample::Float(fill), &one_sample, &mut matched_once)?;
            }
        }
        Ok(())
    }

    /// Duplicates on the one side are an error even where nothing matches them, as long as the other side has anything at all.
    fn check_one_side(&self, signature: &Labels, partners: &Partners) -> Result<()> {
        if partners.one.len() < 2 || self.many.is_empty() {
            return Ok(());
        }
        for step in 0..self.context.steps() {
            if self.many.iter().any(|series| series.points.is_present(step)) {
                self.one_at(signature, partners, step)?;
            }
        }
        Ok(())
    }

    fn one_at(&self, signature: &Labels, partners: &Partners, step: usize) -> Result<Option<&'j StepSeries>> {
        let side: &'j [StepSeries] = self.one;
        let mut present = partners.one.iter().map(|at| &side[*at]).filter(|series| series.points.is_present(step));
        let first = present.next();
        if let (Some(first), Some(second)) = (first, present.next()) {
            let side = if self.one_is_left { "left" } else { "right" };
            return Err(Error::fix_request(format!(
                "found duplicate series for the match group {signature} on the {side} hand-side of the operation: [{}, {}];many-to-many matching not allowed: matching labels must be unique on one side",
                second.labels, first.labels
            )));
        }
        Ok(first)
    }

    fn put(&mut self, step: usize, key: (Labels, bool), many: &Sample, one: &Sample, matched_once: &mut bool) -> Result<()> {
        let (left, right) = if self.one_is_left { (one, many) } else { (many, one) };
        let Some(sample) = self.operation.apply(self.context, left, right) else { return Ok(()) };
        if self.matching.cardinality == Cardinality::OneToOne && std::mem::replace(matched_once, true) {
            return Err(Error::fix_request(
                "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)",
            ));
        }
        let steps = self.context.steps();
        if !self.results.contains_key(&key) {
            self.context.budget.charge(Column::absent_bytes(steps) + labels_bytes(&key.0))?;
            self.order.push(key.clone());
        }
        let column = self.results.entry(key).or_insert_with(|| Column::absent(steps));
        if column.is_present(step) {
            return Err(Error::fix_request("multiple matches for labels: grouping labels must ensure unique matches"));
        }
        column.set(step, Some(sample));
        Ok(())
    }

    /// The labels of a result, and whether its name is to go at the end.
    fn result_labels(&self, many: Option<&StepSeries>, one: Option<&StepSeries>, signature: &Labels) -> (Labels, bool) {
        let is_one_to_one = self.matching.cardinality == Cardinality::OneToOne;
        let Some(many) = many else {
            let mut builder = signature.to_builder();
            if let (false, Some(one)) = (is_one_to_one, one) {
                self.include(&mut builder, Some(one));
            }
            return (without_metadata(&builder.build()), false);
        };
        let mut labels = many.labels.clone();
        let mut drop_name = many.drop_name;
        if self.operation.drops_name() {
            if self.context.options.delayed_name_removal {
                drop_name = true;
            } else {
                labels = without_metadata(&labels);
            }
        }
        if is_one_to_one {
            let listed = |name: &str| self.matching.labels.iter().any(|known| known == name);
            let keeps_metadata = !self.operation.drops_name();
            let kept = |name: &str| {
                if self.matching.on {
                    listed(name)
                } else {
                    !listed(name) && (keeps_metadata || !is_metadata_label(name) || drop_name)
                }
            };
            return (labels.only(kept), drop_name);
        }
        let mut builder = labels.to_builder();
        self.include(&mut builder, one);
        (builder.build(), drop_name)
    }

    fn include(&self, builder: &mut br_model::LabelsBuilder, one: Option<&StepSeries>) {
        for name in &self.matching.include {
            let value = one.and_then(|one| one.labels.get(name)).unwrap_or("");
            builder.set(name, value);
        }
    }
}
