//! Labels and streams.

use super::{Answer, range, success};
use crate::app::App;
use crate::json;
use crate::params::Params;
use axum::Extension;
use axum::extract::{Path, State};
use br_logql::Expr;
use br_model::{Labels, Principal};
use br_query::door::Language;
use br_std::{Error, Result};
use br_storage::Matcher;
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The matchers of a bare selector; none for no text.
fn matchers(text: Option<&str>) -> Result<Vec<Matcher>> {
    let Some(text) = text else { return Ok(Vec::new()) };
    match br_logql::parse(text).map_err(Error::from)? {
        Expr::Log(log) => Ok(log.matchers),
        Expr::Metric(_) => Err(Error::fix_request(format!("{text:?} is not a stream selector"))),
    }
}

async fn streams(app: &App, principal: &Principal, params: &Params, matchers: Vec<Matcher>) -> Result<Vec<Labels>> {
    let (tenant, range) = (principal.tenant, range(app, params)?);
    app.query(tenant, Language::Lookup, "streams", None, move |sources, budget| {
        sources.logs(tenant).streams(range, &matchers, budget)
    })
    .await
}

pub(super) async fn names(State(app): State<Arc<App>>, Extension(principal): Extension<Principal>, params: Params) -> Answer {
    let streams = streams(&app, &principal, &params, matchers(params.get("query"))?).await?;
    let names: BTreeSet<&str> = streams.iter().flat_map(|stream| stream.iter().map(|(name, _)| name)).collect();
    success(names.into_iter().collect())
}

pub(super) async fn values(
    State(app): State<Arc<App>>,
    Extension(principal): Extension<Principal>,
    Path(name): Path<String>,
    params: Params,
) -> Answer {
    let streams = streams(&app, &principal, &params, matchers(params.get("query"))?).await?;
    let values: BTreeSet<&str> = streams.iter().filter_map(|stream| stream.get(&name)).collect();
    success(values.into_iter().collect())
}

pub(super) async fn series(State(app): State<Arc<App>>, Extension(principal): Extension<Principal>, params: Params) -> Answer {
    let mut selectors: Vec<&str> = params.all("match[]").chain(params.all("match")).collect();
    if selectors.is_empty() {
        selectors.push("");
    }
    let mut found = BTreeSet::new();
    for selector in selectors {
        let matchers = matchers((!selector.is_empty() && selector != "{}").then_some(selector))?;
        found.extend(streams(&app, &principal, &params, matchers).await?);
    }
    success(found.iter().map(json::labels).collect::<Vec<Value>>().into())
}
