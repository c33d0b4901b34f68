//! What the server says of itself.

use super::{Answer, success};
use crate::app::{App, LimitHit, MetricFile};
use crate::params::Params;
use crate::time::rfc3339;
use axum::Extension;
use axum::extract::State;
use br_model::{Principal, Right};
use br_std::Error;
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
        "timeSeriesCount": app.stats.metrics(principal.tenant, 0).series,
        "corruptionCount": app.intake.journal().status().quarantined_ranges,
        "storageRetention": br_std::duration::format(app.retention),
    }))
}

/// Names in each list of the largest.
const TOP: usize = 10;

pub(super) async fn tsdb(State(app): State<Arc<App>>, Extension(principal): Extension<Principal>, params: Params) -> Answer {
    let top = params.limit(TOP, TOP_MAX)?;
    if top == 0 {
        return Err(Error::fix_request("invalid parameter \"limit\": limit must be a positive number").into());
    }
    let stats = app.stats.metrics(principal.tenant, top);
    let pairs = |pairs: &[(String, u64)]| {
        pairs.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect::<Vec<Value>>()
    };
    success(json!({
        "headStats": {
            "numSeries": stats.series,
            "numLabelPairs": stats.label_pairs,
            "chunkCount": stats.chunks,
            "minTime": stats.min_time_ms.unwrap_or(0),
            "maxTime": stats.max_time_ms.unwrap_or(0),
        },
        "seriesCountByMetricName": pairs(&stats.top_metrics),
        "labelValueCountByLabelName": pairs(&stats.top_labels),
        "memoryInBytesByLabelName": pairs(&stats.top_label_bytes),
        "seriesCountByLabelValuePair": pairs(&stats.top_pairs),
        "seriesLimitsHit": stats.limits_hit.iter().map(limit_hit).collect::<Vec<Value>>(),
    }))
}

/// As in Prometheus.
const TOP_MAX: usize = 10_000;

/// The files of metrics as Prometheus lists its blocks. Ours have no chunks of their own: a series is written in one piece.
pub(super) async fn blocks(State(app): State<Arc<App>>, Extension(principal): Extension<Principal>) -> Answer {
    let files = app.stats.metric_files(principal.tenant);
    let block = |file: &MetricFile| {
        json!({
            "ulid": file.name,
            "minTime": file.min_time_ms,
            "maxTime": file.max_time_ms,
            "stats": { "numSamples": file.samples, "numSeries": file.series, "numChunks": file.series, "sizeBytes": file.bytes },
            "compaction": { "level": file.level + 1, "sources": [file.name] },
            "version": 1,
        })
    };
    success(json!({ "blocks": files.iter().map(block).collect::<Vec<Value>>() }))
}

/// How far the journal has been read back since the start. Its positions are those of all tenants.
pub(super) async fn replay(State(app): State<Arc<App>>, Extension(principal): Extension<Principal>) -> Answer {
    let is_done = app.intake.is_caught_up();
    let (mut current, mut max) = (0, 0);
    if app.check_operator(principal.tenant).is_ok() {
        let lanes = &app.intake.lanes;
        current = lanes.metrics.applied().min(lanes.events.applied()).min(lanes.issues.applied()).0;
        max = app.intake.journal().status().last_position.0;
    }
    let state = if is_done { "done" } else { "in progress" };
    success(json!({ "min": 0, "max": max, "current": current, "state": state }))
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
/// Where the server keeps what is for who administers it.
pub(super) async fn flags(State(app): State<Arc<App>>, Extension(principal): Extension<Principal>) -> Answer {
    let limits = app.door.limits();
    let sees_places = app.check_operator(principal.tenant).is_ok() && principal.role.may(Right::Administer);
    let given = app.flags.iter().filter(|(name, _)| sees_places || !matches!(*name, "storage.tsdb.path" | "config.file"));
    let mut flags: BTreeMap<&str, String> = given.map(|(name, value)| (*name, value.clone())).collect();
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
