//! What the server says of itself.

use super::{Answer, success};
use crate::app::{App, LimitHit};
use crate::time::rfc3339;
use axum::Extension;
use axum::extract::State;
use br_model::Principal;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Clients choose features by this version: it is that of the Prometheus whose API is spoken.
const PROMETHEUS_VERSION: &str = "3.14.0";

pub(super) async fn build() -> Answer {
    success(json!({
        "version": PROMETHEUS_VERSION,
        "revision": env!("CARGO_PKG_VERSION"),
        "branch": "bellrock",
        "buildUser": "",
        "buildDate": "",
        "goVersion": "",
        "bellrockVersion": env!("CARGO_PKG_VERSION"),
    }))
}

pub(super) async fn runtime(State(app): State<Arc<App>>, Extension(principal): Extension<Principal>) -> Answer {
    success(json!({
        "startTime": rfc3339(app.started),
        "reloadConfigSuccess": app.last_load.is_ok(),
        "lastConfigTime": rfc3339(app.last_load.at()),
        "timeSeriesCount": app.stats.metrics(principal.tenant).series,
        "corruptionCount": app.intake.journal().status().quarantined_ranges,
        "storageRetention": br_std::duration::format(app.retention),
    }))
}

pub(super) async fn tsdb(State(app): State<Arc<App>>, Extension(principal): Extension<Principal>) -> Answer {
    let stats = app.stats.metrics(principal.tenant);
    let pairs = |pairs: &[(String, u64)]| {
        pairs.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect::<Vec<Value>>()
    };
    success(json!({
        "headStats": {
            "numSeries": stats.series,
            "minTime": stats.min_time_ms.unwrap_or(0),
            "maxTime": stats.max_time_ms.unwrap_or(0),
        },
        "seriesCountByMetricName": pairs(&stats.top_metrics),
        "labelValueCountByLabelName": pairs(&stats.top_labels),
        "memoryInBytesByLabelName": [],
        "seriesCountByLabelValuePair": [],
        "seriesLimitsHit": stats.limits_hit.iter().map(limit_hit).collect::<Vec<Value>>(),
    }))
}

fn limit_hit(hit: &LimitHit) -> Value {
    json!({
        "limit": hit.limit,
        "labels": crate::json::labels(&hit.labels),
        "series": hit.series,
        "seriesMax": hit.series_max,
        "refusedSamples": hit.refused_samples,
    })
}

/// Under Prometheus' names where the meaning is the same; what was given on the command line, in the environment or in the file.
pub(super) async fn flags(State(app): State<Arc<App>>) -> Answer {
    let limits = app.door.limits();
    let mut flags: BTreeMap<&str, String> = app.flags.iter().map(|(name, value)| (*name, value.clone())).collect();
    flags.insert("storage.tsdb.retention.time", br_std::duration::format(app.retention));
    flags.insert("query.timeout", br_std::duration::format(limits.timeout));
    flags.insert("query.max-concurrency", limits.concurrent_max.to_string());
    flags.insert(
        "query.lookback-delta",
        br_std::duration::format(Duration::from_millis(app.promql.options().lookback_ms.unsigned_abs())),
    );
    success(json!(flags))
}

/// As read, with what looks like a secret blanked.
pub(super) async fn config(State(app): State<Arc<App>>, Extension(principal): Extension<Principal>) -> Answer {
    app.check_operator(principal.tenant)?;
    success(json!({ "yaml": *app.config_text.lock() }))
}
