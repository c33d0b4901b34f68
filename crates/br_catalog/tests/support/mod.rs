//! What the catalog's tests share.
#![allow(dead_code, reason = "each test binary uses its part")]

use br_catalog::{Catalog, Lease};
use br_model::TenantId;
use br_std::Nanos;
use br_storage::{FileEntry, Table};
use std::time::Duration;

pub(crate) const TENANT: TenantId = TenantId(1);

pub(crate) struct Opened {
    pub(crate) catalog: Catalog,
    pub(crate) folder: tempfile::TempDir,
}

impl Opened {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().expect("temporary folder");
        let catalog = Catalog::open(folder.path().join("catalog.db")).await.expect("open");
        Self { catalog, folder }
    }

    /// Closes and opens again, as a restart does.
    pub(crate) async fn reopened(self) -> Self {
        self.catalog.close().await;
        let catalog = Catalog::open(self.folder.path().join("catalog.db")).await.expect("open again");
        Self { catalog, folder: self.folder }
    }

    pub(crate) async fn lease(&self) -> Lease {
        let lease = self.catalog.acquire_lease("writer", "here", seconds(0), Duration::from_mins(1)).await.expect("acquire");
        lease.expect("free")
    }

    /// Runs SQL behind the catalog's back.
    pub(crate) async fn tamper(&self, sql: &'static str) {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(self.catalog.path());
        let pool = sqlx::sqlite::SqlitePool::connect_with(options).await.expect("connect");
        sqlx::raw_sql(sql).execute(&pool).await.expect("tamper");
        pool.close().await;
    }
}

pub(crate) fn seconds(seconds: i64) -> Nanos {
    Nanos::from_secs(seconds)
}

pub(crate) fn file(table: Table, path: &str) -> FileEntry {
    FileEntry {
        id: 0,
        tenant: TENANT,
        table,
        path: path.to_owned(),
        window: seconds(3600),
        window_secs: 3600,
        level: 2,
        size_bytes: 1 << 40,
        rows: 12_345_678_901,
        min_time: Nanos(-7),
        max_time: Nanos::MAX,
        stats: r#"{"services": ["a"]}"#.to_owned(),
    }
}

pub(crate) fn paths(files: &[FileEntry]) -> Vec<&str> {
    files.iter().map(|file| file.path.as_str()).collect()
}
