//! The OpenTelemetry protocol: traces, logs and metrics, as protobuf and as JSON.
//!
//! Source: OTLP specification 1.9 with opentelemetry-proto 1.9. Bodies come here decompressed.

mod common;
mod exceptions;
mod json;
mod logs;
mod metrics;
mod names;
mod respond;
mod traces;

pub(crate) use exceptions::error_of_log;
pub use exceptions::{errors_of_spans, resource_errors};
pub use logs::{decode_logs, encode_logs, logs_of};
pub use metrics::{MetricOptions, Metrics, decode_metrics, metrics_of};
pub use names::{label_name, metric_name};
pub use respond::{Signal, rejected_logs, response, status};
pub use traces::{decode_traces, encode_traces, message_field, traces_of, write_traces_json};

use crate::{Decoded, Limits, Result, WireError, amount};
use json::Complaint;
use prost::Message;
use serde::de::DeserializeOwned;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Protobuf,
    Json,
}

impl Encoding {
    pub fn from_content_type(content_type: &str) -> Result<Self> {
        let media_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match media_type.as_str() {
            "application/x-protobuf" | "application/protobuf" => Ok(Self::Protobuf),
            "application/json" => Ok(Self::Json),
            _ => Err(WireError::Unsupported(format!(
                "content type {content_type:?} is not OTLP; send application/x-protobuf or application/json"
            ))),
        }
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Self::Protobuf => "application/x-protobuf",
            Self::Json => "application/json",
        }
    }
}

/// Reads a request message; prost and serde_json both bound how deep it may nest.
fn request<M: Message + Default + DeserializeOwned>(
    body: &[u8],
    encoding: Encoding,
    signal: Signal,
    limits: &Limits,
) -> Result<(M, Vec<Complaint>)> {
    match encoding {
        Encoding::Protobuf => {
            amount::check_otlp(body, signal, limits)?;
            let message = M::decode(body).map_err(|error| WireError::Malformed(format!("OTLP protobuf: {error}")))?;
            Ok((message, Vec::new()))
        }
        Encoding::Json => {
            amount::check_json_messages(body, limits)?;
            json::decode(body, limits)
        }
    }
}

/// Puts what was wrong with the body in front of what was wrong with its records.
fn with_complaints<T>(mut decoded: Decoded<T>, complaints: Vec<Complaint>) -> Decoded<T> {
    let later = std::mem::take(&mut decoded.rejected);
    for complaint in complaints {
        decoded.reject(complaint.index, usize::from(complaint.is_rejected), complaint.reason);
    }
    for rejection in later {
        decoded.reject(rejection.index, 0, rejection.reason);
    }
    decoded
}
