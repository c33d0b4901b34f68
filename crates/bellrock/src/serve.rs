//! `bellrock serve`: opens the stores, starts the parts, and ends them in order.

use crate::alerting::{self, Surroundings};
use crate::config::Config;
use crate::lock::{DataLock, lock};
use crate::sources::{StoreSources, StoreStats};
use crate::stores::{self, Stores};
use crate::syslog;
use anyhow::{Context, Result, bail};
use br_catalog::Catalog;
use br_env::Clock;
use br_http::answers::Answers;
use br_http::app::{App, Configuration, LastLoad, Loaded};
use br_http::auth::Auth;
use br_http::bodies::Bodies;
use br_http::postgres::PostgresCounters;
use br_ingest::Intake;
use br_ingest::appliers::{EventsApplier, IssuesApplier, MetricsApplier};
use br_ingest::decode::DecodeLimits;
use br_ingest::files::FileSource;
use br_ingest::intake::TenantSink;
use br_ingest::lane::LaneStart;
use br_ingest::scrape::{Job, ReadLimits, ScrapeManager};
use br_ingest::syslog::SyslogListeners;
use br_ingest::tail::Tail;
use br_ingest::times::TimeBounds;
use br_jobs::flush::{Flusher, FlusherParts};
use br_jobs::push::PushGroups;
use br_jobs::upkeep::{Retention, Upkeep};
use br_model::{Labels, TenantId};
use br_query::door::{Door, Limits};
use br_query::range_cache::RangeCache;
use br_query::sql::{STACK_BYTES, SqlEngine, SqlLimits};
use br_storage::{Budget, Table};
use futures::FutureExt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub(crate) const DEFAULT_LISTEN: &str = "127.0.0.1:1811";

#[derive(clap::Args, Debug)]
pub(crate) struct ServeArguments {
    /// Where everything is kept.
    #[arg(long, env = "BELLROCK_DATA_DIR", default_value = "bellrock-data")]
    pub(crate) data_dir: PathBuf,
    /// Pages, APIs and ingest.
    #[arg(long, env = "BELLROCK_LISTEN", default_value = DEFAULT_LISTEN, value_name = "ADDR:PORT")]
    pub(crate) listen: String,
    /// OTLP over gRPC, on its usual port.
    #[arg(long, env = "BELLROCK_OTLP_GRPC_LISTEN", default_value = "127.0.0.1:4317", value_name = "ADDR:PORT")]
    pub(crate) otlp_grpc_listen: String,
    /// OTLP over HTTP, on its usual port.
    #[arg(long, env = "BELLROCK_OTLP_HTTP_LISTEN", default_value = "127.0.0.1:4318", value_name = "ADDR:PORT")]
    pub(crate) otlp_http_listen: String,
    /// SQL over PostgreSQL's protocol, read-only, such as 127.0.0.1:1812. Without it there is none.
    #[arg(long, env = "BELLROCK_POSTGRES_LISTEN", value_name = "ADDR:PORT")]
    pub(crate) postgres_listen: Option<String>,
    /// A Prometheus configuration file, with our own keys under `bellrock:`.
    #[arg(long, env = "BELLROCK_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Experimental parts of PromQL, as Prometheus names them, separated by commas; `all` or `none`.
    #[arg(long, env = "BELLROCK_ENABLE_FEATURE", value_name = "NAMES", default_value = "all", value_delimiter = ',')]
    pub(crate) enable_feature: Vec<String>,
    /// Log to a file in the data directory instead of stderr.
    #[arg(long)]
    pub(crate) log_file: bool,
}

/// The tenant of what the configuration file sets up: scraping and rules.
const FIRST_TENANT: TenantId = TenantId(1);
/// Answers of range queries that are kept, of all tenants.
const RANGE_CACHE_BYTES: u64 = 64 << 20;
/// How long requests under way may take when the server stops.
const DRAIN: Duration = Duration::from_secs(5);
/// How long the last flush may take: together with the above well within the ten seconds that a supervisor waits at the least.
const LAST_FLUSH: Duration = Duration::from_secs(3);

