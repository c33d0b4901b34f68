//! What following asks of the file system. The files lie outside the data directory, and are only read.

use br_std::Nanos;
use br_std::hash::hash64;
use std::collections::BTreeMap;
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{DirEntryExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// What stays of a file when its name changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FileId {
    pub(super) device: u64,
    pub(super) inode: u64,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) id: FileId,
    pub(super) size: u64,
    pub(super) modified: Nanos,
    /// Names that it has; none once it is deleted.
    pub(super) links: u64,
}

impl Seen {
    fn of(metadata: &Metadata) -> Self {
        let id = FileId { device: metadata.dev(), inode: metadata.ino() };
        let modified = Nanos(metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec()));
        Self { id, size: metadata.size(), modified, links: metadata.nlink() }
    }

    pub(super) fn of_open(file: &File) -> io::Result<Self> {
        Ok(Self::of(&file.metadata()?))
    }
}

/// What has this name; `None` where nothing has, or what is no file.
pub(super) fn look(path: &Path) -> io::Result<Option<Seen>> {
    match path.metadata() {
        Ok(metadata) if metadata.is_file() => Ok(Some(Seen::of(&metadata))),
        Ok(_) => Ok(None),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Opens what has this name, if that is still this file.
pub(super) fn open(path: &Path, id: FileId) -> io::Result<Option<File>> {
    // A pipe in its place must not hold us up.
    let file = OpenOptions::new().read(true).custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed()).open(path)?;
    Ok((Seen::of_open(&file)?.id == id).then_some(file))
}

/// Fills the buffer from `offset` on, as far as the file goes.
pub(super) fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// What is in a folder.
pub(super) fn by_inode(folder: &Path) -> BTreeMap<u64, PathBuf> {
    let Ok(entries) = folder.read_dir() else { return BTreeMap::new() };
    entries.flatten().map(|entry| (entry.ino(), entry.path())).collect()
}

/// The files beside this one whose names begin with its name: where rotation puts what it was.
pub(super) fn rotated(path: &Path) -> Vec<(PathBuf, Seen)> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return Vec::new() };
    let Ok(entries) = folder.read_dir() else { return Vec::new() };
    // `app.log` becomes `app.log.1`, or `app-20261127.log`.
    let stem = name.to_string_lossy();
    let stem = stem.split('.').next().filter(|stem| !stem.is_empty()).unwrap_or(&stem);
    let others = entries.flatten().filter(|entry| {
        let other = entry.file_name();
        other != name && other.to_string_lossy().starts_with(stem) && !is_packed_name(Path::new(&other))
    });
    others.filter_map(|entry| Some((entry.path(), look(&entry.path()).ok().flatten()?))).collect()
}

const PACKED: [&str; 8] = ["gz", "zst", "bz2", "xz", "zip", "lz4", "tgz", "Z"];

/// What rotation has packed is the past.
pub(super) fn is_packed_name(path: &Path) -> bool {
    path.extension().and_then(|extension| extension.to_str()).is_some_and(|extension| PACKED.contains(&extension))
}

/// The same by its first bytes, whatever its name is.
pub(super) fn is_packed(start: &[u8]) -> bool {
    const MAGIC: [&[u8]; 5] = [b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zXZ\0", b"PK\x03\x04"];
    MAGIC.iter().any(|magic| start.starts_with(magic))
}

/// So many bytes of its beginning tell one file from another in its place.
pub(super) const HEAD_BYTES: usize = 1024;

/// The beginning of a file, as long as it was when it was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) bytes: usize,
    pub(super) hash: u64,
}

impl Head {
    pub(super) fn of(start: &[u8]) -> Self {
        let start = &start[..start.len().min(HEAD_BYTES)];
        Self { bytes: start.len(), hash: hash64(start) }
    }

    /// Whether a file that begins like this may be the one.
    pub(super) fn matches(self, start: &[u8]) -> bool {
        self.bytes == 0 || start.get(..self.bytes).is_some_and(|start| Self::of(start) == self)
    }

    /// The same of two files is no accident.
    pub(super) fn is_telling(self) -> bool {
        const BYTES_MIN: usize = 16;
        self.bytes >= BYTES_MIN
    }
}

/// The first bytes of what has this name, if that is this file.
pub(super) fn start_of(path: &Path, id: FileId) -> io::Result<Option<Vec<u8>>> {
    let Some(file) = open(path, id)? else { return Ok(None) };
    let mut start = vec![0; HEAD_BYTES];
    let length = read_at(&file, &mut start, 0)?;
    start.truncate(length);
    Ok(Some(start))
}

/// A small file, whole; `None` where it cannot be read or is larger.
pub(super) fn read_small(path: &Path, bytes_max: u64) -> Option<Vec<u8>> {
    let seen = look(path).ok().flatten().filter(|seen| seen.size <= bytes_max)?;
    let file = open(path, seen.id).ok().flatten()?;
    let mut bytes = vec![0; usize::try_from(seen.size).ok()?];
    let length = read_at(&file, &mut bytes, 0).ok()?;
    bytes.truncate(length);
    Some(bytes)
}
