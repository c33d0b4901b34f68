//! Lines of JSON, and entries of systemd's journal.

use crate::app::App;
use crate::bodies::too_large;
use crate::error::with_retry_after;
use crate::ingest::{accept_with, http_status, incoming, kind, text_error};
use crate::params::Params;
use crate::routes::Routes;
use crate::warning;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use br_ingest::intake::AcceptError;
use br_journal::Protocol;
use br_model::{Principal, Right};
use br_wire::journald;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use serde_json::json;
use std::sync::Arc;

pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .post("/ndjson", Right::Send, ndjson)
        .post("/insert/jsonline", Right::Send, ndjson)
        .post("/upload", Right::Send, journal)
        .post("/journald/upload", Right::Send, journal)
}

/// Parameters that say which field means what, with their names in the journal's context.
const FIELDS: [(&str, &str); 3] =
    [("_time_field", "time-field"), ("_msg_field", "message-field"), ("_stream_fields", "stream-fields")];

/// A sender that is told of a failure sends all lines again, and what is stored would be there twice: it is one only where nothing is.
async fn ndjson(State(app): State<Arc<App>>, Extension(principal): Extension<Principal>, request: Request) -> Response {
    let params = Params::parse(request.uri().query().unwrap_or(""));
    let context = FIELDS.iter().filter_map(|(name, key)| Some(((*key).to_owned(), params.get(name)?.to_owned()))).collect();
    let receipt = match accept_with(&app, &principal, Protocol::NDJSON, context, request).await {
        Ok(receipt) => receipt,
        Err(error) => {
            let body = Json(json!({ "accepted": 0, "error": error.to_string() }));
            return with_retry_after(kind(&error), (http_status(&error), body).into_response());
        }
    };
    let complaints: Vec<String> = receipt.rejected.iter().map(ToString::to_string).collect();
    let body = Json(json!({ "accepted": receipt.records, "refused": receipt.rejected_count, "complaints": complaints }));
    if receipt.rejected_count > 0 && receipt.records == 0 {
        return (StatusCode::BAD_REQUEST, body).into_response();
    }
    let refused =
        (receipt.rejected_count > 0).then(|| format!("{} lines refused: {}", receipt.rejected_count, receipt.complaint()));
    let warnings: Vec<String> = refused.into_iter().chain(receipt.cut).collect();
    warning::on((StatusCode::OK, body).into_response(), &warnings)
}

/// What is taken in at once of an upload that goes on and on.
const PART_BYTES: usize = 4 << 20;

/// `systemd-journal-upload` sends what it has as one body, gigabytes when it starts: it is taken in as it comes. When a part fails it
/// sends all of that body again.
async fn journal(State(app): State<Arc<App>>, Extension(principal): Extension<Principal>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let is_packed = parts.headers.get(header::CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity");
    let outcome = if is_packed {
        let request = Request::from_parts(parts, body);
        accept_with(&app, &principal, Protocol::JOURNALD, Vec::new(), request).await.map(|receipt| {
            let mut taken = Taken::default();
            taken.add(&receipt);
            taken
        })
    } else {
        upload(&app, &principal, &parts.headers, body).await
    };
    let taken = match outcome {
        Ok(taken) => taken,
        Err(error) => return text_error(&error),
    };
    if taken.refused == 0 {
        return warning::on((StatusCode::ACCEPTED, "OK.\n").into_response(), &taken.warnings);
    }
    let message = format!("{} entries refused, the others are stored: {}", taken.refused, taken.complaint);
    if taken.records == 0 {
        return (StatusCode::BAD_REQUEST, format!("{message}\n")).into_response();
    }
    warning::on((StatusCode::ACCEPTED, format!("{message}\n")).into_response(), &[message])
}

/// What became of an upload.
#[derive(Default)]
struct Taken {
    records: usize,
    refused: u64,
    complaint: String,
    warnings: Vec<String>,
}

impl Taken {
    fn add(&mut self, receipt: &br_ingest::Receipt) {
        self.records += receipt.records;
        self.refused += receipt.rejected_count;
        if self.complaint.is_empty() {
            self.complaint = receipt.complaint();
        }
        if self.warnings.is_empty() {
            self.warnings.extend(receipt.cut.clone());
        }
    }
}

async fn upload(app: &App, principal: &Principal, headers: &HeaderMap, body: axum::body::Body) -> Result<Taken, AcceptError> {
    let limit = app.limits.body_bytes_max;
    let mut chunks = app.bodies.parts(body);
    let mut taken = Taken::default();
    // The permits of the room that the waiting bytes take.
    let (mut waiting, mut permits) = (BytesMut::new(), Vec::new());
    let mut look_at = PART_BYTES.min(limit);
    while let Some(chunk) = chunks.next().await {
        let (bytes, permit) = chunk?;
        waiting.extend_from_slice(&bytes);
        permits.push(permit);
        if waiting.len() < look_at {
            continue;
        }
        let whole = journald::whole_entries(&waiting);
        if whole == 0 && waiting.len() > limit {
            return Err(too_large(limit));
        }
        if whole == 0 {
            look_at = (waiting.len() * 2).min(limit + 1);
            continue;
        }
        look_at = PART_BYTES.min(limit);
        let part = waiting.split_to(whole).freeze();
        take(app, principal, headers, part, &mut taken).await?;
        permits.clear();
    }
    if !waiting.is_empty() {
        take(app, principal, headers, waiting.freeze(), &mut taken).await?;
    }
    Ok(taken)
}

async fn take(app: &App, principal: &Principal, headers: &HeaderMap, part: Bytes, taken: &mut Taken) -> Result<(), AcceptError> {
    let incoming = incoming(principal, Protocol::JOURNALD, Vec::new(), headers, part);
    let receipt = app.intake.accept(incoming).await?;
    taken.add(&receipt);
    Ok(())
}
