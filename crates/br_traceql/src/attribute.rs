//! Fields of a span.

use crate::ast::{Attribute, Field, FieldKind, Intrinsic, Op, Place, Static};
use crate::trace::Trace;
use crate::value::{Regexes, Value, arithmetic, compare};
use br_model::Attributes;
use br_storage::StoredSpan;
use std::borrow::Cow;

/// A span, with its trace where that is at hand.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) stored: &'a StoredSpan,
    pub(crate) trace: Option<(&'a Trace, usize)>,
    pub(crate) regexes: &'a Regexes,
}

impl<'a> View<'a> {
    pub(crate) fn of_trace(trace: &'a Trace, at: usize, regexes: &'a Regexes) -> Self {
        Self { stored: &trace.spans[at], trace: Some((trace, at)), regexes }
    }

    pub(crate) fn field(&self, field: &'a Field) -> Value<'a> {
        match &field.kind {
            FieldKind::Static(value) => Value::from_static(value),
            FieldKind::Attribute(attribute) => self.attribute(attribute),
            FieldKind::Not(inner) => match self.field(inner) {
                Value::Bool(value) => Value::Bool(!value),
                _ => Value::Nil,
            },
            FieldKind::Negative(inner) => match self.field(inner) {
                Value::Int(number) => Value::Int(number.wrapping_neg()),
                Value::Float(number) => Value::Float(-number),
                Value::Duration(nanos) => Value::Duration(nanos.wrapping_neg()),
                _ => Value::Nil,
            },
            FieldKind::Binary { op, left, right } => self.binary(*op, left, right),
        }
    }

    fn binary(&self, op: Op, left: &'a Field, right: &'a Field) -> Value<'a> {
        if op.is_logic() {
            let left = self.field(left).is_true();
            let decided = left == (op == Op::Or);
            return Value::Bool(if decided { left } else { self.field(right).is_true() });
        }
        let (left, right) = (self.field(left), self.field(right));
        if !op.is_arithmetic() {
            return Value::Bool(compare(op, &left, &right, self.regexes));
        }
        let (Some(left), Some(right)) = (left.as_number(), right.as_number()) else { return Value::Nil };
        arithmetic(op, left, right).map_or(Value::Nil, Value::Float)
    }

    fn attribute(&self, attribute: &'a Attribute) -> Value<'a> {
        if !attribute.of_parent {
            return self.place(&attribute.place);
        }
        let parent = self.trace.and_then(|(trace, at)| Some((trace, trace.parents[at]?)));
        parent.map_or(Value::Nil, |(trace, at)| View::of_trace(trace, at, self.regexes).place(&attribute.place))
    }

    fn place(&self, place: &'a Place) -> Value<'a> {
        let StoredSpan { resource, scope, span } = self.stored;
        let one = |attributes: &'a Attributes, name: &str| attributes.get(name).map(Value::from_attribute);
        match place {
            Place::Any(name) => one(&span.attributes, name).or_else(|| one(&resource.attributes, name)),
            Place::Span(name) => one(&span.attributes, name),
            Place::Resource(name) => one(&resource.attributes, name),
            Place::Instrumentation(name) => one(&scope.attributes, name),
            Place::Event(name) => many(span.events.iter().filter_map(|event| one(&event.attributes, name))),
            Place::Link(name) => many(span.links.iter().filter_map(|link| one(&link.attributes, name))),
            Place::Intrinsic(intrinsic) => return self.intrinsic(*intrinsic),
        }
        .unwrap_or(Value::Nil)
    }

    fn intrinsic(&self, intrinsic: Intrinsic) -> Value<'a> {
        let StoredSpan { scope, span, .. } = self.stored;
        let text = |text: &'a str| Value::String(Cow::Borrowed(text));
        let owned = |text: String| Value::String(Cow::Owned(text));
        match intrinsic {
            Intrinsic::Duration => Value::Duration(span.duration_nanos()),
            Intrinsic::Name => text(&span.name),
            Intrinsic::Status => Value::Status(span.status),
            Intrinsic::StatusMessage => text(&span.status_message),
            Intrinsic::Kind => Value::Kind(span.kind),
            Intrinsic::SpanId => owned(span.span_id.to_string()),
            Intrinsic::ParentId if span.parent_span_id.is_none() => text(""),
            Intrinsic::ParentId => owned(span.parent_span_id.to_string()),
            Intrinsic::TraceId => owned(span.trace_id.to_string()),
            Intrinsic::InstrumentationName => text(&scope.name),
            Intrinsic::InstrumentationVersion => text(&scope.version),
            Intrinsic::EventName => many(span.events.iter().map(|event| text(&event.name))).unwrap_or(Value::Nil),
            Intrinsic::EventTimeSinceStart => {
                let since = |time: i64| Value::Duration(time.saturating_sub(span.start.0));
                many(span.events.iter().map(|event| since(event.timestamp.0))).unwrap_or(Value::Nil)
            }
            Intrinsic::LinkTraceId => many(span.links.iter().map(|link| owned(link.trace_id.to_string()))).unwrap_or(Value::Nil),
            Intrinsic::LinkSpanId => many(span.links.iter().map(|link| owned(link.span_id.to_string()))).unwrap_or(Value::Nil),
            // As in Tempo, that of a root is -1, and 0 where the parent is missing.
            Intrinsic::NestedSetParent if span.parent_span_id.is_none() => Value::Int(-1),
            // Without the trace nobody asks for more than whether it is a root.
            Intrinsic::NestedSetParent if self.trace.is_none() => Value::Int(0),
            Intrinsic::ChildCount
            | Intrinsic::NestedSetLeft
            | Intrinsic::NestedSetRight
            | Intrinsic::NestedSetParent
            | Intrinsic::RootName
            | Intrinsic::RootService
            | Intrinsic::TraceDuration => self.trace.map_or(Value::Nil, |(trace, at)| of_trace(intrinsic, trace, at)),
        }
    }
}

fn of_trace(intrinsic: Intrinsic, trace: &Trace, at: usize) -> Value<'_> {
    let text = |text: Option<&'_ str>| text.map_or(Value::Nil, |text| Value::String(Cow::Owned(text.to_owned())));
    match intrinsic {
        Intrinsic::ChildCount => Value::Int(trace.children[at].len() as i64),
        Intrinsic::NestedSetLeft => Value::Int(trace.nested_set[at].0),
        Intrinsic::NestedSetRight => Value::Int(trace.nested_set[at].1),
        Intrinsic::NestedSetParent => Value::Int(trace.parents[at].map_or(0, |parent| trace.nested_set[parent].0)),
        Intrinsic::RootName => text(trace.root().map(|root| root.span.name.as_str())),
        Intrinsic::RootService => text(trace.root().map(|root| root.resource.service_name())),
        _ => {
            let (start, end) = trace.bounds();
            Value::Duration(end.saturating_sub(start))
        }
    }
}

