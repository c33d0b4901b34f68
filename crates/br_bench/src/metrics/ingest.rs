//! Remote write: what a CPU-second takes, what a series costs in memory, what a sample costs on the disk.

use super::{INTERVAL_MS, Sent, compared};
use crate::fleet::Fleet;
use crate::load;
use crate::peer::{Kind, Server};
use crate::row::{Row, median};
use anyhow::Result;
use std::time::{Duration, Instant};

/// Scrapes that one server gets before it is the next one's turn.
const SCRAPES_PER_TURN: usize = 8;

#[derive(Default)]
struct Turns {
    samples_per_second: Vec<f64>,
    samples_per_cpu_second: Vec<f64>,
    /// Of the whole time, while others had their turn as well.
    cpu_seconds: f64,
}

pub(super) async fn run(servers: &[Server], fleet: &mut Fleet, start_ms: i64, scrapes: usize) -> Result<Vec<Row>> {
    let mut figures: Vec<Turns> = servers.iter().map(|_| Turns::default()).collect();
    let before: Vec<f64> = servers.iter().map(Server::cpu_seconds).collect();
    let mut made = 0;
    while made < scrapes {
        let turn: Vec<Vec<Vec<u8>>> = (made..scrapes.min(made + SCRAPES_PER_TURN))
            .map(|at| fleet.scrape(start_ms + (at as i64 + 1) * INTERVAL_MS))
            .collect();
        let samples = (turn.len() * fleet.series_count()) as f64;
        for (server, figures) in servers.iter().zip(&mut figures) {
            let (started, cpu) = (Instant::now(), server.cpu_seconds());
            for requests in &turn {
                load::remote_write(server, requests).await?;
            }
            // The first turn registers all series.
            if made > 0 || scrapes <= SCRAPES_PER_TURN {
                figures.samples_per_second.push(samples / started.elapsed().as_secs_f64());
                figures.samples_per_cpu_second.push(samples / (server.cpu_seconds() - cpu).max(0.01));
            }
        }
        made += turn.len();
    }
    for server in servers {
        server.settle().await?;
    }
    for ((server, figures), before) in servers.iter().zip(&mut figures).zip(before) {
        figures.cpu_seconds = server.cpu_seconds() - before;
    }
    let all = (scrapes * fleet.series_count()) as f64;
    let of = |figure: &dyn Fn(&Turns) -> f64| -> Vec<(Kind, f64)> {
        servers.iter().zip(&figures).map(|(server, turns)| (server.kind, figure(turns))).collect()
    };
    let mut rows =
        compared("samples accepted", "samples/s", &of(&|turns| median(turns.samples_per_second.clone())), |row, _| row);
    let per_turn = of(&|turns| median(turns.samples_per_cpu_second.clone()));
    rows.extend(compared("samples per CPU-second, its turn", "samples/CPU-s", &per_turn, ingest_target));
    let whole = of(&|turns| all / turns.cpu_seconds.max(0.01));
    rows.extend(compared("samples per CPU-second, background and all", "samples/CPU-s", &whole, ingest_target));
    Ok(rows)
}

fn ingest_target(row: Row, peer: Kind) -> Row {
    row.ratio_at_least(if peer == Kind::VictoriaMetrics { 4.0 } else { 12.0 })
}

/// After the load, when what was begun in the background has had time to end.
pub(super) async fn memory(servers: &[Server], sent: &Sent) -> Vec<Row> {
    tokio::time::sleep(Duration::from_secs(5)).await;
    let figures: Vec<_> = servers.iter().map(|server| (server.kind, server.rss_bytes() / sent.series as f64)).collect();
    compared("RSS per active series", "B/series", &figures, |row, _| row.at_most(300.0))
}

pub(super) async fn disk(servers: &[Server], sent: &Sent) -> Result<Vec<Row>> {
    let mut figures = Vec::new();
    for server in servers {
        figures.push((server.kind, server.bytes_at_rest().await? / sent.samples));
    }
    let mut rows = compared("bytes at rest per sample", "B/sample", &figures, |row, _| {
        let is_below = row.ratio.is_some_and(|ratio| ratio < 1.0);
        let mut row = row.at_most(0.9);
        row.met = row.met.map(|met| met && is_below);
        row
    });
    rows.push(Row::new("journal with its reserve", "MB", servers[0].journal_bytes() / 1e6));
    Ok(rows)
}
