//! The tables of events as tables of Delta Lake, for readers beside us: what the catalog's manifest has come to since the last time
//! becomes the next version of a table's log.
//!
//! The manifest is the truth. A version says up to which change of it it goes, so that a try that was cut off is found again.

use crate::flush::{FlusherParts, blocking};
use br_events::{DeltaTable, log_folder};
use br_model::TenantId;
use br_std::{Error, Result};
use br_storage::Table;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutMode, PutOptions, PutPayload};

/// Versions from one checkpoint to the next; readers begin at a checkpoint. What stands before the last but one is deleted.
const CHECKPOINT_VERSIONS: u64 = 64;
/// Versions of earlier tries that are taken note of in one go.
const ADOPTED_MAX: usize = 16;
const LAST_CHECKPOINT: &str = "_last_checkpoint";

/// Brings the logs of all tables up to the manifest. What fails for one is told, and the others go on.
pub(crate) async fn publish(parts: &FlusherParts) -> Result<()> {
    let mut failed = Ok(());
    for (tenant, table) in parts.catalog.tables().await? {
        if table == Table::Metrics {
            continue;
        }
        let log = Log { parts, tenant, table };
        if let Err(error) = log.publish().await {
            failed = Err(error.context(log_folder(tenant, table)));
        }
    }
    failed
}

struct Log<'a> {
    parts: &'a FlusherParts,
    tenant: TenantId,
    table: Table,
}

impl Log<'_> {
    async fn publish(&self) -> Result<()> {
        let mut known = match self.load().await? {
            Some(known) => known,
            None => self.begin_anew().await?,
        };
        for _ in 0..ADOPTED_MAX {
            let changes = self.parts.catalog.table_changes(self.tenant, self.table, known.change).await?;
            if changes.change < known.change {
                // The catalog is an older one than the log was written from.
                known = self.begin_anew().await?;
                continue;
            }
            if changes.added.is_empty() && changes.removed.is_empty() {
                return Ok(());
            }
            let now = self.parts.clock.now();
            let (next, text) = known.commit(changes.change, &changes.added, &changes.removed, now)?;
            let object = DeltaTable::object(known.next_version());
            let is_ours = self.put_new(&object, text.into_bytes()).await?;
            if !is_ours {
                known = match self.adopt(&known, &object).await? {
                    Some(adopted) => adopted,
                    None => self.begin_anew().await?,
                };
                continue;
            }
            self.save(&next).await?;
            if known.next_version() > 0 && known.next_version().is_multiple_of(CHECKPOINT_VERSIONS) {
                self.checkpoint(next).await?;
            }
            return Ok(());
        }
        Err(Error::retry("the log has versions that were not known; it goes on at the next beat"))
    }

    /// The version that stands where ours should, if it is by an earlier try over the same files.
    async fn adopt(&self, known: &DeltaTable, object: &str) -> Result<Option<DeltaTable>> {
        let found = self.parts.files.get(&self.path(object)).await.map_err(store_error)?;
        let bytes = found.bytes().await.map_err(store_error)?;
        let text = std::str::from_utf8(&bytes).unwrap_or_default();
        let Some((next, added)) = known.adopt(self.tenant, self.table, text) else { return Ok(None) };
        if !self.parts.catalog.unknown_paths(&added).await?.is_empty() {
            return Ok(None);
        }
        self.save(&next).await?;
        Ok(Some(next))
    }

    /// Takes away a log that does not belong to this manifest. Readers find a new table in its place.
    async fn begin_anew(&self) -> Result<DeltaTable> {
        let mut objects = self.objects().await?;
        if !objects.is_empty() {
            tracing::warn!(
                event = "DeltaLogBegun",
                log = self.folder(),
                "the log was written from another catalog and begins anew"
            );
        }
        // First what leads readers to the others, whose name comes after all digits, then the newest: what is left is an older
        // table, whole.
        objects.sort_unstable_by(|name, other| other.cmp(name));
        for name in objects {
            self.delete(&name).await?;
        }
        let table = DeltaTable::new(self.tenant, self.table, self.parts.clock.now())?;
        self.save(&table).await?;
        Ok(table)
    }

    /// Of the version that was published last. Then what stands before the last but one is of no use to readers.
    async fn checkpoint(&self, table: DeltaTable) -> Result<()> {
        let Some(version) = table.version else { return Ok(()) };
        let live = self.parts.catalog.files_at(self.tenant, self.table, table.change).await?;
        let last = table.last_checkpoint(live.len());
        let bytes = blocking(move || table.checkpoint(&live)).await??;
        self.put_new(&DeltaTable::checkpoint_object(version), bytes).await?;
        self.parts.files.put(&self.path(LAST_CHECKPOINT), last.into_bytes().into()).await.map_err(store_error)?;
        let kept_from = DeltaTable::object(version.saturating_sub(CHECKPOINT_VERSIONS));
        for name in self.objects().await? {
            // Names begin with the version, in twenty digits.
            if name != LAST_CHECKPOINT && name.get(..20) < kept_from.get(..20) {
                self.delete(&name).await?;
            }
        }
        Ok(())
    }

    fn key(&self) -> String {
        format!("delta/{}/{}", self.tenant.0, self.table.as_str())
    }

    async fn load(&self) -> Result<Option<DeltaTable>> {
        let bytes = self.parts.catalog.state(&self.key()).await?;
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    async fn save(&self, table: &DeltaTable) -> Result<()> {
        let bytes = serde_json::to_vec(table).map_err(|error| Error::corrupt(error.to_string()))?;
        self.parts.catalog.put_state(&self.key(), &bytes).await
    }

    fn folder(&self) -> String {
        log_folder(self.tenant, self.table)
    }

    fn path(&self, object: &str) -> Path {
        Path::from(format!("{}{object}", self.folder()))
    }

    /// The names of the log's objects.
    async fn objects(&self) -> Result<Vec<String>> {
        let folder = Path::from(self.folder());
        let found: Vec<_> = self.parts.files.list(Some(&folder)).try_collect().await.map_err(store_error)?;
        Ok(found.iter().filter_map(|object| object.location.filename().map(str::to_owned)).collect())
    }

    async fn delete(&self, object: &str) -> Result<()> {
        match self.parts.files.delete(&self.path(object)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(store_error(error)),
        }
    }

    /// False when there is such an object already.
    async fn put_new(&self, object: &str, bytes: Vec<u8>) -> Result<bool> {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.parts.files.put_opts(&self.path(object), PutPayload::from(bytes), options).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(false),
            Err(error) => Err(store_error(error)),
        }
    }
}

fn store_error(error: object_store::Error) -> Error {
    Error::retry(error.to_string()).with_source(error)
}
