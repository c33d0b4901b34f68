//! Deleting series.

use super::{Answer, selector};
use crate::app::App;
use crate::params::Params;
use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use br_ingest::Deletion;
use br_model::Principal;
use std::sync::Arc;

/// What was accepted before goes: from queries when this answers, from the files when they are written anew.
pub(super) async fn delete_series(
    State(app): State<Arc<App>>,
    Extension(principal): Extension<Principal>,
    params: Params,
) -> Answer {
    let queries = selector::queries(&params, true)?;
    let (from_ms, to_ms) = queries.first().map_or((i64::MIN, i64::MAX), |query| (query.from_ms, query.to_ms));
    let deletion = Deletion::new(queries.into_iter().map(|query| query.matchers).collect(), from_ms, to_ms)?;
    tracing::info!(event = "SeriesDeleted", tenant = principal.tenant.0, by = principal.name, ?deletion);
    app.intake.delete_series(principal.tenant, deletion).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Writes the files anew that hold what was deleted. The old ones leave the disk some minutes later, when no query reads them.
pub(super) async fn clean_tombstones(State(app): State<Arc<App>>) -> Answer {
    app.flusher.clean_tombstones().await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
