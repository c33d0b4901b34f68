//! All tests, step by step.

use crate::{check, conform, e2e, fuzz, shell, ui};
use anyhow::Result;
use clap::ValueEnum;
use std::time::Instant;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Step {
    /// `cargo xtask check`.
    Check,
    /// `cargo test` over the workspace.
    Rust,
    /// The conformance files of the shared data folder.
    Conform,
    /// The inputs that fuzzing found worth keeping.
    Fuzz,
    /// Types, unit tests and the committed build of the pages.
    Ui,
    /// Stock Python clients against the real binary, kill -9 under load, the pages in a real browser.
    E2e,
}

pub fn run(only: &[Step]) -> Result<()> {
    let mut done = Vec::new();
    for step in Step::value_variants() {
        if !only.is_empty() && !only.contains(step) {
            continue;
        }
        shell::heading(&format!("{step:?}").to_lowercase());
        let started = Instant::now();
        match step {
            Step::Check => check::run()?,
            Step::Rust => shell::cargo(&["test", "--workspace", "--quiet"])?,
            Step::Conform => conform::all()?,
            Step::Fuzz => fuzz::replay()?,
            Step::Ui => ui::check()?,
            Step::E2e => e2e::run()?,
        }
        done.push(format!("{step:?} {} s", started.elapsed().as_secs()).to_lowercase());
    }
    println!("\n{}", summary(&done, &shell::skipped()));
    Ok(())
}

/// A clone without the data and the programs of others must not read as if all had run.
fn summary(done: &[String], skipped: &[String]) -> String {
    if skipped.is_empty() {
        return format!("all steps passed: {}", done.join(", "));
    }
    let list: Vec<String> = skipped.iter().map(|what| format!("  - {what}")).collect();
    format!("what was run passed: {}\nNOT RUN ({}):\n{}", done.join(", "), skipped.len(), list.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::summary;

    #[test]
    fn what_was_not_run_is_told_at_the_end() {
        let done = ["rust 3 s".to_owned()];
        assert_eq!(summary(&done, &[]), "all steps passed: rust 3 s");
        let told = summary(&done, &["conform promql: the shared data folder is absent".to_owned()]);
        assert!(told.contains("NOT RUN (1)") && told.contains("conform promql") && !told.contains("all steps passed"), "{told}");
    }
}
