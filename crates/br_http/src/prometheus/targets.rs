//! Scrape targets and metadata.

use super::{Answer, success};
use crate::app::App;
use crate::json::labels;
use crate::params::Params;
use crate::time::rfc3339;
use axum::Extension;
use axum::extract::State;
use br_ingest::scrape::TargetStatus;
use br_model::{Principal, TenantId};
use br_query::door::Language;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Scraping belongs to the first tenant, as the configuration file does.
const SCRAPING_TENANT: TenantId = TenantId(1);

pub(super) async fn targets(State(app): State<Arc<App>>, Extension(principal): Extension<Principal>, params: Params) -> Answer {
    if principal.tenant != SCRAPING_TENANT {
        return success(json!({ "activeTargets": [], "droppedTargets": [], "droppedTargetCounts": {} }));
    }
    let state = params.get("state").unwrap_or("any");
    let mut active = Vec::new();
    let mut dropped = Vec::new();
    if matches!(state, "any" | "active") {
        active = app.scrape.active().iter().map(target).collect();
    }
    if matches!(state, "any" | "dropped") {
        dropped = app.scrape.dropped().iter().map(|discovered| json!({ "discoveredLabels": labels(discovered) })).collect();
    }
    success(json!({ "activeTargets": active, "droppedTargets": dropped, "droppedTargetCounts": {} }))
}

fn target(status: &TargetStatus) -> Value {
    let health = match status.health.is_up {
        None => "unknown",
        Some(true) => "up",
        Some(false) => "down",
    };
    json!({
        "discoveredLabels": labels(&status.discovered),
        "labels": labels(&status.labels),
        "scrapePool": status.job,
        "scrapeUrl": status.url,
        "globalUrl": status.url,
        "lastError": status.health.last_error,
        "lastScrape": rfc3339(status.health.last_scrape),
        "lastScrapeDuration": status.health.last_duration.as_secs_f64(),
        "health": health,
        "scrapeInterval": br_std::duration::format(status.interval),
        "scrapeTimeout": br_std::duration::format(status.timeout),
    })
}

pub(super) async fn metadata(State(app): State<Arc<App>>, Extension(principal): Extension<Principal>, params: Params) -> Answer {
    let metric = params.get("metric").map(str::to_owned);
    let limit = params.number("limit", usize::MAX)?;
    let found = app
        .query(principal.tenant, Language::Lookup, "metadata", None, move |sources, _| {
            sources.metrics(principal.tenant).metadata(metric.as_deref())
        })
        .await?;
    let mut families = Map::new();
    for (name, metadata) in found.into_iter().take(limit) {
        let entry = json!({ "type": metadata.metric_type.as_str(), "help": metadata.help, "unit": metadata.unit });
        families.insert(name, json!([entry]));
    }
    success(Value::Object(families))
}
