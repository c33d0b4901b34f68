//! Running programs and finding folders.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

/// The root of the repository.
pub fn root() -> PathBuf {
    // As cargo says now, before what it said at compile time: a target folder may be shared by two checkouts.
    let package = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    package.parent().map(Path::to_path_buf).unwrap_or_default()
}

/// The folder with conformance inputs, beside the checkout or where `BELLROCK_SHARED_DATA` says.
pub fn shared_data() -> Option<PathBuf> {
    let folder = std::env::var_os("BELLROCK_SHARED_DATA").map_or_else(|| root().join("../shared/data"), PathBuf::from);
    folder.is_dir().then_some(folder)
}

/// Where cargo puts what it builds.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Runs a program in the root, showing what it prints; fails when it fails.
pub fn run(program: impl AsRef<Path>, arguments: &[&str]) -> Result<()> {
    run_in(&root(), program, arguments, &[])
}

/// The same in another folder and with more environment.
pub fn run_in(folder: &Path, program: impl AsRef<Path>, arguments: &[&str], environment: &[(&str, &Path)]) -> Result<()> {
    let program = program.as_ref();
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder).envs(environment.iter().copied());
    let status = command.status().with_context(|| format!("cannot start {}", program.display()))?;
    if !status.success() {
        bail!("`{} {}` failed: {status}", program.display(), arguments.join(" "));
    }
    Ok(())
}

pub fn cargo(arguments: &[&str]) -> Result<()> {
    run(std::env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from), arguments)
}

/// What a program prints.
pub fn output(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).current_dir(root()).stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("cannot start {program}"))?;
    if !output.status.success() {
        bail!("`{program} {}` failed: {}", arguments.join(" "), output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether a program can be started by name.
pub fn has(program: &str) -> bool {
    Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Where on the search path a program is.
pub fn path_of(program: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders).map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// The files that git knows, or would add.
pub fn tracked_files() -> Result<Vec<String>> {
    let listing = output("git", &["ls-files", "--cached", "--others", "--exclude-standard"])?;
    Ok(listing.lines().map(str::to_owned).filter(|path| root().join(path).is_file()).collect())
}

static SKIPPED: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Says that something was not run, and why, now and at the end.
pub fn skip(what: &str) {
    println!("skipped: {what}");
    SKIPPED.lock().unwrap_or_else(PoisonError::into_inner).push(what.to_owned());
}

/// What was not run.
pub fn skipped() -> Vec<String> {
    SKIPPED.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

pub fn heading(text: &str) {
    println!("\n== {text}");
}
