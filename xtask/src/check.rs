//! What must pass at every commit.

use crate::{layers, licences, shell, tidy};
use anyhow::Result;

pub fn run() -> Result<()> {
    shell::heading("format");
    shell::cargo(&["fmt", "--all", "--check"])?;
    shell::heading("layers");
    layers::run()?;
    shell::heading("tidy");
    tidy::run(false)?;
    shell::heading("licences and bans");
    licences::run()?;
    shell::heading("lints");
    shell::cargo(&["clippy", "--quiet", "--workspace", "--all-targets", "--", "--deny", "warnings"])?;
    println!("check passed");
    Ok(())
}
