//! What the server says of itself.

use super::{Answer, success};
use crate::app::App;
use crate::time::rfc3339;
use axum::Extension;
use axum::extract::State;
use br_model::Principal;
use serde_json::{Value, json};
use std::sync::Arc;

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
        "reloadConfigSuccess": true,
        "lastConfigTime": rfc3339(app.started),
        "timeSeriesCount": app.stats.metrics(principal.tenant).series,
        "corruptionCount": app.intake.journal().status().quarantined_ranges,
        "storageRetention": "",
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
            "chunkCount": stats.samples,
            "minTime": stats.min_time_ms.unwrap_or(0),
            "maxTime": stats.max_time_ms.unwrap_or(0),
        },
        "seriesCountByMetricName": pairs(&stats.top_metrics),
        "labelValueCountByLabelName": pairs(&stats.top_labels),
        "memoryInBytesByLabelName": [],
        "seriesCountByLabelValuePair": [],
    }))
}

pub(super) async fn flags() -> Answer {
    success(json!({}))
}

/// As read, with what looks like a secret blanked.
pub(super) async fn config(State(app): State<Arc<App>>) -> Answer {
    success(json!({ "yaml": app.config_text }))
}
