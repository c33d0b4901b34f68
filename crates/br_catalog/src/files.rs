//! The manifest: which files the stores consist of, and up to which position of the journal.

use crate::catalog::Write;
use crate::{Catalog, Lease, leases, state};
use br_model::TenantId;
use br_std::{Error, Nanos, Result};
use br_storage::{FileEntry, JournalPosition, Table};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use std::collections::BTreeSet;

/// A store with a head of its own, and so with a position of its own in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Store {
    Metrics,
    /// Logs and spans.
    Events,
}

/// What came to a table and what left it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TableChanges {
    /// The change of the manifest up to which this holds.
    pub change: i64,
    pub added: Vec<FileEntry>,
    pub removed: Vec<FileEntry>,
}

impl Store {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Metrics => "metrics",
            Self::Events => "events",
        }
    }

    pub fn holds(self, table: Table) -> bool {
        match self {
            Self::Metrics => table == Table::Metrics,
            Self::Events => table == Table::Logs || table == Table::Spans,
        }
    }
}

const COLUMNS_OF_LIVE_FILES: &str = "SELECT id, tenant, tbl, path, window_start, window_secs, level, size_bytes, row_count, \
    min_time, max_time, stats FROM file WHERE tbl = $1 AND removed_seq IS NULL ORDER BY id";
const FILE_BY_PATH: &str = "SELECT id, tenant, tbl, path, window_start, window_secs, level, size_bytes, row_count, \
    min_time, max_time, stats FROM file WHERE path = $1";
const ADDED_FILES: &str = "SELECT id, tenant, tbl, path, window_start, window_secs, level, size_bytes, row_count, min_time, \
    max_time, stats FROM file WHERE tenant = $1 AND tbl = $2 AND added_seq > $3 AND removed_seq IS NULL ORDER BY id";
const TAKEN_FILES: &str = "SELECT id, tenant, tbl, path, window_start, window_secs, level, size_bytes, row_count, min_time, \
    max_time, stats FROM file WHERE tenant = $1 AND tbl = $2 AND added_seq <= $3 AND removed_seq > $3 ORDER BY id";
const FILES_AT: &str = "SELECT id, tenant, tbl, path, window_start, window_secs, level, size_bytes, row_count, min_time, \
    max_time, stats FROM file WHERE tenant = $1 AND tbl = $2 AND added_seq <= $3 AND (removed_seq IS NULL OR removed_seq > $3) \
    ORDER BY id";
const REMOVED_FILES: &str = "SELECT id, tenant, tbl, path, window_start, window_secs, level, size_bytes, row_count, \
    min_time, max_time, stats, removed_at FROM file WHERE removed_seq IS NOT NULL AND removed_at < $1 ORDER BY removed_at, id LIMIT $2";

impl Catalog {
    /// The files that make up a table now, oldest entry first.
    pub async fn files(&self, table: Table) -> Result<Vec<FileEntry>> {
        let rows = sqlx::query(COLUMNS_OF_LIVE_FILES).bind(table.as_str()).fetch_all(self.reader()).await;
        rows.and_then(|rows| rows.iter().map(file_entry).collect()).map_err(|error| self.error(error))
    }

    /// Tenants and tables that have files, or had some that are not forgotten yet.
    pub async fn tables(&self) -> Result<Vec<(TenantId, Table)>> {
        let found = sqlx::query_as::<_, (i64, String)>("SELECT DISTINCT tenant, tbl FROM file ORDER BY tenant, tbl");
        let found = found.fetch_all(self.reader()).await.map_err(|error| self.error(error))?;
        let known = |(tenant, table): (i64, String)| Some((TenantId(u32::try_from(tenant).ok()?), Table::from_name(&table)?));
        Ok(found.into_iter().filter_map(known).collect())
    }

    /// How a table differs from what it was at an earlier change of the manifest. Files that came and went since are not told.
    pub async fn table_changes(&self, tenant: TenantId, table: Table, since: i64) -> Result<TableChanges> {
        let mut read = self.reader().begin().await.map_err(|error| self.error(error))?;
        let change = sqlx::query_scalar("SELECT value FROM counter WHERE name = 'change'").fetch_one(&mut *read).await;
        let change = change.map_err(|error| self.error(error))?;
        let mut changes = TableChanges { change, ..TableChanges::default() };
        for (sql, files) in [(ADDED_FILES, &mut changes.added), (TAKEN_FILES, &mut changes.removed)] {
            let rows = sqlx::query(sql).bind(i64::from(tenant.0)).bind(table.as_str()).bind(since).fetch_all(&mut *read).await;
            *files = rows.and_then(|rows| rows.iter().map(file_entry).collect()).map_err(|error| self.error(error))?;
        }
        Ok(changes)
    }

