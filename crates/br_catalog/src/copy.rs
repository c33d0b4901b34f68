//! A second copy of the database, for the day when the first one is gone.

use crate::Catalog;
use br_std::{Error, Result};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

impl Catalog {
    /// Writes a consistent copy to a new file, while work goes on.
    pub async fn copy_to(&self, path: &Path) -> Result<()> {
        let target = path.to_str().ok_or_else(|| Error::fix_request(format!("{} is not valid UTF-8", path.display())))?;
        sqlx::query("VACUUM INTO $1").bind(target).execute(self.reader()).await.map_err(|error| self.error(error))?;
        Ok(())
    }

    /// Replaces the copy at `path` by one of now, so that a crash leaves either of them whole. Returns its size in bytes.
    #[allow(clippy::disallowed_methods, reason = "the database is a file beside the disk of the journal, and so is its copy")]
    pub async fn replace_copy(&self, path: &Path) -> Result<u64> {
        let temporary = beside(path, ".tmp");
        remove_if_there(&temporary)?;
        self.copy_to(&temporary).await?;
        // SQLite does not sync what it vacuums into.
        let file = File::open(&temporary)?;
        file.sync_all()?;
        let bytes = file.metadata()?.len();
        fs::rename(&temporary, path)?;
        sync_folder(path)?;
        Ok(bytes)
    }
}

/// What was found in the place of the database, and done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rescue {
    /// What was wrong with the database.
    pub reason: String,
    /// Where the damaged files went; `None` when there were none.
    pub moved_to: Option<PathBuf>,
    /// Whether the copy took its place. If not, everything that only the database held is gone.
    pub is_restored: bool,
}

/// Opens the database, and where it is missing, empty or damaged, puts the copy in its place. What is damaged is kept beside it.
///
/// `was_used` says whether the data directory holds anything that a database once described: if so, none at all is a loss.
/// `is_full` says that the disk has no space to speak of.
pub async fn open_or_restore(path: &Path, copy: &Path, was_used: bool, is_full: bool) -> Result<(Catalog, Option<Rescue>)> {
    let reason = match missing(path)? {
        Some(reason) if was_used || copy.exists() => reason.to_owned(),
        Some(_) => return Ok((open(path, is_full).await?, None)),
        None => match open(path, is_full).await {
            Ok(catalog) => return Ok((catalog, None)),
            Err(error) if error.kind() == br_std::Kind::Corrupt => error.message().to_owned(),
            Err(error) => return Err(error),
        },
    };
    let moved_to = move_aside(path)?;
    if copy.exists() {
        put_in_place(copy, path)?;
        match open(path, is_full).await {
            Ok(catalog) => return Ok((catalog, Some(Rescue { reason, moved_to, is_restored: true }))),
            Err(error) if error.kind() == br_std::Kind::Corrupt => {
                move_aside(path)?;
                move_aside(copy)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok((open(path, is_full).await?, Some(Rescue { reason, moved_to, is_restored: false })))
}

async fn open(path: &Path, is_full: bool) -> Result<Catalog> {
    if is_full { Catalog::open_alone(path).await } else { Catalog::open(path).await }
}

#[allow(clippy::disallowed_methods, reason = "see replace_copy")]
fn missing(path: &Path) -> Result<Option<&'static str>> {
    match fs::metadata(path) {
        Ok(found) if found.len() == 0 => Ok(Some("it is empty")),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Some("it is missing")),
        Err(error) => Err(Error::from(error).context(path.display().to_string())),
    }
}

/// Renames a database and the files that belong to it to the first free name. A write-ahead log without its database would be
/// taken for that of the next one.
#[allow(clippy::disallowed_methods, reason = "see replace_copy")]
fn move_aside(path: &Path) -> Result<Option<PathBuf>> {
    let is_free = |number: &u32| !beside(path, &format!(".damaged-{number}")).exists();
    let number = (1..=u32::MAX).find(is_free).unwrap_or(u32::MAX);
    let aside = beside(path, &format!(".damaged-{number}"));
    let mut moved = None;
    for suffix in ["", "-wal", "-shm"] {
        match fs::rename(beside(path, suffix), beside(&aside, suffix)) {
            Ok(()) => moved = Some(aside.clone()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::from(error).context(format!("moving {} aside", path.display()))),
        }
    }
    sync_folder(path)?;
    Ok(moved)
}

#[allow(clippy::disallowed_methods, reason = "see replace_copy")]
fn put_in_place(copy: &Path, path: &Path) -> Result<()> {
    let temporary = beside(path, ".tmp");
    fs::copy(copy, &temporary)?;
    File::open(&temporary)?.sync_all()?;
    fs::rename(&temporary, path)?;
    sync_folder(path)
}

#[allow(clippy::disallowed_methods, reason = "see replace_copy")]
fn remove_if_there(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

#[allow(clippy::disallowed_methods, reason = "see replace_copy")]
fn sync_folder(path: &Path) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok(File::open(folder)?.sync_all()?)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "the tests damage files")]
mod tests {
    use super::*;

