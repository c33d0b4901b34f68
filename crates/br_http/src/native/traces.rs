//! Traces: search, and one by its id.

use super::range;
use crate::app::App;
use crate::error::ApiError;
use crate::json::attributes;
use crate::params::Params;
use crate::time::{millis, rfc3339};
use crate::written::{self, Each};
use axum::Extension;
use axum::extract::{Path, State};
use axum::response::Response;
use br_model::{Principal, TenantId, TraceId};
use br_query::door::Language;
use br_std::{Error, Result};
use br_storage::{Budget, StoredSpan};
use br_traceql::{Rank, SearchOptions, TraceMatch};
use serde::Serialize;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::sync::Arc;

const LIMIT_DEFAULT: usize = 20;
const LIMIT_MAX: usize = 1000;

#[derive(Serialize)]
struct Summaries<T> {
    traces: T,
    /// Where a search goes on that stopped at its limit.
    next: Option<String>,
}

pub(super) async fn search(
    State(app): State<Arc<App>>,
    Extension(principal): Extension<Principal>,
    params: Params,
) -> Result<Response, ApiError> {
    let range = range(&app, &params)?;
    let limit = params.limit(LIMIT_DEFAULT, LIMIT_MAX)?;
    let text = narrowed(params.get("q"), conditions(&params)?)?;
    let options = SearchOptions { range, limit, spans_per_spanset: 0, after: after(&params)? };
    let text = search_traces(&app, principal.tenant, text, options, move |found, budget| {
        let next = Rank::of_last(&found, limit).map(|last| last.to_string());
        written::json(&Summaries { traces: Each(|| found.iter().map(summary)), next }, budget)
    });
    Ok(written::response(text.await?))
}

/// The parameter `after`: what the answer before called `next`.
pub(crate) fn after(params: &Params) -> Result<Option<Rank>> {
    let Some(text) = params.get("after") else { return Ok(None) };
    let rank = Rank::parse(text).ok_or_else(|| {
        Error::fix_request(format!("invalid parameter \"after\": {text:?} is not what an answer before called \"next\""))
    });
    rank.map(Some)
}

/// Searches through the query door; `write` makes the answer there too.
pub(crate) async fn search_traces<T: Send + 'static>(
    app: &App,
    tenant: TenantId,
    text: String,
    options: SearchOptions,
    write: impl FnOnce(Vec<TraceMatch>, &Budget) -> Result<T> + Send + 'static,
) -> Result<T> {
    let expr = br_traceql::parse(&text).map_err(|error| Error::fix_request(format!("invalid parameter \"q\": {error}")))?;
    let shown = text.clone();
    app.query(tenant, Language::TraceQl, &shown, None, move |sources, budget| {
        write(br_traceql::search(&*sources.spans(tenant), &expr, &text, &options, budget)?, budget)
    })
    .await
}

fn summary(found: &TraceMatch) -> Value {
    let services: Vec<Value> = found.services.iter().map(|(name, spans)| json!({ "name": name, "spans": spans })).collect();
    json!({
        "trace_id": found.trace_id.to_string(),
        "root_service": found.root_service,
        "root_name": found.root_name,
        "started_at": rfc3339(found.start),
        "duration_ms": millis(found.duration_nanos),
        "spans": found.spans,
        "errors": found.errors,
        "services": services,
    })
}

/// A query whose matching spans must also satisfy the conditions: another stage behind the query's own.
pub(crate) fn narrowed(query: Option<&str>, conditions: Vec<String>) -> Result<String> {
    let filter = format!("{{ {} }}", conditions.join(" && "));
    let Some(query) = query else { return Ok(filter) };
    let expr = br_traceql::parse(query).map_err(|error| Error::fix_request(format!("invalid parameter \"q\": {error}")))?;
    if conditions.is_empty() || matches!(expr.root, br_traceql::ast::Root::Metrics(_)) {
        return Ok(query.to_owned());
    }
    // Hints stand at the very end: the stage goes before them.
    let end = if expr.hints.is_empty() { query.len() } else { query.rfind("with").unwrap_or(query.len()) };
    Ok(format!("{} | {filter} {}", &query[..end], &query[end..]).trim_end().to_owned())
}

/// The form's fields as TraceQL.
fn conditions(params: &Params) -> Result<Vec<String>> {
    let mut conditions = Vec::new();
    if let Some(service) = params.get("service") {
        conditions.push(format!("resource.service.name = {}", quoted(service)));
    }
    if let Some(name) = params.get("name") {
        conditions.push(format!("name = {}", quoted(name)));
    }
    match params.get("status") {
        None => {}
        Some(status @ ("error" | "ok" | "unset")) => conditions.push(format!("status = {status}")),
        Some(other) => {
            return Err(Error::fix_request(format!("invalid parameter \"status\": {other:?} is none of error, ok, unset")));
        }
    }
    for (parameter, operator) in [("min_duration_ms", ">="), ("max_duration_ms", "<=")] {
        if let Some(text) = params.get(parameter) {
            let wrong =
                || Error::fix_request(format!("invalid parameter {parameter:?}: {text:?} is not a number of milliseconds"));
            let duration_ms: f64 = text.parse().map_err(|_| wrong())?;
            if !(duration_ms.is_finite() && duration_ms >= 0.0) {
                return Err(wrong());
            }
            conditions.push(format!("duration {operator} {}ns", (duration_ms * 1e6).round()));
        }
    }
    for attribute in params.all("attribute").filter(|attribute| !attribute.is_empty()) {
        let (key, value) = attribute
            .split_once('=')
            .ok_or_else(|| Error::fix_request(format!("invalid parameter \"attribute\": {attribute:?} is not key=value")))?;
        conditions.push(attribute_condition(key.trim(), value.trim()));
    }
    Ok(conditions)
}

