//! The body of a webhook: Alertmanager's version 4, with our evidence under a key of its own.
//!
//! Source: the Alertmanager documentation, "webhook_config".

use br_model::Labels;
use br_std::{Error, Nanos, Result};
use serde_json::{Map, Value, json};

/// What a message tells.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    /// The name of the receiver.
    pub receiver: String,
    /// Where people reach this server.
    pub external_url: String,
    /// By which labels the alerts were gathered.
    pub group_labels: Labels,
    /// Names the group for ever, such as `{}/{}:{alertname="Down"}`.
    pub group_key: String,
    pub alerts: Vec<MessageAlert>,
    /// Alerts that belong to the group and are not among `alerts`.
    pub left_out: u64,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct MessageAlert {
    pub id: String,
    pub labels: Labels,
    pub annotations: Labels,
    pub starts_at: Nanos,
    /// `None` while it fires.
    pub ends_at: Option<Nanos>,
    pub generator_url: String,
    /// As JSON; left out first when the body grows too large.
    pub evidence: Option<Value>,
    pub incident_id: Option<String>,
}

/// The body, at most `bytes_max` bytes: evidence goes first, then alerts from the end, and `truncatedAlerts` counts those.
/// `OverLimit` when not even one alert fits.
pub fn payload(message: &Message, bytes_max: usize) -> Result<String> {
    let full = body(message, message.alerts.len(), true)?;
    if full.len() <= bytes_max {
        return Ok(full);
    }
    let mut kept = message.alerts.len();
    while kept > 0 {
        let text = body(message, kept, false)?;
        if text.len() <= bytes_max {
            return Ok(text);
        }
        kept = if kept == 1 { 0 } else { (kept * bytes_max / text.len()).clamp(1, kept - 1) };
    }
    Err(Error::over_limit(format!("one alert alone is larger than the {bytes_max} bytes that the receiver may be sent")))
}

fn body(message: &Message, kept: usize, has_evidence: bool) -> Result<String> {
    let alerts: Vec<Value> = message.alerts.iter().take(kept).map(|alert| alert_json(alert, has_evidence)).collect();
    let is_firing = message.alerts.iter().any(|alert| alert.ends_at.is_none());
    let common = |of: fn(&MessageAlert) -> &Labels| pairs(&common(message.alerts.iter().map(of)));
    let truncated = message.left_out + (message.alerts.len() - kept) as u64;
    let body = json!({
        "version": "4",
        "groupKey": message.group_key,
        "truncatedAlerts": truncated,
        "status": if is_firing { "firing" } else { "resolved" },
        "receiver": message.receiver,
        "groupLabels": pairs(&message.group_labels),
        "commonLabels": common(|alert| &alert.labels),
        "commonAnnotations": common(|alert| &alert.annotations),
        "externalURL": message.external_url,
        "alerts": alerts,
    });
    serde_json::to_string(&body).map_err(|error| Error::fix_request(format!("a message cannot be written: {error}")))
}

fn alert_json(alert: &MessageAlert, has_evidence: bool) -> Value {
    let mut own = Map::new();
    own.insert("id".to_owned(), Value::from(alert.id.clone()));
    own.insert("incident_id".to_owned(), Value::from(alert.incident_id.clone()));
    if has_evidence && let Some(evidence) = &alert.evidence {
        own.insert("evidence".to_owned(), evidence.clone());
    }
    json!({
        "status": if alert.ends_at.is_none() { "firing" } else { "resolved" },
        "labels": pairs(&alert.labels),
        "annotations": pairs(&alert.annotations),
        "startsAt": rfc3339(alert.starts_at),
        "endsAt": alert.ends_at.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), rfc3339),
        "generatorURL": alert.generator_url,
        "fingerprint": fingerprint(&alert.labels),
        "bellrock": own,
    })
}

/// What all have in common.
fn common<'a>(mut all: impl Iterator<Item = &'a Labels>) -> Labels {
    let Some(first) = all.next() else { return Labels::empty() };
    all.fold(first.clone(), |common, labels| common.only(|name| common.get(name) == labels.get(name)))
}

fn pairs(labels: &Labels) -> Map<String, Value> {
    labels.iter().map(|(name, value)| (name.to_owned(), Value::from(value))).collect()
}

/// UTC, with as many fractional digits as there are.
pub fn rfc3339(at: Nanos) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(at.0)).map_or_else(|_| at.to_string(), |timestamp| timestamp.to_string())
}

/// As Prometheus and Alertmanager name a label set: FNV-1a over names and values, 16 hexadecimal digits.
pub fn fingerprint(labels: &Labels) -> String {
    const SEPARATOR: u8 = 0xff;
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    for (name, value) in labels.iter() {
        for text in [name, value] {
            text.bytes().for_each(&mut add);
            add(SEPARATOR);
        }
    }
    format!("{hash:016x}")
}
