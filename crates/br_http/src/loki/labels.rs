//! Labels and streams.

use super::{Answer, json_text, range, success_text};
use crate::app::App;
use crate::params::Params;
use crate::written::Shown;
use axum::Extension;
use axum::extract::{Path, State};
use br_logql::Expr;
use br_model::{Labels, Principal};
use br_query::door::Language;
use br_std::{Error, Result};
use br_storage::Matcher;
use serde::{Serialize, Serializer};
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

/// What `answer` makes of the streams that satisfy any of the selectors.
async fn lookup<T: Serialize>(
    app: &App,
    principal: &Principal,
    params: &Params,
    selectors: Vec<Vec<Matcher>>,
    answer: impl FnOnce(BTreeSet<Labels>) -> T + Send + 'static,
) -> Answer {
    let (tenant, range) = (principal.tenant, range(app, params)?);
    let text = app
        .query(tenant, Language::Lookup, "streams", None, move |sources, budget| {
            let mut found = BTreeSet::new();
            for matchers in selectors {
                found.extend(sources.logs(tenant).streams(range, &matchers, budget)?);
            }
            success_text(&answer(found), None, budget)
        })
        .await?;
    json_text(text)
}

pub(super) async fn names(State(app): State<Arc<App>>, Extension(principal): Extension<Principal>, params: Params) -> Answer {
    let selectors = vec![matchers(params.get("query"))?];
    lookup(&app, &principal, &params, selectors, |streams| {
        streams.iter().flat_map(|stream| stream.iter().map(|(name, _)| name.to_owned())).collect::<BTreeSet<String>>()
    })
    .await
}

pub(super) async fn values(
    State(app): State<Arc<App>>,
    Extension(principal): Extension<Principal>,
    Path(name): Path<String>,
    params: Params,
) -> Answer {
    let selectors = vec![matchers(params.get("query"))?];
    lookup(&app, &principal, &params, selectors, move |streams| {
        // The streams go as their values are taken: both are never held whole.
        streams.into_iter().filter_map(|stream| stream.get(&name).map(str::to_owned)).collect::<BTreeSet<String>>()
    })
    .await
}

pub(super) async fn series(State(app): State<Arc<App>>, Extension(principal): Extension<Principal>, params: Params) -> Answer {
    let mut selectors: Vec<&str> = params.all("match[]").chain(params.all("match")).collect();
    if selectors.is_empty() {
        selectors.push("");
    }
    let selectors = selectors.into_iter().map(|text| matchers((!text.is_empty() && text != "{}").then_some(text)));
    let selectors = selectors.collect::<Result<_>>()?;
    lookup(&app, &principal, &params, selectors, Streams).await
}

struct Streams(BTreeSet<Labels>);

impl Serialize for Streams {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(Shown))
    }
}
