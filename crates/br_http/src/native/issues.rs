//! Error issues.

use super::Answer;
use crate::app::App;
use crate::json::attributes;
use crate::params::Params;
use crate::time::rfc3339;
use axum::extract::{Path, State};
use axum::{Extension, Json};
use br_catalog::{Issue, IssueFilter, IssueStatus};
use br_model::{Principal, TenantId};
use br_query::door::Language;
use br_std::{Error, Nanos};
use br_storage::TimeRange;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const LIST_MAX: usize = 1000;
const EVENTS_SHOWN_MAX: usize = 20;
/// The small curve of an issue: the last day by the hour.
const CURVE_STEPS: usize = 24;
const CURVE_STEP: Duration = Duration::from_hours(1);

pub(super) async fn list(State(app): State<Arc<App>>, Extension(principal): Extension<Principal>, params: Params) -> Answer {
    let status = params.get("status").map(issue_status).transpose()?;
    let filter = IssueFilter { status, service: params.get("service").map(str::to_owned), seen_since: None };
    let limit = params.limit(100, LIST_MAX)?;
    let issues = app.catalog.issues(principal.tenant, &filter, limit as u32).await?;
    let shown: Vec<Value> = issues.iter().map(summary).collect();
    Ok(Json(json!({ "issues": shown })))
}

fn issue_status(text: &str) -> br_std::Result<IssueStatus> {
    IssueStatus::from_name(text).ok_or_else(|| Error::fix_request(format!("status {text:?} is none of open, resolved, ignored")))
}

fn summary(issue: &Issue) -> Value {
    json!({
        "id": format!("{:016x}", issue.id),
        "title": issue.title,
        "type": issue.error_type,
        "value": issue.value,
        "culprit": issue.culprit,
        "service": issue.service,
        "level": issue.level,
        "status": issue.status.as_str(),
        "is_regressed": issue.is_regressed,
        "count": issue.count,
        "first_seen": rfc3339(issue.first_seen),
        "last_seen": rfc3339(issue.last_seen),
        "release": issue.last_release,
        "last_trace_id": issue.last_trace_id,
    })
}

fn parse_id(text: &str) -> br_std::Result<u64> {
    u64::from_str_radix(text, 16).map_err(|_| Error::fix_request(format!("{text:?} is no issue id: 16 hexadecimal digits")))
}

async fn find(app: &App, tenant: TenantId, id: u64) -> br_std::Result<Issue> {
    app.catalog.issue(tenant, id).await?.ok_or_else(|| Error::not_found(format!("no issue {id:016x}")))
}

pub(super) async fn get(
    State(app): State<Arc<App>>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
) -> Answer {
    let id = parse_id(&id)?;
    let tenant = principal.tenant;
    let issue = find(&app, tenant, id).await?;
    let range = TimeRange::new(issue.first_seen - Duration::from_secs(1), Nanos(issue.last_seen.0.saturating_add(1)));
    let errors = app.errors.clone();
    let events = app
        .door
        .run(tenant, Language::Lookup, "issue events", None, move |budget| {
            errors.events(tenant, id, range, EVENTS_SHOWN_MAX, budget)
        })
        .await?;
    let from = app.clock.now().window(CURVE_STEP) - CURVE_STEP * (CURVE_STEPS as u32 - 1);
    let errors = app.errors.clone();
    let counts = app
        .door
        .run(tenant, Language::Lookup, "issue curve", None, move |budget| {
            errors.counts(tenant, id, from, CURVE_STEP, CURVE_STEPS, budget)
        })
        .await?;
    let mut shown = summary(&issue);
    shown["grouping"] = json!(issue.grouping);
    shown["series"] = json!({ "from": rfc3339(from), "step_ms": CURVE_STEP.as_millis() as u64, "counts": counts });
    shown["events"] = events.iter().map(event).collect();
    Ok(Json(shown))
}

fn event(record: &br_model::LogRecord) -> Value {
    let Some(error) = &record.error else { return Value::Null };
    let exceptions: Vec<Value> = error
        .exceptions
        .iter()
        .map(|exception| {
            let frames: Vec<Value> = exception
                .frames
                .iter()
                .map(|frame| {
                    json!({
                        "function": frame.function,
                        "module": frame.module,
                        "filename": frame.filename,
                        "line": frame.line,
                        "in_app": frame.in_app,
                        "context_line": frame.context_line,
                    })
                })
                .collect();
            json!({
                "type": exception.exception_type,
                "value": exception.value,
                "module": exception.module,
                "frames": frames,
                "stacktrace_text": exception.stacktrace_text,
            })
        })
        .collect();
    let id = |is_none: bool, text: String| if is_none { Value::Null } else { Value::String(text) };
    json!({
        "event_id": error.event_id,
        "at": rfc3339(record.timestamp),
        "title": error.title(),
        "message": error.message,
        "environment": error.environment,
        "release": error.release,
        "transaction": error.transaction,
        "trace_id": id(record.trace_id.is_none(), record.trace_id.to_string()),
        "span_id": id(record.span_id.is_none(), record.span_id.to_string()),
        "handled": error.handled,
        "exceptions": exceptions,
        "attributes": attributes(&record.attributes),
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StatusChange {
    status: String,
}

pub(super) async fn set_status(
    State(app): State<Arc<App>>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
    Json(change): Json<StatusChange>,
) -> Answer {
    let status = issue_status(&change.status)?;
    let issue = app.catalog.set_issue_status(principal.tenant, parse_id(&id)?, status, app.clock.now()).await?;
    Ok(Json(summary(&issue)))
}
