//! Spansets of one trace on their way through a pipeline.

use crate::ast::{Aggregate, Field, Op, Pipeline, Relation, Scalar, Spanset, SpansetOp, Stage};
use crate::attribute::{View, holds};
use crate::trace::Trace;
use crate::value::{Regexes, Value, arithmetic, compare};
use br_model::AttributeValue;
use std::collections::BTreeMap;

/// Spans of one trace that belong together.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Set {
    /// Positions in the trace, ascending.
    pub(crate) spans: Vec<usize>,
    /// What `by` grouped by, outermost first.
    pub(crate) groups: Vec<AttributeValue>,
}

pub(crate) struct Evaluation<'a> {
    pub(crate) trace: &'a Trace,
    pub(crate) regexes: &'a Regexes,
}

impl<'a> Evaluation<'a> {
    /// The spansets that are left at the end; none when the trace does not match.
    pub(crate) fn run(&self, pipeline: &'a Pipeline) -> Vec<Set> {
        let all = Set { spans: (0..self.trace.spans.len()).collect(), groups: Vec::new() };
        self.run_on(pipeline, vec![all])
    }

    fn run_on(&self, pipeline: &'a Pipeline, mut sets: Vec<Set>) -> Vec<Set> {
        for stage in &pipeline.stages {
            sets = self.stage(stage, sets);
            sets.retain(|set| !set.spans.is_empty());
            if sets.is_empty() {
                break;
            }
        }
        sets
    }

    fn stage(&self, stage: &'a Stage, sets: Vec<Set>) -> Vec<Set> {
        match stage {
            Stage::Spanset(spanset) => {
                let narrowed = |set: Set| Set { spans: self.spanset(spanset, &set.spans), groups: set.groups };
                sets.into_iter().map(narrowed).collect()
            }
            Stage::Filter { op, left, right } => {
                sets.into_iter().filter(|set| self.filter(*op, left, right, &set.spans)).collect()
            }
            Stage::By(field) => sets.iter().flat_map(|set| self.grouped(field, set)).collect(),
            Stage::Coalesce => {
                let mut spans: Vec<usize> = sets.into_iter().flat_map(|set| set.spans).collect();
                spans.sort_unstable();
                spans.dedup();
                vec![Set { spans, groups: Vec::new() }]
            }
            Stage::Select(_) | Stage::Value(_) => sets,
        }
    }

    fn view(&self, at: usize) -> View<'a> {
        View::of_trace(self.trace, at, self.regexes)
    }

    /// The spans among `input` that match.
    fn spanset(&self, spanset: &'a Spanset, input: &[usize]) -> Vec<usize> {
        match spanset {
            Spanset::Filter(field) => input.iter().copied().filter(|at| holds(self.view(*at), field)).collect(),
            Spanset::Pipeline(pipeline) => {
                let sets = self.run_on(pipeline, vec![Set { spans: input.to_vec(), groups: Vec::new() }]);
                united(sets.into_iter().flat_map(|set| set.spans).collect())
            }
            Spanset::Combine { op, left, right } => {
                let left = self.spanset(left, input);
                let right = self.spanset(right, input);
                match op {
                    SpansetOp::And if left.is_empty() || right.is_empty() => Vec::new(),
                    SpansetOp::And | SpansetOp::Or => united([left, right].concat()),
                    SpansetOp::Structural { relation, negated, union } => {
                        self.structural(*relation, *negated, *union, &left, &right)
                    }
                }
            }
        }
    }

    fn structural(&self, relation: Relation, negated: bool, union: bool, left: &[usize], right: &[usize]) -> Vec<usize> {
        let related = self.related(relation, left);
        let mut kept: Vec<usize> = right.iter().copied().filter(|at| related[*at] != negated).collect();
        if union {
            let back = match relation {
                Relation::Child => Relation::Parent,
                Relation::Parent => Relation::Child,
                Relation::Descendant => Relation::Ancestor,
                Relation::Ancestor => Relation::Descendant,
                Relation::Sibling => Relation::Sibling,
            };
            let related = self.related(back, right);
            kept.extend(left.iter().copied().filter(|at| related[*at]));
        }
        united(kept)
    }

    /// For each span, whether it stands in the relation to one of `of`.
    fn related(&self, relation: Relation, of: &[usize]) -> Vec<bool> {
        let trace = self.trace;
        let mut is_of = vec![false; trace.spans.len()];
        for at in of {
            is_of[*at] = true;
        }
        let mut related = vec![false; trace.spans.len()];
        match relation {
            Relation::Child => {
                for (at, parent) in trace.parents.iter().enumerate() {
                    related[at] = parent.is_some_and(|parent| is_of[parent]);
                }
            }
            Relation::Parent => {
                for parent in of.iter().filter_map(|at| trace.parents[*at]) {
                    related[parent] = true;
                }
            }
            Relation::Descendant => {
                for at in &trace.preorder {
                    related[*at] = trace.parents[*at].is_some_and(|parent| is_of[parent] || related[parent]);
                }
            }
            Relation::Ancestor => {
                for at in trace.preorder.iter().rev() {
                    if let Some(parent) = trace.parents[*at] {
                        related[parent] |= is_of[*at] || related[*at];
                    }
                }
            }
            Relation::Sibling => {
                for children in &trace.children {
                    let count = children.iter().filter(|at| is_of[**at]).count();
                    for at in children {
                        related[*at] = count > usize::from(is_of[*at]);
                    }
                }
            }
        }
        related
    }

    fn grouped(&self, field: &'a Field, set: &Set) -> Vec<Set> {
        let mut groups: BTreeMap<String, Set> = BTreeMap::new();
        for at in &set.spans {
            let value = self.view(*at).field(field).to_attribute();
            let group = groups.entry(format!("{value:?}")).or_insert_with(|| {
                let mut groups = set.groups.clone();
                groups.push(value);
                Set { spans: Vec::new(), groups }
            });
            group.spans.push(*at);
        }
        groups.into_values().collect()
    }

    fn filter(&self, op: Op, left: &'a Scalar, right: &'a Scalar, spans: &[usize]) -> bool {
        let (Some(left), Some(right)) = (self.scalar(left, spans), self.scalar(right, spans)) else { return false };
        compare(op, &Value::Float(left), &Value::Float(right), self.regexes)
    }

    /// Durations in nanoseconds; `None` when no span has the field.
    fn scalar(&self, scalar: &'a Scalar, spans: &[usize]) -> Option<f64> {
        match scalar {
            Scalar::Static(value) => Value::from_static(value).as_number(),
            Scalar::Binary { op, left, right } => arithmetic(*op, self.scalar(left, spans)?, self.scalar(right, spans)?),
            Scalar::Aggregate { op, field, .. } => {
                let Some(field) = field else { return Some(spans.len() as f64) };
                let values = spans.iter().filter_map(|at| self.view(*at).field(field).as_number());
                match op {
                    Aggregate::Count => Some(spans.len() as f64),
                    Aggregate::Min => values.reduce(f64::min),
                    Aggregate::Max => values.reduce(f64::max),
                    Aggregate::Sum => values.reduce(|sum, value| sum + value),
                    Aggregate::Avg => {
                        let (count, sum) = values.fold((0u64, 0.0), |(count, sum), value| (count + 1, sum + value));
                        (count > 0).then(|| sum / count as f64)
                    }
                }
            }
        }
    }
}

fn united(mut spans: Vec<usize>) -> Vec<usize> {
    spans.sort_unstable();
    spans.dedup();
    spans
}
