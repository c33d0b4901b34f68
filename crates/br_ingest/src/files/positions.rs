//! How far each file has been read, over restarts.
//!
//! Kept in one file of the data directory, a line for each file, replaced as a whole once the journal has the lines before it.

use super::disk::{FileId, Head};
use br_env::Disk;
use br_env::disk::write_atomically;
use br_std::Nanos;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

const NAME: &str = "file-positions";
/// The first line, with the version of the rest.
const TITLE: &str = "bellrock file positions 1";

/// What is known of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Saved {
    /// Its name when it was met, and its name now.
    pub(super) met_as: PathBuf,
    pub(super) path: PathBuf,
    pub(super) head: Head,
    pub(super) offset: u64,
    /// When it was there the last time.
    pub(super) seen: Nanos,
}

#[derive(Serialize, Deserialize)]
struct Line {
    path: PathBuf,
    /// Where it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    met_as: Option<PathBuf>,
    device: u64,
    inode: u64,
    head_bytes: usize,
    head: String,
    offset: u64,
    seen: i64,
}

pub(super) fn write(disk: &dyn Disk, positions: &BTreeMap<FileId, Saved>) -> io::Result<()> {
    let mut text = format!("{TITLE}\n");
    for (id, saved) in positions {
        let line = Line {
            path: saved.path.clone(),
            met_as: (saved.met_as != saved.path).then(|| saved.met_as.clone()),
            device: id.device,
            inode: id.inode,
            head_bytes: saved.head.bytes,
            head: format!("{:016x}", saved.head.hash),
            offset: saved.offset,
            seen: saved.seen.as_secs(),
        };
        // A path that is no text cannot be found again by its name; patterns pass over such.
        if let Ok(line) = serde_json::to_string(&line) {
            text.push_str(&line);
            text.push('\n');
        }
    }
    write_atomically(disk, NAME, text.as_bytes())
}

/// Those of the last time; none at the first start. Lines that make no sense are left out, and counted.
pub(super) fn read(disk: &dyn Disk) -> io::Result<(BTreeMap<FileId, Saved>, usize)> {
    let bytes = match disk.read(NAME) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((BTreeMap::new(), 0)),
        bytes => bytes?,
    };
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = text.lines();
    if lines.next() != Some(TITLE) {
        return Ok((BTreeMap::new(), text.lines().count().max(1)));
    }
    let (mut positions, mut broken) = (BTreeMap::new(), 0);
    for line in lines {
        let Ok(line) = serde_json::from_str::<Line>(line) else {
            broken += 1;
            continue;
        };
        let Ok(hash) = u64::from_str_radix(&line.head, 16) else {
            broken += 1;
            continue;
        };
        let head = Head { bytes: line.head_bytes, hash };
        let met_as = line.met_as.unwrap_or_else(|| line.path.clone());
        let saved = Saved { met_as, path: line.path, head, offset: line.offset, seen: Nanos::from_secs(line.seen) };
        positions.insert(FileId { device: line.device, inode: line.inode }, saved);
    }
    Ok((positions, broken))
}

#[cfg(test)]
mod tests {
    use super::*;
    use br_env::sim::Sim;

    #[test]
    fn positions_come_back() {
        let disk = Sim::new(1).disk;
        assert_eq!(read(&*disk).expect("nothing yet"), (BTreeMap::new(), 0));
        let path = PathBuf::from("/var/log/é \"x\".log");
        let saved = Saved { met_as: "/var/log/x".into(), path, head: Head::of(b"abc"), offset: 7, seen: Nanos::from_secs(9) };
        let positions = BTreeMap::from([(FileId { device: 1, inode: u64::MAX }, saved)]);
        write(&*disk, &positions).expect("room");
        write(&*disk, &positions).expect("once more");
        assert_eq!(read(&*disk).expect("written"), (positions.clone(), 0));
        let text = disk.read(NAME).expect("written");
        write_atomically(&*disk, NAME, &[&text[..], b"{\n"].concat()).expect("room");
        assert_eq!(read(&*disk).expect("in part"), (positions, 1));
        write_atomically(&*disk, NAME, b"something else\n").expect("room");
        assert_eq!(read(&*disk).expect("nothing of it").1, 1);
    }
}