pub(crate) async fn serve(arguments: ServeArguments) -> Result<()> {
    let server = Server::start(arguments).await?;
    eprintln!("bellrock: {} — data in {}", server.url(), server.data_dir.display());
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    loop {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => break,
            _ = terminate.recv() => break,
            _ = hangup.recv() => server.reload().await,
        }
    }
    server.stop().await
}

/// A running server.
pub(crate) struct Server {
    address: SocketAddr,
    data_dir: PathBuf,
    intake: Arc<Intake>,
    app: Arc<App>,
    scrape: Arc<ScrapeManager>,
    flusher: Arc<Flusher>,
    door: Arc<Door>,
    catalog: Arc<Catalog>,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
    _sql_workers: SqlWorkers,
    _lock: DataLock,
}

/// The runtime on which SQL computes.
struct SqlWorkers(Option<tokio::runtime::Runtime>);

impl SqlWorkers {
    fn start() -> Result<Self> {
        let workers = SqlLimits::default().partitions;
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(workers).thread_stack_size(STACK_BYTES).thread_name("sql").enable_all();
        let runtime = builder.build();
        Ok(Self(Some(runtime.context("cannot start the threads for SQL")?)))
    }

    fn handle(&self) -> tokio::runtime::Handle {
        self.0.as_ref().map_or_else(tokio::runtime::Handle::current, |runtime| runtime.handle().clone())
    }
}

/// A runtime must not be waited for inside another one: what still computes has been told to stop.
impl Drop for SqlWorkers {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Server {
    pub(crate) async fn start(arguments: ServeArguments) -> Result<Self> {
        let config = arguments.config.as_deref().map(Config::load).transpose()?.unwrap_or_default();
        let (promql, auth) = (promql_engine(&arguments.enable_feature, &config)?, Auth::new(config.tokens()?));
        let (listeners, address, syslog) = bind(&arguments, &config, &auth).await?;
        let data_lock = lock(&arguments.data_dir)?;
        start_log(&arguments)?;
        let (jobs, files) = (scrape_jobs(&config)?, config.file_sources()?);
        let stores = stores::open(&arguments.data_dir, &config).await?;
        let (intake, tail) = start_intake(&stores, &config).await?;
        let clock = stores.env.clock.clone();
        let door = Door::new(door_limits(&config), clock.clone());
        let sources = Arc::new(StoreSources { metrics: stores.metrics.clone(), events: stores.events.clone() });
        let flusher = Arc::new(flusher(&config, &stores, &intake).await?);
        let (stop, stopped) = watch::channel(false);
        let around = surroundings(&config, address, &stores, &sources, &intake, promql.clone());
        let (alerts, mut tasks) = alerting::start(&config, around, &stopped).await?;
        let scrape = start_scraping(jobs, &config, &intake, &clock).await?;
        let pushes = start_pushes(&config, &stores, &intake, &stopped, &mut tasks);
        let sql_workers = SqlWorkers::start()?;
        let app = Arc::new(App {
            auth,
            clock: clock.clone(),
            started: clock.now(),
            intake: intake.clone(),
            limits: wire_limits(&config),
            bodies: Bodies::default(),
            answers: Answers::new(config.bellrock.limits.queries_memory.0),
            postgres: PostgresCounters::default(),
            door: door.clone(),
            sources: sources.clone(),
            promql,
            range_cache: Arc::new(RangeCache::new(RANGE_CACHE_BYTES)),
            sql: Arc::new(sql_engine(&stores)),
            sql_workers: sql_workers.handle(),
            catalog: stores.catalog.clone(),
            catalog_state: stores.catalog_state.clone(),
            scrape: scrape.clone(),
            alerts,
            alerts_tenant: FIRST_TENANT,
            flusher: flusher.clone(),
            pushes,
            tail,
            stats: Arc::new(StoreStats::new(&stores.metrics, &stores.events, &flusher)),
            errors: sources,
            external_labels: Labels::from_pairs(&config.global.external_labels),
            retention: config.bellrock.retention.metrics.0,
            flags: flags(&arguments, &config),
            configuration: Arc::new(ConfigFile(arguments.config.clone())),
            last_load: LastLoad::new(clock.now()),
            config_text: Config::shown(arguments.config.as_deref())?.into(),
            table: std::sync::OnceLock::new(),
        });
        tasks.push(supervised("upkeep", upkeep(&config, &stores, &flusher).run(stopped.clone())));
        tasks.extend(start_receivers(syslog, files, &intake, &stores, &stopped));
        tasks.extend(serve_all(listeners, address, &app, &stores, &stopped));
        Ok(Self {
            address,
            data_dir: arguments.data_dir,
            intake,
            app,
            scrape,
            flusher,
            door,
            catalog: stores.catalog,
            stop,
            tasks,
            _sql_workers: sql_workers,
            _lock: data_lock,
        })
    }

