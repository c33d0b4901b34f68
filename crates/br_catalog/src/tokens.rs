//! Who may come in. Of a token only the SHA-256 is kept.

use crate::Catalog;
use br_model::{Principal, Role, TenantId};
use br_std::{Error, Nanos, Result};
use sha2::{Digest, Sha256};

/// A shorter secret could be guessed.
const SECRET_BYTES_MIN: usize = 16;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub tenant: TenantId,
    pub role: Role,
    pub name: String,
    pub created_at: Nanos,
}

impl Catalog {
    /// Lets the bearer of `secret` in as `principal`. A name is used once a tenant; a second use fails with `FixRequest`.
    pub async fn add_token(&self, secret: &str, principal: &Principal, now: Nanos) -> Result<()> {
        if secret.len() < SECRET_BYTES_MIN {
            return Err(Error::fix_request(format!("a token needs at least {SECRET_BYTES_MIN} characters")));
        }
        let mut write = self.write().await?;
        let sql = "INSERT INTO token (hash, tenant, role, name, created_at) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING";
        let done = sqlx::query(sql)
            .bind(secret_hash(secret))
            .bind(i64::from(principal.tenant.0))
            .bind(role_name(principal.role))
            .bind(principal.name.as_str())
            .bind(now.0);
        let added = done.execute(&mut *write).await.map_err(|error| self.error(error))?.rows_affected();
        self.commit(write).await?;
        if added == 0 {
            return Err(Error::fix_request(format!("there is a token {:?} already", principal.name)));
        }
        Ok(())
    }

    /// Whose token this is; `None` when it is nobody's.
    pub async fn principal(&self, secret: &str) -> Result<Option<Principal>> {
        let sql = "SELECT tenant, role, name FROM token WHERE hash = $1";
        let found = sqlx::query_as::<_, (u32, String, String)>(sql).bind(secret_hash(secret)).fetch_optional(self.reader()).await;
        let Some((tenant, role, name)) = found.map_err(|error| self.error(error))? else {
            return Ok(None);
        };
        Ok(Some(Principal { tenant: TenantId(tenant), role: role_from_name(&role)?, name }))
    }

    /// All tokens, by tenant and name.
    pub async fn tokens(&self) -> Result<Vec<Token>> {
        let sql = "SELECT tenant, role, name, created_at FROM token ORDER BY tenant, name";
        let rows = sqlx::query_as::<_, (u32, String, String, i64)>(sql).fetch_all(self.reader()).await;
        let rows = rows.map_err(|error| self.error(error))?;
        let token = |(tenant, role, name, created_at): (u32, String, String, i64)| {
            Ok(Token { tenant: TenantId(tenant), role: role_from_name(&role)?, name, created_at: Nanos(created_at) })
        };
        rows.into_iter().map(token).collect()
    }

    /// From now on nobody gets in with it. `NotFound` when there is no such token.
    pub async fn remove_token(&self, tenant: TenantId, name: &str) -> Result<()> {
        let mut write = self.write().await?;
        let done = sqlx::query("DELETE FROM token WHERE tenant = $1 AND name = $2").bind(i64::from(tenant.0)).bind(name);
        let removed = done.execute(&mut *write).await.map_err(|error| self.error(error))?.rows_affected();
        self.commit(write).await?;
        if removed == 0 {
            return Err(Error::not_found(format!("there is no token {name:?}")));
        }
        Ok(())
    }
}

fn secret_hash(secret: &str) -> String {
    hex::encode(Sha256::digest(secret.as_bytes()))
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Ingest => "ingest",
        Role::Viewer => "viewer",
        Role::Responder => "responder",
        Role::Admin => "admin",
    }
}

/// A role that is not known must not be taken for another.
fn role_from_name(name: &str) -> Result<Role> {
    let roles = [Role::Ingest, Role::Viewer, Role::Responder, Role::Admin];
    let found = roles.into_iter().find(|role| role_name(*role) == name);
    found.ok_or_else(|| Error::corrupt(format!("the catalog has a token with the unknown role {name:?}")))
}
