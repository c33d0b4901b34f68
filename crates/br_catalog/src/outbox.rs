//! Messages that were decided on and not yet delivered. They are queued in the transaction of the decision, so none is forgotten,
//! and carry a key, so none is queued twice.

use crate::Catalog;
use crate::catalog::Write;
use br_model::TenantId;
use br_std::{Error, Nanos, Result};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

/// A payload may take this many bytes.
const PAYLOAD_BYTES_MAX: usize = 4 << 20;
/// Of an error this much is kept.
const ERROR_BYTES_MAX: usize = 4096;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewOutboxItem {
    /// Says which message this is, for ever: a second item of the same key is not queued.
    pub dedup_key: String,
    /// Where it goes: the name of a receiver's channel.
    pub channel: String,
    pub payload: String,
    /// Not to be tried before.
    pub not_before: Nanos,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutboxState {
    Pending,
    Delivered,
    /// Given up; somebody must look at it.
    Dead,
}

impl OutboxState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Dead => "dead",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [Self::Pending, Self::Delivered, Self::Dead].into_iter().find(|state| state.as_str() == name)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxItem {
    pub id: i64,
    pub tenant: TenantId,
    pub dedup_key: String,
    pub channel: String,
    pub payload: String,
    pub state: OutboxState,
    /// Tries that failed.
    pub attempts: u32,
    pub next_attempt_at: Nanos,
    /// Empty when none failed.
    pub last_error: String,
    pub created_at: Nanos,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutboxCounts {
    pub pending: u64,
    pub dead: u64,
    /// When the oldest pending item was queued.
    pub oldest_pending: Option<Nanos>,
}

impl Catalog {
    /// Pending items of all tenants whose time has come, the most overdue first, at most `limit`.
    pub async fn due(&self, now: Nanos, limit: u32) -> Result<Vec<OutboxItem>> {
        let sql = "SELECT id, tenant, dedup_key, channel, payload, state, attempts, next_attempt_at, last_error, created_at \
            FROM outbox WHERE state = 'pending' AND next_attempt_at <= $1 ORDER BY next_attempt_at, id LIMIT $2";
        let rows = sqlx::query(sql).bind(now.0).bind(limit).fetch_all(self.reader()).await;
        rows.and_then(|rows| rows.iter().map(item).collect()).map_err(|error| self.error(error))
    }

    /// When the next pending item is due; `None` when nothing is pending.
    pub async fn next_due(&self) -> Result<Option<Nanos>> {
        let sql = "SELECT MIN(next_attempt_at) FROM outbox WHERE state = 'pending'";
        let next = sqlx::query_scalar::<_, Option<i64>>(sql).fetch_one(self.reader()).await.map_err(|error| self.error(error))?;
        Ok(next.map(Nanos))
    }

    /// A tenant's items in one state, newest first, at most `limit`.
    pub async fn outbox(&self, tenant: TenantId, state: OutboxState, limit: u32) -> Result<Vec<OutboxItem>> {
        let sql = "SELECT id, tenant, dedup_key, channel, payload, state, attempts, next_attempt_at, last_error, created_at \
            FROM outbox WHERE tenant = $1 AND state = $2 ORDER BY id DESC LIMIT $3";
        let rows = sqlx::query(sql).bind(i64::from(tenant.0)).bind(state.as_str()).bind(limit).fetch_all(self.reader()).await;
        rows.and_then(|rows| rows.iter().map(item).collect()).map_err(|error| self.error(error))
    }

    pub async fn outbox_counts(&self) -> Result<OutboxCounts> {
        let sql = "SELECT state, COUNT(*), MIN(created_at) FROM outbox WHERE state <> 'delivered' GROUP BY state";
        let rows =
            sqlx::query_as::<_, (String, i64, i64)>(sql).fetch_all(self.reader()).await.map_err(|error| self.error(error))?;
        let mut counts = OutboxCounts::default();
        for (state, count, oldest) in rows {
            match OutboxState::from_name(&state) {
                Some(OutboxState::Pending) => (counts.pending, counts.oldest_pending) = (count as u64, Some(Nanos(oldest))),
                Some(OutboxState::Dead) => counts.dead = count as u64,
                Some(OutboxState::Delivered) | None => {}
            }
        }
        Ok(counts)
    }

    /// The receiver has it. Like the two below `NotFound` when the item is no longer pending.
    pub async fn delivered(&self, id: i64, at: Nanos) -> Result<()> {
        let sql = "UPDATE outbox SET state = 'delivered', settled_at = $2 WHERE id = $1 AND state = 'pending'";
        self.settle(id, sqlx::query(sql).bind(id).bind(at.0)).await
    }

    /// A try failed; there will be another.
    pub async fn failed(&self, id: i64, next_attempt_at: Nanos, error: &str) -> Result<()> {
        let sql = "UPDATE outbox SET attempts = attempts + 1, next_attempt_at = $2, last_error = $3 WHERE id = $1 AND state = 'pending'";
        self.settle(id, sqlx::query(sql).bind(id).bind(next_attempt_at.0).bind(shortened(error, ERROR_BYTES_MAX))).await
    }

    /// A try failed, and no other will follow. The item stays visible.
    pub async fn dead(&self, id: i64, at: Nanos, error: &str) -> Result<()> {
        let sql = "UPDATE outbox SET state = 'dead', attempts = attempts + 1, settled_at = $2, last_error = $3 WHERE id = $1 AND state = 'pending'";
        self.settle(id, sqlx::query(sql).bind(id).bind(at.0).bind(shortened(error, ERROR_BYTES_MAX))).await
    }

    /// Tries a dead item again.
    pub async fn revive(&self, id: i64, now: Nanos) -> Result<()> {
        let sql = "UPDATE outbox SET state = 'pending', next_attempt_at = $2, settled_at = NULL WHERE id = $1 AND state = 'dead'";
        self.settle(id, sqlx::query(sql).bind(id).bind(now.0)).await
    }

    /// Forgets items that were delivered before `before`, keys included. Returns how many.
    pub async fn forget_delivered(&self, before: Nanos) -> Result<u64> {
        let mut write = self.write().await?;
        let done = sqlx::query("DELETE FROM outbox WHERE state = 'delivered' AND settled_at < $1")
            .bind(before.0)
            .execute(&mut *write)
            .await;
        let forgotten = done.map_err(|error| self.error(error))?.rows_affected();
        self.commit(write).await?;
        Ok(forgotten)
    }

    async fn settle(&self, id: i64, update: sqlx::query::Query<'_, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>) -> Result<()> {
        let mut write = self.write().await?;
        let done = update.execute(&mut *write).await.map_err(|error| self.error(error))?;
        self.commit(write).await?;
        if done.rows_affected() == 0 {
            return Err(Error::not_found(format!("outbox item {id} is not there or was settled already")));
        }
        Ok(())
    }
}

/// Queues a message; `None` when the tenant has had one of this key.
pub(crate) async fn insert(
    catalog: &Catalog,
    write: &mut Write,
    tenant: TenantId,
    new: &NewOutboxItem,
    now: Nanos,
) -> Result<Option<i64>> {
    if new.payload.len() > PAYLOAD_BYTES_MAX {
        return Err(Error::over_limit(format!("a message of {} bytes, at most {PAYLOAD_BYTES_MAX} are kept", new.payload.len())));
    }
    let sql = "INSERT INTO outbox (tenant, dedup_key, channel, payload, state, attempts, next_attempt_at, last_error, created_at) \
        VALUES ($1, $2, $3, $4, 'pending', 0, $5, '', $6) ON CONFLICT (tenant, dedup_key) DO NOTHING RETURNING id";
    let id = sqlx::query_scalar::<_, i64>(sql)
        .bind(i64::from(tenant.0))
        .bind(new.dedup_key.as_str())
        .bind(new.channel.as_str())
        .bind(new.payload.as_str())
        .bind(new.not_before.0)
        .bind(now.0);
    id.fetch_optional(&mut **write).await.map_err(|error| catalog.error(error))
}

/// At most `bytes_max` bytes of a text, cut between characters.
pub(crate) fn shortened(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

fn item(row: &SqliteRow) -> sqlx::Result<OutboxItem> {
    let state: String = row.try_get("state")?;
    let state =
        OutboxState::from_name(&state).ok_or_else(|| sqlx::Error::Decode(format!("unknown outbox state {state:?}").into()))?;
    Ok(OutboxItem {
        id: row.try_get("id")?,
        tenant: TenantId(row.try_get("tenant")?),
        dedup_key: row.try_get("dedup_key")?,
        channel: row.try_get("channel")?,
        payload: row.try_get("payload")?,
        state,
        attempts: row.try_get("attempts")?,
        next_attempt_at: Nanos(row.try_get("next_attempt_at")?),
        last_error: row.try_get("last_error")?,
        created_at: Nanos(row.try_get("created_at")?),
    })
}
