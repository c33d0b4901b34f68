//! Loki's API, `/loki/api/v1`.

mod encode;
mod labels;
mod query;
mod tail;
mod volume;

use crate::app::App;
use crate::error::TextError;
use crate::params::Params;
use crate::routes::Routes;
use axum::Json;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use br_model::Right;
use br_std::{Nanos, Result};
use br_storage::TimeRange;
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
        .get_or_form("/loki/api/v1/detected_labels", Right::Read, volume::detected_labels)
        .get("/loki/api/v1/tail", Right::Read, tail::tail)
        .get("/loki/api/v1/status/buildinfo", Right::Read, build)
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

async fn build() -> Json<Value> {
    Json(
        json!({ "version": "3.8.0", "revision": env!("CARGO_PKG_VERSION"), "branch": "bellrock", "goVersion": "", "buildUser": "", "buildDate": "" }),
    )
}

#[allow(clippy::unnecessary_wraps, reason = "handlers end with it")]
fn success(data: Value) -> Answer {
    json_text(success_text(data, None))
}

/// An answer written out. What may be long is written on the pool for blocking work, next to the query that found it.
fn success_text(data: Value, warning: Option<String>) -> String {
    // Put together by hand: `json!` would copy the data.
    let pairs = [("status".to_owned(), Value::from("success")), ("data".to_owned(), data)];
    let warnings = warning.map(|warning| ("warnings".to_owned(), json!([warning])));
    Value::Object(pairs.into_iter().chain(warnings).collect()).to_string()
}

#[allow(clippy::unnecessary_wraps, reason = "handlers end with it")]
fn json_text(text: String) -> Answer {
    Ok(([(header::CONTENT_TYPE, "application/json")], text).into_response())
}