    /// What SIGHUP asks for; `POST /-/reload` is the same.
    async fn reload(&self) {
        match self.app.reload().await {
            Ok(()) => tracing::info!(event = "ConfigReloaded", "the rules and the scrape configuration have been read again"),
            Err(error) => tracing::error!(event = "ConfigReloadError", "nothing has changed: {error}"),
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Stops taking requests, lets those under way end, writes the heads, closes.
    pub(crate) async fn stop(self) -> Result<()> {
        tracing::info!(event = "ServerStopping");
        let _ = self.stop.send(true);
        self.scrape.stop().await;
        let drained = async {
            for task in self.tasks {
                let _ = task.await;
            }
        };
        let _ = tokio::time::timeout(DRAIN, drained).await;
        self.door.close();
        // Only to start faster: what is not in files is in the journal.
        match tokio::time::timeout(LAST_FLUSH, self.flusher.flush()).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(event = "LastFlushError", "{error}"),
            Err(_) => tracing::warn!(event = "LastFlushError", "it took too long: the next start reads the journal back"),
        }
        let intake = self.intake;
        tokio::task::spawn_blocking(move || intake.close()).await?;
        self.catalog.close().await;
        tracing::info!(event = "ServerStopped");
        Ok(())
    }
}

/// The language with the experimental parts that were asked for.
fn promql_engine(features: &[String], config: &Config) -> Result<br_promql::Engine> {
    let interval = config.global.evaluation_interval.0;
    let subquery_step_ms = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX).max(1);
    let mut options = br_promql::Options { subquery_step_ms, ..br_promql::Options::stable() };
    for feature in features.iter().map(|feature| feature.trim()).filter(|feature| !feature.is_empty()) {
        match feature {
            "all" => br_promql::FEATURES.iter().try_for_each(|feature| options.enable(feature))?,
            "none" => {}
            _ => options.enable(feature).map_err(|error| anyhow::anyhow!("--enable-feature: {error}"))?,
        }
    }
    Ok(br_promql::Engine::new(options))
}

/// Under the names that Prometheus has for them, where it has one.
fn flags(arguments: &ServeArguments, config: &Config) -> Vec<(&'static str, String)> {
    let mut flags = vec![
        ("storage.tsdb.path", arguments.data_dir.display().to_string()),
        ("enable-feature", arguments.enable_feature.join(",")),
        ("web.listen-address", arguments.listen.clone()),
        ("otlp-grpc-listen", arguments.otlp_grpc_listen.clone()),
        ("otlp-http-listen", arguments.otlp_http_listen.clone()),
    ];
    flags.extend(arguments.postgres_listen.iter().map(|text| ("postgres-listen", text.clone())));
    flags.extend(arguments.config.iter().map(|file| ("config.file", file.display().to_string())));
    flags.extend(config.bellrock.external_url.iter().map(|url| ("web.external-url", url.clone())));
    flags
}

/// What `sysexits.h` calls an internal software error.
const EXIT_BROKEN: i32 = 70;

/// A part without which the server would only seem to work. When it breaks the server ends, loudly, and whoever started it starts
/// it anew: what was acknowledged is in the journal.
pub(crate) fn supervised(name: &'static str, part: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    let guarded = std::panic::AssertUnwindSafe(part).catch_unwind();
    tokio::spawn(async move {
        if guarded.await.is_err() {
            tracing::error!(event = "PartBrokenError", part = name, "the server ends; start it again");
            std::process::exit(EXIT_BROKEN);
        }
    })
}

/// Behind them is the one of PostgreSQL's protocol, where it is asked for.
const HTTP_LISTENERS: usize = 3;

/// Binds the ports first: what is taken already is known before anything is opened. The address is that of the first.
async fn bind(
    arguments: &ServeArguments,
    config: &Config,
    auth: &Auth,
) -> Result<(Vec<TcpListener>, SocketAddr, Option<SyslogListeners>)> {
    let mut listeners = Vec::new();
    let asked = [
        ("--listen", &arguments.listen),
        ("--otlp-grpc-listen", &arguments.otlp_grpc_listen),
        ("--otlp-http-listen", &arguments.otlp_http_listen),
    ];
    for (flag, text) in asked.into_iter().chain(arguments.postgres_listen.iter().map(|text| ("--postgres-listen", text))) {
        let listener = TcpListener::bind(text).await.with_context(|| format!("cannot listen on {flag} {text}"))?;
        let address = listener.local_addr()?;
        if auth.is_open() && !address.ip().is_loopback() {
            bail!(
                "{flag} {address} can be reached from other machines, and no users are configured: anybody could read and write. \
                 Set bellrock.auth.tokens in the configuration file (docs/configuration.md), or listen on 127.0.0.1"
            );
        }
        listeners.push(listener);
    }
    let address = listeners[0].local_addr()?;
    Ok((listeners, address, syslog::bind(&config.bellrock.syslog).await?))
}

fn start_log(arguments: &ServeArguments) -> Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_from_env("BELLROCK_LOG").unwrap_or_else(|_| "info".into());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_target(false);
    // A second server in one process (in tests) keeps the first one's log.
    let _ = if arguments.log_file {
        #[allow(clippy::disallowed_methods, reason = "the log is not data: it is written as it comes")]
        let file = std::fs::File::options().create(true).append(true).open(arguments.data_dir.join("bellrock.log"))?;
        builder.with_ansi(false).with_writer(std::sync::Mutex::new(file)).try_init()
    } else {
        builder.with_ansi(false).with_writer(std::io::stderr).try_init()
    };
    Ok(())
}

