//! Arithmetic and comparisons between two vectors: which series belong together, and what the result is called.

use super::binary::Operation;
use super::context::Context;
use super::held::{Charge, Held};
use super::series::{Column, Sample, StepSeries, is_metadata_label, labels_bytes, without_metadata};
use super::signature::{Signatures, signature};
use crate::syntax::ast::{Cardinality, Matching};
use br_model::Labels;
use br_std::{Error, Result};
use foldhash::fast::RandomState;
use std::collections::HashMap;

/// The series of one side, by the number of their signature.
struct Members {
    /// Of each signature where its members begin, with the end as the last.
    starts: Vec<usize>,
    /// Positions of series.
    all: Vec<usize>,
}

impl Members {
    fn new(numbers: &[usize], signature_count: usize) -> Self {
        let mut starts = vec![0; signature_count + 1];
        for number in numbers {
            starts[number + 1] += 1;
        }
        for number in 0..signature_count {
            starts[number + 1] += starts[number];
        }
        let (mut next, mut all) = (starts.clone(), vec![0; numbers.len()]);
        for (at, number) in numbers.iter().enumerate() {
            all[next[*number]] = at;
            next[*number] += 1;
        }
        Self { starts, all }
    }

    fn of(&self, number: usize) -> &[usize] {
        &self.all[self.starts[number]..self.starts[number + 1]]
    }
}

/// The series of both sides that share a signature, by position.
#[derive(Clone, Copy)]
struct Partners<'p> {
    many: &'p [usize],
    one: &'p [usize],
}

pub(super) fn evaluate<'b>(
    context: &Context<'b>,
    operation: Operation,
    matching: &Matching,
    left: &[StepSeries],
    right: &[StepSeries],
) -> Result<Held<'b>> {
    let one_is_left = matching.cardinality == Cardinality::OneToMany;
    let (many, one) = if one_is_left { (right, left) } else { (left, right) };
    let mut signatures = Signatures::new(matching, [many, one]);
    let mut signature_charge = Charge::new(context.budget);
    let mut numbers_of = |side: &[StepSeries]| -> Result<Vec<usize>> {
        let mut numbers = Vec::with_capacity(side.len());
        for series in side {
            let (number, new_bytes) = signatures.number(&series.labels);
            signature_charge.add(new_bytes.unwrap_or(0))?;
            numbers.push(number);
        }
        Ok(numbers)
    };
    let (many_numbers, one_numbers) = (numbers_of(many)?, numbers_of(one)?);
    let of_many = Members::new(&many_numbers, signatures.len());
    let of_one = Members::new(&one_numbers, signatures.len());
    let results = Results { all: Vec::new(), by_labels: HashMap::default(), charge: Charge::new(context.budget) };
    let mut joined = Joined { context, operation, matching, one_is_left, many, one, results, places: Vec::new() };
    for number in 0..signatures.len() {
        joined.group(Partners { many: of_many.of(number), one: of_one.of(number) })?;
    }
    let Results { mut all, charge, .. } = joined.results;
    all.retain(|series| !series.points.is_all_absent());
    Ok(Held::charged(all, charge))
}

/// Results in the order in which they came, each label set once.
struct Results<'b> {
    all: Vec<StepSeries>,
    by_labels: HashMap<(Labels, bool), usize, RandomState>,
    charge: Charge<'b>,
}

impl Results<'_> {
    fn place(&mut self, context: &Context, key: (Labels, bool)) -> Result<usize> {
        if let Some(place) = self.by_labels.get(&key) {
            return Ok(*place);
        }
        self.charge.add(Column::absent_bytes(context.steps()) + labels_bytes(&key.0))?;
        let (labels, drop_name) = key.clone();
        self.all.push(StepSeries { labels, drop_name, points: Column::absent(context.steps()) });
        self.by_labels.insert(key, self.all.len() - 1);
        Ok(self.all.len() - 1)
    }
}

struct Joined<'j, 'b> {
    context: &'j Context<'b>,
    operation: Operation,
    matching: &'j Matching,
    one_is_left: bool,
    many: &'j [StepSeries],
    one: &'j [StepSeries],
    results: Results<'b>,
    /// Of each series of the group on the side of many: with which other it was joined last, and the place of that result.
    places: Vec<Option<(Option<usize>, usize)>>,
}

