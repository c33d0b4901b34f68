//! Tempo's API, below `/tempo`, as far as Grafana's data source and its Traces Drilldown need it: traces, searches and series of spans.

mod metrics;
mod search;
mod tags;

pub(crate) use search::go_duration;

use crate::app::App;
use crate::error::TextError;
use crate::params::Params;
use crate::routes::Routes;
use crate::written;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use br_model::{Principal, ResourceSpans, Right, Span, SpanBatch, TraceId};
use br_query::door::Language;
use br_std::{Error, Nanos, Result};
use br_storage::{Budget, StoredSpan, TimeRange};
use serde_json::{Value, json};
use std::io::Write as _;
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
        .get("/tempo/api/metrics/query_range", Right::Read, metrics::query_range)
        .get("/tempo/api/metrics/query", Right::Read, metrics::query)
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

/// A trace as `write` writes it. What it takes counts: the spans, a copy of them in the form of the wire, and the answer.
async fn found<T: Send + 'static>(
    app: &App,
    principal: &Principal,
    id: &str,
    params: &Params,
    write: impl FnOnce(&SpanBatch, &Budget) -> Result<T> + Send + 'static,
) -> Result<T> {
    let trace_id = TraceId::from_hex(id).filter(|id| !id.is_none());
    let trace_id = trace_id.ok_or_else(|| Error::fix_request(format!("{id:?} is no trace id: 32 hexadecimal digits")))?;
    let around = around(params)?;
    let tenant = principal.tenant;
    app.query(tenant, Language::Lookup, id, None, move |sources, budget| {
        let spans = sources.spans(tenant).trace(trace_id, around, budget)?;
        if spans.is_empty() {
            return Err(Error::not_found(format!("trace {trace_id} not found")));
        }
        budget.charge(2 * spans.iter().map(StoredSpan::heap_bytes).sum::<u64>())?;
        write(&batch(spans), budget)
    })
    .await
}

fn batch(spans: Vec<StoredSpan>) -> SpanBatch {
    let mut batch = SpanBatch::default();
    for stored in spans {
        let same = |group: &&mut ResourceSpans| group.resource == stored.resource && group.scope == stored.scope;
        match batch.groups.iter_mut().find(same) {
            Some(group) => group.spans.push(stored.span),
            None => {
                batch.groups.push(ResourceSpans { resource: stored.resource, scope: stored.scope, spans: vec![stored.span] });
            }
        }
    }
    batch
}

/// Protobuf where the client asks for it, as Grafana does; JSON otherwise.
fn wants_protobuf(headers: &HeaderMap) -> bool {
    headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).is_some_and(|accept| accept.contains("protobuf"))
}

fn protobuf(batch: &SpanBatch, budget: &Budget) -> Result<Vec<u8>> {
    // Shorter than the spans are in memory, which is not known before it is there.
    let spans = batch.groups.iter().flat_map(|group| &group.spans);
    budget.charge(spans.map(|span| (size_of::<Span>() + span.attributes.heap_bytes()) as u64).sum())?;
    Ok(br_wire::otlp::encode_traces(batch))
}

fn protobuf_response(bytes: Vec<u8>) -> Response {
    ([(header::CONTENT_TYPE, "application/protobuf")], bytes).into_response()
}

async fn trace(
    State(app): State<Arc<App>>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, TextError> {
    if wants_protobuf(&headers) {
        return Ok(protobuf_response(found(&app, &principal, &id, &params, protobuf).await?));
    }
    let text = found(&app, &principal, &id, &params, |batch, budget| {
        written::text(budget, |out| br_wire::otlp::write_traces_json(batch, out))
    });
    Ok(written::response(text.await?))
}

/// A `tempopb.TraceByIDResponse`: the trace is its field 1, and what else it has is left at its default, which says "complete".
async fn trace_v2(
    State(app): State<Arc<App>>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, TextError> {
    if wants_protobuf(&headers) {
        let response = found(&app, &principal, &id, &params, |batch, budget| {
            let trace = protobuf(batch, budget)?;
            budget.charge(trace.len() as u64)?;
            Ok(br_wire::otlp::message_field(1, &trace))
        });
        return Ok(protobuf_response(response.await?));
    }
    let text = found(&app, &principal, &id, &params, |batch, budget| {
        written::text(budget, |out| {
            out.write_all(br#"{"trace":"#)?;
            br_wire::otlp::write_traces_json(batch, &mut *out)?;
            out.write_all(br#","status":"COMPLETE"}"#)
        })
    });
    Ok(written::response(text.await?))
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
