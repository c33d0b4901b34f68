//! How much came in each step, by labels of streams.

use super::volume::{LIMIT_DEFAULT, LIMIT_MAX, selector, targets};
use super::{Answer, json_text, range, success_text};
use crate::app::App;
use crate::params::Params;
use crate::written::Shown;
use axum::Extension;
use axum::extract::State;
use br_logql::{Expr, MetricValue};
use br_model::{Labels, Principal};
use br_query::door::Language;
use br_std::{Error, Nanos};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const STEPS_MAX: u128 = 11_000;

/// As [`super::volume::volume`], for each step. `aggregateBy=labels` sums by the name of a label alone.
pub(super) async fn volume_range(
    State(app): State<Arc<App>>,
    Extension(principal): Extension<Principal>,
    params: Params,
) -> Answer {
    let text = params.required("query")?.to_owned();
    let log = selector(&text)?;
    let limit = params.limit(LIMIT_DEFAULT, LIMIT_MAX)?;
    let by_labels = params.get("aggregateBy") == Some("labels");
    let targets = targets(&params, &log)?;
    let (tenant, range) = (principal.tenant, range(&app, &params)?);
    let default = Duration::from_secs((range.to.since(range.from).as_secs() / 250).max(1));
    let step = params.duration("step")?.unwrap_or(default);
    if step < Duration::from_secs(1) || range.to.since(range.from).as_nanos() / step.as_nanos() > STEPS_MAX {
        return Err(Error::fix_request(
            "invalid parameter \"step\": it must be a second at least and give no more than 11,000 points",
        )
        .into());
    }
    let shown = text.clone();
    let text = app
        .query(tenant, Language::LogQl, &shown, None, move |sources, budget| {
            let query = format!("sum by ({}) (bytes_over_time({text}[{}s]))", targets.join(","), step.as_secs());
            let Expr::Metric(metric) = br_logql::parse(&query).map_err(Error::from)? else {
                return Err(Error::corrupt("a volume is no metric"));
            };
            let first = range.from.window(step) + step;
            let (value, _) = br_logql::query_range(&*sources.logs(tenant), &metric, (first, range.to.max(first)), step, budget)?;
            let MetricValue::Series(series) = value else { return Err(Error::corrupt("a volume is no number")) };
            let mut found: Vec<(Value, BTreeMap<Nanos, f64>)> = Vec::new();
            for one in series {
                for metric in names(&one.labels, &targets, by_labels) {
                    let at = found.iter().position(|(known, _)| *known == metric).unwrap_or_else(|| {
                        found.push((metric, BTreeMap::new()));
                        found.len() - 1
                    });
                    for (time, bytes) in &one.points {
                        *found[at].1.entry(*time).or_default() += bytes;
                    }
                }
            }
            let total = |points: &BTreeMap<Nanos, f64>| points.values().sum::<f64>();
            found.sort_by(|(_, one), (_, other)| total(other).total_cmp(&total(one)));
            found.truncate(limit);
            let series = |(metric, points): &(Value, BTreeMap<Nanos, f64>)| {
                let values =
                    points.iter().map(|(at, bytes)| json!([at.as_millis() as f64 / 1000.0, (*bytes as u64).to_string()]));
                json!({ "metric": metric, "values": values.collect::<Vec<Value>>() })
            };
            let result: Vec<Value> = found.iter().map(series).collect();
            success_text(&json!({ "resultType": "matrix", "result": result, "stats": {} }), None, budget)
        })
        .await?;
    json_text(text)
}

/// Under which names a series counts: its labels, or each of them by its name.
fn names(labels: &Labels, targets: &[String], by_labels: bool) -> Vec<Value> {
    if !by_labels {
        return vec![json!(Shown(labels))];
    }
    targets.iter().filter(|name| labels.get(name).is_some()).map(|name| json!({ name: "" })).collect()
}
