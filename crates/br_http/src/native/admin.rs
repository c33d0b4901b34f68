//! What an administrator may ask for.

use super::Answer;
use crate::app::App;
use axum::Json;
use axum::extract::State;
use serde_json::json;
use std::sync::Arc;

/// Heads to files now: before a backup, or to measure the disk.
pub(super) async fn flush(State(app): State<Arc<App>>) -> Answer {
    let flushed = app.flusher.flush().await?;
    Ok(Json(json!({ "files": flushed.files, "bytes": flushed.bytes })))
}
