//! What fields evaluate to, and how values compare.

use crate::ast::{Op, Static};
use br_model::{AttributeValue, SpanKind, SpanStatus};
use br_std::re2::{Mode, Regex};
use std::borrow::Cow;
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    Nil,
    Int(i64),
    Float(f64),
    /// Nanoseconds.
    Duration(i64),
    String(Cow<'a, str>),
    Bool(bool),
    Status(SpanStatus),
    Kind(SpanKind),
    /// Matches when any of them does.
    Many(Vec<Value<'a>>),
}

impl<'a> Value<'a> {
    pub(crate) fn from_static(value: &'a Static) -> Self {
        match value {
            Static::Nil => Self::Nil,
            Static::Int(number) => Self::Int(*number),
            Static::Float(number) => Self::Float(*number),
            Static::Duration(nanos) => Self::Duration(*nanos),
            Static::String(text) => Self::String(Cow::Borrowed(text)),
            Static::Bool(value) => Self::Bool(*value),
            Static::Status(status) => Self::Status(*status),
            Static::Kind(kind) => Self::Kind(*kind),
        }
    }

    pub(crate) fn from_attribute(value: &'a AttributeValue) -> Self {
        match value {
            AttributeValue::String(text) => Self::String(Cow::Borrowed(text)),
            AttributeValue::Bool(value) => Self::Bool(*value),
            AttributeValue::Int(number) => Self::Int(*number),
            AttributeValue::Double(number) => Self::Float(*number),
            AttributeValue::Array(values) => Self::Many(values.iter().map(Self::from_attribute).collect()),
            AttributeValue::Bytes(_) | AttributeValue::Map(_) => Self::String(Cow::Owned(value.to_string())),
            AttributeValue::Empty => Self::Nil,
        }
    }

    /// Durations in nanoseconds.
    pub(crate) fn as_number(&self) -> Option<f64> {
        match self {
            Self::Int(number) | Self::Duration(number) => Some(*number as f64),
            Self::Float(number) => Some(*number),
            _ => None,
        }
    }

    pub(crate) fn is_true(&self) -> bool {
        match self {
            Self::Bool(value) => *value,
            Self::Many(values) => values.iter().any(Self::is_true),
            _ => false,
        }
    }

    /// The text of a label or of a group; `nil` where nothing is.
    pub(crate) fn to_attribute(&self) -> AttributeValue {
        match self {
            Self::Nil => AttributeValue::Empty,
            Self::Int(number) | Self::Duration(number) => AttributeValue::Int(*number),
            Self::Float(number) => AttributeValue::Double(*number),
            Self::String(text) => AttributeValue::String(text.clone().into_owned()),
            Self::Bool(value) => AttributeValue::Bool(*value),
            Self::Status(status) => AttributeValue::String(status.as_str().to_owned()),
            Self::Kind(kind) => AttributeValue::String(kind.as_str().to_owned()),
            Self::Many(values) => AttributeValue::Array(values.iter().map(Self::to_attribute).collect()),
        }
    }
}

/// Compiled expressions by pattern.
pub(crate) type Regexes = BTreeMap<String, Regex>;

/// A compiled regular expression may take this many bytes.
const REGEX_BYTES_MAX: usize = 256 << 10;

/// Anchored at both ends.
pub(crate) fn regex(pattern: &str) -> Result<Regex, String> {
    Regex::with_size(pattern, Mode::WholeLine, REGEX_BYTES_MAX).map_err(|error| error.message().to_owned())
}

pub(crate) fn arithmetic(op: Op, left: f64, right: f64) -> Option<f64> {
    Some(match op {
        Op::Add => left + right,
        Op::Subtract => left - right,
        Op::Multiply => left * right,
        Op::Divide => left / right,
        Op::Modulo => left % right,
        Op::Power => left.powf(right),
        _ => return None,
    })
}

/// Whether the comparison holds. Values of different types differ, and nothing else holds between them.
pub(crate) fn compare(op: Op, left: &Value<'_>, right: &Value<'_>, regexes: &Regexes) -> bool {
    if let Value::Many(values) = left {
        return values.iter().any(|value| compare(op, value, right, regexes));
    }
    if let Value::Many(values) = right {
        return values.iter().any(|value| compare(op, left, value, regexes));
    }
    match (op, left, right) {
        (Op::Equal, Value::Nil, Value::Nil) => true,
        (Op::NotEqual, Value::Nil, Value::Nil) => false,
        (Op::NotEqual, _, Value::Nil) | (Op::NotEqual, Value::Nil, _) => !matches!((left, right), (Value::Nil, Value::Nil)),
        (_, Value::Nil, _) | (_, _, Value::Nil) => false,
        (Op::Regex | Op::NotRegex, Value::String(text), Value::String(pattern)) => {
            let matches = match regexes.get(pattern.as_ref()) {
                Some(regex) => regex.is_match(text),
                None => regex(pattern).is_ok_and(|regex| regex.is_match(text)),
            };
            matches == (op == Op::Regex)
        }
        (_, Value::String(left), Value::String(right)) => ordered(op, left.cmp(right)),
        (Op::Equal, Value::Bool(_) | Value::Status(_) | Value::Kind(_), _) => left == right,
        (Op::NotEqual, Value::Bool(_) | Value::Status(_) | Value::Kind(_), _) => left != right,
        _ => match (left.as_number(), right.as_number()) {
            (Some(left), Some(right)) => left.partial_cmp(&right).is_some_and(|order| ordered(op, order)),
            _ => op == Op::NotEqual,
        },
    }
}

fn ordered(op: Op, order: std::cmp::Ordering) -> bool {
    match op {
        Op::Equal => order.is_eq(),
        Op::NotEqual => order.is_ne(),
        Op::Less => order.is_lt(),
        Op::LessEqual => order.is_le(),
        Op::Greater => order.is_gt(),
        Op::GreaterEqual => order.is_ge(),
        _ => false,
    }
}
