//! Tempo's API, below `/tempo`, as far as Grafana's data source needs it to show a trace and to search.

mod search;
mod tags;

use crate::app::App;
use crate::error::TextError;
use crate::params::Params;
use crate::routes::Routes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use br_model::{Principal, Right, TraceId};
use br_query::door::Language;
use br_std::{Error, Nanos, Result};
use br_storage::TimeRange;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .get("/tempo/api/echo", Right::Read, async || "echo")
        .get("/tempo/api/traces/{id}", Right::Read, trace)
        .get("/tempo/api/v2/traces/{id}", Right::Read, trace_v2)
        .get("/tempo/api/search", Right::Read, search::search)
        .get("/tempo/api/search/tags", Right::Read, tags::names)
        .get("/tempo/api/v2/search/tags", Right::Read, tags::scoped_names)
        .get("/tempo/api/search/tag/{name}/values", Right::Read, tags::values)
        .get("/tempo/api/v2/search/tag/{name}/values", Right::Read, tags::typed_values)
        .get("/tempo/api/status/buildinfo", Right::Read, build)
}

/// A trace is wanted whole, and begins or ends a little outside of the range that a client knows: this much is looked through beside it.
const BESIDE: Duration = Duration::from_hours(1);

/// Where to look for a trace, by `start` and `end` in Unix seconds; everywhere without them. As in Tempo, 0 is not given.
fn around(params: &Params) -> Result<Option<TimeRange>> {
    let given = |name| params.time(name).map(|time| time.filter(|time| *time != Nanos(0)));
    let (start, end) = (given("start")?, given("end")?);
    if start.zip(end).is_some_and(|(start, end)| end < start) {
        return Err(Error::fix_request("invalid parameter \"start\": it is after \"end\""));
    }
    if start.is_none() && end.is_none() {
        return Ok(None);
    }
    let from = start.map_or(Nanos::MIN, |start| start - BESIDE);
    let to = end.map_or(Nanos::MAX, |end| end + BESIDE);
    Ok(Some(TimeRange::new(from, to)))
}

async fn spans(app: &App, principal: &Principal, id: &str, params: &Params) -> Result<br_model::SpanBatch> {
    let trace_id = TraceId::from_hex(id).filter(|id| !id.is_none());
    let trace_id = trace_id.ok_or_else(|| Error::fix_request(format!("{id:?} is no trace id: 32 hexadecimal digits")))?;
    let around = around(params)?;
    let tenant = principal.tenant;
    let found = app
        .query(tenant, Language::Lookup, id, None, move |sources, budget| sources.spans(tenant).trace(trace_id, around, budget))
        .await?;
    if found.is_empty() {
        return Err(Error::not_found(format!("trace {trace_id} not found")));
    }
    let mut batch = br_model::SpanBatch::default();
    for stored in found {
        let same = |group: &&mut br_model::ResourceSpans| group.resource == stored.resource && group.scope == stored.scope;
        match batch.groups.iter_mut().find(same) {
            Some(group) => group.spans.push(stored.span),
            None => batch.groups.push(br_model::ResourceSpans {
                resource: stored.resource,
                scope: stored.scope,
                spans: vec![stored.span],
            }),
        }
    }
    Ok(batch)
}

/// Protobuf where the client asks for it, as Grafana does; JSON otherwise.
fn wants_protobuf(headers: &HeaderMap) -> bool {
    headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).is_some_and(|accept| accept.contains("protobuf"))
}

fn encoded(headers: &HeaderMap, batch: &br_model::SpanBatch) -> Response {
    if wants_protobuf(headers) {
        ([(header::CONTENT_TYPE, "application/protobuf")], br_wire::otlp::encode_traces(batch)).into_response()
    } else {
        ([(header::CONTENT_TYPE, "application/json")], br_wire::otlp::encode_traces_json(batch)).into_response()
    }
}

async fn trace(
    State(app): State<Arc<App>>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, TextError> {
    let batch = spans(&app, &principal, &id, &params).await?;
    Ok(encoded(&headers, &batch))
}

/// A `tempopb.TraceByIDResponse`: the trace is its field 1, and what else it has is left at its default, which says "complete".
async fn trace_v2(
    State(app): State<Arc<App>>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, TextError> {
    let batch = spans(&app, &principal, &id, &params).await?;
    if wants_protobuf(&headers) {
        let response = br_wire::otlp::message_field(1, &br_wire::otlp::encode_traces(&batch));
        return Ok(([(header::CONTENT_TYPE, "application/protobuf")], response).into_response());
    }
    let trace: Value = serde_json::from_str(&br_wire::otlp::encode_traces_json(&batch))
        .map_err(|error| Error::corrupt(format!("the trace cannot be written as JSON: {error}")))?;
    Ok(Json(json!({ "trace": trace, "status": "COMPLETE" })).into_response())
}

/// Grafana chooses features by this version: it is that of the Tempo whose API is spoken.
const TEMPO_VERSION: &str = "2.8.0";

async fn build() -> Json<Value> {
    Json(json!({
        "version": TEMPO_VERSION,
        "revision": env!("CARGO_PKG_VERSION"),
        "branch": "bellrock",
        "buildUser": "",
        "buildDate": "",
        "goVersion": "",
    }))
}

/// `start` and `end` in Unix seconds; the last hour without them.
fn range(app: &App, params: &Params) -> Result<TimeRange> {
    let end = params.time("end")?.unwrap_or_else(|| app.clock.now());
    let start = params.time("start")?.unwrap_or(end - Duration::from_hours(1));
    if end < start {
        return Err(Error::fix_request("invalid parameter \"start\": it is after \"end\""));
    }
    Ok(TimeRange::new(start, Nanos(end.0.saturating_add(1))))
}
