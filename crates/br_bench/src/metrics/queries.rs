//! The read load: the expressions of 36 alert rules, wide aggregations, and one series at a time.

use super::{INTERVAL_MS, Sent, compared};
use crate::load;
use crate::peer::{Kind, Server};
use crate::row::{Row, median, quantile};
use anyhow::{Context, Result};
use std::path::Path;
use std::time::Instant;

/// Steps of a range query: an hour.
const STEPS: i64 = 240;

/// 62,500 series each (the quantile: 112,500).
const WIDE: [&str; 5] = [
    "sum(http_requests_total)",
    "sum(rate(http_requests_total[5m]))",
    "sum by (handler) (rate(http_requests_total[5m]))",
    "topk(5, sum by (instance) (rate(http_requests_total[5m])))",
    "histogram_quantile(0.99, sum by (le, handler) (rate(http_request_duration_seconds_bucket[5m])))",
];

const NARROW: [&str; 4] = [
    r#"http_requests_total{instance="10.1.0.1:8000",handler="/api/v1/resource/3",method="GET",code="200"}"#,
    r#"rate(http_requests_total{instance="10.1.0.3:8000",handler="/api/v1/resource/4",method="PUT",code="200"}[5m])"#,
    r#"node_load1{instance="10.1.0.4:9100"}"#,
    r#"sum by (mode) (rate(node_cpu_seconds_total{instance="10.1.0.6:9100"}[5m]))"#,
];

/// Whether a server may use what it found for an earlier range; Prometheus keeps nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cache {
    On,
    Off,
}

/// Queries end at one of so many steps before the last sample.
const ENDS: usize = 8;

struct Query {
    group: &'static str,
    expression: String,
    is_range: bool,
    /// Milliseconds, of each server.
    medians: Vec<f64>,
}

pub(super) async fn run(servers: &[Server], sent: &Sent, rounds: usize, rules: Option<&Path>) -> Result<Vec<Row>> {
    let mut queries = queries(rules)?;
    for query in &mut queries {
        query.medians = medians(servers, query, sent, rounds, Cache::Off).await?;
    }
    let mut rows = Vec::new();
    for (group, name) in [("rules", "rule expressions"), ("wide", "wide aggregations"), ("narrow", "one-series lookups")] {
        for (part, word) in [(0.5, "p50"), (0.95, "p95")] {
            rows.extend(of_group(servers, &queries, &format!("{name} {word}"), part, |query| query.group == group));
        }
    }
    for (part, word) in [(0.5, "p50"), (0.95, "p95")] {
        rows.extend(of_group(servers, &queries, &format!("all queries {word}"), part, |_| true));
    }
    for query in &queries {
        let kind = if query.is_range { "range" } else { "instant" };
        let name = format!("{kind} {}", short(&query.expression));
        let figures: Vec<_> = servers.iter().zip(&query.medians).map(|(server, median)| (server.kind, *median)).collect();
        rows.extend(compared(&name, "ms", &figures, |row, _| row));
    }
    rows.extend(slowest(servers, &queries));
    // What a dashboard does each time that it is drawn anew.
    for query in queries.iter_mut().filter(|query| query.group == "wide") {
        query.medians = medians(servers, query, sent, rounds, Cache::On).await?;
        let figures: Vec<_> = servers.iter().zip(&query.medians).map(|(server, median)| (server.kind, *median)).collect();
        rows.extend(compared(&format!("cached: {}", short(&query.expression)), "ms", &figures, |row, _| row));
    }
    Ok(rows)
}

/// Milliseconds, of each server.
async fn medians(servers: &[Server], query: &Query, sent: &Sent, rounds: usize, cache: Cache) -> Result<Vec<f64>> {
    let mut times: Vec<Vec<f64>> = servers.iter().map(|_| Vec::new()).collect();
    for round in 0..rounds {
        for (server, times) in servers.iter().zip(&mut times) {
            times.push(ask(server, query, sent, round, cache).await?);
        }
    }
    Ok(times.into_iter().map(median).collect())
}

