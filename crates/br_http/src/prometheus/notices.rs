//! What who runs the server should know, as Prometheus' pages show it.

use super::{Answer, success};
use crate::app::App;
use crate::time::rfc3339;
use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use br_model::{Principal, TenantId};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::unfold;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

/// How often a listener is told what is new.
const BEAT: Duration = Duration::from_secs(2);
/// A stream ends after this many beats, and its client comes again: a server that stops need not wait for it for long.
const BEATS_MAX: u32 = 150;

pub(super) async fn notifications(State(app): State<Arc<App>>, Extension(principal): Extension<Principal>) -> Answer {
    success(Value::Array(notices(&app, principal.tenant)))
}

/// What holds now, each with the time since when it does. It is about the whole server: other tenants than its own learn nothing.
fn notices(app: &App, tenant: TenantId) -> Vec<Value> {
    if app.check_operator(tenant).is_err() {
        return Vec::new();
    }
    let notice = |text: String, since| json!({ "text": text, "date": rfc3339(since), "active": true });
    let mut notices = Vec::new();
    if !app.last_load.is_ok() {
        notices.push(notice("Configuration reload has failed.".to_owned(), app.last_load.tried_at()));
    }
    notices.extend(app.catalog_state.story.iter().map(|line| notice(line.clone(), app.started)));
    notices.extend(
        app.partial_answers()
            .map(|_| notice("The journal is being read back: answers may lack the newest data.".to_owned(), app.started)),
    );
    notices
}

/// The same as server-sent events: what holds at first, then what begins and, no longer active, what ends.
pub(super) async fn live(State(app): State<Arc<App>>, Extension(principal): Extension<Principal>) -> Response {
    let state = (app, Vec::new(), 0);
    let events = unfold(state, move |(app, before, beat)| async move {
        if beat == BEATS_MAX {
            return None;
        }
        if beat > 0 {
            tokio::time::sleep(BEAT).await;
        }
        let now = notices(&app, principal.tenant);
        // A comment tells both ends that the other is there.
        let mut out = changes(&before, &now);
        if out.is_empty() && beat % 10 == 0 {
            out.push_str(":\n\n");
        }
        Some((out, (app, now, beat + 1)))
    });
    let events = events.filter(|out| std::future::ready(!out.is_empty())).map(|out| Ok::<_, Infallible>(Bytes::from(out)));
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")];
    (headers, Body::from_stream(events)).into_response()
}

fn changes(before: &[Value], now: &[Value]) -> String {
    let mut out = String::new();
    for begun in now.iter().filter(|notice| !before.contains(notice)) {
        let _ = write!(out, "data: {begun}\n\n");
    }
    for ended in before.iter().filter(|notice| !now.contains(notice)) {
        let mut ended = ended.clone();
        ended["active"] = json!(false);
        let _ = write!(out, "data: {ended}\n\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_hear_what_begins_and_what_ends() {
        let notice = |text: &str| json!({ "text": text, "active": true });
        let out = changes(&[notice("a"), notice("b")], &[notice("b"), notice("c")]);
        assert_eq!(out, "data: {\"active\":true,\"text\":\"c\"}\n\ndata: {\"active\":false,\"text\":\"a\"}\n\n");
        assert_eq!(changes(&[notice("a")], &[notice("a")]), "");
    }
}
