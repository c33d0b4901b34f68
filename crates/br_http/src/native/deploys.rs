//! Deploys: which version of a service runs since when.

use super::{Answer, range};
use crate::app::App;
use crate::params::Params;
use crate::time::rfc3339;
use axum::extract::State;
use axum::{Extension, Json};
use br_catalog::{Deploy, DeployFilter};
use br_model::Principal;
use br_std::Nanos;
use serde_json::{Value, json};
use std::sync::Arc;

const LIST_MAX: usize = 1000;

pub(super) async fn list(State(app): State<Arc<App>>, Extension(principal): Extension<Principal>, params: Params) -> Answer {
    let range = range(&app, &params)?;
    let text = |name: &str| params.get(name).map(str::to_owned);
    let filter = DeployFilter {
        service: text("service"),
        environment: text("environment"),
        from: Some(range.from),
        to: Some(Nanos(range.to.0.saturating_sub(1))),
    };
    let limit = params.limit(100, LIST_MAX)?;
    let deploys = app.catalog.deploys(principal.tenant, &filter, limit as u32).await?;
    Ok(Json(json!({ "deploys": deploys.iter().map(shown).collect::<Vec<Value>>() })))
}

fn shown(deploy: &Deploy) -> Value {
    json!({
        "service": deploy.place.service,
        "environment": deploy.place.environment,
        "version": deploy.version,
        "previous_version": deploy.previous,
        "at": rfc3339(deploy.at),
        "last_seen": rfc3339(deploy.last_seen),
    })
}
