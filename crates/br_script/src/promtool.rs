//! Rule files and unit tests of rules, held against promtool's verdicts.
//!
//! Where the verdict comes from, first to last: what Prometheus' own Go tests say of a file and its flags ([`KNOWN`]); a word
//! such as `bad` or `good` in the file's name; promtool itself, when it is installed and knows all that the file uses; and
//! else the file is right.

use br_promrules::{files, lint, unit};
use br_rules::yaml::{self, NodeKind};
use br_rules::{NameValidation, ParseOptions, Severity};
use br_std::re2::{Mode, Regex};
use std::path::{Path, PathBuf};
use std::process::Command;

/// How a file is checked.
#[derive(Clone, Copy, Debug, Default)]
struct Flags {
    /// Only tests with these in their names (`--run`).
    names: Option<&'static str>,
    ignore_unknown_fields: bool,
    legacy_names: bool,
    /// Rules that stand twice fail the file (`--lint-fatal`).
    lint_fatal: bool,
}

const PLAIN: Flags = Flags { names: None, ignore_unknown_fields: false, legacy_names: false, lint_fatal: false };
const UNKNOWN_FIELDS: Flags = Flags { ignore_unknown_fields: true, ..PLAIN };
const LEGACY: Flags = Flags { legacy_names: true, ..PLAIN };
const LINT: Flags = Flags { lint_fatal: true, ..PLAIN };

const fn named(names: &'static str) -> Flags {
    Flags { names: Some(names), ..PLAIN }
}

/// What `cmd/promtool/main_test.go`, `unittest_test.go` and `model/rulefmt/rulefmt_test.go` say: file, flags, whether it passes.
const KNOWN: [(&str, Flags, bool); 23] = [
    ("rules_run.yml", PLAIN, false),
    ("rules_run.yml", named("correct|wrong"), false),
    ("rules_run.yml", named("correct"), true),
    ("rules_run.yml", named("wrong"), false),
    ("rules_run_extrafields.yml", PLAIN, false),
    ("rules_run_extrafields.yml", UNKNOWN_FIELDS, true),
    ("rules_extrafields.yml", PLAIN, false),
    ("rules_extrafields.yml", UNKNOWN_FIELDS, true),
    ("invalid_rules.yaml", PLAIN, false),
    ("invalid_rules.yaml", UNKNOWN_FIELDS, true),
    ("rules_run_no_fuzzy.yml", PLAIN, false),
    ("rules_run_fuzzy.yml", PLAIN, false),
    ("rules_run_fuzzy.yml", named("correct"), true),
    ("rules_run_fuzzy.yml", named("wrong"), false),
    // What is wrong with these comes out only when they are evaluated.
    ("bad-rules-error.yml", PLAIN, true),
    ("prometheus-rules.lint.yml", PLAIN, true),
    ("prometheus-rules.lint.yml", LINT, false),
    ("rules_duplicates.yml", PLAIN, true),
    ("rules_duplicates.yml", LINT, false),
    ("rules.yml", LINT, true),
    ("features.yml", PLAIN, true),
    // Before version 3 a test without an interval had all its samples at the start.
    ("no-test-group-interval.yml", PLAIN, true),
    // vmalert fails a pattern that names no file; promtool only warns.
    ("failed-test-with-missing-rulefile.yaml", PLAIN, true),
];

/// The rule files and unit tests of the shared data folder. Of vmalert's those in promtool's format.
pub fn files(shared: &Path) -> Vec<PathBuf> {
    let folders = [
        "metrics/prometheus/cmd/promtool/testdata",
        "metrics/prometheus/model/rulefmt/testdata",
        "metrics/prometheus/rules/fixtures",
        "metrics/victoriametrics/app/vmalert-tool/unittest/testdata",
    ];
    let mut files = Vec::new();
    for pattern in ["*.yml", "*.yaml"] {
        files.extend(folders.iter().flat_map(|folder| files::matching(&shared.join(folder), pattern).unwrap_or_default()));
    }
    files.retain(|path| !files::read(path).is_ok_and(|text| speaks_vmalert(&text)));
    files
}

/// Fields that only vmalert's unit tests have.
fn speaks_vmalert(text: &str) -> bool {
    ["metricsql_expr_test:", "groupname:"].iter().any(|field| text.contains(field))
}

