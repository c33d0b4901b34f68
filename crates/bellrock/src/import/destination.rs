//! Where an import goes: to a running server, or into the data directory of one that stands still.

use super::windows::Window;
use crate::ask::{Client, ServerArguments};
use crate::config::Config;
use crate::lock::{DataLock, lock};
use crate::stores;
use anyhow::{Context, Result};
use br_catalog::Lease;
use br_env::Clock;
use br_env::real::SystemClock;
use br_jobs::imports::Importer;
use br_model::TenantId;
use bytes::Bytes;
use serde_json::json;
use std::path::Path;
use std::time::Duration;

pub(super) fn now_ms() -> i64 {
    SystemClock::new().now().as_millis()
}

pub(super) enum Destination {
    Server(Client),
    Directory(Box<Directory>),
}

pub(super) struct Directory {
    importer: Importer,
    stores: stores::Stores,
    lease: Lease,
    tenant: TenantId,
    retention: Duration,
    _lock: DataLock,
}

impl Destination {
    pub(super) fn server(arguments: &ServerArguments) -> Result<Self> {
        Ok(Self::Server(Client::new(arguments)?))
    }

    pub(super) async fn directory(data_dir: &Path, config: Option<&Path>, tenant: u32) -> Result<Self> {
        let config = config.map(Config::load).transpose()?.unwrap_or_default();
        let data_lock =
            lock(data_dir).context("is the server still running? Then leave --data-dir away and name it with --server")?;
        let stores = stores::open(data_dir, &config).await?;
        let importer = Importer { catalog: stores.catalog.clone(), files: stores.files.clone(), clock: stores.env.clock.clone() };
        let lease = importer.acquire().await?;
        let retention = config.bellrock.retention.metrics.0;
        Ok(Self::Directory(Box::new(Directory {
            importer,
            stores,
            lease,
            tenant: TenantId(tenant),
            retention,
            _lock: data_lock,
        })))
    }

    /// Whose files these are while they are made; a server says for itself whose they are in the end.
    pub(super) fn tenant(&self) -> TenantId {
        match self {
            Self::Server(_) => TenantId(1),
            Self::Directory(directory) => directory.tenant,
        }
    }

    /// How long metrics are kept.
    pub(super) async fn retention(&self) -> Result<Duration> {
        match self {
            Self::Server(client) => {
                let answer = client.get("/bellrock/v1/admin/imports", &[]).await?;
                Ok(Duration::from_millis(
                    answer["retention_ms"].as_u64().context("the server does not say how long it keeps metrics")?,
                ))
            }
            Self::Directory(directory) => Ok(directory.retention),
        }
    }

    pub(super) async fn is_known(&self, source: &str) -> Result<bool> {
        match self {
            Self::Server(client) => {
                let answer = client.get("/bellrock/v1/admin/imports", &[("source", source.to_owned())]).await?;
                Ok(answer["imported"].as_bool().unwrap_or(false))
            }
            Self::Directory(directory) => Ok(directory.importer.is_known(directory.tenant, source).await?),
        }
    }

    /// Gives the path under which the file has to be committed.
    pub(super) async fn put(&self, window: Window, bytes: Bytes) -> Result<String> {
        match self {
            Self::Server(client) => {
                let path = format!(
                    "/bellrock/v1/admin/imports/files?window_start={}&window_secs={}",
                    window.start_ms / 1000,
                    window.secs
                );
                let answer = client.post_bytes(&path, bytes).await?;
                Ok(answer["path"].as_str().context("the server does not say where it put the file")?.to_owned())
            }
            Self::Directory(directory) => {
                Ok(directory.importer.put(directory.tenant, window.start_ms, window.secs, bytes).await?)
            }
        }
    }

    /// True when the source was taken in before.
    pub(super) async fn commit(&self, source: &str, paths: &[String]) -> Result<bool> {
        match self {
            Self::Server(client) => {
                let answer = client.post("/bellrock/v1/admin/imports", &json!({ "source": source, "files": paths })).await?;
                Ok(answer["repeated"].as_bool().unwrap_or(false))
            }
            Self::Directory(directory) => {
                let Directory { importer, lease, tenant, retention, .. } = &**directory;
                Ok(importer.commit(lease, *tenant, source, paths, *retention).await?.is_repeated)
            }
        }
    }

    pub(super) async fn close(self) -> Result<()> {
        let Self::Directory(directory) = self else { return Ok(()) };
        let Directory { stores, lease, .. } = *directory;
        stores.catalog.release_lease(&lease).await?;
        stores.journal.close();
        stores.catalog.close().await;
        Ok(())
    }
}