fn many<'a>(values: impl Iterator<Item = Value<'a>>) -> Option<Value<'a>> {
    let values: Vec<Value<'a>> = values.collect();
    (!values.is_empty()).then_some(Value::Many(values))
}

/// Whether a span alone is enough to evaluate the field.
pub(crate) fn is_local(field: &Field) -> bool {
    match &field.kind {
        FieldKind::Static(_) => true,
        FieldKind::Attribute(attribute) => {
            let needs_trace = matches!(
                attribute.place,
                Place::Intrinsic(
                    Intrinsic::ChildCount
                        | Intrinsic::NestedSetLeft
                        | Intrinsic::NestedSetRight
                        | Intrinsic::NestedSetParent
                        | Intrinsic::RootName
                        | Intrinsic::RootService
                        | Intrinsic::TraceDuration
                )
            );
            !attribute.of_parent && !needs_trace
        }
        FieldKind::Not(inner) | FieldKind::Negative(inner) => is_local(inner),
        FieldKind::Binary { op, left, right } => asks_for_root(*op, left, right) || is_local(left) && is_local(right),
    }
}

/// `nestedSetParent < 0` and its like: whether the span is a root, which it says itself.
fn asks_for_root(op: Op, left: &Field, right: &Field) -> bool {
    let (FieldKind::Attribute(attribute), FieldKind::Static(Static::Int(number))) = (&left.kind, &right.kind) else {
        return false;
    };
    let is_decided = match op {
        Op::Less | Op::GreaterEqual => *number <= 0,
        Op::LessEqual | Op::Greater | Op::Equal | Op::NotEqual => *number < 0,
        _ => false,
    };
    is_decided && *attribute == Attribute { of_parent: false, place: Place::Intrinsic(Intrinsic::NestedSetParent) }
}

/// Whether a filter can hold of a span, as far as the span alone tells.
pub(crate) fn may_hold(view: View<'_>, field: &Field) -> bool {
    match &field.kind {
        FieldKind::Binary { op: Op::And, left, right } => may_hold(view, left) && may_hold(view, right),
        FieldKind::Binary { op: Op::Or, left, right } => may_hold(view, left) || may_hold(view, right),
        _ => !is_local(field) || holds(view, field),
    }
}

/// A filter holds when its field is true, or an attribute that stands alone is.
pub(crate) fn holds(view: View<'_>, field: &Field) -> bool {
    view.field(field).is_true()
}
