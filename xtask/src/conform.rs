//! Conformance files and benchmarks: run by their own programs, which link the engines.

use crate::{e2e, shell};
use anyhow::{Result, bail};
use std::path::{Path, PathBuf};

/// The areas that have a runner.
const AREAS: [&str; 8] = ["promql", "exposition", "promtool", "logql", "traceql", "traces", "grouping", "redaction"];

/// The area that compares answers with those of the real Prometheus.
pub const DIFFERENTIAL: &str = "promql-differential";
/// Queries of [`DIFFERENTIAL`] among all tests; by itself it asks ten times as many.
const QUERIES_IN_TEST: u64 = 1000;

/// Runs the files of one area, by default those of the shared data folder.
pub fn run(area: &str, files: &[PathBuf]) -> Result<()> {
    if !AREAS.contains(&area) {
        bail!("no runner for {area:?}; there are {}, {DIFFERENTIAL}", AREAS.join(", "));
    }
    let mut arguments = vec![area];
    let shared = shell::shared_data();
    if files.is_empty() {
        let Some(shared) = &shared else {
            shell::skip(&format!("conform {area}: the shared data folder is absent"));
            return Ok(());
        };
        arguments.extend(["--shared", shared.to_str().unwrap_or_default()]);
    }
    let files: Vec<String> = files.iter().map(|file| absolute(file).display().to_string()).collect();
    arguments.extend(files.iter().map(String::as_str));
    // As `cargo test --workspace` builds it: alone it would be built with other features, and the engines with it.
    shell::cargo(&["build", "--quiet", "--workspace", "--all-targets"])?;
    shell::run(shell::target().join("debug/conform"), &arguments)
}

/// Asks random queries of Debian's `prometheus` and of the binary; says so when there is none.
pub fn differential(count: u64, seed: u64, case: Option<u64>) -> Result<()> {
    if !shell::has("prometheus") {
        shell::skip(&format!("conform {DIFFERENTIAL}: prometheus is not installed"));
        return Ok(());
    }
    // As `cargo test --workspace` builds it, so that nothing is built twice.
    shell::cargo(&["build", "--quiet", "--workspace", "--all-targets"])?;
    let (count, seed, case) = (count.to_string(), seed.to_string(), case.map(|case| case.to_string()));
    let mut arguments = vec![DIFFERENTIAL, "--count", &count, "--seed", &seed];
    arguments.extend(case.iter().flat_map(|case| ["--case", case]));
    shell::run(shell::target().join("debug/br_bench"), &arguments)
}

/// Who asks for one area by name is not told that all is well when nothing was run.
pub fn check_run() -> Result<()> {
    let skipped = shell::skipped();
    if !skipped.is_empty() {
        bail!("nothing was run: {}", skipped.join("; "));
    }
    Ok(())
}

fn absolute(path: &Path) -> PathBuf {
    std::env::current_dir().unwrap_or_default().join(path)
}

pub fn all() -> Result<()> {
    for area in AREAS {
        shell::heading(&format!("conform {area}"));
        run(area, &[])?;
    }
    shell::heading(&format!("conform {DIFFERENTIAL}"));
    differential(QUERIES_IN_TEST, 1, None)
}

/// How much is measured, where it is not the default.
#[derive(clap::Args)]
pub struct Size {
    /// Of `logs`: how much OTLP is sent, in GB; by default 0.5.
    #[arg(long)]
    gb: Option<f64>,
    /// Of `traces`: how many, of ten spans each; by default 100,000.
    #[arg(long)]
    traces: Option<u64>,
    /// Of `hold` and `soak`: how long; by default ten.
    #[arg(long)]
    minutes: Option<u32>,
    /// Of `tail`: how long; by default 60.
    #[arg(long)]
    seconds: Option<u64>,
}

impl Size {
    fn arguments(&self) -> Vec<String> {
        let all = [
            self.gb.map(|gb| format!("--gb={gb}")),
            self.traces.map(|traces| format!("--traces={traces}")),
            self.minutes.map(|minutes| format!("--minutes={minutes}")),
            self.seconds.map(|seconds| format!("--seconds={seconds}")),
        ];
        all.into_iter().flatten().collect()
    }
}

/// Areas whose peers are Python packages.
const WITH_PYTHON: [&str; 2] = ["logs", "traces"];

/// Measures one area; the bench program builds in release.
pub fn bench(area: &str, json: Option<&Path>, size: &Size) -> Result<()> {
    // The steps of the engine are measured without the server.
    if area != "micro" {
        shell::cargo(&["build", "--release", "--package", "bellrock"])?;
    }
    let mut arguments = vec!["run", "--quiet", "--release", "--package", "br_bench", "--", area];
    let shared = shell::shared_data().map(|folder| folder.display().to_string());
    if let Some(shared) = &shared {
        arguments.extend(["--shared", shared]);
    }
    let json = json.map(|path| absolute(path).display().to_string());
    if let Some(json) = &json {
        arguments.extend(["--json", json]);
    }
    let mut more = size.arguments();
    if WITH_PYTHON.contains(&area) {
        match e2e::environment("bench-venv", "crates/br_bench/src/events/requirements.txt") {
            Ok(python) => more.push(format!("--python={}", python.display())),
            Err(error) => println!("measured without the peers that are Python packages: {error:#}"),
        }
    }
    arguments.extend(more.iter().map(String::as_str));
    shell::cargo(&arguments)
}
