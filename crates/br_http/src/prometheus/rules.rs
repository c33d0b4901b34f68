//! Rules and alerts in Prometheus' terms.

use super::{Answer, success};
use crate::app::App;
use crate::error::TextError;
use crate::json::labels;
use crate::params::Params;
use crate::time::rfc3339;
use axum::Extension;
use axum::extract::State;
use br_jobs::alerts::{GroupView, RuleHealth, RuleView};
use br_model::Principal;
use br_rules::{Alert, AlertState, LabelTemplate, RuleKind};
use br_std::Error;
use serde_json::{Map, Value, json};
use std::sync::Arc;

pub(super) async fn rules(State(app): State<Arc<App>>, Extension(principal): Extension<Principal>, params: Params) -> Answer {
    let wanted = params.get("type");
    if wanted.is_some_and(|wanted| !matches!(wanted, "alert" | "record")) {
        return Err(Error::fix_request("not supported value for parameter \"type\": alert or record").into());
    }
    let groups = if app.has_alerts(principal.tenant) { app.alerts.groups() } else { Vec::new() };
    let shown: Vec<Value> = groups.iter().map(|group| group_json(group, wanted)).collect();
    success(json!({ "groups": shown }))
}

fn group_json(group: &GroupView, wanted: Option<&str>) -> Value {
    let is_wanted = |rule: &&RuleView| match wanted {
        Some("alert") => matches!(rule.rule.kind, RuleKind::Alerting { .. }),
        Some(_) => matches!(rule.rule.kind, RuleKind::Recording { .. }),
        None => true,
    };
    let rules: Vec<Value> = group.rules.iter().filter(is_wanted).map(rule_json).collect();
    json!({
        "name": group.name,
        "file": group.file,
        "interval": group.interval.as_secs_f64(),
        "limit": group.limit,
        "lastEvaluation": group.last_evaluation.map(rfc3339),
        "evaluationTime": group.evaluation_time.as_secs_f64(),
        "rules": rules,
    })
}

fn rule_json(view: &RuleView) -> Value {
    let mut shown = json!({
        "query": view.rule.expression,
        "labels": templates(&view.rule.labels),
        "health": view.health.as_str(),
        "lastEvaluation": view.last_evaluation.map(rfc3339),
        "evaluationTime": view.evaluation_time.as_secs_f64(),
    });
    if let RuleHealth::Error(error) = &view.health {
        shown["lastError"] = json!(error);
    }
    match &view.rule.kind {
        RuleKind::Recording { record } => {
            shown["type"] = json!("recording");
            shown["name"] = json!(record);
        }
        RuleKind::Alerting { alert, hold, keep_firing_for, annotations } => {
            let live: Vec<&Alert> = view.alerts.iter().filter(|alert| alert.state != AlertState::Inactive).collect();
            shown["type"] = json!("alerting");
            shown["name"] = json!(alert);
            shown["duration"] = json!(hold.as_secs_f64());
            shown["keepFiringFor"] = json!(keep_firing_for.as_secs_f64());
            shown["annotations"] = templates(annotations);
            shown["state"] = json!(highest_state(&live));
            shown["alerts"] = live.into_iter().map(alert_json).collect();
        }
    }
    shown
}

fn highest_state(alerts: &[&Alert]) -> &'static str {
    if alerts.iter().any(|alert| alert.state == AlertState::Firing) {
        "firing"
    } else if alerts.is_empty() {
        "inactive"
    } else {
        "pending"
    }
}

fn templates(templates: &[LabelTemplate]) -> Value {
    Value::Object(
        templates
            .iter()
            .map(|template| (template.name.clone(), Value::String(template.template.source().to_owned())))
            .collect::<Map<_, _>>(),
    )
}

fn alert_json(alert: &Alert) -> Value {
    json!({
        "labels": labels(&alert.labels),
        "annotations": labels(&alert.annotations),
        "state": if alert.state == AlertState::Firing { "firing" } else { "pending" },
        "activeAt": rfc3339(alert.active_at),
        "value": exponent(alert.value),
    })
}

/// Go's `strconv.FormatFloat(value, 'e', -1, 64)`, in which Prometheus gives the values of alerts: `1e+00`, `2.5e-01`.
fn exponent(value: f64) -> String {
    if !value.is_finite() {
        return br_promql::format_float(value);
    }
    let text = format!("{value:e}");
    let (digits, power) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, power) = power.strip_prefix('-').map_or(('+', power), |power| ('-', power));
    format!("{digits}e{sign}{power:0>2}")
}

/// Reads the configuration again: rules and scraping. When anything is wrong all stays as it is, and the answer says what.
pub(super) async fn reload(
    State(app): State<Arc<App>>,
    Extension(principal): Extension<Principal>,
) -> Result<&'static str, TextError> {
    app.check_operator(principal.tenant)?;
    app.reload().await.map_err(|error| error.context("nothing has changed"))?;
    Ok("The rules and the scrape configuration have been read again.\n")
}

pub(super) async fn alerts(State(app): State<Arc<App>>, Extension(principal): Extension<Principal>) -> Answer {
    let views = if app.has_alerts(principal.tenant) { app.alerts.alerts(None).await } else { Vec::new() };
    let live = views.iter().filter(|view| view.alert.state != AlertState::Inactive);
    let shown: Vec<Value> = live.map(|view| alert_json(&view.alert)).collect();
    success(json!({ "alerts": shown }))
}

/// Alerts are routed here, not by another Alertmanager.
pub(super) async fn alertmanagers() -> Answer {
    success(json!({ "activeAlertmanagers": [], "droppedAlertmanagers": [] }))
}

#[cfg(test)]
mod tests {
    #[test]
    fn values_of_alerts_read_as_those_of_prometheus() {
        for (value, expect) in
            [(0.0, "0e+00"), (1.0, "1e+00"), (0.25, "2.5e-01"), (-1234.5, "-1.2345e+03"), (1e300, "1e+300"), (f64::NAN, "NaN")]
        {
            assert_eq!(super::exponent(value), expect);
        }
    }
}