impl<'j> Joined<'j, '_> {
    fn group(&mut self, partners: Partners) -> Result<()> {
        let fill_many = if self.one_is_left { self.matching.fill.right } else { self.matching.fill.left };
        let fill_one = if self.one_is_left { self.matching.fill.left } else { self.matching.fill.right };
        if (partners.many.is_empty() && fill_many.is_none()) || (partners.one.is_empty() && fill_one.is_none()) {
            return self.check_one_side(partners);
        }
        let (many_side, one_side): (&'j [StepSeries], &'j [StepSeries]) = (self.many, self.one);
        self.places.clear();
        self.places.resize(partners.many.len(), None);
        for step in 0..self.context.steps() {
            self.context.budget.check()?;
            let one_at = self.one_at(partners, step)?;
            let one = one_at.map(|at| &one_side[at]);
            let one_sample = one.and_then(|series| series.points.get(step)).or(fill_one.map(Sample::Float));
            let mut matched_once = false;
            let mut any_many = false;
            for (position, at) in partners.many.iter().enumerate() {
                let series = &many_side[*at];
                let Some(sample) = series.points.get(step) else { continue };
                any_many = true;
                let Some(one_sample) = &one_sample else { continue };
                let Some(result) = self.joined(&sample, one_sample, &mut matched_once)? else { continue };
                let place = match self.places[position] {
                    Some((known, place)) if known == one_at => place,
                    _ => self.results.place(self.context, self.result_labels(Some(series), one))?,
                };
                self.places[position] = Some((one_at, place));
                self.put(step, place, result)?;
            }
            if let (false, Some(fill), Some(one)) = (any_many, fill_many, one)
                && let Some(one_sample) = one.points.get(step)
                && let Some(result) = self.joined(&Sample::Float(fill), &one_sample, &mut matched_once)?
            {
                let place = self.results.place(self.context, self.result_labels(None, Some(one)))?;
                self.put(step, place, result)?;
            }
        }
        Ok(())
    }

    /// Duplicates on the one side are an error even where nothing matches them, as long as the other side has anything at all.
    fn check_one_side(&self, partners: Partners) -> Result<()> {
        if partners.one.len() < 2 || self.many.is_empty() {
            return Ok(());
        }
        for step in 0..self.context.steps() {
            if self.many.iter().any(|series| series.points.is_present(step)) {
                self.one_at(partners, step)?;
            }
        }
        Ok(())
    }

    /// The position of the only series on the side of one that has a value.
    fn one_at(&self, partners: Partners, step: usize) -> Result<Option<usize>> {
        let mut present = partners.one.iter().copied().filter(|at| self.one[*at].points.is_present(step));
        let first = present.next();
        if let (Some(first), Some(second)) = (first, present.next()) {
            let (first, second) = (&self.one[first], &self.one[second]);
            let signature = signature(&first.labels, self.matching);
            let side = if self.one_is_left { "left" } else { "right" };
            return Err(Error::fix_request(format!(
                "found duplicate series for the match group {signature} on the {side} hand-side of the operation: [{}, {}];many-to-many matching not allowed: matching labels must be unique on one side",
                second.labels, first.labels
            )));
        }
        Ok(first)
    }

    /// The result of two values, if there is one.
    fn joined(&self, many: &Sample, one: &Sample, matched_once: &mut bool) -> Result<Option<Sample>> {
        let (left, right) = if self.one_is_left { (one, many) } else { (many, one) };
        let Some(sample) = self.operation.apply(self.context, left, right) else { return Ok(None) };
        if self.matching.cardinality == Cardinality::OneToOne && std::mem::replace(matched_once, true) {
            return Err(Error::fix_request(
                "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)",
            ));
        }
        Ok(Some(sample))
    }

    fn put(&mut self, step: usize, place: usize, sample: Sample) -> Result<()> {
        let column = &mut self.results.all[place].points;
        if column.is_present(step) {
            return Err(Error::fix_request("multiple matches for labels: grouping labels must ensure unique matches"));
        }
        self.results.charge.set(column, step, sample)
    }

    /// The labels of a result, and whether its name is to go at the end.
    fn result_labels(&self, many: Option<&StepSeries>, one: Option<&StepSeries>) -> (Labels, bool) {
        let is_one_to_one = self.matching.cardinality == Cardinality::OneToOne;
        let Some(many) = many else {
            let shared = one.map_or_else(Labels::empty, |one| signature(&one.labels, self.matching));
            let mut builder = shared.to_builder();
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
