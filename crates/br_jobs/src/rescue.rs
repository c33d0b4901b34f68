//! When the catalog is gone: what its files say of themselves becomes the manifest again.
//!
//! The catalog's copy comes first ([`br_catalog::open_or_restore`]): the journal is cut only up to what the copy knows, so with it
//! nothing is lost and nothing doubled. Only without a copy, or with one from a backup that is older than the journal's start, are
//! files taken in by what they say of themselves. Then nothing that is legible is lost; records may be doubled where a file was
//! written by a release that did not note its positions, and what only the catalog knew is gone: incidents, silences, issues.

use br_catalog::{Catalog, Store};
use br_events::EventOptions;
use br_std::{Error, Kind, Result};
use br_storage::{FileEntry, FoundFile, JournalPosition};
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What was taken in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Adopted {
    pub files: usize,
    /// Files that could not be read. They stay where they are, with `.damaged` behind their names.
    pub damaged: Vec<String>,
}

/// The paths of all data files, and their sizes. The logs of Delta tables are none: they say what the catalog says.
pub async fn list_files(files: &Arc<dyn ObjectStore>) -> Result<Vec<(String, u64)>> {
    let found: Vec<_> = files.list(None).try_collect().await.map_err(listing)?;
    let named = found.into_iter().map(|object| (object.location.to_string(), object.size));
    Ok(named.filter(|(path, _)| path.ends_with(".parquet") && !path.contains("/_delta_log/")).collect())
}

fn listing(error: object_store::Error) -> Error {
    Error::retry(format!("listing the data files: {error}")).with_source(error)
}

/// Files on the disk that the catalog does not know.
pub async fn unlisted(catalog: &Catalog, files: &Arc<dyn ObjectStore>) -> Result<Vec<(String, u64)>> {
    let found = list_files(files).await?;
    let paths: Vec<String> = found.iter().map(|(path, _)| path.clone()).collect();
    let unknown: BTreeSet<String> = catalog.unknown_paths(&paths).await?.into_iter().collect();
    Ok(found.into_iter().filter(|(path, _)| unknown.contains(path)).collect())
}

/// Takes in the files that the catalog does not know. `journal_start` is the first record that the journal still has.
pub async fn adopt(
    catalog: &Catalog,
    files: &Arc<dyn ObjectStore>,
    options: &EventOptions,
    journal_start: JournalPosition,
) -> Result<Adopted> {
    let mut adopted = Adopted::default();
    let mut found = Vec::new();
    for (path, size_bytes) in unlisted(catalog, files).await? {
        let (store, options, name) = (files.clone(), options.clone(), path.clone());
        let described = crate::flush::blocking(move || {
            if name.starts_with("metrics/") {
                br_tsdb::describe(&store, &name, size_bytes)
            } else {
                br_events::describe(&store, &name, size_bytes, &options)
            }
        });
        match described.await? {
            Ok(file) => found.push(file),
            Err(error) if matches!(error.kind(), Kind::Corrupt | Kind::NotFound) => {
                tracing::error!(event = "FileDamagedError", path, "{error}");
                let aside = Path::from(format!("{path}.damaged"));
                files.rename(&Path::from(path.as_str()), &aside).await.map_err(listing)?;
                adopted.damaged.push(path);
            }
            Err(error) => return Err(error),
        }
    }
    let found = without_twins(found);
    for store in [Store::Metrics, Store::Events] {
        let mine: Vec<FoundFile> = found.iter().filter(|file| store.holds(file.entry.table)).cloned().collect();
        let (entries, progress) = needed(mine, journal_start);
        adopted.files += entries.len();
        catalog.adopt_files(store, &entries, progress).await?;
    }
    Ok(adopted)
}

/// Of a merged file and the files that it was merged from only one side counts. While these are all there, the merge may not have
/// been complete; when one is missing, it was.
fn without_twins(mut found: Vec<FoundFile>) -> Vec<FoundFile> {
    let present: BTreeSet<String> = found.iter().map(|file| file.entry.path.clone()).collect();
    let is_unneeded = |file: &FoundFile| !file.made_of.is_empty() && file.made_of.iter().all(|path| present.contains(path));
    found.retain(|file| !is_unneeded(file));
    let merged: BTreeSet<String> = found.iter().flat_map(|file| file.made_of.iter().cloned()).collect();
    found.retain(|file| !merged.contains(&file.entry.path));
    found
}

