//! Remote read: another Prometheus fetches samples, all in one message or as chunks, series after series.

use super::external;
use crate::answers::Answers;
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
    let tenant = principal.tenant;
    let external = external::labels(&app, tenant);
    let queries = request.queries.iter().map(|one| query(one, &external)).collect::<Result<Vec<_>>>()?;
    let text = shown(&queries);
    Ok(match request.response {
        ResponseType::Samples => {
            let work = move |source: &dyn MetricSource, budget: &Budget| samples(source, &queries, &external, budget);
            let body = app.query(tenant, Language::Lookup, &text, None, move |sources, budget| {
                Ok((work(&*sources.metrics(tenant), budget)?, budget.damage().warnings()))
            });
            let headers = [(header::CONTENT_TYPE, remote_read::CONTENT_TYPE_SAMPLES), (header::CONTENT_ENCODING, "snappy")];
            let (body, warnings) = body.await?;
            warning::on((headers, body).into_response(), &warnings)
        }
        ResponseType::StreamedChunks => {
            let work = move |source: &dyn MetricSource, budget: &Budget| chunks(source, &queries, &external, budget);
            let found = app.query(tenant, Language::Lookup, &text, None, move |sources, budget| {
                Ok((work(&*sources.metrics(tenant), budget)?, budget.damage().warnings()))
            });
            let (found, warnings) = found.await?;
            let headers = [(header::CONTENT_TYPE, remote_read::CONTENT_TYPE_CHUNKS)];
            warning::on((headers, stream(found, &app.answers)?).into_response(), &warnings)
        }
    })
}

