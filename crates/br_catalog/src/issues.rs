//! Error issues: what exceptions of one kind have in common, how often and since when they occur, and whether somebody has
//! dealt with them.

use crate::catalog::Write;
use crate::files::{progress_in, set_progress};
use crate::outbox::shortened;
use crate::{Catalog, raises};
use br_model::TenantId;
use br_std::{Error, Nanos, Result};
use br_storage::JournalPosition;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use std::cmp::Reverse;

/// The name of the issues' own position in the journal.
const PROGRESS: &str = "issues";
/// Of each text this much is kept; the event itself is in the store.
const TEXT_BYTES_MAX: usize = 4096;

/// One exception as it was reported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorOccurrence {
    /// The grouping hash; see [`br_model::ErrorEvent::grouping_hash`].
    pub issue: u64,
    pub at: Nanos,
    pub title: String,
    pub error_type: String,
    pub value: String,
    pub culprit: String,
    pub service: String,
    pub level: String,
    pub release: String,
    /// Hexadecimal digits; empty when it has none.
    pub trace_id: String,
    /// Why it belongs to the issue, for people.
    pub grouping: String,
    /// Tells reports of the same raise; see [`br_model::ErrorEvent::raise_stack`]. Empty when that is unknown.
    pub stack: Vec<u64>,
    /// Who told it: each reporter tells a raise once.
    pub reporter: String,
    /// The sender chose the issue itself.
    pub is_custom: bool,
}

/// The exceptions of one record of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorBatch {
    pub tenant: TenantId,
    pub position: JournalPosition,
    pub occurrences: Vec<ErrorOccurrence>,
}

/// What became known by recording errors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordedErrors {
    /// Issues that nobody had seen before.
    pub new: Vec<(TenantId, u64)>,
    /// Issues that were resolved and came back.
    pub regressed: Vec<(TenantId, u64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IssueStatus {
    Open,
    Resolved,
    /// Counted and not shown.
    Ignored,
}

impl IssueStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Resolved => "resolved",
            Self::Ignored => "ignored",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Open, Self::Resolved, Self::Ignored].into_iter().find(|status| status.as_str() == name)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    pub id: u64,
    pub title: String,
    pub error_type: String,
    pub value: String,
    pub culprit: String,
    pub service: String,
    pub level: String,
    pub status: IssueStatus,
    /// Why its events are one issue, for people; empty for issues of releases before this was kept.
    pub grouping: String,
    /// Raises, as far as reports of the same one can be told.
    pub count: u64,
    pub first_seen: Nanos,
    pub last_seen: Nanos,
    /// Empty where the sender did not say.
    pub first_release: String,
    pub last_release: String,
    pub last_trace_id: String,
    /// It was resolved once and has come back since.
    pub is_regressed: bool,
}

/// Which issues; the default is all.
#[derive(Clone, Debug, Default)]
pub struct IssueFilter {
    pub status: Option<IssueStatus>,
    pub service: Option<String>,
    /// Only issues that were last seen at this time or later.
    pub seen_since: Option<Nanos>,
}

impl Catalog {
    /// Counts occurrences and opens issues for those of a new kind. Batches come in ascending positions, one for each record.
    ///
    /// A batch at a position that was recorded before is passed over, so a replay of the journal counts nothing twice.
    pub async fn record_errors(&self, batches: &[ErrorBatch]) -> Result<RecordedErrors> {
        let mut recorded = RecordedErrors::default();
        let mut write = self.write().await?;
        let mut at = progress_in(&mut write, PROGRESS).await.map_err(|error| self.error(error))?;
        for batch in batches {
            if batch.position <= at {
                continue;
            }
            // Those that saw most come first, so that few issues are opened and taken back.
            let mut occurrences: Vec<&ErrorOccurrence> = batch.occurrences.iter().collect();
            occurrences.sort_by_key(|occurrence| Reverse(occurrence.stack.len()));
            for occurrence in occurrences {
                let done = record(&mut write, batch.tenant, occurrence, &mut recorded).await;
                done.map_err(|error| self.error(error))?;
            }
            at = batch.position;
        }
        set_progress(&mut write, PROGRESS, at).await.map_err(|error| self.error(error))?;
        self.commit(write).await?;
        Ok(recorded)
    }

    /// Forgets issues that were last seen before `cutoff`; returns how many. Their events are gone by then.
    pub async fn expire_issues(&self, cutoff: Nanos) -> Result<u64> {
        let mut write = self.write().await?;
        let expired = sqlx::query("DELETE FROM issue WHERE last_seen < ?").bind(cutoff.0).execute(&mut *write).await;
        let expired = expired.map_err(|error| self.error(error))?.rows_affected();
        self.commit(write).await?;
        Ok(expired)
    }

