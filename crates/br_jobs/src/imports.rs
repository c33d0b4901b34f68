//! Metrics from elsewhere: files that were made of another store's data are put beside the store's own, and listed all at once.
//!
//! First each file is put where nobody looks; then one call verifies the files of a source and lists them together with the note
//! that this source was taken in. A source is taken in whole or not at all, and a second time not at all.

use crate::flush::{Flusher, LEASE_DURATION, acquire_lease, blocking, to_the_end};
use br_catalog::{Catalog, Lease};
use br_env::Clock;
use br_model::TenantId;
use br_std::hash::hash128;
use br_std::{Error, Kind, Nanos, Result};
use br_storage::FileEntry;
use br_tsdb::{ImportSpec, import_path, inspect_import};
use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use std::sync::Arc;
use std::time::Duration;

/// Files of one source.
const FILES_MAX: usize = 10_000;
const SOURCE_BYTES_MAX: usize = 200;
/// Clocks differ; a file of a day ends at its midnight at the latest.
const FUTURE_MAX: Duration = Duration::from_hours(24);

/// Takes files in, for a running server and for one that stands still.
pub struct Importer {
    pub catalog: Arc<Catalog>,
    pub files: Arc<dyn ObjectStore>,
    pub clock: Arc<dyn Clock>,
}

/// The files of a source, which may be listed.
struct Verified {
    /// Under this the catalog notes the source.
    key: String,
    note: String,
    paths: Vec<String>,
    entries: Vec<FileEntry>,
}

/// What became of a source.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Imported {
    pub files: Vec<FileEntry>,
    /// The source was taken in before; nothing was done now.
    pub is_repeated: bool,
}

impl Imported {
    fn repeated() -> Self {
        Self { files: Vec::new(), is_repeated: true }
    }
}

impl Importer {
    /// The right to change the manifest, for as long as no server runs.
    pub async fn acquire(&self) -> Result<Lease> {
        acquire_lease(&self.catalog, &*self.clock).await
    }

    pub async fn is_known(&self, tenant: TenantId, source: &str) -> Result<bool> {
        Ok(self.catalog.state(&key(tenant, source)?).await?.is_some())
    }

    /// Puts a file where it will be read once it is listed. Gives its path.
    pub async fn put(&self, tenant: TenantId, window_ms: i64, window_secs: u32, bytes: Bytes) -> Result<String> {
        // The same file may come again after the first one was merged away: the path must be another.
        let nonce = hash128(&bytes) ^ hash128(&self.clock.now().0.to_le_bytes());
        let path = import_path(&ImportSpec { tenant, window_ms, window_secs, nonce });
        let put = self.files.put(&Path::from(path.as_str()), bytes.into()).await;
        put.map_err(|error| Error::retry(format!("{path}: {error}")).with_source(error))?;
        Ok(path)
    }

    /// Verifies the files of a source and lists them. `age_max` is the retention: what it would drop at once is refused.
    pub async fn commit(
        &self,
        lease: &Lease,
        tenant: TenantId,
        source: &str,
        paths: &[String],
        age_max: Duration,
    ) -> Result<Imported> {
        let outcome = match self.verify(tenant, source, paths, age_max).await {
            Ok(Some(verified)) => self.list(lease, &verified).await,
            Ok(None) => Ok(Imported::repeated()),
            Err(error) => Err(error),
        };
        self.remove_unlisted(tenant, paths, &outcome).await;
        outcome
    }

    /// What can never be listed any more goes.
    async fn remove_unlisted(&self, tenant: TenantId, paths: &[String], outcome: &Result<Imported>) {
        let is_listed = matches!(outcome, Ok(imported) if !imported.is_repeated);
        if !is_listed && !matches!(outcome, Err(error) if error.kind() == Kind::Retry) {
            self.remove(tenant, paths).await;
        }
    }

    /// Reads the files of a source, which takes as long as they are large. `None` when the source was taken in before.
    async fn verify(&self, tenant: TenantId, source: &str, paths: &[String], age_max: Duration) -> Result<Option<Verified>> {
        let key = key(tenant, source)?;
        if paths.len() > FILES_MAX {
            return Err(Error::over_limit(format!("{} files of one source; at most {FILES_MAX} are taken", paths.len())));
        }
        if let Some(foreign) = paths.iter().find(|path| !is_of_tenant(path, tenant)) {
            return Err(Error::fix_request(format!("{foreign:?} is no path that this server gave to tenant {}", tenant.0)));
        }
        if self.catalog.state(&key).await?.is_some() {
            return Ok(None);
        }
        self.check_unlisted(paths).await?;
        let cutoff = self.clock.now() - age_max;
        let mut entries = Vec::with_capacity(paths.len());
        for path in paths {
            entries.push(self.inspect(path, cutoff).await?);
        }
        let samples: u64 = entries.iter().map(|entry| entry.rows).sum();
        let note = serde_json::json!({ "at": self.clock.now().0, "files": entries.len(), "rows": samples }).to_string();
        Ok(Some(Verified { key, note, paths: paths.to_vec(), entries }))
    }

