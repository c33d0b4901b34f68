//! Jaeger's query APIs, below `/jaeger`: version 1, which Grafana's data source and Kiali speak, and version 3 of Jaeger's own pages.
//!
//! Source: Jaeger's documentation, "APIs".

mod adjust;
mod v1;
mod v3;

use crate::app::App;
use crate::params::Params;
use crate::routes::Routes;
use br_std::{Error, Nanos, Result};
use br_storage::TimeRange;
use br_traceql::SearchOptions;
use br_wire::jaeger::{TAGS_MAX, TraceFilter};
use serde_json::{Map, Value};
use std::time::Duration;

pub(crate) fn routes(routes: Routes) -> Routes {
    v3::routes(v1::routes(routes))
}

const LIMIT_DEFAULT: usize = 20;
/// What Jaeger's own pages allow.
const LIMIT_MAX: usize = 1500;
/// How far back lists of names go.
const NAMES_BACK: Duration = Duration::from_hours(24 * 7);

fn names_range(app: &App) -> TimeRange {
    TimeRange::new(app.clock.now() - NAMES_BACK, Nanos::MAX)
}

fn options(range: TimeRange, limit: usize) -> SearchOptions {
    SearchOptions { range, limit, spans_per_spanset: 0, after: None }
}

/// A range with its end in it.
fn closed(from: Nanos, to: Nanos) -> Result<TimeRange> {
    if to < from {
        return Err(Error::fix_request("the search begins after its end"));
    }
    Ok(TimeRange::new(from, Nanos(to.0.saturating_add(1))))
}

/// Where a trace is looked for first: within what the client knows of it, and an hour beside that.
fn around(start: Option<Nanos>, end: Option<Nanos>) -> Result<Option<TimeRange>> {
    const BESIDE: Duration = Duration::from_hours(1);
    if start.is_none() && end.is_none() {
        return Ok(None);
    }
    let from = start.map_or(Nanos::MIN, |start| start - BESIDE);
    Ok(Some(closed(from, end.map_or(Nanos::MAX, |end| end + BESIDE))?))
}

/// How many traces come. As in Jaeger 0 is nothing that is asked for.
fn limit(params: &Params, name: &str) -> Result<usize> {
    match params.number(name, LIMIT_DEFAULT)? {
        0 => Ok(LIMIT_DEFAULT),
        limit if limit > LIMIT_MAX => Err(Error::fix_request(format!(
            "invalid parameter {name:?}: {limit} is more than {LIMIT_MAX}, the most that is given"
        ))),
        limit => Ok(limit),
    }
}

/// A duration such as `1.5s`.
fn duration(params: &Params, names: &[&str]) -> Result<Option<i64>> {
    let Some((name, text)) = names.iter().find_map(|name| Some((*name, params.get(name)?))) else { return Ok(None) };
    let nanos = crate::tempo::go_duration(text);
    nanos.map(Some).ok_or_else(|| Error::fix_request(format!("invalid parameter {name:?}: {text:?} is no duration such as 1.5s")))
}

fn check(filter: &TraceFilter) -> Result<()> {
    if let (Some(least), Some(most)) = (filter.duration_min_nanos, filter.duration_max_nanos)
        && most < least
    {
        return Err(Error::fix_request("the longest duration is less than the shortest"));
    }
    if filter.tags.len() > TAGS_MAX {
        return Err(Error::fix_request(format!("more than {TAGS_MAX} tags in one search")));
    }
    if filter.tags.iter().any(|(key, _)| key.is_empty()) {
        return Err(Error::fix_request("a tag without a name"));
    }
    Ok(())
}

/// Tags of a JSON object, whose values may have any type.
fn json_tags(name: &str, text: &str) -> Result<Vec<(String, String)>> {
    let tags: Map<String, Value> = serde_json::from_str(text)
        .map_err(|error| Error::fix_request(format!("invalid parameter {name:?}: not an object with tags: {error}")))?;
    let text = |value: Value| if let Value::String(text) = value { text } else { value.to_string() };
    Ok(tags.into_iter().map(|(key, value)| (key, text(value))).collect())
}
