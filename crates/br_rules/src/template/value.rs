//! Values inside a template, and how Go prints them.

use super::{numbers, time};
use br_model::Labels;
use br_std::Nanos;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    String(Arc<str>),
    List(Arc<Vec<Value>>),
    /// Text to value. A key that is missing is the empty text.
    Map(Arc<BTreeMap<String, Value>>),
    /// Named fields. One that is missing is an error.
    Struct(Arc<BTreeMap<String, Value>>),
    Time(Nanos),
    /// In nanoseconds.
    Duration(i64),
}

impl Value {
    pub fn from_labels(labels: &Labels) -> Self {
        Self::Map(Arc::new(labels.iter().map(|(name, value)| (name.to_owned(), Self::from(value))).collect()))
    }

    pub fn structure<'a>(fields: impl IntoIterator<Item = (&'a str, Self)>) -> Self {
        Self::Struct(Arc::new(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()))
    }

    pub fn list(values: Vec<Self>) -> Self {
        Self::List(Arc::new(values))
    }

    /// What `if` and `with` ask: everything but zero, empty and nil.
    pub(super) fn is_true(&self) -> bool {
        match self {
            Self::Nil => false,
            Self::Bool(value) => *value,
            Self::Int(value) | Self::Duration(value) => *value != 0,
            Self::Float(value) => *value != 0.0,
            Self::String(text) => !text.is_empty(),
            Self::List(values) => !values.is_empty(),
            Self::Map(map) => !map.is_empty(),
            Self::Struct(_) | Self::Time(_) => true,
        }
    }

    /// Go's word for the type, for messages.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Nil => "nil",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float64",
            Self::String(_) => "string",
            Self::List(_) => "list",
            Self::Map(_) => "map[string]string",
            Self::Struct(_) => "struct",
            Self::Time(_) => "time.Time",
            Self::Duration(_) => "time.Duration",
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text.into())
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

/// As Go's `%v`.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nil => f.write_str("<no value>"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Int(value) => write!(f, "{value}"),
            Self::Float(value) => f.write_str(&numbers::shortest(*value)),
            Self::String(text) => f.write_str(text),
            Self::List(values) => {
                f.write_str("[")?;
                for (at, value) in values.iter().enumerate() {
                    let space = if at > 0 { " " } else { "" };
                    write!(f, "{space}{value}")?;
                }
                f.write_str("]")
            }
            Self::Map(map) => {
                f.write_str("map[")?;
                for (at, (key, value)) in map.iter().enumerate() {
                    let space = if at > 0 { " " } else { "" };
                    write!(f, "{space}{key}:{value}")?;
                }
                f.write_str("]")
            }
            Self::Struct(fields) => {
                f.write_str("{")?;
                for (at, value) in fields.values().enumerate() {
                    let space = if at > 0 { " " } else { "" };
                    write!(f, "{space}{value}")?;
                }
                f.write_str("}")
            }
            Self::Time(at) => f.write_str(&time::show(*at)),
            Self::Duration(nanos) => f.write_str(&time::show_duration(*nanos)),
        }
    }
}
