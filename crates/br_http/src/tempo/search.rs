//! Search: TraceQL in `q`, and the older parameters `tags`, `minDuration` and `maxDuration`, which narrow it.

use super::range;
use crate::app::App;
use crate::error::TextError;
use crate::native::traces::{after, attribute_condition, narrowed, quoted, search_traces};
use crate::params::Params;
use crate::written::{self, Each};
use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use br_model::{AttributeValue, Principal};
use br_std::{Error, Result};
use br_traceql::{MatchedSpanset, Rank, SearchOptions, TraceMatch};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::sync::Arc;

const LIMIT_DEFAULT: usize = 20;
const LIMIT_MAX: usize = 1000;
const SPANS_OF_A_SPANSET: usize = 3;
/// As in Tempo.
const SPANS_OF_A_SPANSET_MAX: usize = 100;

pub(super) async fn search(
    State(app): State<Arc<App>>,
    Extension(principal): Extension<Principal>,
    params: Params,
) -> Result<Response, TextError> {
    let range = range(&app, &params)?;
    let limit = params.limit(LIMIT_DEFAULT, LIMIT_MAX)?;
    let text = narrowed(params.get("q"), conditions(&params)?)?;
    let spans_per_spanset = params.number("spss", SPANS_OF_A_SPANSET)?;
    if spans_per_spanset > SPANS_OF_A_SPANSET_MAX {
        return Err(Error::fix_request(format!(
            "invalid parameter \"spss\": {spans_per_spanset} is more than {SPANS_OF_A_SPANSET_MAX}, the most that is given"
        ))
        .into());
    }
    let options = SearchOptions { range, limit, spans_per_spanset, after: after(&params)? };
    let text = search_traces(&app, principal.tenant, text, options, move |found, budget| {
        let mut metrics = json!({ "inspectedTraces": found.len() });
        if let Some(last) = Rank::of_last(&found, limit) {
            metrics["next"] = last.to_string().into();
        }
        written::json(&Answer { traces: Each(|| found.iter().map(trace)), metrics }, budget)
    });
    Ok(written::response(text.await?))
}

#[derive(Serialize)]
struct Answer<T> {
    traces: T,
    metrics: Value,
}

fn conditions(params: &Params) -> Result<Vec<String>> {
    let mut conditions = Vec::new();
    for (key, value) in logfmt(params.get("tags").unwrap_or(""))? {
        conditions.push(match (key.as_str(), value.as_str()) {
            ("name", _) => format!("name = {}", quoted(&value)),
            ("root.name", _) => format!("rootName = {}", quoted(&value)),
            ("root.service.name", _) => format!("rootServiceName = {}", quoted(&value)),
            ("service.name", _) => format!("resource.service.name = {}", quoted(&value)),
            ("error", "true") | ("status" | "status.code", "error") => "status = error".to_owned(),
            ("status" | "status.code", status @ ("ok" | "unset")) => format!("status = {status}"),
            _ => attribute_condition(&key, &value),
        });
    }
    for (parameter, operator) in [("minDuration", ">="), ("maxDuration", "<=")] {
        if let Some(text) = params.get(parameter) {
            let nanos = go_duration(text).ok_or_else(|| {
                Error::fix_request(format!("invalid parameter {parameter:?}: {text:?} is no duration such as 1.5s"))
            })?;
            conditions.push(format!("traceDuration {operator} {nanos}ns"));
        }
    }
    Ok(conditions)
}

/// `key=value key="va lue"`.
fn logfmt(text: &str) -> Result<Vec<(String, String)>> {
    let wrong = |at: &str| Error::fix_request(format!("invalid parameter \"tags\": {at:?} is not key=value"));
    let mut pairs = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=').ok_or_else(|| wrong(rest))?;
        if key.is_empty() || key.contains(char::is_whitespace) {
            return Err(wrong(rest));
        }
        let (value, after) = value(after).ok_or_else(|| wrong(rest))?;
        pairs.push((key.to_owned(), value));
        rest = after.trim_start();
    }
    Ok(pairs)
}

