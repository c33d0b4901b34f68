//! Small state under a key: what rules, receivers and jobs must remember over a restart.

use crate::Catalog;
use crate::catalog::Write;
use br_std::{Error, Nanos, Result};

/// A value may take this many bytes.
const VALUE_BYTES_MAX: usize = 16 << 20;

impl Catalog {
    pub async fn state(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let value = sqlx::query_scalar("SELECT value FROM kv WHERE name = $1").bind(key).fetch_optional(self.reader()).await;
        value.map_err(|error| self.error(error))
    }

    /// Since when this catalog is kept; `now` when that was never noted.
    pub async fn since(&self, now: Nanos) -> Result<Nanos> {
        const KEY: &str = "catalog/since";
        if let Some(noted) = self.state(KEY).await?.and_then(|bytes| Some(Nanos(i64::from_le_bytes(bytes.try_into().ok()?)))) {
            return Ok(noted);
        }
        self.put_state(KEY, &now.0.to_le_bytes()).await?;
        Ok(now)
    }

    /// Keys that begin with `prefix` and their values, sorted by key, at most `limit`.
    pub async fn states(&self, prefix: &str, limit: u32) -> Result<Vec<(String, Vec<u8>)>> {
        let sql = "SELECT name, value FROM kv WHERE name >= $1 AND substr(name, 1, length($1)) = $1 ORDER BY name LIMIT $2";
        let found = sqlx::query_as(sql).bind(prefix).bind(limit).fetch_all(self.reader()).await;
        found.map_err(|error| self.error(error))
    }

    /// How many keys begin with `prefix`.
    pub async fn count_states(&self, prefix: &str) -> Result<u64> {
        let sql = "SELECT COUNT(*) FROM kv WHERE name >= $1 AND substr(name, 1, length($1)) = $1";
        let count = sqlx::query_scalar::<_, i64>(sql).bind(prefix).fetch_one(self.reader()).await;
        count.map(|count| count as u64).map_err(|error| self.error(error))
    }

    /// Replaces a value. To change it together with the ledger, use [`Catalog::commit_change`].
    pub async fn put_state(&self, key: &str, value: &[u8]) -> Result<()> {
        let mut write = self.write().await?;
        put(self, &mut write, key, value).await?;
        self.commit(write).await
    }

    /// True when there was a value.
    pub async fn remove_state(&self, key: &str) -> Result<bool> {
        let mut write = self.write().await?;
        let done = sqlx::query("DELETE FROM kv WHERE name = $1").bind(key).execute(&mut *write).await;
        let removed = done.map_err(|error| self.error(error))?.rows_affected() > 0;
        self.commit(write).await?;
        Ok(removed)
    }
}

pub(crate) async fn put(catalog: &Catalog, write: &mut Write, key: &str, value: &[u8]) -> Result<()> {
    if value.len() > VALUE_BYTES_MAX {
        return Err(Error::over_limit(format!(
            "the state {key} takes {} bytes, at most {VALUE_BYTES_MAX} are kept",
            value.len()
        )));
    }
    let sql = "INSERT INTO kv (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    sqlx::query(sql).bind(key).bind(value).execute(&mut **write).await.map_err(|error| catalog.error(error))?;
    Ok(())
}
