//! Another program's files, which lie outside the data directory.
#![allow(clippy::disallowed_methods, reason = "another program's files, outside the data directory")]

use anyhow::{Context, Result};
use br_wire::prometheus_tsdb::ReadAt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A file that is read here and there.
pub(super) struct FileAt {
    file: File,
    size: u64,
}

impl FileAt {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = open(path)?;
        let size = file.metadata().with_context(|| format!("cannot read {}", path.display()))?.len();
        Ok(Self { file, size })
    }
}

impl ReadAt for FileAt {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }
}

pub(super) fn open(path: &Path) -> Result<File> {
    File::open(path).with_context(|| format!("cannot open {}", path.display()))
}

/// A small file, whole.
pub(super) fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read =
        open(path)?.take(bytes_max + 1).read_to_end(&mut bytes).with_context(|| format!("cannot read {}", path.display()))?;
    anyhow::ensure!(read as u64 <= bytes_max, "{} has more than {bytes_max} bytes", path.display());
    Ok(bytes)
}

/// What is in a folder, sorted by name.
pub(super) fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let within = || format!("cannot list {}", folder.display());
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(within)? {
        paths.push(entry.with_context(within)?.path());
    }
    paths.sort();
    Ok(paths)
}

/// The files of a folder whose names are numbers, in the order of these.
pub(super) fn numbered(folder: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let number = |path: PathBuf| Some((name(&path).parse().ok()?, path));
    let mut files: Vec<(u64, PathBuf)> = list(folder)?.into_iter().filter_map(number).collect();
    files.sort();
    Ok(files)
}

/// The last part of a path.
pub(super) fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
