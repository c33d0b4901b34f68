//! Resource and scope of records: interned once per group when written, once per distinct text when read.

use crate::json;
use crate::schema::{RESOURCE, SCOPE, column};
use arrow::array::{Array, DictionaryArray, RecordBatch, StringArray};
use arrow::datatypes::Int32Type;
use br_model::{Labels, Resource, Scope, names::label_name};
use br_std::hash::hash64;
use br_std::{Error, Result};
use std::sync::Arc;

/// What the records of one group share, as it stands in the columns.
pub(crate) struct Origin {
    pub(crate) service: String,
    /// Hash of the resource's text: records of one resource are one stream.
    pub(crate) stream: u64,
    pub(crate) resource: String,
    pub(crate) scope: String,
}

impl Origin {
    pub(crate) fn new(resource: &Resource, scope: &Scope) -> Self {
        let text = json::encode_resource(resource);
        Self {
            service: resource.service_name().to_owned(),
            stream: hash64(text.as_bytes()),
            resource: text,
            scope: json::encode_scope(scope),
        }
    }
}

/// The labels of a stream: the attributes of its resource under their label names.
pub(crate) fn stream_labels(resource: &Resource) -> Labels {
    Labels::from_pairs(resource.attributes.iter().map(|(key, value)| (label_name(key), value.to_string())))
}

/// A dictionary column whose texts are decoded once each, when first asked for.
pub(crate) struct Interned<'a, T> {
    array: &'a DictionaryArray<Int32Type>,
    texts: &'a StringArray,
    decode: fn(&str) -> Result<T>,
    decoded: Vec<Option<Arc<T>>>,
}

impl<'a, T> Interned<'a, T> {
    fn new(batch: &'a RecordBatch, name: &str, decode: fn(&str) -> Result<T>) -> Result<Self> {
        let array: &DictionaryArray<Int32Type> = column(batch, name)?;
        let texts = array.values().as_any().downcast_ref::<StringArray>();
        let texts = texts.ok_or_else(|| Error::corrupt(format!("column {name} is not interned text")))?;
        let decoded = std::iter::repeat_with(|| None).take(texts.len()).collect();
        Ok(Self { array, texts, decode, decoded })
    }

    pub(crate) fn get(&mut self, row: usize) -> Result<Arc<T>> {
        let key = self.array.key(row).filter(|key| *key < self.decoded.len());
        let key = key.ok_or_else(|| Error::corrupt(format!("row {row} has no resource or scope")))?;
        if let Some(value) = &self.decoded[key] {
            return Ok(value.clone());
        }
        let value = Arc::new((self.decode)(self.texts.value(key))?);
        self.decoded[key] = Some(value.clone());
        Ok(value)
    }
}

pub(crate) fn resources(batch: &RecordBatch) -> Result<Interned<'_, Resource>> {
    Interned::new(batch, RESOURCE, json::decode_resource)
}

pub(crate) fn scopes(batch: &RecordBatch) -> Result<Interned<'_, Scope>> {
    Interned::new(batch, SCOPE, json::decode_scope)
}

/// The labels of each row's stream.
pub(crate) fn labels(batch: &RecordBatch) -> Result<Interned<'_, Labels>> {
    Interned::new(batch, RESOURCE, |text| Ok(stream_labels(&json::decode_resource(text)?)))
}