async fn start_intake(stores: &Stores, config: &Config) -> Result<(Arc<Intake>, Tail)> {
    let redaction = config.bellrock.redaction.options()?;
    let tail = Tail::default();
    let limits =
        DecodeLimits { wire: wire_limits(config), times: time_bounds(config, stores), enrich: config.bellrock.logs.policy() };
    let catalog = &stores.catalog;
    let applier = MetricsApplier::new(stores.metrics.clone(), stores.sealed.clone(), limits.clone(), stores.env.clock.clone());
    let metrics = LaneStart {
        applier: Box::new(if config.bellrock.span_metrics { applier.with_span_metrics() } else { applier }),
        progress: catalog.progress(br_catalog::Store::Metrics).await?,
    };
    let events = LaneStart {
        applier: Box::new(EventsApplier { store: stores.events.clone(), sealed: stores.sealed.clone(), tail: tail.clone() }),
        progress: catalog.progress(br_catalog::Store::Events).await?,
    };
    let issues = LaneStart {
        applier: Box::new(IssuesApplier::new(catalog.clone(), tokio::runtime::Handle::current())),
        progress: catalog.errors_recorded().await?,
    };
    let clock = stores.env.clock.clone();
    let lanes = [metrics, events, issues];
    let intake = Intake::start(stores.journal.clone(), clock, limits, stores.metrics.clone(), lanes)?;
    intake.redaction.set(redaction);
    Ok((Arc::new(intake), tail))
}

async fn start_scraping(
    jobs: Vec<Job>,
    config: &Config,
    intake: &Arc<Intake>,
    clock: &Arc<dyn Clock>,
) -> Result<Arc<ScrapeManager>> {
    let sink = Arc::new(TenantSink { intake: intake.clone(), tenant: FIRST_TENANT });
    let limits = ReadLimits::new(wire_limits(config), config.bellrock.limits.series_per_target);
    Ok(Arc::new(ScrapeManager::start(jobs, sink, clock.clone(), limits).await?))
}

/// What was pushed is written again at the beat at which a gateway would be scraped.
fn start_pushes(
    config: &Config,
    stores: &Stores,
    intake: &Arc<Intake>,
    stopped: &watch::Receiver<bool>,
    tasks: &mut Vec<JoinHandle<()>>,
) -> Arc<PushGroups> {
    let pushes = Arc::new(PushGroups::new(stores.catalog.clone(), intake.clone(), stores.env.clock.clone()));
    tasks.push(supervised("pushes", pushes.clone().run(config.global.scrape_interval.0, stopped.clone())));
    pushes
}

