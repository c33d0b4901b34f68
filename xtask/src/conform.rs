//! Conformance files and benchmarks: run by their own programs, which link the engines.

use crate::shell;
use anyhow::{Result, bail};
use std::path::{Path, PathBuf};

/// The areas that have a runner.
const AREAS: [&str; 6] = ["promql", "exposition", "promtool", "logql", "traceql", "grouping"];

/// Runs the files of one area, by default those of the shared data folder.
pub fn run(area: &str, files: &[PathBuf]) -> Result<()> {
    if !AREAS.contains(&area) {
        bail!("no runner for {area:?}; there are {}", AREAS.join(", "));
    }
    let mut arguments = vec!["run", "--quiet", "--package", "br_script", "--bin", "conform", "--", area];
    let shared = shell::shared_data();
    if files.is_empty() {
        let Some(shared) = &shared else {
            println!("{area}: skipped, the shared data folder is absent");
            return Ok(());
        };
        arguments.extend(["--shared", shared.to_str().unwrap_or_default()]);
    }
    let files: Vec<String> = files.iter().map(|file| absolute(file).display().to_string()).collect();
    arguments.extend(files.iter().map(String::as_str));
    shell::cargo(&arguments)
}

fn absolute(path: &Path) -> PathBuf {
    std::env::current_dir().unwrap_or_default().join(path)
}

pub fn all() -> Result<()> {
    for area in AREAS {
        shell::heading(&format!("conform {area}"));
        run(area, &[])?;
    }
    Ok(())
}

/// Measures one area; the bench program builds in release.
pub fn bench(area: &str, json: Option<&Path>) -> Result<()> {
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
    shell::cargo(&arguments)
}
