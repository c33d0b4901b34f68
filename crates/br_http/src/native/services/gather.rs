//! Spans are read, log records are counted in SQL, which reads only the columns that it needs, and samples are asked for in PromQL.

use super::activity::{Activity, Grid, LogCounts};
use crate::app::App;
use crate::time::rfc3339;
use br_model::TenantId;
use br_query::door::Language;
use br_query::sql::{SqlEngine, write_json_rows};
use br_std::{Error, Nanos, Result};
use br_storage::{Budget, MetricSource, SeriesQuery, SpanParts, SpanQuery, SpanSource};
use futures::StreamExt;
use std::collections::BTreeMap;
use std::sync::Arc;

type Activities = BTreeMap<String, Activity>;

/// What services there are, and what they did.
pub(super) async fn gather(app: &App, tenant: TenantId, grid: Grid) -> Result<Activities> {
    let engine = app.promql.clone();
    let mut activities = app
        .query(tenant, Language::Lookup, "services", None, move |sources, budget| {
            let mut activities = Activities::new();
            add_spans(&mut activities, &*sources.spans(tenant), grid, budget)?;
            add_samples(&mut activities, &engine, &*sources.metrics(tenant), grid, budget)?;
            Ok(activities)
        })
        .await?;
    let sql = app.sql.clone();
    let counted = app
        .door
        .run_async(tenant, Language::Lookup, "services", &app.sql_workers, async move |budget| {
            log_counts(&sql, tenant, grid, budget).await
        })
        .await?;
    for (service, counts) in counted {
        activities.entry(service).or_default().add_logs(counts, grid);
    }
    // Telemetry that names no service is found on its own pages; a row without a name leads nowhere.
    activities.remove("");
    Ok(activities)
}

fn add_spans(activities: &mut Activities, source: &dyn SpanSource, grid: Grid, budget: &Budget) -> Result<()> {
    let mut cursor = source.scan(&SpanQuery { range: grid.range, hints: Vec::new(), parts: SpanParts::NONE }, budget)?;
    while let Some(batch) = cursor.next_batch()? {
        budget.check()?;
        for stored in batch.iter().filter(|stored| grid.range.contains(stored.span.start)) {
            let activity = activities.entry(stored.resource.service_name().to_owned()).or_default();
            budget.charge(16)?;
            activity.add_span(stored, grid);
        }
    }
    Ok(())
}

/// Between the last two samples: an average over minutes would be too low for a program that has just started.
const CPU_QUERY: &str = "sum by (job) (irate(process_cpu_seconds_total{job!=\"\"}[5m]))";
const MEMORY_QUERY: &str = "sum by (job) (process_resident_memory_bytes{job!=\"\"})";
/// When the series that every scrape or SDK writes were last written.
const LAST_SEEN_QUERY: &str = "max by (job) (timestamp(process_resident_memory_bytes{job!=\"\"})) \
    or max by (job) (timestamp(target_info{job!=\"\"})) or max by (job) (timestamp(up{job!=\"\"}))";

fn add_samples(
    activities: &mut Activities,
    engine: &br_promql::Engine,
    source: &dyn MetricSource,
    grid: Grid,
    budget: &Budget,
) -> Result<()> {
    let (from_ms, to_ms) = (grid.range.from.as_millis(), grid.range.to.as_millis());
    let all = SeriesQuery { matchers: Vec::new(), from_ms, to_ms };
    for job in source.label_values("job", &all, budget)? {
        activities.entry(job).or_default().has_samples = true;
    }
    let values = |query: &str| by_job(engine, source, query, to_ms, budget);
    for (job, cores) in values(CPU_QUERY)? {
        activities.entry(job).or_default().cpu_cores = Some(cores);
    }
    for (job, bytes) in values(MEMORY_QUERY)? {
        activities.entry(job).or_default().memory_bytes = Some(bytes);
    }
    for (job, seconds) in values(LAST_SEEN_QUERY)? {
        let at = Nanos((seconds * 1e9) as i64);
        let activity = activities.entry(job).or_default();
        activity.last_seen = Some(activity.last_seen.map_or(at, |known| known.max(at)));
    }
    Ok(())
}

fn by_job(
    engine: &br_promql::Engine,
    source: &dyn MetricSource,
    query: &str,
    at_ms: i64,
    budget: &Budget,
) -> Result<Vec<(String, f64)>> {
    let expr = br_promql::parse(query)?;
    let br_promql::Value::Vector(samples) = engine.instant(source, &expr, at_ms, budget)?.value else { return Ok(Vec::new()) };
    let values = samples.iter().filter_map(|sample| match sample.point {
        br_promql::Point::Float(value) => Some((sample.labels.get("job")?.to_owned(), value)),
        br_promql::Point::Histogram(_) => None,
    });
    Ok(values.collect())
}

/// What OpenTelemetry calls ERROR; FATAL is above it.
const SEVERITY_ERROR: u8 = 17;

/// What SDKs of Sentry report of themselves (sessions, dropped events) names no service: it is kept under "sentry", which is none.
async fn log_counts(sql: &SqlEngine, tenant: TenantId, grid: Grid, budget: Arc<Budget>) -> Result<Vec<(String, LogCounts)>> {
    let (from, step) = (grid.range.from.0, grid.step.as_nanos());
    let query = format!(
        "SELECT service, (CAST(ts AS BIGINT) - {from}) / {step} AS step, \
         sum(CASE WHEN kind = 'error' THEN 0 ELSE 1 END), \
         sum(CASE WHEN kind <> 'error' AND severity >= {SEVERITY_ERROR} THEN 1 ELSE 0 END), \
         sum(CASE WHEN kind = 'error' THEN 1 ELSE 0 END), \
         min(CAST(ts AS BIGINT)) / 1000000, max(CAST(ts AS BIGINT)) / 1000000 \
         FROM logs WHERE ts >= TIMESTAMP '{}' AND ts < TIMESTAMP '{}' \
         AND NOT (kind = 'event' AND service = 'sentry') GROUP BY 1, 2",
        rfc3339(grid.range.from),
        rfc3339(grid.range.to),
    );
    let mut answer = sql.query(tenant, &query, budget).await?;
    let (mut text, mut is_first) = (b"[".to_vec(), true);
    while let Some(batch) = answer.batches.next().await {
        write_json_rows(&mut text, &batch?, &mut is_first)?;
    }
    text.push(b']');
    let rows: Vec<(String, usize, u64, u64, u64, i64, i64)> =
        serde_json::from_slice(&text).map_err(|error| Error::corrupt(format!("counts of log records: {error}")))?;
    let counts = rows.into_iter().map(|(service, step, logs, error_logs, error_events, first_ms, last_ms)| {
        let (first, last) = (Nanos::from_millis(first_ms), Nanos::from_millis(last_ms));
        (service, LogCounts { step, logs, error_logs, error_events, first, last })
    });
    Ok(counts.collect())
}
