//! What a template computes with.

use std::fmt;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Nil,
    Text(String),
    Int(i64),
    Float(f64),
    Bool(bool),
    /// Nanoseconds since the epoch.
    Time(i64),
    List(Vec<Value>),
    /// Sorted by key.
    Map(Vec<(String, Value)>),
}

impl Value {
    /// Roughly what this holds.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Text(text) => text.len(),
                Self::List(items) => items.iter().map(Self::bytes).sum(),
                Self::Map(fields) => fields.iter().map(|(key, value)| size_of::<String>() + key.len() + value.bytes()).sum(),
                _ => 0,
            }
    }

    pub(super) fn is_true(&self) -> bool {
        match self {
            Self::Nil => false,
            Self::Text(text) => !text.is_empty(),
            Self::Int(number) => *number != 0,
            Self::Float(number) => *number != 0.0,
            Self::Bool(value) => *value,
            Self::Time(_) => true,
            Self::List(items) => !items.is_empty(),
            Self::Map(fields) => !fields.is_empty(),
        }
    }

    pub(super) fn field(&self, path: &[String]) -> Value {
        let mut value = self;
        for name in path {
            let Self::Map(fields) = value else { return Value::Nil };
            let Some((_, field)) = fields.iter().find(|(key, _)| key == name) else { return Value::Nil };
            value = field;
        }
        value.clone()
    }

    /// What `range` walks over, with the index or the key.
    pub(super) fn items(self) -> Result<Vec<(Value, Value)>, String> {
        match self {
            Self::List(items) => Ok(items.into_iter().enumerate().map(|(at, item)| (Value::Int(at as i64), item)).collect()),
            Self::Map(fields) => Ok(fields.into_iter().map(|(key, item)| (Value::Text(key), item)).collect()),
            Self::Nil => Ok(Vec::new()),
            other => Err(format!("range can't iterate over {other}")),
        }
    }

    pub(super) fn as_float(&self) -> f64 {
        match self {
            Self::Int(number) | Self::Time(number) => *number as f64,
            Self::Float(number) => *number,
            Self::Bool(value) => f64::from(u8::from(*value)),
            Self::Text(text) => text.trim().parse().unwrap_or(0.0),
            Self::Nil | Self::List(_) | Self::Map(_) => 0.0,
        }
    }

    /// Text that is no whole number loses its fraction.
    pub(super) fn as_int(&self) -> i64 {
        match self {
            Self::Int(number) | Self::Time(number) => *number,
            Self::Text(text) => text.trim().parse().unwrap_or_else(|_| self.as_float() as i64),
            _ => self.as_float() as i64,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nil => f.write_str("<no value>"),
            Self::Text(text) => f.write_str(text),
            Self::Int(number) => write!(f, "{number}"),
            Self::Float(number) => write!(f, "{number}"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Time(nanos) => match jiff::Timestamp::from_nanosecond(i128::from(*nanos)) {
                Ok(time) => f.write_str(&time.strftime("%Y-%m-%d %H:%M:%S%.f +0000 UTC").to_string()),
                Err(_) => write!(f, "{nanos}"),
            },
            Self::List(items) => {
                f.write_str("[")?;
                for (at, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if at > 0 { " " } else { "" })?;
                }
                f.write_str("]")
            }
            Self::Map(fields) => {
                f.write_str("map[")?;
                for (at, (key, value)) in fields.iter().enumerate() {
                    write!(f, "{}{key}:{value}", if at > 0 { " " } else { "" })?;
                }
                f.write_str("]")
            }
        }
    }
}
