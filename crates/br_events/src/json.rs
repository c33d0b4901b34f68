//! Attributes as JSON text that gives back exactly what went in.
//!
//! Strings, booleans, integers, finite doubles (always with a point or an exponent) and null stand for themselves.
//! What JSON has no word for is an object with one key: `{"$double":"NaN"}`, `{"$bytes":"00ff"}`, and
//! `{"$map":[["key",value],…]}` for a map whose keys repeat or begin with `$`.

use br_model::{AttributeValue, Attributes, Resource, Scope};
use br_std::{Error, Result};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use std::fmt::{self, Write};

/// Nesting beyond this is kept as text, so that what was written can be read.
pub(crate) const DEPTH_MAX: usize = 24;

pub(crate) fn encode_value(value: &AttributeValue) -> String {
    let mut out = String::new();
    write_value(&mut out, value, 0);
    out
}

pub(crate) fn encode_attributes(attributes: &Attributes) -> String {
    let mut out = String::new();
    write_map(&mut out, attributes, 0);
    out
}

fn write_value(out: &mut String, value: &AttributeValue, depth: usize) {
    match value {
        AttributeValue::Array(_) | AttributeValue::Map(_) if depth >= DEPTH_MAX => write_string(out, &value.to_string()),
        AttributeValue::String(text) => write_string(out, text),
        AttributeValue::Double(number) if !number.is_finite() => write_tagged(out, "$double", &number.to_string()),
        AttributeValue::Bytes(bytes) => write_tagged(out, "$bytes", &hex::encode(bytes)),
        AttributeValue::Array(values) => {
            out.push('[');
            for (at, value) in values.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write_value(out, value, depth + 1);
            }
            out.push(']');
        }
        AttributeValue::Map(attributes) => write_map(out, attributes, depth + 1),
        AttributeValue::Bool(_) | AttributeValue::Int(_) | AttributeValue::Double(_) | AttributeValue::Empty => {
            let _ = value.write_json(out); // writing to a String does not fail
        }
    }
}

fn write_map(out: &mut String, attributes: &Attributes, depth: usize) {
    let repeats =
        || attributes.0.iter().enumerate().any(|(at, (key, _))| attributes.0[..at].iter().any(|(other, _)| other == key));
    let pairs = attributes.iter().any(|(key, _)| key.starts_with('$')) || repeats();
    out.push_str(if pairs { "{\"$map\":[" } else { "{" });
    for (at, (key, value)) in attributes.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        if pairs {
            out.push('[');
        }
        write_string(out, key);
        out.push(if pairs { ',' } else { ':' });
        write_value(out, value, depth);
        if pairs {
            out.push(']');
        }
    }
    out.push_str(if pairs { "]}" } else { "}" });
}

fn write_string(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            character if (character as u32) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", character as u32); // writing to a String does not fail
            }
            character => out.push(character),
        }
    }
    out.push('"');
}

fn write_tagged(out: &mut String, tag: &str, text: &str) {
    let _ = write!(out, "{{\"{tag}\":\"{text}\"}}"); // writing to a String does not fail
}

pub(crate) fn decode_value(text: &str) -> Result<AttributeValue> {
    let Typed(value) = serde_json::from_str(text).map_err(|error| Error::corrupt(format!("attribute value: {error}")))?;
    Ok(value)
}

pub(crate) fn decode_attributes(text: &str) -> Result<Attributes> {
    match decode_value(text)? {
        AttributeValue::Map(attributes) => Ok(attributes),
        _ => Err(Error::corrupt("attributes: not a JSON object")),
    }
}

pub(crate) fn encode_resource(resource: &Resource) -> String {
    encode_attributes(&resource.attributes)
}

pub(crate) fn decode_resource(text: &str) -> Result<Resource> {
    Ok(Resource { attributes: decode_attributes(text)? })
}

pub(crate) fn encode_scope(scope: &Scope) -> String {
    let mut object = Attributes::default();
    object.push("name", scope.name.clone());
    object.push("version", scope.version.clone());
    object.push("attributes", AttributeValue::Map(scope.attributes.clone()));
    encode_attributes(&object)
}

pub(crate) fn decode_scope(text: &str) -> Result<Scope> {
    let object = decode_attributes(text)?;
    Ok(Scope { name: text_of(&object, "name"), version: text_of(&object, "version"), attributes: map_of(&object, "attributes") })
}

