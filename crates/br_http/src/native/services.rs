//! The overview: what each service does, from its server and consumer spans.

use super::{Answer, range};
use crate::app::App;
use crate::params::Params;
use crate::time::{millis, rfc3339};
use axum::extract::State;
use axum::{Extension, Json};
use br_catalog::{IssueFilter, IssueStatus};
use br_model::{Principal, SpanKind, SpanStatus};
use br_query::door::Language;
use br_rules::AlertState;
use br_std::{Nanos, Result};
use br_storage::{Budget, SpanQuery, SpanSource, StoredSpan, TimeRange};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Points on the small curves.
const STEPS: usize = 60;

/// What is gathered of one service.
#[derive(Default)]
struct Service {
    environment: String,
    version: String,
    last_seen: Nanos,
    errors: u64,
    /// Durations of all requests, in nanoseconds.
    durations: Vec<i64>,
    steps: Vec<Step>,
}

#[derive(Clone, Default)]
struct Step {
    errors: u64,
    durations: Vec<i64>,
}

pub(super) async fn services(State(app): State<Arc<App>>, Extension(principal): Extension<Principal>, params: Params) -> Answer {
    let range = range(&app, &params)?;
    let tenant = principal.tenant;
    let services = app
        .query(tenant, Language::Lookup, "services", None, move |sources, budget| gather(&*sources.spans(tenant), range, budget))
        .await?;
    let filter = IssueFilter { status: Some(IssueStatus::Open), service: None, seen_since: None };
    let mut open_issues: BTreeMap<String, u64> = BTreeMap::new();
    for issue in app.catalog.issues(tenant, &filter, 1000).await? {
        *open_issues.entry(issue.service).or_default() += 1;
    }
    let mut firing: BTreeMap<String, u64> = BTreeMap::new();
    if app.has_alerts(tenant) {
        for view in app.alerts.alerts(Some(AlertState::Firing)).await {
            *firing.entry(br_incident::fact::service_of(&view.alert.labels).to_owned()).or_default() += 1;
        }
    }
    let seconds = range.to.since(range.from).as_secs_f64().max(1.0);
    let step_ms = seconds * 1000.0 / STEPS as f64;
    let shown: Vec<Value> = services
        .into_iter()
        .map(|(name, mut service)| {
            service.durations.sort_unstable();
            let requests = service.durations.len() as u64;
            let p95 = |step: &mut Step| {
                step.durations.sort_unstable();
                quantile_ms(&step.durations, 0.95)
            };
            json!({
                "environment": service.environment,
                "version": service.version,
                "last_seen": rfc3339(service.last_seen),
                "requests_per_second": requests as f64 / seconds,
                "error_ratio": if requests == 0 { 0.0 } else { service.errors as f64 / requests as f64 },
                "p50_ms": quantile_ms(&service.durations, 0.5),
                "p95_ms": quantile_ms(&service.durations, 0.95),
                "p99_ms": quantile_ms(&service.durations, 0.99),
                "series": {
                    "from": rfc3339(range.from),
                    "step_ms": step_ms,
                    "requests": service.steps.iter().map(|step| step.durations.len()).collect::<Vec<_>>(),
                    "errors": service.steps.iter().map(|step| step.errors).collect::<Vec<_>>(),
                    "p95_ms": service.steps.iter_mut().map(p95).collect::<Vec<_>>(),
                },
                "open_issues": open_issues.get(&name).copied().unwrap_or(0),
                "firing_alerts": firing.get(&name).copied().unwrap_or(0),
                "name": name,
            })
        })
        .collect();
    Ok(Json(json!({ "services": shown })))
}

fn gather(source: &dyn SpanSource, range: TimeRange, budget: &Budget) -> Result<BTreeMap<String, Service>> {
    let mut services: BTreeMap<String, Service> = BTreeMap::new();
    let mut cursor = source.scan(&SpanQuery { range, hints: Vec::new() }, budget)?;
    while let Some(batch) = cursor.next_batch()? {
        budget.check()?;
        for stored in batch.iter().filter(|stored| range.contains(stored.span.start)) {
            let service = services.entry(stored.resource.service_name().to_owned()).or_default();
            budget.charge(16)?;
            service.add(stored, range);
        }
    }
    Ok(services)
}

impl Service {
    fn add(&mut self, stored: &StoredSpan, range: TimeRange) {
        let span = &stored.span;
        if span.start >= self.last_seen {
            self.last_seen = span.start;
            let attributes = &stored.resource.attributes;
            let text = |keys: &[&str]| keys.iter().find_map(|key| attributes.get_str(key)).unwrap_or("").to_owned();
            self.version = text(&["service.version"]);
            self.environment = text(&["deployment.environment.name", "deployment.environment"]);
        }
        if !matches!(span.kind, SpanKind::Server | SpanKind::Consumer) {
            return;
        }
        self.steps.resize(STEPS, Step::default());
        let width = (range.to.0 - range.from.0).max(1) as f64 / STEPS as f64;
        let at = (((span.start.0 - range.from.0) as f64 / width) as usize).min(STEPS - 1);
        let is_error = span.status == SpanStatus::Error;
        self.errors += u64::from(is_error);
        self.steps[at].errors += u64::from(is_error);
        self.steps[at].durations.push(span.duration_nanos());
        self.durations.push(span.duration_nanos());
    }
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
