//! The native API, `/bellrock/v1`; docs/native-api.md lists the shapes.

mod admin;
mod alerts;
mod issues;
pub(crate) mod openapi;
mod services;
mod sql;
mod status;
pub(crate) mod traces;

use crate::app::App;
use crate::error::ApiError;
use crate::params::Params;
use crate::routes::Routes;
use axum::Json;
use br_model::Role;
use br_std::{Nanos, Result};
use br_storage::TimeRange;
use serde_json::Value;
use std::time::Duration;

type Answer = Result<Json<Value>, ApiError>;

pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .get("/bellrock/v1/status", Role::Viewer, status::status)
        .get("/bellrock/v1/queries", Role::Viewer, status::queries)
        .post("/bellrock/v1/queries/{id}/cancel", Role::Viewer, status::cancel)
        .get("/bellrock/v1/services", Role::Viewer, services::services)
        .get("/bellrock/v1/traces", Role::Viewer, traces::search)
        .get("/bellrock/v1/traces/{id}", Role::Viewer, traces::trace)
        .get("/bellrock/v1/issues", Role::Viewer, issues::list)
        .get("/bellrock/v1/issues/{id}", Role::Viewer, issues::get)
        .post("/bellrock/v1/issues/{id}", Role::Responder, issues::set_status)
        .get("/bellrock/v1/alerts", Role::Viewer, alerts::list)
        .get("/bellrock/v1/alerts/{id}", Role::Viewer, alerts::get)
        .get("/bellrock/v1/incidents", Role::Viewer, alerts::incidents)
        .get("/bellrock/v1/incidents/{id}", Role::Viewer, alerts::incident)
        .post("/bellrock/v1/incidents/{id}/acknowledge", Role::Responder, alerts::acknowledge)
        .post("/bellrock/v1/incidents/{id}/resolve", Role::Responder, alerts::resolve)
        .post("/bellrock/v1/incidents/{id}/notes", Role::Responder, alerts::note)
        .post("/bellrock/v1/sql", Role::Viewer, sql::sql)
        .post("/bellrock/v1/admin/flush", Role::Admin, admin::flush)
        .get("/bellrock/v1/openapi.json", Role::Viewer, openapi::openapi)
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