/// Passed verdicts and failures of one file.
pub fn run(path: &Path) -> (usize, Vec<String>) {
    let text = match files::read(path) {
        Ok(text) => text,
        Err(error) => return (0, vec![error]),
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let known: Vec<&(&str, Flags, bool)> = KNOWN.iter().filter(|(file, ..)| *file == name).collect();
    let verdicts = if known.is_empty() {
        let (passes, why) = verdict(path, &name, &text);
        // These of Prometheus' are meant for the validation of names before version 3.
        let flags = if name.starts_with("legacy_validation") { LEGACY } else { PLAIN };
        vec![(flags, passes, why)]
    } else {
        known.iter().map(|(_, flags, passes)| (*flags, *passes, "Prometheus' own tests")).collect()
    };
    let (mut passed, mut failures) = (0, Vec::new());
    for (flags, should_pass, why) in verdicts {
        let problems = problems(path, &text, flags);
        if problems.is_empty() == should_pass {
            passed += 1;
            continue;
        }
        let with = if let Some(names) = flags.names { format!(" (--run {names})") } else { String::new() };
        failures.push(if should_pass {
            format!("{with} must pass by {why}: {}", problems.join("; "))
        } else {
            format!("{with} must fail by {why}, and passes")
        });
    }
    (passed, failures)
}

/// What is wrong with a file; nothing when it passes.
fn problems(path: &Path, text: &str, flags: Flags) -> Vec<String> {
    if !is_unit_test(text) {
        let name_validation = if flags.legacy_names { NameValidation::Legacy } else { NameValidation::Utf8 };
        let options = ParseOptions { name_validation, ignore_unknown_fields: flags.ignore_unknown_fields };
        let lint = lint::lint(&path.display().to_string(), text, options);
        let counts = |severity: Severity| match severity {
            Severity::Error => true,
            Severity::Duplicate => flags.lint_fatal,
            Severity::Warning => false,
        };
        return lint.complaints.iter().filter(|complaint| counts(complaint.severity)).map(ToString::to_string).collect();
    }
    let names = flags.names.and_then(|names| Regex::new(names, Mode::Part).ok());
    let options =
        unit::Options { names: names.as_ref(), ignore_unknown_fields: flags.ignore_unknown_fields, ..unit::Options::default() };
    let report = unit::run(text, path.parent().unwrap_or(Path::new(".")), options);
    let failures = report.tests.iter().flat_map(|test| {
        test.failures.iter().map(|failure| format!("{}: {}: {}", failure.position.line, test.name, failure.message))
    });
    report.complaints.iter().map(ToString::to_string).chain(failures).collect()
}

/// Rule files have groups, unit tests have not.
fn is_unit_test(text: &str) -> bool {
    let Ok(yaml::Document { root: Some(root), .. }) = yaml::read(text) else { return false };
    let NodeKind::Mapping(pairs) = &*root.kind else { return false };
    let has = |names: &[&str]| pairs.iter().any(|(key, _)| key.as_text().is_some_and(|key| names.contains(&key)));
    has(&["tests", "rule_files", "evaluation_interval", "group_eval_order"]) && !has(&["groups"])
}

/// Whether a file should pass, and who says so.
fn verdict(path: &Path, name: &str, text: &str) -> (bool, &'static str) {
    let has_word = |words: &[&str]| name.split(['.', '-', '_']).any(|word| words.contains(&word));
    if has_word(&["good"]) {
        return (true, "its name");
    }
    if has_word(&["bad", "invalid", "fail", "failing", "failed"]) {
        return (false, "its name");
    }
    match ask_promtool(path, text) {
        Some(passes) => (passes, "the installed promtool"),
        None => (true, "default"),
    }
}

/// A test that leaves the interval out means another thing to promtool before version 3.
fn leaves_interval_out(text: &str) -> bool {
    let lines = |word: &str| text.lines().filter(|line| line.trim_start_matches([' ', '-', '"']).starts_with(word)).count();
    is_unit_test(text) && lines("interval") < lines("input_series")
}

/// What promtool complains of when a file is newer than it is, or has a mistake: it cannot be told which.
const TOO_OLD: [&str; 5] =
    ["not found in type", "could not parse expression", "unknown function", "unexpected", "invalid label name"];

/// `None` where promtool is not installed or does not know what the file uses.
fn ask_promtool(path: &Path, text: &str) -> Option<bool> {
    let verb = if is_unit_test(text) { "test" } else { "check" };
    let output = Command::new("promtool").args([verb, "rules"]).arg(path).output().ok()?;
    if output.status.success() {
        return Some(true);
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let cannot_tell = TOO_OLD.iter().any(|words| said.contains(words)) || leaves_interval_out(text);
    if cannot_tell { None } else { Some(false) }
}
