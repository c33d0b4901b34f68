//! The project's own PromQL scripts, and those of the shared data folder where it is at hand.

use std::path::{Path, PathBuf};

fn folder(below_crate: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(below_crate)
}

#[test]
fn own_scripts_pass() {
    let scripts = br_script::promql::scripts_in(&folder("../../conformance/promql"));
    assert!(!scripts.is_empty());
    let report = br_script::promql::run(&scripts);
    assert_eq!(report.failed(), 0, "{report}");
}

/// What passed when this was last written; raise it, never lower it.
const SHARED_PASSES: usize = 1777;

#[test]
fn shared_scripts_pass() {
    let shared = std::env::var_os("BELLROCK_SHARED_DATA").map_or_else(|| folder("../../../shared/data"), PathBuf::from);
    let scripts = br_script::promql::scripts_in(&shared.join("metrics/prometheus/promql/promqltest/testdata"));
    if scripts.is_empty() {
        println!("skipped: no shared data");
        return;
    }
    let report = br_script::promql::run(&scripts);
    assert!(report.passed() >= SHARED_PASSES, "{report}");
}

#[test]
fn wrong_expectations_fail() {
    let script =
        "load 1m\n  up 1 2 3\n\neval instant at 2m up\n  up 4\n\neval instant at 2m up\n  up 3\n\neval instant at 2m up{\n";
    let report = br_script::promql::run_text(Path::new("inline"), script);
    assert_eq!(report.passed, 1);
    let lines: Vec<usize> = report.failures.iter().map(|failure| failure.line).collect();
    assert_eq!(lines, [4, 10]);
}
