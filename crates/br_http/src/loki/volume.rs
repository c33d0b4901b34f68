//! How much there is: streams, entries and bytes of a selector, and who wrote them.

use super::{Answer, json_text, range, success_text};
use crate::app::App;
use crate::params::Params;
use crate::written::{self, Shown};
use axum::Extension;
use axum::extract::State;
use br_logql::{Expr, LogExpr, MetricValue};
use br_model::{Labels, Principal};
use br_query::door::Language;
use br_std::{Error, Result};
use br_storage::{LogSource, TimeRange};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub(super) const LIMIT_DEFAULT: usize = 100;
pub(super) const LIMIT_MAX: usize = 5000;

/// A selector without stages: volumes are those of streams.
pub(super) fn selector(text: &str) -> Result<LogExpr> {
    match br_logql::parse(text).map_err(Error::from)? {
        Expr::Log(log) if log.stages.is_empty() => Ok(log),
        _ => Err(Error::fix_request(format!("invalid parameter \"query\": {text:?} is not a stream selector"))),
    }
}

/// Evaluates `function(selector [range])` at the end of the range.
fn over(
    source: &dyn LogSource,
    (function, selector): (&str, &str),
    by: Option<&str>,
    range: TimeRange,
    budget: &br_storage::Budget,
) -> Result<Vec<(Labels, f64)>> {
    let seconds = range.to.since(range.from).as_secs().max(1);
    let by = by.map_or_else(|| "sum".to_owned(), |labels| format!("sum by ({labels})"));
    let text = format!("{by} ({function}({selector}[{seconds}s]))");
    let Expr::Metric(metric) = br_logql::parse(&text).map_err(Error::from)? else { return Ok(Vec::new()) };
    let (value, _) = br_logql::query_instant(source, &metric, range.to, budget)?;
    Ok(match value {
        MetricValue::Series(series) => {
            series.into_iter().filter_map(|series| Some((series.labels, series.points.first()?.1))).collect()
        }
        MetricValue::Scalar(_) => Vec::new(),
    })
}

pub(super) async fn stats(State(app): State<Arc<App>>, Extension(principal): Extension<Principal>, params: Params) -> Answer {
    let text = params.required("query")?.to_owned();
    let log = selector(&text)?;
    let (tenant, range) = (principal.tenant, range(&app, &params)?);
    let shown = text.clone();
    let (streams, entries, bytes) = app
        .query(tenant, Language::LogQl, &shown, None, move |sources, budget| {
            let source = sources.logs(tenant);
            let sum = |function| over(&*source, (function, &text), None, range, budget);
            let total = |sums: Vec<(Labels, f64)>| sums.first().map_or(0.0, |(_, value)| *value) as u64;
            let streams = source.streams(range, &log.matchers, budget)?.len();
            Ok((streams, total(sum("count_over_time")?), total(sum("bytes_over_time")?)))
        })
        .await?;
    // Clients add up the chunks too; there are none here.
    json_text(json!({ "streams": streams, "chunks": 0, "entries": entries, "bytes": bytes }).to_string())
}

/// `aggregateBy=series` (the default) sums by the values of `targetLabels`, or of the labels that the selector names;
/// `labels` sums by the name of a label alone.
pub(super) async fn volume(State(app): State<Arc<App>>, Extension(principal): Extension<Principal>, params: Params) -> Answer {
    let text = params.required("query")?.to_owned();
    let log = selector(&text)?;
    let limit = params.limit(LIMIT_DEFAULT, LIMIT_MAX)?;
    let by_labels = match params.get("aggregateBy") {
        None | Some("series") => false,
        Some("labels") => true,
        Some(other) => {
            return Err(
                Error::fix_request(format!("invalid parameter \"aggregateBy\": {other:?} is neither series nor labels")).into()
            );
        }
    };
    let targets = targets(&params, &log)?;
    let (tenant, range) = (principal.tenant, range(&app, &params)?);
    let shown = text.clone();
    let at = range.to.as_millis() as f64 / 1000.0;
    let text = app
        .query(tenant, Language::LogQl, &shown, None, move |sources, budget| {
            let source = sources.logs(tenant);
            let mut volumes: Vec<(Value, f64)> = if by_labels {
                let sums = |name: &String| {
                    let sums = over(&*source, ("bytes_over_time", &text), Some(name), range, budget)?;
                    let bytes = sums.iter().filter(|(labels, _)| labels.get(name).is_some()).map(|(_, bytes)| bytes).sum();
                    Ok((json!({ name: "" }), bytes))
                };
                targets.iter().map(sums).collect::<Result<_>>()?
            } else {
                let mut sums = over(&*source, ("bytes_over_time", &text), Some(&targets.join(",")), range, budget)?;
                sums.sort_by(|(_, a), (_, b)| b.total_cmp(a));
                sums.iter().take(limit).map(|(labels, bytes)| (json!(Shown(labels)), *bytes)).collect()
            };
            volumes.sort_by(|(_, a), (_, b)| b.total_cmp(a));
            volumes.truncate(limit);
            let volume = |(metric, bytes): &(Value, f64)| json!({ "metric": metric, "value": [at, (*bytes as u64).to_string()] });
            let result: Vec<Value> = volumes.iter().map(volume).collect();
            success_text(&json!({ "resultType": "vector", "result": result, "stats": {} }), None, budget)
        })
        .await?;
    json_text(text)
}

/// Names of labels as LogQL takes them: what else came in their place would become part of a query.
pub(super) fn targets(params: &Params, log: &LogExpr) -> Result<Vec<String>> {
    let is_name = |name: &str| {
        !name.is_empty()
            && !name.as_bytes()[0].is_ascii_digit()
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let Some(text) = params.get("targetLabels") else {
        let names: BTreeSet<&str> = log.matchers.iter().map(|matcher| matcher.name.as_str()).collect();
        return Ok(names.into_iter().map(str::to_owned).collect());
    };
    let names: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
    match names.iter().find(|name| !is_name(name)) {
        Some(wrong) => Err(Error::fix_request(format!("invalid parameter \"targetLabels\": {wrong:?} is no label name"))),
        None => Ok(names),
    }
}

/// Labels of streams with how many values each has.
pub(super) async fn detected_labels(
    State(app): State<Arc<App>>,
    Extension(principal): Extension<Principal>,
    params: Params,
) -> Answer {
    let matchers =
        params.get("query").filter(|text| *text != "{}").map(selector).transpose()?.map_or_else(Vec::new, |log| log.matchers);
    let (tenant, range) = (principal.tenant, range(&app, &params)?);
    let text = app
        .query(tenant, Language::Lookup, "detected labels", None, move |sources, budget| {
            let streams = sources.logs(tenant).streams(range, &matchers, budget)?;
            let mut values: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
            for (name, value) in streams.iter().flat_map(Labels::iter) {
                values.entry(name).or_default().insert(value);
            }
            let label = |(name, values): (&&str, &BTreeSet<&str>)| json!({ "label": name, "cardinality": values.len() });
            let labels: Vec<Value> = values.iter().map(label).collect();
            written::json(&json!({ "detectedLabels": labels }), budget)
        })
        .await?;
    json_text(text)
}
