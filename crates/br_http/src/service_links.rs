//! Links between services, which Jaeger's clients and Zipkin's ask for in the same words.

use crate::app::App;
use crate::params::Params;
use crate::{warning, written};
use axum::response::Response;
use br_model::TenantId;
use br_query::door::Language;
use br_std::{Error, Nanos, Result};
use br_storage::{Budget, TimeRange};
use br_traceql::ServiceLink;

/// Spans that links are counted from, newest first.
const LINKED_MAX: usize = 1_000_000;

/// A day, as in both.
const LOOKBACK_DEFAULT_MILLIS: i64 = 86_400_000;

/// `endTs` and `lookback`, in milliseconds.
pub(crate) fn range(params: &Params, now: Nanos) -> Result<TimeRange> {
    let millis = |name: &str, default: i64| -> Result<i64> {
        let Some(text) = params.get(name) else { return Ok(default) };
        let number = text.parse::<i64>().ok().filter(|millis| (0..=i64::MAX / 1_000_000).contains(millis));
        number.ok_or_else(|| Error::fix_request(format!("invalid parameter {name:?}: {text:?} is no number of milliseconds")))
    };
    let end = millis("endTs", now.as_millis())?;
    let start = end.saturating_sub(millis("lookback", LOOKBACK_DEFAULT_MILLIS)?).max(0);
    // The millisecond of the end is in it.
    Ok(TimeRange::new(Nanos::from_millis(start), Nanos(end.saturating_add(1).saturating_mul(1_000_000))))
}

/// The links of a range in the shape that `write` gives them.
pub(crate) async fn answer(
    app: &App,
    tenant: TenantId,
    range: TimeRange,
    write: impl FnOnce(&[ServiceLink], &Budget) -> Result<String> + Send + 'static,
) -> Result<Response> {
    let links = app.query(tenant, Language::Lookup, "dependencies", None, move |sources, budget| {
        let (links, is_whole) = br_traceql::service_links(&*sources.spans(tenant), range, LINKED_MAX, budget)?;
        Ok((write(&links, budget)?, is_whole))
    });
    let (text, is_whole) = links.await?;
    let warnings = if is_whole { Vec::new() } else { vec![format!("only the newest {LINKED_MAX} spans are counted")] };
    Ok(warning::on(written::response(text), &warnings))
}
