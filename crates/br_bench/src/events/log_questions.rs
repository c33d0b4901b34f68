//! What is asked of logs through Loki's API, and what must come back.

use super::ask::{Check, Question};
use super::known::Lines;
use super::log_records::{KnownLogs, LATEST, LATEST_OF, NEEDLE, PHRASE, REGEX, REGEX_LINES, ROUTES, route};
use super::{HOUR, Period};
use crate::load::url_encoded;
use anyhow::{Context, Result};
use br_std::Nanos;
use serde_json::Value;
use std::collections::BTreeMap;

/// Every stream.
const ALL: &str = r#"{service_name=~".+"}"#;
const TOP: usize = 10;
/// What a needle may take in 10 GB, and the latest lines of a service.
const NEEDLE_MS: f64 = 50.0;
const LINES_MAX: usize = 100;

pub(super) fn questions(known: &KnownLogs, period: Period) -> Result<Vec<Question>> {
    let (id, at) = known.id.as_ref().context("no record has a trace")?;
    let (trace, of_trace) = known.trace.as_ref().context("no record has a trace")?;
    let mut id_line = Lines::new(1);
    id_line.offer(*at);
    let found = |name, needle: &str, lines: &Lines| Question {
        at_most: Some(NEEDLE_MS),
        ..lines_question(name, period, &format!("{ALL} |= \"{needle}\""), lines, LINES_MAX, &format!("body like '%{needle}%'"))
    };
    let hours = format!("{}h", period.hours);
    let latest = Question {
        at_most: Some(NEEDLE_MS),
        ..lines_question(
            "latest 50 of a service",
            period,
            &format!("{{service_name=\"{LATEST_OF}\"}}"),
            &known.latest,
            LATEST,
            &format!("service = '{LATEST_OF}'"),
        )
    };
    let regex = format!("{ALL} |~ \"{REGEX}\"");
    Ok(vec![
        found("needle word", NEEDLE, &known.needles),
        found("bare id needle", id, &id_line),
        found("phrase", PHRASE, &known.phrases),
        Question {
            at_most: Some(NEEDLE_MS),
            ..lines_question(
                "lines of a trace",
                period,
                &format!("{ALL} | trace_id=\"{trace}\""),
                of_trace,
                LINES_MAX,
                &format!("trace_id = @hex({trace})"),
            )
        },
        latest,
        lines_question("latest 100 by regex", period, &regex, &known.waits, REGEX_LINES, &format!("@match(body, '{REGEX}')")),
        Question {
            name: "count by regex",
            path: instant(&format!("sum(count_over_time({regex} [{hours}]))"), period.end()),
            check: vector("", BTreeMap::from([(String::new(), known.waits.count as f64)])),
            at_most: None,
            sql: format!("select count(*) from @table where @match(body, '{REGEX}')"),
            sql_rows: 1,
        },
        levels(known, period),
        top_paths(known, period, &hours),
        quantiles(known, period, &hours),
    ])
}

fn lines_question(name: &'static str, period: Period, query: &str, lines: &Lines, limit: usize, condition: &str) -> Question {
    let (start, end) = (period.start.0, period.end().0);
    let expect: Vec<i64> = lines.iter().map(|time| time.0).collect();
    Question {
        name,
        path: format!("/loki/api/v1/query_range?query={}&start={start}&end={end}&limit={limit}", url_encoded(query)),
        check: Box::new(move |answer| {
            let found = times(answer).ok_or_else(|| format!("no streams: {answer:.200}"))?;
            if found == expect {
                return Ok(());
            }
            Err(format!("{} lines instead of {}, or others", found.len(), expect.len()))
        }),
        at_most: None,
        sql: format!("select ts, service, body from @table where {condition} order by ts desc limit {limit}"),
        sql_rows: lines.len().min(limit),
    }
}

/// The times of all lines of an answer, the oldest first.
fn times(answer: &Value) -> Option<Vec<i64>> {
    let streams = answer["data"]["result"].as_array()?;
    let values = streams.iter().filter_map(|stream| stream["values"].as_array()).flatten();
    let mut times = values.map(|value| value[0].as_str()?.parse().ok()).collect::<Option<Vec<i64>>>()?;
    times.sort_unstable();
    Some(times)
}

