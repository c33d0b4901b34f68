//! What is in the folder that the user names.

use super::files::{self, list, name};
use crate::ask::WrongUsage;
use anyhow::{Context, Result};
use br_wire::prometheus_tsdb::meta::{self, BlockMeta};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

pub(super) struct Block {
    pub(super) path: PathBuf,
    pub(super) meta: BlockMeta,
    /// Why it is not read, when it is not.
    pub(super) left_out: Option<String>,
}

/// A block that does not even say what it is.
pub(super) struct Broken {
    pub(super) name: String,
    pub(super) reason: String,
}

#[derive(Default)]
pub(super) struct Found {
    /// Oldest first.
    pub(super) blocks: Vec<Block>,
    pub(super) broken: Vec<Broken>,
    pub(super) log: Option<PathBuf>,
    /// What else is there and not read, in sentences.
    pub(super) notes: Vec<String>,
}

/// Blocks lie at most so far below: `snapshots/NAME/ULID`, `BUCKET/TENANT/ULID`.
const DEPTH_MAX: usize = 3;
const META_BYTES_MAX: u64 = 64 << 20;

pub(super) fn find(directory: &Path) -> Result<Found> {
    let mut found = Found::default();
    if is_block(directory) {
        found.add(directory);
        return Ok(found);
    }
    found.search(directory, 0)?;
    found.blocks.sort_by(|one, other| (one.meta.min_time, &one.path).cmp(&(other.meta.min_time, &other.path)));
    let folders: BTreeSet<&Path> = found.blocks.iter().filter_map(|block| block.path.parent()).collect();
    if folders.len() > 1 {
        let shown: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
        let message = format!("there are blocks of more than one store or tenant: name one of {}", shown.join(", "));
        return Err(WrongUsage::new(message).into());
    }
    if found.blocks.is_empty() && found.broken.is_empty() && found.log.is_none() {
        let message =
            format!("there is no block (a folder with meta.json and index) and no write-ahead log in {}", directory.display());
        return Err(WrongUsage::new(message).into());
    }
    Ok(found)
}

fn is_block(folder: &Path) -> bool {
    folder.join("meta.json").is_file() || folder.join("index").is_file()
}

impl Found {
    fn search(&mut self, folder: &Path, depth: usize) -> Result<()> {
        let entries = list(folder)?;
        let has_own = entries.iter().any(|path| is_block(path)) || folder.join("wal").is_dir();
        for path in entries.iter().filter(|path| path.is_dir()) {
            let name = name(path);
            if is_block(path) {
                self.add(path);
            } else if depth == 0 && name == "wal" {
                self.log = Some(folder.to_owned());
            } else if name == "wbl" || name == "chunks_head" || name.starts_with("chunk_snapshot.") {
                // The log has all that is in these, and `wbl` is read with it.
            } else if name == "snapshots" && has_own {
                self.notes.push(format!("{} is not read: a snapshot repeats what is beside it", path.display()));
            } else if name.contains(".tmp") {
                self.notes.push(format!("{} is not read: it was being made or removed", path.display()));
            } else if depth + 1 < DEPTH_MAX {
                self.search(path, depth + 1)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, folder: &Path) {
        if name(folder).contains(".tmp") {
            self.notes.push(format!("{} is not read: it was being made or removed", folder.display()));
            return;
        }
        let file = folder.join("meta.json");
        let read =
            files::read(&file, META_BYTES_MAX).and_then(|bytes| meta::parse(&bytes).with_context(|| file.display().to_string()));
        match read {
            Ok(meta) => {
                let is_marked = folder.join("deletion-mark.json").is_file();
                let left_out = is_marked.then(|| "marked for deletion".to_owned());
                self.blocks.push(Block { path: folder.to_owned(), meta, left_out });
            }
            Err(error) => self.broken.push(Broken { name: name(folder), reason: format!("{error:#}") }),
        }
    }
}