fn of_group(servers: &[Server], queries: &[Query], name: &str, part: f64, is_in: impl Fn(&Query) -> bool) -> Vec<Row> {
    let figures: Vec<_> = servers
        .iter()
        .enumerate()
        .map(|(at, server)| {
            let medians = queries.iter().filter(|query| is_in(query)).map(|query| query.medians[at]);
            (server.kind, quantile(medians.collect(), part))
        })
        .collect();
    if figures.iter().any(|(_, figure)| figure.is_nan()) {
        return Vec::new();
    }
    compared(name, "ms", &figures, |row, peer| {
        if part > 0.5 {
            return row;
        }
        row.ratio_at_most(if peer == Kind::VictoriaMetrics { 0.33 } else { 0.15 })
    })
}

/// The query in which a peer does best against ours: none may be faster there.
fn slowest(servers: &[Server], queries: &[Query]) -> Vec<Row> {
    let peers = servers.iter().enumerate().skip(1);
    peers
        .filter_map(|(at, peer)| {
            let ratio = |query: &Query| query.medians[0] / query.medians[at];
            let worst = queries.iter().max_by(|one, other| ratio(one).total_cmp(&ratio(other)))?;
            let row = Row::new(format!("worst: {}", short(&worst.expression)), "ms", worst.medians[0]);
            Some(row.against(peer.kind.name(), worst.medians[at]).ratio_at_most(1.0))
        })
        .collect()
}

fn short(expression: &str) -> String {
    if expression.chars().count() <= 60 {
        return expression.to_owned();
    }
    format!("{}…", expression.chars().take(60).collect::<String>())
}

/// Milliseconds. Each round asks for another end, a step later than the one before.
async fn ask(server: &Server, query: &Query, sent: &Sent, round: usize, cache: Cache) -> Result<f64> {
    let end_ms = sent.end_ms - (ENDS - 1 - round % ENDS) as i64 * INTERVAL_MS;
    let (end, start) = (end_ms / 1000, (end_ms - STEPS * INTERVAL_MS) / 1000);
    let encoded = load::url_encoded(&query.expression);
    let mut path = if query.is_range {
        format!("/api/v1/query_range?query={encoded}&start={start}&end={end}&step={}", INTERVAL_MS / 1000)
    } else {
        format!("/api/v1/query?query={encoded}&time={end}")
    };
    if cache == Cache::Off {
        path.push_str("&nocache=1");
    }
    let started = Instant::now();
    let answer = server.get(&path).await.with_context(|| query.expression.clone())?;
    let milliseconds = started.elapsed().as_secs_f64() * 1000.0;
    let is_answered = query.group == "rules" || answer.contains("\"value");
    anyhow::ensure!(is_answered, "{} has no answer to {}: {answer:.200}", server.kind.name(), query.expression);
    Ok(milliseconds)
}

fn queries(rules: Option<&Path>) -> Result<Vec<Query>> {
    let query =
        |group, expression: &str, is_range| Query { group, expression: expression.to_owned(), is_range, medians: Vec::new() };
    let mut queries = Vec::new();
    match rules {
        Some(path) => queries.extend(expressions(path)?.iter().map(|expression| query("rules", expression, false))),
        None => println!("the shared data folder is absent: measured without the rules' expressions"),
    }
    queries.extend(WIDE.iter().map(|expression| query("wide", expression, true)));
    for expression in NARROW {
        queries.push(query("narrow", expression, false));
        queries.push(query("narrow", expression, true));
    }
    Ok(queries)
}

/// Of all rules of a file in the format of Prometheus.
fn expressions(path: &Path) -> Result<Vec<String>> {
    #[derive(serde::Deserialize)]
    struct File {
        groups: Vec<Group>,
    }
    #[derive(serde::Deserialize)]
    struct Group {
        rules: Vec<Rule>,
    }
    #[derive(serde::Deserialize)]
    struct Rule {
        expr: String,
    }
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let file: File = serde_norway::from_str(&text)?;
    Ok(file.groups.into_iter().flat_map(|group| group.rules).map(|rule| rule.expr).collect())
}
