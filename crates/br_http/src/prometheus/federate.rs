//! Federation: the latest samples of chosen series, as a page that another Prometheus scrapes.

use super::selector;
use crate::app::App;
use crate::error::TextError;
use crate::params::Params;
use crate::warning;
use axum::Extension;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use br_model::labels::METRIC_NAME;
use br_model::{Labels, Principal, Value, is_stale};
use br_promql::format_float;
use br_query::door::Language;
use br_storage::{SeriesData, SeriesQuery};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

pub(super) async fn federate(
    State(app): State<Arc<App>>,
    Extension(principal): Extension<Principal>,
    params: Params,
) -> Result<Response, TextError> {
    let mut selections = Vec::new();
    for text in params.all("match[]") {
        selections.push(selector::matchers("match[]", text)?);
    }
    let (lookback, now) = (app.promql.options().lookback_ms, app.clock.now());
    let (from_ms, to_ms) = (now.as_millis() - lookback, now.as_millis());
    let (latest, warnings) = app
        .query(principal.tenant, Language::Lookup, "federate", None, move |sources, budget| {
            let source = sources.metrics(principal.tenant);
            let mut latest = BTreeMap::new();
            for matchers in selections {
                let mut cursor = source.select(&SeriesQuery { matchers, from_ms, to_ms }, budget)?;
                while let Some(batch) = cursor.next_batch()? {
                    latest.extend(batch.into_iter().filter_map(last_sample));
                }
            }
            Ok((latest, budget.damage().warnings()))
        })
        .await?;
    let headers = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    Ok(warning::on((headers, page(&latest)).into_response(), &warnings))
}

/// The last sample of a series that has not ended. Text has no native histograms: Prometheus leaves them out of it too.
fn last_sample(series: SeriesData) -> Option<(Labels, (i64, f64))> {
    let at = series.points.len().checked_sub(1)?;
    match series.points.value(at) {
        Value::Float(value) if !is_stale(value) => Some((series.labels, (series.points.timestamps_ms[at], value))),
        Value::Float(_) | Value::Histogram(_) => None,
    }
}

fn page(latest: &BTreeMap<Labels, (i64, f64)>) -> String {
    let mut families: BTreeMap<&str, Vec<(&Labels, i64, f64)>> = BTreeMap::new();
    for (labels, (time, value)) in latest {
        if let Some(name) = labels.get(METRIC_NAME) {
            families.entry(name).or_default().push((labels, *time, *value));
        }
    }
    let mut out = String::new();
    for (name, samples) in families {
        let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':');
        let shown = if is_plain { name.to_owned() } else { quoted(name) };
        let _ = writeln!(out, "# TYPE {shown} untyped");
        for (labels, time, value) in samples {
            let mut pairs: Vec<String> = labels
                .iter()
                .filter(|(label, _)| *label != METRIC_NAME)
                .map(|(label, value)| format!("{label}={}", quoted(value)))
                .collect();
            if labels.get("instance").is_none() {
                // As Prometheus: the scraper must not put its own target's address there.
                pairs.push("instance=\"\"".to_owned());
            }
            if !is_plain {
                pairs.insert(0, shown.clone());
            }
            let front = if is_plain { name } else { "" };
            let _ = writeln!(out, "{front}{{{}}} {} {time}", pairs.join(","), format_float(value));
        }
    }
    out
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page() {
        let series = |pairs: &[(&str, &str)]| Labels::from_pairs(pairs.iter().copied());
        let latest = BTreeMap::from([
            (series(&[(METRIC_NAME, "up"), ("instance", "a:1"), ("job", "x\"y")]), (1500, 1.0)),
            (series(&[(METRIC_NAME, "a.b"), ("job", "z")]), (2500, f64::INFINITY)),
        ]);
        let expect = "# TYPE \"a.b\" untyped\n{\"a.b\",job=\"z\",instance=\"\"} +Inf 2500\n\
            # TYPE up untyped\nup{instance=\"a:1\",job=\"x\\\"y\"} 1 1500\n";
        assert_eq!(page(&latest), expect);
    }
}
