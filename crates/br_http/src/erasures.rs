//! Erasing what logs and spans hold of a person: the native calls, and Loki's.

use crate::app::App;
use crate::error::{ApiError, TextError};
use crate::params::{self, Params};
use crate::time::{rfc3339, rfc3339_or_null};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use br_ingest::erasure::ErasureRequest;
use br_jobs::erasures::{self, ErasureState, KnownErasure};
use br_model::Principal;
use br_std::{Error, Nanos, Result};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Tells erasures of one moment apart.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// What to erase; all that is given must hold.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Body {
    query: Option<String>,
    #[serde(default)]
    attributes: BTreeMap<String, String>,
    contains: Option<String>,
    start: Option<Value>,
    end: Option<Value>,
    of: Option<String>,
}

fn time(name: &str, value: Option<&Value>) -> Result<Option<Nanos>> {
    let text = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    let parsed = params::time(&text);
    parsed.map(Some).ok_or_else(|| Error::fix_request(format!("{name} {text:?} is neither RFC 3339 nor Unix seconds")))
}

/// What was accepted before is hidden from queries when this answers, and is gone from everywhere by the deadline.
pub(crate) async fn begin(
    State(app): State<Arc<App>>,
    Extension(principal): Extension<Principal>,
    Json(body): Json<Body>,
) -> Result<Response, ApiError> {
    let request = ErasureRequest {
        query: body.query,
        attributes: body.attributes.into_iter().collect(),
        contains: body.contains,
        from: time("start", body.start.as_ref())?.unwrap_or(Nanos::MIN).0,
        to: time("end", body.end.as_ref())?.unwrap_or(Nanos::MAX).0,
        of: body.of,
        ..ErasureRequest::default()
    };
    let known = erase(&app, &principal, request).await?;
    Ok((StatusCode::ACCEPTED, Json(shown(&known.state, app.clock.now()))).into_response())
}

/// Neither here nor in the log stands what is erased.
async fn erase(app: &Arc<App>, principal: &Principal, request: ErasureRequest) -> Result<KnownErasure> {
    let now = app.clock.now();
    let id = format!("{:016x}{:04x}", now.0, NUMBER.fetch_add(1, Ordering::Relaxed) & 0xffff);
    let request = ErasureRequest { version: ErasureRequest::VERSION, id, by: principal.name.clone(), at: now.0, ..request };
    request.compile()?;
    let (erasure, tenant, by) = (request.id.clone(), principal.tenant.0, principal.name.clone());
    let known = app.flusher.erase_events(principal.tenant, request).await?;
    tracing::info!(event = "ErasureBegun", erasure, tenant, by);
    Ok(known)
}

pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Extension(principal): Extension<Principal>,
) -> Result<Json<Value>, ApiError> {
    let known = erasures::list(&app.catalog, Some(principal.tenant)).await?;
    let now = app.clock.now();
    Ok(Json(json!({ "erasures": known.iter().rev().map(|one| shown(&one.state, now)).collect::<Vec<_>>() })))
}

pub(crate) async fn get(
    State(app): State<Arc<App>>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let known = erasures::list(&app.catalog, Some(principal.tenant)).await?;
    let found = known.iter().find(|one| one.state.id == id);
    let found = found.ok_or_else(|| Error::not_found(format!("there is no erasure {id:?}")))?;
    Ok(Json(shown(&found.state, app.clock.now())))
}

fn shown(state: &ErasureState, now: Nanos) -> Value {
    let time = |at: Option<i64>| rfc3339_or_null(at.map(Nanos));
    let word = match (state.finished_at, state.blocked_by.is_empty()) {
        (Some(_), _) => "done",
        (None, false) => "blocked",
        (None, true) => "running",
    };
    let asked = state.request.as_ref().map(|request| {
        let bound = |at: i64, open: Nanos| rfc3339_or_null((at != open.0).then_some(Nanos(at)));
        json!({
            "query": request.query,
            "attributes": request.attributes.iter().cloned().collect::<BTreeMap<_, _>>(),
            "contains": request.contains,
            "start": bound(request.from, Nanos::MIN),
            "end": bound(request.to, Nanos::MAX),
            "of": request.of,
        })
    });
    json!({
        "id": state.id,
        "state": word,
        "by": state.by,
        "requested_at": rfc3339(Nanos(state.requested_at)),
        "deadline": rfc3339(Nanos(state.deadline)),
        "overdue": state.is_overdue(now),
        "files_rewritten": state.files_rewritten,
        "texts_replaced": state.texts_replaced,
        "files_clean_at": time(state.files_clean_at),
        "files_gone_at": time(state.files_gone_at),
        "journal_cut_at": time(state.journal_cut_at),
        "finished_at": time(state.finished_at),
        "blocked_by": state.blocked_by,
        "request": asked,
    })
}

/// `POST /loki/api/v1/delete`.
pub(crate) async fn loki_begin(
    State(app): State<Arc<App>>,
    Extension(principal): Extension<Principal>,
    params: Params,
) -> Result<Response, TextError> {
    let from = params.time("start")?.ok_or_else(|| Error::fix_request("start time not set"))?;
    let to = params.time("end")?.unwrap_or(app.clock.now());
    let request = ErasureRequest {
        query: Some(params.required("query")?.to_owned()),
        from: from.0,
        to: to.0.saturating_add(1),
        of: Some("logs".to_owned()),
        ..ErasureRequest::default()
    };
    erase(&app, &principal, request).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `GET /loki/api/v1/delete`.
pub(crate) async fn loki_list(
    State(app): State<Arc<App>>,
    Extension(principal): Extension<Principal>,
) -> Result<Response, TextError> {
    let seconds = |nanos: i64| nanos as f64 / 1e9;
    let known = erasures::list(&app.catalog, Some(principal.tenant)).await?;
    let shown = known.iter().map(|KnownErasure { state, .. }| {
        let request = state.request.as_ref();
        json!({
            "request_id": state.id,
            "start_time": request.map_or(0.0, |request| seconds(request.from)),
            "end_time": request.map_or(0.0, |request| seconds(request.to)),
            // What is carried out is forgotten.
            "query": request.and_then(|request| request.query.clone()).unwrap_or_default(),
            "status": if state.finished_at.is_some() { "processed" } else { "received" },
            "created_at": seconds(state.requested_at),
        })
    });
    Ok(Json(shown.collect::<Vec<_>>()).into_response())
}

/// `DELETE /loki/api/v1/delete`: an erasure takes effect at once, and cannot be taken back.
pub(crate) async fn loki_cancel(
    State(app): State<Arc<App>>,
    Extension(principal): Extension<Principal>,
    params: Params,
) -> Result<Response, TextError> {
    let id = params.required("request_id")?;
    let known = erasures::list(&app.catalog, Some(principal.tenant)).await?;
    if !known.iter().any(|one| one.state.id == id) {
        return Err(Error::not_found(format!("could not find delete request with id {id:?}")).into());
    }
    Err(Error::fix_request("a delete request takes effect at once here: it cannot be cancelled").into())
}
