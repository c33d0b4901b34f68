//! Where messages go.

use br_std::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A webhook's body is cut to this many bytes unless the configuration says less.
pub const PAYLOAD_BYTES_MAX: usize = 256 << 10;
/// A body cannot be promised to fit into less.
const PAYLOAD_BYTES_MIN: usize = 4 << 10;

/// One receiver of messages, as the configuration names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Channel {
    pub name: String,
    /// Whether it hears of ends, too.
    #[serde(default = "yes")]
    pub send_resolved: bool,
    #[serde(flatten)]
    pub kind: ChannelKind,
}

/// How a channel is reached. Each kind is one key of the configuration, so more can follow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChannelKind {
    Webhook(Webhook),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    pub url: String,
    /// Sent with each request, such as a credential.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// One attempt may take this long.
    #[serde(default = "ten_seconds")]
    pub timeout_ms: u64,
    #[serde(default = "payload_bytes_max")]
    pub payload_bytes_max: usize,
}

fn yes() -> bool {
    true
}

fn ten_seconds() -> u64 {
    10_000
}

fn payload_bytes_max() -> usize {
    PAYLOAD_BYTES_MAX
}

impl Channel {
    /// A webhook with the usual limits.
    pub fn webhook(name: impl Into<String>, url: impl Into<String>) -> Self {
        let webhook = Webhook {
            url: url.into(),
            headers: BTreeMap::new(),
            timeout_ms: ten_seconds(),
            payload_bytes_max: PAYLOAD_BYTES_MAX,
        };
        Self { name: name.into(), send_resolved: true, kind: ChannelKind::Webhook(webhook) }
    }

    /// What is wrong with the configuration, in words for the one who wrote it.
    pub fn check(&self) -> Result<()> {
        let ChannelKind::Webhook(webhook) = &self.kind;
        let name = &self.name;
        if name.is_empty() {
            return Err(Error::fix_request("a receiver must have a name"));
        }
        let host = ["http://", "https://"].iter().find_map(|scheme| webhook.url.strip_prefix(scheme)).unwrap_or("");
        if host.is_empty() || host.starts_with('/') {
            return Err(Error::fix_request(format!(
                "receiver {name:?}: url must begin with http:// or https:// and name a host"
            )));
        }
        if webhook.payload_bytes_max < PAYLOAD_BYTES_MIN {
            return Err(Error::fix_request(format!("receiver {name:?}: payload_bytes_max must be at least {PAYLOAD_BYTES_MIN}")));
        }
        if webhook.timeout_ms == 0 {
            return Err(Error::fix_request(format!("receiver {name:?}: timeout_ms must be above zero")));
        }
        Ok(())
    }
}
