//! What Sentry SDKs send: envelopes and the older `/store/` body.
//!
//! Events become error records, transactions become spans, log items become log records. Everything else is handed on as it
//! came, with its type. Source: Sentry's developer documentation, "Envelopes", "Event Payloads", "Logs", and captured requests.

mod auth;
mod envelope;
mod event;
mod logs;
mod transaction;

pub use auth::{Dsn, key_of};
pub use envelope::{Envelope, EnvelopeHeader, Item, parse_envelope};

use crate::{Decoded, Limits, Result, WireError};
use br_model::{LogBatch, ResourceLogs, ResourceSpans, Scope, SpanBatch};
use br_std::Nanos;
use serde_json::Value;
use std::sync::Arc;

/// An item of a type that is not read here: sessions, check-ins, profiles, attachments …
#[derive(Clone, Debug, PartialEq)]
pub struct UnknownItem {
    pub item_type: String,
    /// The item's header, as JSON.
    pub header: String,
    pub payload: Vec<u8>,
}

/// What an envelope brings.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SentryBatch {
    /// For the answer: the envelope's event id, else that of the first event. Empty where there is none.
    pub event_id: String,
    /// The key in the DSN of the envelope's header, for senders that authenticate with it alone.
    pub key: Option<String>,
    pub logs: LogBatch,
    pub spans: SpanBatch,
    pub others: Vec<UnknownItem>,
}

/// What the sender does not tell about itself.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The name of the service where neither tags nor release give one.
    pub service: &'a str,
    pub received: Nanos,
}

/// Reads an envelope. Items that make no sense are rejected one by one.
pub fn decode_envelope(body: &[u8], context: Context<'_>, limits: &Limits) -> Result<Decoded<SentryBatch>> {
    let parsed = parse_envelope(body, limits)?;
    let mut decoded = Decoded::new(SentryBatch::default());
    for rejection in parsed.rejected {
        decoded.reject(rejection.index, 1, rejection.reason);
    }
    let envelope = parsed.value;
    decoded.value.key = envelope.header.dsn.as_deref().and_then(Dsn::parse).map(|dsn| dsn.key);
    envelope.header.event_id.clone_into(&mut decoded.value.event_id);
    let mut json = envelope.items.iter().filter(|item| matches!(item.item_type.as_str(), "event" | "transaction" | "log"));
    json.try_for_each(|item| check_memory(&item.payload, limits))?;
    for (index, item) in envelope.items.into_iter().enumerate() {
        if let Err(reason) = add_item(item, &mut decoded, context, limits) {
            decoded.reject(index, 1, reason);
        }
    }
    Ok(decoded)
}

/// Reads the body of `/store/`: one event as JSON, in very old SDKs compressed and in base64.
pub fn decode_store(body: &[u8], context: Context<'_>, limits: &Limits) -> Result<Decoded<SentryBatch>> {
    let unwrapped;
    let json = if body.trim_ascii_start().first() == Some(&b'{') {
        body
    } else {
        unwrapped = from_base64(body, limits)?;
        &unwrapped
    };
    check_memory(json, limits)?;
    let mut decoded = Decoded::new(SentryBatch::default());
    let value = parse_json(json, limits).map_err(WireError::Malformed)?;
    add_event(value, &mut decoded.value, context, limits);
    Ok(decoded)
}

fn from_base64(body: &[u8], limits: &Limits) -> Result<Vec<u8>> {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(body.trim_ascii());
    let bytes = bytes.map_err(|_| WireError::malformed("the body is neither JSON nor base64"))?;
    crate::decompress::decompress(&bytes, crate::decompress::Encoding::Deflate, limits).map(std::borrow::Cow::into_owned)
}

/// What takes too much memory is no fault of one item: it may be read where there is more room.
fn check_memory(payload: &[u8], limits: &Limits) -> Result<()> {
    match crate::amount::check_json(payload, limits) {
        Err(error @ WireError::NeedsMemory(_)) => Err(error),
        _ => Ok(()),
    }
}

fn parse_json(payload: &[u8], limits: &Limits) -> Result<Value, String> {
    crate::amount::check_json(payload, limits).map_err(|error| error.to_string())?;
    match serde_json::from_slice(payload) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err("the payload is no JSON object".into()),
        Err(error) => Err(format!("the payload is no JSON: {error}")),
    }
}

fn add_item(item: Item, decoded: &mut Decoded<SentryBatch>, context: Context<'_>, limits: &Limits) -> Result<(), String> {
    let with_type = |reason| format!("{} item: {reason}", item.item_type);
    match item.item_type.as_str() {
        "event" => {
            let value = parse_json(&item.payload, limits).map_err(with_type)?;
            match crate::json::string(&value, "type") {
                "" | "error" | "default" | "event" => add_event(value, &mut decoded.value, context, limits),
                "transaction" => add_transaction(&value, &mut decoded.value, context, limits).map_err(with_type)?,
                // A person's feedback comes as an event too, and is none.
                other => {
                    let item_type = other.to_owned();
                    decoded.value.others.push(UnknownItem { item_type, header: item.header, payload: item.payload });
                }
            }
        }
        "transaction" => {
            let value = parse_json(&item.payload, limits).map_err(with_type)?;
            add_transaction(&value, &mut decoded.value, context, limits).map_err(with_type)?;
        }
        "log" => {
            let value = parse_json(&item.payload, limits).map_err(with_type)?;
            logs::add(&value, decoded, context, limits).map_err(with_type)?;
        }
        _ => decoded.value.others.push(UnknownItem { item_type: item.item_type, header: item.header, payload: item.payload }),
    }
    Ok(())
}

fn add_event(value: Value, batch: &mut SentryBatch, context: Context<'_>, limits: &Limits) {
    let (resource, record) = event::record(value, context, limits);
    if let Some(error) = record.error.as_ref().filter(|_| batch.event_id.is_empty()) {
        error.event_id.clone_into(&mut batch.event_id);
    }
    batch.logs.groups.push(ResourceLogs { resource: Arc::new(resource), scope: scope(), records: vec![record] });
}

fn add_transaction(value: &Value, batch: &mut SentryBatch, context: Context<'_>, limits: &Limits) -> Result<(), String> {
    let (resource, spans) = transaction::spans(value, context, limits)?;
    if batch.event_id.is_empty() {
        crate::json::string(value, "event_id").clone_into(&mut batch.event_id);
    }
    batch.spans.groups.push(ResourceSpans { resource: Arc::new(resource), scope: scope(), spans });
    Ok(())
}

fn scope() -> Arc<Scope> {
    Arc::new(Scope { name: "sentry".into(), ..Scope::default() })
}