/// A value at the start of the text, and what follows it.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(char::is_whitespace).unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            _ => value.push(character),
        }
    }
    None
}

/// Nanoseconds of a duration as Go writes it: `1h15m`, `1.5s`, `100ms`.
pub(crate) fn go_duration(text: &str) -> Option<i64> {
    let mut nanos = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|character: char| !character.is_ascii_digit() && character != '.')?;
        let (number, after) = rest.split_at(digits);
        let unit = after.find(|character: char| character.is_ascii_digit() || character == '.').unwrap_or(after.len());
        let factor = match &after[..unit] {
            "ns" => 1.0,
            "us" | "µs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 6e10,
            "h" => 3.6e12,
            _ => return None,
        };
        nanos += number.parse::<f64>().ok()? * factor;
        rest = &after[unit..];
    }
    (!text.is_empty() && nanos < 9.2e18).then_some(nanos.round() as i64)
}

fn trace(found: &TraceMatch) -> Value {
    let span_sets: Vec<Value> = found.spansets.iter().map(span_set).collect();
    let services: Map<String, Value> =
        found.services.iter().map(|(name, spans)| (name.clone(), json!({ "spanCount": spans }))).collect();
    json!({
        "traceID": found.trace_id.to_string(),
        "rootServiceName": found.root_service,
        "rootTraceName": found.root_name,
        "startTimeUnixNano": found.start.0.to_string(),
        "durationMs": found.duration_nanos / 1_000_000,
        // The first one once more: clients from before there could be several read this.
        "spanSet": span_sets.first(),
        "spanSets": span_sets,
        "serviceStats": services,
    })
}

fn span_set(set: &MatchedSpanset) -> Value {
    let spans: Vec<Value> = set
        .spans
        .iter()
        .map(|span| {
            let attributes: Vec<Value> =
                span.attributes.iter().map(|(key, value)| json!({ "key": key, "value": any_value(value) })).collect();
            json!({
                "spanID": span.span_id.to_string(),
                "name": span.name,
                "startTimeUnixNano": span.start.0.to_string(),
                "durationNanos": span.duration_nanos.to_string(),
                "attributes": attributes,
            })
        })
        .collect();
    json!({ "matched": set.matched, "spans": spans })
}

/// As OTLP/JSON has values; what is neither a number nor a truth value is shown as text.
pub(super) fn any_value(value: &AttributeValue) -> Value {
    match value {
        AttributeValue::Bool(value) => json!({ "boolValue": value }),
        AttributeValue::Int(value) => json!({ "intValue": value.to_string() }),
        AttributeValue::Double(value) => json!({ "doubleValue": value }),
        other => json!({ "stringValue": super::tags::text(other) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_parameters_become_traceql() {
        let check = |form: &str, expect: &str| {
            let params = Params::parse(form);
            let text = narrowed(params.get("q"), conditions(&params).expect("valid")).expect("valid");
            assert_eq!(text, expect);
            br_traceql::parse(&text).expect("valid TraceQL");
        };
        check("", "{  }");
        check(
            "tags=service.name%3Dshop%20http.route%3D%22%2Fa%20b%22",
            r#"{ resource.service.name = "shop" && ."http.route" = "/a b" }"#,
        );
        check("tags=error%3Dtrue&minDuration=1.5s", "{ status = error && traceDuration >= 1500000000ns }");
        check("q={.a=1}&maxDuration=100ms", "{.a=1} | { traceDuration <= 100000000ns }");
        for wrong in ["tags=a", "tags=a%3D%22b", "tags=%3Db", "minDuration=5", "maxDuration=1y", "minDuration=-1s"] {
            assert!(conditions(&Params::parse(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations_as_go_writes_them() {
        for (text, expect) in
            [("1h15m", Some(4_500_000_000_000)), ("1.5s", Some(1_500_000_000)), ("3µs", Some(3000)), ("", None), ("5", None)]
        {
            assert_eq!(go_duration(text), expect, "{text}");
        }
    }
}
