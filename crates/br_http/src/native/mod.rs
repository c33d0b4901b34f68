//! The native API, `/bellrock/v1`; docs/native-api.md lists the shapes.

mod admin;
mod alerts;
mod deploys;
mod imports;
mod issues;
pub(crate) mod openapi;
mod services;
mod sql;
mod status;
pub(crate) mod traces;

use crate::app::App;
use crate::erasures;
use crate::error::ApiError;
use crate::params::Params;
use crate::routes::Routes;
use alerts::Verb;
use axum::Json;
use br_model::Right;
use br_std::{Nanos, Result};
use br_storage::TimeRange;
use serde_json::Value;
use std::time::Duration;

type Answer = Result<Json<Value>, ApiError>;

pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .get("/bellrock/v1/status", Right::Read, status::status)
        .get("/bellrock/v1/queries", Right::Read, status::queries)
        .post("/bellrock/v1/queries/{id}/cancel", Right::Read, status::cancel)
        .add(&axum::http::Method::DELETE, "/bellrock/v1/queries/{id}", Right::Read, status::cancel)
        .get("/bellrock/v1/services", Right::Read, services::services)
        .get("/bellrock/v1/deploys", Right::Read, deploys::list)
        .get("/bellrock/v1/traces", Right::Read, traces::search)
        .get("/bellrock/v1/traces/{id}", Right::Read, traces::trace)
        .get("/bellrock/v1/issues", Right::Read, issues::list)
        .get("/bellrock/v1/issues/{id}", Right::Read, issues::get)
        .post("/bellrock/v1/issues/{id}", Right::Respond, issues::set_status)
        .get("/bellrock/v1/alerts", Right::Read, alerts::list)
        .get("/bellrock/v1/alerts/{id}", Right::Read, alerts::get)
        .get("/bellrock/v1/incidents", Right::Read, alerts::incidents)
        .get("/bellrock/v1/incidents/{id}", Right::Read, alerts::incident)
        .post("/bellrock/v1/incidents/{id}/acknowledge", Right::Respond, |app, principal, id, body| {
            alerts::act(Verb::Acknowledge, app, principal, id, body)
        })
        .post("/bellrock/v1/incidents/{id}/resolve", Right::Respond, |app, principal, id, body| {
            alerts::act(Verb::Resolve, app, principal, id, body)
        })
        .post("/bellrock/v1/incidents/{id}/notes", Right::Respond, |app, principal, id, body| {
            alerts::act(Verb::Note, app, principal, id, body)
        })
        .post("/bellrock/v1/sql", Right::Read, sql::sql)
        .post("/bellrock/v1/admin/flush", Right::Administer, admin::flush)
        .get("/bellrock/v1/admin/imports", Right::Administer, imports::look)
        .post("/bellrock/v1/admin/imports", Right::Administer, imports::commit)
        .post("/bellrock/v1/admin/imports/files", Right::Administer, imports::put_file)
        .get("/bellrock/v1/admin/erasures", Right::Administer, erasures::list)
        .post("/bellrock/v1/admin/erasures", Right::Administer, erasures::begin)
        .get("/bellrock/v1/admin/erasures/{id}", Right::Administer, erasures::get)
        .get("/bellrock/v1/openapi.json", Right::Read, openapi::openapi)
}

/// `from` and `to`, by default the last hour.
fn range(app: &App, params: &Params) -> Result<TimeRange> {
    let now = app.clock.now();
    let to = params.time_or_relative("to", now)?.unwrap_or(now);
    let from = params.time_or_relative("from", now)?.unwrap_or(to - Duration::from_hours(1));
    if from > to {
        return Err(br_std::Error::fix_request("invalid parameter \"from\": it is after \"to\""));
    }
    Ok(TimeRange::new(from, Nanos(to.0.saturating_add(1))))
}
