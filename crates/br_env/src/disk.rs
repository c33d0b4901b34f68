//! Files of one directory tree.
//!
//! Paths are relative to the root, with `/` between the parts.
//! A write is safe only after [`DiskFile::sync`]; a name (created, renamed, removed) only after [`Disk::sync_dir`] on its folder.

use std::io;

pub trait Disk: Send + Sync {
    /// Makes a new file for appending; fails when the name is taken.
    fn create(&self, path: &str) -> io::Result<Box<dyn DiskFile>>;

    /// Reads a whole file.
    fn read(&self, path: &str) -> io::Result<Vec<u8>>;

    /// Reads `length` bytes from `offset`; fewer where the file ends.
    fn read_at(&self, path: &str, offset: u64, length: usize) -> io::Result<Vec<u8>>;

    fn size(&self, path: &str) -> io::Result<u64>;

    /// The names of the files directly in `folder`, sorted; empty when there is no such folder.
    fn list(&self, folder: &str) -> io::Result<Vec<String>>;

    /// Makes `folder` and those above it.
    fn create_dir(&self, folder: &str) -> io::Result<()>;

    /// Replaces `to` when it exists.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    fn remove(&self, path: &str) -> io::Result<()>;

    /// Cuts a file to `length` bytes and syncs it.
    fn truncate(&self, path: &str, length: u64) -> io::Result<()>;

    fn sync_dir(&self, folder: &str) -> io::Result<()>;

    /// Bytes that can still be written, where that is known.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// A file that is being appended to.
pub trait DiskFile: Send {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Returns when all that was appended is on stable storage. After an error nothing may be assumed of the unsynced bytes,
    /// and the file must not be used again: a second try can succeed without the bytes being there.
    fn sync(&mut self) -> io::Result<()>;
}

/// Writes a whole file so that a crash leaves either the old or the new content.
pub fn write_atomically(disk: &dyn Disk, path: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = format!("{path}.tmp");
    match disk.remove(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = disk.create(&temporary)?;
    file.append(bytes)?;
    file.sync()?;
    drop(file);
    disk.rename(&temporary, path)?;
    disk.sync_dir(path.rsplit_once('/').map_or("", |(folder, _)| folder))
}
