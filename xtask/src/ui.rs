//! The pages: built with Node, committed as built.

use crate::shell;
use anyhow::Result;

/// Builds ui/dist.
pub fn build() -> Result<()> {
    let ui = shell::root().join("ui");
    shell::run_in(&ui, "npm", &["ci", "--no-audit", "--no-fund"], &[])?;
    shell::run_in(&ui, "npm", &["run", "build"], &[])
}

/// Types and unit tests of the pages, and that the committed build is what the sources give.
pub fn check() -> Result<()> {
    if !shell::has("npm") {
        shell::skip("ui: npm is not installed; the committed ui/dist is used as it is");
        return Ok(());
    }
    build()?;
    let ui = shell::root().join("ui");
    shell::run_in(&ui, "npm", &["run", "check"], &[])?;
    shell::run_in(&ui, "npm", &["test"], &[])?;
    shell::run("git", &["diff", "--exit-code", "--stat", "--", "ui/dist"])
}
