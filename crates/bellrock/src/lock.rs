//! One server for one data directory: an advisory lock that ends with the process, however it ends.

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};
use std::fs::File;
use std::path::Path;

/// Held for as long as the server runs.
pub(crate) struct DataLock {
    _file: File,
}

pub(crate) fn lock(data_dir: &Path) -> Result<DataLock> {
    match try_lock(data_dir)? {
        Some(lock) => Ok(lock),
        None => bail!(
            "the data directory {} is in use by another bellrock: stop it, or choose another with --data-dir",
            data_dir.display()
        ),
    }
}

/// `None` when another process has it.
#[allow(clippy::disallowed_methods, reason = "the lock is the operating system's")]
pub(crate) fn try_lock(folder: &Path) -> Result<Option<DataLock>> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make the directory {}", folder.display()))?;
    let path = folder.join("lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.with_context(|| format!("cannot write to the directory {}", folder.display()))?;
    let is_ours = flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
    Ok(is_ours.then_some(DataLock { _file: file }))
}
