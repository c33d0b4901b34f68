//! Where the shared test data lies, when it is there.

#![allow(clippy::print_stdout, reason = "a test that is skipped says so")]

use std::path::{Path, PathBuf};

/// A folder of the shared data; says so and returns `None` where there is none.
pub(crate) fn folder(name: &str) -> Option<PathBuf> {
    let given = std::env::var_os("BELLROCK_SHARED_DATA").map(PathBuf::from);
    let root = given.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"));
    let folder = root.join(name);
    if !folder.is_dir() {
        println!("skipped: no shared data ({name})");
        return None;
    }
    Some(folder)
}
