//! The real world: the machine's clock, its randomness, a directory on its disk.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "this is the one place that may")]

use crate::{Clock, Disk, DiskFile, Env, Rng};
use br_std::Nanos;
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The real world with its files under `root`, which is made when it does not exist.
pub fn env(root: &Path) -> io::Result<Env> {
    Ok(Env { clock: Arc::new(SystemClock::new()), rng: Arc::new(SystemRng::new()), disk: Arc::new(LocalDisk::open(root)?) })
}

pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    pub fn new() -> Self {
        Self { started: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Nanos {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Nanos(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
}

/// Seeds itself from the operating system, then counts on by splitmix64. For jitter and ids, not for secrets.
pub struct SystemRng {
    state: AtomicU64,
}

impl SystemRng {
    pub fn new() -> Self {
        Self { state: AtomicU64::new(RandomState::new().hash_one(0)) }
    }
}

impl Default for SystemRng {
    fn default() -> Self {
        Self::new()
    }
}

impl Rng for SystemRng {
    fn next_u64(&self) -> u64 {
        let state = self.state.fetch_add(crate::sim::GOLDEN_GAMMA, Ordering::Relaxed);
        crate::sim::mix(state.wrapping_add(crate::sim::GOLDEN_GAMMA))
    }
}

/// A directory of the local file system.
pub struct LocalDisk {
    root: PathBuf,
}

impl LocalDisk {
    pub fn open(root: &Path) -> io::Result<Self> {
        fs::create_dir_all(root)?;
        Ok(Self { root: root.to_owned() })
    }

    /// Paths come from our own code, but a `..` in one must not lead out of the directory whatever happens.
    fn path(&self, relative: &str) -> io::Result<PathBuf> {
        if relative.split('/').any(|part| part == "..") || relative.starts_with('/') {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("path leads out of the directory: {relative}")));
        }
        Ok(self.root.join(relative))
    }
}

impl Disk for LocalDisk {
    fn create(&self, path: &str) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new().write(true).create_new(true).open(self.path(path)?)?;
        Ok(Box::new(LocalFile { file }))
    }

    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        fs::read(self.path(path)?)
    }

    fn read_at(&self, path: &str, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let file = File::open(self.path(path)?)?;
        let left = file.metadata()?.len().saturating_sub(offset);
        let mut bytes = vec![0; length.min(usize::try_from(left).unwrap_or(usize::MAX))];
        let mut done = 0;
        while done < bytes.len() {
            match file.read_at(&mut bytes[done..], offset + done as u64)? {
                0 => break,
                count => done += count,
            }
        }
        bytes.truncate(done);
        Ok(bytes)
    }

    fn size(&self, path: &str) -> io::Result<u64> {
        Ok(fs::metadata(self.path(path)?)?.len())
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(self.path(folder)?) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_file()
                && let Ok(name) = entry.file_name().into_string()
            {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn create_dir(&self, folder: &str) -> io::Result<()> {
        fs::create_dir_all(self.path(folder)?)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from)?, self.path(to)?)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        fs::remove_file(self.path(path)?)
    }

    fn truncate(&self, path: &str, length: u64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(self.path(path)?)?;
        file.set_len(length)?;
        file.sync_all()
    }

    fn sync_dir(&self, folder: &str) -> io::Result<()> {
        File::open(self.path(folder)?)?.sync_all()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(&self.root)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

struct LocalFile {
    file: File,
}

impl DiskFile for LocalFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// The calling thread wants the processor only where hardly anything else does, from now on.
///
/// Elsewhere than on Linux the whole process would give way.
pub fn give_way() {
    #[cfg(target_os = "linux")]
    {
        const NICENESS: i32 = 10;
        // It changes nothing but the pace: where it is refused the work is done all the same.
        let _ = rustix::process::nice(NICENESS);
    }
}
