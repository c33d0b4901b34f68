//! Attributes as OpenTelemetry has them: keys with typed values, in the order in which they came.

use std::fmt;

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum AttributeValue {
    String(String),
    Bool(bool),
    Int(i64),
    Double(f64),
    Bytes(Vec<u8>),
    Array(Vec<AttributeValue>),
    Map(Attributes),
    /// OpenTelemetry's AnyValue without a value.
    Empty,
}

impl AttributeValue {
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }
}

/// The text that a label, a column or a person sees: a string is itself, everything else is JSON.
impl fmt::Display for AttributeValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::String(text) => f.write_str(text),
            _ => self.write_json(f),
        }
    }
}

impl AttributeValue {
    /// Writes the value as JSON; bytes become hexadecimal text, NaN and infinities become strings.
    pub fn write_json(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        match self {
            Self::String(text) => write_json_string(out, text),
            Self::Bool(value) => write!(out, "{value}"),
            Self::Int(value) => write!(out, "{value}"),
            Self::Double(value) if value.is_finite() => write!(out, "{value:?}"),
            Self::Double(value) => write!(out, "\"{value}\""),
            Self::Bytes(bytes) => write!(out, "\"{}\"", hex::encode(bytes)),
            Self::Array(values) => {
                out.write_char('[')?;
                for (at, value) in values.iter().enumerate() {
                    if at > 0 {
                        out.write_char(',')?;
                    }
                    value.write_json(out)?;
                }
                out.write_char(']')
            }
            Self::Map(attributes) => {
                out.write_char('{')?;
                for (at, (key, value)) in attributes.iter().enumerate() {
                    if at > 0 {
                        out.write_char(',')?;
                    }
                    write_json_string(out, key)?;
                    out.write_char(':')?;
                    value.write_json(out)?;
                }
                out.write_char('}')
            }
            Self::Empty => out.write_str("null"),
        }
    }
}

fn write_json_string(out: &mut dyn fmt::Write, text: &str) -> fmt::Result {
    out.write_char('"')?;
    for character in text.chars() {
        match character {
            '"' => out.write_str("\\\"")?,
            '\\' => out.write_str("\\\\")?,
            '\n' => out.write_str("\\n")?,
            '\r' => out.write_str("\\r")?,
            '\t' => out.write_str("\\t")?,
            character if (character as u32) < 0x20 => write!(out, "\\u{:04x}", character as u32)?,
            character => out.write_char(character)?,
        }
    }
    out.write_char('"')
}

impl From<&str> for AttributeValue {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<String> for AttributeValue {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

impl From<i64> for AttributeValue {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<f64> for AttributeValue {
    fn from(value: f64) -> Self {
        Self::Double(value)
    }
}

impl From<bool> for AttributeValue {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

/// Keys with values, in the order in which they came. A key that comes twice counts once: the first wins on reading.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attributes(pub Vec<(String, AttributeValue)>);

impl AttributeValue {
    /// What it holds beside itself, about.
    pub fn heap_bytes(&self) -> usize {
        match self {
            Self::String(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
            Self::Array(values) => values.iter().map(|value| size_of::<Self>() + value.heap_bytes()).sum(),
            Self::Map(map) => map.heap_bytes(),
            Self::Bool(_) | Self::Int(_) | Self::Double(_) | Self::Empty => 0,
        }
    }
}

impl Attributes {
    /// What they take in memory, about.
    pub fn heap_bytes(&self) -> usize {
        self.0.iter().map(|(key, value)| size_of::<(String, AttributeValue)>() + key.len() + value.heap_bytes()).sum()
    }

    pub fn get(&self, key: &str) -> Option<&AttributeValue> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    pub fn get_str(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(AttributeValue::as_str)
    }

    pub fn push(&mut self, key: impl Into<String>, value: impl Into<AttributeValue>) {
        self.0.push((key.into(), value.into()));
    }

    pub fn iter(&self) -> std::slice::Iter<'_, (String, AttributeValue)> {
        self.0.iter()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> IntoIterator for &'a Attributes {
    type Item = &'a (String, AttributeValue);
    type IntoIter = std::slice::Iter<'a, (String, AttributeValue)>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<K: Into<String>, V: Into<AttributeValue>> FromIterator<(K, V)> for Attributes {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
    }
}

/// Who sent a record: the process, its host, its version. All records of one resource form one stream.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resource {
    pub attributes: Attributes,
}

impl Resource {
    /// `service.name`, or OpenTelemetry's word for a sender that does not say who it is.
    pub fn service_name(&self) -> &str {
        self.attributes.get_str("service.name").unwrap_or("unknown_service")
    }
}

/// Which library inside the sender made a record.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scope {
    pub name: String,
    pub version: String,
    pub attributes: Attributes,
}
