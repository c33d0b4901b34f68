//! What handlers work with.

use crate::auth::Auth;
use crate::bodies::Bodies;
use crate::routes::Route;
use br_catalog::Catalog;
use br_env::Clock;
use br_ingest::Intake;
use br_ingest::scrape::ScrapeManager;
use br_ingest::tail::Tail;
use br_jobs::alerts::AlertEngine;
use br_jobs::flush::Flusher;
use br_model::{LogRecord, TenantId};
use br_query::door::{Door, Language, Sources};
use br_query::range_cache::RangeCache;
use br_query::sql::SqlEngine;
use br_std::{Error, Nanos, Result};
use br_storage::{Budget, TimeRange};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Everything that the HTTP face may reach.
pub struct App {
    pub auth: Auth,
    pub clock: Arc<dyn Clock>,
    pub started: Nanos,
    pub intake: Arc<Intake>,
    pub limits: br_wire::Limits,
    pub bodies: Bodies,
    pub door: Arc<Door>,
    pub sources: Arc<dyn Sources>,
    pub promql: br_promql::Engine,
    pub range_cache: Arc<RangeCache>,
    pub sql: Arc<SqlEngine>,
    /// Where SQL computes; see [`Door::run_async`].
    pub sql_workers: tokio::runtime::Handle,
    pub catalog: Arc<Catalog>,
    pub catalog_state: CatalogState,
    pub scrape: Arc<ScrapeManager>,
    /// The rules of one tenant; see [`App::has_alerts`].
    pub alerts: Arc<AlertEngine>,
    pub alerts_tenant: TenantId,
    pub flusher: Arc<Flusher>,
    pub tail: Tail,
    /// What a store says of itself, for `/metrics` and `/api/v1/status/tsdb`.
    pub stats: Arc<dyn Stats>,
    /// Events of error issues.
    pub errors: Arc<dyn ErrorEvents>,
    /// The configuration as it was read, its secrets blanked.
    pub config_text: String,
    /// How long metrics are kept.
    pub retention: Duration,
    /// What the server was started with, for `/api/v1/status/flags`.
    pub flags: Vec<(&'static str, String)>,
    pub rule_files: Arc<dyn RuleFiles>,
    pub last_load: LastLoad,
    /// Set once by the router.
    pub table: OnceLock<Vec<Route>>,
}

/// What the start found of the catalog.
#[derive(Clone, Debug, Default)]
pub struct CatalogState {
    /// It is the one that the files were written with, or a copy of that.
    pub is_whole: bool,
    /// What happened to it, in sentences; nothing for most starts.
    pub story: Vec<String>,
}

/// Reads the rule files that the configuration names.
pub trait RuleFiles: Send + Sync {
    /// Names and texts.
    fn read(&self) -> Result<Vec<(String, String)>>;
}

/// When the configuration or the rules were last read, and whether they could be.
#[derive(Debug)]
pub struct LastLoad {
    at: AtomicI64,
    is_ok: AtomicBool,
}

impl LastLoad {
    /// Of a server that has just started, which it does with a valid configuration only.
    pub fn new(at: Nanos) -> Self {
        Self { at: AtomicI64::new(at.0), is_ok: AtomicBool::new(true) }
    }

    pub(crate) fn record(&self, at: Nanos, is_ok: bool) {
        // As in Prometheus, the time is that of the last success.
        if is_ok {
            self.at.store(at.0, Ordering::Relaxed);
        }
        self.is_ok.store(is_ok, Ordering::Relaxed);
    }

    pub(crate) fn at(&self) -> Nanos {
        Nanos(self.at.load(Ordering::Relaxed))
    }

    pub(crate) fn is_ok(&self) -> bool {
        self.is_ok.load(Ordering::Relaxed)
    }
}

/// Reads the events of an issue back from the event store.
pub trait ErrorEvents: Send + Sync {
    /// The newest events of an issue.
    fn events(&self, tenant: TenantId, issue: u64, range: TimeRange, limit: usize, budget: &Budget) -> Result<Vec<LogRecord>>;

    /// How many events of an issue fell into each of `steps` windows of `step` from `from` on.
    fn counts(
        &self,
        tenant: TenantId,
        issue: u64,
        from: Nanos,
        step: Duration,
        steps: usize,
        budget: &Budget,
    ) -> Result<Vec<u64>>;
}

/// Figures of the stores.
pub trait Stats: Send + Sync {
    fn metrics(&self, tenant: TenantId) -> MetricStats;

    /// In text exposition format, without those that the HTTP face knows itself.
    fn exposition(&self) -> String;

    /// Files and bytes that the catalog lists.
    fn storage(&self) -> (u64, u64);
}

/// Figures of a tenant's metrics.
#[derive(Clone, Debug, Default)]
pub struct MetricStats {
    pub series: u64,
    pub samples: u64,
    pub min_time_ms: Option<i64>,
    pub max_time_ms: Option<i64>,
    /// Metric names with the most series.
    pub top_metrics: Vec<(String, u64)>,
    /// Label names with the most values.
    pub top_labels: Vec<(String, u64)>,
}

impl App {
    /// Rules, alerts and incidents belong to the tenant of the configuration file.
    pub(crate) fn has_alerts(&self, tenant: TenantId) -> bool {
        tenant == self.alerts_tenant
    }

    /// The configuration and the counters of the whole server are for the tenant whose configuration it is.
    pub(crate) fn check_operator(&self, tenant: TenantId) -> Result<()> {
        if tenant == self.alerts_tenant {
            return Ok(());
        }
        Err(Error::not_found("this belongs to the server's own tenant"))
    }

    /// Another tenant's incident does not exist, as far as this one can tell.
    pub(crate) fn check_alerts(&self, tenant: TenantId, id: &str) -> Result<()> {
        if self.has_alerts(tenant) { Ok(()) } else { Err(Error::not_found(format!("there is no incident {id}"))) }
    }

    /// Why answers of queries are not whole, while they are not: after a start the stores first read back the journal.
    pub(crate) fn partial_answers(&self) -> Option<String> {
        if self.intake.is_caught_up() {
            return None;
        }
        let lanes = &self.intake.lanes;
        let applied = lanes.metrics.applied().min(lanes.events.applied()).min(lanes.issues.applied());
        let last = self.intake.journal().status().last_position;
        Some(format!("the journal is being read back ({} of {}): the answer may lack the newest data", applied.0, last.0))
    }

    /// Runs a blocking query through the door.
    pub async fn query<T: Send + 'static>(
        &self,
        tenant: TenantId,
        language: Language,
        text: &str,
        timeout: Option<Duration>,
        work: impl FnOnce(&dyn Sources, &Budget) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let sources = self.sources.clone();
        self.door.run(tenant, language, text, timeout, move |budget| work(&*sources, budget)).await
    }
}
