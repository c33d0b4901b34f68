//! Version 1: everything in `data`, errors in `errors`.

use super::{adjust, check, closed, duration, json_tags, limit, names_range, options};
use crate::app::App;
use crate::error::{status, with_retry_after};
use crate::params::Params;
use crate::routes::Routes;
use crate::service_links;
use crate::whole_traces::{Wanted, answer, operations, trace_id, views};
use crate::written::{self, Each, Text};
use axum::Extension;
use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use br_model::{Principal, ResourceSpans, Right, SpanBatch, TenantId, TraceId};
use br_query::door::Language;
use br_std::{Error, Nanos, Result};
use br_storage::{Budget, SpanSource, StoredSpan, TimeRange};
use br_traceql::ServiceLink;
use br_wire::jaeger::TraceFilter;
use br_wire::{SpanView, otlp};
use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .get("/jaeger/api/services", Right::Read, services)
        .get("/jaeger/api/services/{service}/operations", Right::Read, operations_of)
        .get("/jaeger/api/operations", Right::Read, operations_with_kinds)
        .get("/jaeger/api/traces", Right::Read, traces)
        .get("/jaeger/api/traces/{id}", Right::Read, trace)
        .get("/jaeger/api/dependencies", Right::Read, dependencies)
        .post("/jaeger/api/transform", Right::Read, transform)
}

type Answer = Result<Response, V1Error>;

const BEFORE: &str = r#"{"data":["#;
const AFTER: &str = r#"],"total":0,"limit":0,"offset":0,"errors":null}"#;
/// Traces that one request names.
const TRACES_MAX: usize = 1000;

#[derive(Debug)]
struct V1Error(Error);