/// A value that reads as a number or a truth value may have been sent as one, or as text.
pub(crate) fn attribute_condition(key: &str, value: &str) -> String {
    let key = format!(".{}", quoted(key));
    let mut condition = format!("{key} = {}", quoted(value));
    let plain_number = value.parse::<f64>().is_ok_and(f64::is_finite)
        && value.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.' || byte == b'-');
    if plain_number || matches!(value, "true" | "false") {
        let _ = write!(condition, " || {key} = {value}");
        condition = format!("({condition})");
    }
    condition
}

pub(crate) fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

pub(super) async fn trace(
    State(app): State<Arc<App>>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let trace_id = TraceId::from_hex(&id).filter(|id| !id.is_none());
    let trace_id = trace_id.ok_or_else(|| Error::fix_request(format!("{id:?} is no trace id: 32 hexadecimal digits")))?;
    let text = app.query(principal.tenant, Language::Lookup, &id, None, move |sources, budget| {
        let spans = sources.spans(principal.tenant).trace(trace_id, None, budget)?;
        if spans.is_empty() {
            return Err(Error::not_found(format!("no trace {trace_id}: it may not have arrived yet, or be past its retention")));
        }
        budget.charge(spans.iter().map(StoredSpan::heap_bytes).sum())?;
        whole(trace_id, spans, budget)
    });
    Ok(written::response(text.await?))
}

#[derive(Serialize)]
struct Whole<T> {
    trace_id: String,
    started_at: String,
    duration_ms: f64,
    spans: T,
}

fn whole(trace_id: TraceId, mut spans: Vec<StoredSpan>, budget: &Budget) -> Result<String> {
    spans.sort_by_key(|stored| (stored.span.start, stored.span.span_id));
    let start = spans.iter().map(|stored| stored.span.start).min().unwrap_or_default();
    let end = spans.iter().map(|stored| stored.span.end).max().unwrap_or_default();
    let whole = Whole {
        trace_id: trace_id.to_string(),
        started_at: rfc3339(start),
        duration_ms: millis(end.0.saturating_sub(start.0).max(0)),
        spans: Each(|| spans.iter().map(|stored| span(stored, start.0))),
    };
    written::json(&whole, budget)
}

fn span(stored: &StoredSpan, start: i64) -> Value {
    let span = &stored.span;
    let offset = |nanos: i64| millis(nanos.saturating_sub(start));
    let events: Vec<Value> = span
        .events
        .iter()
        .map(|event| json!({ "offset_ms": offset(event.timestamp.0), "name": event.name, "attributes": attributes(&event.attributes) }))
        .collect();
    let links: Vec<Value> = span
        .links
        .iter()
        .map(|link| json!({ "trace_id": link.trace_id.to_string(), "span_id": link.span_id.to_string() }))
        .collect();
    let parent = (!span.parent_span_id.is_none()).then(|| span.parent_span_id.to_string());
    json!({
        "span_id": span.span_id.to_string(),
        "parent_span_id": parent,
        "service": stored.resource.service_name(),
        "name": span.name,
        "kind": span.kind.as_str(),
        "offset_ms": offset(span.start.0),
        "duration_ms": millis(span.duration_nanos()),
        "status": span.status.as_str(),
        "status_message": span.status_message,
        "attributes": attributes(&span.attributes),
        "resource": attributes(&stored.resource.attributes),
        "scope": { "name": stored.scope.name, "version": stored.scope.version },
        "events": events,
        "links": links,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_becomes_traceql() {
        let text = |form: &str| {
            let params = Params::parse(form);
            narrowed(params.get("q"), conditions(&params)?)
        };
        let check = |form: &str, expect: &str| {
            assert_eq!(text(form).expect("valid"), expect);
            br_traceql::parse(expect).expect("valid TraceQL");
        };
        check("", "{  }");
        check("service=a%22b&status=error", r#"{ resource.service.name = "a\"b" && status = error }"#);
        check("min_duration_ms=1.5", "{ duration >= 1500000ns }");
        check("attribute=http.route%3D/a", r#"{ ."http.route" = "/a" }"#);
        check("attribute=code%3D500", r#"{ (."code" = "500" || ."code" = 500) }"#);
        check("status=ok", "{ status = ok }");
        check("q={duration>1s}", "{duration>1s}");
        check("q={duration>1s}&service=a&status=unset", r#"{duration>1s} | { resource.service.name = "a" && status = unset }"#);
        check("q={.a=1}||{.b=2}&name=x", r#"{.a=1}||{.b=2} | { name = "x" }"#);
        check("q={.with=1}+with(most_recent=true)&name=x", r#"{.with=1}  | { name = "x" } with(most_recent=true)"#);
        for wrong in ["attribute=x", "min_duration_ms=x", "status=bogus", "q={&name=x"] {
            assert!(text(wrong).is_err(), "{wrong}");
        }
    }
}
