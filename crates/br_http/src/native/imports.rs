//! Taking in metrics that another store has kept: finished files, verified and listed all at once.

use super::Answer;
use crate::app::App;
use crate::error::ApiError;
use crate::params::Params;
use axum::extract::{Request, State};
use axum::{Extension, Json};
use br_model::Principal;
use br_std::{Error, Result};
use br_tsdb::{DAY_SECS, WINDOW_SECS, import_window_ms};
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;

/// One file.
const FILE_BYTES_MAX: usize = 128 << 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CommitRequest {
    source: String,
    files: Vec<String>,
}

/// Whether a source was taken in before, and how far back metrics are kept.
pub(super) async fn look(State(app): State<Arc<App>>, Extension(principal): Extension<Principal>, params: Params) -> Answer {
    let is_imported = match params.get("source") {
        Some(source) => app.flusher.importer().is_known(principal.tenant, source).await?,
        None => false,
    };
    Ok(Json(json!({ "imported": is_imported, "retention_ms": app.retention.as_millis() as u64 })))
}

/// Puts one file beside the store's own. It counts once it is committed.
pub(super) async fn put_file(
    State(app): State<Arc<App>>,
    Extension(principal): Extension<Principal>,
    request: Request,
) -> Answer {
    let params = Params::parse(request.uri().query().unwrap_or_default());
    let (window_ms, window_secs) = window(&params)?;
    let body = app.bodies.receive(request.into_body(), FILE_BYTES_MAX).await;
    let body = body.map_err(|error| match error {
        br_ingest::intake::AcceptError::Wire(error) => ApiError(error.into()),
        br_ingest::intake::AcceptError::Other(error) => ApiError(error),
    })?;
    if let br_journal::State::DiskFull { free_bytes } = app.intake.journal().status().state {
        let free_mib = free_bytes >> 20;
        return Err(Error::retry(format!(
            "only {free_mib} MiB are free on the disk, less than limits.disk_free: no file is taken"
        ))
        .into());
    }
    let path = app.flusher.importer().put(principal.tenant, window_ms, window_secs, body.bytes.clone()).await?;
    Ok(Json(json!({ "path": path })))
}

fn window(params: &Params) -> Result<(i64, u32)> {
    let number = |name: &str| {
        let text = params.required(name)?;
        text.parse::<i64>().map_err(|_| Error::fix_request(format!("invalid parameter {name:?}: {text:?} is no whole number")))
    };
    let (start, length) = (number("window_start")?, number("window_secs")?);
    let window_secs = u32::try_from(length).ok().filter(|length| matches!(*length, WINDOW_SECS | DAY_SECS));
    let window_secs = window_secs.ok_or_else(|| {
        Error::fix_request(format!("invalid parameter \"window_secs\": {length} is neither {WINDOW_SECS} nor {DAY_SECS}"))
    })?;
    let start_ms = start.saturating_mul(1000);
    if import_window_ms(start_ms, window_secs) != start_ms {
        return Err(Error::fix_request(format!("invalid parameter \"window_start\": no window begins at {start}")));
    }
    Ok((start_ms, window_secs))
}

/// Verifies the files of a source and lists them, all or none.
pub(super) async fn commit(
    State(app): State<Arc<App>>,
    Extension(principal): Extension<Principal>,
    Json(request): Json<CommitRequest>,
) -> Answer {
    let imported = app.flusher.commit_import(principal.tenant, request.source, request.files, app.retention).await?;
    let bytes: u64 = imported.files.iter().map(|file| file.size_bytes).sum();
    Ok(Json(json!({ "files": imported.files.len(), "bytes": bytes, "repeated": imported.is_repeated })))
}
