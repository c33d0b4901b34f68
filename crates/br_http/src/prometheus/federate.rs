//! Federation: the latest samples of chosen series, as a page that another Prometheus scrapes.

use super::{external, labels_bytes, selector};
use crate::app::App;
use crate::error::TextError;
use crate::params::Params;
use crate::warning;
use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use br_model::{Labels, Principal, Value, is_stale};
use br_query::door::Language;
use br_std::Result;
use br_storage::{Budget, MetricSource, SeriesData, SeriesQuery};
use br_wire::exposition::{Accepted, Latest, write_federation};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) async fn federate(
    State(app): State<Arc<App>>,
    Extension(principal): Extension<Principal>,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, TextError> {
    let (lookback, now) = (app.promql.options().lookback_ms, app.clock.now());
    let (from_ms, to_ms) = (now.as_millis() - lookback, now.as_millis());
    let mut queries = Vec::new();
    for text in params.all("match[]") {
        queries.push(SeriesQuery { matchers: selector::matchers("match[]", text)?, from_ms, to_ms });
    }
    let accept: Vec<&str> = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let accepted = Accepted::from_header(&accept.join(","));
    let external_labels = external::labels(&app, principal.tenant);
    let (page, warnings) = app
        .query(principal.tenant, Language::Lookup, "federate", None, move |sources, budget| {
            let source = sources.metrics(principal.tenant);
            Ok((page(&*source, queries, &external_labels, accepted, budget)?, budget.damage().warnings()))
        })
        .await?;
    Ok(warning::on(([(header::CONTENT_TYPE, accepted.content_type())], page).into_response(), &warnings))
}

fn page(
    source: &dyn MetricSource,
    queries: Vec<SeriesQuery>,
    external_labels: &Labels,
    accepted: Accepted,
    budget: &Budget,
) -> Result<Vec<u8>> {
    let mut latest: BTreeMap<Labels, (i64, Value)> = BTreeMap::new();
    let mut page_bytes = 0;
    for query in queries {
        let mut cursor = source.select(&query, budget)?;
        while let Some(batch) = cursor.next_batch()? {
            for series in batch {
                budget.check()?;
                let Some((labels, sample)) = last_sample(series) else { continue };
                let bytes = sample_bytes(&labels, &sample.1);
                if latest.insert(labels, sample).is_none() {
                    budget.charge(bytes)?;
                    page_bytes += bytes;
                }
            }
        }
    }
    // About what they take again, written out.
    budget.charge(page_bytes + latest.len() as u64 * labels_bytes(external_labels))?;
    let sample = |(labels, (timestamp_ms, value)): (Labels, (i64, Value))| Latest {
        labels: external::with(labels, external_labels),
        timestamp_ms,
        value,
    };
    let samples: Vec<Latest> = latest.into_iter().map(sample).collect();
    Ok(write_federation(&samples, accepted))
}

fn sample_bytes(labels: &Labels, value: &Value) -> u64 {
    let value_bytes = match value {
        Value::Float(_) => 32,
        Value::Histogram(histogram) => {
            256 + 8 * (histogram.positive_buckets.len() + histogram.negative_buckets.len() + histogram.custom_values.len())
        }
    };
    labels_bytes(labels) + value_bytes as u64
}

/// The last sample of a series that has not ended.
fn last_sample(series: SeriesData) -> Option<(Labels, (i64, Value))> {
    let at = series.points.len().checked_sub(1)?;
    let value = series.points.value(at);
    let has_ended = match &value {
        Value::Float(value) => is_stale(*value),
        Value::Histogram(histogram) => is_stale(histogram.sum),
    };
    (!has_ended).then(|| (series.labels, (series.points.timestamps_ms[at], value)))
}
