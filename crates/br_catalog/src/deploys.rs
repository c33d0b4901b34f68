//! Deploys: which version of a service ran from when to when, as the service itself says with `service.version`.

use crate::Catalog;
use crate::outbox::shortened;
use br_model::TenantId;
use br_std::{Nanos, Result};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

/// Of each text this much is kept.
pub const TEXT_BYTES_MAX: usize = 256;
/// Runs of one service in one environment that are kept, those that were heard of last.
pub const RUNS_MAX: usize = 64;

/// Where versions follow each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeployPlace {
    pub tenant: TenantId,
    pub service: String,
    /// Empty where the service names none.
    pub environment: String,
}

/// One version, from a deploy of it until it was last heard of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deploy {
    pub place: DeployPlace,
    pub version: String,
    /// The version before; empty for the first one that was heard of.
    pub previous: String,
    pub at: Nanos,
    pub last_seen: Nanos,
}

/// Which deploys; the default is all.
#[derive(Clone, Debug, Default)]
pub struct DeployFilter {
    pub service: Option<String>,
    pub environment: Option<String>,
    /// Both included.
    pub from: Option<Nanos>,
    pub to: Option<Nanos>,
}

impl Catalog {
    /// Keeps these runs: new ones are added, of known ones (the same place, version and beginning) the end moves on.
    pub async fn record_deploys(&self, deploys: &[Deploy]) -> Result<()> {
        let mut write = self.write().await?;
        let put = "INSERT INTO deploy (tenant, service, environment, version, previous, at, last_seen) VALUES ($1, $2, $3, $4, $5, $6, $7) \
            ON CONFLICT (tenant, service, environment, at, version) DO UPDATE SET last_seen = MAX(last_seen, excluded.last_seen)";
        let cut = "DELETE FROM deploy WHERE tenant = $1 AND service = $2 AND environment = $3 AND last_seen < (SELECT last_seen FROM deploy \
            WHERE tenant = $1 AND service = $2 AND environment = $3 ORDER BY last_seen DESC LIMIT 1 OFFSET $4)";
        for deploy in deploys {
            let tenant = i64::from(deploy.place.tenant.0);
            let service = shortened(&deploy.place.service, TEXT_BYTES_MAX);
            let environment = shortened(&deploy.place.environment, TEXT_BYTES_MAX);
            let query = sqlx::query(put)
                .bind(tenant)
                .bind(service)
                .bind(environment)
                .bind(shortened(&deploy.version, TEXT_BYTES_MAX))
                .bind(shortened(&deploy.previous, TEXT_BYTES_MAX))
                .bind(deploy.at.0)
                .bind(deploy.last_seen.0);
            query.execute(&mut *write).await.map_err(|error| self.error(error))?;
            let query = sqlx::query(cut).bind(tenant).bind(service).bind(environment).bind(RUNS_MAX as i64 - 1);
            query.execute(&mut *write).await.map_err(|error| self.error(error))?;
        }
        self.commit(write).await
    }

    /// A tenant's deploys, the newest first, at most `limit`.
    pub async fn deploys(&self, tenant: TenantId, filter: &DeployFilter, limit: u32) -> Result<Vec<Deploy>> {
        let sql = "SELECT tenant, service, environment, version, previous, at, last_seen FROM deploy WHERE tenant = $1 \
            AND ($2 IS NULL OR service = $2) AND ($3 IS NULL OR environment = $3) AND at >= $4 AND at <= $5 \
            ORDER BY at DESC, service, environment, version LIMIT $6";
        let rows = sqlx::query(sql)
            .bind(i64::from(tenant.0))
            .bind(filter.service.as_deref())
            .bind(filter.environment.as_deref())
            .bind(filter.from.unwrap_or(Nanos::MIN).0)
            .bind(filter.to.unwrap_or(Nanos::MAX).0)
            .bind(limit)
            .fetch_all(self.reader())
            .await;
        rows.and_then(|rows| rows.iter().map(deploy).collect()).map_err(|error| self.error(error))
    }

    /// What is known of one place, the oldest first.
    pub async fn deploys_of(&self, place: &DeployPlace) -> Result<Vec<Deploy>> {
        let filter = DeployFilter {
            service: Some(shortened(&place.service, TEXT_BYTES_MAX).to_owned()),
            environment: Some(shortened(&place.environment, TEXT_BYTES_MAX).to_owned()),
            ..DeployFilter::default()
        };
        let mut found = self.deploys(place.tenant, &filter, RUNS_MAX as u32).await?;
        found.reverse();
        Ok(found)
    }

    /// Forgets versions that were last heard of before `cutoff`; returns how many runs went.
    pub async fn expire_deploys(&self, cutoff: Nanos) -> Result<u64> {
        let mut write = self.write().await?;
        let expired = sqlx::query("DELETE FROM deploy WHERE last_seen < $1").bind(cutoff.0).execute(&mut *write).await;
        let expired = expired.map_err(|error| self.error(error))?.rows_affected();
        self.commit(write).await?;
        Ok(expired)
    }
}

fn deploy(row: &SqliteRow) -> sqlx::Result<Deploy> {
    let tenant = TenantId(row.try_get("tenant")?);
    Ok(Deploy {
        place: DeployPlace { tenant, service: row.try_get("service")?, environment: row.try_get("environment")? },
        version: row.try_get("version")?,
        previous: row.try_get("previous")?,
        at: Nanos(row.try_get("at")?),
        last_seen: Nanos(row.try_get("last_seen")?),
    })
}
