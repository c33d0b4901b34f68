//! What an OTLP sender is answered.

use super::Encoding;
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsPartialSuccess, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsPartialSuccess, ExportMetricsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTracePartialSuccess, ExportTraceServiceResponse};
use prost::Message;
use serde_json::json;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Traces,
    Logs,
    Metrics,
}

/// The body of a 200: how many records were refused, and why. Without any it is the empty message.
pub fn response(signal: Signal, encoding: Encoding, rejected_count: usize, message: &str) -> Vec<u8> {
    let is_full = rejected_count == 0 && message.is_empty();
    let rejected = i64::try_from(rejected_count).unwrap_or(i64::MAX);
    if encoding == Encoding::Json {
        let field = match signal {
            Signal::Traces => "rejectedSpans",
            Signal::Logs => "rejectedLogRecords",
            Signal::Metrics => "rejectedDataPoints",
        };
        let partial = json!({ field: rejected.to_string(), "errorMessage": message });
        let body = if is_full { json!({}) } else { json!({ "partialSuccess": partial }) };
        return body.to_string().into_bytes();
    }
    let error_message = message.to_owned();
    match signal {
        Signal::Traces => {
            let partial = ExportTracePartialSuccess { rejected_spans: rejected, error_message };
            ExportTraceServiceResponse { partial_success: (!is_full).then_some(partial) }.encode_to_vec()
        }
        Signal::Logs => {
            let partial = ExportLogsPartialSuccess { rejected_log_records: rejected, error_message };
            ExportLogsServiceResponse { partial_success: (!is_full).then_some(partial) }.encode_to_vec()
        }
        Signal::Metrics => {
            let partial = ExportMetricsPartialSuccess { rejected_data_points: rejected, error_message };
            ExportMetricsServiceResponse { partial_success: (!is_full).then_some(partial) }.encode_to_vec()
        }
    }
}

/// What the protobuf body of a 200 says to the sender of logs: how many records were refused, and why.
pub fn rejected_logs(body: &[u8]) -> Option<(usize, String)> {
    let partial = ExportLogsServiceResponse::decode(body).ok()?.partial_success?;
    Some((usize::try_from(partial.rejected_log_records).unwrap_or(0), partial.error_message))
}

/// `google.rpc.Status`, of which OTLP/HTTP needs code and message.
#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

/// The body of an error: a `Status` with the gRPC code that fits the HTTP status.
pub fn status(encoding: Encoding, http_status: u16, message: &str) -> Vec<u8> {
    let code = match http_status {
        400 | 415 => 3,
        401 => 16,
        403 => 7,
        404 => 5,
        413 | 429 => 8,
        503 => 14,
        _ => 13,
    };
    match encoding {
        Encoding::Protobuf => Status { code, message: message.to_owned() }.encode_to_vec(),
        Encoding::Json => json!({ "code": code, "message": message }).to_string().into_bytes(),
    }
}
