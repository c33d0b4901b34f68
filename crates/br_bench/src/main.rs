//! Measures the binary against real peers: the same input, in one run, interleaved, medians of several rounds.
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a benchmark prints, and works on the real clock and disk")]

mod differential;
mod input;
mod peer;
mod row;
mod smoke;

use anyhow::{Result, bail};
use clap::Parser;
use std::path::PathBuf;

#[derive(Parser)]
struct Arguments {
    /// What to measure: smoke; or what to compare: promql-differential.
    area: String,
    /// Write the rows to this file as well.
    #[arg(long)]
    json: Option<PathBuf>,
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    #[command(flatten)]
    differential: differential::Comparison,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let _ = rustls::crypto::ring::default_provider().install_default();
    if arguments.area == "promql-differential" {
        return differential::run(&arguments.differential).await;
    }
    let rows = match arguments.area.as_str() {
        "smoke" => smoke::run(arguments.rounds).await?,
        other => bail!("no benchmark for {other:?}; there are smoke and promql-differential"),
    };
    row::print(&rows);
    if let Some(path) = arguments.json {
        std::fs::write(path, serde_json::to_string_pretty(&rows)?)?;
    }
    Ok(())
}
