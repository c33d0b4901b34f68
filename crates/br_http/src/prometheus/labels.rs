//! Series, label names, label values.

use super::{Answer, limit, selector, success_warning};
use crate::app::App;
use crate::params::Params;
use axum::Extension;
use axum::extract::{Path, State};
use br_model::Principal;
use br_query::door::Language;
use br_std::Result;
use br_storage::{Budget, MetricSource, SeriesQuery};
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;

pub(super) async fn series(State(app): State<Arc<App>>, Extension(principal): Extension<Principal>, params: Params) -> Answer {
    let queries = selector::queries(&params, true)?;
    let limit = limit(&params)?;
    let (found, warnings) = lookup(&app, principal, "series", move |source, budget| source.series(&queries, budget)).await?;
    listed(found.iter().map(crate::json::labels), limit, warnings)
}

pub(super) async fn names(State(app): State<Arc<App>>, Extension(principal): Extension<Principal>, params: Params) -> Answer {
    let queries = selector::queries(&params, false)?;
    let limit = limit(&params)?;
    let found =
        lookup(&app, principal, "labels", move |source, budget| union(&queries, |query| source.label_names(query, budget)));
    let (found, warnings) = found.await?;
    listed(found.into_iter().map(Value::String), limit, warnings)
}

pub(super) async fn values(
    State(app): State<Arc<App>>,
    Extension(principal): Extension<Principal>,
    Path(name): Path<String>,
    params: Params,
) -> Answer {
    let queries = selector::queries(&params, false)?;
    let limit = limit(&params)?;
    let name = unescape(&name);
    let found = lookup(&app, principal, "label values", move |source, budget| {
        union(&queries, |query| source.label_values(&name, query, budget))
    });
    let (found, warnings) = found.await?;
    listed(found.into_iter().map(Value::String), limit, warnings)
}

/// What is found, and what could not be read.
async fn lookup<T: Send + 'static>(
    app: &App,
    principal: Principal,
    what: &str,
    work: impl FnOnce(&dyn MetricSource, &Budget) -> Result<T> + Send + 'static,
) -> Result<(T, Vec<String>)> {
    let tenant = principal.tenant;
    let work = move |source: &dyn MetricSource, budget: &Budget| Ok((work(source, budget)?, budget.damage().warnings()));
    app.query(tenant, Language::Lookup, what, None, move |sources, budget| work(&*sources.metrics(tenant), budget)).await
}

fn union(queries: &[SeriesQuery], mut find: impl FnMut(&SeriesQuery) -> Result<Vec<String>>) -> Result<BTreeSet<String>> {
    let mut all = BTreeSet::new();
    for query in queries {
        all.extend(find(query)?);
    }
    Ok(all)
}

/// A list that says when it was cut.
fn listed(mut all: impl Iterator<Item = Value>, limit: usize, mut warnings: Vec<String>) -> Answer {
    let data: Vec<Value> = all.by_ref().take(limit).collect();
    if all.next().is_some() {
        warnings.push(super::TRUNCATED.to_owned());
    }
    success_warning(data.into(), &warnings)
}

/// Label names that are no identifiers come as `U__` with `_` doubled and other characters as `_HEX_`.
/// Source: Prometheus' UTF-8 escaping scheme "values".
fn unescape(name: &str) -> String {
    let Some(escaped) = name.strip_prefix("U__") else { return name.to_owned() };
    let mut plain = String::new();
    let mut rest = escaped;
    while let Some(character) = rest.chars().next() {
        rest = &rest[character.len_utf8()..];
        if character != '_' {
            plain.push(character);
            continue;
        }
        if let Some(after) = rest.strip_prefix('_') {
            plain.push('_');
            rest = after;
            continue;
        }
        let decoded = rest.split_once('_').and_then(|(digits, after)| {
            let code = u32::from_str_radix(digits, 16).ok()?;
            Some((char::from_u32(code)?, after))
        });
        let Some((decoded, after)) = decoded else { return name.to_owned() };
        plain.push(decoded);
        rest = after;
    }
    plain
}

#[cfg(test)]
mod tests {
    #[test]
    fn escaped_names() {
        for (escaped, plain) in
            [("job", "job"), ("U__http_2e_status", "http.status"), ("U__a__b", "a_b"), ("U__a_zz_", "U__a_zz_")]
        {
            assert_eq!(super::unescape(escaped), plain);
        }
    }
}
