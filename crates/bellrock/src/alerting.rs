//! The alert engine over this server's stores: PromQL for conditions, the intake for what rules write.

use crate::config::Config;
use crate::evaluator::PromqlEvaluator;
use crate::serve::supervised;
use crate::sources::StoreSources;
use anyhow::{Context, Result, bail};
use br_catalog::Catalog;
use br_env::Env;
use br_ingest::Intake;
use br_jobs::alerts::{AlertEngine, DeliveryWorker, EngineOptions, EvidenceSources, SampleWriter};
use br_model::{Labels, MetricBatch, TenantId};
use br_promql::Engine;
use br_query::door::Sources;
use br_route::{Channel, ChannelKind, GroupTimes, RetryPolicy, Webhook};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What the engine needs of the server.
pub(crate) struct Surroundings {
    pub(crate) tenant: TenantId,
    /// For links in messages.
    pub(crate) external_url: String,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) sources: Arc<StoreSources>,
    pub(crate) intake: Arc<Intake>,
    pub(crate) engine: Engine,
    pub(crate) env: Env,
}

/// How often it is looked whether the journal has been read back.
const CATCH_UP_BEAT: Duration = Duration::from_millis(50);

/// Loads the rules and starts to evaluate and to deliver.
pub(crate) async fn start(
    config: &Config,
    around: Surroundings,
    stopped: &watch::Receiver<bool>,
) -> Result<(Arc<AlertEngine>, Vec<JoinHandle<()>>)> {
    let alerts = &config.bellrock.alerts;
    let channels = channels(config);
    let options = EngineOptions {
        tenant: around.tenant,
        evaluation_interval: config.global.evaluation_interval.0,
        query_offset: config.global.rule_query_offset.0,
        external_labels: Labels::from_pairs(&config.global.external_labels),
        external_url: around.external_url,
        channels: channels.clone(),
        group_times: GroupTimes {
            wait: alerts.group_wait.0,
            interval: alerts.group_interval.0,
            repeat: alerts.repeat_interval.0,
        },
    };
    let evidence = EvidenceSources { logs: around.sources.logs(around.tenant), spans: around.sources.spans(around.tenant) };
    let evaluator = Arc::new(PromqlEvaluator { engine: around.engine, sources: around.sources });
    let writer = Arc::new(IntakeWriter(around.intake.clone()));
    let (clock, rng) = (around.env.clock.clone(), around.env.rng.clone());
    let catalog = (*around.catalog).clone();
    let engine = AlertEngine::open(options, catalog.clone(), evaluator, writer, Some(evidence), clock.clone()).await?;
    load(&engine, &config.rule_files).await?;
    let engine = Arc::new(engine);
    let intake = around.intake;
    let delivery = DeliveryWorker::new(catalog, channels, clock, rng, RetryPolicy::default())?;
    let tasks = vec![
        supervised("rules", evaluate(engine.clone(), intake, stopped.clone())),
        supervised("delivery", delivery.run(stopped.clone())),
    ];
    Ok((engine, tasks))
}

/// Rules see nothing before the stores have read back the journal: half of the data would resolve alerts that still burn.
async fn evaluate(engine: Arc<AlertEngine>, intake: Arc<Intake>, mut stopped: watch::Receiver<bool>) {
    while !intake.is_caught_up() {
        tokio::select! {
            () = tokio::time::sleep(CATCH_UP_BEAT) => {}
            _ = stopped.wait_for(|stopped| *stopped) => return,
        }
    }
    engine.run(stopped).await;
}

async fn load(engine: &AlertEngine, patterns: &[String]) -> Result<()> {
    let files = read_rule_files(patterns)?;
    match engine.load(&files).await {
        Ok(warnings) => {
            for (file, complaint) in warnings {
                tracing::warn!(event = "RuleWarning", "{file}:{complaint}");
            }
            Ok(())
        }
        Err(complaints) => {
            let lines: Vec<String> = complaints.iter().map(|(file, complaint)| format!("{file}:{complaint}")).collect();
            bail!("rule files have errors:\n{}", lines.join("\n"))
        }
    }
}

/// Names and texts. The last part of a pattern may hold one `*`, as in `rules/*.yml`.
#[allow(clippy::disallowed_methods, reason = "rule files lie outside the data directory")]
pub(crate) fn read_rule_files(patterns: &[String]) -> Result<Vec<(String, String)>> {
    let mut files = Vec::new();
    for pattern in patterns {
        for path in br_ingest::scrape::expand_pattern(Path::new(pattern)) {
            // Prometheus says nothing of a file that is not there; whoever mistyped its name would wait for alerts in vain.
            if !path.exists() {
                tracing::warn!(event = "RuleFileMissing", path = %path.display(), "this rule file does not exist");
                continue;
            }
            let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read the rule file {}", path.display()))?;
            files.push((path.display().to_string(), text));
        }
    }
    Ok(files)
}

fn channels(config: &Config) -> Vec<Channel> {
    let channel = |webhook: &crate::config::WebhookConfig| {
        let mut headers = BTreeMap::new();
        if let Some(authorization) = &webhook.authorization {
            headers.insert("authorization".to_owned(), authorization.clone());
        }
        let (timeout_ms, payload_bytes_max) = (10_000, 512 << 10);
        let kind = ChannelKind::Webhook(Webhook { url: webhook.url.clone(), headers, timeout_ms, payload_bytes_max });
        Channel { name: webhook.name.clone(), send_resolved: webhook.send_resolved, kind }
    };
    config.bellrock.alerts.webhooks.iter().map(channel).collect()
}

/// What rules write goes the way of all samples: through the journal.
struct IntakeWriter(Arc<Intake>);

#[async_trait::async_trait]
impl SampleWriter for IntakeWriter {
    async fn write(&self, tenant: TenantId, batch: MetricBatch) -> br_std::Result<()> {
        if batch.series.is_empty() {
            return Ok(());
        }
        self.0.accept_samples(tenant, batch).await.map(drop)
    }
}
