//! `conform AREA [--shared DIR] [FILE…]`: runs the conformance files of one area. Exits with 1 when any expectation fails.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// An area, which files the shared data folder has of it, and what runs one.
struct Area {
    name: &'static str,
    files: fn(&Path) -> Vec<PathBuf>,
    run: fn(&Path) -> Outcome,
}

/// What came of one file.
#[derive(Default)]
struct Outcome {
    /// Expectations that hold.
    passed: usize,
    /// What failed, with its line.
    failures: Vec<String>,
    /// What else is to be said.
    note: String,
}

const AREAS: [Area; 8] = [
    Area {
        name: "promql",
        files: |shared| files_in(&shared.join("metrics/prometheus/promql/promqltest/testdata"), "test"),
        run: |file| of_text(file, promql),
    },
    Area { name: "exposition", files: br_script::exposition::files, run: exposition },
    Area { name: "promtool", files: br_script::promtool::files, run: promtool },
    Area { name: "logql", files: |shared| files_in(&shared.join("events/logql"), "logqltest"), run: |file| of_text(file, logql) },
    Area {
        name: "traceql",
        files: |shared| files_in(&shared.join("events/traceql"), "yaml"),
        run: |file| of_text(file, traceql),
    },
    Area { name: "traces", files: br_script::traces::files, run: traces },
    Area {
        name: "grouping",
        files: |shared| files_in(&shared.join("errors/grouping"), "json"),
        run: |file| of_text(file, grouping),
    },
    Area { name: "redaction", files: br_script::redaction::files, run: redaction },
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
            files.extend((area.files)(Path::new(&shared)));
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
        let Outcome { passed, failures, note } = (area.run)(file);
        for failure in &failures {
            say(&format!("{}:{failure}", file.display()));
        }
        let line = format!("{:<32} {passed:>5} passed {:>5} failed  {note}", shown(file), failures.len());
        say(line.trim_end());
        passed_in_all += passed;
        failed_in_all += failures.len();
    }
    say(&format!("{:<32} {passed_in_all:>5} passed {failed_in_all:>5} failed", area.name));
    if failed_in_all == 0 && !files.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The last part of a path; for the file of a case that has a folder of its own the folder's.
fn shown(file: &Path) -> String {
    let is_case = file.file_name().is_some_and(|name| name == "test.json");
    let named = if is_case { file.parent().unwrap_or(file) } else { file };
    named.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn of_text(file: &Path, run: fn(&Path, &str) -> (usize, Vec<String>)) -> Outcome {
    #[expect(clippy::disallowed_methods, reason = "scripts lie outside any data directory")]
    let text = std::fs::read(file);
    let (passed, failures) = match text {
        Ok(bytes) => run(file, &String::from_utf8_lossy(&bytes)),
        Err(error) => (0, vec![format!("cannot be read: {error}")]),
    };
    Outcome { passed, failures, note: String::new() }
}

fn exposition(file: &Path) -> Outcome {
    match br_script::exposition::run(file) {
        Ok(note) => Outcome { passed: 1, failures: Vec::new(), note },
        Err(failure) => Outcome { failures: vec![format!(" {failure}")], ..Outcome::default() },
    }
}

fn traces(file: &Path) -> Outcome {
    let checks = br_script::traces::run(file);
    Outcome { passed: checks.passed, failures: checks.failures, note: String::new() }
}

fn promtool(file: &Path) -> Outcome {
    let (passed, failures) = br_script::promtool::run(file);
    Outcome { passed, failures, note: String::new() }
}

fn redaction(file: &Path) -> Outcome {
    #[expect(clippy::disallowed_methods, reason = "labelled texts lie outside any data directory")]
    let text = std::fs::read(file);
    match text {
        Ok(bytes) => {
            let report = br_script::redaction::run(file, &String::from_utf8_lossy(&bytes));
            Outcome { passed: report.passed, failures: report.failures, note: report.note }
        }
        Err(error) => Outcome { failures: vec![format!(" cannot be read: {error}")], ..Outcome::default() },
    }
}

fn promql(file: &Path, text: &str) -> (usize, Vec<String>) {
    let report = br_script::promql::run_text(file, text);
    (report.passed, report.failures.iter().map(|failure| format!("{}: {}", failure.line, failure.reason)).collect())
}

fn logql(_: &Path, text: &str) -> (usize, Vec<String>) {
    let report = br_logql::script::run(text);
    (report.passed, report.failures.iter().map(|failure| format!("{}: {}", failure.line, failure.message)).collect())
}

/// Lists of queries to parse, and scripts of what they find.
fn traceql(path: &Path, text: &str) -> (usize, Vec<String>) {
    let is_evaluation = path.extension().is_some_and(|extension| extension == "traceqltest");
    let report = if is_evaluation { br_traceql::script::evaluate(text) } else { br_traceql::script::run(text) };
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