fn instant(query: &str, at: Nanos) -> String {
    format!("/loki/api/v1/query?query={}&time={}", url_encoded(query), at.0)
}

/// A sample for each value of a label, or one alone where there is no label.
fn vector(label: &'static str, expect: BTreeMap<String, f64>) -> Check {
    Box::new(move |answer| {
        let samples = answer["data"]["result"].as_array().ok_or_else(|| format!("no samples: {answer:.200}"))?;
        let found: BTreeMap<String, f64> = samples
            .iter()
            .map(|sample| (sample["metric"][label].as_str().unwrap_or_default().to_owned(), number(&sample["value"][1])))
            .collect();
        let is_same = |(one, other): ((&String, &f64), (&String, &f64))| one.0 == other.0 && is_near(*one.1, *other.1);
        if samples.len() == expect.len() && found.iter().zip(&expect).all(is_same) {
            return Ok(());
        }
        Err(format!("{found:?} instead of {expect:?}"))
    })
}

fn number(value: &Value) -> f64 {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or(f64::NAN)
}

fn is_near(one: f64, other: f64) -> bool {
    (one - other).abs() <= 1e-9 * other.abs().max(1.0)
}

/// For each hour and level.
fn levels(known: &KnownLogs, period: Period) -> Question {
    let query = format!("sum by (detected_level) (count_over_time({ALL} [1h]))");
    let (first, last) = ((period.start + HOUR).as_secs(), period.end().as_secs());
    let expect: BTreeMap<(i64, String), f64> = known
        .levels
        .iter()
        .map(|((hour, level), count)| ((first + i64::from(*hour) * 3600, (*level).to_owned()), *count as f64))
        .collect();
    let sql_rows = expect.len();
    Question {
        name: "count by level over time",
        path: format!("/loki/api/v1/query_range?query={}&start={first}&end={last}&step=3600", url_encoded(&query)),
        check: Box::new(move |answer| {
            let series = answer["data"]["result"].as_array().ok_or_else(|| format!("no series: {answer:.200}"))?;
            let mut found = BTreeMap::new();
            for one in series {
                let level = one["metric"]["detected_level"].as_str().unwrap_or_default();
                for value in one["values"].as_array().into_iter().flatten() {
                    found.insert((value[0].as_f64().unwrap_or_default() as i64, level.to_owned()), number(&value[1]));
                }
            }
            if found == expect {
                return Ok(());
            }
            let differ = expect.iter().find(|(at, count)| found.get(at) != Some(count));
            Err(format!("{} counts instead of {}; not so: {differ:?}", found.len(), expect.len()))
        }),
        at_most: None,
        sql: "select @hour(ts) as hour, severity, count(*) from @table group by hour, severity".to_owned(),
        sql_rows,
    }
}

fn top_paths(known: &KnownLogs, period: Period, hours: &str) -> Question {
    let query = format!("topk({TOP}, sum by (http_route) (count_over_time({ALL} [{hours}])))");
    let mut counts: Vec<(u64, String)> =
        known.durations.iter().enumerate().map(|(at, counted)| (counted.count(), route(at))).collect();
    counts.sort_by(|one, other| other.cmp(one));
    let expect = counts.into_iter().take(TOP).map(|(count, route)| (route, count as f64)).collect();
    Question {
        name: "top 10 paths",
        path: instant(&query, period.end()),
        check: vector("http_route", expect),
        at_most: None,
        sql: format!(
            "select @attribute(http.route:s) as route, count(*) as hits from @table group by route order by hits desc limit {TOP}"
        ),
        sql_rows: TOP,
    }
}

fn quantiles(known: &KnownLogs, period: Period, hours: &str) -> Question {
    let query = format!("quantile_over_time(0.99, {ALL} | unwrap duration_ms [{hours}]) by (http_route)");
    let expect = known.durations.iter().enumerate().map(|(at, counted)| (route(at), counted.quantile(0.99))).collect();
    Question {
        name: "p99 by route",
        path: instant(&query, period.end()),
        check: vector("http_route", expect),
        at_most: None,
        sql: "select @attribute(http.route:s) as route, @quantile(0.99, @attribute(duration_ms:i)) from @table group by route"
            .to_owned(),
        sql_rows: ROUTES,
    }
}