/// What comes in otherwise than over HTTP: only where the configuration says so.
fn start_receivers(
    listeners: Option<SyslogListeners>,
    sources: Vec<FileSource>,
    intake: &Arc<Intake>,
    stores: &Stores,
    stopped: &watch::Receiver<bool>,
) -> impl Iterator<Item = JoinHandle<()>> {
    let syslog = listeners.map(|listeners| syslog::start(listeners, intake, stopped));
    let files = Some(sources).filter(|sources| !sources.is_empty()).map(|sources| {
        supervised("files", br_ingest::files::serve(sources, intake.clone(), stores.env.clone(), stopped.clone()))
    });
    syslog.into_iter().chain(files)
}

fn surroundings(
    config: &Config,
    address: SocketAddr,
    stores: &Stores,
    sources: &Arc<StoreSources>,
    intake: &Arc<Intake>,
    engine: br_promql::Engine,
) -> Surroundings {
    Surroundings {
        tenant: FIRST_TENANT,
        external_url: config.bellrock.external_url.clone().unwrap_or_else(|| format!("http://{address}")),
        catalog: stores.catalog.clone(),
        sources: sources.clone(),
        intake: intake.clone(),
        engine,
        env: stores.env.clone(),
    }
}

async fn flusher(config: &Config, stores: &Stores, intake: &Arc<Intake>) -> Result<Flusher> {
    let parts = FlusherParts {
        intake: intake.clone(),
        catalog: stores.catalog.clone(),
        metrics: stores.metrics.clone(),
        events: stores.events.clone(),
        sealed: stores.sealed.clone(),
        files: stores.files.clone(),
        clock: stores.env.clock.clone(),
        catalog_copy: stores.catalog_copy.clone(),
        erased_within: config.bellrock.retention.erased_within.0,
    };
    Ok(Flusher::new(parts).await?)
}

/// The file that the server was started with, to be read again.
struct ConfigFile(Option<PathBuf>);

impl Configuration for ConfigFile {
    fn read(&self) -> br_std::Result<Loaded> {
        let read = || -> Result<Loaded> {
            let config = self.0.as_deref().map(Config::load).transpose()?.unwrap_or_default();
            Ok(Loaded {
                rule_files: alerting::read_rule_files(&config.rule_files)?,
                jobs: scrape_jobs(&config)?,
                redaction: config.bellrock.redaction.options()?,
                shown: Config::shown(self.0.as_deref())?,
            })
        };
        read().map_err(|error| br_std::Error::fix_request(format!("{error:#}")))
    }
}

fn scrape_jobs(config: &Config) -> Result<Vec<Job>> {
    for part in config.unused_parts() {
        tracing::warn!(event = "ConfigPartUnused", part, "this part of the configuration is read without being acted on");
    }
    let unused = |place: String, parts: Vec<String>| {
        for part in parts {
            tracing::warn!(event = "ConfigPartUnused", place, "{part}");
        }
    };
    unused("global".to_owned(), config.global.unsupported()?);
    let mut jobs: Vec<Job> = Vec::new();
    for scrape in &config.scrape_configs {
        let job = Job::new(scrape.clone(), &config.global)?;
        let name = &job.config.job_name;
        if jobs.iter().any(|other| other.config.job_name == *name) {
            bail!("scrape_configs: more than one job is called {name:?}");
        }
        unused(format!("job {name:?}"), job.unsupported.clone());
        jobs.push(job);
    }
    Ok(jobs)
}

fn wire_limits(config: &Config) -> br_wire::Limits {
    let limits = &config.bellrock.limits;
    br_wire::Limits {
        body_bytes_max: usize::try_from(limits.body.0).unwrap_or(usize::MAX),
        decoded_bytes_max: usize::try_from(limits.body_decompressed.0).unwrap_or(usize::MAX),
        ..Default::default()
    }
}

/// How far a log or a span may be ahead of the clock: enough for a wrong time zone.
const EVENTS_AHEAD_MAX: Duration = Duration::from_hours(24);

