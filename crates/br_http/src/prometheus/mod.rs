//! Prometheus' HTTP API, `/api/v1`.

mod admin;
mod encode;
mod external;
mod features;
mod federate;
mod labels;
mod notices;
mod query;
mod read;
mod rules;
mod selector;
mod status;
mod targets;
mod tree;

use crate::error::PrometheusError;
use crate::params::Params;
use crate::routes::Routes;
use crate::written;
use axum::Json;
use axum::response::{IntoResponse, Response};
use br_model::{Labels, Right};
use br_std::Error;
use serde_json::{Value, json};

type Answer = Result<Response, PrometheusError>;

pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .get_or_form("/api/v1/query", Right::Read, query::instant)
        .get_or_form("/api/v1/query_range", Right::Read, query::range)
        .get_or_form("/api/v1/query_exemplars", Right::Read, query::exemplars)
        .get_or_form("/api/v1/format_query", Right::Read, query::format)
        .get_or_form("/api/v1/series", Right::Read, labels::series)
        .get_or_form("/api/v1/labels", Right::Read, labels::names)
        .get("/api/v1/label/{name}/values", Right::Read, labels::values)
        .get("/api/v1/metadata", Right::Read, targets::metadata)
        .get("/api/v1/targets", Right::Read, targets::targets)
        .get("/api/v1/targets/relabel_steps", Right::Read, targets::relabel_steps)
        .get("/api/v1/scrape_pools", Right::Read, targets::scrape_pools)
        .get("/api/v1/rules", Right::Read, rules::rules)
        .get("/api/v1/alerts", Right::Read, rules::alerts)
        .get("/api/v1/alertmanagers", Right::Read, rules::alertmanagers)
        .get("/api/v1/status/buildinfo", Right::Read, status::build)
        .get("/api/v1/status/runtimeinfo", Right::Read, status::runtime)
        .get("/api/v1/status/tsdb", Right::Read, status::tsdb)
        .get("/api/v1/status/tsdb/blocks", Right::Read, status::blocks)
        .get("/api/v1/status/flags", Right::Read, status::flags)
        .get("/api/v1/status/walreplay", Right::Read, status::replay)
        .get("/api/v1/notifications", Right::Read, notices::notifications)
        .get("/api/v1/notifications/live", Right::Read, notices::live)
        .get("/api/v1/features", Right::Read, features::features)
        .get_or_form("/api/v1/parse_query", Right::Read, query::parse_query)
        .get("/api/v1/targets/metadata", Right::Read, targets::target_metadata)
        .post("/api/v1/read", Right::Read, read::read)
        .get("/federate", Right::Read, federate::federate)
        .post_or_put("/api/v1/admin/tsdb/delete_series", Right::Administer, admin::delete_series)
        .post_or_put("/api/v1/admin/tsdb/clean_tombstones", Right::Administer, admin::clean_tombstones)
        .post_or_put("/api/v1/admin/tsdb/snapshot", Right::Administer, admin::snapshot)
        .post("/-/reload", Right::Administer, rules::reload)
        .get("/api/v1/status/config", Right::Administer, status::config)
}

/// What Prometheus says where a `limit` of the request has cut an answer.
const TRUNCATED: &str = "results truncated due to limit";

/// The most that a request wants; without a `limit`, or with 0, all.
fn limit(params: &Params) -> Result<usize, Error> {
    Ok(match params.number("limit", 0)? {
        0 => usize::MAX,
        limit => limit,
    })
}

/// What a set of labels weighs, about.
fn labels_bytes(labels: &Labels) -> u64 {
    labels.iter().map(|(name, value)| name.len() + value.len() + 32).sum::<usize>() as u64 + 64
}

/// An answer written out already, next to the query that found it: a long one would hold up whoever else waits for this thread.
fn json_text(text: String) -> Response {
    written::response(text)
}

#[allow(clippy::unnecessary_wraps, reason = "handlers end with it")]
fn success(data: Value) -> Answer {
    Ok(Json(json!({ "status": "success", "data": data })).into_response())
}
