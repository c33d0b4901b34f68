//! The web pages, and what is not found.

use crate::error::ApiError;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use br_std::Error;

/// Paths under these are calls: a page in their place would only confuse a client.
const CALLS: [&str; 15] = [
    "/api/",
    "/loki/",
    "/tempo/",
    "/jaeger/",
    "/zipkin/",
    "/bellrock/",
    "/v1/",
    "/otlp/",
    "/alertmanager/",
    "/opentelemetry.",
    "/elastic/",
    "/ndjson",
    "/insert/",
    "/upload",
    "/journald/",
];

pub(crate) async fn page(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let path = uri.path();
    if CALLS.iter().any(|prefix| path.starts_with(prefix)) || !matches!(method, Method::GET | Method::HEAD) {
        return ApiError(Error::not_found(format!("no such call: {method} {path}"))).into_response();
    }
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    // A person who follows a wrong link sees the pages, which say so; a client gets what it can read.
    let is_navigation = text(header::ACCEPT).is_some_and(|types| types.contains("text/html"));
    let (status, asset) = match br_ui::asset(path) {
        Some(asset) => (StatusCode::OK, asset),
        None => match br_ui::asset("/").filter(|_| is_navigation) {
            Some(shell) => (StatusCode::NOT_FOUND, shell),
            None => return ApiError(Error::not_found(format!("no such page: {path}"))).into_response(),
        },
    };
    if status == StatusCode::OK && text(header::IF_NONE_MATCH).is_some_and(|tags| asset.is_known(tags)) {
        return StatusCode::NOT_MODIFIED.into_response();
    }
    let takes_gzip = text(header::ACCEPT_ENCODING).is_some_and(|encodings| encodings.contains("gzip"));
    let (bytes, etag, is_gzip) = match asset.gzip {
        Some(gzip) if takes_gzip => (gzip, asset.gzip_etag(), true),
        _ => (asset.bytes, asset.etag.to_owned(), false),
    };
    let mut response = (status, bytes).into_response();
    let mut set = vec![
        ("content-type", asset.content_type),
        ("etag", &etag),
        ("cache-control", asset.cache_control()),
        ("vary", "accept-encoding"),
    ];
    set.extend(br_ui::SECURITY_HEADERS);
    if is_gzip {
        set.push(("content-encoding", "gzip"));
    }
    for (name, value) in set {
        if let (Ok(name), Ok(value)) = (name.parse::<header::HeaderName>(), HeaderValue::from_str(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}
