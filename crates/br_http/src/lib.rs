//! The HTTP face: Prometheus, Loki, Tempo, Jaeger, Zipkin and native APIs over the query door, and what services send.
//!
//! [`router`] makes the whole table of routes. Each route names the right it needs; what is not in the table is a page or a 404.

pub mod answers;
pub mod app;
pub mod auth;
pub mod bodies;
pub mod listen;
pub mod postgres;

mod elastic;
mod erasures;
mod error;
mod health;
mod ingest;
mod jaeger;
mod json;
mod lines;
mod loki;
mod native;
mod pages;
mod params;
mod prometheus;
mod push;
mod routes;
mod service_links;
mod tempo;
mod time;
mod warning;
mod whole_traces;
mod written;
mod zipkin;

pub use routes::Route;

use answers::Cut;
use app::App;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use error::ApiError;
use routes::Routes;
use std::sync::Arc;

/// Bodies of requests that are no telemetry: queries, notes, forms.
const SMALL_BODY_BYTES_MAX: usize = 1 << 20;

/// All routes over one application.
pub fn router(app: Arc<App>) -> Router {
    let routes = Routes::new(app.clone());
    let routes = ingest::routes(routes);
    let routes = elastic::routes(routes);
    let routes = lines::routes(routes);
    let routes = prometheus::routes(routes);
    let routes = push::routes(routes);
    let routes = loki::routes(routes);
    let routes = tempo::routes(routes);
    let routes = jaeger::routes(routes);
    let routes = zipkin::routes(routes);
    let routes = native::routes(routes);
    let routes = health::routes(routes);
    let _ = app.table.set(routes.table().to_vec());
    let router = routes.into_router().merge(health::open_routes(app.clone())).fallback(pages::page);
    let router = router.layer(axum::middleware::from_fn_with_state(app.clone(), tell_partial));
    hardened(router, app)
}

/// What OpenTelemetry's exporters send, and whether the server is there: for the ports that are theirs. Nothing can be read or
/// changed there.
pub fn otlp_router(app: Arc<App>) -> Router {
    let routes = ingest::otlp_routes(Routes::new(app.clone()));
    hardened(routes.into_router().merge(health::open_routes(app.clone())), app)
}

fn hardened(router: Router, app: Arc<App>) -> Router {
    router
        .layer(DefaultBodyLimit::max(SMALL_BODY_BYTES_MAX))
        .layer(axum::middleware::from_fn_with_state(app, limit_answer))
        .layer(axum::middleware::map_response(harden))
}

/// A large answer takes its place among those on their way, or gives it up.
async fn limit_answer(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let cut = request.extensions_mut().remove::<Cut>();
    let answer = next.run(request).await;
    app.answers.limit(answer, cut).unwrap_or_else(|error| ApiError(error).into_response())
}

/// An answer that was begun before the stores had read back the journal may lack something, and says so.
async fn tell_partial(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let partial = app.partial_answers();
    let mut response = next.run(request).await;
    if let Some(warning) = partial.and_then(|warning| HeaderValue::try_from(warning).ok()) {
        response.headers_mut().append("x-bellrock-warning", warning);
    }
    response
}

/// Headers that every answer carries.
async fn harden(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}
