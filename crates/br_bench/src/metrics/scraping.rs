//! Scraping 200 targets: what a scraped sample costs.

use super::compared;
use crate::fleet::{Fleet, SERIES_PER_TARGET, target_labels};
use crate::peer::{Kind, Server};
use crate::row::Row;
use anyhow::Result;
use axum::extract::{Path, State};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

const INTERVAL_SECS: u64 = 5;
/// Scrapes before the measured ones: connections are made, series registered.
const WARM_UP: u64 = 2;
const MEASURED: u64 = 6;

struct Targets {
    fleet: Mutex<Fleet>,
    served: AtomicU64,
}

pub(super) async fn run(kinds: &[Kind], series: usize) -> Result<Vec<Row>> {
    let targets = Arc::new(Targets { fleet: Mutex::new(Fleet::new(series)), served: AtomicU64::new(0) });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let config = config(&listener.local_addr()?.to_string(), series.div_ceil(SERIES_PER_TARGET));
    let router = axum::Router::new().route("/target/{number}", axum::routing::get(expose)).with_state(targets.clone());
    let serving = tokio::spawn(async move { axum::serve(listener, router).await });
    let mut figures = Vec::new();
    for kind in kinds {
        let server = Server::start_with(*kind, &config, &[]).await?;
        tokio::time::sleep(Duration::from_secs(INTERVAL_SECS * WARM_UP)).await;
        let (served, cpu) = (targets.served.load(Ordering::Relaxed), server.cpu_seconds());
        tokio::time::sleep(Duration::from_secs(INTERVAL_SECS * MEASURED)).await;
        let scrapes = targets.served.load(Ordering::Relaxed) - served;
        let per_cpu_second = (scrapes * SERIES_PER_TARGET as u64) as f64 / (server.cpu_seconds() - cpu).max(0.01);
        server.settle().await?;
        let up = server.get("/api/v1/query?query=sum(up)").await?;
        let all = format!("\"{}\"", series.div_ceil(SERIES_PER_TARGET));
        anyhow::ensure!(up.contains(&all), "{} has not all targets up: {up}", kind.name());
        figures.push((*kind, per_cpu_second));
    }
    serving.abort();
    Ok(compared("scraped samples per CPU-second", "samples/CPU-s", &figures, |row, _| row))
}

async fn expose(State(targets): State<Arc<Targets>>, Path(number): Path<usize>) -> String {
    targets.served.fetch_add(1, Ordering::Relaxed);
    // Rendering half a megabyte would hold up the other targets' answers.
    let rendering =
        tokio::task::spawn_blocking(move || targets.fleet.lock().unwrap_or_else(PoisonError::into_inner).exposition(number));
    rendering.await.unwrap_or_default()
}

fn config(address: &str, targets: usize) -> String {
    let mut text =
        format!("global:\n  scrape_interval: {INTERVAL_SECS}s\nscrape_configs:\n- job_name: fleet\n  static_configs:\n");
    for number in 0..targets {
        let _ = writeln!(text, "  - targets: [{address:?}]\n    labels:\n      __metrics_path__: /target/{number}");
        for (name, value) in target_labels(number) {
            let _ = writeln!(text, "      {name}: {value:?}");
        }
    }
    text
}
