//! A full disk is a state that was planned for: a watermark that stops appends before it, and a ballast that is thrown overboard
//! when it comes all the same.

use crate::shared::{FOLDER, Shared, path_of};
use br_env::DiskFile;
use std::io;
use std::time::Duration;

pub(crate) const BALLAST_FILE: &str = "ballast";

/// The ballast is written in parts of this size, so that no record waits long for one.
const PART_BYTES: usize = 1 << 20;
/// After a failure the ballast is left alone for this long.
const REST: Duration = Duration::from_mins(1);

/// Builds the ballast when there is time.
#[derive(Default)]
pub(crate) struct BallastBuilder {
    file: Option<Box<dyn DiskFile>>,
    written: u64,
    not_before: Duration,
}

impl BallastBuilder {
    /// Whether there is a part left to write.
    pub(crate) fn has_work(&self, shared: &Shared) -> bool {
        let is_wanted = shared.options.ballast_bytes > 0 && !shared.files.lock().has_ballast;
        is_wanted && shared.env.clock.monotonic() >= self.not_before
    }

    /// Writes one part. `free_bytes` must leave the watermark and as much again as the ballast takes.
    pub(crate) fn grow(&mut self, shared: &Shared, free_bytes: u64) {
        if !self.has_work(shared) {
            return;
        }
        let left = shared.options.ballast_bytes.saturating_sub(self.written);
        let needed = shared.options.free_bytes_min.saturating_add(left.saturating_mul(2));
        let grown = if free_bytes < needed { Ok(false) } else { self.write_part(shared, left) };
        match grown {
            Ok(true) => {}
            Ok(false) => self.rest(shared),
            Err(error) => {
                shared.files.lock().last_error = Some(format!("writing the ballast: {error}"));
                self.rest(shared);
            }
        }
    }

    fn rest(&mut self, shared: &Shared) {
        self.file = None;
        self.written = 0;
        self.not_before = shared.env.clock.monotonic().saturating_add(REST);
    }

    fn write_part(&mut self, shared: &Shared, left: u64) -> io::Result<bool> {
        let disk = &*shared.env.disk;
        let mut file = if let Some(file) = self.file.take() {
            file
        } else {
            remove_if_there(shared)?;
            disk.create(&path_of(BALLAST_FILE))?
        };
        // Numbers without a pattern, because a file system may store zeros for nothing.
        let mut part = vec![0; PART_BYTES.min(usize::try_from(left).unwrap_or(PART_BYTES))];
        shared.env.rng.fill(&mut part);
        file.append(&part)?;
        self.written += part.len() as u64;
        if self.written < shared.options.ballast_bytes {
            self.file = Some(file);
            return Ok(true);
        }
        file.sync()?;
        disk.sync_dir(FOLDER)?;
        self.written = 0;
        shared.files.lock().has_ballast = true;
        Ok(true)
    }
}

/// Looks whether a whole ballast is there from an earlier life.
pub(crate) fn has_ballast(shared: &Shared) -> bool {
    let wanted = shared.options.ballast_bytes;
    wanted > 0 && shared.env.disk.size(&path_of(BALLAST_FILE)).is_ok_and(|bytes| bytes == wanted)
}

/// Gives the ballast's space to those who need it now. True when there was one.
pub(crate) fn release_ballast(shared: &Shared) -> io::Result<bool> {
    let had_ballast = std::mem::take(&mut shared.files.lock().has_ballast);
    if had_ballast {
        remove_if_there(shared)?;
        shared.env.disk.sync_dir(FOLDER)?;
    }
    Ok(had_ballast)
}

fn remove_if_there(shared: &Shared) -> io::Result<()> {
    match shared.env.disk.remove(&path_of(BALLAST_FILE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Whether an error says that there is no room.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
