//! The first figures: what is accepted per second with fsync, what it costs in memory and on disk, how fast queries are.

use crate::input::{self, Metrics};
use crate::load;
use crate::peer::{Kind, Server};
use crate::row::{Row, median};
use anyhow::Result;
use br_std::Nanos;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const SERIES: usize = 50_000;
/// Scrapes of all series in one round.
const SCRAPES: usize = 8;
const LOG_REQUESTS: usize = 200;
const SPAN_REQUESTS: usize = 200;
const QUERIES: [&str; 6] = [
    "sum(app_metric_1_total)",
    "sum by (job) (rate(app_metric_2_total[2m]))",
    "topk(5, sum by (path) (rate(app_metric_3_total[2m])))",
    "count by (method) (app_metric_4_total)",
    "app_metric_5_total{pod=\"service-1-6d4cf56db6-00001\"}",
    "max by (job) (increase(app_metric_10_total[2m]))",
];

#[derive(Default)]
struct Figures {
    samples_per_second: Vec<f64>,
    samples_per_cpu_second: Vec<f64>,
    query_ms: Vec<f64>,
    rss_bytes: f64,
    disk_bytes: f64,
}

pub(crate) async fn run(rounds: usize) -> Result<Vec<Row>> {
    let kinds = Kind::all_installed();
    let mut servers = Vec::new();
    for kind in &kinds {
        servers.push(Server::start(*kind).await?);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let idle = servers[0].rss_bytes();
    let mut figures: BTreeMap<&str, Figures> = BTreeMap::new();
    let mut metrics = Metrics::new(SERIES);
    let start_ms = load::now_ms() - (rounds * SCRAPES) as i64 * 15_000;
    for round in 0..rounds {
        // Made once for each round: every server gets the same bytes.
        let scrapes: Vec<Vec<Vec<u8>>> =
            (0..SCRAPES).map(|at| metrics.scrape(start_ms + ((round * SCRAPES + at) as i64 + 1) * 15_000)).collect();
        for server in &servers {
            let figures = figures.entry(server.kind.name()).or_default();
            ingest(server, &scrapes, metrics.len(), figures).await?;
            server.settle().await?;
            queries(server, load::now_ms() / 1000, figures).await?;
            figures.rss_bytes = server.rss_bytes();
        }
    }
    if let Some(ours) = servers.iter().find(|server| server.kind == Kind::Bellrock) {
        ours.post("/bellrock/v1/admin/flush", &[], Vec::new()).await?;
    }
    for server in &servers {
        figures.entry(server.kind.name()).or_default().disk_bytes = server.disk_bytes();
    }
    let mut rows = metric_rows(&figures, &kinds, (rounds * SCRAPES * SERIES) as f64);
    rows.insert(0, Row::new("RSS when idle", "MB", idle / 1e6).at_most(80.0));
    rows.push(Row::new("journal with its reserve", "MB", servers[0].journal_bytes() / 1e6));
    rows.extend(events(&servers[0], rounds).await?);
    Ok(rows)
}

async fn ingest(server: &Server, scrapes: &[Vec<Vec<u8>>], series: usize, figures: &mut Figures) -> Result<()> {
    let (started, cpu) = (Instant::now(), server.cpu_seconds());
    for scrape in scrapes {
        load::remote_write(server, scrape).await?;
    }
    let samples = (scrapes.len() * series) as f64;
    figures.samples_per_second.push(samples / started.elapsed().as_secs_f64());
    figures.samples_per_cpu_second.push(samples / (server.cpu_seconds() - cpu).max(0.01));
    Ok(())
}

async fn queries(server: &Server, end: i64, figures: &mut Figures) -> Result<()> {
    for query in QUERIES {
        let encoded = load::url_encoded(query);
        let path = format!("/api/v1/query_range?query={encoded}&start={}&end={end}&step=15", end - 300);
        let started = Instant::now();
        let answer = server.get(&path).await?;
        figures.query_ms.push(started.elapsed().as_secs_f64() * 1000.0);
        anyhow::ensure!(answer.contains("\"values\""), "{} has no answer to {query}: {answer:.200}", server.kind.name());
    }
    Ok(())
}

/// A figure of one server; the second argument is the number of samples sent.
type Measure = fn(&Figures, f64) -> f64;

fn metric_rows(figures: &BTreeMap<&str, Figures>, kinds: &[Kind], samples: f64) -> Vec<Row> {
    let measures: [(&str, &'static str, Measure); 5] = [
        ("samples accepted", "samples/s", |figures, _| median(figures.samples_per_second.clone())),
        ("samples per CPU-second", "samples/CPU-s", |figures, _| median(figures.samples_per_cpu_second.clone())),
        ("RSS after the load", "MB", |figures, _| figures.rss_bytes / 1e6),
        ("bytes on disk per sample", "B/sample", |figures, samples| figures.disk_bytes / samples),
        ("query p50", "ms", |figures, _| median(figures.query_ms.clone())),
    ];
    let mut rows = Vec::new();
    for (name, unit, measure) in measures {
        let ours = measure(&figures[Kind::Bellrock.name()], samples);
        let mut peers = kinds.iter().filter(|kind| **kind != Kind::Bellrock).peekable();
        if peers.peek().is_none() {
            rows.push(Row::new(name, unit, ours));
        }
        for peer in peers {
            rows.push(Row::new(name, unit, ours).against(peer.name(), measure(&figures[peer.name()], samples)));
        }
    }
    rows
}

/// Logs and spans: no peer of theirs is among Debian's packages.
async fn events(server: &Server, rounds: usize) -> Result<Vec<Row>> {
    let (mut lines, mut megabytes, mut spans) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        let start = Nanos::from_millis(load::now_ms() - 600_000 + round as i64 * 150_000);
        let (requests, line_bytes) = input::logs(LOG_REQUESTS, start);
        let seconds = load::post_all(server, "/v1/logs", requests).await?;
        lines.push((LOG_REQUESTS * 500) as f64 / seconds);
        megabytes.push(line_bytes as f64 / 1e6 / seconds);
        let seconds = load::post_all(server, "/v1/traces", input::spans(SPAN_REQUESTS, start)).await?;
        spans.push((SPAN_REQUESTS * 500) as f64 / seconds);
    }
    Ok(vec![
        Row::new("log lines accepted", "lines/s", median(lines)),
        Row::new("log lines accepted", "MB/s of lines", median(megabytes)),
        Row::new("spans accepted", "spans/s", median(spans)),
        Row::new("RSS after logs and spans", "MB", server.rss_bytes() / 1e6),
    ])
}
