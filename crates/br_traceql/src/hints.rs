//! What a store may skip, and which spans make their trace a candidate.

use crate::ast::{Field, FieldKind, Intrinsic, Op, Pipeline, Place, Scalar, Spanset, SpansetOp, Stage, Static};
use crate::attribute::{View, is_local, may_hold};
use crate::value::Regexes;
use br_model::{AttributeValue, SpanStatus, TraceId};
use br_storage::{SpanHint, SpanParts, StoredSpan};

/// What a trace must have for a pipeline to find something in it.
pub(crate) struct Requirement<'a> {
    /// Each is satisfied by some span of the trace; the last one by a span of those that come out.
    clauses: Vec<Clause<'a>>,
}

/// A span satisfies it when all filters of one of these hold.
pub(crate) struct Clause<'a>(Vec<Vec<&'a Field>>);

impl<'a> Requirement<'a> {
    pub(crate) fn of(pipeline: &'a Pipeline) -> Self {
        let mut clauses: Vec<Clause<'a>> = Vec::new();
        // While nothing but filters came, each further one looks at the very same spans.
        let mut only_filters = true;
        for stage in &pipeline.stages {
            match stage {
                Stage::Spanset(Spanset::Filter(field)) if only_filters && !clauses.is_empty() => {
                    for filters in clauses.iter_mut().flat_map(|clause| &mut clause.0) {
                        filters.push(field);
                    }
                }
                Stage::Spanset(spanset) => {
                    only_filters &= matches!(spanset, Spanset::Filter(_));
                    clauses.extend(Self::of_spanset(spanset).clauses);
                }
                _ => {}
            }
        }
        Self { clauses }
    }

    fn of_spanset(spanset: &'a Spanset) -> Self {
        let clauses = match spanset {
            Spanset::Filter(field) => vec![Clause(vec![vec![field]])],
            Spanset::Pipeline(inner) => return Self::of(inner),
            Spanset::Combine { op, left, right } => {
                let (mut left, mut right) = (Self::of_spanset(left), Self::of_spanset(right));
                match op {
                    SpansetOp::And | SpansetOp::Structural { negated: false, .. } => {
                        left.clauses.append(&mut right.clauses);
                        left.clauses
                    }
                    // Nothing on the left is fine: then all of the right side comes out.
                    SpansetOp::Structural { negated: true, .. } => right.clauses,
                    SpansetOp::Or => match (left.clauses.pop(), right.clauses.pop()) {
                        (Some(Clause(one)), Some(Clause(other))) => vec![Clause(one.into_iter().chain(other).collect())],
                        _ => Vec::new(),
                    },
                }
            }
        };
        Self { clauses }
    }

    /// The clause that spans which come out satisfy; `None` when any span may.
    pub(crate) fn main(&self) -> Option<&Clause<'a>> {
        self.clauses.last()
    }

    /// What other spans of the trace satisfy.
    pub(crate) fn others(&self) -> &[Clause<'a>] {
        self.clauses.split_last().map_or(&[], |(_, others)| others)
    }
}

impl Clause<'_> {
    /// What depends on the rest of the trace counts as satisfied.
    pub(crate) fn may_hold(&self, stored: &StoredSpan, regexes: &Regexes) -> bool {
        let view = View { stored, trace: None, regexes };
        self.0.iter().any(|filters| filters.iter().all(|field| may_hold(view, field)))
    }

    /// Whether a span alone decides.
    pub(crate) fn is_local(&self) -> bool {
        self.0.iter().flatten().all(|field| is_local(field))
    }

    /// Conditions that every span which satisfies it has.
    pub(crate) fn hints(&self) -> Vec<SpanHint> {
        let mut hints = Vec::new();
        if let [filters] = self.0.as_slice() {
            for field in filters {
                conjuncts(field, &mut hints);
            }
        }
        hints
    }

    pub(crate) fn parts(&self) -> SpanParts {
        let mut parts = SpanParts::NONE;
        self.add_parts(&mut parts);
        parts
    }

    pub(crate) fn add_parts(&self, parts: &mut SpanParts) {
        self.0.iter().flatten().for_each(|field| visit(field, &mut |field| add_parts(field, parts)));
    }
}

/// What an evaluation of the pipeline on whole traces looks at.
pub(crate) fn parts_of(pipeline: &Pipeline) -> SpanParts {
    let mut parts = SpanParts::NONE;
    visit_fields(pipeline, true, &mut |field| add_parts(field, &mut parts));
    parts
}

/// Adds what one attribute looks at.
pub(crate) fn add_parts(field: &Field, parts: &mut SpanParts) {
    let FieldKind::Attribute(attribute) = &field.kind else { return };
    match &attribute.place {
        Place::Any(key) | Place::Span(key) => parts.add_key(key),
        Place::Event(_) | Place::Intrinsic(Intrinsic::EventName | Intrinsic::EventTimeSinceStart) => parts.events = true,
        Place::Link(_) | Place::Intrinsic(Intrinsic::LinkTraceId | Intrinsic::LinkSpanId) => parts.links = true,
        Place::Intrinsic(Intrinsic::StatusMessage) => parts.texts = true,
        Place::Resource(_) | Place::Instrumentation(_) | Place::Intrinsic(_) => {}
    }
}