    /// Errors of the journal up to this position have been recorded.
    pub async fn errors_recorded(&self) -> Result<JournalPosition> {
        self.progress_named(PROGRESS).await
    }

    /// A tenant's issues, last seen first, at most `limit`.
    pub async fn issues(&self, tenant: TenantId, filter: &IssueFilter, limit: u32) -> Result<Vec<Issue>> {
        let sql = "SELECT id, title, error_type, value, culprit, service, level, status, occurrences, first_seen, last_seen, \
            first_release, last_release, last_trace_id, regressed, grouping FROM issue WHERE tenant = $1 AND ($2 IS NULL OR status = $2) \
            AND ($3 IS NULL OR service = $3) AND last_seen >= $4 ORDER BY last_seen DESC, id LIMIT $5";
        let rows = sqlx::query(sql)
            .bind(i64::from(tenant.0))
            .bind(filter.status.map(IssueStatus::as_str))
            .bind(filter.service.as_deref())
            .bind(filter.seen_since.unwrap_or(Nanos::MIN).0)
            .bind(limit);
        let rows = rows.fetch_all(self.reader()).await;
        rows.and_then(|rows| rows.iter().map(issue).collect()).map_err(|error| self.error(error))
    }

    pub async fn issue(&self, tenant: TenantId, id: u64) -> Result<Option<Issue>> {
        let sql = "SELECT id, title, error_type, value, culprit, service, level, status, occurrences, first_seen, last_seen, \
            first_release, last_release, last_trace_id, regressed, grouping FROM issue WHERE tenant = $1 AND id = $2";
        let row = sqlx::query(sql).bind(i64::from(tenant.0)).bind(id as i64).fetch_optional(self.reader()).await;
        row.and_then(|row| row.as_ref().map(issue).transpose()).map_err(|error| self.error(error))
    }

    /// Sets what somebody decided about an issue. What occurs after `now` reopens a resolved one; an ignored one stays ignored.
    pub async fn set_issue_status(&self, tenant: TenantId, id: u64, status: IssueStatus, now: Nanos) -> Result<Issue> {
        let mut write = self.write().await?;
        let resolved_at = (status == IssueStatus::Resolved).then_some(now.0);
        let sql = "UPDATE issue SET status = $3, resolved_at = $4, regressed = 0 WHERE tenant = $1 AND id = $2";
        let done = sqlx::query(sql).bind(i64::from(tenant.0)).bind(id as i64).bind(status.as_str()).bind(resolved_at);
        done.execute(&mut *write).await.map_err(|error| self.error(error))?;
        self.commit(write).await?;
        self.issue(tenant, id).await?.ok_or_else(|| Error::not_found(format!("there is no issue {id:016x}")))
    }
}

/// What was known of an issue when an occurrence came.
enum Known {
    New,
    Before,
    Regressed,
}

async fn record(
    write: &mut Write,
    tenant: TenantId,
    occurrence: &ErrorOccurrence,
    recorded: &mut RecordedErrors,
) -> sqlx::Result<()> {
    let counted = raises::take(write, i64::from(tenant.0), occurrence).await?;
    if let Some((issue, count)) = counted.taken_back
        && take_back(write, i64::from(tenant.0), issue, count).await?
    {
        recorded.new.retain(|new| *new != (tenant, issue as u64));
    }
    if counted.count == 0 {
        return Ok(());
    }
    let id = (tenant, counted.issue as u64);
    match count(write, id, counted.count, occurrence).await? {
        Known::New => recorded.new.push(id),
        Known::Regressed => recorded.regressed.push(id),
        Known::Before => {}
    }
    Ok(())
}

/// Uncounts what turned out to belong to another issue. Tells whether nothing was left and the issue is gone; one that somebody
/// has decided about stays.
async fn take_back(write: &mut Write, tenant: i64, id: i64, count: i64) -> sqlx::Result<bool> {
    let sql = "UPDATE issue SET occurrences = occurrences - $3 WHERE tenant = $1 AND id = $2";
    sqlx::query(sql).bind(tenant).bind(id).bind(count).execute(&mut **write).await?;
    let sql = "DELETE FROM issue WHERE tenant = $1 AND id = $2 AND occurrences <= 0 AND status = 'open' AND regressed = 0";
    Ok(sqlx::query(sql).bind(tenant).bind(id).execute(&mut **write).await?.rows_affected() > 0)
}

