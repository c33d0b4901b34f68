//! What an administrator may ask for.

use super::Answer;
use crate::app::App;
use axum::extract::State;
use axum::{Extension, Json};
use br_model::Principal;
use serde_json::json;
use std::sync::Arc;

/// Heads to files now: before a backup, or to measure the disk.
pub(super) async fn flush(State(app): State<Arc<App>>, Extension(principal): Extension<Principal>) -> Answer {
    app.check_operator(principal.tenant)?;
    let flushed = app.flusher.flush().await?;
    Ok(Json(json!({ "files": flushed.files, "bytes": flushed.bytes })))
}
