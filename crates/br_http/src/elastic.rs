//! Elasticsearch's face for log shippers, below `/elastic`: the bulk API, and what Filebeat, Logstash, Fluent Bit, Vector and the
//! official clients ask before they send. Nothing can be searched here.
//!
//! Sources: Elasticsearch's REST API reference; `libbeat/esleg`, `libbeat/idxmgmt` and `libbeat/licenser` of Beats for what is asked.

use crate::app::App;
use crate::ingest::{accept_with, http_status, kind};
use crate::params::Params;
use crate::routes::Routes;
use crate::warning;
use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use br_ingest::intake::AcceptError;
use br_journal::Protocol;
use br_model::{Principal, Right};
use br_std::Kind;
use br_wire::decompress::decompress_header;
use br_wire::elastic::{self, answer};
use serde_json::{Value, json};
use std::sync::Arc;

pub(crate) fn routes(mut routes: Routes) -> Routes {
    // HEAD comes with GET.
    for method in [Method::GET, Method::POST, Method::PUT, Method::DELETE] {
        for path in ["/elastic", "/elastic/", "/elastic/{*path}"] {
            routes = routes.add(&method, path, Right::Send, call);
        }
    }
    routes
}

/// The version that is claimed: shippers of its major version and of the next speak to it as it is.
const VERSION: &str = "8.19.0";

async fn call(State(app): State<Arc<App>>, Extension(principal): Extension<Principal>, request: Request) -> Response {
    let media_type = media_type(request.headers());
    let path = request.uri().path().to_owned();
    let parts: Vec<&str> = path.split('/').skip(2).filter(|part| !part.is_empty()).collect();
    let method = request.method().clone();
    let is_sent = matches!(method, Method::POST | Method::PUT);
    let mut response = match parts[..] {
        ["_bulk"] if is_sent => bulk(&app, &principal, "", request).await,
        [index, "_bulk"] | [index, _, "_bulk"] if is_sent => bulk(&app, &principal, index, request).await,
        [index, "_doc"] if is_sent => document(&app, &principal, index, None, request).await,
        [index, "_doc" | "_create", id] if is_sent => document(&app, &principal, index, Some(id), request).await,
        _ => handshake(&method, &parts),
    };
    let headers = response.headers_mut();
    headers.insert("x-elastic-product", HeaderValue::from_static("Elasticsearch"));
    headers.insert(header::CONTENT_TYPE, media_type);
    response
}

/// Clients of version 8 and later ask for JSON under a name of their own, and want it back under that.
fn media_type(headers: &HeaderMap) -> HeaderValue {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("");
    let compatible = accept.split(',').map(str::trim).find(|one| one.starts_with("application/vnd.elasticsearch+json"));
    let known = match compatible {
        Some(one) if one.ends_with("compatible-with=7") => "application/vnd.elasticsearch+json;compatible-with=7",
        Some(one) if one.ends_with("compatible-with=9") => "application/vnd.elasticsearch+json;compatible-with=9",
        Some(_) => "application/vnd.elasticsearch+json;compatible-with=8",
        None => "application/json",
    };
    HeaderValue::from_static(known)
}

async fn bulk(app: &App, principal: &Principal, index: &str, request: Request) -> Response {
    let params = Params::parse(request.uri().query().unwrap_or(""));
    // Filebeat wants of each item its status and its error alone.
    let is_short = params.get("filter_path").is_some_and(|filter| filter.contains("items.*.status"));
    let began = app.clock.now();
    match accept_with(app, principal, Protocol::ELASTIC_BULK, index_context(index), request).await {
        Err(error) => failure(&error),
        Ok(receipt) => {
            let took = app.clock.now().as_millis() - began.as_millis();
            let items = receipt.items.unwrap_or_default();
            let text = answer(&items, u64::try_from(took).unwrap_or(0), is_short);
            warning::on(text.into_response(), receipt.cut.as_slice())
        }
    }
}

fn index_context(index: &str) -> Vec<(String, String)> {
    if index.is_empty() { Vec::new() } else { vec![("index".to_owned(), index.to_owned())] }
}

