//! What services send. Each protocol has its own words for success, for a partial one, and for failure.

use crate::app::App;
use crate::bodies::too_large;
use crate::error::{status, with_retry_after};
use crate::routes::Routes;
use crate::warning;
use axum::Extension;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use br_ingest::intake::AcceptError;
use br_ingest::{Incoming, Receipt, grpc};
use br_journal::Protocol;
use br_model::{Principal, Right};
use br_std::Kind;
use br_wire::otlp;
use bytes::Bytes;
use std::sync::Arc;

pub(crate) fn routes(routes: Routes) -> Routes {
    otlp_routes(routes)
        .post("/api/v1/write", Right::Send, remote_write)
        .post("/loki/api/v1/push", Right::Send, loki_push)
        .post("/api/v2/spans", Right::Send, zipkin_spans)
        .post("/zipkin/api/v2/spans", Right::Send, zipkin_spans)
        .post("/api/traces", Right::Send, jaeger_batch)
        .post("/jaeger/api/traces", Right::Send, jaeger_batch)
        .post("/api/{project}/envelope/", Right::Send, sentry_envelope)
        .post("/api/{project}/store/", Right::Send, sentry_store)
}

/// OpenTelemetry's own, by gRPC and by HTTP.
pub(crate) fn otlp_routes(mut routes: Routes) -> Routes {
    for (path, protocol) in grpc::SERVICES {
        let export = move |State(app): State<Arc<App>>, Extension(principal): Extension<Principal>, request: Request| async move {
            let limit = app.limits.decoded_bytes_max;
            let request = request.map(|body| app.bodies.limit(body));
            grpc::export(app.intake.clone(), principal.tenant, protocol, limit, request).await.map(axum::body::Body::new)
        };
        routes = routes.post(path, Right::Send, export);
    }
    for (path, protocol) in [
        ("/v1/traces", Protocol::OTLP_TRACES),
        ("/v1/metrics", Protocol::OTLP_METRICS),
        ("/v1/logs", Protocol::OTLP_LOGS),
        ("/otlp/v1/logs", Protocol::OTLP_LOGS),
        ("/api/v1/otlp/v1/metrics", Protocol::OTLP_METRICS),
    ] {
        let receive = move |app: State<Arc<App>>, principal: Extension<Principal>, request: Request| {
            otlp_http(protocol, app, principal, request)
        };
        routes = routes.post(path, Right::Send, receive);
    }
    routes
}

async fn accept(app: &App, principal: &Principal, protocol: Protocol, request: Request) -> Result<Receipt, AcceptError> {
    accept_with(app, principal, protocol, Vec::new(), request).await
}

/// Reads the body, within the limit, and takes it in. `context` is what else is needed to read it again.
pub(crate) async fn accept_with(
    app: &App,
    principal: &Principal,
    protocol: Protocol,
    context: Vec<(String, String)>,
    request: Request,
) -> Result<Receipt, AcceptError> {
    let limit = app.limits.body_bytes_max;
    let (parts, body) = request.into_parts();
    let declared = parts.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if declared.is_some_and(|length| length > limit) {
        return Err(too_large(limit));
    }
    let body = app.bodies.receive(body, limit).await?;
    app.intake.accept(incoming(principal, protocol, context, &parts.headers, body.bytes.clone())).await
}

pub(crate) fn incoming(
    principal: &Principal,
    protocol: Protocol,
    context: Vec<(String, String)>,
    headers: &HeaderMap,
    body: Bytes,
) -> Incoming {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).unwrap_or("").to_owned();
    Incoming {
        tenant: principal.tenant,
        protocol,
        content_type: text(header::CONTENT_TYPE),
        content_encoding: text(header::CONTENT_ENCODING),
        context,
        body,
    }
}

pub(crate) fn http_status(error: &AcceptError) -> StatusCode {
    match error {
        AcceptError::Wire(error) => StatusCode::from_u16(error.http_status()).unwrap_or(StatusCode::BAD_REQUEST),
        AcceptError::Other(error) => status(error.kind()),
    }
}

pub(crate) fn kind(error: &AcceptError) -> Kind {
    match error {
        AcceptError::Wire(_) => Kind::FixRequest,
        AcceptError::Other(error) => error.kind(),
    }
}

pub(crate) fn text_error(error: &AcceptError) -> Response {
    with_retry_after(kind(error), (http_status(error), format!("{error}\n")).into_response())
}

