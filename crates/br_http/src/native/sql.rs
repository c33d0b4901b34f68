//! SQL over logs, spans, errors and metrics.

use crate::app::App;
use crate::error::ApiError;
use crate::warning;
use axum::Extension;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use br_model::Principal;
use br_query::door::Language;
use br_query::sql::{SqlAnswer, write_columns, write_csv, write_json_lines, write_json_rows};
use br_std::{Error, Result};
use br_storage::Budget;
use futures::StreamExt;
use serde::Deserialize;
use std::sync::Arc;

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
}

pub(super) async fn sql(
    State(app): State<Arc<App>>,
    Extension(principal): Extension<Principal>,
    body: Bytes,
) -> std::result::Result<Response, ApiError> {
    let request: SqlRequest = serde_json::from_slice(&body)
        .map_err(|error| Error::fix_request(format!("the body must be JSON such as {{\"query\": \"SELECT 1\"}}: {error}")))?;
    let (engine, tenant, format) = (app.sql.clone(), principal.tenant, request.format);
    let text = request.query.clone();
    let (body, warnings) = app
        .door
        .run_async(tenant, Language::Sql, &request.query, &app.sql_workers, async move |budget| {
            let body = encode(engine.query(tenant, &text, budget.clone()).await?, format, &budget).await?;
            Ok((body, budget.damage().warnings()))
        })
        .await?;
    let content_type = match format {
        Format::Json => "application/json",
        Format::Csv => "text/csv; charset=utf-8",
        Format::Jsonl => "application/x-ndjson",
    };
    Ok(warning::on(([(header::CONTENT_TYPE, content_type)], body).into_response(), &warnings))
}

/// An answer may take this many bytes, written out.
const ANSWER_BYTES_MAX: usize = 256 << 20;

async fn encode(mut answer: SqlAnswer, format: Format, budget: &Budget) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let mut is_first = true;
    if format == Format::Json {
        out.extend_from_slice(br#"{"columns":"#);
        write_columns(&mut out, &answer.schema)?;
        out.extend_from_slice(br#","rows":["#);
    }
    while let Some(batch) = answer.batches.next().await {
        let batch = batch?;
        match format {
            Format::Json => write_json_rows(&mut out, &batch, &mut is_first)?,
            Format::Csv => write_csv(&mut out, &batch, std::mem::take(&mut is_first))?,
            Format::Jsonl => write_json_lines(&mut out, &batch)?,
        }
        if out.len() > ANSWER_BYTES_MAX {
            return Err(Error::over_limit(format!(
                "the answer has more than {} MiB: add a LIMIT or aggregate",
                ANSWER_BYTES_MAX >> 20
            )));
        }
    }
    if format == Format::Json {
        out.push(b']');
        let warnings = budget.damage().warnings();
        if !warnings.is_empty() {
            let warnings = serde_json::to_vec(&warnings).map_err(|error| Error::corrupt(format!("the warnings: {error}")))?;
            out.extend_from_slice(br#","warnings":"#);
            out.extend(warnings);
        }
        out.push(b'}');
    }
    Ok(out)
}
