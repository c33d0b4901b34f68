//! The server's own state, and what runs.

use super::Answer;
use crate::app::{App, FoundDamage};
use crate::time::rfc3339;
use axum::extract::{Path, State};
use axum::{Extension, Json};
use br_ingest::files::{FileCounters, FileStatus};
use br_ingest::lane::Lane;
use br_model::Principal;
use br_std::Error;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub(super) async fn status(State(app): State<Arc<App>>, Extension(principal): Extension<Principal>) -> Answer {
    let mut status = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "started_at": rfc3339(app.started),
        "tenant": principal.tenant.0,
        "principal": principal.name,
        "role": format!("{:?}", principal.role).to_lowercase(),
        "ready": app.intake.journal().status().state == br_journal::State::Accepting,
        "replay": { "done": app.intake.is_caught_up() },
        "ingest": { "metrics": { "series": app.stats.metrics(principal.tenant, 0).series } },
    });
    if app.check_operator(principal.tenant).is_ok() {
        of_all_tenants(&app, &mut status);
    }
    Ok(Json(status))
}

/// What the server has, whoever sent it: for the tenant whose server it is.
fn of_all_tenants(app: &App, status: &mut Value) {
    let journal = app.intake.journal().status();
    let lanes = &app.intake.lanes;
    let applied = [&lanes.metrics, &lanes.events, &lanes.issues].map(Lane::applied).into_iter().min().unwrap_or_default();
    let counters = &app.intake.counters;
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let (files, bytes) = app.stats.storage();
    status["replay"]["position"] = json!(applied.0);
    status["replay"]["target"] = json!(journal.last_position.0);
    status["journal"] = json!({
        "position": journal.last_position.0,
        "bytes": journal.bytes,
        "segments": journal.segments,
        "state": format!("{:?}", journal.state),
        "quarantined_ranges": journal.quarantined_ranges,
    });
    let ingest = &mut status["ingest"];
    ingest["metrics"]["samples_total"] = json!(count(&counters.samples));
    ingest["logs"] = json!({ "records_total": count(&counters.records) });
    ingest["spans"] = json!({ "spans_total": count(&counters.spans) });
    ingest["errors"] = json!({ "events_total": count(&counters.errors) });
    ingest["rejected_total"] = json!(count(&counters.rejected));
    ingest["refused_overload_total"] = json!(count(&counters.refused_overload));
    ingest["files"] = followed(&counters.files);
    let FoundDamage { metric_files, metric_chunks, event_files } = app.stats.damage();
    let damage = json!({ "metric_files": metric_files, "metric_chunks": metric_chunks, "event_files": event_files });
    status["storage"] = json!({ "files": files, "bytes": bytes, "damage": damage });
    status["catalog"] = json!({ "is_whole": app.catalog_state.is_whole, "rescued": app.catalog_state.story });
}

/// Log files that are followed; of the files themselves those that are furthest behind or in trouble.
fn followed(counters: &FileCounters) -> Value {
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let shown = |file: FileStatus| {
        json!({
            "path": file.path,
            "source": file.source,
            "service": file.service,
            "size": file.size,
            "offset": file.offset,
            "lines": file.lines,
            "changed_at": rfc3339(file.changed_at),
            "last_error": file.last_error,
        })
    };
    json!({
        "followed": count(&counters.followed),
        "open": count(&counters.open),
        "left_alone": count(&counters.left_alone),
        "behind_bytes": count(&counters.behind_bytes),
        "lines_total": count(&counters.lines),
        "complaints": counters.complaints(),
        "list": counters.status().into_iter().map(shown).collect::<Vec<_>>(),
    })
}

pub(super) async fn queries(State(app): State<Arc<App>>, Extension(principal): Extension<Principal>) -> Answer {
    let active: Vec<Value> = app
        .door
        .active(principal.tenant)
        .iter()
        .map(|query| {
            json!({
                "id": query.id,
                "language": query.language.as_str(),
                "query": query.text,
                "started_at": rfc3339(query.started),
                "elapsed_ms": (app.clock.now().0 - query.started.0) / 1_000_000,
                "rows_scanned": query.rows_scanned,
                "progress": query.progress,
                "memory_bytes": query.bytes_used,
            })
        })
        .collect();
    Ok(Json(json!({ "queries": active })))
}

pub(super) async fn cancel(
    State(app): State<Arc<App>>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
) -> Answer {
    let id = id.parse().map_err(|_| Error::fix_request(format!("{id:?} is no query id")))?;
    app.door.cancel(principal.tenant, id)?;
    Ok(Json(json!({ "cancelled": id })))
}
