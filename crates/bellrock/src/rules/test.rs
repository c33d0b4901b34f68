//! `bellrock rules test`.

use super::junit;
use crate::ask::WrongUsage;
use crate::ask::table::{Format, Rows};
use anyhow::{Context, Result};
use br_env::Clock;
use br_env::real::SystemClock;
use br_promrules::files;
use br_promrules::unit::{self, Failure, FileReport, Options, TestReport};
use br_std::re2::{Mode, Regex};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

#[derive(clap::Args, Debug)]
pub(crate) struct TestArguments {
    /// Files of unit tests.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Only tests whose name matches this regular expression; may be given several times.
    #[arg(long)]
    run: Vec<String>,
    /// Show what differs line by line.
    #[arg(long)]
    diff: bool,
    /// Show all series of each test, those of the rules among them.
    #[arg(long)]
    debug: bool,
    /// Skip fields that rule files do not have. A server refuses them.
    #[arg(long)]
    ignore_unknown_fields: bool,
    /// Write the outcome to this file as JUnit XML.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

pub(super) fn test(arguments: &TestArguments) -> Result<i32> {
    let names = arguments.run.join("|");
    let names = (!names.is_empty()).then(|| Regex::new(&names, Mode::Part)).transpose();
    let names = names.map_err(|error| WrongUsage::new(format!("--run: {error}")))?;
    let options =
        Options { names: names.as_ref(), ignore_unknown_fields: arguments.ignore_unknown_fields, dump: arguments.debug };
    let mut reports = Vec::new();
    for path in &arguments.files {
        let outcome = files::read(path).map(|text| unit::run(&text, path.parent().unwrap_or(Path::new("")), options));
        if arguments.output == Format::Table {
            tell(path, &outcome, arguments);
        }
        reports.push((path.display().to_string(), outcome));
    }
    if arguments.output != Format::Table {
        rows(&reports).print(arguments.output)?;
    }
    if let Some(path) = &arguments.junit {
        let text = junit::render(&reports, SystemClock::new().now());
        #[expect(clippy::disallowed_methods, reason = "a report for the caller's own tools, outside the data directory")]
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let have_passed = reports.iter().all(|(_, outcome)| outcome.as_ref().is_ok_and(FileReport::has_passed));
    Ok(i32::from(!have_passed))
}

/// For a person: what failed on stderr, one line for each file on stdout.
fn tell(path: &Path, outcome: &Result<FileReport, String>, arguments: &TestArguments) {
    let name = path.display();
    let report = match outcome {
        Ok(report) => report,
        Err(error) => {
            eprintln!("{error}");
            println!("{name}: cannot be read");
            return;
        }
    };
    for warning in &report.warnings {
        eprintln!("{name}: warning: {warning}");
    }
    for complaint in &report.complaints {
        eprintln!("{name}:{complaint}");
    }
    for test in &report.tests {
        for line in &test.dump {
            eprintln!("{name}:{}: {}: {line}", test.position.line, test.name);
        }
        for failure in &test.failures {
            eprintln!("{name}:{}: {}: {}", failure.position.line, test.name, lines(failure, arguments.diff).join("\n    "));
        }
    }
    let failed = report.tests.iter().filter(|test| !test.failures.is_empty()).count();
    if report.complaints.is_empty() {
        println!("{name}: {} passed, {failed} failed", report.tests.len() - failed);
    } else {
        println!("{name}: bad, {} errors", report.complaints.len());
    }
}

/// A failure with what was expected and what was found below it.
pub(super) fn lines(failure: &Failure, as_diff: bool) -> Vec<String> {
    let mut lines = vec![failure.message.clone()];
    let Some((expected, found)) = &failure.difference else { return lines };
    if as_diff {
        lines.extend(diff(expected, found));
        return lines;
    }
    for (head, body) in [("expected", expected), ("found", found)] {
        if body.is_empty() {
            lines.push(format!("{head} nothing"));
        } else {
            lines.push(head.to_owned());
            lines.extend(body.iter().map(|line| format!("  {line}")));
        }
    }
    lines
}

/// Longer texts are shown one after the other: the table below would have more cells than anybody reads lines.
const DIFF_LINES_MAX: usize = 2_000;

/// The longest common run of lines stays; `-` was expected only, `+` was found only.
fn diff(expected: &[String], found: &[String]) -> Vec<String> {
    let (rows, columns) = (expected.len(), found.len());
    let is_long = rows > DIFF_LINES_MAX || columns > DIFF_LINES_MAX;
    let mut common = vec![vec![0u32; columns + 1]; if is_long { 0 } else { rows + 1 }];
    for row in (0..rows).rev().filter(|_| !is_long) {
        for column in (0..columns).rev() {
            common[row][column] = if expected[row] == found[column] {
                common[row + 1][column + 1] + 1
            } else {
                common[row + 1][column].max(common[row][column + 1])
            };
        }
    }
    let (mut row, mut column) = (0, 0);
    let mut lines = Vec::new();
    while row < rows || column < columns {
        if row < rows && column < columns && expected[row] == found[column] {
            lines.push(format!("  {}", expected[row]));
            (row, column) = (row + 1, column + 1);
        } else if row < rows && (column == columns || is_long || common[row + 1][column] >= common[row][column + 1]) {
            lines.push(format!("- {}", expected[row]));
            row += 1;
        } else {
            lines.push(format!("+ {}", found[column]));
            column += 1;
        }
    }
    lines
}

/// One for each test, and one for each file that cannot be used.
fn rows(reports: &[(String, Result<FileReport, String>)]) -> Rows {
    let mut rows = Rows::new(&["file", "line", "test", "status", "failures"]);
    for (name, outcome) in reports {
        let report = match outcome {
            Ok(report) => report,
            Err(error) => {
                let failures = json!([{ "line": null, "message": error }]);
                rows.rows.push(vec![json!(name), Value::Null, Value::Null, json!("failed"), failures]);
                continue;
            }
        };
        if !report.complaints.is_empty() {
            let failure =
                |complaint: &br_rules::Complaint| json!({ "line": complaint.position.line, "message": complaint.message });
            let failures: Vec<Value> = report.complaints.iter().map(failure).collect();
            rows.rows.push(vec![json!(name), Value::Null, Value::Null, json!("failed"), json!(failures)]);
        }
        rows.rows.extend(report.tests.iter().map(|test| row(name, test)));
    }
    rows
}

fn row(name: &str, test: &TestReport) -> Vec<Value> {
    let status = if test.failures.is_empty() { "passed" } else { "failed" };
    let failures = test.failures.iter().map(|failure| {
        let mut object = json!({ "line": failure.position.line, "message": failure.message });
        if let Some((expected, found)) = &failure.difference {
            object["expected"] = json!(expected);
            object["found"] = json!(found);
        }
        object
    });
    vec![json!(name), json!(test.position.line), json!(test.name), json!(status), json!(failures.collect::<Vec<Value>>())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_line_by_line() {
        let check = |expected: &[&str], found: &[&str], lines: &[&str]| {
            let owned = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<String>>();
            assert_eq!(diff(&owned(expected), &owned(found)), owned(lines));
        };
        check(&["a", "b", "c"], &["a", "c", "d"], &["  a", "- b", "  c", "+ d"]);
        check(&[], &["a"], &["+ a"]);
        check(&["a"], &["b"], &["- a", "+ b"]);
    }
}