/// The files of a store that hold what the journal no longer has, and up to where they hold everything.
///
/// The journal is cut only behind what is in files that were published. A file that begins before its start was therefore published,
/// with all its siblings; one that begins later holds nothing that the replay will not bring again, and may lack siblings.
/// What was imported stands before the first record. A merge of that with newer files is kept, but does not say how far the journal
/// was taken in: the siblings of those newer files may be missing, and the replay brings the same samples again.
fn needed(found: Vec<FoundFile>, journal_start: JournalPosition) -> (Vec<FileEntry>, JournalPosition) {
    let is_needed = |file: &FoundFile| file.positions.is_none_or(|(first, _)| first < journal_start);
    let kept: Vec<FoundFile> = found.into_iter().filter(is_needed).collect();
    let is_of_journal = |(first, _): &(JournalPosition, JournalPosition)| *first > JournalPosition::default();
    let last = kept.iter().filter_map(|file| Some(file.positions.filter(is_of_journal)?.1)).max().unwrap_or_default();
    let progress = last.max(JournalPosition(journal_start.0.saturating_sub(1)));
    (kept.into_iter().map(|file| file.entry).collect(), progress)
}

/// Whether the catalog does not know of records that the journal no longer has: it is another one than that which the journal was
/// cut by.
pub async fn is_behind(catalog: &Catalog, journal_start: JournalPosition) -> Result<bool> {
    let mut behind = false;
    for store in [Store::Metrics, Store::Events] {
        behind |= catalog.progress(store).await?.next() < journal_start;
    }
    Ok(behind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use br_model::TenantId;
    use br_std::Nanos;
    use br_storage::Table;

    fn file(path: &str, positions: (u64, u64), made_of: &[&str]) -> FoundFile {
        let entry = FileEntry {
            id: 0,
            tenant: TenantId(1),
            table: Table::Logs,
            path: path.to_owned(),
            window: Nanos(0),
            window_secs: 3600,
            level: 0,
            size_bytes: 1,
            rows: 1,
            min_time: Nanos(0),
            max_time: Nanos(0),
            stats: String::new(),
        };
        let positions = (positions.1 > 0).then_some((JournalPosition(positions.0), JournalPosition(positions.1)));
        FoundFile { entry, positions, made_of: made_of.iter().map(|path| (*path).to_owned()).collect() }
    }

    fn check(found: Vec<FoundFile>, journal_start: u64, expect: &[&str], expect_progress: u64) {
        let (entries, progress) = needed(without_twins(found), JournalPosition(journal_start));
        let paths: Vec<&str> = entries.iter().map(|entry| entry.path.as_str()).collect();
        assert_eq!((paths.as_slice(), progress.0), (expect, expect_progress));
    }

    #[test]
    fn what_the_journal_has_is_replayed_and_the_rest_is_taken_in() {
        check(vec![], 1, &[], 0);
        check(vec![file("a", (1, 9), &[]), file("b", (10, 19), &[])], 15, &["a", "b"], 19);
        check(vec![file("a", (1, 9), &[]), file("b", (10, 19), &[])], 10, &["a"], 9);
        check(vec![file("old", (0, 0), &[]), file("b", (10, 19), &[])], 5, &["old"], 4);
    }

    #[test]
    fn imported_files_are_taken_in_and_say_nothing_of_the_journal() {
        let imported =
            |path, last| FoundFile { positions: Some((JournalPosition(0), JournalPosition(last))), ..file(path, (0, 0), &[]) };
        check(vec![imported("i", 0), file("b", (10, 19), &[])], 15, &["i", "b"], 19);
        check(vec![imported("merged", 19), file("b", (10, 19), &[])], 10, &["merged"], 9);
    }

    #[test]
    fn a_merge_or_what_it_was_made_of() {
        let merge = || file("m", (1, 19), &["a", "b"]);
        check(vec![file("a", (1, 9), &[]), file("b", (10, 19), &[]), merge()], 30, &["a", "b"], 29);
        check(vec![file("b", (10, 19), &[]), merge()], 30, &["m"], 29);
        check(vec![merge()], 30, &["m"], 29);
    }
}
