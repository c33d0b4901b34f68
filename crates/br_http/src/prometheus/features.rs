//! What of Prometheus' features is there and switched on, by category and name.

use super::{Answer, success};
use crate::app::App;
use axum::extract::State;
use br_promql::{AggregateOp, BinaryOp};
use serde_json::{Map, Value, json};
use std::sync::Arc;

pub(super) async fn features(State(app): State<Arc<App>>) -> Answer {
    let options = app.promql.options();
    success(json!({
        "api": {
            "admin": true,
            "exclude_alerts": false,
            "label_values_match": true,
            "lifecycle": true,
            "openapi_3.1": false,
            "openapi_3.2": false,
            "otlp_write_receiver": true,
            "query_stats": true,
            "query_warnings": true,
            "remote_write_receiver": true,
            "search": false,
            "time_range_labels": true,
            "time_range_series": true,
        },
        "otlp_receiver": { "delta_conversion": true, "native_delta_ingestion": false },
        "prometheus": { "agent_mode": false, "auto_reload_config": false, "server_mode": true },
        "promql": {
            "anchored": options.extended_selectors,
            "at_modifier": true,
            "bool": true,
            "by": true,
            "delayed_name_removal": options.delayed_name_removal,
            "duration_expr": true,
            "fill": options.fill_modifiers,
            "fill_left": options.fill_modifiers,
            "fill_right": options.fill_modifiers,
            "group_left": true,
            "group_right": true,
            "ignoring": true,
            "negative_offset": true,
            "offset": true,
            "on": true,
            "per_query_lookback_delta": true,
            "per_step_stats": false,
            "smoothed": options.extended_selectors,
            "subqueries": true,
            "type_and_unit_labels": false,
            "without": true,
        },
        "promql_functions": functions(options.experimental_functions),
        "promql_operators": operators(options.experimental_functions),
        "rules": { "concurrent_rule_eval": false, "keep_firing_for": true, "query_offset": true },
        "tsdb": { "exemplar_storage": true, "native_histograms": true, "st_storage": options.start_timestamps },
    }))
}

fn functions(experimental: bool) -> Value {
    let all = br_promql::signatures().iter();
    Value::Object(all.map(|function| (function.name.to_owned(), json!(experimental || !function.is_experimental))).collect())
}

fn operators(experimental: bool) -> Value {
    let mut all: Map<String, Value> = BinaryOp::ALL.iter().map(|op| (op.as_str().to_owned(), json!(true))).collect();
    all.extend(["=~", "!~", "@"].map(|symbol| (symbol.to_owned(), json!(true))));
    all.extend(AggregateOp::ALL.iter().map(|op| (op.as_str().to_owned(), json!(experimental || !op.is_experimental()))));
    Value::Object(all)
}
