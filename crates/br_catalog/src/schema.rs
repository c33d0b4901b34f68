//! The tables, and how older ones become the present ones.

use sqlx::{Sqlite, SqliteConnection, Transaction};

/// Each entry takes the schema one version further, in one transaction with its version: a crash in between starts it again.
/// Entries are never changed once released, only added.
pub(crate) const MIGRATIONS: &[&str] = &[VERSION_1, VERSION_2, VERSION_3];

/// Times are nanoseconds since the epoch, hashes and 64-bit ids are stored as their bits in a signed integer.
const VERSION_1: &str = "
CREATE TABLE counter (name TEXT PRIMARY KEY NOT NULL, value BIGINT NOT NULL);
INSERT INTO counter (name, value) VALUES ('change', 0);

CREATE TABLE file (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant BIGINT NOT NULL,
    tbl TEXT NOT NULL,
    path TEXT NOT NULL UNIQUE,
    window_start BIGINT NOT NULL,
    window_secs BIGINT NOT NULL,
    level BIGINT NOT NULL,
    size_bytes BIGINT NOT NULL,
    row_count BIGINT NOT NULL,
    min_time BIGINT NOT NULL,
    max_time BIGINT NOT NULL,
    stats TEXT NOT NULL,
    added_seq BIGINT NOT NULL,
    removed_seq BIGINT,
    removed_at BIGINT
);
CREATE INDEX file_live ON file (tbl, id) WHERE removed_seq IS NULL;
CREATE INDEX file_removed ON file (removed_at) WHERE removed_seq IS NOT NULL;

CREATE TABLE progress (store TEXT PRIMARY KEY NOT NULL, position BIGINT NOT NULL);

CREATE TABLE lease (
    name TEXT PRIMARY KEY NOT NULL,
    holder TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);

CREATE TABLE ledger (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant BIGINT NOT NULL,
    at BIGINT NOT NULL,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    body TEXT NOT NULL,
    prev_hash TEXT NOT NULL,
    hash TEXT NOT NULL
);
CREATE INDEX ledger_tenant ON ledger (tenant, id);
CREATE INDEX ledger_subject ON ledger (tenant, subject, id);
CREATE TABLE ledger_head (tenant BIGINT PRIMARY KEY NOT NULL, entries BIGINT NOT NULL, hash TEXT NOT NULL);

CREATE TABLE outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant BIGINT NOT NULL,
    dedup_key TEXT NOT NULL,
    channel TEXT NOT NULL,
    payload TEXT NOT NULL,
    state TEXT NOT NULL,
    attempts BIGINT NOT NULL,
    next_attempt_at BIGINT NOT NULL,
    last_error TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    settled_at BIGINT,
    UNIQUE (tenant, dedup_key)
);
CREATE INDEX outbox_due ON outbox (state, next_attempt_at, id);

CREATE TABLE issue (
    tenant BIGINT NOT NULL,
    id BIGINT NOT NULL,
    title TEXT NOT NULL,
    error_type TEXT NOT NULL,
    value TEXT NOT NULL,
    culprit TEXT NOT NULL,
    service TEXT NOT NULL,
    level TEXT NOT NULL,
    status TEXT NOT NULL,
    occurrences BIGINT NOT NULL,
    first_seen BIGINT NOT NULL,
    last_seen BIGINT NOT NULL,
    resolved_at BIGINT,
    first_release TEXT NOT NULL,
    last_release TEXT NOT NULL,
    last_trace_id TEXT NOT NULL,
    regressed BIGINT NOT NULL,
    PRIMARY KEY (tenant, id)
);
CREATE INDEX issue_last_seen ON issue (tenant, last_seen);

CREATE TABLE kv (name TEXT PRIMARY KEY NOT NULL, value BLOB NOT NULL);

CREATE TABLE token (
    hash TEXT PRIMARY KEY NOT NULL,
    tenant BIGINT NOT NULL,
    role TEXT NOT NULL,
    name TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE (tenant, name)
);
";

/// Why events are one issue, and reports of one raise.
const VERSION_2: &str = "
ALTER TABLE issue ADD COLUMN grouping TEXT NOT NULL DEFAULT '';

CREATE TABLE error_raise (
    id INTEGER PRIMARY KEY NOT NULL,
    tenant BIGINT NOT NULL,
    trace_id TEXT NOT NULL,
    place BIGINT NOT NULL,
    issue BIGINT NOT NULL,
    custom BOOLEAN NOT NULL,
    counted BIGINT NOT NULL,
    stack BLOB NOT NULL,
    reports BLOB NOT NULL
);
CREATE INDEX error_raise_place ON error_raise (tenant, trace_id, place, id);
";

/// Which version of a service ran when.
const VERSION_3: &str = "
CREATE TABLE deploy (
    tenant BIGINT NOT NULL,
    service TEXT NOT NULL,
    environment TEXT NOT NULL,
    version TEXT NOT NULL,
    previous TEXT NOT NULL,
    at BIGINT NOT NULL,
    last_seen BIGINT NOT NULL,
    PRIMARY KEY (tenant, service, environment, at, version)
);
CREATE INDEX deploy_at ON deploy (tenant, at);
";

/// The version that the database has; 0 for a new one.
pub(crate) async fn version(connection: &mut SqliteConnection) -> sqlx::Result<i64> {
    sqlx::query("CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL)").execute(&mut *connection).await?;
    let version: Option<i64> = sqlx::query_scalar("SELECT MAX(version) FROM schema_version").fetch_one(connection).await?;
    Ok(version.unwrap_or(0))
}

/// Takes one step; the caller commits.
pub(crate) async fn migrate(transaction: &mut Transaction<'static, Sqlite>, sql: &'static str, to: i64) -> sqlx::Result<()> {
    sqlx::raw_sql(sql).execute(&mut **transaction).await?;
    sqlx::query("INSERT INTO schema_version (version) VALUES ($1)").bind(to).execute(&mut **transaction).await?;
    Ok(())
}
