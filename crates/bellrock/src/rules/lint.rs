//! `bellrock rules lint`.

use crate::ask::table::{Format, Rows};
use anyhow::Result;
use br_promrules::{files, lint as check};
use br_rules::{Complaint, NameValidation, ParseOptions, Severity};
use serde_json::{Value, json};
use std::io::Read;
use std::path::{Path, PathBuf};

#[derive(clap::Args, Debug)]
pub(crate) struct LintArguments {
    /// Rule files; without any, or as `-`, standard input.
    files: Vec<PathBuf>,
    /// What to look for besides mistakes.
    #[arg(long, value_enum, default_value = "duplicate-rules", value_delimiter = ',')]
    lint: Vec<Kind>,
    /// Exit with 3 when there is nothing worse than what --lint looks for.
    #[arg(long)]
    lint_fatal: bool,
    /// Skip fields that rule files do not have. A server refuses them.
    #[arg(long)]
    ignore_unknown_fields: bool,
    /// Which names metrics, labels and annotations may have.
    #[arg(long, value_enum, default_value_t)]
    name_validation: Names,
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    All,
    /// The same rule twice in one file.
    DuplicateRules,
    None,
}

#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum Names {
    #[default]
    Utf8,
    Legacy,
}

/// Only lint, and it was asked to be fatal: promtool's code for it.
const EXIT_LINT: i32 = 3;

/// What was found in one file.
struct Found {
    name: String,
    rules: usize,
    groups: usize,
    /// With no place for a file that cannot be read.
    complaints: Vec<(Option<Complaint>, String)>,
}

pub(super) fn lint(arguments: &LintArguments) -> Result<i32> {
    let looks_for_twins = !arguments.lint.contains(&Kind::None);
    let inputs = if arguments.files.is_empty() { vec![PathBuf::from("-")] } else { arguments.files.clone() };
    let all: Vec<Found> = inputs.iter().map(|path| look(path, arguments, looks_for_twins)).collect();
    if arguments.output == Format::Table {
        tell(&all);
    } else {
        rows(&all).print(arguments.output)?;
    }
    let has = |severity: Option<Severity>| {
        let mut complaints = all.iter().flat_map(|found| &found.complaints);
        complaints.any(|(complaint, _)| complaint.as_ref().map(|complaint| complaint.severity) == severity)
    };
    if has(None) || has(Some(Severity::Error)) {
        return Ok(1);
    }
    Ok(if arguments.lint_fatal && has(Some(Severity::Duplicate)) { EXIT_LINT } else { 0 })
}

fn look(path: &Path, arguments: &LintArguments, looks_for_twins: bool) -> Found {
    let is_stdin = path.as_os_str() == "-";
    let name = if is_stdin { "<stdin>".to_owned() } else { path.display().to_string() };
    let text = if is_stdin { stdin() } else { files::read(path) };
    let text = match text {
        Ok(text) => text,
        Err(error) => return Found { name, rules: 0, groups: 0, complaints: vec![(None, error)] },
    };
    let name_validation = match arguments.name_validation {
        Names::Utf8 => NameValidation::Utf8,
        Names::Legacy => NameValidation::Legacy,
    };
    let options = ParseOptions { name_validation, ignore_unknown_fields: arguments.ignore_unknown_fields };
    let lint = check::lint(&name, &text, options);
    let (rules, groups) = (lint.rules(), lint.file.groups.len());
    let kept = lint.complaints.into_iter().filter(|complaint| looks_for_twins || complaint.severity != Severity::Duplicate);
    let complaints = kept.map(|complaint| (Some(complaint.clone()), format!("{name}:{complaint}"))).collect();
    Found { name, rules, groups, complaints }
}

fn stdin() -> std::result::Result<String, String> {
    let mut text = String::new();
    let limit = br_rules::parse::FILE_BYTES_MAX as u64 + 1;
    std::io::stdin().take(limit).read_to_string(&mut text).map(|_| text).map_err(|error| format!("<stdin>: {error}"))
}

fn tell(all: &[Found]) {
    for found in all {
        for (_, line) in &found.complaints {
            eprintln!("{line}");
        }
        let is_wrong = |(complaint, _): &&(Option<Complaint>, String)| {
            complaint.as_ref().is_none_or(|complaint| complaint.severity == Severity::Error)
        };
        match found.complaints.iter().filter(is_wrong).count() {
            0 => println!("{}: good, {} rules in {} groups", found.name, found.rules, found.groups),
            errors => println!("{}: bad, {errors} errors", found.name),
        }
    }
}

/// One for each complaint; none for what is good.
fn rows(all: &[Found]) -> Rows {
    let mut rows = Rows::new(&["file", "line", "column", "severity", "message"]);
    for found in all {
        for (complaint, line) in &found.complaints {
            let row = match complaint {
                None => vec![json!(found.name), Value::Null, Value::Null, json!("error"), json!(line)],
                Some(Complaint { position, severity, message }) => {
                    let severity = match severity {
                        Severity::Error => "error",
                        Severity::Warning => "warning",
                        Severity::Duplicate => "duplicate",
                    };
                    vec![json!(found.name), json!(position.line), json!(position.column), json!(severity), json!(message)]
                }
            };
            rows.rows.push(row);
        }
    }
    rows
}
