//! Fuzzing: random bytes against every decoder, parser and file format, under a sanitizer.
//!
//! The programs belong to the workspace, so each `cargo clippy` and `cargo build` of it sees that they still compile, and the tests
//! give them the inputs that earlier runs found worth keeping.

use crate::shell;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Wall-clock time of one run of a target; how much of the CPU it got is looked at between two.
const SLICE_SECONDS: f64 = 60.0;
/// Longer inputs find nothing new, and slow each run down.
const INPUT_BYTES_MAX: &str = "-max_len=4096";

struct Outcome {
    target: String,
    cpu_seconds: f64,
    inputs: u64,
    kept: usize,
}

/// Builds the targets with nightly's sanitizer and lets each use `cpu_minutes`.
pub fn run(targets: &[String], cpu_minutes: f64) -> Result<()> {
    let all = self::targets()?;
    if let Some(unknown) = targets.iter().find(|target| !all.contains(target)) {
        bail!("no fuzz target {unknown:?}; there are {}", all.join(", "));
    }
    let chosen = if targets.is_empty() { &all } else { targets };
    let built = build()?;
    let mut outcomes = Vec::new();
    for target in chosen {
        outcomes.push(run_target(target, &built, cpu_minutes * 60.0)?);
    }
    println!("\n{:<24} {:>8} {:>12} {:>8}", "target", "CPU-s", "inputs", "kept");
    for Outcome { target, cpu_seconds, inputs, kept } in outcomes {
        println!("{target:<24} {cpu_seconds:>8.0} {inputs:>12} {kept:>8}");
    }
    Ok(())
}

/// Gives each target, as the workspace's build made it, the inputs that are kept.
pub fn replay() -> Result<()> {
    shell::cargo(&["build", "--quiet", "--workspace", "--all-targets"])?;
    for target in targets()? {
        let corpus = corpus(&target);
        if corpus.is_dir() {
            let program = shell::target().join("debug").join(&target);
            fuzz(&program, &["-runs=0".as_ref(), corpus.as_ref()])?;
            println!("{target}: {} inputs", count(&corpus)?);
        }
    }
    Ok(())
}

fn targets() -> Result<Vec<String>> {
    let folder = shell::root().join("fuzz/fuzz_targets");
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .with_context(|| folder.display().to_string())?
        .filter_map(|entry| entry.ok()?.path().file_stem()?.to_str().map(str::to_owned))
        .collect();
    names.sort();
    Ok(names)
}

fn corpus(target: &str) -> PathBuf {
    shell::root().join("fuzz/corpus").join(target)
}

fn count(folder: &Path) -> Result<usize> {
    Ok(std::fs::read_dir(folder)?.count())
}

/// The folder of the built programs.
fn build() -> Result<PathBuf> {
    let target = shell::target().join("fuzz");
    let status = Command::new("cargo")
        .args(["fuzz", "build", "--target-dir"])
        .arg(&target)
        .current_dir(shell::root())
        // `cargo xtask` itself runs under a toolchain that says so to its children.
        .env("RUSTUP_TOOLCHAIN", "nightly")
        .env_remove("CARGO")
        .env_remove("RUSTC")
        .status()
        .context("cannot start cargo")?;
    if !status.success() {
        bail!("the targets need a nightly toolchain and `cargo install cargo-fuzz`");
    }
    let host = shell::output("rustc", &["-vV"])?;
    let host = host.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc does not say for what it builds")?;
    Ok(target.join(host).join("release"))
}

fn run_target(target: &str, built: &Path, cpu_seconds_wanted: f64) -> Result<Outcome> {
    let (corpus, found, artifacts) = (corpus(target), built.join("found").join(target), built.join("artifacts/"));
    for folder in [&corpus, &found, &artifacts] {
        std::fs::create_dir_all(folder)?;
    }
    let artifact_prefix = format!("-artifact_prefix={}{target}-", artifacts.display());
    let program = built.join(target);
    let (mut cpu_seconds, mut inputs) = (0.0, 0);
    while cpu_seconds < cpu_seconds_wanted {
        let slice = format!("-max_total_time={:.0}", SLICE_SECONDS.min(cpu_seconds_wanted - cpu_seconds).ceil());
        let before = children_cpu_seconds()?;
        let arguments = [INPUT_BYTES_MAX, "-timeout=20", "-rss_limit_mb=3000", "-print_final_stats=1", &slice, &artifact_prefix];
        let mut arguments: Vec<&std::ffi::OsStr> = arguments.iter().map(AsRef::as_ref).collect();
        arguments.extend([found.as_os_str(), corpus.as_os_str()]);
        let told = fuzz(&program, &arguments)?;
        cpu_seconds += children_cpu_seconds()? - before;
        inputs +=
            told.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:")?.trim().parse().ok()).unwrap_or(0);
        println!("{target}: {cpu_seconds:.0} CPU-seconds, {inputs} inputs");
    }
    // Of what this run and earlier ones found, the least that reaches as much.
    let merged = built.join("merged").join(target);
    let _ = std::fs::remove_dir_all(&merged);
    std::fs::create_dir_all(&merged)?;
    fuzz(&program, &[INPUT_BYTES_MAX.as_ref(), "-merge=1".as_ref(), merged.as_ref(), corpus.as_ref(), found.as_ref()])?;
    std::fs::remove_dir_all(&corpus)?;
    std::fs::create_dir_all(&corpus)?;
    for entry in std::fs::read_dir(&merged)? {
        let path = entry?.path();
        std::fs::copy(&path, corpus.join(path.file_name().unwrap_or_default()))?;
    }
    Ok(Outcome { target: target.to_owned(), cpu_seconds, inputs, kept: count(&corpus)? })
}

/// Runs a fuzzing program quietly; when it ends badly, tells what it said.
fn fuzz(program: &Path, arguments: &[&std::ffi::OsStr]) -> Result<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot start {}", program.display()))?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() {
        bail!("{} found something: {}\n{told}", program.display(), output.status);
    }
    Ok(told)
}

/// CPU time of all programs that this one has started and that have ended.
fn children_cpu_seconds() -> Result<f64> {
    // proc(5): the name stands in parentheses, and the 16th and 17th field are in hundredths of a second on every Linux.
    let stat = std::fs::read_to_string("/proc/self/stat").context("CPU time is only counted on Linux")?;
    let fields = stat.rsplit_once(')').context("no name in /proc/self/stat")?.1;
    let mut fields = fields.split_whitespace().skip(13).map(|field| field.parse::<f64>().unwrap_or_default());
    Ok((fields.next().unwrap_or_default() + fields.next().unwrap_or_default()) / 100.0)
}
