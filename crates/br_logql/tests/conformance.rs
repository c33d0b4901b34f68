//! Runs the conformance scripts: our own, and those of the shared data folder where it exists.

#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "tests read the real disk and show what they ran")]

use std::path::{Path, PathBuf};

fn scripts(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "logqltest"));
    paths.sort();
    paths
}

/// Passed and failed over all files.
fn run(folder: &Path) -> (usize, usize) {
    let (mut passed, mut failed) = (0, 0);
    for path in scripts(folder) {
        let report = br_logql::script::run(&std::fs::read_to_string(&path).expect("readable"));
        println!("{}: {} passed, {} failed", path.display(), report.passed, report.failures.len());
        for failure in &report.failures {
            println!("  line {}: {}", failure.line, failure.message);
        }
        passed += report.passed;
        failed += report.failures.len();
    }
    (passed, failed)
}

#[test]
fn own_scripts() {
    let (passed, failed) = run(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/logql"));
    assert!(passed > 20 && failed == 0, "{passed} passed, {failed} failed");
}

#[test]
fn shared_scripts() {
    let shared = std::env::var_os("BELLROCK_SHARED_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"), PathBuf::from);
    let folder = shared.join("events/logql");
    if !folder.is_dir() {
        println!("skipped: no shared data");
        return;
    }
    let (passed, failed) = run(&folder);
    assert!(passed >= FLOOR, "{passed} passed, {failed} failed; the floor is {FLOOR}");
}

/// How many evaluations of the shared scripts passed when this was last raised.
const FLOOR: usize = 300;
