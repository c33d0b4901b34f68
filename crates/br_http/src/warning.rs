//! Warnings of answers that have no place for them in their bodies.

use axum::http::{HeaderName, HeaderValue};
use axum::response::Response;

/// One for each warning.
const HEADER: HeaderName = HeaderName::from_static("x-bellrock-warning");

/// Puts warnings on an answer.
pub(crate) fn on(mut response: Response, warnings: &[String]) -> Response {
    for warning in warnings {
        if let Ok(value) = HeaderValue::from_str(warning) {
            response.headers_mut().append(HEADER, value);
        }
    }
    response
}
