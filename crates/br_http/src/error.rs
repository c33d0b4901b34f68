//! How errors look on the wire: one status per kind, and the shape that each API's clients expect.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use br_std::{Error, Kind};
use br_storage::CancelReason;
use serde_json::json;

/// The status for a kind of error. Temporary overload is 503, never 429: stock OpenTelemetry and Prometheus clients drop on 429.
pub(crate) fn status(kind: Kind) -> StatusCode {
    match kind {
        Kind::FixRequest => StatusCode::BAD_REQUEST,
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::OverLimit => StatusCode::UNPROCESSABLE_ENTITY,
        Kind::Unauthorized => StatusCode::UNAUTHORIZED,
        Kind::Retry | Kind::Closed => StatusCode::SERVICE_UNAVAILABLE,
        Kind::Corrupt => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// An error in the native API's shape.
#[derive(Debug)]
pub(crate) struct ApiError(pub(crate) Error);

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Retry => "retry",
        Kind::FixRequest => "fix_request",
        Kind::NotFound => "not_found",
        Kind::OverLimit => "over_limit",
        Kind::Unauthorized => "unauthorized",
        Kind::Corrupt => "corrupt",
        Kind::Closed => "closed",
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = json!({ "error": { "kind": kind_name(self.0.kind()), "message": self.0.message() } });
        with_retry_after(self.0.kind(), (status(self.0.kind()), Json(body)).into_response())
    }
}

/// An error in the shape of Prometheus' HTTP API.
#[derive(Debug)]
pub(crate) struct PrometheusError {
    error: Error,
    /// Whether the request was right and its execution failed.
    is_execution: bool,
}

impl From<Error> for PrometheusError {
    fn from(error: Error) -> Self {
        Self { error, is_execution: false }
    }
}

impl PrometheusError {
    /// Of a query that was read well and then failed on its data.
    pub(crate) fn of_execution(error: Error) -> Self {
        Self { error, is_execution: true }
    }

    /// Status and type. Source: Prometheus' `web/api/v1/api.go`, `respondError`.
    fn verdict(&self) -> (StatusCode, &'static str) {
        const CLIENT_CLOSED_REQUEST: u16 = 499;
        match CancelReason::of(&self.error) {
            Some(CancelReason::Deadline) => return (StatusCode::SERVICE_UNAVAILABLE, "timeout"),
            Some(CancelReason::Caller) => {
                let status = StatusCode::from_u16(CLIENT_CLOSED_REQUEST).unwrap_or(StatusCode::BAD_REQUEST);
                return (status, "canceled");
            }
            Some(CancelReason::Shutdown | CancelReason::NotQuick) | None => {}
        }
        let kind = self.error.kind();
        let error_type = match kind {
            Kind::FixRequest if self.is_execution => return (StatusCode::UNPROCESSABLE_ENTITY, "execution"),
            Kind::FixRequest => "bad_data",
            Kind::NotFound => "not_found",
            Kind::OverLimit => "execution",
            Kind::Unauthorized => "unauthorized",
            Kind::Retry => "unavailable",
            Kind::Closed => "canceled",
            Kind::Corrupt => "internal",
        };
        (status(kind), error_type)
    }
}

impl IntoResponse for PrometheusError {
    fn into_response(self) -> Response {
        let (status, error_type) = self.verdict();
        let body = json!({ "status": "error", "errorType": error_type, "error": self.error.message() });
        let response = (status, Json(body)).into_response();
        // A query that took too long or was stopped takes as long again: only overload says when to come back.
        if CancelReason::of(&self.error).is_some() { response } else { with_retry_after(self.error.kind(), response) }
    }
}

/// An error as plain text, as Loki and the push endpoints answer.
#[derive(Debug)]
pub(crate) struct TextError(pub(crate) Error);

impl From<Error> for TextError {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for TextError {
    fn into_response(self) -> Response {
        let kind = self.0.kind();
        with_retry_after(kind, (status(kind), format!("{}\n", self.0.message())).into_response())
    }
}

/// Tells senders when to come back.
pub(crate) fn with_retry_after(kind: Kind, mut response: Response) -> Response {
    if matches!(kind, Kind::Retry | Kind::Closed) {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    if kind == Kind::Unauthorized && response.status() == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"bellrock\""));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prometheus_clients_are_told_whose_fault_it_is() {
        let check = |error: PrometheusError, status: u16, error_type: &str| {
            let verdict = error.verdict();
            assert_eq!((verdict.0.as_u16(), verdict.1), (status, error_type));
        };
        check(Error::fix_request("parse error").into(), 400, "bad_data");
        check(PrometheusError::of_execution(Error::fix_request("many-to-many")), 422, "execution");
        check(PrometheusError::of_execution(Error::over_limit("memory")), 422, "execution");
        check(PrometheusError::of_execution(CancelReason::Deadline.error()), 503, "timeout");
        check(PrometheusError::of_execution(CancelReason::Caller.error()), 499, "canceled");
        check(PrometheusError::of_execution(CancelReason::Shutdown.error()), 503, "canceled");
        check(Error::retry("256 queries wait").into(), 503, "unavailable");
    }
}
