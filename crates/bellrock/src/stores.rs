//! Opens what is kept, and sees to it that a lost catalog is no lost data.

use crate::config::Config;
use anyhow::Result;
use br_catalog::{Catalog, Rescue, Store, open_or_restore};
use br_env::Env;
use br_events::{EventOptions, EventStore};
use br_http::app::CatalogState;
use br_ingest::appliers::Sealed;
use br_jobs::files::SyncedDirectory;
use br_jobs::{erasures, rescue, tombstones};
use br_journal::Journal;
use br_storage::Table;
use br_tsdb::{RetentionRules, Tsdb, TsdbOptions};
use object_store::ObjectStore;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The stores and what keeps them.
pub(crate) struct Stores {
    pub(crate) env: Env,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) catalog_copy: PathBuf,
    pub(crate) catalog_state: CatalogState,
    pub(crate) journal: Arc<Journal>,
    pub(crate) metrics: Arc<Tsdb>,
    pub(crate) events: Arc<EventStore>,
    pub(crate) sealed: Arc<Sealed>,
    pub(crate) files: Arc<dyn ObjectStore>,
}

/// With less space than this the catalog is opened without the files that it would like to have.
const SPACE_MIN: u64 = 1 << 20;

pub(crate) async fn open(data_dir: &Path, config: &Config) -> Result<Stores> {
    let env = br_env::real::env(data_dir)?;
    let files: Arc<dyn ObjectStore> = Arc::new(SyncedDirectory::open(&data_dir.join("files"))?);
    let catalog_copy = data_dir.join("catalog-copy.db");
    // A disk that does not say how much is free counts as empty: a write will tell.
    let is_full = env.disk.free_bytes().is_ok_and(|free| free < SPACE_MIN);
    let was_used = !env.disk.list("journal")?.is_empty() || !rescue::list_files(&files).await?.is_empty();
    let (catalog, rescued) = open_or_restore(&data_dir.join("catalog.db"), &catalog_copy, was_used, is_full).await?;
    if catalog.is_alone() {
        tracing::warn!(
            event = "CatalogAlone",
            "there was no space to open the catalog as usual: it is slower until the next start"
        );
    }
    let (journal, start) = open_journal(&env, &catalog, config).await?;
    let retention = config.bellrock.retention.event_rules(&env.clock)?;
    let options = EventOptions { retention, ..EventOptions::new(env.rng.clone()) };
    let catalog_state = mend(&catalog, rescued, &files, &options, start).await?;
    let metric_files = catalog.files(Table::Metrics).await?;
    let metrics = Tsdb::open(metric_files, files.clone(), env.rng.clone(), tsdb_options(config)?);
    keep_by_rules(&metrics, config, &env)?;
    metrics.set_rollups(config.bellrock.rollup_levels()?);
    tombstones::restore(&catalog, &metrics).await?;
    metrics.resume(catalog.progress(Store::Metrics).await?);
    let mut event_files = catalog.files(Table::Logs).await?;
    event_files.extend(catalog.files(Table::Spans).await?);
    let events = EventStore::open(event_files, files.clone(), options);
    erasures::restore(&catalog, &events).await?;
    events.resume(catalog.progress(Store::Events).await?);
    Ok(Stores {
        env,
        catalog: Arc::new(catalog),
        catalog_copy,
        catalog_state,
        journal: Arc::new(journal),
        metrics: Arc::new(metrics),
        events,
        sealed: Arc::default(),
        files,
    })
}

fn tsdb_options(config: &Config) -> Result<TsdbOptions> {
    let limits = &config.bellrock.limits;
    let defaults = TsdbOptions::default();
    let limit = |series: usize| if series == 0 { usize::MAX } else { series };
    Ok(TsdbOptions {
        out_of_order_window: config.out_of_order_window()?.unwrap_or(defaults.out_of_order_window),
        age_max: config.bellrock.retention.metrics_max(),
        series_max: limit(limits.series),
        series_per_target_max: limit(limits.series_per_target),
        series_per_job_max: limit(limits.series_per_job),
        series_per_metric_max: limit(limits.series_per_metric),
        flush_interval: config.bellrock.flush_interval.0,
        exemplar_bytes_max: usize::try_from(limits.exemplars.0).unwrap_or(usize::MAX),
        ..defaults
    })
}

/// Without rules the store need not know how long series are kept: whole files go when they are old.
fn keep_by_rules(metrics: &Tsdb, config: &Config, env: &Env) -> Result<()> {
    let retention = &config.bellrock.retention;
    let rules = retention.metric_rules()?;
    if !rules.is_empty() {
        metrics.set_retention(RetentionRules::new(rules, retention.metrics.0, env.clock.clone()));
    }
    Ok(())
}

/// The journal, and the first record that it still has.
async fn open_journal(env: &Env, catalog: &Catalog, config: &Config) -> Result<(Journal, br_storage::JournalPosition)> {
    let disk_free = config.bellrock.limits.disk_free.0;
    let defaults = br_journal::Options::default();
    // A body that is masked is journaled without its compression.
    let body_bytes_max = usize::try_from(config.bellrock.limits.body_decompressed.0).unwrap_or(usize::MAX);
    let options = br_journal::Options {
        body_bytes_max: defaults.body_bytes_max.max(body_bytes_max),
        window: config.bellrock.commit_interval.0,
        position_floor: catalog.highest_progress().await?,
        free_bytes_min: disk_free,
        ballast_bytes: disk_free / 4,
        ..defaults
    };
    let (journal, recovery) = Journal::open(env.clone(), options)?;
    for warning in &recovery.warnings {
        tracing::warn!(event = "JournalRecovery", "{warning}");
    }
    tracing::info!(
        event = "JournalOpened",
        was_clean = recovery.was_clean,
        last_position = recovery.last_position.0,
        torn_bytes = recovery.torn_bytes,
        quarantined = recovery.quarantined.len()
    );
    Ok((journal, recovery.start))
}

/// Says what happened to the catalog, and where no copy of it could help, takes in the files without it.
async fn mend(
    catalog: &Catalog,
    rescued: Option<Rescue>,
    files: &Arc<dyn ObjectStore>,
    options: &EventOptions,
    journal_start: br_storage::JournalPosition,
) -> Result<CatalogState> {
    let is_behind = rescue::is_behind(catalog, journal_start).await?;
    let is_whole = !is_behind && rescued.as_ref().is_none_or(|rescue| rescue.is_restored);
    let mut state = CatalogState { is_whole, story: Vec::new() };
    if let Some(rescue) = rescued {
        let kept = rescue.moved_to.map_or_else(String::new, |aside| format!(", what was there is in {}", aside.display()));
        let done = if rescue.is_restored {
            "its copy took its place"
        } else {
            "there was no copy of it: incidents, silences and issues are gone"
        };
        state.story.push(format!("the catalog could not be used ({}): {done}{kept}", rescue.reason));
    } else if is_behind {
        state.story.push(format!("the catalog is older than the journal, which begins at record {}", journal_start.0));
    }
    if !is_whole {
        let adopted = rescue::adopt(catalog, files, options, journal_start).await?;
        state.story.push(format!("{} data files were taken in by what they say of themselves", adopted.files));
        state.story.extend(adopted.damaged.iter().map(|path| format!("{path} could not be read and was set aside")));
    }
    for line in &state.story {
        tracing::error!(event = "CatalogRescued", "{line}");
    }
    Ok(state)
}
