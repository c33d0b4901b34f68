//! What handlers work with.

use crate::answers::Answers;
use crate::auth::Auth;
use crate::bodies::Bodies;
use crate::postgres::PostgresCounters;
use crate::routes::Route;
use br_catalog::Catalog;
use br_env::Clock;
use br_ingest::Intake;
use br_ingest::redaction::RedactionOptions;
use br_ingest::scrape::{Job, ScrapeManager};
use br_ingest::tail::Tail;
use br_jobs::alerts::AlertEngine;
use br_jobs::flush::Flusher;
use br_jobs::push::PushGroups;
use br_model::{Labels, LogRecord, TenantId};
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
    pub answers: Answers,
    /// How clients of PostgreSQL's protocol came and went.
    pub postgres: PostgresCounters,
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
    /// What short jobs have pushed.
    pub pushes: Arc<PushGroups>,
    pub tail: Tail,
    /// What a store says of itself, for `/metrics` and `/api/v1/status/tsdb`.
    pub stats: Arc<dyn Stats>,
    /// Events of error issues.
    pub errors: Arc<dyn ErrorEvents>,
    /// The configuration as it was last read, its secrets blanked.
    pub config_text: parking_lot::Mutex<String>,
    /// What federation and remote read add to series of the configuration's tenant.
    pub external_labels: Labels,
    /// How long metrics are kept.
    pub retention: Duration,
    /// What the server was started with, for `/api/v1/status/flags`.
    pub flags: Vec<(&'static str, String)>,
    pub configuration: Arc<dyn Configuration>,
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

/// Reads the configuration again, with all files that it names.
pub trait Configuration: Send + Sync {
    fn read(&self) -> Result<Loaded>;
}

/// What of a configuration takes effect while the server runs.
pub struct Loaded {
    /// Names and texts.
    pub rule_files: Vec<(String, String)>,
    pub jobs: Vec<Job>,
    pub redaction: RedactionOptions,
    /// As it was read, its secrets blanked.
    pub shown: String,
}

/// When the configuration or the rules were last read, and whether they could be.
#[derive(Debug)]
pub struct LastLoad {
    at: AtomicI64,
    tried_at: AtomicI64,
    is_ok: AtomicBool,
    /// Held while a load is under way: the next waits for its end.
    loading: tokio::sync::Mutex<()>,
}

impl LastLoad {
    /// Of a server that has just started, which it does with a valid configuration only.
    pub fn new(at: Nanos) -> Self {
        Self {
            at: AtomicI64::new(at.0),
            tried_at: AtomicI64::new(at.0),
            is_ok: AtomicBool::new(true),
            loading: tokio::sync::Mutex::default(),
        }
    }

    pub(crate) fn record(&self, at: Nanos, is_ok: bool) {
        self.tried_at.store(at.0, Ordering::Relaxed);
        // As in Prometheus, the time is that of the last success.
        if is_ok {
            self.at.store(at.0, Ordering::Relaxed);
        }
        self.is_ok.store(is_ok, Ordering::Relaxed);
    }

    pub(crate) fn at(&self) -> Nanos {
        Nanos(self.at.load(Ordering::Relaxed))
    }

    pub(crate) fn tried_at(&self) -> Nanos {
        Nanos(self.tried_at.load(Ordering::Relaxed))
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
    /// With so many of each kind that is listed.
    fn metrics(&self, tenant: TenantId, top: usize) -> MetricStats;

    /// The files that a tenant's metrics are in.
    fn metric_files(&self, tenant: TenantId) -> Vec<MetricFile>;

    /// In text exposition format, without those that the HTTP face knows itself.
    fn exposition(&self) -> String;

    /// Files and bytes that the catalog lists.
    fn storage(&self) -> (u64, u64);

    fn damage(&self) -> FoundDamage;
}

/// Damage that was found since the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct FoundDamage {
    pub metric_files: u64,
    pub metric_chunks: u64,
    pub event_files: u64,
}

/// Figures of a tenant's metrics.
#[derive(Clone, Debug, Default)]
pub struct MetricStats {
    pub series: u64,
    pub samples: u64,
    pub min_time_ms: Option<i64>,
    pub max_time_ms: Option<i64>,
    /// Different names with their values.
    pub label_pairs: u64,
    /// Parts of the head that samples are in: one of each series that is written to, and those that wait for their files.
    pub chunks: u64,
    /// Metric names with the most series.
    pub top_metrics: Vec<(String, u64)>,
    /// Label names with the most values.
    pub top_labels: Vec<(String, u64)>,
    /// Label names whose values are longest, over all series.
    pub top_label_bytes: Vec<(String, u64)>,
    /// Labels (`name=value`) on the most series.
    pub top_pairs: Vec<(String, u64)>,
    /// Limits on the number of series that refused new ones since the start; of each kind those that refused most.
    pub limits_hit: Vec<LimitHit>,
}

/// A file of metrics.
#[derive(Clone, Debug)]
pub struct MetricFile {
    pub name: String,
    pub min_time_ms: i64,
    pub max_time_ms: i64,
    pub series: u64,
    pub samples: u64,
    pub level: u16,
    pub bytes: u64,
}

/// A target, job, metric or tenant that has as many series as it may have, or had.
#[derive(Clone, Debug)]
pub struct LimitHit {
    /// `target`, `job`, `metric` or `tenant`.
    pub limit: &'static str,
    /// What it counts by.
    pub labels: Labels,
    pub series: u64,
    pub series_max: u64,
    pub refused_samples: u64,
}

impl App {
    /// Reads the configuration again and changes over to its rules and jobs. When anything is wrong all stays as it is, and the
    /// error says what.
    pub async fn reload(self: &Arc<Self>) -> Result<()> {
        let _loading = self.last_load.loading.lock().await;
        let outcome = self.load().await;
        self.last_load.record(self.clock.now(), outcome.is_ok());
        outcome
    }

    async fn load(&self) -> Result<()> {
        let configuration = self.configuration.clone();
        let read = tokio::task::spawn_blocking(move || configuration.read()).await;
        let loaded =
            read.unwrap_or_else(|panic| Err(Error::corrupt(format!("reading the configuration failed inside: {panic}"))))?;
        let warnings = self.alerts.load(&loaded.rule_files).await.map_err(|complaints| {
            let lines: Vec<String> = complaints.iter().map(|(file, complaint)| format!("{file}:{complaint}")).collect();
            Error::fix_request(format!("the rule files have errors:\n{}", lines.join("\n")))
        })?;
        for (file, complaint) in warnings {
            tracing::warn!(event = "RuleWarning", "{file}:{complaint}");
        }
        self.scrape.apply(loaded.jobs).await?;
        self.intake.redaction.set(loaded.redaction);
        *self.config_text.lock() = loaded.shown;
        Ok(())
    }

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

    /// The same for a query that is over soon as a rule.
    pub async fn query_quick<T: Send + 'static>(
        &self,
        tenant: TenantId,
        language: Language,
        text: &str,
        timeout: Option<Duration>,
        work: impl Fn(&dyn Sources, &Budget) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let sources = self.sources.clone();
        self.door.run_quick(tenant, language, text, timeout, move |budget| work(&*sources, budget)).await
    }
}
