//! Opening and closing; the connections.

use crate::{error, schema};
use br_std::{Error, Kind, Result};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteLockingMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};
use sqlx::{Connection, Sqlite, Transaction};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Readers that may look at the same time; they never wait for the writer.
const READERS_MAX: u32 = 4;
/// How long a call waits for its turn.
const TURN_WAIT_MAX: Duration = Duration::from_secs(30);
/// Up to this size the whole file is looked over at the start (about 0.2 s); larger ones are checked by [`Catalog::check`].
const CHECKED_AT_START_BYTES_MAX: i64 = 32 << 20;

/// The catalog. Cheap to clone; all clones share its connections.
#[derive(Clone)]
pub struct Catalog {
    path: PathBuf,
    /// One connection, so that writers queue here and never meet a lock.
    writer: SqlitePool,
    readers: SqlitePool,
    is_alone: bool,
}

pub(crate) type Write = Transaction<'static, Sqlite>;

impl Catalog {
    /// Opens the database file, makes it when there is none, and brings its tables up to date.
    ///
    /// When it cannot be opened so, it is opened as [`Catalog::open_alone`] does.
    /// Fails with `Corrupt` when the file is damaged (see [`crate::open_or_restore`]), and with `FixRequest` when a later release wrote it.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        match Self::open_in(path, SqliteLockingMode::Normal).await {
            Err(error) if error.kind() == Kind::Retry => Self::open_alone(path).await.map_err(|_| error),
            opened => opened,
        }
    }

    /// Opens it for one connection, which needs no file to share its state through, and so no space for one: for a full disk.
    ///
    /// SQLite maps that file into memory. Where the file system has blocks of less than 4 KiB, the file has holes, and to write
    /// into one when no block is left ends the process by a signal.
    pub async fn open_alone(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_in(path.as_ref(), SqliteLockingMode::Exclusive).await
    }

    async fn open_in(path: &Path, locking: SqliteLockingMode) -> Result<Self> {
        let is_alone = locking == SqliteLockingMode::Exclusive;
        let path = path.to_owned();
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true)
            .locking_mode(locking)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(TURN_WAIT_MAX);
        let writer = pool(1).connect_with(options.clone()).await.map_err(|error| error::convert(error, &path))?;
        let readers = if is_alone {
            writer.clone()
        } else {
            pool(READERS_MAX).connect_lazy_with(options.create_if_missing(false).read_only(true))
        };
        let catalog = Self { path, writer, readers, is_alone };
        let opened = async {
            catalog.check_small().await?;
            catalog.migrate().await
        };
        match opened.await {
            Ok(()) => Ok(catalog),
            Err(error) => {
                // A connection that closes later would remove the write-ahead log of whatever is in this place by then.
                catalog.close().await;
                Err(error)
            }
        }
    }

    /// Opened on a full disk: until the next start readers wait for writers.
    pub fn is_alone(&self) -> bool {
        self.is_alone
    }

    /// Where the database file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the whole database and says what is wrong with it, as `Corrupt`.
    pub async fn check(&self) -> Result<()> {
        let found = sqlx::query_scalar::<_, String>("PRAGMA quick_check(1)").fetch_one(&self.writer).await;
        let found = found.map_err(|error| self.error(error))?;
        if found == "ok" {
            return Ok(());
        }
        Err(Error::corrupt(error::damaged(&self.path, &found)))
    }

    /// Waits for calls that are under way, then closes. Later calls fail with `Closed`.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }

    async fn check_small(&self) -> Result<()> {
        let bytes = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()";
        let bytes: i64 = sqlx::query_scalar(bytes).fetch_one(&self.writer).await.map_err(|error| self.error(error))?;
        if bytes <= CHECKED_AT_START_BYTES_MAX { self.check().await } else { Ok(()) }
    }

    async fn migrate(&self) -> Result<()> {
        let mut write = self.write().await?;
        let found = schema::version(&mut write).await.map_err(|error| self.error(error))?;
        self.commit(write).await?;
        let known = schema::MIGRATIONS.len() as i64;
        if found > known {
            return Err(Error::fix_request(format!(
                "the catalog {} has version {found} of its tables, this release knows {known}: start the release that wrote it, or a later one",
                self.path.display()
            )));
        }
        for (sql, version) in schema::MIGRATIONS.iter().zip(1..).skip(usize::try_from(found).unwrap_or(0)) {
            let mut write = self.write().await?;
            schema::migrate(&mut write, sql, version).await.map_err(|error| self.error(error))?;
            self.commit(write).await?;
        }
        Ok(())
    }

    /// Begins a transaction that will write. Dropping it undoes everything.
    pub(crate) async fn write(&self) -> Result<Write> {
        self.writer.begin_with("BEGIN IMMEDIATE").await.map_err(|error| self.error(error))
    }

    /// Returns when the transaction is on stable storage.
    pub(crate) async fn commit(&self, write: Write) -> Result<()> {
        write.commit().await.map_err(|error| self.error(error))
    }

    pub(crate) fn writer(&self) -> &SqlitePool {
        &self.writer
    }

    pub(crate) fn reader(&self) -> &SqlitePool {
        &self.readers
    }

    pub(crate) fn error(&self, error: sqlx::Error) -> Error {
        error::convert(error, &self.path)
    }
}

fn pool(connections_max: u32) -> SqlitePoolOptions {
    let options = SqlitePoolOptions::new().max_connections(connections_max).acquire_timeout(TURN_WAIT_MAX);
    // SQLite undoes a transaction by itself when the disk is full. The library goes on counting it as begun, and its connection can
    // never begin another one: it is given up for a new one.
    options.idle_timeout(None).max_lifetime(None).before_acquire(|connection: &mut SqliteConnection, _| {
        let is_usable = !connection.is_in_transaction();
        Box::pin(std::future::ready(Ok(is_usable)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn alone_it_does_everything_that_it_does_else() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("catalog.db");
        let catalog = Catalog::open_alone(&path).await.expect("opened");
        catalog.put_state("key", b"value").await.expect("written");
        assert_eq!(catalog.state("key").await.expect("read").as_deref(), Some(&b"value"[..]));
        assert!(!folder.path().join("catalog.db-shm").exists(), "it needs no such file");
        catalog.replace_copy(&folder.path().join("copy.db")).await.expect("copied");
        catalog.close().await;
        let catalog = Catalog::open(&path).await.expect("opened again");
        assert_eq!((catalog.is_alone(), catalog.state("key").await.expect("read").is_some()), (false, true));
    }

    /// A limit on pages is to SQLite what a full disk is.
    #[tokio::test]
    async fn after_a_full_disk_it_writes_again() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let catalog = Catalog::open(folder.path().join("catalog.db")).await.expect("opened");
        catalog.put_state("before", b"kept").await.expect("room");
        sqlx::query("PRAGMA max_page_count = 1").fetch_one(&catalog.writer).await.expect("set for this connection");
        let refused = catalog.put_state("large", &vec![1; 1 << 20]).await.expect_err("no room");
        assert_eq!(refused.kind(), Kind::Retry, "{refused}");
        catalog.put_state("after", b"kept too").await.expect("room again");
        assert_eq!(catalog.state("before").await.expect("read").as_deref(), Some(&b"kept"[..]));
        assert_eq!(catalog.state("large").await.expect("read"), None);
    }
}
