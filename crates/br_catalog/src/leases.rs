//! Who may change what: a lease that runs out, with an epoch that shuts out those who did not notice.

use crate::Catalog;
use crate::catalog::Write;
use br_std::{Error, Nanos, Result};
use std::time::Duration;

/// The right to do something until a point in time. Its epoch is checked in the transactions that need it, so a holder that
/// slept through the end of its lease cannot do harm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    pub name: String,
    pub holder: String,
    /// Grows with each change of hands.
    pub epoch: i64,
    pub expires_at: Nanos,
}

impl Catalog {
    /// Takes the lease when it is free, has run out, or was held under the same name before (by an earlier life of the holder,
    /// which is shut out by that). `None` while someone else has it.
    pub async fn acquire_lease(&self, name: &str, holder: &str, now: Nanos, duration: Duration) -> Result<Option<Lease>> {
        let expires_at = now + duration;
        let sql = "INSERT INTO lease (name, holder, epoch, expires_at) VALUES ($1, $2, 1, $3) \
            ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, epoch = lease.epoch + 1, expires_at = excluded.expires_at \
            WHERE lease.expires_at <= $4 OR lease.holder = excluded.holder RETURNING epoch";
        let mut write = self.write().await?;
        let epoch = sqlx::query_scalar::<_, i64>(sql).bind(name).bind(holder).bind(expires_at.0).bind(now.0);
        let epoch = epoch.fetch_optional(&mut *write).await.map_err(|error| self.error(error))?;
        self.commit(write).await?;
        Ok(epoch.map(|epoch| Lease { name: name.to_owned(), holder: holder.to_owned(), epoch, expires_at }))
    }

    /// Makes the lease last for `duration` from now on. Fails with `Unauthorized` when it has passed to someone else.
    pub async fn renew_lease(&self, lease: &Lease, now: Nanos, duration: Duration) -> Result<Lease> {
        let expires_at = now + duration;
        let mut write = self.write().await?;
        check(self, &mut write, lease).await?;
        let renewed =
            sqlx::query("UPDATE lease SET expires_at = $1 WHERE name = $2").bind(expires_at.0).bind(lease.name.as_str());
        renewed.execute(&mut *write).await.map_err(|error| self.error(error))?;
        self.commit(write).await?;
        Ok(Lease { expires_at, ..lease.clone() })
    }

    /// Lets others have it at once. Does nothing when it has passed on already.
    pub async fn release_lease(&self, lease: &Lease) -> Result<()> {
        let mut write = self.write().await?;
        let sql = "UPDATE lease SET expires_at = $1 WHERE name = $2 AND epoch = $3 AND holder = $4";
        let released =
            sqlx::query(sql).bind(Nanos::MIN.0).bind(lease.name.as_str()).bind(lease.epoch).bind(lease.holder.as_str());
        released.execute(&mut *write).await.map_err(|error| self.error(error))?;
        self.commit(write).await
    }
}

/// Whether the lease is still this one. Its end does not matter while nobody else took it.
pub(crate) async fn check(catalog: &Catalog, write: &mut Write, lease: &Lease) -> Result<()> {
    let found = sqlx::query_as::<_, (String, i64)>("SELECT holder, epoch FROM lease WHERE name = $1").bind(lease.name.as_str());
    let found = found.fetch_optional(&mut **write).await.map_err(|error| catalog.error(error))?;
    match found {
        Some((holder, epoch)) if holder == lease.holder && epoch == lease.epoch => Ok(()),
        Some((holder, epoch)) => Err(Error::unauthorized(format!(
            "the lease {} has passed to {holder} (epoch {epoch}, ours is {})",
            lease.name, lease.epoch
        ))),
        None => Err(Error::unauthorized(format!("there is no lease {}", lease.name))),
    }
}