    /// The files that made up a table at a change of the manifest, those excepted that are forgotten since.
    pub async fn files_at(&self, tenant: TenantId, table: Table, change: i64) -> Result<Vec<FileEntry>> {
        let rows = sqlx::query(FILES_AT).bind(i64::from(tenant.0)).bind(table.as_str()).bind(change);
        let rows = rows.fetch_all(self.reader()).await;
        rows.and_then(|rows| rows.iter().map(file_entry).collect()).map_err(|error| self.error(error))
    }

    /// Grows with every change of the manifest: a reader that saw this number has the present list.
    pub async fn manifest_version(&self) -> Result<i64> {
        let version = sqlx::query_scalar("SELECT value FROM counter WHERE name = 'change'").fetch_one(self.reader()).await;
        version.map_err(|error| self.error(error))
    }

    /// Everything up to this position is in files; the replay of the journal starts behind it.
    pub async fn progress(&self, store: Store) -> Result<JournalPosition> {
        self.progress_named(store.as_str()).await
    }

    /// The highest position that any part has taken in: the floor for new positions of the journal.
    pub async fn highest_progress(&self) -> Result<JournalPosition> {
        let highest = sqlx::query_scalar::<_, Option<i64>>("SELECT MAX(position) FROM progress").fetch_one(self.reader()).await;
        Ok(position_of(highest.map_err(|error| self.error(error))?.unwrap_or(0)))
    }

    pub(crate) async fn progress_named(&self, name: &str) -> Result<JournalPosition> {
        let found = sqlx::query_scalar::<_, i64>("SELECT position FROM progress WHERE store = $1").bind(name);
        let found = found.fetch_optional(self.reader()).await.map_err(|error| self.error(error))?;
        Ok(position_of(found.unwrap_or(0)))
    }

    /// Publishes the files of a head that held the journal from behind `from` up to `to`, and moves the store's position, in one.
    ///
    /// Repeating a commit that succeeded answers the same and changes nothing. Otherwise refuses with `FixRequest` when the
    /// store is not at `from`, and with `Unauthorized` when the lease has passed to someone else.
    pub async fn commit_flush(
        &self,
        store: Store,
        lease: &Lease,
        from: JournalPosition,
        to: JournalPosition,
        files: &[FileEntry],
    ) -> Result<Vec<FileEntry>> {
        if to < from {
            return Err(Error::fix_request(format!("a flush cannot go back from position {} to {}", from.0, to.0)));
        }
        if let Some(foreign) = files.iter().find(|file| !store.holds(file.table)) {
            return Err(Error::fix_request(format!("{} is no file of the {} store", foreign.path, store.as_str())));
        }
        let mut write = self.write().await?;
        leases::check(self, &mut write, lease).await?;
        let at = progress_in(&mut write, store.as_str()).await.map_err(|error| self.error(error))?;
        if at == to
            && let Some(committed) = self.all_known(&mut write, files).await?
        {
            return Ok(committed);
        }
        if at != from {
            return Err(Error::fix_request(format!(
                "the {} store is at position {}, this flush starts at {}: another one came first",
                store.as_str(),
                at.0,
                from.0
            )));
        }
        let added = self.insert_files(&mut write, files).await?;
        set_progress(&mut write, store.as_str(), to).await.map_err(|error| self.error(error))?;
        self.commit(write).await?;
        Ok(added)
    }

    /// Lists files that were found without an entry, and moves the store's position up to what they hold, in one.
    pub async fn adopt_files(&self, store: Store, files: &[FileEntry], progress: JournalPosition) -> Result<()> {
        let mut write = self.write().await?;
        self.insert_files(&mut write, files).await?;
        let at = progress_in(&mut write, store.as_str()).await.map_err(|error| self.error(error))?;
        if progress > at {
            set_progress(&mut write, store.as_str(), progress).await.map_err(|error| self.error(error))?;
        }
        self.commit(write).await
    }