    /// A catalog with a copy, then more in the catalog, then `damage`; what is there after the next start?
    async fn check(damage: impl Fn(&Path, &Path), expect_restored: Option<bool>, expect_values: [bool; 2]) {
        let folder = tempfile::tempdir().expect("temporary folder");
        let (path, copy) = (folder.path().join("catalog.db"), folder.path().join("catalog-copy.db"));
        let catalog = Catalog::open(&path).await.expect("opened");
        catalog.put_state("first", b"1").await.expect("written");
        catalog.replace_copy(&copy).await.expect("copied");
        catalog.replace_copy(&copy).await.expect("copied again");
        catalog.put_state("second", b"2").await.expect("written");
        catalog.close().await;
        damage(&path, &copy);
        for life in 0..2 {
            let (catalog, rescue) = open_or_restore(&path, &copy, true, false).await.expect("never a manual step");
            let expected = expect_restored.filter(|_| life == 0);
            assert_eq!(rescue.as_ref().map(|rescue| rescue.is_restored), expected, "{rescue:?}");
            for (key, expected) in ["first", "second"].into_iter().zip(expect_values) {
                assert_eq!(catalog.state(key).await.expect("read").is_some(), expected, "{key} in life {life}: {rescue:?}");
            }
            catalog.close().await;
        }
    }

    #[tokio::test]
    async fn a_damaged_database_is_replaced_by_its_copy() {
        let zero = |path: &Path| fs::write(path, vec![0; fs::read(path).expect("read").len()]).expect("written");
        let halve = |path: &Path| {
            let bytes = fs::read(path).expect("read");
            fs::write(path, &bytes[..bytes.len() / 2]).expect("written");
        };
        check(|_, _| {}, None, [true, true]).await;
        check(|path, _| fs::remove_file(path).expect("removed"), Some(true), [true, false]).await;
        check(|path, _| fs::write(path, "").expect("written"), Some(true), [true, false]).await;
        check(|path, _| zero(path), Some(true), [true, false]).await;
        check(|path, _| halve(path), Some(true), [true, false]).await;
        let both = |path: &Path, copy: &Path| [path, copy].into_iter().for_each(halve);
        check(both, Some(false), [false, false]).await;
        let neither =
            |path: &Path, copy: &Path| [path, copy].into_iter().for_each(|path| fs::remove_file(path).expect("removed"));
        check(neither, Some(false), [false, false]).await;
    }

    #[tokio::test]
    async fn a_new_data_directory_is_no_loss() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let (path, copy) = (folder.path().join("catalog.db"), folder.path().join("catalog-copy.db"));
        let (_, rescue) = open_or_restore(&path, &copy, false, false).await.expect("opened");
        assert_eq!(rescue, None);
    }
}
