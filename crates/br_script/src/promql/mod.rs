//! PromQL scripts: `load` series, `eval` expressions, compare with what is written below them.
//!
//! Source of the format: promqltest's documentation. Each instant `eval` runs three ways: as it is, with `@` on all
//! selectors at other times, and as the middle of a range query.

mod compare;
mod eval;
mod nhcb;
mod script;

use br_promrules::memory::Memory;
use br_promrules::notation::{self, Loader};
use std::fmt;
use std::path::{Path, PathBuf};

/// What came of some scripts.
#[derive(Debug, Default)]
pub struct Report {
    pub files: Vec<FileReport>,
}

#[derive(Debug)]
pub struct FileReport {
    pub path: PathBuf,
    pub passed: usize,
    pub failures: Vec<Failure>,
}

/// An `eval` that did not give what was expected.
#[derive(Debug)]
pub struct Failure {
    /// From 1.
    pub line: usize,
    pub reason: String,
}

impl Report {
    pub fn passed(&self) -> usize {
        self.files.iter().map(|file| file.passed).sum()
    }

    pub fn failed(&self) -> usize {
        self.files.iter().map(|file| file.failures.len()).sum()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for file in &self.files {
            for failure in &file.failures {
                writeln!(f, "{}:{}: {}", file.path.display(), failure.line, failure.reason)?;
            }
        }
        for file in &self.files {
            let name = file.path.file_name().unwrap_or_default().to_string_lossy();
            writeln!(f, "{name:<28} {:>5} passed {:>5} failed", file.passed, file.failures.len())?;
        }
        write!(f, "{:<28} {:>5} passed {:>5} failed", "all", self.passed(), self.failed())
    }
}

/// Runs scripts one after the other, each with an empty store.
pub fn run(files: &[PathBuf]) -> Report {
    Report { files: files.iter().map(|path| run_file(path)).collect() }
}

fn run_file(path: &Path) -> FileReport {
    match std::fs::read_to_string(path) {
        Ok(text) => run_text(path, &text),
        Err(error) => {
            let failures = vec![Failure { line: 0, reason: error.to_string() }];
            FileReport { path: path.to_owned(), passed: 0, failures }
        }
    }
}

/// Runs one script; `path` is for the report only.
pub fn run_text(path: &Path, text: &str) -> FileReport {
    let mut report = FileReport { path: path.to_owned(), passed: 0, failures: Vec::new() };
    let mut store = Memory::default();
    for block in script::blocks(text) {
        let line = block.line;
        let outcome = match block.command() {
            "clear" => {
                store = Memory::default();
                continue;
            }
            "load" | "load_with_nhcb" => match load(&mut store, &block) {
                Ok(()) => continue,
                Err(reason) => Err(reason),
            },
            command if command.starts_with("eval") => eval::run(&store, &block),
            command => Err(format!("unknown command {command:?}")),
        };
        match outcome {
            Ok(()) => report.passed += 1,
            Err(reason) => report.failures.push(Failure { line, reason }),
        }
    }
    report
}

/// Adds the series of a `load` block.
fn load(store: &mut Memory, block: &script::Block) -> Result<(), String> {
    let mut words = block.head.split_whitespace();
    let with_nhcb = words.next() == Some("load_with_nhcb");
    let mut loader = Loader::new(0, notation::millis(words.next().unwrap_or(""))?);
    let mut loaded = Vec::new();
    for line in &block.body {
        loaded.extend(loader.line(line)?);
    }
    if with_nhcb {
        let converted = nhcb::convert(&loaded);
        loaded.extend(converted);
    }
    for (labels, samples) in loaded {
        store.insert(labels, samples);
    }
    Ok(())
}

/// The scripts in a folder, by name; none when there is no such folder.
pub fn scripts_in(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let mut scripts: Vec<PathBuf> = paths.filter(|path| path.extension().is_some_and(|end| end == "test")).collect();
    scripts.sort();
    scripts
}
