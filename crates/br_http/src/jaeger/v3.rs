//! Version 3: traces as OTLP/JSON. Parameters have the names of the `.proto` file, or the same in lower camel case.

use super::{adjust, around, check, closed, duration, json_tags, limit, names_range, options};
use crate::app::App;
use crate::error::{status, with_retry_after};
use crate::params::Params;
use crate::routes::Routes;
use crate::whole_traces::{Wanted, answer, operations, trace_id, views};
use crate::written::{self, Text};
use axum::Extension;
use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use br_model::{Principal, Right};
use br_query::door::Language;
use br_std::{Error, Nanos, Result};
use br_storage::StoredSpan;
use br_wire::jaeger::TraceFilter;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Below `/jaeger`, and where Jaeger itself has them.
pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .get("/jaeger/api/v3/services", Right::Read, services)
        .get("/api/v3/services", Right::Read, services)
        .get("/jaeger/api/v3/operations", Right::Read, operations_of)
        .get("/api/v3/operations", Right::Read, operations_of)
        .get("/jaeger/api/v3/traces", Right::Read, traces)
        .get("/api/v3/traces", Right::Read, traces)
        .get("/jaeger/api/v3/traces/{id}", Right::Read, trace)
        .get("/api/v3/traces/{id}", Right::Read, trace)
        .get("/jaeger/api/v3/trace-summaries", Right::Read, summaries)
        .get("/api/v3/trace-summaries", Right::Read, summaries)
}

type Answer = Result<Response, V3Error>;

const BEFORE: &str = r#"{"result":{"resourceSpans":["#;
const AFTER: &str = "]}}";

#[derive(Debug)]
struct V3Error(Error);

impl From<Error> for V3Error {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for V3Error {
    fn into_response(self) -> Response {
        let status = status(self.0.kind());
        let body = json!({ "error": { "httpCode": status.as_u16(), "message": self.0.message() } });
        with_retry_after(self.0.kind(), (status, Json(body)).into_response())
    }
}

async fn services(State(app): State<Arc<App>>, Extension(principal): Extension<Principal>) -> Answer {
    let (tenant, range) = (principal.tenant, names_range(&app));
    let text = app.query(tenant, Language::Lookup, "services", None, move |sources, budget| {
        written::json(&json!({ "services": sources.spans(tenant).services(range, budget)? }), budget)
    });
    Ok(written::response(text.await?))
}

async fn operations_of(State(app): State<Arc<App>>, Extension(principal): Extension<Principal>, params: Params) -> Answer {
    let (tenant, range) = (principal.tenant, names_range(&app));
    let service = params.required("service")?.to_owned();
    let wanted = params.get("span_kind").or_else(|| params.get("spanKind")).map(str::to_lowercase);
    let text = app.query(tenant, Language::Lookup, "operations", None, move |sources, budget| {
        let found = operations(&*sources.spans(tenant), &service, range, budget)?;
        // As in Jaeger's gateway.
        let named = |kind: &'static str| if kind.is_empty() { "internal" } else { kind };
        let found: BTreeSet<(&str, &str)> = found.iter().map(|(name, kind)| (name.as_str(), named(kind))).collect();
        let found = found.into_iter().filter(|(_, kind)| wanted.as_ref().is_none_or(|wanted| wanted == kind));
        let found: Vec<Value> = found.map(|(name, kind)| json!({ "name": name, "spanKind": kind })).collect();
        written::json(&json!({ "operations": found }), budget)
    });
    Ok(written::response(text.await?))
}

async fn traces(State(app): State<Arc<App>>, Extension(principal): Extension<Principal>, params: Params) -> Answer {
    let wanted = wanted(&params, app.clock.now())?;
    let (_, text) = answer(&app, principal.tenant, wanted, (BEFORE, AFTER), write).await?;
    Ok(written::response(text))
}

async fn trace(
    State(app): State<Arc<App>>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
    params: Params,
) -> Answer {
    let around = around(time(&params, "", "start_time")?, time(&params, "", "end_time")?)?;
    let wanted = Wanted::Named { ids: vec![trace_id(&id)?], around };
    let (count, text) = answer(&app, principal.tenant, wanted, (BEFORE, AFTER), write).await?;
    if count == 0 {
        return Err(Error::not_found("trace not found").into());
    }
    Ok(written::response(text))
}

async fn summaries(State(app): State<Arc<App>>, Extension(principal): Extension<Principal>, params: Params) -> Answer {
    let wanted = wanted(&params, app.clock.now())?;
    let (_, text) = answer(&app, principal.tenant, wanted, (r#"{"summaries":["#, "]}"), write_summary).await?;
    Ok(written::response(text))
}

fn write(out: &mut Text<'_>, mut spans: Vec<StoredSpan>) -> io::Result<()> {
    adjust::unshare(&mut spans);
    br_wire::jaeger::write_resource_spans(out, &views(&spans))
}

fn write_summary(out: &mut Text<'_>, spans: Vec<StoredSpan>) -> io::Result<()> {
    br_wire::jaeger::write_summary(out, &views(&spans))
}

/// The same in lower camel case.
fn camel(name: &str) -> String {
    let mut parts = name.split('_');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (first, rest) = part.split_at(1);
        out.push_str(&first.to_ascii_uppercase());
        out.push_str(rest);
    }
    out
}

/// Both names of a parameter.
fn both(prefix: &str, name: &str) -> [String; 2] {
    [format!("{prefix}{name}"), format!("{prefix}{}", camel(name))]
}

fn get<'a>(params: &'a Params, name: &str) -> Option<&'a str> {
    both("query.", name).iter().find_map(|name| params.get(name))
}

