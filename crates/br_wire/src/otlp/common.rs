//! What all three signals share: values, attributes, resources, scopes.

use crate::Limits;
use br_model::{AttributeValue, Attributes, Resource, Scope};
use br_std::Nanos;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource as WireResource;
use std::sync::Arc;

pub(super) fn value(wire: Option<AnyValue>, limits: &Limits, depth: usize) -> AttributeValue {
    let Some(value) = wire.and_then(|any| any.value) else { return AttributeValue::Empty };
    if depth > limits.depth_max {
        return AttributeValue::String("[nested too deep]".into());
    }
    match value {
        any_value::Value::StringValue(text) => AttributeValue::String(text),
        any_value::Value::BoolValue(value) => AttributeValue::Bool(value),
        any_value::Value::IntValue(value) => AttributeValue::Int(value),
        any_value::Value::DoubleValue(value) => AttributeValue::Double(value),
        any_value::Value::BytesValue(bytes) => AttributeValue::Bytes(bytes),
        any_value::Value::ArrayValue(array) => {
            AttributeValue::Array(array.values.into_iter().map(|item| self::value(Some(item), limits, depth + 1)).collect())
        }
        any_value::Value::KvlistValue(list) => AttributeValue::Map(attributes_at(list.values, limits, depth + 1)),
        // A reference into the string table of profiles, which these signals do not have.
        any_value::Value::StringValueStrindex(_) => AttributeValue::Empty,
    }
}

/// As many as a resource, a scope or a part of a span may have.
pub(super) fn attributes(wire: Vec<KeyValue>, limits: &Limits) -> Attributes {
    attributes_at(wire, limits, 0)
}

/// Those of a record, to be bounded when it is whole.
pub(super) fn all_attributes(wire: Vec<KeyValue>, limits: &Limits) -> Attributes {
    let named = wire.into_iter().filter(|pair| !pair.key.is_empty());
    named.map(|pair| (pair.key, value(pair.value, limits, 0))).collect()
}

fn attributes_at(wire: Vec<KeyValue>, limits: &Limits, depth: usize) -> Attributes {
    let kept = wire.into_iter().filter(|pair| !pair.key.is_empty()).take(limits.attributes_max);
    kept.map(|pair| (pair.key, value(pair.value, limits, depth))).collect()
}

pub(super) fn resource(wire: Option<WireResource>, limits: &Limits) -> Arc<Resource> {
    Arc::new(Resource { attributes: wire.map(|resource| attributes(resource.attributes, limits)).unwrap_or_default() })
}

pub(super) fn scope(wire: Option<InstrumentationScope>, limits: &Limits) -> Arc<Scope> {
    let Some(scope) = wire else { return Arc::default() };
    Arc::new(Scope { name: scope.name, version: scope.version, attributes: attributes(scope.attributes, limits) })
}

/// A time of the protocol; 0 means unknown. What lies beyond 2262 becomes the last time there is.
pub(super) fn nanos(wire: u64) -> Option<Nanos> {
    (wire != 0).then(|| Nanos(i64::try_from(wire).unwrap_or(i64::MAX)))
}

pub(super) fn to_wire_attributes(attributes: &Attributes) -> Vec<KeyValue> {
    let pairs = attributes.iter();
    pairs.map(|(key, value)| KeyValue { key: key.clone(), value: Some(to_wire_value(value)), ..KeyValue::default() }).collect()
}

pub(super) fn to_wire_value(value: &AttributeValue) -> AnyValue {
    let value = match value {
        AttributeValue::String(text) => Some(any_value::Value::StringValue(text.clone())),
        AttributeValue::Bool(value) => Some(any_value::Value::BoolValue(*value)),
        AttributeValue::Int(value) => Some(any_value::Value::IntValue(*value)),
        AttributeValue::Double(value) => Some(any_value::Value::DoubleValue(*value)),
        AttributeValue::Bytes(bytes) => Some(any_value::Value::BytesValue(bytes.clone())),
        AttributeValue::Array(values) => {
            Some(any_value::Value::ArrayValue(ArrayValue { values: values.iter().map(to_wire_value).collect() }))
        }
        AttributeValue::Map(map) => Some(any_value::Value::KvlistValue(KeyValueList { values: to_wire_attributes(map) })),
        AttributeValue::Empty => None,
    };
    AnyValue { value }
}

pub(super) fn to_wire_resource(resource: &Resource) -> WireResource {
    WireResource { attributes: to_wire_attributes(&resource.attributes), ..WireResource::default() }
}

pub(super) fn to_wire_scope(scope: &Scope) -> InstrumentationScope {
    InstrumentationScope {
        name: scope.name.clone(),
        version: scope.version.clone(),
        attributes: to_wire_attributes(&scope.attributes),
        ..InstrumentationScope::default()
    }
}

pub(super) fn to_wire_nanos(time: Nanos) -> u64 {
    u64::try_from(time.0).unwrap_or(0)
}
