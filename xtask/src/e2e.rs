//! The binary as its users meet it: stock clients from PyPI, kill -9, a real browser.

use crate::shell;
use anyhow::{Context, Result};
use std::path::PathBuf;

/// Makes the Python environment once per set of pinned packages, builds the binary, runs tests/e2e with pytest.
pub fn run() -> Result<()> {
    // With the same features as `cargo test --workspace`: `--package bellrock` alone would build DataFusion a second time.
    shell::cargo(&["build", "--quiet", "--workspace", "--all-targets"])?;
    let python = environment("e2e-venv", "tests/e2e/requirements.txt")?;
    let binary = shell::target().join("debug/bellrock");
    let browser = browser();
    let tests = shell::root().join("tests/e2e");
    shell::run_in(
        &tests,
        &python,
        &["-m", "pytest", "-q", "--durations=8", "."],
        &[("BELLROCK_BIN", &binary), ("BELLROCK_CHROMIUM", &browser)],
    )
}

/// The interpreter of a virtual environment of this name that holds what a file pins.
pub fn environment(name: &str, requirements: &str) -> Result<PathBuf> {
    let wanted = std::fs::read_to_string(shell::root().join(requirements)).with_context(|| requirements.to_owned())?;
    let folder = shell::target().join(name);
    let python = folder.join("bin/python");
    let stamp = folder.join("installed.txt");
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) && python.exists() {
        return Ok(python);
    }
    println!("installing what {requirements} pins into {}", folder.display());
    shell::run("python3", &["-m", "venv", "--clear", &folder.display().to_string()])?;
    shell::run(&python, &["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", requirements])?;
    std::fs::write(&stamp, wanted)?;
    Ok(python)
}

/// Where Chromium is. Debian's packages are installed when it is missing and this is root; otherwise the path stays empty and
/// the browser tests say that they are skipped.
fn browser() -> PathBuf {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let find = || names.into_iter().find_map(shell::path_of);
    if let Some(found) = find() {
        return found;
    }
    let is_root = shell::output("id", &["-u"]).is_ok_and(|id| id.trim() == "0");
    if is_root && shell::has("apt-get") {
        println!("installing chromium from Debian's packages");
        let installed = shell::run("apt-get", &["update", "-qq"]).and_then(|()| {
            shell::run(
                "apt-get",
                &["install", "-y", "-qq", "--no-install-recommends", "chromium", "chromium-driver", "fonts-dejavu-core"],
            )
        });
        if let Err(error) = installed {
            println!("could not install chromium: {error}");
        }
    } else {
        println!("chromium is missing: install it with your package manager to run the browser tests");
    }
    find().unwrap_or_default()
}
