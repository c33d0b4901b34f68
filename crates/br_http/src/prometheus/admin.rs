//! What an administrator may ask of the store.

use super::{Answer, selector, success};
use crate::app::App;
use crate::params::Params;
use crate::time::rfc3339;
use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use br_ingest::Deletion;
use br_model::Principal;
use br_query::door::Language;
use br_std::{Error, Nanos};
use serde_json::json;
use std::sync::Arc;

/// What was accepted before goes: from queries when this answers, from the files when they are written anew.
pub(super) async fn delete_series(
    State(app): State<Arc<App>>,
    Extension(principal): Extension<Principal>,
    params: Params,
) -> Answer {
    let queries = selector::queries(&params, true)?;
    let (from_ms, to_ms) = queries.first().map_or((i64::MIN, i64::MAX), |query| (query.from_ms, query.to_ms));
    let (tenant, intake) = (principal.tenant, app.intake.clone());
    let (deletion, foreseen) = app
        .query(tenant, Language::Lookup, "delete series", None, move |_, budget| {
            queries.iter().flat_map(|query| &query.matchers).try_for_each(|matcher| matcher.prepare(budget))?;
            let deletion = Deletion::new(queries.into_iter().map(|query| query.matchers).collect(), from_ms, to_ms)?;
            let foreseen = intake.foresee_deletion(tenant, &deletion, budget)?;
            Ok((deletion, foreseen))
        })
        .await?;
    tracing::info!(event = "SeriesDeleted", tenant = tenant.0, by = principal.name, ?deletion);
    app.intake.delete_series(tenant, deletion, foreseen).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Writes the files anew that hold what was deleted. The old ones leave the disk some minutes later, when no query reads them.
pub(super) async fn clean_tombstones(State(app): State<Arc<App>>, Extension(principal): Extension<Principal>) -> Answer {
    app.check_operator(principal.tenant)?;
    app.flusher.clean_tombstones().await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// A copy of all that is in files, beside the data: see [`Flusher::snapshot`](br_jobs::flush::Flusher::snapshot).
pub(super) async fn snapshot(State(app): State<Arc<App>>, Extension(principal): Extension<Principal>, params: Params) -> Answer {
    app.check_operator(principal.tenant)?;
    let skips_heads = match params.get("skip_head") {
        None | Some("" | "false" | "0") => false,
        Some("true" | "1") => true,
        Some(other) => {
            return Err(
                Error::fix_request(format!("invalid parameter \"skip_head\": {other:?} is neither true nor false")).into()
            );
        }
    };
    let now = app.clock.now();
    let seconds = rfc3339(Nanos::from_secs(now.as_secs())).replace(['-', ':'], "");
    let name = format!("{seconds}-{:016x}", now.0);
    app.flusher.snapshot(&name, skips_heads).await?;
    tracing::info!(event = "SnapshotTaken", name, by = principal.name);
    success(json!({ "name": name }))
}
