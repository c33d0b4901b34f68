//! Alerts with their evidence, and incidents.

use super::Answer;
use crate::app::App;
use crate::json::labels;
use crate::params::Params;
use crate::time::{rfc3339, rfc3339_or_null};
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::{Extension, Json};
use br_incident::{Incident, IncidentState};
use br_jobs::alerts::{AlertView, Evidence};
use br_model::Principal;
use br_rules::{Alert, AlertState};
use br_std::{Error, Nanos, Result};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// The API's word: what the engine calls inactive is an alert that was resolved lately.
fn state_name(state: AlertState) -> &'static str {
    match state {
        AlertState::Pending => "pending",
        AlertState::Firing => "firing",
        AlertState::Inactive => "resolved",
    }
}

fn parse_state(text: &str) -> Result<AlertState> {
    [AlertState::Pending, AlertState::Firing, AlertState::Inactive]
        .into_iter()
        .find(|state| state_name(*state) == text)
        .ok_or_else(|| Error::fix_request(format!("state {text:?} is none of pending, firing, resolved")))
}

pub(super) async fn list(State(app): State<Arc<App>>, Extension(principal): Extension<Principal>, params: Params) -> Answer {
    let state = params.get("state").map(parse_state).transpose()?;
    let views = if app.has_alerts(principal.tenant) { app.alerts.alerts(state).await } else { Vec::new() };
    let shown: Vec<Value> = views.iter().map(with_rule).collect();
    Ok(Json(json!({ "alerts": shown })))
}

fn with_rule(view: &AlertView) -> Value {
    let mut shown = summary(&view.alert, view.incident_id.as_deref());
    shown["rule"] = json!({ "file": view.file, "group": view.group, "name": shown["name"], "query": view.query, "for_ms": view.hold.as_millis() as u64 });
    shown
}

fn summary(alert: &Alert, incident_id: Option<&str>) -> Value {
    json!({
        "id": alert.id,
        "name": alert.labels.get("alertname").unwrap_or(""),
        "state": state_name(alert.state),
        "severity": alert.labels.get("severity").unwrap_or(""),
        "service": br_incident::fact::service_of(&alert.labels),
        "labels": labels(&alert.labels),
        "annotations": labels(&alert.annotations),
        "value": if alert.value.is_finite() { json!(alert.value) } else { json!(alert.value.to_string()) },
        "active_at": rfc3339(alert.active_at),
        "fired_at": rfc3339_or_null(alert.fired_at),
        "resolved_at": rfc3339_or_null(alert.resolved_at),
        "unknown_since": rfc3339_or_null(alert.unknown_since),
        "incident_id": incident_id,
    })
}

pub(super) async fn get(
    State(app): State<Arc<App>>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
) -> Answer {
    if !app.has_alerts(principal.tenant) {
        return Err(Error::not_found(format!("there is no alert {id}")).into());
    }
    let (alert, incident_id, evidence) = app.alerts.alert(&id).await?;
    let live = app.alerts.alerts(None).await.into_iter().find(|view| view.alert.id == id);
    let mut shown = live.as_ref().map_or_else(|| summary(&alert, incident_id.as_deref()), with_rule);
    shown["evidence"] = evidence.as_ref().map_or(Value::Null, evidence_json);
    Ok(Json(shown))
}

fn evidence_json(evidence: &Evidence) -> Value {
    let at = |nanos: i64| rfc3339(Nanos(nanos));
    let number = |text: &str| text.parse::<f64>().ok().filter(|value| value.is_finite());
    let points: Vec<Value> = evidence.points.iter().map(|(time, value)| json!([at(*time), number(value)])).collect();
    let errors: Vec<Value> = evidence
        .errors
        .iter()
        .map(|error| {
            let issue_id = Some(&error.issue_id).filter(|id| !id.is_empty());
            json!({ "at": at(error.at), "title": error.title, "count": error.count, "issue_id": issue_id, "trace_id": error.trace_id, "message": error.title })
        })
        .collect();
    let deploy = evidence
        .deploy
        .as_ref()
        .map(|deploy| json!({ "service": deploy.service, "version": deploy.version, "at": at(deploy.at) }));
    json!({
        "frozen_at": at(evidence.frozen_at),
        "what": evidence.what,
        "where": evidence.place,
        "why": evidence.why,
        "since": at(evidence.since),
        "service": evidence.service,
        "owner": evidence.owner,
        "runbook": evidence.runbook,
        "next_steps": evidence.next_steps,
        "curve": { "query": evidence.query, "threshold": evidence.threshold, "points": points },
        "traces": evidence.traces,
        "paths": evidence.paths,
        "errors": errors,
        "causes": evidence.causes,
        "deploy": deploy,
        "missing": evidence.missing,
    })
}

fn parse_incident_state(text: &str) -> Result<IncidentState> {
    [IncidentState::Open, IncidentState::Acknowledged, IncidentState::Resolved]
        .into_iter()
        .find(|state| state.as_str() == text)
        .ok_or_else(|| Error::fix_request(format!("state {text:?} is none of open, acknowledged, resolved")))
}

