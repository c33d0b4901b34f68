//! The framing of an envelope: a header line, then for each item a header line and a payload, with or without its length.

use crate::json::string;
use crate::{Decoded, Limits, Result, WireError};
use serde_json::Value;

/// Items of one envelope; Sentry takes fewer.
const ITEMS_MAX: usize = 1_000;
const HEADER_BYTES_MAX: usize = 64 << 10;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Envelope {
    pub header: EnvelopeHeader,
    pub items: Vec<Item>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct EnvelopeHeader {
    pub event_id: String,
    pub dsn: Option<String>,
    pub sent_at: String,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    pub item_type: String,
    /// The item's header line.
    pub header: String,
    pub payload: Vec<u8>,
}

/// Takes an envelope apart. Only a broken envelope header is an error; a broken item ends the reading and is rejected with
/// what follows, since nothing tells where the next one begins.
pub fn parse_envelope(body: &[u8], limits: &Limits) -> Result<Decoded<Envelope>> {
    if body.len() > limits.decoded_bytes_max {
        return Err(WireError::TooLarge(format!(
            "an envelope of {} bytes; at most {} are taken",
            body.len(),
            limits.decoded_bytes_max
        )));
    }
    let (line, mut rest) = take_line(body);
    let header = header_line(line).map_err(|reason| WireError::Malformed(format!("envelope header: {reason}")))?;
    let mut envelope = Envelope::default();
    string(&header, "event_id").clone_into(&mut envelope.header.event_id);
    string(&header, "sent_at").clone_into(&mut envelope.header.sent_at);
    envelope.header.dsn = header.get("dsn").and_then(Value::as_str).map(str::to_owned);
    let mut decoded = Decoded::new(envelope);
    while !rest.trim_ascii().is_empty() {
        let index = decoded.value.items.len();
        if index == ITEMS_MAX {
            decoded.reject(index, 1, format!("more than {ITEMS_MAX} items"));
            break;
        }
        match take_item(&mut rest) {
            Ok(Some(item)) => decoded.value.items.push(item),
            Ok(None) => {}
            Err(reason) => {
                decoded.reject(index, 1, reason);
                break;
            }
        }
    }
    Ok(decoded)
}

/// The next item; `None` for an empty line, which may stand between items.
fn take_item(rest: &mut &[u8]) -> Result<Option<Item>, String> {
    let (line, behind) = take_line(rest);
    if line.trim_ascii().is_empty() {
        *rest = behind;
        return Ok(None);
    }
    let header = header_line(line).map_err(|reason| format!("item header: {reason}"))?;
    let item_type = string(&header, "type").to_owned();
    if item_type.is_empty() {
        return Err("item header: no type".into());
    }
    let length = header.get("length").filter(|length| !length.is_null());
    let (payload, behind) = match length {
        Some(length) => sized_payload(behind, length).map_err(|reason| format!("{item_type} item: {reason}"))?,
        None => take_line(behind),
    };
    *rest = behind;
    let header = String::from_utf8_lossy(line).into_owned();
    Ok(Some(Item { item_type, header, payload: payload.to_vec() }))
}

/// A payload of a told length, and what stands behind its line end.
fn sized_payload<'a>(bytes: &'a [u8], length: &Value) -> Result<(&'a [u8], &'a [u8]), String> {
    let length = length.as_u64().and_then(|length| usize::try_from(length).ok()).ok_or("the length is no number")?;
    let split = bytes.split_at_checked(length);
    let (payload, behind) = split.ok_or_else(|| format!("{length} bytes are told, {} are there", bytes.len()))?;
    match behind {
        [] => Ok((payload, behind)),
        [b'\n', behind @ ..] | [b'\r', b'\n', behind @ ..] => Ok((payload, behind)),
        _ => Err(format!("no line end behind its {length} bytes")),
    }
}

fn take_line(bytes: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memchr(b'\n', bytes) {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (bytes, &[]),
    }
}

fn header_line(line: &[u8]) -> Result<Value, String> {
    if line.len() > HEADER_BYTES_MAX {
        return Err(format!("{} bytes, at most {HEADER_BYTES_MAX} are taken", line.len()));
    }
    match serde_json::from_slice(line) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err("no JSON object".into()),
        Err(error) => Err(format!("no JSON: {error}")),
    }
}
