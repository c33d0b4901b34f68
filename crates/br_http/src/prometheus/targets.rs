//! Scrape targets and metadata.

use super::{Answer, selector, success};
use crate::app::App;
use crate::json::labels;
use crate::params::Params;
use crate::time::rfc3339;
use axum::Extension;
use axum::extract::State;
use br_ingest::scrape::{DiscoveryStatus, RelabelStep, TargetStatus};
use br_model::labels::METRIC_NAME;
use br_model::{Labels, Metadata, Principal, TenantId};
use br_query::door::Language;
use br_std::Error;
use br_storage::{Matcher, SeriesQuery};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Scraping belongs to the first tenant, as the configuration file does.
const SCRAPING_TENANT: TenantId = TenantId(1);

pub(super) async fn targets(State(app): State<Arc<App>>, Extension(principal): Extension<Principal>, params: Params) -> Answer {
    if principal.tenant != SCRAPING_TENANT {
        return success(json!({ "activeTargets": [], "droppedTargets": [], "droppedTargetCounts": {} }));
    }
    let state = params.get("state").unwrap_or("any");
    let pool = params.get("scrapePool").filter(|pool| !pool.is_empty());
    let is_wanted = |job: &str| pool.is_none_or(|pool| pool == job);
    let mut active = Vec::new();
    let mut dropped = Vec::new();
    let mut counts = Map::new();
    if !matches!(state, "dropped") {
        active = app.scrape.active().iter().filter(|status| is_wanted(&status.job)).map(target).collect();
    }
    if !matches!(state, "active") {
        for one in app.scrape.dropped().iter().filter(|one| is_wanted(&one.job)) {
            counts.insert(one.job.clone(), json!(one.count));
            let kept = one.kept.iter();
            dropped.extend(kept.map(|discovered| json!({ "discoveredLabels": labels(discovered), "scrapePool": one.job })));
        }
    }
    let discoveries = app.scrape.discoveries();
    let discoveries: Vec<Value> = discoveries.iter().filter(|one| is_wanted(&one.job)).map(discovery).collect();
    success(json!({
        "activeTargets": active,
        "droppedTargets": dropped,
        "droppedTargetCounts": counts,
        "discoveries": discoveries,
    }))
}

/// Ours, beside what Prometheus answers: whether targets are still found.
fn discovery(status: &DiscoveryStatus) -> Value {
    json!({
        "scrapePool": status.job,
        "mechanism": status.mechanism,
        "place": status.place,
        "targets": status.targets,
        "failures": status.failures,
        "lastError": status.last_error.as_deref().unwrap_or(""),
    })
}

pub(super) async fn scrape_pools(State(app): State<Arc<App>>, Extension(principal): Extension<Principal>) -> Answer {
    let pools = if principal.tenant == SCRAPING_TENANT { app.scrape.pools() } else { Vec::new() };
    success(json!({ "scrapePools": pools }))
}

/// What each relabelling rule of a job makes of the labels of a target.
pub(super) async fn relabel_steps(
    State(app): State<Arc<App>>,
    Extension(principal): Extension<Principal>,
    params: Params,
) -> Answer {
    app.check_operator(principal.tenant)?;
    let pool = params.required("scrapePool")?;
    let given: BTreeMap<String, String> = serde_json::from_str(params.required("labels")?)
        .map_err(|error| Error::fix_request(format!("labels must be a JSON object of texts: {error}")))?;
    let steps = app.scrape.relabel_steps(pool, Labels::from_pairs(&given));
    let steps = steps.ok_or_else(|| Error::fix_request(format!("there is no scrape pool {pool:?}")))?;
    let step = |step: &RelabelStep| json!({ "rule": step.rule, "output": labels(&step.output), "keep": step.keeps });
    success(json!({ "steps": steps.iter().map(step).collect::<Vec<Value>>() }))
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

/// The metadata of the metrics that targets expose. It is kept by name: all targets with a metric share it.
pub(super) async fn target_metadata(
    State(app): State<Arc<App>>,
    Extension(principal): Extension<Principal>,
    params: Params,
) -> Answer {
    let matchers =
        params.get("match_target").map(|text| selector::matchers("match_target", text)).transpose()?.unwrap_or_default();
    let metric = params.get("metric").map(str::to_owned);
    let limit = params.number("limit", usize::MAX)?;
    let mut targets = if principal.tenant == SCRAPING_TENANT { app.scrape.active() } else { Vec::new() };
    let found = app
        .query(principal.tenant, Language::Lookup, "target metadata", None, move |sources, budget| {
            matchers.iter().try_for_each(|matcher| matcher.prepare(budget))?;
            targets.retain(|target| matchers.iter().all(|matcher| matcher.matches_labels(&target.labels)));
            let source = sources.metrics(principal.tenant);
            let known = source.metadata(metric.as_deref(), budget)?;
            let mut found = Vec::new();
            for target in targets {
                let of_target = target.labels.iter().filter(|(name, _)| matches!(*name, "job" | "instance"));
                let matchers = of_target.map(|(name, value)| Matcher::equal(name, value)).collect();
                let query = SeriesQuery { matchers, from_ms: i64::MIN, to_ms: i64::MAX };
                let names = source.label_values(METRIC_NAME, &query, budget)?;
                for (family, metadata) in &known {
                    if names.iter().any(|name| is_of_family(name, family)) {
                        budget.charge(metadata_bytes(family, metadata) + super::labels_bytes(&target.labels))?;
                        found.push((target.labels.clone(), family.clone(), metadata.clone()));
                    }
                }
            }
            Ok(found)
        })
        .await?;
    let asked_for_one = params.get("metric").is_some();
    let shown = found.into_iter().take(limit).map(|(target, family, metadata)| {
        let mut entry = json!({ "target": labels(&target), "type": metadata.metric_type.as_str(), "help": metadata.help, "unit": metadata.unit });
        if !asked_for_one {
            entry["metric"] = json!(family);
        }
        entry
    });
    success(shown.collect())
}

/// Series of a histogram or summary carry the family's name with a suffix.
fn is_of_family(name: &str, family: &str) -> bool {
    name.strip_prefix(family)
        .is_some_and(|suffix| matches!(suffix, "" | "_bucket" | "_count" | "_sum" | "_total" | "_created" | "_info"))
}

/// What is known of a family takes so much here and as JSON, about.
fn metadata_bytes(family: &str, metadata: &Metadata) -> u64 {
    512 + 4 * (family.len() + metadata.help.len() + metadata.unit.len()) as u64
}

pub(super) async fn metadata(State(app): State<Arc<App>>, Extension(principal): Extension<Principal>, params: Params) -> Answer {
    let metric = params.get("metric").map(str::to_owned);
    let limit = params.number("limit", usize::MAX)?;
    let found = app
        .query(principal.tenant, Language::Lookup, "metadata", None, move |sources, budget| {
            let mut found = sources.metrics(principal.tenant).metadata(metric.as_deref(), budget)?;
            found.truncate(limit);
            budget.charge(found.iter().map(|(name, metadata)| metadata_bytes(name, metadata)).sum())?;
            Ok(found)
        })
        .await?;
    let mut families = Map::new();
    for (name, metadata) in found {
        let entry = json!({ "type": metadata.metric_type.as_str(), "help": metadata.help, "unit": metadata.unit });
        families.insert(name, json!([entry]));
    }
    success(Value::Object(families))
}
