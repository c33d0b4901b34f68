//! How errors look on the wire: one status per kind, and the shape that each API's clients expect.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use br_std::{Error, Kind};
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
pub(crate) struct PrometheusError(pub(crate) Error);

impl From<Error> for PrometheusError {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for PrometheusError {
    fn into_response(self) -> Response {
        let kind = self.0.kind();
        let error_type = match kind {
            Kind::FixRequest => "bad_data",
            Kind::NotFound => "not_found",
            Kind::OverLimit => "execution",
            Kind::Unauthorized => "unauthorized",
            Kind::Retry => "unavailable",
            Kind::Closed => "canceled",
            Kind::Corrupt => "internal",
        };
        let body = json!({ "status": "error", "errorType": error_type, "error": self.0.message() });
        with_retry_after(kind, (status(kind), Json(body)).into_response())
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
