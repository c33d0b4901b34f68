//! Series, label names, label values.

use super::{Answer, encode, json_text, limit, selector};
use crate::app::App;
use crate::params::Params;
use axum::Extension;
use axum::extract::{Path, State};
use br_model::Principal;
use br_query::door::Language;
use br_std::Result;
use br_storage::{Budget, MetricSource, SeriesQuery};
use std::collections::BTreeSet;
use std::sync::Arc;

pub(super) async fn series(State(app): State<Arc<App>>, Extension(principal): Extension<Principal>, params: Params) -> Answer {
    let queries = selector::queries(&params, true)?;
    let limit = limit(&params)?;
    let found = lookup(&app, principal, "series", move |source, budget| {
        let found = source.series(&queries, budget)?;
        encode::list(found, limit, budget, encode::labels)
    });
    Ok(json_text(found.await?))
}

pub(super) async fn names(State(app): State<Arc<App>>, Extension(principal): Extension<Principal>, params: Params) -> Answer {
    let queries = selector::queries(&params, false)?;
    let limit = limit(&params)?;
    let found = lookup(&app, principal, "labels", move |source, budget| {
        let found = union(&queries, |query| source.label_names(query, budget))?;
        encode::list(found, limit, budget, |out, name| encode::string(out, name))
    });
    Ok(json_text(found.await?))
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
        let found = union(&queries, |query| source.label_values(&name, query, budget))?;
        encode::list(found, limit, budget, |out, value| encode::string(out, value))
    });
    Ok(json_text(found.await?))
}

async fn lookup<T: Send + 'static>(
    app: &App,
    principal: Principal,
    what: &str,
    work: impl FnOnce(&dyn MetricSource, &Budget) -> Result<T> + Send + 'static,
) -> Result<T> {
    let tenant = principal.tenant;
    app.query(tenant, Language::Lookup, what, None, move |sources, budget| work(&*sources.metrics(tenant), budget)).await
}

fn union(queries: &[SeriesQuery], mut find: impl FnMut(&SeriesQuery) -> Result<Vec<String>>) -> Result<BTreeSet<String>> {
    let mut all = BTreeSet::new();
    for query in queries {
        all.extend(find(query)?);
    }
    Ok(all)
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
