//! Loki's API, `/loki/api/v1`.

mod encode;
mod fields;
mod labels;
mod patterns;
mod query;
mod tail;
mod volume;
mod volume_range;

use crate::app::App;
use crate::erasures;
use crate::error::TextError;
use crate::params::Params;
use crate::routes::Routes;
use crate::written;
use axum::Json;
use axum::response::{IntoResponse, Response};
use br_model::Right;
use br_std::{Nanos, Result};
use br_storage::{Budget, TimeRange};
use serde::Serialize;
use serde_json::{Value, json};
use std::time::Duration;

type Answer = Result<Response, TextError>;

pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .get_or_form("/loki/api/v1/query", Right::Read, query::instant)
        .get_or_form("/loki/api/v1/query_range", Right::Read, query::range)
        .get_or_form("/loki/api/v1/labels", Right::Read, labels::names)
        .get("/loki/api/v1/label", Right::Read, labels::names)
        .get("/loki/api/v1/label/{name}/values", Right::Read, labels::values)
        .get_or_form("/loki/api/v1/series", Right::Read, labels::series)
        .get_or_form("/loki/api/v1/index/stats", Right::Read, volume::stats)
        .get_or_form("/loki/api/v1/index/volume", Right::Read, volume::volume)
        .get_or_form("/loki/api/v1/index/volume_range", Right::Read, volume_range::volume_range)
        .get_or_form("/loki/api/v1/patterns", Right::Read, patterns::patterns)
        .get_or_form("/loki/api/v1/detected_fields", Right::Read, fields::detected_fields)
        .get_or_form("/loki/api/v1/detected_field/{name}/values", Right::Read, fields::detected_values)
        .get("/loki/api/v1/drilldown-limits", Right::Read, drilldown_limits)
        .get_or_form("/loki/api/v1/detected_labels", Right::Read, volume::detected_labels)
        .get("/loki/api/v1/tail", Right::Read, tail::tail)
        .get_or_form("/loki/api/v1/format_query", Right::Read, format_query)
        .post_or_put("/loki/api/v1/delete", Right::Administer, erasures::loki_begin)
        .get("/loki/api/v1/delete", Right::Administer, erasures::loki_list)
        .add(&axum::http::Method::DELETE, "/loki/api/v1/delete", Right::Administer, erasures::loki_cancel)
        .get("/loki/api/v1/status/buildinfo", Right::Read, build)
}

/// What Grafana's editor asks for when a query shall be laid out.
async fn format_query(params: Params) -> Answer {
    let expr = br_logql::parse(params.required("query")?).map_err(br_std::Error::from)?;
    Ok(Json(json!({ "status": "success", "data": br_logql::pretty(&expr) })).into_response())
}

/// Loki's default: the last hour. `since` counts back from the end.
fn range(app: &App, params: &Params) -> Result<TimeRange> {
    let now = app.clock.now();
    let end = params.time("end")?.unwrap_or(now);
    let since = params.duration("since")?.unwrap_or(Duration::from_hours(1));
    let start = params.time("start")?.unwrap_or(end - since);
    if end < start {
        return Err(br_std::Error::fix_request("end timestamp must not be before or equal to start time"));
    }
    Ok(TimeRange::new(start, Nanos(end.0.max(start.0.saturating_add(1)))))
}

/// What Grafana's Logs Drilldown asks first: what it may show, and how much it may ask for.
async fn drilldown_limits() -> Json<Value> {
    Json(json!({
        "version": VERSION,
        "pattern_ingester_enabled": true,
        "limits": {
            "discover_log_levels": true,
            "discover_service_name": ["service_name"],
            "log_level_fields": ["level", "detected_level"],
            "max_entries_limit_per_query": query::LIMIT_MAX,
            "metric_aggregation_enabled": false,
            "pattern_persistence_enabled": false,
            "volume_enabled": true,
            "volume_max_series": volume::LIMIT_MAX,
        },
    }))
}

/// Of Loki, whose API this is.
const VERSION: &str = "3.8.0";

async fn build() -> Json<Value> {
    Json(
        json!({ "version": VERSION, "revision": env!("CARGO_PKG_VERSION"), "branch": "bellrock", "goVersion": "", "buildUser": "", "buildDate": "" }),
    )
}

/// An answer written out, on the pool for blocking work, next to the query that found it.
fn success_text(data: &impl Serialize, warning: Option<String>, budget: &Budget) -> Result<String> {
    #[derive(Serialize)]
    struct Success<'d, D> {
        status: &'static str,
        data: &'d D,
        #[serde(skip_serializing_if = "Option::is_none")]
        warnings: Option<[String; 1]>,
    }
    written::json(&Success { status: "success", data, warnings: warning.map(|warning| [warning]) }, budget)
}

#[allow(clippy::unnecessary_wraps, reason = "handlers end with it")]
fn json_text(text: String) -> Answer {
    Ok(written::response(text))
}
