//! Zipkin's query API, below `/zipkin`: its own pages and Grafana's data source take `http://HOST:PORT/zipkin`.
//!
//! Source: openzipkin/zipkin-api `zipkin2-api.yaml`.

use crate::app::App;
use crate::error::TextError;
use crate::params::Params;
use crate::routes::Routes;
use crate::service_links;
use crate::whole_traces::{PEER, Wanted, answer, look, trace_id, views};
use crate::written::{self, Each};
use axum::Extension;
use axum::extract::{Path, State};
use axum::response::Response;
use br_model::{Principal, Right};
use br_query::door::Language;
use br_std::{Error, Nanos, Result};
use br_storage::{Budget, SpanSource, StoredSpan, TimeRange};
use br_traceql::{SearchOptions, ServiceLink};
use br_wire::jaeger::{quoted, service_condition, value_conditions};
use serde_json::json;
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .get("/zipkin/api/v2/services", Right::Read, services)
        .get("/zipkin/api/v2/spans", Right::Read, spans)
        .get("/zipkin/api/v2/remoteServices", Right::Read, remote_services)
        .get("/zipkin/api/v2/traces", Right::Read, traces)
        .get("/zipkin/api/v2/trace/{id}", Right::Read, trace)
        .get("/zipkin/api/v2/traceMany", Right::Read, trace_many)
        .get("/zipkin/api/v2/dependencies", Right::Read, dependencies)
        .get("/zipkin/api/v2/autocompleteKeys", Right::Read, nothing)
        .get("/zipkin/api/v2/autocompleteValues", Right::Read, nothing)
}

type Answer = Result<Response, TextError>;

const LIMIT_DEFAULT: usize = 10;
const LIMIT_MAX: usize = 1000;
/// Traces of one `traceMany`.
const TRACES_MAX: usize = 1000;
/// How far back lists of names go.
const NAMES_BACK: Duration = Duration::from_hours(24 * 7);
/// Conditions of one `annotationQuery`.
const ANNOTATIONS_MAX: usize = 16;

/// Zipkin's server is told which keys to complete; here nothing is.
async fn nothing() -> Response {
    written::response("[]".to_owned())
}

async fn names(
    app: &App,
    principal: &Principal,
    find: impl FnOnce(&dyn SpanSource, TimeRange, &Budget) -> Result<Vec<String>> + Send + 'static,
) -> Answer {
    let (tenant, now) = (principal.tenant, app.clock.now());
    let range = TimeRange::new(now - NAMES_BACK, Nanos::MAX);
    let text = app.query(tenant, Language::Lookup, "names", None, move |sources, budget| {
        written::json(&find(&*sources.spans(tenant), range, budget)?, budget)
    });
    Ok(written::response(text.await?))
}

async fn services(State(app): State<Arc<App>>, Extension(principal): Extension<Principal>) -> Answer {
    names(&app, &principal, |source, range, budget| source.services(range, budget)).await
}

async fn spans(State(app): State<Arc<App>>, Extension(principal): Extension<Principal>, params: Params) -> Answer {
    let service = params.required("serviceName")?.to_owned();
    names(&app, &principal, move |source, range, budget| source.operations(&service, range, budget)).await
}

async fn remote_services(State(app): State<Arc<App>>, Extension(principal): Extension<Principal>, params: Params) -> Answer {
    let service = params.required("serviceName")?.to_owned();
    names(&app, &principal, move |source, range, budget| {
        let mut peers = BTreeSet::new();
        look(source, &service, range, budget, |stored| {
            if let Some(peer) = stored.span.attributes.get_str(PEER)
                && !peers.contains(peer)
            {
                budget.charge(peer.len() as u64 + 64)?;
                peers.insert(peer.to_owned());
            }
            Ok(())
        })?;
        Ok(peers.into_iter().collect())
    })
    .await
}

async fn traces(State(app): State<Arc<App>>, Extension(principal): Extension<Principal>, params: Params) -> Answer {
    let range = service_links::range(&params, app.clock.now())?;
    let limit = params.limit(LIMIT_DEFAULT, LIMIT_MAX)?;
    let options = SearchOptions { range, limit, spans_per_spanset: 0, after: None };
    let wanted = Wanted::Found { query: query(&params)?, options };
    let (_, text) = answer(&app, principal.tenant, wanted, ("[", "]"), write).await?;
    Ok(written::response(text))
}

async fn trace(State(app): State<Arc<App>>, Extension(principal): Extension<Principal>, Path(id): Path<String>) -> Answer {
    let wanted = Wanted::Named { ids: vec![trace_id(&id)?], around: None };
    let (count, text) = answer(&app, principal.tenant, wanted, ("", ""), write).await?;
    if count == 0 {
        return Err(Error::not_found(format!("{id} not found")).into());
    }
    Ok(written::response(text))
}

async fn trace_many(State(app): State<Arc<App>>, Extension(principal): Extension<Principal>, params: Params) -> Answer {
    let mut ids = Vec::new();
    for id in params.required("traceIds")?.split(',') {
        let id = trace_id(id.trim())?;
        if !ids.contains(&id) {
            ids.push(id);
        }
        if ids.len() > TRACES_MAX {
            return Err(Error::fix_request(format!("invalid parameter \"traceIds\": more than {TRACES_MAX}")).into());
        }
    }
    let (_, text) = answer(&app, principal.tenant, Wanted::Named { ids, around: None }, ("[", "]"), write).await?;
    Ok(written::response(text))
}