/// RFC 3339.
fn time(params: &Params, prefix: &str, name: &str) -> Result<Option<Nanos>> {
    for name in both(prefix, name) {
        if let Some(time) = params.time(&name)? {
            return Ok(Some(time));
        }
    }
    Ok(None)
}

/// What a search may be narrowed by here, and what does not change what is found.
const KNOWN: [&str; 10] = [
    "service_name",
    "operation_name",
    "attributes",
    "start_time_min",
    "start_time_max",
    "duration_min",
    "duration_max",
    "search_depth",
    "num_traces",
    "raw_traces",
];

/// A condition that is passed over would find what was not asked for.
fn check_names(params: &Params) -> Result<()> {
    let is_known = |name: &str| KNOWN.iter().any(|known| both("query.", known).iter().any(|known| known == name));
    match params.names().find(|name| name.starts_with("query.") && !is_known(name)) {
        None => Ok(()),
        Some(name) => {
            Err(Error::fix_request(format!("the parameter {name:?} is not known here; there are {}", KNOWN.join(", "))))
        }
    }
}

fn wanted(params: &Params, now: Nanos) -> Result<Wanted> {
    check_names(params)?;
    let end = time(params, "query.", "start_time_max")?.unwrap_or(now);
    let start = time(params, "query.", "start_time_min")?.unwrap_or(end - Duration::from_hours(1));
    let limit_name = ["query.search_depth", "query.searchDepth", "query.num_traces", "query.numTraces"];
    let limit_name = limit_name.into_iter().find(|name| params.get(name).is_some()).unwrap_or("query.search_depth");
    let options = options(closed(start, end)?, limit(params, limit_name)?);
    Ok(Wanted::Found { query: filter(params)?.to_traceql(), options })
}

fn filter(params: &Params) -> Result<TraceFilter> {
    let bound = |name: &str| {
        let names = both("query.", name);
        duration(params, &[&names[0], &names[1]])
    };
    let filter = TraceFilter {
        service: get(params, "service_name").unwrap_or("").to_owned(),
        operation: get(params, "operation_name").unwrap_or("").to_owned(),
        tags: params.get("query.attributes").map_or(Ok(Vec::new()), |text| json_tags("query.attributes", text))?,
        duration_min_nanos: bound("duration_min")?,
        duration_max_nanos: bound("duration_max")?,
    };
    check(&filter)?;
    Ok(filter)
}

#[cfg(test)]
mod tests {
    use super::*;
    use br_storage::TimeRange;

    #[test]
    fn a_search_has_both_cases() {
        let now = Nanos::from_secs(10_000);
        let search = |form: &str| match wanted(&Params::parse(form), now).expect("valid") {
            Wanted::Found { query, options } => (query, options.range, options.limit),
            Wanted::Named { .. } => panic!("a search"),
        };
        let snake = "query.service_name=a&query.operation_name=b&query.start_time_min=1970-01-01T00:00:01Z\
                     &query.start_time_max=1970-01-01T00:00:02Z&query.duration_min=1s&query.search_depth=7";
        let camel = "query.serviceName=a&query.operationName=b&query.startTimeMin=1970-01-01T00:00:01Z\
                     &query.startTimeMax=1970-01-01T00:00:02Z&query.durationMin=1s&query.searchDepth=7";
        let expect = r#"{ resource.service.name = "a" && name = "b" && duration >= 1000000000ns }"#;
        let range = TimeRange::new(Nanos::from_secs(1), Nanos(2_000_000_001));
        assert_eq!(search(snake), (expect.to_owned(), range, 7));
        assert_eq!(search(camel), search(snake));
        assert!(search("query.attributes=%7B%22k%22%3A%22v%22%7D").0.contains(r#"span."k" = "v""#));
        for wrong in [
            "query.start_time_min=x",
            "query.attributes=%5B%5D",
            "query.num_traces=9999",
            "query.duration_max=1",
            "query.filter=x",
            "query.pagination.pageSize=5",
        ] {
            assert!(wanted(&Params::parse(wrong), now).is_err(), "{wrong}");
        }
    }
}
