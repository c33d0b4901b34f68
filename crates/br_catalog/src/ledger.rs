//! The append-only ledger from evaluation to postmortem. Each tenant's entries form a chain of hashes, so that what was changed
//! or taken away later shows.

use crate::catalog::Write;
use crate::scrub::{LEDGER_PREFIX, body_hash};
use crate::{Catalog, NewOutboxItem, outbox, state};
use br_model::TenantId;
use br_std::{Error, Nanos, Result};
use sha2::{Digest, Sha256};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

/// An entry's body may take this many bytes.
const BODY_BYTES_MAX: usize = 4 << 20;
/// Rows that a verification holds at a time.
const VERIFIED_PAGE: i64 = 200;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewLedgerEntry {
    pub at: Nanos,
    /// Dotted words, the general first: `alert.fired`, `incident.acknowledged`.
    pub kind: String,
    /// What it is about: the id of an alert, an incident, a silence.
    pub subject: String,
    /// JSON.
    pub body: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerEntry {
    /// Grows with time over all tenants, with gaps.
    pub id: i64,
    pub tenant: TenantId,
    pub at: Nanos,
    pub kind: String,
    pub subject: String,
    pub body: String,
    /// SHA-256 over the entry before and this one, in hexadecimal digits.
    pub hash: String,
}

/// Which entries; the default is all.
#[derive(Clone, Debug, Default)]
pub struct LedgerFilter {
    /// Only kinds that begin with this: `alert.`.
    pub kind_prefix: String,
    pub subject: Option<String>,
    /// Only entries with a higher id; 0 for all.
    pub after_id: i64,
    /// The newest entries first instead of the oldest.
    pub newest_first: bool,
}

/// A change of state with everything that must not be without it: what happened, whom to tell, and the state that follows.
#[derive(Clone, Debug, Default)]
pub struct Change {
    pub ledger: Vec<NewLedgerEntry>,
    pub outbox: Vec<NewOutboxItem>,
    /// Keys with their new values; see [`Catalog::put_state`].
    pub state: Vec<(String, Vec<u8>)>,
}

/// The ids that a [`Change`] was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    pub ledger_ids: Vec<i64>,
    /// `None` where the tenant's outbox has had an item of this key already.
    pub outbox_ids: Vec<Option<i64>>,
}

impl Catalog {
    /// Makes a change: all of it is on stable storage, or nothing of it happened.
    pub async fn commit_change(&self, tenant: TenantId, change: &Change, now: Nanos) -> Result<Committed> {
        let mut write = self.write().await?;
        let committed = self.apply_change(&mut write, tenant, change, now).await?;
        self.commit(write).await?;
        Ok(committed)
    }

    /// Appends entries and queues messages in one; returns the ids of the entries.
    pub async fn append_ledger(
        &self,
        tenant: TenantId,
        entries: &[NewLedgerEntry],
        messages: &[NewOutboxItem],
        now: Nanos,
    ) -> Result<Committed> {
        let change = Change { ledger: entries.to_vec(), outbox: messages.to_vec(), state: Vec::new() };
        self.commit_change(tenant, &change, now).await
    }

    async fn apply_change(&self, write: &mut Write, tenant: TenantId, change: &Change, now: Nanos) -> Result<Committed> {
        let mut committed = Committed::default();
        let (mut count, mut hash) = self.head(write, tenant).await?;
        for entry in &change.ledger {
            if entry.body.len() > BODY_BYTES_MAX {
                return Err(Error::over_limit(format!(
                    "a ledger entry of {} bytes, at most {BODY_BYTES_MAX} are kept",
                    entry.body.len()
                )));
            }
            let previous = std::mem::take(&mut hash);
            hash = chain_hash(&previous, tenant, entry.at, &entry.kind, &entry.subject, &entry.body);
            let sql = "INSERT INTO ledger (tenant, at, kind, subject, body, prev_hash, hash) VALUES ($1, $2, $3, $4, $5, $6, $7) \
                RETURNING id";
            let id = sqlx::query_scalar::<_, i64>(sql)
                .bind(i64::from(tenant.0))
                .bind(entry.at.0)
                .bind(entry.kind.as_str())
                .bind(entry.subject.as_str())
                .bind(entry.body.as_str())
                .bind(previous)
                .bind(hash.as_str());
            committed.ledger_ids.push(id.fetch_one(&mut **write).await.map_err(|error| self.error(error))?);
            count += 1;
        }
        if !change.ledger.is_empty() {
            let sql = "INSERT INTO ledger_head (tenant, entries, hash) VALUES ($1, $2, $3) \
                ON CONFLICT (tenant) DO UPDATE SET entries = excluded.entries, hash = excluded.hash";
            let head = sqlx::query(sql).bind(i64::from(tenant.0)).bind(count).bind(hash);
            head.execute(&mut **write).await.map_err(|error| self.error(error))?;
        }
        for message in &change.outbox {
            committed.outbox_ids.push(outbox::insert(self, write, tenant, message, now).await?);
        }
        for (key, value) in &change.state {
            state::put(self, write, key, value).await?;
        }
        Ok(committed)
    }

