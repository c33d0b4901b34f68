//! Sends requests until there are no more, and reckons what the server spent on them.

use super::Period;
use crate::load::settle_until_quiet;
use crate::peer::{Kind, Server};
use crate::row::Row;
use anyhow::{Result, bail};
use br_catalog::Catalog;
use br_storage::{FileEntry, Table};
use futures::{StreamExt, TryStreamExt};
use std::cell::Cell;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Requests that are made before they are sent: while requests are made, no figure is taken.
const REQUESTS_PER_TURN: usize = 32;
const SENDERS: usize = 4;
/// A server that is told more than it can write says so; it gets so many tries.
const TRIES_MAX: usize = 600;
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Files are merged after a beat of flushes: often enough that a short bench pays for it. Nothing else differs from the defaults.
const CONFIG: &str = "bellrock:\n  flush_interval: 10s\n";

#[derive(Debug, Default)]
pub(super) struct Sent {
    /// Of the requests, not compressed.
    pub(super) bytes: f64,
    requests: usize,
    refused: usize,
    seconds: f64,
    /// CPU time of the server while it was sent requests, flushes that ran beside included.
    turn_cpu: f64,
    /// And of all until nothing was left to flush and merge.
    whole_cpu: f64,
    pub(super) rss_peak: f64,
}

pub(super) async fn start() -> Result<Server> {
    Server::start_with(Kind::Bellrock, CONFIG, &[]).await
}

/// Everything is in files, and the files are merged, when this returns.
pub(super) async fn send(server: &Server, path: &str, mut next: impl FnMut() -> Option<Vec<u8>>) -> Result<Sent> {
    let (mut sent, before) = (Sent::default(), server.cpu_seconds());
    let refused = Cell::new(0);
    loop {
        let turn: Vec<Vec<u8>> = std::iter::from_fn(&mut next).take(REQUESTS_PER_TURN).collect();
        if turn.is_empty() {
            break;
        }
        sent.requests += turn.len();
        sent.bytes += turn.iter().map(Vec::len).sum::<usize>() as f64;
        let (started, cpu) = (Instant::now(), server.cpu_seconds());
        let posts = futures::stream::iter(turn.iter().map(|body| post(server, path, body, &refused)));
        posts.buffer_unordered(SENDERS).try_collect::<()>().await?;
        sent.seconds += started.elapsed().as_secs_f64();
        sent.turn_cpu += server.cpu_seconds() - cpu;
    }
    server.post("/bellrock/v1/admin/flush", &[], Vec::new()).await?;
    settle_until_quiet(server).await;
    sent.whole_cpu = server.cpu_seconds() - before;
    sent.refused = refused.get();
    sent.rss_peak = server.rss_peak_bytes();
    Ok(sent)
}

/// Until it is acknowledged, which is when it is on the disk.
pub(super) async fn post(server: &Server, path: &str, body: &[u8], refused: &Cell<usize>) -> Result<()> {
    for _ in 0..TRIES_MAX {
        let (status, text) = server.try_post(path, &[("content-type", "application/x-protobuf")], body.to_vec()).await?;
        if status == 503 {
            refused.set(refused.get() + 1);
            tokio::time::sleep(TRY_AGAIN_AFTER).await;
            continue;
        }
        // A part that is refused is told in an answer that says 200.
        if status != 200 || text.contains("rejected") {
            bail!("{path} answered {status}: {text:.300}");
        }
        return Ok(());
    }
    bail!("{path} answered 503 for a minute")
}

/// The files that count now, with where they are.
pub(super) async fn live_files(server: &Server, table: Table) -> Result<Vec<(FileEntry, PathBuf)>> {
    let data = server.data_folder();
    let catalog = Catalog::open(data.join("catalog.db")).await?;
    let files = catalog.files(table).await;
    catalog.close().await;
    Ok(files?.into_iter().map(|file| (data.join("files").join(&file.path), file)).map(|(path, file)| (file, path)).collect())
}

/// What a record is called, and how many of them a second a core is to take.
pub(super) struct Unit {
    pub(super) name: &'static str,
    pub(super) per_second: &'static str,
    pub(super) per_cpu_second: &'static str,
    pub(super) cpu_second_min: Option<f64>,
    /// MB of OTLP that a CPU-second is to take.
    pub(super) mb_min: Option<f64>,
    /// Bytes that one may take in files.
    pub(super) bytes_max: Option<f64>,
}

pub(super) fn rows(sent: &Sent, records: f64, period: Period, files: &[(FileEntry, PathBuf)], unit: &Unit) -> Vec<Row> {
    let size: f64 = files.iter().map(|(file, _)| file.size_bytes as f64).sum();
    let kept: u64 = files.iter().map(|(file, _)| file.rows).sum();
    let or_not = |row: Row, bound: Option<f64>| if let Some(bound) = bound { row.at_least(bound) } else { row };
    let each = Row::new("bytes in files for each", "B", size / records);
    let whole = "flush, merges and all";
    let Unit { name, per_second, per_cpu_second, .. } = unit;
    vec![
        Row::new(format!("{name} sent in {} h", period.hours), name, records),
        Row::new("OTLP sent, not compressed", "MB", sent.bytes / 1e6),
        Row::new("accepted", "MB/s", sent.bytes / 1e6 / sent.seconds),
        Row::new("accepted", per_second, records / sent.seconds),
        Row::new("MB a core, its turn", "MB/CPU-s", sent.bytes / 1e6 / sent.turn_cpu),
        or_not(Row::new(format!("MB a core, {whole}"), "MB/CPU-s", sent.bytes / 1e6 / sent.whole_cpu), unit.mb_min),
        Row::new(format!("{name} a core, its turn"), per_cpu_second, records / sent.turn_cpu),
        or_not(Row::new(format!("{name} a core, {whole}"), per_cpu_second, records / sent.whole_cpu), unit.cpu_second_min),
        Row::new("requests told to come again", "requests", sent.refused as f64).against("all requests", sent.requests as f64),
        Row::new("RSS, peak while taking in", "MB", sent.rss_peak / 1e6).at_most(1000.0),
        Row::new("size in files", "MB", size / 1e6),
        if let Some(bound) = unit.bytes_max { each.at_most(bound) } else { each },
        Row::new("OTLP bytes by bytes in files", "x", sent.bytes / size),
        Row::new("files", "files", files.len() as f64),
        Row::new(format!("{name} that the files lack"), name, records - kept as f64).at_most(0.0),
    ]
}
