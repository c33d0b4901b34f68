//! Queries: lines and metrics, at an instant and over a range.

use super::{Answer, encode, json_text, range as time_range, success_text};
use crate::app::App;
use crate::params::Params;
use axum::Extension;
use axum::extract::State;
use axum::http::HeaderMap;
use br_logql::{Expr, LogExpr, LogOptions, MetricExpr};
use br_model::Principal;
use br_query::door::Language;
use br_std::{Error, Nanos, Result};
use br_storage::{Direction, TimeRange};
use std::sync::Arc;
use std::time::Duration;

const LIMIT_DEFAULT: usize = 100;
pub(super) const LIMIT_MAX: usize = 5000;

fn direction(params: &Params) -> Result<Direction> {
    match params.get("direction").unwrap_or("backward").to_ascii_lowercase().as_str() {
        "backward" => Ok(Direction::Backward),
        "forward" => Ok(Direction::Forward),
        other => Err(Error::fix_request(format!("invalid direction {other:?}: forward or backward"))),
    }
}

fn limit(params: &Params) -> Result<usize> {
    let limit = params.number("limit", LIMIT_DEFAULT)?;
    if limit > LIMIT_MAX {
        return Err(Error::fix_request(format!(
            "max entries limit per query exceeded, limit > max_entries_limit ({limit} > {LIMIT_MAX})"
        )));
    }
    Ok(limit)
}

/// Grafana asks in this way for metadata and parsed labels apart from those of the stream.
fn wants_categories(headers: &HeaderMap) -> bool {
    let flags = headers.get("x-loki-response-encoding-flags").and_then(|value| value.to_str().ok()).unwrap_or("");
    flags.split(',').any(|flag| flag.trim() == "categorize-labels")
}

pub(super) async fn range(
    State(app): State<Arc<App>>,
    Extension(principal): Extension<Principal>,
    headers: HeaderMap,
    params: Params,
) -> Answer {
    let text = params.required("query")?.to_owned();
    let range = time_range(&app, &params)?;
    match br_logql::parse(&text).map_err(Error::from)? {
        Expr::Log(log) => lines(&app, &principal, &text, log, range, &params, wants_categories(&headers)).await,
        Expr::Metric(metric) => {
            let step = params.duration("step")?.unwrap_or_else(|| default_step(range));
            if step.is_zero() {
                return Err(Error::fix_request(
                    "zero or negative query resolution step widths are not accepted. Try a positive integer",
                )
                .into());
            }
            let points = range.to.since(range.from).as_nanos() / step.as_nanos();
            if points > u128::from(app.door.limits().points_max) {
                let message = "exceeded maximum resolution of 11,000 points per time series. Try increasing the value of the step parameter";
                return Err(Error::fix_request(message).into());
            }
            over_range(&app, &principal, &text, metric, range, step).await
        }
    }
}

/// As Loki does: 250 points, a second apart at the least.
fn default_step(range: TimeRange) -> Duration {
    Duration::from_secs((range.to.since(range.from).as_secs() / 250).max(1))
}

async fn lines(
    app: &App,
    principal: &Principal,
    text: &str,
    log: LogExpr,
    range: TimeRange,
    params: &Params,
    categorize: bool,
) -> Answer {
    let options = LogOptions { range, direction: direction(params)?, limit: limit(params)?, categorize };
    let (tenant, clock, partial) = (principal.tenant, app.clock.clone(), app.partial_answers());
    let text = app
        .query(tenant, Language::LogQl, text, None, move |sources, budget| {
            let started = clock.monotonic();
            let result = br_logql::query_log(&*sources.logs(tenant), &log, &options, budget)?;
            let took = clock.monotonic().saturating_sub(started);
            success_text(&encode::streams(&result, categorize, took), partial, budget)
        })
        .await?;
    json_text(text)
}

async fn over_range(
    app: &App,
    principal: &Principal,
    text: &str,
    metric: MetricExpr,
    range: TimeRange,
    step: Duration,
) -> Answer {
    let (tenant, clock, partial) = (principal.tenant, app.clock.clone(), app.partial_answers());
    let text = app
        .query(tenant, Language::LogQl, text, None, move |sources, budget| {
            let started = clock.monotonic();
            let (value, stats) = br_logql::query_range(&*sources.logs(tenant), &metric, (range.from, range.to), step, budget)?;
            let took = clock.monotonic().saturating_sub(started);
            success_text(&encode::metric(&value, false, stats, took), partial, budget)
        })
        .await?;
    json_text(text)
}

pub(super) async fn instant(State(app): State<Arc<App>>, Extension(principal): Extension<Principal>, params: Params) -> Answer {
    let text = params.required("query")?.to_owned();
    let at = params.time("time")?.unwrap_or_else(|| app.clock.now());
    match br_logql::parse(&text).map_err(Error::from)? {
        Expr::Log(log) => {
            let range = TimeRange::new(at - Duration::from_hours(1), Nanos(at.0.saturating_add(1)));
            lines(&app, &principal, &text, log, range, &params, false).await
        }
        Expr::Metric(metric) => {
            let (tenant, clock, partial) = (principal.tenant, app.clock.clone(), app.partial_answers());
            let text = app
                .query(tenant, Language::LogQl, &text, None, move |sources, budget| {
                    let started = clock.monotonic();
                    let (value, stats) = br_logql::query_instant(&*sources.logs(tenant), &metric, at, budget)?;
                    let took = clock.monotonic().saturating_sub(started);
                    success_text(&encode::metric(&value, true, stats, took), partial, budget)
                })
                .await?;
            json_text(text)
        }
    }
}