/// OTLP over HTTP: the answer has the encoding of the request.
async fn otlp_http(
    protocol: Protocol,
    State(app): State<Arc<App>>,
    Extension(principal): Extension<Principal>,
    request: Request,
) -> Response {
    let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("").to_owned();
    // A content type that is not OTLP's is refused; the refusal itself is then JSON, which everybody can read.
    let encoding = otlp::Encoding::from_content_type(&content_type).unwrap_or(otlp::Encoding::Json);
    let outcome = accept(&app, &principal, protocol, request).await;
    let (status, body) = match &outcome {
        Ok(receipt) => {
            let rejected = usize::try_from(receipt.rejected_count).unwrap_or(usize::MAX);
            (StatusCode::OK, otlp::response(grpc::signal(protocol), encoding, rejected, &receipt.message()))
        }
        Err(error) => {
            let status = http_status(error);
            (status, otlp::status(encoding, status.as_u16(), &error.to_string()))
        }
    };
    let response = (status, [(header::CONTENT_TYPE, encoding.content_type())], body).into_response();
    match outcome {
        Ok(_) => response,
        Err(error) => with_retry_after(kind(&error), response),
    }
}

/// Both versions; the content type says which.
async fn remote_write(State(app): State<Arc<App>>, Extension(principal): Extension<Principal>, request: Request) -> Response {
    let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let protocol = if content_type.replace(' ', "").contains("proto=io.prometheus.write.v2.Request") {
        Protocol::REMOTE_WRITE_2
    } else {
        Protocol::REMOTE_WRITE_1
    };
    match accept(&app, &principal, protocol, request).await {
        Err(error) => text_error(&error),
        Ok(receipt) => {
            let mut response = if receipt.rejected_count == 0 {
                StatusCode::NO_CONTENT.into_response()
            } else {
                (StatusCode::BAD_REQUEST, format!("{} refused: {}\n", receipt.rejected_count, receipt.complaint()))
                    .into_response()
            };
            for (name, count) in [
                ("x-prometheus-remote-write-samples-written", receipt.samples),
                ("x-prometheus-remote-write-histograms-written", receipt.histograms),
                ("x-prometheus-remote-write-exemplars-written", receipt.exemplars),
            ] {
                response.headers_mut().insert(name, HeaderValue::from(count));
            }
            response
        }
    }
}

async fn loki_push(State(app): State<Arc<App>>, Extension(principal): Extension<Principal>, request: Request) -> Response {
    match accept(&app, &principal, Protocol::LOKI_PUSH, request).await {
        Err(error) => text_error(&error),
        Ok(receipt) if receipt.rejected_count == 0 => warning::on(StatusCode::NO_CONTENT.into_response(), receipt.cut.as_slice()),
        Ok(receipt) => {
            let message = format!("{} entries refused, the others are stored: {}\n", receipt.rejected_count, receipt.complaint());
            (StatusCode::BAD_REQUEST, message).into_response()
        }
    }
}

async fn zipkin_spans(app: State<Arc<App>>, principal: Extension<Principal>, request: Request) -> Response {
    spans(Protocol::ZIPKIN_2, app, principal, request).await
}

async fn jaeger_batch(app: State<Arc<App>>, principal: Extension<Principal>, request: Request) -> Response {
    spans(Protocol::JAEGER_THRIFT, app, principal, request).await
}

/// Zipkin's and Jaeger's servers both answer 202 and nothing else. A sender that is told of a failure sends all of it again, and what
/// is stored would be there once more: it is one only where nothing is.
async fn spans(
    protocol: Protocol,
    State(app): State<Arc<App>>,
    Extension(principal): Extension<Principal>,
    request: Request,
) -> Response {
    match accept(&app, &principal, protocol, request).await {
        Err(error) => text_error(&error),
        Ok(receipt) if receipt.rejected_count == 0 => warning::on(StatusCode::ACCEPTED.into_response(), receipt.cut.as_slice()),
        Ok(receipt) => {
            let (refused, complaint) = (receipt.rejected_count, receipt.complaint());
            if receipt.spans == 0 {
                return (StatusCode::BAD_REQUEST, format!("{refused} spans refused: {complaint}\n")).into_response();
            }
            let message = format!("{refused} spans refused, the others are stored: {complaint}");
            warning::on((StatusCode::ACCEPTED, format!("{message}\n")).into_response(), &[message])
        }
    }
}

async fn sentry_envelope(app: State<Arc<App>>, principal: Extension<Principal>, request: Request) -> Response {
    sentry(Protocol::SENTRY_ENVELOPE, app, principal, request).await
}

async fn sentry_store(app: State<Arc<App>>, principal: Extension<Principal>, request: Request) -> Response {
    sentry(Protocol::SENTRY_STORE, app, principal, request).await
}

/// A bare 429 or 503 makes the SDK drop what it has: on overload it is told which kinds to hold back.
async fn sentry(
    protocol: Protocol,
    State(app): State<Arc<App>>,
    Extension(principal): Extension<Principal>,
    request: Request,
) -> Response {
    match accept(&app, &principal, protocol, request).await {
        Ok(_) => (StatusCode::OK, [(header::CONTENT_TYPE, "application/json")], "{}").into_response(),
        Err(error) => {
            let mut response = text_error(&error);
            if kind(&error) == Kind::Retry {
                response
                    .headers_mut()
                    .insert("x-sentry-rate-limits", HeaderValue::from_static("1:transaction;span;replay:organization"));
            }
            response
        }
    }
}
