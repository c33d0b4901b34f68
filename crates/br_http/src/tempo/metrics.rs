//! TraceQL metrics: series over a range, and one value for each at its end.

use super::range;
use super::search::any_value;
use crate::app::App;
use crate::error::TextError;
use crate::native::traces::quoted;
use crate::params::Params;
use crate::written::{self, Each};
use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use br_model::{AttributeValue, Principal};
use br_query::door::Language;
use br_std::{Error, Nanos, Result};
use br_storage::TimeRange;
use br_traceql::{EXEMPLARS_MAX, Exemplar, MetricOptions, MetricSeries};
use serde::Serialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// Points of a series when the request does not say how far they are apart.
const POINTS: u64 = 200;

#[derive(Serialize)]
struct Answer<T> {
    series: T,
    metrics: Value,
}

pub(super) async fn query_range(
    State(app): State<Arc<App>>,
    Extension(principal): Extension<Principal>,
    params: Params,
) -> Result<Response, TextError> {
    let range = wanted_range(&app, &params)?;
    let length = Duration::from_nanos(range.to.0.saturating_sub(range.from.0).unsigned_abs());
    let step = match params.duration("step")? {
        Some(step) if step.is_zero() => {
            return Err(Error::fix_request("invalid parameter \"step\": it must be longer than zero").into());
        }
        Some(step) => step,
        None => Duration::from_secs((length.as_secs() / POINTS).max(1)),
    };
    let exemplars = params.number("exemplars", EXEMPLARS_MAX)?;
    let options = MetricOptions { range: aligned(range, step), step, exemplars };
    series(&app, &principal, &params, options, |series| {
        let samples: Vec<Value> = series
            .points
            .iter()
            .filter_map(|(time, value)| Some(json!({ "timestampMs": millis(*time), "value": number((*value)?) })))
            .collect();
        let mut shown = labelled(series);
        shown["samples"] = samples.into();
        if !series.exemplars.is_empty() {
            shown["exemplars"] = series.exemplars.iter().map(exemplar).collect();
        }
        shown
    })
    .await
}

pub(super) async fn query(
    State(app): State<Arc<App>>,
    Extension(principal): Extension<Principal>,
    params: Params,
) -> Result<Response, TextError> {
    let range = wanted_range(&app, &params)?;
    let step = Duration::from_nanos(range.to.0.saturating_sub(range.from.0).unsigned_abs());
    let options = MetricOptions { range, step, exemplars: 0 };
    series(&app, &principal, &params, options, |series| {
        let mut shown = labelled(series);
        shown["value"] = series.points.last().and_then(|(_, value)| *value).map_or(Value::Null, number);
        shown
    })
    .await
}

/// `start` and `end`, or `since` before now.
fn wanted_range(app: &App, params: &Params) -> Result<TimeRange> {
    let Some(since) = params.duration("since")? else { return range(app, params) };
    let now = app.clock.now();
    Ok(TimeRange::new(now - since, Nanos(now.0.saturating_add(1))))
}

/// Widened to whole steps, so that the same step gets the same value whenever it is asked for.
fn aligned(range: TimeRange, step: Duration) -> TimeRange {
    let width = i64::try_from(step.as_nanos()).unwrap_or(i64::MAX).max(1);
    let from = range.from.0.div_euclid(width).saturating_mul(width);
    // The end is one past what was asked for.
    let to = (range.to.0 - 1).div_euclid(width).saturating_add(1).saturating_mul(width);
    TimeRange::new(Nanos(from), Nanos(to))
}

async fn series(
    app: &App,
    principal: &Principal,
    params: &Params,
    options: MetricOptions,
    show: fn(&MetricSeries) -> Value,
) -> Result<Response, TextError> {
    let text = params.get("q").or_else(|| params.get("query"));
    let text = text.ok_or_else(|| Error::fix_request("invalid parameter \"q\": it is missing"))?.to_owned();
    let expr = br_traceql::parse(&text).map_err(|error| Error::fix_request(format!("invalid parameter \"q\": {error}")))?;
    let (tenant, asked) = (principal.tenant, text.clone());
    let answer = app.query(tenant, Language::TraceQl, &asked, None, move |sources, budget| {
        let found = br_traceql::query_range(&*sources.spans(tenant), &expr, &text, &options, budget)?;
        let metrics = json!({ "inspectedSpans": budget.rows_scanned().to_string() });
        written::json(&Answer { series: Each(|| found.iter().map(show)), metrics }, budget)
    });
    Ok(written::response(answer.await?))
}

fn millis(time: Nanos) -> String {
    time.as_millis().to_string()
}

/// Protobuf's JSON writes as text what JSON has no number for.
fn number(value: f64) -> Value {
    if value.is_finite() {
        return json!(value);
    }
    json!(if value.is_nan() {
        "NaN"
    } else if value > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    })
}

fn labelled(series: &MetricSeries) -> Value {
    let labels: Vec<Value> =
        series.labels.iter().map(|(name, value)| json!({ "key": name, "value": label_value(value) })).collect();
    json!({ "labels": labels, "promLabels": prometheus_labels(&series.labels) })
}

/// As Prometheus writes labels: by name, and in quotes where a name is more than letters, digits and `_`.
fn prometheus_labels(labels: &[(String, AttributeValue)]) -> String {
    let is_plain = |name: &str| {
        let is_word = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        is_word && !name.is_empty() && !name.starts_with(|first: char| first.is_ascii_digit())
    };
    let mut shown: Vec<(&str, String)> = labels.iter().map(|(name, value)| (name.as_str(), quoted(&label_text(value)))).collect();
    shown.sort();
    let shown = shown
        .into_iter()
        .map(|(name, value)| if is_plain(name) { format!("{name}={value}") } else { format!("{}={value}", quoted(name)) });
    format!("{{{}}}", shown.collect::<Vec<_>>().join(", "))
}

fn label_value(value: &AttributeValue) -> Value {
    if *value == AttributeValue::Empty { json!({ "stringValue": "nil" }) } else { any_value(value) }
}

fn label_text(value: &AttributeValue) -> String {
    if *value == AttributeValue::Empty { "nil".to_owned() } else { super::tags::text(value) }
}

fn exemplar(exemplar: &Exemplar) -> Value {
    json!({
        "labels": [{ "key": "trace:id", "value": { "stringValue": exemplar.trace_id.to_string() } }],
        "value": number(exemplar.value),
        "timestampMs": millis(exemplar.time),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_widened_to_whole_steps() {
        let check = |(from, to): (i64, i64), expect: (i64, i64)| {
            let range = aligned(TimeRange::new(Nanos(from), Nanos(to)), Duration::from_nanos(10));
            assert_eq!((range.from.0, range.to.0), expect, "{from}..{to}");
        };
        check((13, 38), (10, 40));
        check((10, 31), (10, 40));
        check((10, 41), (10, 50));
        check((-3, 1), (-10, 10));
    }

    #[test]
    fn labels_as_prometheus_writes_them() {
        let text = |text: &str| AttributeValue::String(text.to_owned());
        let labels = [("span.a \"b\"", text("x\ny")), ("p", AttributeValue::Double(0.5)), ("name", AttributeValue::Empty)];
        let labels = labels.map(|(name, value)| (name.to_owned(), value));
        assert_eq!(prometheus_labels(&labels), r#"{name="nil", p="0.5", "span.a \"b\""="x\ny"}"#);
        assert_eq!(number(f64::INFINITY), json!("Infinity"));
    }
}