pub(crate) fn text_of(object: &Attributes, key: &str) -> String {
    object.get_str(key).unwrap_or_default().to_owned()
}

pub(crate) fn map_of(object: &Attributes, key: &str) -> Attributes {
    match object.get(key) {
        Some(AttributeValue::Map(attributes)) => attributes.clone(),
        _ => Attributes::default(),
    }
}

/// A value that reads itself from the JSON above.
struct Typed(AttributeValue);

impl<'de> Deserialize<'de> for Typed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TypedVisitor).map(Self)
    }
}

struct TypedVisitor;

impl<'de> Visitor<'de> for TypedVisitor {
    type Value = AttributeValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an attribute value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<AttributeValue, E> {
        Ok(AttributeValue::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<AttributeValue, E> {
        Ok(AttributeValue::Int(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<AttributeValue, E> {
        Ok(i64::try_from(value).map_or(AttributeValue::Double(value as f64), AttributeValue::Int))
    }

    fn visit_f64<E>(self, value: f64) -> Result<AttributeValue, E> {
        Ok(AttributeValue::Double(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<AttributeValue, E> {
        Ok(AttributeValue::String(value.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<AttributeValue, E> {
        Ok(AttributeValue::Empty)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<AttributeValue, A::Error> {
        let mut values = Vec::new();
        while let Some(Typed(value)) = sequence.next_element()? {
            values.push(value);
        }
        Ok(AttributeValue::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<AttributeValue, A::Error> {
        let mut pairs = Vec::new();
        while let Some((key, Typed(value))) = map.next_entry::<String, Typed>()? {
            pairs.push((key, value));
        }
        Ok(untag(pairs))
    }
}

/// Turns an object with one of our tags into what it stands for.
fn untag(mut pairs: Vec<(String, AttributeValue)>) -> AttributeValue {
    if pairs.len() != 1 {
        return AttributeValue::Map(Attributes(pairs));
    }
    let untagged = match (pairs[0].0.as_str(), &pairs[0].1) {
        ("$double", AttributeValue::String(text)) => text.parse().ok().map(AttributeValue::Double),
        ("$bytes", AttributeValue::String(text)) => hex::decode(text).ok().map(AttributeValue::Bytes),
        ("$map", AttributeValue::Array(entries)) => {
            entries.iter().map(pair_of).collect::<Option<Vec<_>>>().map(|pairs| AttributeValue::Map(Attributes(pairs)))
        }
        _ => None,
    };
    untagged.unwrap_or_else(|| AttributeValue::Map(Attributes(std::mem::take(&mut pairs))))
}

fn pair_of(entry: &AttributeValue) -> Option<(String, AttributeValue)> {
    match entry {
        AttributeValue::Array(pair) => match pair.as_slice() {
            [AttributeValue::String(key), value] => Some((key.clone(), value.clone())),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: AttributeValue, expect: &str) {
        let text = encode_value(&value);
        assert_eq!(text, expect);
        assert_eq!(decode_value(&text).expect("own text"), value);
    }

    #[test]
    fn what_goes_in_comes_out() {
        check("a\"\\\n\u{1}é".into(), "\"a\\\"\\\\\\u000a\\u0001é\"");
        check(AttributeValue::Int(i64::MIN), "-9223372036854775808");
        check(AttributeValue::Double(1.0), "1.0");
        check(AttributeValue::Double(f64::INFINITY), r#"{"$double":"inf"}"#);
        check(AttributeValue::Bytes(vec![0, 255]), r#"{"$bytes":"00ff"}"#);
        check(AttributeValue::Array(vec![AttributeValue::Empty, true.into()]), "[null,true]");
        let map = |pairs: Vec<(&str, i64)>| AttributeValue::Map(pairs.into_iter().collect());
        check(map(vec![("b", 1), ("a", 2)]), r#"{"b":1,"a":2}"#);
        check(map(vec![("a", 1), ("a", 2)]), r#"{"$map":[["a",1],["a",2]]}"#);
        check(map(vec![("$double", 1)]), r#"{"$map":[["$double",1]]}"#);
        assert!(decode_value("{\"a\":").is_err());
    }

    #[test]
    fn deep_nesting_ends_as_text() {
        let mut value = AttributeValue::Int(1);
        for _ in 0..100 {
            value = AttributeValue::Array(vec![value]);
        }
        assert!(decode_value(&encode_value(&value)).is_ok());
    }
}