    /// Lists files that were made elsewhere, and notes under `key` where they came from, in one.
    ///
    /// `None`, and nothing is listed, when that was noted before. Refuses with `Unauthorized` when the lease has passed to someone
    /// else.
    pub async fn commit_import(
        &self,
        lease: &Lease,
        key: &str,
        note: &[u8],
        files: &[FileEntry],
    ) -> Result<Option<Vec<FileEntry>>> {
        let mut write = self.write().await?;
        leases::check(self, &mut write, lease).await?;
        let known =
            sqlx::query_scalar::<_, i64>("SELECT COUNT(*) FROM kv WHERE name = $1").bind(key).fetch_one(&mut *write).await;
        if known.map_err(|error| self.error(error))? > 0 {
            return Ok(None);
        }
        let added = self.insert_files(&mut write, files).await?;
        state::put(self, &mut write, key, note).await?;
        self.commit(write).await?;
        Ok(Some(added))
    }

    /// Replaces files by the ones that were made of them, in one.
    ///
    /// Repeating a commit that succeeded answers the same and changes nothing. Otherwise refuses with `FixRequest` when an
    /// input is gone already, and then nothing has changed; with `Unauthorized` when the lease has passed to someone else.
    pub async fn commit_compaction(
        &self,
        lease: &Lease,
        removed: &[i64],
        added: &[FileEntry],
        now: Nanos,
    ) -> Result<Vec<FileEntry>> {
        let mut write = self.write().await?;
        leases::check(self, &mut write, lease).await?;
        let inputs: BTreeSet<i64> = removed.iter().copied().collect();
        let mut places = BTreeSet::new();
        let mut gone = Vec::new();
        let seq = next_change(&mut write).await.map_err(|error| self.error(error))?;
        for id in &inputs {
            let sql =
                "UPDATE file SET removed_seq = $1, removed_at = $2 WHERE id = $3 AND removed_seq IS NULL RETURNING tenant, tbl";
            let updated =
                sqlx::query_as::<_, (i64, String)>(sql).bind(seq).bind(now.0).bind(id).fetch_optional(&mut *write).await;
            match updated.map_err(|error| self.error(error))? {
                Some(place) => {
                    places.insert(place);
                }
                None => gone.push(*id),
            }
        }
        if !gone.is_empty() {
            let is_repeated = gone.len() == inputs.len() && !added.is_empty();
            if is_repeated && let Some(committed) = self.all_known(&mut write, added).await? {
                return Ok(committed);
            }
            return Err(Error::fix_request(format!(
                "files {gone:?} are no longer part of the table: another compaction or the retention came first"
            )));
        }
        if !inputs.is_empty()
            && let Some(foreign) =
                added.iter().find(|file| !places.contains(&(i64::from(file.tenant.0), file.table.as_str().to_owned())))
        {
            return Err(Error::fix_request(format!("{} is of another tenant or table than what it replaces", foreign.path)));
        }
        let added = self.insert_files(&mut write, added).await?;
        self.commit(write).await?;
        Ok(added)
    }

    /// Takes files out of their tables, for retention. Returns how many were still part of one.
    pub async fn remove_files(&self, ids: &[i64], now: Nanos) -> Result<u64> {
        let mut write = self.write().await?;
        let seq = next_change(&mut write).await.map_err(|error| self.error(error))?;
        let mut removed = 0;
        for id in ids {
            let sql = "UPDATE file SET removed_seq = $1, removed_at = $2 WHERE id = $3 AND removed_seq IS NULL";
            let done = sqlx::query(sql).bind(seq).bind(now.0).bind(id).execute(&mut *write).await;
            removed += done.map_err(|error| self.error(error))?.rows_affected();
        }
        self.commit(write).await?;
        Ok(removed)
    }

    /// Files that were taken out before `removed_before` and may now be deleted from the object store, at most `limit`, with the time
    /// when they were taken out.
    pub async fn files_to_delete(&self, removed_before: Nanos, limit: u32) -> Result<Vec<(FileEntry, Nanos)>> {
        let rows = sqlx::query(REMOVED_FILES).bind(removed_before.0).bind(limit).fetch_all(self.reader()).await;
        let removed = |row: &SqliteRow| Ok((file_entry(row)?, Nanos(row.try_get("removed_at")?)));
        rows.and_then(|rows| rows.iter().map(removed).collect()).map_err(|error| self.error(error))
    }

    /// Forgets files that were deleted from the object store. Files that are part of a table stay.
    pub async fn forget_files(&self, ids: &[i64]) -> Result<u64> {
        let mut write = self.write().await?;
        let mut forgotten = 0;
        for id in ids {
            let done =
                sqlx::query("DELETE FROM file WHERE id = $1 AND removed_seq IS NOT NULL").bind(id).execute(&mut *write).await;
            forgotten += done.map_err(|error| self.error(error))?.rows_affected();
        }
        self.commit(write).await?;
        Ok(forgotten)
    }

