//! `conform AREA [--shared DIR] [FILE…]`: runs the conformance files of one area. Exits with 1 when any expectation fails.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// An area, where the shared data folder keeps its files, how these end, and what runs one.
struct Area {
    name: &'static str,
    folder: &'static str,
    extension: &'static str,
    /// Passed expectations, and what failed with its line.
    run: fn(&Path, &str) -> (usize, Vec<String>),
}

const AREAS: [Area; 4] = [
    Area { name: "promql", folder: "metrics/prometheus/promql/promqltest/testdata", extension: "test", run: promql },
    Area { name: "logql", folder: "events/logql", extension: "logqltest", run: logql },
    Area { name: "traceql", folder: "events/traceql", extension: "yaml", run: traceql },
    Area { name: "grouping", folder: "errors/grouping", extension: "json", run: grouping },
];

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_default();
    let Some(area) = AREAS.iter().find(|area| area.name == name) else {
        say(&format!("no runner for {name:?}; there are {}", AREAS.map(|area| area.name).join(", ")));
        return ExitCode::from(2);
    };
    let mut files = Vec::new();
    while let Some(argument) = arguments.next() {
        if argument == "--shared" {
            let shared = arguments.next().unwrap_or_default();
            files.extend(files_in(&Path::new(&shared).join(area.folder), area.extension));
        } else {
            files.push(PathBuf::from(argument));
        }
    }
    run(area, &files)
}

/// The files that end as the area's do, sorted.
fn files_in(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let Ok(entries) = folder.read_dir() else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|found| found == extension));
    files.sort();
    files
}

fn run(area: &Area, files: &[PathBuf]) -> ExitCode {
    let (mut passed_in_all, mut failed_in_all) = (0, 0);
    for file in files {
        #[expect(clippy::disallowed_methods, reason = "scripts lie outside any data directory")]
        let text = std::fs::read(file);
        let (passed, failures) = match text {
            Ok(bytes) => (area.run)(file, &String::from_utf8_lossy(&bytes)),
            Err(error) => (0, vec![format!("cannot be read: {error}")]),
        };
        for failure in &failures {
            say(&format!("{}:{failure}", file.display()));
        }
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        say(&format!("{name:<32} {passed:>5} passed {:>5} failed", failures.len()));
        passed_in_all += passed;
        failed_in_all += failures.len();
    }
    say(&format!("{:<32} {passed_in_all:>5} passed {failed_in_all:>5} failed", area.name));
    if failed_in_all == 0 && !files.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn promql(file: &Path, text: &str) -> (usize, Vec<String>) {
    let report = br_script::promql::run_text(file, text);
    (report.passed, report.failures.iter().map(|failure| format!("{}: {}", failure.line, failure.reason)).collect())
}

fn logql(_: &Path, text: &str) -> (usize, Vec<String>) {
    let report = br_logql::script::run(text);
    (report.passed, report.failures.iter().map(|failure| format!("{}: {}", failure.line, failure.message)).collect())
}

fn traceql(_: &Path, text: &str) -> (usize, Vec<String>) {
    let report = br_traceql::script::run(text);
    (report.passed, report.failures.iter().map(|failure| format!("{}: {}", failure.line, failure.message)).collect())
}

fn grouping(_: &Path, text: &str) -> (usize, Vec<String>) {
    let report = br_script::grouping::run(text);
    (report.passed, report.failures)
}

#[expect(clippy::print_stdout, reason = "the report is what this program is for")]
fn say(text: &str) {
    println!("{text}");
}