pub(super) async fn incidents(State(app): State<Arc<App>>, Extension(principal): Extension<Principal>, params: Params) -> Answer {
    let state = params.get("state").map(parse_incident_state).transpose()?;
    let found = if app.has_alerts(principal.tenant) { app.alerts.incidents(state).await } else { Vec::new() };
    let shown: Vec<Value> = found.iter().map(incident_summary).collect();
    Ok(Json(json!({ "incidents": shown })))
}

fn incident_summary(incident: &Incident) -> Value {
    let (acknowledged, resolved) = (incident.acknowledged(), incident.resolved());
    json!({
        "id": incident.id,
        "title": incident.title(),
        "state": incident.state().as_str(),
        "severity": incident.severity(),
        "service": incident.service(),
        "opened_at": rfc3339(incident.opened_at()),
        "acknowledged_at": rfc3339_or_null(acknowledged.map(|(at, _)| at)),
        "acknowledged_by": acknowledged.map(|(_, by)| by),
        "resolved_at": rfc3339_or_null(resolved.map(|(at, _)| at)),
        "resolved_by": resolved.map(|(_, by)| by),
        "stable_since": rfc3339_or_null(incident.stable_since()),
        "alerts": incident.alerts().keys().collect::<Vec<_>>(),
        "firing": incident.firing(),
    })
}

fn whole(incident: &Incident) -> Value {
    let timeline: Vec<Value> = incident
        .timeline()
        .iter()
        .map(|entry| json!({ "at": rfc3339(entry.at), "kind": entry.kind, "by": entry.by, "text": entry.text }))
        .collect();
    let mut shown = incident_summary(incident);
    shown["timeline"] = Value::Array(timeline);
    shown
}

pub(super) async fn incident(
    State(app): State<Arc<App>>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
) -> Answer {
    app.check_alerts(principal.tenant, &id)?;
    Ok(Json(whole(&app.alerts.incident(&id).await?)))
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Action {
    by: String,
    text: String,
}

/// Who acts: the name in the body, else the principal's own.
fn action(body: &Bytes, principal: &Principal) -> Result<Action> {
    let mut action: Action = if body.is_empty() {
        Action::default()
    } else {
        serde_json::from_slice(body)
            .map_err(|error| Error::fix_request(format!("the body must be JSON such as {{\"by\": \"ada\"}}: {error}")))?
    };
    if action.by.trim().is_empty() {
        action.by.clone_from(&principal.name);
    }
    Ok(action)
}

/// What a person does to an incident; the last part of the call's path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Acknowledge,
    Resolve,
    Note,
}

/// The handler of a verb: it answers with the incident as it then is.
pub(super) async fn act(
    verb: Verb,
    State(app): State<Arc<App>>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
    body: Bytes,
) -> Answer {
    app.check_alerts(principal.tenant, &id)?;
    let Action { by, text } = action(&body, &principal)?;
    let before = app.alerts.incident(&id).await?;
    check_action(verb, &before, &text)?;
    let after = match verb {
        Verb::Acknowledge => app.alerts.acknowledge(&id, &by, &text).await,
        Verb::Resolve => app.alerts.resolve(&id, &by, &text).await,
        Verb::Note => app.alerts.note(&id, &by, &text).await,
    };
    Ok(Json(whole(&after?)))
}

/// What would change nothing is refused with a word: who resolves an incident that another has closed must not believe that it
/// was their name and text that were kept.
fn check_action(verb: Verb, incident: &Incident, text: &str) -> Result<()> {
    let refusal =
        |what: &str, (at, by): (Nanos, &str)| Err(Error::fix_request(format!("the incident {what} by {by} at {}", rfc3339(at))));
    match (verb, incident.resolved(), incident.acknowledged()) {
        (Verb::Note, ..) if text.trim().is_empty() => Err(Error::fix_request("a note needs a text: {\"text\": \"…\"}")),
        (Verb::Resolve | Verb::Acknowledge, Some(resolved), _) => refusal("was resolved already", resolved),
        (Verb::Acknowledge, None, Some(acknowledged)) => refusal("was acknowledged already", acknowledged),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use br_incident::{Fact, FactKind};

    #[test]
    fn what_changes_nothing_is_refused() {
        let mut incident = Incident::new("i-1");
        let check =
            |verb, incident: &Incident, text| check_action(verb, incident, text).map_err(|error| error.message().to_owned());
        assert!(check(Verb::Note, &incident, " ").is_err());
        assert!(check(Verb::Note, &incident, "seen").is_ok());
        assert!(check(Verb::Resolve, &incident, "").is_ok());
        let by_ada = |kind: fn(String, String) -> FactKind| kind("ada".into(), String::new());
        incident.apply(Fact::new("i-1", Nanos::from_secs(1), by_ada(FactKind::acknowledged)));
        let told = check(Verb::Acknowledge, &incident, "").expect_err("a second time");
        assert_eq!(told, "the incident was acknowledged already by ada at 1970-01-01T00:00:01Z");
        incident.apply(Fact::new("i-1", Nanos::from_secs(2), by_ada(FactKind::resolved)));
        let told = check(Verb::Resolve, &incident, "").expect_err("a second time");
        assert_eq!(told, "the incident was resolved already by ada at 1970-01-01T00:00:02Z");
        assert!(check(Verb::Note, &incident, "post mortem").is_ok());
    }
}
