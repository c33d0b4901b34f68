//! Snapshots: a data directory of now, beside the one that goes on.

use crate::flush::{Flusher, blocking, to_the_end};
use br_std::Result;
use br_storage::Table;
use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

/// Below the data directory.
const FOLDER: &str = "snapshots";

impl Flusher {
    /// Makes `snapshots/NAME`, which a server can be started with: the catalog as it is, and the files that it lists. Files are
    /// never changed once they are written, so that links to them cost no space until the originals go.
    ///
    /// Heads are written first, unless `skips_heads`: the journal is no part of a snapshot. It takes its name when it is whole.
    pub async fn snapshot(self: &Arc<Self>, name: &str, skips_heads: bool) -> Result<()> {
        if !skips_heads {
            self.flush().await?;
        }
        let this = self.clone();
        let name = name.to_owned();
        to_the_end(async move { this.take_snapshot(&name).await }).await
    }

    async fn take_snapshot(&self, name: &str) -> Result<()> {
        // While this is held no file comes or goes.
        let _turn = self.take_turn().await?;
        let data = self.parts.catalog_copy.parent().unwrap_or(Path::new("")).to_owned();
        let (part, whole) = (data.join(FOLDER).join(format!("{name}.part")), data.join(FOLDER).join(name));
        fs::create_dir_all(&part)?;
        self.parts.catalog.replace_copy(&part.join("catalog.db")).await?;
        let mut paths = Vec::new();
        for table in [Table::Metrics, Table::Logs, Table::Spans] {
            paths.extend(self.parts.catalog.files(table).await?.into_iter().map(|file| file.path));
        }
        blocking(move || {
            let outcome = link_all(&data.join("files"), &part.join("files"), &paths).and_then(|()| take_name(&part, &whole));
            if outcome.is_err() {
                let _ = fs::remove_dir_all(&part);
            }
            outcome
        })
        .await??;
        Ok(())
    }
}

fn link_all(from: &Path, to: &Path, paths: &[String]) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for path in paths {
        let (original, link) = (from.join(path), to.join(path));
        if let Some(folder) = link.parent() {
            fs::create_dir_all(folder)?;
        }
        // Not every file system has links.
        if fs::hard_link(&original, &link).is_err() {
            fs::copy(&original, &link)?;
        }
    }
    Ok(())
}

#[allow(clippy::disallowed_methods, reason = "a snapshot is a folder of files beside the store's own")]
fn take_name(part: &Path, whole: &Path) -> std::io::Result<()> {
    sync_folders(part)?;
    fs::rename(part, whole)?;
    whole.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

/// Puts the names, and copies that are no links, on stable storage.
#[allow(clippy::disallowed_methods, reason = "a snapshot is a folder of files beside the store's own")]
fn sync_folders(folder: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            sync_folders(&path)?;
        } else {
            File::open(&path)?.sync_all()?;
        }
    }
    File::open(folder)?.sync_all()
}