    async fn check_unlisted(&self, paths: &[String]) -> Result<()> {
        if self.catalog.unknown_paths(paths).await?.len() == paths.len() {
            return Ok(());
        }
        Err(Error::fix_request("one of the files is listed already"))
    }

    /// All of them, or none when another was faster.
    async fn list(&self, lease: &Lease, verified: &Verified) -> Result<Imported> {
        let Verified { key, note, paths, entries } = verified;
        self.check_unlisted(paths).await?;
        let committed = self.catalog.commit_import(lease, key, note.as_bytes(), entries).await?;
        Ok(committed.map_or_else(Imported::repeated, |files| Imported { files, is_repeated: false }))
    }

    async fn inspect(&self, path: &str, cutoff: Nanos) -> Result<FileEntry> {
        let found = self.files.head(&Path::from(path)).await;
        // What the store says names its own folder: that is for the log.
        let size_bytes = found.map_err(|error| {
            tracing::warn!(event = "ImportFileMissing", path, "{error}");
            Error::not_found(format!("{path} is not there: send it again"))
        })?;
        let size_bytes = size_bytes.size;
        let (store, name) = (self.files.clone(), path.to_owned());
        // What cannot be read is the sender's fault, not one of the store's files that has been damaged.
        let entry = blocking(move || inspect_import(&store, &name, size_bytes)).await?.map_err(|error| match error.kind() {
            Kind::Corrupt => Error::fix_request(error.message().to_owned()),
            _ => error,
        })?;
        if entry.max_time < cutoff {
            return Err(Error::fix_request(format!(
                "{path} ends at {} ms, before what bellrock.retention.metrics keeps: raise it first",
                entry.max_time.as_millis()
            )));
        }
        let now = self.clock.now();
        if entry.max_time > now + FUTURE_MAX {
            let (ahead_h, ends_ms) = ((entry.max_time.as_secs() - now.as_secs()) / 3600, entry.max_time.as_millis());
            return Err(Error::fix_request(format!(
                "{path} ends at {ends_ms} ms, {ahead_h} hours from now: samples of times to come"
            )));
        }
        Ok(entry)
    }

    /// Best effort: what stays is found by the next start of the server.
    async fn remove(&self, tenant: TenantId, paths: &[String]) {
        let mine: Vec<String> = paths.iter().filter(|path| is_of_tenant(path, tenant)).cloned().collect();
        for path in self.catalog.unknown_paths(&mine).await.unwrap_or_default() {
            let _ = self.files.delete(&Path::from(path.as_str())).await;
        }
    }
}

impl Flusher {
    pub fn importer(&self) -> Importer {
        let parts = &self.parts;
        Importer { catalog: parts.catalog.clone(), files: parts.files.clone(), clock: parts.clock.clone() }
    }

    /// Lists the files of a source, and lets queries see them.
    pub async fn commit_import(
        self: &Arc<Self>,
        tenant: TenantId,
        source: String,
        paths: Vec<String>,
        age_max: Duration,
    ) -> Result<Imported> {
        let this = self.clone();
        to_the_end(async move {
            let importer = this.importer();
            let outcome = this.import(&importer, tenant, &source, &paths, age_max).await;
            importer.remove_unlisted(tenant, &paths, &outcome).await;
            outcome
        })
        .await
    }

    /// Flushes go on while the files are read.
    async fn import(
        &self,
        importer: &Importer,
        tenant: TenantId,
        source: &str,
        paths: &[String],
        age_max: Duration,
    ) -> Result<Imported> {
        let Some(verified) = importer.verify(tenant, source, paths, age_max).await? else { return Ok(Imported::repeated()) };
        let mut lease = self.take_turn().await?;
        *lease = self.parts.catalog.renew_lease(&lease, self.parts.clock.now(), LEASE_DURATION).await?;
        let imported = importer.list(&lease, &verified).await?;
        self.parts.metrics.replace(&[], &imported.files);
        if !imported.files.is_empty() {
            tracing::info!(event = "MetricsImported", source, files = imported.files.len());
        }
        Ok(imported)
    }
}

/// Under this the catalog notes that a source was taken in.
fn key(tenant: TenantId, source: &str) -> Result<String> {
    if source.is_empty() || source.len() > SOURCE_BYTES_MAX || !source.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Error::fix_request(format!(
            "the name of a source has 1 to {SOURCE_BYTES_MAX} printable ASCII characters and no space, {source:?} has not"
        )));
    }
    Ok(format!("import/{}/{source}", tenant.0))
}

fn is_of_tenant(path: &str, tenant: TenantId) -> bool {
    let is_plain = path.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    is_plain && path.starts_with(&format!("metrics/{}/", tenant.0)) && path.ends_with(".parquet")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_with_their_tenant() {
        assert!(is_of_tenant("metrics/1/7200/0/0-ab.parquet", TenantId(1)));
        for foreign in ["metrics/2/7200/0/0-ab.parquet", "metrics/1/../2/7200/0/0-ab.parquet", "logs/1/a.parquet", "metrics/1/a"]
        {
            assert!(!is_of_tenant(foreign, TenantId(1)), "{foreign}");
        }
        assert!(key(TenantId(1), "a b").is_err() && key(TenantId(1), "01JFJ:count,sum").is_ok());
    }
}
