//! Remote read: another Prometheus fetches samples, all in one message or as chunks, series after series.

use crate::app::App;
use crate::error::TextError;
use crate::warning;
use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use br_ingest::intake::AcceptError;
use br_model::{Labels, Principal};
use br_query::door::Language;
use br_std::{Error, Result};
use br_storage::{Budget, MatchOp, Matcher, MetricSource, Points, SeriesQuery};
use br_wire::prometheus_tsdb::chunk::{self, EncodedChunk};
use br_wire::remote_read::{self, MatchType, ResponseType};
use bytes::Bytes;
use std::convert::Infallible;
use std::sync::Arc;

/// A request names series, it does not carry any.
const REQUEST_BYTES_MAX: usize = 4 << 20;

pub(super) async fn read(
    State(app): State<Arc<App>>,
    Extension(principal): Extension<Principal>,
    request: Request,
) -> Result<Response, TextError> {
    let body = app.bodies.receive(request.into_body(), REQUEST_BYTES_MAX).await.map_err(|error| match error {
        AcceptError::Wire(error) => Error::from(error),
        AcceptError::Other(error) => error,
    })?;
    let request = remote_read::decode(&body.bytes, &app.limits).map_err(Error::from)?;
    let queries = request.queries.iter().map(query).collect::<Result<Vec<_>>>()?;
    let text = shown(&queries);
    let tenant = principal.tenant;
    Ok(match request.response {
        ResponseType::Samples => {
            let work = move |source: &dyn MetricSource, budget: &Budget| samples(source, &queries, budget);
            let body = app.query(tenant, Language::Lookup, &text, None, move |sources, budget| {
                Ok((work(&*sources.metrics(tenant), budget)?, budget.damage().warnings()))
            });
            let headers = [(header::CONTENT_TYPE, remote_read::CONTENT_TYPE_SAMPLES), (header::CONTENT_ENCODING, "snappy")];
            let (body, warnings) = body.await?;
            warning::on((headers, body).into_response(), &warnings)
        }
        ResponseType::StreamedChunks => {
            let work = move |source: &dyn MetricSource, budget: &Budget| chunks(source, &queries, budget);
            let found = app.query(tenant, Language::Lookup, &text, None, move |sources, budget| {
                Ok((work(&*sources.metrics(tenant), budget)?, budget.damage().warnings()))
            });
            let (found, warnings) = found.await?;
            let headers = [(header::CONTENT_TYPE, remote_read::CONTENT_TYPE_CHUNKS)];
            warning::on((headers, stream(found)).into_response(), &warnings)
        }
    })
}

fn query(query: &remote_read::Query) -> Result<SeriesQuery> {
    let matcher = |matcher: &remote_read::LabelMatcher| {
        let op = match matcher.op {
            MatchType::Equal => MatchOp::Equal,
            MatchType::NotEqual => MatchOp::NotEqual,
            MatchType::Regex => MatchOp::Regex,
            MatchType::NotRegex => MatchOp::NotRegex,
        };
        Matcher::new(op, matcher.name.clone(), matcher.value.clone())
    };
    let matchers = query.matchers.iter().map(matcher).collect::<Result<Vec<_>>>()?;
    Ok(SeriesQuery { matchers, from_ms: query.start_ms, to_ms: query.end_ms })
}

/// For the list of running queries.
fn shown(queries: &[SeriesQuery]) -> String {
    let matcher = |matcher: &Matcher| format!("{}{}{:?}", matcher.name, matcher.op.as_str(), matcher.value);
    let query = |query: &SeriesQuery| format!("{{{}}}", query.matchers.iter().map(matcher).collect::<Vec<_>>().join(","));
    format!("remote read {}", queries.iter().map(query).collect::<Vec<_>>().join(" "))
}

/// All series of a query in the order of their labels, which readers count on: each is packed as it comes, and then held.
fn packed<T>(
    source: &dyn MetricSource,
    query: &SeriesQuery,
    budget: &Budget,
    pack: impl Fn(&Labels, &Points) -> (T, usize),
) -> Result<Vec<(Labels, T)>> {
    let mut found = Vec::new();
    let mut cursor = source.select(query, budget)?;
    while let Some(batch) = cursor.next_batch()? {
        for series in batch {
            let (pack, bytes) = pack(&series.labels, &series.points);
            let what = |error: Error| error.context("remote read: ask for fewer series or a shorter time");
            budget.charge((bytes + size_of::<(Labels, T)>()) as u64).map_err(what)?;
            found.push((series.labels, pack));
        }
    }
    found.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(found)
}

fn values(points: &Points) -> impl Iterator<Item = (i64, br_model::Value)> {
    points.timestamps_ms.iter().enumerate().map(|(at, time)| (*time, points.value(at)))
}

/// The whole body of an answer of samples.
fn samples(source: &dyn MetricSource, queries: &[SeriesQuery], budget: &Budget) -> Result<Vec<u8>> {
    let mut results = Vec::with_capacity(queries.len());
    for query in queries {
        let series = packed(source, query, budget, |labels, points| {
            let mut bytes = Vec::new();
            remote_read::put_series(&mut bytes, labels, values(points));
            let length = bytes.len();
            (bytes, length)
        })?;
        results.push(series.into_iter().flat_map(|(_, bytes)| bytes).collect());
    }
    let body = remote_read::response(&results);
    budget.release(budget.bytes_used());
    body.map_err(Error::from)
}

type Chunked = Vec<(Labels, Vec<EncodedChunk>)>;

/// The series of each query.
fn chunks(source: &dyn MetricSource, queries: &[SeriesQuery], budget: &Budget) -> Result<Vec<Chunked>> {
    let pack = |_: &Labels, points: &Points| {
        let chunks = chunk::encode(values(points));
        let bytes = chunks.iter().map(|chunk| chunk.data.len() + size_of::<EncodedChunk>()).sum();
        (chunks, bytes)
    };
    let found = queries.iter().map(|query| packed(source, query, budget, pack)).collect();
    budget.release(budget.bytes_used());
    found
}

/// Written out as it is sent.
fn stream(found: Vec<Chunked>) -> Body {
    let series = found.into_iter().enumerate().flat_map(|(query, series)| series.into_iter().map(move |series| (query, series)));
    let frames = series.map(|(query, (labels, chunks))| {
        let mut out = Vec::new();
        remote_read::put_chunked_series(&mut out, &labels, &chunks, query);
        Ok::<_, Infallible>(Bytes::from(out))
    });
    Body::from_stream(futures::stream::iter(frames))
}