/// A document by itself: it is taken in as a bulk request of one.
async fn document(app: &App, principal: &Principal, index: &str, id: Option<&str>, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    let received = match app.bodies.receive(body, app.limits.body_bytes_max).await {
        Ok(received) => received,
        Err(error) => return failure(&error),
    };
    let encoding = parts.headers.get(header::CONTENT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or("");
    let plain = decompress_header(&received.bytes, encoding, &app.limits);
    let made = match plain.and_then(|plain| elastic::bulk_of_document(&plain, id)) {
        Ok(made) => made,
        Err(error) => return failure(&error.into()),
    };
    parts.headers.remove(header::CONTENT_ENCODING);
    parts.headers.remove(header::CONTENT_LENGTH);
    drop(received);
    let request = Request::from_parts(parts, Body::from(made));
    match accept_with(app, principal, Protocol::ELASTIC_BULK, index_context(index), request).await {
        Err(error) => failure(&error),
        Ok(receipt) => {
            let items = receipt.items.unwrap_or_default();
            let refusal = items.items.first().and_then(|item| item.refusal.clone());
            if let Some(refusal) = refusal {
                return told(StatusCode::BAD_REQUEST, refusal.error_type, &refusal.reason);
            }
            let id = id.unwrap_or("bellrock-0");
            let shards = json!({ "total": 1, "successful": 1, "failed": 0 });
            let body = json!({ "_index": index, "_id": id, "_version": 1, "result": "created", "_shards": shards,
                "_seq_no": 0, "_primary_term": 1 });
            warning::on((StatusCode::CREATED, body.to_string()).into_response(), receipt.cut.as_slice())
        }
    }
}

/// Nothing was kept. What Elasticsearch answers under load is 429: its clients send all of it again.
fn failure(error: &AcceptError) -> Response {
    let (status, error_type) = match (kind(error), http_status(error)) {
        (Kind::Retry | Kind::Closed, _) => (StatusCode::TOO_MANY_REQUESTS, "es_rejected_execution_exception"),
        (_, status) if status.is_server_error() => (status, "exception"),
        (_, StatusCode::PAYLOAD_TOO_LARGE) => (StatusCode::PAYLOAD_TOO_LARGE, "content_too_long_exception"),
        (_, status) => (status, "illegal_argument_exception"),
    };
    let mut response = told(status, error_type, &error.to_string());
    if status == StatusCode::TOO_MANY_REQUESTS {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

fn told(status: StatusCode, error_type: &str, reason: &str) -> Response {
    (status, elastic::error(status.as_u16(), error_type, reason)).into_response()
}

/// What shippers ask and set up before they send. Everything that they would set up is there already and needs nothing.
fn handshake(method: &Method, parts: &[&str]) -> Response {
    let is_asked = matches!(*method, Method::GET | Method::HEAD);
    let found = match parts {
        _ if *method == Method::DELETE => None,
        [] => is_asked.then(info),
        _ if is_asked => asked(parts),
        ["_ilm", "policy", _]
        | ["_index_template" | "_component_template" | "_template" | "_data_stream", _]
        | ["_ingest", "pipeline", _]
        | ["_cluster", "settings"]
        | ["_data_stream", _, "_lifecycle"]
        | [_, "_alias" | "_aliases" | "_settings" | "_mapping" | "_refresh" | "_flush"] => Some(json!({ "acknowledged": true })),
        [index] if !index.starts_with('_') => Some(json!({ "acknowledged": true, "shards_acknowledged": true, "index": index })),
        _ => None,
    };
    if let Some(body) = found {
        return body.to_string().into_response();
    }
    let reason = format!("no such call: {method} /{}; this server takes logs in, it is no Elasticsearch", parts.join("/"));
    told(StatusCode::NOT_FOUND, "illegal_argument_exception", &reason)
}

fn asked(parts: &[&str]) -> Option<Value> {
    let license = || json!({ "uid": "bellrock", "type": "basic", "mode": "basic", "status": "active" });
    Some(match parts {
        ["_license"] => json!({ "license": license() }),
        ["_xpack"] => {
            let off = json!({ "available": false, "enabled": false });
            let ilm = json!({ "available": true, "enabled": true });
            json!({ "license": license(), "features": { "ilm": ilm, "security": off, "monitoring": off } })
        }
        ["_cluster", "health", ..] => json!({
            "cluster_name": "bellrock", "status": "green", "timed_out": false, "number_of_nodes": 1, "number_of_data_nodes": 1,
            "active_primary_shards": 1, "active_shards": 1, "relocating_shards": 0, "initializing_shards": 0,
            "unassigned_shards": 0, "number_of_pending_tasks": 0, "active_shards_percent_as_number": 100.0,
        }),
        ["_cluster", "settings"] => json!({ "persistent": {}, "transient": {}, "defaults": {} }),
        ["_nodes", ..] => json!({ "cluster_name": "bellrock", "nodes": {} }),
        ["_ilm", "policy", name] => json!({ *name: { "version": 1, "policy": { "phases": {} } } }),
        ["_ilm", "status"] => json!({ "operation_mode": "RUNNING" }),
        ["_index_template", name] => json!({ "index_templates": [template(name, "index_template")] }),
        ["_component_template", name] => json!({ "component_templates": [template(name, "component_template")] }),
        ["_template", name] => json!({ *name: { "order": 0, "index_patterns": [name], "settings": {}, "mappings": {} } }),
        ["_data_stream", name] => {
            let stream = json!({ "name": name, "timestamp_field": { "name": "@timestamp" }, "indices": [], "status": "GREEN" });
            json!({ "data_streams": [stream] })
        }
        ["_ingest", "pipeline"] => json!({}),
        ["_ingest", "pipeline", name] => json!({ *name: { "processors": [] } }),
        [index] | [index, "_settings" | "_mapping" | "_alias"] if !index.starts_with('_') => {
            json!({ *index: { "aliases": {}, "mappings": {}, "settings": {} } })
        }
        _ => return None,
    })
}

fn template(name: &str, key: &str) -> Value {
    json!({ "name": name, key: { "index_patterns": [name], "template": {}, "composed_of": [] } })
}

fn info() -> Value {
    json!({
        "name": "bellrock",
        "cluster_name": "bellrock",
        "cluster_uuid": "bellrock",
        "version": {
            "number": VERSION,
            "build_flavor": "default",
            "build_type": "tar",
            "build_hash": env!("CARGO_PKG_VERSION"),
            "build_date": "2026-01-01T00:00:00Z",
            "build_snapshot": false,
            "lucene_version": "9.12.2",
            "minimum_wire_compatibility_version": "7.17.0",
            "minimum_index_compatibility_version": "7.0.0",
        },
        "tagline": "You Know, for Search",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_shippers_ask_is_there() {
        let status = |method: Method, path: &str| {
            let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
            handshake(&method, &parts).status().as_u16()
        };
        for (method, path) in [
            (Method::GET, ""),
            (Method::HEAD, ""),
            (Method::GET, "_license"),
            (Method::GET, "_xpack"),
            (Method::GET, "_cluster/health"),
            (Method::GET, "_ilm/policy/filebeat"),
            (Method::PUT, "_ilm/policy/filebeat"),
            (Method::HEAD, "_index_template/filebeat-8.19.0"),
            (Method::PUT, "_index_template/filebeat-8.19.0"),
            (Method::GET, "_data_stream/filebeat-8.19.0"),
            (Method::PUT, "_ingest/pipeline/filebeat-8.19.0-system"),
            (Method::HEAD, "logs"),
            (Method::PUT, "logs"),
            (Method::POST, "logs/_refresh"),
        ] {
            assert_eq!(status(method.clone(), path), 200, "{method} {path}");
        }
        for (method, path) in
            [(Method::POST, "_search"), (Method::GET, "logs/_search"), (Method::DELETE, "logs"), (Method::POST, "")]
        {
            assert_eq!(status(method.clone(), path), 404, "{method} {path}");
        }
    }

    #[test]
    fn answers_have_the_name_that_was_asked_for() {
        let check = |accept: &'static str, expect: &str| {
            let headers = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(accept))]);
            assert_eq!(media_type(&headers), expect, "{accept}");
        };
        check("*/*", "application/json");
        check("application/vnd.elasticsearch+json; compatible-with=9", "application/vnd.elasticsearch+json;compatible-with=9");
        check("text/html, application/vnd.elasticsearch+json", "application/vnd.elasticsearch+json;compatible-with=8");
    }
}
