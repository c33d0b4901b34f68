//! SQL over logs, spans, errors and metrics.

use crate::app::App;
use crate::error::ApiError;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::Extension;
use br_model::Principal;
use br_query::door::Language;
use br_std::Error;
use serde::Deserialize;
use std::sync::Arc;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SqlRequest {
    query: String,
    #[serde(default)]
    format: Format,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    #[default]
    Json,
    Csv,
    Arrow,
}

pub(super) async fn sql(State(app): State<Arc<App>>, Extension(principal): Extension<Principal>, body: Bytes) -> Result<Response, ApiError> {
    let request: SqlRequest = serde_json::from_slice(&body)
        .map_err(|error| Error::fix_request(format!("the body must be JSON such as {{\"query\": \"SELECT 1\"}}: {error}")))?;
    let (engine, tenant) = (app.sql.clone(), principal.tenant);
    let text = request.query.clone();
    let result = app
        .door
        .run_async(tenant, Language::Sql, &request.query, async |budget| engine.query(tenant, &text, budget).await?.collect().await)
        .await?;
    let (content_type, body) = match request.format {
        Format::Json => ("application/json", result.to_json()?),
        Format::Csv => ("text/csv; charset=utf-8", result.to_csv()?),
        Format::Arrow => ("application/vnd.apache.arrow.stream", result.to_arrow_stream()?),
    };
    Ok(([(header::CONTENT_TYPE, content_type)], body).into_response())
}
