//! Tempo's API for traces, as far as Grafana's data source needs it to show one and to search.

use crate::app::App;
use crate::error::{ApiError, TextError};
use crate::native::traces::search_traces;
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
use br_traceql::{MatchedSpanset, SearchOptions};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .get("/tempo/api/echo", Right::Read, async || "echo")
        .get("/tempo/api/traces/{id}", Right::Read, trace)
        .get("/tempo/api/v2/traces/{id}", Right::Read, trace_v2)
        .get("/tempo/api/search", Right::Read, search)
}

async fn spans(app: &App, principal: &Principal, id: &str) -> Result<br_model::SpanBatch> {
    let trace_id = TraceId::from_hex(id).filter(|id| !id.is_none());
    let trace_id = trace_id.ok_or_else(|| Error::fix_request(format!("{id:?} is no trace id: 32 hexadecimal digits")))?;
    let tenant = principal.tenant;
    let found = app
        .query(tenant, Language::Lookup, id, None, move |sources, budget| sources.spans(tenant).trace(trace_id, None, budget))
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
fn encoded(headers: &HeaderMap, batch: &br_model::SpanBatch) -> Response {
    let wants_protobuf =
        headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).is_some_and(|accept| accept.contains("protobuf"));
    if wants_protobuf {
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
) -> Result<Response, TextError> {
    let batch = spans(&app, &principal, &id).await?;
    Ok(encoded(&headers, &batch))
}

async fn trace_v2(
    State(app): State<Arc<App>>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let batch = spans(&app, &principal, &id).await?;
    let trace: Value = serde_json::from_str(&br_wire::otlp::encode_traces_json(&batch))
        .map_err(|error| Error::corrupt(format!("the trace cannot be written as JSON: {error}")))?;
    Ok(Json(json!({ "trace": trace, "status": "COMPLETE" })))
}

async fn search(
    State(app): State<Arc<App>>,
    Extension(principal): Extension<Principal>,
    params: Params,
) -> Result<Json<Value>, TextError> {
    let now = app.clock.now();
    let end = params.time("end")?.unwrap_or(now);
    let start = params.time("start")?.unwrap_or(end - Duration::from_hours(1));
    let range = TimeRange::new(start, Nanos(end.0.saturating_add(1)));
    let limit = params.number("limit", 20)?.min(1000);
    let text = params.get("q").unwrap_or("{}").to_owned();
    let options = SearchOptions { range, limit, spans_per_spanset: params.number("spss", 3)? };
    let found = search_traces(&app, principal.tenant, text, options).await?;
    let traces: Vec<Value> = found
        .iter()
        .map(|found| {
            let span_sets: Vec<Value> = found.spansets.iter().map(span_set).collect();
            json!({
                "spanSets": span_sets,
                "traceID": found.trace_id.to_string(),
                "rootServiceName": found.root_service,
                "rootTraceName": found.root_name,
                "startTimeUnixNano": found.start.0.to_string(),
                "durationMs": found.duration_nanos / 1_000_000,
            })
        })
        .collect();
    Ok(Json(json!({ "traces": traces, "metrics": {} })))
}

fn span_set(set: &MatchedSpanset) -> Value {
    let spans: Vec<Value> = set
        .spans
        .iter()
        .map(|span| {
            json!({
                "spanID": span.span_id.to_string(),
                "name": span.name,
                "startTimeUnixNano": span.start.0.to_string(),
                "durationNanos": span.duration_nanos.to_string(),
            })
        })
        .collect();
    json!({ "matched": set.matched, "spans": spans })
}