fn time_bounds(config: &Config, stores: &Stores) -> TimeBounds {
    let retention = retention(config, stores);
    TimeBounds {
        samples_behind: retention.metrics,
        samples_ahead: br_tsdb::TsdbOptions::default().future_max,
        logs_behind: retention.logs,
        spans_behind: retention.spans,
        events_ahead: EVENTS_AHEAD_MAX,
        event_rules: stores.events.options().retention.clone(),
    }
}

fn door_limits(config: &Config) -> Limits {
    let limits = &config.bellrock.limits;
    let concurrent_max = limits.queries_at_once.max(1);
    let is_shared = config.bellrock.auth.tokens.iter().any(|token| TenantId(token.tenant) != FIRST_TENANT);
    // Of several tenants none has all places.
    let kept_for_others = if is_shared { concurrent_max.div_ceil(4).min(concurrent_max - 1) } else { 0 };
    Limits {
        query_bytes_max: limits.query_memory.0,
        queries_bytes_max: limits.queries_memory.0,
        timeout: limits.query_timeout.0,
        concurrent_max,
        tenant_concurrent_max: concurrent_max - kept_for_others,
        ..Limits::default()
    }
}

fn upkeep(config: &Config, stores: &Stores, flusher: &Arc<Flusher>) -> Upkeep {
    Upkeep {
        flusher: flusher.clone(),
        retention: retention(config, stores),
        flush_interval: config.bellrock.flush_interval.0,
        readers_grace: config.bellrock.retention.readers_grace.0,
        started: stores.env.clock.now(),
        is_catalog_whole: stores.catalog_state.is_whole,
    }
}

/// The longest time for each kind.
fn retention(config: &Config, stores: &Stores) -> Retention {
    let retention = &config.bellrock.retention;
    let rules = stores.events.options().retention.as_ref();
    let longest = |table, rest: Duration| rules.map_or(rest, |rules| rules.longest(table));
    Retention {
        metrics: retention.metrics_max(),
        logs: longest(Table::Logs, retention.logs.0),
        spans: longest(Table::Spans, retention.spans.0),
    }
}

fn sql_engine(stores: &Stores) -> SqlEngine {
    let (events, metrics) = (stores.events.clone(), stores.metrics.clone());
    let tables = Arc::new(move |tenant: TenantId, budget: &Arc<Budget>| events.tables(tenant, budget));
    let series = Arc::new(move |tenant: TenantId| metrics.source(tenant));
    SqlEngine::new(tables, series, br_events::sql_functions(), SqlLimits::default()).with_rewrites(br_events::sql_rewrites())
}

/// The first port has everything, the others what exporters of OpenTelemetry send: one that speaks HTTP to the gRPC port, or the
/// other way round, is served too.
fn serve_all(
    mut listeners: Vec<TcpListener>,
    address: SocketAddr,
    app: &Arc<App>,
    stores: &Stores,
    stopped: &watch::Receiver<bool>,
) -> Vec<JoinHandle<()>> {
    let (all, otlp) = (br_http::router(app.clone()), br_http::otlp_router(app.clone()));
    let connections_max = connections_max();
    let serve = |(at, listener)| {
        let router = if at == 0 { all.clone() } else { otlp.clone() };
        tokio::spawn(br_http::listen::serve(listener, router, connections_max, stopped.clone()))
    };
    let postgres = listeners.split_off(HTTP_LISTENERS);
    let serve_postgres =
        |listener| tokio::spawn(br_http::postgres::serve(listener, app.clone(), stores.env.rng.clone(), stopped.clone()));
    let tasks = listeners.into_iter().enumerate().map(serve).chain(postgres.into_iter().map(serve_postgres)).collect();
    tracing::info!(event = "ServerStarted", address = %address, version = env!("CARGO_PKG_VERSION"));
    tasks
}

/// Descriptors that files, the catalog and outgoing connections may take.
const DESCRIPTORS_KEPT_BACK: u64 = 512;

/// Connections of each port. The process takes as many descriptors as it may have, and leaves the stores their part.
fn connections_max() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // Not being allowed to is no fault: then it is as it was.
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let descriptors = if raised.is_ok() { maximum } else { current }.unwrap_or(u64::MAX);
    (descriptors.saturating_sub(DESCRIPTORS_KEPT_BACK) / 4).clamp(64, 4096) as usize
}
