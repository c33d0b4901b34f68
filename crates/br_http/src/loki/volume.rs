//! How much there is: streams, entries and bytes of a selector, and who wrote them.

use super::{Answer, json_text, range, success_text};
use crate::app::App;
use crate::params::Params;
use crate::written::{self, Shown};
use axum::Extension;
use axum::extract::State;
use br_logql::{Expr, LogExpr};
use br_model::{Labels, Principal};
use br_query::door::Language;
use br_std::{Error, Result};
use br_storage::{Budget, LineNeed, LogNeeds, LogQuery, LogRow, LogSource, Marks, TimeNeed, TimeRange};
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

/// Hands out the entries of a selector by stream and by the `names` of their metadata, with how many there are and their bytes:
/// one pass, in which no line is looked at.
fn each_volume(
    source: &dyn LogSource,
    selector: &LogExpr,
    names: &[String],
    range: TimeRange,
    budget: &Budget,
    mut each: impl FnMut(&LogRow, u64, u64) -> Result<()>,
) -> Result<()> {
    let needs = LogNeeds::named(LineNeed::Length, names.to_vec());
    // All that lies in the range is one.
    let marks = Marks { origin: range.from.0.saturating_sub(1), width: range.to.0.saturating_sub(range.from.0).max(1) };
    let times = TimeNeed::Between([marks; 2]);
    let query = LogQuery { streams: selector.matchers.clone(), needs, times, ..LogQuery::new(range) };
    let mut cursor = source.scan_groups(&query, budget)?;
    while let Some(groups) = cursor.next_batch()? {
        budget.check()?;
        for group in groups {
            let (rows, bytes) = group.all().fold((0, 0), |(rows, bytes), more| (rows + more.rows, bytes + more.bytes));
            each(&group.row, rows, bytes)?;
        }
    }
    Ok(())
}

fn label<'r>(row: &'r LogRow, name: &str) -> Option<&'r str> {
    let of_record = || row.metadata.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    row.stream.get(name).or_else(of_record)
}

/// Bytes of labels that are kept until the answer, about.
fn weight(labels: &Labels) -> u64 {
    labels.iter().map(|(name, value)| name.len() + value.len() + 64).sum::<usize>() as u64
}

pub(super) async fn stats(State(app): State<Arc<App>>, Extension(principal): Extension<Principal>, params: Params) -> Answer {
    let text = params.required("query")?.to_owned();
    let log = selector(&text)?;
    let (tenant, range) = (principal.tenant, range(&app, &params)?);
    let shown = text.clone();
    let (streams, entries, bytes) = app
        .query(tenant, Language::LogQl, &shown, None, move |sources, budget| {
            let (mut streams, mut entries, mut bytes) = (BTreeSet::new(), 0, 0);
            each_volume(&*sources.logs(tenant), &log, &[], range, budget, |row, more_entries, more_bytes| {
                entries += more_entries;
                bytes += more_bytes;
                if streams.insert(row.stream.clone()) {
                    budget.charge(weight(&row.stream))?;
                }
                Ok(())
            })?;
            Ok((streams.len(), entries, bytes))
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
            let mut sums: BTreeMap<Labels, u64> = BTreeMap::new();
            let mut add = |labels: Labels, bytes| -> Result<()> {
                if !sums.contains_key(&labels) {
                    budget.charge(weight(&labels))?;
                }
                *sums.entry(labels).or_default() += bytes;
                Ok(())
            };
            each_volume(&*sources.logs(tenant), &log, &targets, range, budget, |row, _, bytes| {
                let found = targets.iter().filter_map(|name| Some((name, label(row, name)?)));
                if by_labels {
                    return found.into_iter().try_for_each(|(name, _)| add(Labels::from_pairs([(name, name)]), bytes));
                }
                add(Labels::from_pairs(found), bytes)
            })?;
            let metric = |labels: &Labels| match labels.iter().next() {
                Some((name, _)) if by_labels => json!({ name: "" }),
                _ => json!(Shown(labels)),
            };
            let mut volumes: Vec<(Value, u64)> = sums.iter().map(|(labels, bytes)| (metric(labels), *bytes)).collect();
            volumes.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
            volumes.truncate(limit);
            let volume = |(metric, bytes): &(Value, u64)| json!({ "metric": metric, "value": [at, bytes.to_string()] });
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