/// Goes over the attributes that a pipeline names in filters, groups and selections, and in aggregates when these are wanted.
pub(crate) fn visit_fields<'a>(pipeline: &'a Pipeline, with_aggregates: bool, look: &mut dyn FnMut(&'a Field)) {
    for stage in &pipeline.stages {
        match stage {
            Stage::Spanset(spanset) => visit_spanset(spanset, with_aggregates, look),
            Stage::Filter { left, right, .. } if with_aggregates => {
                visit_scalar(left, look);
                visit_scalar(right, look);
            }
            Stage::Value(scalar) if with_aggregates => visit_scalar(scalar, look),
            Stage::By(field) => visit(field, look),
            Stage::Select(fields) => fields.iter().for_each(|field| visit(field, look)),
            Stage::Filter { .. } | Stage::Value(_) | Stage::Coalesce => {}
        }
    }
}

pub(crate) fn visit_spanset<'a>(spanset: &'a Spanset, with_aggregates: bool, look: &mut dyn FnMut(&'a Field)) {
    match spanset {
        Spanset::Filter(field) => visit(field, look),
        Spanset::Pipeline(pipeline) => visit_fields(pipeline, with_aggregates, look),
        Spanset::Combine { left, right, .. } => {
            visit_spanset(left, with_aggregates, look);
            visit_spanset(right, with_aggregates, look);
        }
    }
}

fn visit_scalar<'a>(scalar: &'a Scalar, look: &mut dyn FnMut(&'a Field)) {
    match scalar {
        Scalar::Static(_) | Scalar::Aggregate { field: None, .. } => {}
        Scalar::Aggregate { field: Some(field), .. } => visit(field, look),
        Scalar::Binary { left, right, .. } => {
            visit_scalar(left, look);
            visit_scalar(right, look);
        }
    }
}

/// Goes over the attributes in a field.
pub(crate) fn visit<'a>(field: &'a Field, look: &mut dyn FnMut(&'a Field)) {
    match &field.kind {
        FieldKind::Static(_) => {}
        FieldKind::Attribute(_) => look(field),
        FieldKind::Not(inner) | FieldKind::Negative(inner) => visit(inner, look),
        FieldKind::Binary { left, right, .. } => {
            visit(left, look);
            visit(right, look);
        }
    }
}

/// Conditions that every candidate span satisfies.
pub fn span_hints(pipeline: &Pipeline) -> Vec<SpanHint> {
    Requirement::of(pipeline).main().map(Clause::hints).unwrap_or_default()
}

fn conjuncts(field: &Field, hints: &mut Vec<SpanHint>) {
    let FieldKind::Binary { op, left, right } = &field.kind else { return };
    if *op == Op::And {
        conjuncts(left, hints);
        conjuncts(right, hints);
        return;
    }
    if let (FieldKind::Attribute(attribute), FieldKind::Static(value)) = (&left.kind, &right.kind)
        && !attribute.of_parent
    {
        hints.extend(hint(&attribute.place, *op, value));
    }
}

fn hint(place: &Place, op: Op, value: &Static) -> Option<SpanHint> {
    Some(match (place, op, value) {
        (Place::Resource(name), Op::Equal, Static::String(service)) if name == "service.name" => {
            SpanHint::Service(service.clone())
        }
        (Place::Any(key) | Place::Span(key) | Place::Resource(key), Op::Equal, Static::String(_) | Static::Bool(_)) => {
            SpanHint::AttributeEquals { key: key.clone(), value: attribute_value(value)? }
        }
        (Place::Any(key) | Place::Span(key) | Place::Resource(key), _, Static::Int(_) | Static::Float(_)) => {
            let number = match value {
                Static::Float(number) => *number,
                Static::Int(number) => *number as f64,
                _ => return None,
            };
            let (low, high) = match op {
                Op::Equal => (number, number),
                Op::Greater | Op::GreaterEqual => (number, f64::INFINITY),
                Op::Less | Op::LessEqual => (f64::NEG_INFINITY, number),
                _ => return None,
            };
            SpanHint::NumberBetween { key: key.clone(), low, high }
        }
        (Place::Intrinsic(Intrinsic::Name), Op::Equal, Static::String(name)) => SpanHint::Name(name.clone()),
        (Place::Intrinsic(Intrinsic::Status), Op::Equal, Static::Status(SpanStatus::Error)) => SpanHint::IsError,
        (Place::Intrinsic(Intrinsic::TraceId), Op::Equal, Static::String(id)) => SpanHint::TraceId(TraceId::from_hex(id)?),
        (Place::Intrinsic(Intrinsic::Duration), _, Static::Duration(nanos)) => match op {
            Op::Greater | Op::GreaterEqual => SpanHint::DurationNanosAtLeast(*nanos),
            Op::Less | Op::LessEqual => SpanHint::DurationNanosAtMost(*nanos),
            _ => return None,
        },
        _ => return None,
    })
}

/// Numbers are left out: an integer in the query also equals a floating-point attribute.
fn attribute_value(value: &Static) -> Option<AttributeValue> {
    match value {
        Static::String(text) => Some(AttributeValue::String(text.clone())),
        Static::Bool(value) => Some(AttributeValue::Bool(*value)),
        _ => None,
    }
}