fn write(out: &mut written::Text<'_>, spans: Vec<StoredSpan>) -> io::Result<()> {
    br_wire::zipkin::write_trace(out, &views(&spans))
}

async fn dependencies(State(app): State<Arc<App>>, Extension(principal): Extension<Principal>, params: Params) -> Answer {
    params.required("endTs")?;
    let range = service_links::range(&params, app.clock.now())?;
    let write = |links: &[ServiceLink], budget: &Budget| {
        let shown = |link: &ServiceLink| {
            let mut shown = json!({ "parent": &*link.parent, "child": &*link.child, "callCount": link.calls });
            if link.errors > 0 {
                shown["errorCount"] = link.errors.into();
            }
            shown
        };
        written::json(&Each(|| links.iter().map(shown)), budget)
    };
    Ok(service_links::answer(&app, principal.tenant, range, write).await?)
}

/// Each condition must hold for some span of the service, not all of them for the same, as in Zipkin.
fn query(params: &Params) -> Result<String> {
    let mut conditions = Vec::new();
    if let Some(name) = params.get("spanName").filter(|name| *name != "all") {
        conditions.push(format!("name = {}", quoted(name)));
    }
    if let Some(service) = params.get("remoteServiceName") {
        conditions.push(format!("span.\"peer.service\" = {}", quoted(service)));
    }
    let (least, most) = (params.number("minDuration", 0)?, params.number("maxDuration", 0)?);
    if most > 0 && most < least {
        return Err(Error::fix_request("invalid parameter \"maxDuration\": it is less than \"minDuration\""));
    }
    let duration = [(">=", least), ("<=", most)].into_iter().filter(|(_, micros)| *micros > 0);
    let duration: Vec<String> = duration.map(|(operator, micros)| format!("duration {operator} {micros}us")).collect();
    if !duration.is_empty() {
        conditions.push(duration.join(" && "));
    }
    for annotation in annotations(params.get("annotationQuery").unwrap_or(""))? {
        conditions.push(annotation);
    }
    let service = params.get("serviceName").filter(|service| *service != "all").map(service_condition);
    if conditions.is_empty() {
        return Ok(format!("{{ {} }}", service.unwrap_or_default()));
    }
    let filter = |condition: &String| match &service {
        Some(service) => format!("{{ {service} && {condition} }}"),
        None => format!("{{ {condition} }}"),
    };
    Ok(conditions.iter().map(filter).collect::<Vec<_>>().join(" && "))
}

/// `error and http.method=GET`: an annotation or a tag of that name, or a tag with that value.
fn annotations(text: &str) -> Result<Vec<String>> {
    let mut conditions = Vec::new();
    for part in text.split(" and ").map(str::trim).filter(|part| !part.is_empty()) {
        let (key, value) = part.split_once('=').map_or((part, ""), |(key, value)| (key.trim(), value.trim()));
        if key.is_empty() {
            return Err(Error::fix_request(format!("invalid parameter \"annotationQuery\": {part:?} has no key")));
        }
        let field = |place: &str| format!("{place}.{}", quoted(key));
        let mut any = Vec::new();
        if value.is_empty() {
            any.push(format!("event:name = {}", quoted(key)));
            any.extend([format!("{} != nil", field("span")), format!("{} != nil", field("resource"))]);
            if key == "error" {
                any.push("status = error".to_owned());
            }
        } else {
            any.extend(value_conditions(&field("span"), value));
            any.extend(value_conditions(&field("resource"), value));
        }
        conditions.push(format!("({})", any.join(" || ")));
    }
    if conditions.len() > ANNOTATIONS_MAX {
        return Err(Error::fix_request(format!("invalid parameter \"annotationQuery\": more than {ANNOTATIONS_MAX} conditions")));
    }
    Ok(conditions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_becomes_traceql() {
        let check = |form: &str, expect: &str| {
            let text = query(&Params::parse(form)).expect("valid");
            assert_eq!(text, expect);
            br_traceql::parse(&text).expect("valid TraceQL");
        };
        check("", "{  }");
        check("serviceName=a&spanName=all", r#"{ resource.service.name = "a" }"#);
        check("spanName=get&minDuration=5", r#"{ name = "get" } && { duration >= 5us }"#);
        check(
            "serviceName=a&annotationQuery=error%20and%20http.method%3DGET&minDuration=5&maxDuration=9&remoteServiceName=db",
            "{ resource.service.name = \"a\" && span.\"peer.service\" = \"db\" } && \
             { resource.service.name = \"a\" && duration >= 5us && duration <= 9us } && \
             { resource.service.name = \"a\" && (event:name = \"error\" || span.\"error\" != nil || resource.\"error\" != nil \
             || status = error) } && { resource.service.name = \"a\" && (span.\"http.method\" = \"GET\" || resource.\"http.method\" \
             = \"GET\") }",
        );
        for wrong in ["minDuration=x", "minDuration=9&maxDuration=5", "annotationQuery=%3Dx"] {
            assert!(query(&Params::parse(wrong)).is_err(), "{wrong}");
        }
    }
}