    /// Of `paths` those that the catalog does not know: left behind by a flush that never committed, if they are old enough.
    pub async fn unknown_paths(&self, paths: &[String]) -> Result<Vec<String>> {
        let mut unknown = Vec::new();
        for path in paths {
            let found = sqlx::query_scalar::<_, i64>("SELECT id FROM file WHERE path = $1").bind(path.as_str());
            if found.fetch_optional(self.reader()).await.map_err(|error| self.error(error))?.is_none() {
                unknown.push(path.clone());
            }
        }
        Ok(unknown)
    }

    /// The entries under the paths of `files`, when each of them was committed once; they may have been compacted since.
    async fn all_known(&self, write: &mut Write, files: &[FileEntry]) -> Result<Option<Vec<FileEntry>>> {
        let mut found = Vec::with_capacity(files.len());
        for file in files {
            let row = sqlx::query(FILE_BY_PATH).bind(file.path.as_str()).fetch_optional(&mut **write).await;
            match row.map_err(|error| self.error(error))? {
                Some(row) => found.push(file_entry(&row).map_err(|error| self.error(error))?),
                None => return Ok(None),
            }
        }
        Ok(Some(found))
    }

    async fn insert_files(&self, write: &mut Write, files: &[FileEntry]) -> Result<Vec<FileEntry>> {
        if files.is_empty() {
            return Ok(Vec::new());
        }
        let seq = next_change(write).await.map_err(|error| self.error(error))?;
        let mut added = Vec::with_capacity(files.len());
        for file in files {
            let sql = "INSERT INTO file (tenant, tbl, path, window_start, window_secs, level, size_bytes, row_count, min_time, \
                max_time, stats, added_seq) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) RETURNING id";
            let id = sqlx::query_scalar::<_, i64>(sql)
                .bind(i64::from(file.tenant.0))
                .bind(file.table.as_str())
                .bind(file.path.as_str())
                .bind(file.window.0)
                .bind(i64::from(file.window_secs))
                .bind(i64::from(file.level))
                .bind(file.size_bytes as i64)
                .bind(file.rows as i64)
                .bind(file.min_time.0)
                .bind(file.max_time.0)
                .bind(file.stats.as_str())
                .bind(seq);
            let id = id.fetch_one(&mut **write).await.map_err(|error| self.error(error).context(&file.path))?;
            added.push(FileEntry { id, ..file.clone() });
        }
        Ok(added)
    }
}

async fn next_change(write: &mut Write) -> sqlx::Result<i64> {
    sqlx::query_scalar("UPDATE counter SET value = value + 1 WHERE name = 'change' RETURNING value").fetch_one(&mut **write).await
}

pub(crate) async fn progress_in(write: &mut Write, name: &str) -> sqlx::Result<JournalPosition> {
    let found = sqlx::query_scalar::<_, i64>("SELECT position FROM progress WHERE store = $1").bind(name);
    Ok(position_of(found.fetch_optional(&mut **write).await?.unwrap_or(0)))
}

pub(crate) async fn set_progress(write: &mut Write, name: &str, to: JournalPosition) -> sqlx::Result<()> {
    let sql =
        "INSERT INTO progress (store, position) VALUES ($1, $2) ON CONFLICT (store) DO UPDATE SET position = excluded.position";
    sqlx::query(sql).bind(name).bind(to.0 as i64).execute(&mut **write).await?;
    Ok(())
}

fn position_of(stored: i64) -> JournalPosition {
    JournalPosition(stored as u64)
}

fn file_entry(row: &SqliteRow) -> sqlx::Result<FileEntry> {
    let table: String = row.try_get("tbl")?;
    let table = Table::from_name(&table).ok_or_else(|| sqlx::Error::Decode(format!("unknown table {table:?}").into()))?;
    Ok(FileEntry {
        id: row.try_get("id")?,
        tenant: TenantId(row.try_get("tenant")?),
        table,
        path: row.try_get("path")?,
        window: Nanos(row.try_get("window_start")?),
        window_secs: row.try_get("window_secs")?,
        level: row.try_get("level")?,
        size_bytes: row.try_get::<i64, _>("size_bytes")? as u64,
        rows: row.try_get::<i64, _>("row_count")? as u64,
        min_time: Nanos(row.try_get("min_time")?),
        max_time: Nanos(row.try_get("max_time")?),
        stats: row.try_get("stats")?,
    })
}
