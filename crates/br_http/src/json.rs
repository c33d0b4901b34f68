//! Pieces of JSON that several APIs share.

use br_model::{AttributeValue, Attributes, Labels};
use serde_json::{Map, Value};

pub(crate) fn labels(labels: &Labels) -> Value {
    Value::Object(labels.iter().map(|(name, value)| (name.to_owned(), Value::String(value.to_owned()))).collect())
}

/// Attributes with their types; of a key that comes twice the first counts.
pub(crate) fn attributes(attributes: &Attributes) -> Value {
    let mut object = Map::new();
    for (key, value) in attributes {
        if !object.contains_key(key) {
            object.insert(key.clone(), attribute(value));
        }
    }
    Value::Object(object)
}

/// Whole numbers that JavaScript cannot hold become text.
pub(crate) fn attribute(value: &AttributeValue) -> Value {
    const SAFE: u64 = 1 << 53;
    match value {
        AttributeValue::String(text) => Value::String(text.clone()),
        AttributeValue::Bool(value) => Value::Bool(*value),
        AttributeValue::Int(value) if value.unsigned_abs() <= SAFE => Value::from(*value),
        AttributeValue::Int(value) => Value::String(value.to_string()),
        AttributeValue::Double(value) => {
            serde_json::Number::from_f64(*value).map_or_else(|| Value::String(value.to_string()), Value::Number)
        }
        AttributeValue::Bytes(_) => Value::String(value.to_string().trim_matches('"').to_owned()),
        AttributeValue::Array(values) => values.iter().map(attribute).collect(),
        AttributeValue::Map(map) => attributes(map),
        AttributeValue::Empty => Value::Null,
    }
}
