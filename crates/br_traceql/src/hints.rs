//! What a store may skip, and which spans make their trace a candidate.

use crate::ast::{Field, FieldKind, Intrinsic, Op, Pipeline, Place, Spanset, SpansetOp, Stage, Static};
use br_model::{AttributeValue, SpanStatus, TraceId};
use br_storage::SpanHint;

/// Filters one of which must hold for some span of every trace that matches; empty when any trace may.
pub(crate) fn leaves(pipeline: &Pipeline) -> Vec<&Field> {
    let mut found = Vec::new();
    match pipeline.stages.first() {
        Some(Stage::Spanset(spanset)) if collect(spanset, &mut found) => found,
        _ => Vec::new(),
    }
}

/// False when the spanset can match without any of the filters.
fn collect<'a>(spanset: &'a Spanset, found: &mut Vec<&'a Field>) -> bool {
    match spanset {
        Spanset::Filter(field) => {
            found.push(field);
            true
        }
        // Both sides must be there, so one is enough to find the trace; the right one is what comes out.
        Spanset::Combine { op: SpansetOp::And | SpansetOp::Structural { .. }, right, .. } => collect(right, found),
        Spanset::Combine { op: SpansetOp::Or, left, right } => collect(left, found) && collect(right, found),
        Spanset::Pipeline(inner) => match inner.stages.first() {
            Some(Stage::Spanset(spanset)) => collect(spanset, found),
            _ => false,
        },
    }
}

/// Conditions that every candidate span satisfies.
pub fn span_hints(pipeline: &Pipeline) -> Vec<SpanHint> {
    let mut hints = Vec::new();
    if let [field] = leaves(pipeline).as_slice() {
        conjuncts(field, &mut hints);
    }
    hints
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
        (Place::Any(key) | Place::Span(key) | Place::Resource(key), Op::Equal, _) => {
            SpanHint::AttributeEquals { key: key.clone(), value: attribute_value(value)? }
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
