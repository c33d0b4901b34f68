//! Prometheus' HTTP API, `/api/v1`.

mod encode;
mod labels;
mod query;
mod rules;
mod selector;
mod status;
mod targets;

use crate::error::PrometheusError;
use crate::routes::Routes;
use axum::Json;
use axum::response::{IntoResponse, Response};
use br_model::Role;
use serde_json::{Value, json};

type Answer = Result<Response, PrometheusError>;

pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .get_or_form("/api/v1/query", Role::Viewer, query::instant)
        .get_or_form("/api/v1/query_range", Role::Viewer, query::range)
        .get_or_form("/api/v1/query_exemplars", Role::Viewer, query::exemplars)
        .get_or_form("/api/v1/format_query", Role::Viewer, query::format)
        .get_or_form("/api/v1/series", Role::Viewer, labels::series)
        .get_or_form("/api/v1/labels", Role::Viewer, labels::names)
        .get("/api/v1/label/{name}/values", Role::Viewer, labels::values)
        .get("/api/v1/metadata", Role::Viewer, targets::metadata)
        .get("/api/v1/targets", Role::Viewer, targets::targets)
        .get("/api/v1/rules", Role::Viewer, rules::rules)
        .get("/api/v1/alerts", Role::Viewer, rules::alerts)
        .get("/api/v1/alertmanagers", Role::Viewer, rules::alertmanagers)
        .get("/api/v1/status/buildinfo", Role::Viewer, status::build)
        .get("/api/v1/status/runtimeinfo", Role::Viewer, status::runtime)
        .get("/api/v1/status/tsdb", Role::Viewer, status::tsdb)
        .get("/api/v1/status/flags", Role::Viewer, status::flags)
        .get("/api/v1/status/config", Role::Admin, status::config)
}

#[allow(clippy::unnecessary_wraps, reason = "handlers end with it")]
fn success(data: Value) -> Answer {
    Ok(Json(json!({ "status": "success", "data": data })).into_response())
}
