//! One server for one data directory: an advisory lock that ends with the process, however it ends.

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};
use std::fs::File;
use std::path::Path;

/// Held for as long as the server runs.
pub(crate) struct DataLock {
    _file: File,
}

#[allow(clippy::disallowed_methods, reason = "the lock is the operating system's")]
pub(crate) fn lock(data_dir: &Path) -> Result<DataLock> {
    std::fs::create_dir_all(data_dir).with_context(|| format!("cannot make the data directory {}", data_dir.display()))?;
    let path = data_dir.join("lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.with_context(|| format!("cannot write to the data directory {}", data_dir.display()))?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        bail!(
            "the data directory {} is in use by another bellrock: stop it, or choose another with --data-dir",
            data_dir.display()
        );
    }
    Ok(DataLock { _file: file })
}
