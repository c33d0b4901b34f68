//! `conform AREA [--shared DIR] [FILE…]`: runs the conformance files of one area. Exits with 1 when any expectation fails.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Where the shared data folder keeps the scripts of PromQL.
const PROMQL_FOLDER: &str = "metrics/prometheus/promql/promqltest/testdata";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let area = arguments.next().unwrap_or_default();
    let mut files = Vec::new();
    while let Some(argument) = arguments.next() {
        if argument == "--shared" {
            let shared = arguments.next().unwrap_or_default();
            files.extend(br_script::promql::scripts_in(&Path::new(&shared).join(PROMQL_FOLDER)));
        } else {
            files.push(PathBuf::from(argument));
        }
    }
    if area == "promql" {
        return promql(&files);
    }
    say(&format!("no runner for {area:?}; there is promql"));
    ExitCode::from(2)
}

fn promql(files: &[PathBuf]) -> ExitCode {
    let report = br_script::promql::run(files);
    say(&report.to_string());
    if report.failed() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[expect(clippy::print_stdout, reason = "the report is what this program is for")]
fn say(text: &str) {
    println!("{text}");
}
