//! Texts that were erased elsewhere, taken out of what the catalog keeps for people: issues, evidence, messages.

use crate::Catalog;
use crate::catalog::Write;
use br_model::TenantId;
use br_std::{Error, Result};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// What stands in the place of a text.
const ERASED: &str = "[erased]";
/// Rows that are looked at in one go.
const PAGE: i64 = 200;
/// Ledger entries whose body was changed by an erasure, by id: the hash of what it is now.
pub(crate) const LEDGER_PREFIX: &str = "ledger/erased/";

impl Catalog {
    /// Takes these texts out of a tenant's issues, ledger and messages, and says how many of them it changed. Doing it twice changes
    /// nothing more.
    ///
    /// An entry of the ledger keeps its hash in the chain, and the hash of its new body is kept beside it.
    pub async fn scrub(&self, tenant: TenantId, texts: &[String]) -> Result<u64> {
        if texts.is_empty() {
            return Ok(0);
        }
        let columns = ["title", "error_type", "value", "culprit", "grouping", "last_trace_id"];
        let mut changed = self.scrub_columns(tenant, "issue", "id", &columns, texts).await?;
        changed += self.scrub_columns(tenant, "outbox", "id", &["payload", "last_error"], texts).await?;
        changed += self.scrub_columns(tenant, "ledger", "id", &["body"], texts).await?;
        Ok(changed)
    }

    /// What was deleted or replaced is gone from the database's files as well when this returns.
    pub async fn compact_files(&self) -> Result<()> {
        let failed = |error| self.error(error);
        let mut writer = self.writer().acquire().await.map_err(failed)?;
        sqlx::query("VACUUM").execute(&mut *writer).await.map_err(failed)?;
        let (is_busy, ..) = sqlx::query_as::<_, (i64, i64, i64)>("PRAGMA wal_checkpoint(TRUNCATE)")
            .fetch_one(&mut *writer)
            .await
            .map_err(failed)?;
        if is_busy != 0 {
            return Err(Error::retry("readers of the catalog hold its log: it is cut at the next try"));
        }
        Ok(())
    }

    async fn scrub_columns(&self, tenant: TenantId, table: &str, id: &str, columns: &[&str], texts: &[String]) -> Result<u64> {
        let (mut changed, mut after) = (0, i64::MIN);
        loop {
            let mut write = self.write().await?;
            let sql = format!(
                "SELECT {id}, {} FROM {table} WHERE tenant = $1 AND {id} > $2 ORDER BY {id} LIMIT $3",
                columns.join(", ")
            );
            let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(i64::from(tenant.0)).bind(after).bind(PAGE);
            let rows = rows.fetch_all(&mut *write).await.map_err(|error| self.error(error))?;
            let Some(last) = rows.last() else { return Ok(changed) };
            after = sqlx::Row::try_get(last, 0).map_err(|error| self.error(error))?;
            for row in &rows {
                let row_id: i64 = sqlx::Row::try_get(row, 0).map_err(|error| self.error(error))?;
                for (at, column) in columns.iter().enumerate() {
                    let text: String = sqlx::Row::try_get(row, at + 1).map_err(|error| self.error(error))?;
                    let Some(clean) = without(&text, texts) else { continue };
                    replace(&mut write, (table, id, column), tenant, row_id, &clean).await.map_err(|error| self.error(error))?;
                    changed += 1;
                }
            }
            self.commit(write).await?;
        }
    }
}

async fn replace(
    write: &mut Write,
    (table, id, column): (&str, &str, &str),
    tenant: TenantId,
    row: i64,
    text: &str,
) -> sqlx::Result<()> {
    let sql = format!("UPDATE {table} SET {column} = $3 WHERE tenant = $1 AND {id} = $2");
    let update = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(i64::from(tenant.0)).bind(row).bind(text);
    update.execute(&mut **write).await?;
    if table == "ledger" {
        let sql = "INSERT INTO kv (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value";
        let kept = sqlx::query(sql).bind(format!("{LEDGER_PREFIX}{row}")).bind(body_hash(text).into_bytes());
        kept.execute(&mut **write).await?;
    }
    Ok(())
}

pub(crate) fn body_hash(body: &str) -> String {
    hex::encode(Sha256::digest(body.as_bytes()))
}

/// A text without these; `None` when it has none of them. JSON stays JSON.
fn without(text: &str, erased: &[String]) -> Option<String> {
    if let Ok(mut value) = serde_json::from_str::<Value>(text)
        && (value.is_object() || value.is_array())
    {
        return clean_value(&mut value, erased).then(|| value.to_string());
    }
    clean_text(text, erased)
}

fn clean_text(text: &str, erased: &[String]) -> Option<String> {
    let mut clean = text.to_owned();
    for one in erased.iter().filter(|one| !ERASED.contains(one.as_str())) {
        if clean.contains(one.as_str()) {
            clean = clean.replace(one.as_str(), ERASED);
        }
    }
    (clean != text).then_some(clean)
}

/// Whether something was changed.
fn clean_value(value: &mut Value, erased: &[String]) -> bool {
    match value {
        Value::String(text) => match clean_text(text, erased) {
            Some(clean) => {
                *text = clean;
                true
            }
            None => false,
        },
        Value::Number(number) if erased.contains(&number.to_string()) => {
            *value = Value::from(ERASED);
            true
        }
        Value::Array(elements) => {
            let mut changed = false;
            for element in elements {
                changed |= clean_value(element, erased);
            }
            changed
        }
        Value::Object(members) => {
            let mut changed = false;
            for member in members.values_mut() {
                changed |= clean_value(member, erased);
            }
            let keys: Vec<String> = members.keys().filter(|key| clean_text(key, erased).is_some()).cloned().collect();
            for key in keys {
                if let (Some(member), Some(clean)) = (members.remove(&key), clean_text(&key, erased)) {
                    members.insert(clean, member);
                    changed = true;
                }
            }
            changed
        }
        _ => false,
    }
}
