//! The one entry for people and CI.
//!
//! It depends on none of the house's crates, so that it builds in seconds; what needs them runs as its own program.
#![allow(clippy::disallowed_methods, reason = "a tool for the developer's machine works on the real disk and clock")]

mod check;
mod conform;
mod e2e;
mod fuzz;
mod layers;
mod licences;
mod shell;
mod test;
mod tidy;
mod ui;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Everything a contributor or CI runs")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Format, lints, layers, tidy, licences: what must pass at every commit.
    Check,
    /// Who may import whom (layers.toml).
    Layers,
    /// Lengths of functions and files, pages that must exist, words that must not.
    Tidy {
        /// Lower the recorded lengths to what the code has now.
        #[arg(long)]
        ratchet: bool,
    },
    /// Licences and bans of the dependencies (deny.toml).
    Deny,
    /// All tests: Rust, conformance, stock Python clients, the pages in a browser.
    Test {
        /// Only these steps.
        #[arg(long, value_enum)]
        only: Vec<test::Step>,
    },
    /// Conformance files of an area, by default those of the shared data folder.
    Conform {
        area: String,
        files: Vec<PathBuf>,
        /// Of promql-differential: how many queries to compare with Prometheus'.
        #[arg(long, default_value_t = 10_000)]
        count: u64,
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Only this one of the seed's queries.
        #[arg(long)]
        case: Option<u64>,
    },
    /// Measure against real peers.
    Bench {
        area: String,
        #[arg(long)]
        json: Option<PathBuf>,
        #[command(flatten)]
        size: conform::Size,
    },
    /// Random bytes against decoders, parsers and file formats, under a sanitizer; needs nightly and cargo-fuzz.
    Fuzz {
        /// Only these targets.
        targets: Vec<String>,
        /// How much of a core each may use.
        #[arg(long, default_value_t = 20.0)]
        cpu_minutes: f64,
    },
    /// Build the pages into ui/dist.
    Ui,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    match Arguments::parse().verb {
        Verb::Check => check::run(),
        Verb::Layers => layers::run(),
        Verb::Tidy { ratchet } => tidy::run(ratchet),
        Verb::Deny => licences::run(),
        Verb::Test { only } => test::run(&only),
        Verb::Conform { area, count, seed, case, .. } if area == conform::DIFFERENTIAL => {
            conform::differential(count, seed, case).and_then(|()| conform::check_run())
        }
        Verb::Conform { area, files, .. } => conform::run(&area, &files).and_then(|()| conform::check_run()),
        Verb::Bench { area, json, size } => conform::bench(&area, json.as_deref(), &size),
        Verb::Fuzz { targets, cpu_minutes } => fuzz::run(&targets, cpu_minutes),
        Verb::Ui => ui::build(),
    }
}
