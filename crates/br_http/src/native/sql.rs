//! SQL over logs, spans, errors and metrics.

use crate::app::App;
use crate::error::ApiError;
use crate::warning;
use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use br_model::Principal;
use br_query::door::Language;
use br_query::sql::{ArrowStream, SqlAnswer, write_columns, write_csv, write_json_lines, write_json_rows};
use br_std::{Error, Result};
use br_storage::{Budget, CancelReason};
use futures::StreamExt;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SqlRequest {
    query: String,
    #[serde(default)]
    format: Format,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    #[default]
    Json,
    Csv,
    Jsonl,
    Arrow,
}

impl Format {
    fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Csv => "text/csv; charset=utf-8",
            Self::Jsonl => "application/x-ndjson",
            Self::Arrow => "application/vnd.apache.arrow.stream",
        }
    }
}

pub(super) async fn sql(
    State(app): State<Arc<App>>,
    Extension(principal): Extension<Principal>,
    body: Bytes,
) -> std::result::Result<Response, ApiError> {
    let request: SqlRequest = serde_json::from_slice(&body)
        .map_err(|error| Error::fix_request(format!("the body must be JSON such as {{\"query\": \"SELECT 1\"}}: {error}")))?;
    if request.format != Format::Json {
        return Ok(streamed(app, principal, request).await?);
    }
    let (engine, tenant) = (app.sql.clone(), principal.tenant);
    let text = request.query.clone();
    let (body, warnings) = app
        .door
        .run_async(tenant, Language::Sql, &request.query, &app.sql_workers, async move |budget| {
            let body = encode(engine.query(tenant, &text, budget.clone()).await?, &budget).await?;
            Ok((body, budget.damage().warnings()))
        })
        .await?;
    Ok(response(Format::Json, body, &warnings))
}

fn response(format: Format, body: impl Into<Body>, warnings: &[String]) -> Response {
    warning::on(([(header::CONTENT_TYPE, format.content_type())], body.into()).into_response(), warnings)
}

/// An answer in one piece may take this many bytes, written out.
const ANSWER_BYTES_MAX: usize = 256 << 20;

async fn encode(mut answer: SqlAnswer, budget: &Budget) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let mut is_first = true;
    out.extend_from_slice(br#"{"columns":"#);
    write_columns(&mut out, &answer.schema)?;
    out.extend_from_slice(br#","rows":["#);
    while let Some(batch) = answer.batches.next().await {
        write_json_rows(&mut out, &batch?, &mut is_first)?;
        if out.len() > ANSWER_BYTES_MAX {
            return Err(Error::over_limit(format!(
                "the answer has more than {} MiB: add a LIMIT, aggregate, or ask for the format jsonl, csv or arrow, which come in parts",
                ANSWER_BYTES_MAX >> 20
            )));
        }
    }
    out.push(b']');
    let warnings = budget.damage().warnings();
    if !warnings.is_empty() {
        let warnings = serde_json::to_vec(&warnings).map_err(|error| Error::corrupt(format!("the warnings: {error}")))?;
        out.extend_from_slice(br#","warnings":"#);
        out.extend(warnings);
    }
    out.push(b'}');
    Ok(out)
}

/// An answer is sent in parts of about this size; a smaller one in one piece, with all that is known of it in its head.
const PART_BYTES: usize = 256 << 10;
/// Parts that wait for a client that reads slowly.
const PARTS_AHEAD: usize = 2;
/// A client that takes nothing for so long loses the query, which others may wait for.
const READER_WAIT_MAX: Duration = Duration::from_secs(10);

/// A part of an answer that is sent while the query goes on.
struct Part {
    bytes: Vec<u8>,
    /// What the query could not read until now.
    warnings: Vec<String>,
    is_last: bool,
}

async fn streamed(app: Arc<App>, principal: Principal, request: SqlRequest) -> Result<Response> {
    let (sender, mut parts) = mpsc::channel(PARTS_AHEAD);
    let SqlRequest { query, format } = request;
    let task = StopOnDrop(tokio::spawn(async move {
        let (engine, tenant) = (app.sql.clone(), principal.tenant);
        let (text, to) = (query.clone(), sender.clone());
        let work = async move |budget: Arc<Budget>| {
            let answer = engine.query(tenant, &text, budget.clone()).await?;
            send_parts(answer, format, &budget, &to).await
        };
        if let Err(error) = app.door.run_async(tenant, Language::Sql, &query, &app.sql_workers, work).await {
            // Who no longer listens need not hear of it.
            drop(sender.send(Err(error)).await);
        }
    }));
    match parts.recv().await.unwrap_or_else(|| Err(cut_off()))? {
        Part { bytes, warnings, is_last: true } => Ok(response(format, bytes, &warnings)),
        Part { bytes, warnings, is_last: false } => {
            let first = futures::stream::once(async { Ok::<_, Error>(bytes) });
            let told = warnings.len();
            let rest = futures::stream::try_unfold((parts, task, false), move |(mut parts, task, is_over)| async move {
                if is_over {
                    return Ok(None);
                }
                // An error ends the connection before the end of the body, so that nobody takes the answer for whole.
                let part = parts.recv().await.unwrap_or_else(|| Err(cut_off()))?;
                if let Some(warning) = part.warnings.get(told) {
                    return Err(Error::corrupt(warning.clone()));
                }
                Ok(Some((part.bytes, (parts, task, part.is_last))))
            });
            Ok(response(format, Body::from_stream(first.chain(rest)), &warnings))
        }
    }
}

fn cut_off() -> Error {
    Error::corrupt("the query ended without an answer")
}

/// Ends the query when nobody reads its answer any more.
struct StopOnDrop(JoinHandle<()>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn send_parts(mut answer: SqlAnswer, format: Format, budget: &Budget, to: &mpsc::Sender<Result<Part>>) -> Result<()> {
    let send = async |bytes: Vec<u8>, is_last: bool| {
        let part = Part { bytes, warnings: budget.damage().warnings(), is_last };
        match tokio::time::timeout(READER_WAIT_MAX, to.send(Ok(part))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(CancelReason::Caller.error()),
            Err(_) => Err(Error::over_limit(format!("the reader of the answer has taken nothing for {READER_WAIT_MAX:?}"))),
        }
    };
    let mut arrow = if format == Format::Arrow { Some(ArrowStream::new(&answer.schema)?) } else { None };
    let mut out = Vec::new();
    let mut is_first = true;
    while let Some(batch) = answer.batches.next().await {
        let batch = batch?;
        match &mut arrow {
            Some(arrow) => arrow.write(&mut out, &batch)?,
            None if format == Format::Csv => write_csv(&mut out, &batch, std::mem::take(&mut is_first))?,
            None => write_json_lines(&mut out, &batch)?,
        }
        if out.len() >= PART_BYTES {
            send(std::mem::take(&mut out), false).await?;
        }
    }
    if let Some(arrow) = arrow {
        arrow.finish(&mut out)?;
    }
    send(out, true).await
}