    /// A tenant's entries, at most `limit`.
    pub async fn ledger(&self, tenant: TenantId, filter: &LedgerFilter, limit: u32) -> Result<Vec<LedgerEntry>> {
        const OLDEST_FIRST: &str = "SELECT id, tenant, at, kind, subject, body, prev_hash, hash FROM ledger WHERE tenant = $1 AND id > $2 \
            AND substr(kind, 1, length($3)) = $3 AND ($4 IS NULL OR subject = $4) ORDER BY id LIMIT $5";
        const NEWEST_FIRST: &str = "SELECT id, tenant, at, kind, subject, body, prev_hash, hash FROM ledger WHERE tenant = $1 AND id > $2 \
            AND substr(kind, 1, length($3)) = $3 AND ($4 IS NULL OR subject = $4) ORDER BY id DESC LIMIT $5";
        let sql = if filter.newest_first { NEWEST_FIRST } else { OLDEST_FIRST };
        let rows = sqlx::query(sql)
            .bind(i64::from(tenant.0))
            .bind(filter.after_id)
            .bind(filter.kind_prefix.as_str())
            .bind(filter.subject.as_deref())
            .bind(limit);
        let rows = rows.fetch_all(self.reader()).await.map_err(|error| self.error(error))?;
        rows.iter().map(|row| entry(row).map(|(entry, _)| entry)).collect::<sqlx::Result<_>>().map_err(|error| self.error(error))
    }

    /// Goes through all chains as they are at one moment; returns how many entries there are. Fails with `Corrupt` at the first
    /// entry that was changed, and when entries were taken away or put in.
    pub async fn verify_ledger(&self) -> Result<u64> {
        let mut read = self.reader().begin().await.map_err(|error| self.error(error))?;
        let heads = sqlx::query_as::<_, (i64, i64, String)>("SELECT tenant, entries, hash FROM ledger_head ORDER BY tenant");
        let heads = heads.fetch_all(&mut *read).await.map_err(|error| self.error(error))?;
        let mut verified = 0;
        for (tenant, entries, head) in heads {
            let (count, hash) = self.verify_chain(&mut read, tenant).await?;
            if (count, &hash) != (entries, &head) {
                let message = format!(
                    "the ledger of tenant {tenant} should have {entries} entries and has {count}: some were taken away or put in"
                );
                return Err(Error::corrupt(message));
            }
            verified += count;
        }
        let all = sqlx::query_scalar::<_, i64>("SELECT COUNT(*) FROM ledger").fetch_one(&mut *read).await;
        let all = all.map_err(|error| self.error(error))?;
        if all != verified {
            return Err(Error::corrupt(format!("the ledger has {all} entries, of which {verified} belong to a chain")));
        }
        Ok(verified as u64)
    }

    /// Follows a tenant's chain to its end: how many entries it has, and the hash of the last.
    async fn verify_chain(&self, read: &mut Write, tenant: i64) -> Result<(i64, String)> {
        let (mut count, mut hash, mut after_id) = (0, String::new(), 0);
        loop {
            let sql = "SELECT id, tenant, at, kind, subject, body, prev_hash, hash FROM ledger WHERE tenant = $1 AND id > $2 \
                ORDER BY id LIMIT $3";
            let rows = sqlx::query(sql).bind(tenant).bind(after_id).bind(VERIFIED_PAGE).fetch_all(&mut **read).await;
            let rows = rows.map_err(|error| self.error(error))?;
            if rows.is_empty() {
                return Ok((count, hash));
            }
            for row in &rows {
                let (entry, previous) = entry(row).map_err(|error| self.error(error))?;
                let expected = chain_hash(&previous, entry.tenant, entry.at, &entry.kind, &entry.subject, &entry.body);
                let is_as_written = expected == entry.hash || self.was_erased_from(read, &entry).await?;
                if previous != hash || !is_as_written {
                    let message = format!(
                        "entry {} of the ledger of tenant {tenant} was changed, or one before it was taken away",
                        entry.id
                    );
                    return Err(Error::corrupt(message));
                }
                (hash, after_id) = (entry.hash, entry.id);
                count += 1;
            }
        }
    }

    /// Whether an erasure has made the body what it is.
    async fn was_erased_from(&self, read: &mut Write, entry: &LedgerEntry) -> Result<bool> {
        let sql = "SELECT value FROM kv WHERE name = $1";
        let kept =
            sqlx::query_scalar::<_, Vec<u8>>(sql).bind(format!("{LEDGER_PREFIX}{}", entry.id)).fetch_optional(&mut **read).await;
        let kept = kept.map_err(|error| self.error(error))?;
        Ok(kept.is_some_and(|hash| hash == body_hash(&entry.body).into_bytes()))
    }

    async fn head(&self, write: &mut Write, tenant: TenantId) -> Result<(i64, String)> {
        let head = sqlx::query_as::<_, (i64, String)>("SELECT entries, hash FROM ledger_head WHERE tenant = $1")
            .bind(i64::from(tenant.0));
        Ok(head.fetch_optional(&mut **write).await.map_err(|error| self.error(error))?.unwrap_or_default())
    }
}

/// The entry, and the hash of the one before it.
fn entry(row: &SqliteRow) -> sqlx::Result<(LedgerEntry, String)> {
    let entry = LedgerEntry {
        id: row.try_get("id")?,
        tenant: TenantId(row.try_get("tenant")?),
        at: Nanos(row.try_get("at")?),
        kind: row.try_get("kind")?,
        subject: row.try_get("subject")?,
        body: row.try_get("body")?,
        hash: row.try_get("hash")?,
    };
    Ok((entry, row.try_get("prev_hash")?))
}

/// Each text with its length before it, so that no two entries read the same.
fn chain_hash(previous: &str, tenant: TenantId, at: Nanos, kind: &str, subject: &str, body: &str) -> String {
    let mut digest = Sha256::new();
    digest.update(tenant.0.to_le_bytes());
    digest.update(at.0.to_le_bytes());
    for text in [previous, kind, subject, body] {
        digest.update((text.len() as u64).to_le_bytes());
        digest.update(text.as_bytes());
    }
    hex::encode(digest.finalize())
}
