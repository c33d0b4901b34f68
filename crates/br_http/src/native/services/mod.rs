//! The overview: what each service does, from whatever it sends. One log line, error or sample is enough to be in it.

mod activity;
mod gather;

use super::{Answer, range};
use crate::app::App;
use crate::params::Params;
use crate::time::{millis, rfc3339, rfc3339_or_null};
use activity::{Activity, Grid};
use axum::extract::State;
use axum::{Extension, Json};
use br_catalog::{IssueFilter, IssueStatus};
use br_model::{Principal, TenantId};
use br_rules::AlertState;
use br_std::Result;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Open issues that are counted; more of one tenant than this nobody has looked at for long.
const ISSUES_MAX: u32 = 10_000;

pub(super) async fn services(State(app): State<Arc<App>>, Extension(principal): Extension<Principal>, params: Params) -> Answer {
    let grid = Grid::new(range(&app, &params)?);
    let tenant = principal.tenant;
    let services = gather::gather(&app, tenant, grid).await?;
    let burden = Burden::of(&app, tenant).await?;
    let shown: Vec<Value> = services.into_iter().map(|(name, activity)| service(&name, activity, grid, &burden)).collect();
    Ok(Json(json!({ "services": shown })))
}

/// What is open of each service.
struct Burden {
    issues: BTreeMap<String, u64>,
    alerts: BTreeMap<String, u64>,
}

impl Burden {
    async fn of(app: &App, tenant: TenantId) -> Result<Self> {
        let filter = IssueFilter { status: Some(IssueStatus::Open), service: None, seen_since: None };
        let mut burden = Self { issues: BTreeMap::new(), alerts: BTreeMap::new() };
        for issue in app.catalog.issues(tenant, &filter, ISSUES_MAX).await? {
            *burden.issues.entry(issue.service).or_default() += 1;
        }
        if app.has_alerts(tenant) {
            for view in app.alerts.alerts(Some(AlertState::Firing)).await {
                *burden.alerts.entry(br_incident::fact::service_of(&view.alert.labels).to_owned()).or_default() += 1;
            }
        }
        Ok(burden)
    }
}

fn service(name: &str, mut activity: Activity, grid: Grid, burden: &Burden) -> Value {
    activity.durations.sort_unstable();
    let requests = activity.durations.len() as u64;
    let window = activity.window(grid);
    let has = |count: u64| count > 0;
    let per = |count: u64, seconds: f64| has(count).then(|| count as f64 * seconds / window.as_secs_f64());
    json!({
        "name": name,
        "environment": activity.environment,
        "version": activity.version,
        "first_seen": rfc3339_or_null(activity.first_seen),
        "last_seen": rfc3339_or_null(activity.last_seen),
        "signals": activity.signals(),
        "rate_window_ms": window.as_millis() as u64,
        "requests_per_second": per(requests, 1.0),
        "error_ratio": has(requests).then(|| activity.errors as f64 / requests as f64),
        "p50_ms": quantile_ms(&activity.durations, 0.5),
        "p95_ms": quantile_ms(&activity.durations, 0.95),
        "p99_ms": quantile_ms(&activity.durations, 0.99),
        "logs_per_minute": per(activity.logs, 60.0),
        "error_logs": activity.error_logs,
        "error_events": activity.error_events,
        "cpu_cores": activity.cpu_cores,
        "memory_bytes": activity.memory_bytes,
        "series": series(&mut activity, grid),
        "open_issues": burden.issues.get(name).copied().unwrap_or(0),
        "firing_alerts": burden.alerts.get(name).copied().unwrap_or(0),
    })
}

/// The small curves. Before the service was first seen there is nothing, which is not the same as zero.
fn series(activity: &mut Activity, grid: Grid) -> Value {
    let unseen = activity.first_seen.map_or(0, |seen| grid.step_of(seen));
    let known = |at: usize, count: u64| (at >= unseen).then_some(count);
    let requests: Vec<_> = activity.steps.iter().enumerate().map(|(at, step)| known(at, step.durations.len() as u64)).collect();
    let errors: Vec<_> = activity.steps.iter().enumerate().map(|(at, step)| known(at, step.errors)).collect();
    let logs: Vec<_> = activity.log_steps.iter().enumerate().map(|(at, count)| known(at, *count)).collect();
    let p95 = activity.steps.iter_mut().map(|step| {
        step.durations.sort_unstable();
        quantile_ms(&step.durations, 0.95)
    });
    json!({
        "from": rfc3339(grid.range.from),
        "step_ms": grid.step.as_millis() as u64,
        "requests": requests,
        "errors": errors,
        "p95_ms": p95.collect::<Vec<_>>(),
        "logs": logs,
    })
}

/// Of sorted durations; null where there are none.
fn quantile_ms(sorted: &[i64], quantile: f64) -> Option<f64> {
    let rank = (quantile * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).map(|nanos| millis(*nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles() {
        let sorted: Vec<i64> = (1..=100).map(|millis| millis * 1_000_000).collect();
        assert_eq!(quantile_ms(&sorted, 0.5), Some(50.0));
        assert_eq!(quantile_ms(&sorted, 0.99), Some(99.0));
        assert_eq!(quantile_ms(&sorted[..1], 0.99), Some(1.0));
        assert_eq!(quantile_ms(&[], 0.5), None);
    }
}