fn query(query: &remote_read::Query, external: &Labels) -> Result<SeriesQuery> {
    let matcher = |matcher: &remote_read::LabelMatcher| {
        let op = match matcher.op {
            MatchType::Equal => MatchOp::Equal,
            MatchType::NotEqual => MatchOp::NotEqual,
            MatchType::Regex => MatchOp::Regex,
            MatchType::NotRegex => MatchOp::NotRegex,
        };
        Ok(external::without(Matcher::new(op, matcher.name.clone(), matcher.value.clone())?, external))
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

/// What a query found, packed, and what it holds.
struct Packed<T> {
    series: Vec<(Labels, T)>,
    bytes: u64,
}

/// All series of a query in the order of their labels, which readers count on: each is packed as it comes, and then held.
fn packed<T>(
    source: &dyn MetricSource,
    query: &SeriesQuery,
    external: &Labels,
    budget: &Budget,
    pack: impl Fn(&Labels, &Points) -> (T, usize),
) -> Result<Packed<T>> {
    let mut found = Packed { series: Vec::new(), bytes: 0 };
    let mut cursor = source.select(query, budget)?;
    while let Some(batch) = cursor.next_batch()? {
        for series in batch {
            budget.check()?;
            let labels = external::with(series.labels, external);
            let (pack, bytes) = pack(&labels, &series.points);
            let bytes = (bytes + size_of::<(Labels, T)>()) as u64;
            charge(budget, bytes)?;
            found.bytes += bytes;
            found.series.push((labels, pack));
        }
    }
    found.series.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(found)
}

fn charge(budget: &Budget, bytes: u64) -> Result<()> {
    budget.charge(bytes).map_err(|error| error.context("remote read: ask for fewer series or a shorter time"))
}

fn values(points: &Points) -> impl Iterator<Item = (i64, br_model::Value)> {
    points.timestamps_ms.iter().enumerate().map(|(at, time)| (*time, points.value(at)))
}

/// The whole body of an answer of samples. All that is held on the way counts: the series, the message, its compressed form.
fn samples(source: &dyn MetricSource, queries: &[SeriesQuery], external: &Labels, budget: &Budget) -> Result<Vec<u8>> {
    let (mut results, mut bytes) = (Vec::with_capacity(queries.len()), 0);
    for query in queries {
        let found = packed(source, query, external, budget, |labels, points| {
            let mut bytes = Vec::new();
            remote_read::put_series(&mut bytes, labels, values(points));
            let length = bytes.capacity();
            (bytes, length)
        })?;
        bytes += found.bytes;
        results.push(found.series.into_iter().map(|(_, bytes)| bytes).collect());
    }
    charge(budget, bytes)?;
    let message = remote_read::response(results);
    budget.release(bytes);
    charge(budget, remote_read::compressed_bytes_max(&message) as u64)?;
    remote_read::compress(&message).map_err(Error::from)
}

type Chunked = Packed<Vec<EncodedChunk>>;

/// The series of each query.
fn chunks(source: &dyn MetricSource, queries: &[SeriesQuery], external: &Labels, budget: &Budget) -> Result<Vec<Chunked>> {
    let pack = |_: &Labels, points: &Points| {
        let chunks = chunk::encode(values(points));
        let bytes = chunks.iter().map(|chunk| chunk.data.len() + size_of::<EncodedChunk>()).sum();
        (chunks, bytes)
    };
    queries.iter().map(|query| packed(source, query, external, budget, pack)).collect()
}

/// Written out as it is sent. What is left of it keeps its room among the answers on their way.
fn stream(found: Vec<Chunked>, answers: &Answers) -> Result<Body> {
    let room = answers.take(found.iter().map(|found| found.bytes).sum())?;
    let all = found.into_iter().enumerate();
    let series = all.flat_map(|(query, found)| found.series.into_iter().map(move |series| (query, series)));
    let frames = series.map(move |(query, (labels, chunks))| {
        let _until_the_end = &room;
        let mut out = Vec::new();
        remote_read::put_chunked_series(&mut out, &labels, &chunks, query);
        Ok::<_, Infallible>(Bytes::from(out))
    });
    Ok(Body::from_stream(futures::stream::iter(frames)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use br_std::Kind;
    use br_storage::testing::SelectOnly;
    use br_storage::{SeriesCursor, SeriesData, Values};

    /// So many series of a thousand samples, in one batch.
    #[derive(Clone, Copy)]
    struct Source(usize);

    impl SeriesCursor for Source {
        fn next_batch(&mut self) -> Result<Option<Vec<SeriesData>>> {
            let times: Arc<[i64]> = (0..1000).collect();
            let one = |number: usize| {
                let values = Values::Floats((0..1000).map(|at| f64::from(at) * 1.1).collect());
                let points = Points { timestamps_ms: times.clone(), values, starts_ms: None, weights: None };
                SeriesData { labels: Labels::from_pairs([("n", number.to_string())]), points }
            };
            let batch: Vec<_> = (0..std::mem::take(&mut self.0)).map(one).collect();
            Ok(Some(batch).filter(|batch| !batch.is_empty()))
        }
    }

    impl SelectOnly for Source {
        fn select_only<'a>(&'a self, _: &SeriesQuery, _: &'a Budget) -> Result<Box<dyn SeriesCursor + 'a>> {
            Ok(Box::new(*self))
        }
    }

    #[test]
    fn all_that_is_held_on_the_way_to_an_answer_counts() {
        let query = SeriesQuery { matchers: Vec::new(), from_ms: 0, to_ms: 1000 };
        let parts = packed(&Source(50), &query, &Labels::empty(), &Budget::unlimited(), |labels, points| {
            let mut bytes = Vec::new();
            remote_read::put_series(&mut bytes, labels, values(points));
            let length = bytes.capacity();
            (bytes, length)
        });
        let parts = parts.expect("no limit").bytes;
        let queries = [query.clone(), query.clone()];
        let error = samples(&Source(50), &queries, &Labels::empty(), &Budget::new(2 * parts + parts / 2))
            .expect_err("the message is too much");
        assert!(error.kind() == Kind::OverLimit && error.message().starts_with("remote read"), "{error}");
        samples(&Source(50), &queries, &Labels::empty(), &Budget::new(5 * parts))
            .expect("parts and message, message and compressed");

        let budget = Budget::unlimited();
        let found = chunks(&Source(50), &queries, &Labels::empty(), &budget).expect("no limit");
        let held: u64 = found.iter().map(|found| found.bytes).sum();
        assert_eq!(budget.bytes_used(), held, "until they are sent");
        let answers = Answers::new(held);
        let body = stream(found, &answers).expect("room for one");
        let found = chunks(&Source(50), &queries, &Labels::empty(), &budget).expect("no limit");
        assert!(stream(found, &answers).is_err(), "no room for another");
        drop(body);
        assert_eq!(answers.bytes_taken(), 0);
    }
}