impl From<Error> for V1Error {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for V1Error {
    fn into_response(self) -> Response {
        let status = status(self.0.kind());
        let errors = json!([{ "code": status.as_u16(), "msg": self.0.message() }]);
        let body = json!({ "data": null, "total": 0, "limit": 0, "offset": 0, "errors": errors });
        with_retry_after(self.0.kind(), (status, Json(body)).into_response())
    }
}

/// Lists come with their length in `total`.
#[derive(Serialize)]
struct Listed<D> {
    total: usize,
    data: D,
    limit: usize,
    offset: usize,
    errors: Option<Value>,
}

impl<D> Listed<D> {
    fn new(total: usize, data: D) -> Self {
        Self { total, data, limit: 0, offset: 0, errors: None }
    }
}

async fn list(
    app: &App,
    tenant: TenantId,
    what: &str,
    find: impl FnOnce(&dyn SpanSource, &Budget) -> Result<Vec<Value>> + Send + 'static,
) -> Result<Response> {
    let text = app.query(tenant, Language::Lookup, what, None, move |sources, budget| {
        let data = find(&*sources.spans(tenant), budget)?;
        written::json(&Listed::new(data.len(), data), budget)
    });
    Ok(written::response(text.await?))
}

async fn services(State(app): State<Arc<App>>, Extension(principal): Extension<Principal>) -> Answer {
    let range = names_range(&app);
    let find = move |source: &dyn SpanSource, budget: &Budget| {
        Ok(source.services(range, budget)?.into_iter().map(Value::from).collect())
    };
    Ok(list(&app, principal.tenant, "services", find).await?)
}

async fn operations_of(
    State(app): State<Arc<App>>,
    Extension(principal): Extension<Principal>,
    Path(service): Path<String>,
) -> Answer {
    let range = names_range(&app);
    let find = move |source: &dyn SpanSource, budget: &Budget| {
        Ok(source.operations(&service, range, budget)?.into_iter().map(Value::from).collect())
    };
    Ok(list(&app, principal.tenant, "operations", find).await?)
}

async fn operations_with_kinds(
    State(app): State<Arc<App>>,
    Extension(principal): Extension<Principal>,
    params: Params,
) -> Answer {
    let range = names_range(&app);
    let service = params.required("service")?.to_owned();
    let wanted = params.get("spanKind").map(str::to_lowercase);
    let find = move |source: &dyn SpanSource, budget: &Budget| {
        let found = operations(source, &service, range, budget)?;
        let found = found.into_iter().filter(|(_, kind)| wanted.as_ref().is_none_or(|wanted| wanted == kind));
        Ok(found.map(|(name, kind)| json!({ "name": name, "spanKind": kind })).collect())
    };
    Ok(list(&app, principal.tenant, "operations", find).await?)
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
    let wanted = Wanted::Named { ids: vec![trace_id(&id)?], around: around(&params)? };
    let (count, text) = answer(&app, principal.tenant, wanted, (BEFORE, AFTER), write).await?;
    if count == 0 {
        return Err(Error::not_found("trace not found").into());
    }
    Ok(written::response(text))
}

fn write(out: &mut Text<'_>, mut spans: Vec<StoredSpan>) -> io::Result<()> {
    adjust::unshare(&mut spans);
    br_wire::jaeger::write_trace(out, &views(&spans))
}

/// A time in microseconds.
fn micros(params: &Params, name: &str) -> Result<Option<Nanos>> {
    let Some(text) = params.get(name) else { return Ok(None) };
    let nanos = text.parse::<i64>().ok().and_then(|micros| micros.checked_mul(1000));
    let nanos =
        nanos.ok_or_else(|| Error::fix_request(format!("invalid parameter {name:?}: {text:?} is no time in microseconds")))?;
    Ok(Some(Nanos(nanos)))
}

/// Grafana's data source gives milliseconds here; a trace that is not where it says is found all the same.
fn around(params: &Params) -> Result<Option<TimeRange>> {
    super::around(micros(params, "start")?, micros(params, "end")?)
}

/// Traces by their ids, else a search. Unlike in Jaeger no service has to be named.
fn wanted(params: &Params, now: Nanos) -> Result<Wanted> {
    let mut ids = Vec::new();
    for text in params.all("traceID").filter(|id| !id.is_empty()) {
        let id = trace_id(text)?;
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    if ids.len() > TRACES_MAX {
        return Err(Error::fix_request(format!("invalid parameter \"traceID\": more than {TRACES_MAX} of them")));
    }
    if !ids.is_empty() {
        return Ok(Wanted::Named { ids, around: around(params)? });
    }
    let end = micros(params, "end")?.unwrap_or(now);
    let lookback = match params.get("lookback").filter(|lookback| *lookback != "custom") {
        None => Duration::from_hours(1),
        Some(text) => br_std::duration::parse(text)
            .map_err(|error| Error::fix_request(format!("invalid parameter \"lookback\": {}", error.message())))?,
    };
    let start = micros(params, "start")?.unwrap_or(end - lookback);
    let options = options(closed(start, end)?, limit(params, "limit")?);
    Ok(Wanted::Found { query: filter(params)?.to_traceql(), options })
}

fn filter(params: &Params) -> Result<TraceFilter> {
    let mut tags = Vec::new();
    for text in params.all("tags").filter(|text| !text.is_empty()) {
        tags.extend(json_tags("tags", text)?);
    }
    for text in params.all("tag").filter(|text| !text.is_empty()) {
        let (key, value) = text
            .split_once(':')
            .ok_or_else(|| Error::fix_request(format!("invalid parameter \"tag\": {text:?} is not key:value")))?;
        tags.push((key.to_owned(), value.to_owned()));
    }
    let filter = TraceFilter {
        service: params.get("service").unwrap_or("").to_owned(),
        operation: params.get("operation").filter(|name| *name != "all").unwrap_or("").to_owned(),
        tags,
        duration_min_nanos: duration(params, &["minDuration"])?,
        duration_max_nanos: duration(params, &["maxDuration"])?,
    };
    check(&filter)?;
    Ok(filter)
}

async fn dependencies(State(app): State<Arc<App>>, Extension(principal): Extension<Principal>, params: Params) -> Answer {
    let range = service_links::range(&params, app.clock.now())?;
    let service = params.get("service").map(str::to_owned);
    let write = move |links: &[ServiceLink], budget: &Budget| {
        let is_wanted = |name: &str| service.as_ref().is_none_or(|service| service == name);
        let links: Vec<&ServiceLink> = links.iter().filter(|link| is_wanted(&link.parent) || is_wanted(&link.child)).collect();
        let shown = |link: &&ServiceLink| json!({ "parent": &*link.parent, "child": &*link.child, "callCount": link.calls });
        written::json(&Listed::new(links.len(), Each(|| links.iter().map(shown))), budget)
    };
    Ok(service_links::answer(&app, principal.tenant, range, write).await?)
}

/// Shows OTLP/JSON, such as a file that somebody drops on the page, without keeping it.
async fn transform(State(app): State<Arc<App>>, Extension(principal): Extension<Principal>, body: Bytes) -> Answer {
    let (now, limits) = (app.clock.now(), app.limits);
    let text = app.query(principal.tenant, Language::Lookup, "transform", None, move |_, budget| {
        // In memory spans take several times what they take as text.
        budget.charge(16 * body.len() as u64)?;
        let decoded = otlp::decode_traces(&body, otlp::Encoding::Json, now, &limits).map_err(Error::from)?;
        if decoded.rejected_count > 0 {
            return Err(Error::fix_request(decoded.message()));
        }
        transformed(&decoded.value, budget)
    });
    Ok(written::response(text.await?))
}

fn transformed(batch: &SpanBatch, budget: &Budget) -> Result<String> {
    let mut places: HashMap<TraceId, usize> = HashMap::new();
    let mut traces: Vec<Vec<SpanView<'_>>> = Vec::new();
    for ResourceSpans { resource, scope, spans } in &batch.groups {
        for span in spans {
            let place = *places.entry(span.trace_id).or_insert_with(|| {
                traces.push(Vec::new());
                traces.len() - 1
            });
            traces[place].push(SpanView { resource, scope, span });
        }
    }
    written::text(budget, |out| {
        out.write_all(BEFORE.as_bytes())?;
        for (at, trace) in traces.iter().enumerate() {
            if at > 0 {
                out.write_all(b",")?;
            }
            br_wire::jaeger::write_trace(out, trace)?;
        }
        out.write_all(AFTER.as_bytes())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_has_jaegers_words() {
        let now = Nanos::from_secs(10_000);
        let search = |form: &str| match wanted(&Params::parse(form), now).expect("valid") {
            Wanted::Found { query, options } => (query, options.range, options.limit),
            Wanted::Named { .. } => panic!("a search"),
        };
        let range = TimeRange::new(Nanos::from_secs(6_400), Nanos(10_000_000_000_001));
        assert_eq!(search(""), ("{  }".to_owned(), range, 20));
        let (query, range, limit) = search("service=a&operation=b&start=1000&end=2000&minDuration=1.5ms&limit=7");
        assert_eq!(query, r#"{ resource.service.name = "a" && name = "b" && duration >= 1500000ns }"#);
        assert_eq!((range, limit), (TimeRange::new(Nanos(1_000_000), Nanos(2_000_001)), 7));
        assert_eq!(search("tags=%7B%22n%22%3A5%7D").0, search("tag=n:5").0, "numbers are text");
        assert_eq!(search("lookback=2h&end=10000000000").1.from, Nanos::from_secs(10_000 - 7_200));
        assert_eq!(search("limit=0").2, 20, "as in Jaeger");
        let named = wanted(&Params::parse("traceID=a1&traceID=a2&traceID=00a1"), now).expect("valid");
        assert!(matches!(named, Wanted::Named { ids, around: None } if ids.len() == 2));
        for wrong in [
            "start=x",
            "start=5&end=4",
            "minDuration=5",
            "minDuration=2s&maxDuration=1s",
            "tags=5",
            "tag=x",
            "tag=:x",
            "limit=5000",
            "traceID=xyz",
            "lookback=often",
        ] {
            assert!(wanted(&Params::parse(wrong), now).is_err(), "{wrong}");
        }
    }
}