async fn count(
    write: &mut Write,
    (tenant, id): (TenantId, u64),
    count: i64,
    occurrence: &ErrorOccurrence,
) -> sqlx::Result<Known> {
    let (tenant, id) = (i64::from(tenant.0), id as i64);
    let sql = "SELECT status, resolved_at FROM issue WHERE tenant = $1 AND id = $2";
    let found = sqlx::query_as::<_, (String, Option<i64>)>(sql).bind(tenant).bind(id).fetch_optional(&mut **write).await?;
    let Some((status, resolved_at)) = found else {
        insert(write, tenant, id, count, occurrence).await?;
        return Ok(Known::New);
    };
    let has_come_back =
        status == IssueStatus::Resolved.as_str() && resolved_at.is_none_or(|resolved_at| occurrence.at.0 > resolved_at);
    update(write, tenant, id, count, occurrence).await?;
    if !has_come_back {
        return Ok(Known::Before);
    }
    let sql = "UPDATE issue SET status = 'open', resolved_at = NULL, regressed = 1 WHERE tenant = $1 AND id = $2";
    sqlx::query(sql).bind(tenant).bind(id).execute(&mut **write).await?;
    Ok(Known::Regressed)
}

async fn insert(write: &mut Write, tenant: i64, id: i64, count: i64, occurrence: &ErrorOccurrence) -> sqlx::Result<()> {
    let sql = "INSERT INTO issue (tenant, id, title, error_type, value, culprit, service, level, status, occurrences, first_seen, \
        last_seen, first_release, last_release, last_trace_id, regressed, grouping) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'open', $12, $9, $9, $10, $10, $11, 0, $13)";
    sqlx::query(sql)
        .bind(tenant)
        .bind(id)
        .bind(shortened(&occurrence.title, TEXT_BYTES_MAX))
        .bind(shortened(&occurrence.error_type, TEXT_BYTES_MAX))
        .bind(shortened(&occurrence.value, TEXT_BYTES_MAX))
        .bind(shortened(&occurrence.culprit, TEXT_BYTES_MAX))
        .bind(shortened(&occurrence.service, TEXT_BYTES_MAX))
        .bind(shortened(&occurrence.level, TEXT_BYTES_MAX))
        .bind(occurrence.at.0)
        .bind(shortened(&occurrence.release, TEXT_BYTES_MAX))
        .bind(shortened(&occurrence.trace_id, TEXT_BYTES_MAX))
        .bind(count)
        .bind(shortened(&occurrence.grouping, TEXT_BYTES_MAX))
        .execute(&mut **write)
        .await?;
    Ok(())
}

/// The latest occurrence names the issue; one that comes late only counts.
async fn update(write: &mut Write, tenant: i64, id: i64, count: i64, occurrence: &ErrorOccurrence) -> sqlx::Result<()> {
    let counted = "UPDATE issue SET occurrences = occurrences + $4, \
        first_seen = CASE WHEN first_seen < $3 THEN first_seen ELSE $3 END WHERE tenant = $1 AND id = $2";
    sqlx::query(counted).bind(tenant).bind(id).bind(occurrence.at.0).bind(count).execute(&mut **write).await?;
    let named = "UPDATE issue SET last_seen = $3, title = $4, value = $5, culprit = $6, level = $7, \
        last_release = CASE WHEN $8 = '' THEN last_release ELSE $8 END, \
        last_trace_id = CASE WHEN $9 = '' THEN last_trace_id ELSE $9 END \
        WHERE tenant = $1 AND id = $2 AND last_seen <= $3";
    sqlx::query(named)
        .bind(tenant)
        .bind(id)
        .bind(occurrence.at.0)
        .bind(shortened(&occurrence.title, TEXT_BYTES_MAX))
        .bind(shortened(&occurrence.value, TEXT_BYTES_MAX))
        .bind(shortened(&occurrence.culprit, TEXT_BYTES_MAX))
        .bind(shortened(&occurrence.level, TEXT_BYTES_MAX))
        .bind(shortened(&occurrence.release, TEXT_BYTES_MAX))
        .bind(shortened(&occurrence.trace_id, TEXT_BYTES_MAX))
        .execute(&mut **write)
        .await?;
    Ok(())
}

fn issue(row: &SqliteRow) -> sqlx::Result<Issue> {
    let status: String = row.try_get("status")?;
    let status =
        IssueStatus::from_name(&status).ok_or_else(|| sqlx::Error::Decode(format!("unknown issue status {status:?}").into()))?;
    Ok(Issue {
        id: row.try_get::<i64, _>("id")? as u64,
        title: row.try_get("title")?,
        error_type: row.try_get("error_type")?,
        value: row.try_get("value")?,
        culprit: row.try_get("culprit")?,
        service: row.try_get("service")?,
        level: row.try_get("level")?,
        status,
        grouping: row.try_get("grouping")?,
        count: row.try_get::<i64, _>("occurrences")? as u64,
        first_seen: Nanos(row.try_get("first_seen")?),
        last_seen: Nanos(row.try_get("last_seen")?),
        first_release: row.try_get("first_release")?,
        last_release: row.try_get("last_release")?,
        last_trace_id: row.try_get("last_trace_id")?,
        is_regressed: row.try_get::<i64, _>("regressed")? != 0,
    })
}
