//! Measures the binary against real peers: the same input, in one run, interleaved, medians of several rounds.
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a benchmark prints, and works on the real clock and disk")]

mod background;
mod differential;
mod events;
mod fleet;
mod hold;
mod input;
mod load;
mod metrics;
mod micro;
mod peer;
mod redaction;
mod row;
mod smoke;

use anyhow::{Result, bail};
use clap::Parser;
use std::path::PathBuf;

#[derive(Parser)]
struct Arguments {
    /// What to measure: smoke, metrics, logs, traces, tail, soak, hold, micro or background; or what to compare: promql-differential.
    area: String,
    /// Write the rows to this file as well.
    #[arg(long)]
    json: Option<PathBuf>,
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Of `metrics`, `hold`, `micro` and `background`: how many series are sent.
    #[arg(long, default_value_t = 500_000)]
    series: usize,
    /// Of `metrics` and `background`: how often all of them are sent; 240 are an hour.
    #[arg(long, default_value_t = 240)]
    scrapes: usize,
    /// Of `background`: how many scrapes come between two flushes; in an hour that is pushed in minutes these are many.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..))]
    scrapes_per_flush: u64,
    /// Of `metrics`: without the peers, for a profile.
    #[arg(long)]
    alone: bool,
    /// Of `hold` and `soak`: how long.
    #[arg(long, default_value_t = 10)]
    minutes: u32,
    /// Of `tail`: how long.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// The folder of shared data, for inputs that are not ours.
    #[arg(long)]
    shared: Option<PathBuf>,
    #[command(flatten)]
    events: events::Settings,
    #[command(flatten)]
    differential: differential::Comparison,
}

/// The read load with which VictoriaMetrics measures itself.
const RULES: &str = "metrics/prometheus-benchmark/chart/files/alerts.yaml";

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let _ = rustls::crypto::ring::default_provider().install_default();
    if arguments.area == "promql-differential" {
        return differential::run(&arguments.differential).await;
    }
    let (mut rows, mut outcome) = (Vec::new(), Ok(()));
    match arguments.area.as_str() {
        "smoke" => rows = smoke::run(arguments.rounds).await?,
        "metrics" => {
            let Arguments { series, scrapes, rounds, alone, .. } = arguments;
            let rules = arguments.shared.as_ref().map(|folder| folder.join(RULES)).filter(|path| path.exists());
            let kinds = if alone { vec![peer::Kind::Bellrock] } else { peer::Kind::all_installed() };
            outcome = metrics::run(&kinds, metrics::Size { series, scrapes, rounds }, rules.as_deref(), &mut rows).await;
        }
        "logs" => outcome = events::logs(&arguments.events, &mut rows).await,
        "traces" => outcome = events::traces(&arguments.events, &mut rows).await,
        "soak" => outcome = events::soak(arguments.minutes, &mut rows).await,
        "tail" => outcome = events::tail(arguments.seconds, &mut rows).await,
        "micro" => rows = micro::run(arguments.series, arguments.rounds)?,
        "background" => {
            let Arguments { series, scrapes, scrapes_per_flush, .. } = arguments;
            rows = background::run(series, scrapes, scrapes_per_flush as usize)?;
        }
        "hold" => rows = hold::run(arguments.series, arguments.minutes).await?,
        other => bail!(
            "no benchmark for {other:?}; there are smoke, metrics, logs, traces, tail, soak, hold, micro, background and promql-differential"
        ),
    }
    for row in &mut rows {
        row.area.clone_from(&arguments.area);
    }
    row::print(&rows);
    if let Some(path) = arguments.json {
        std::fs::write(path, serde_json::to_string_pretty(&rows)?)?;
    }
    outcome
}
