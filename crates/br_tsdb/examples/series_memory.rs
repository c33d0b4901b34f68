//! What an active series takes in memory: `series_memory [series]`.
//!
//! Series come in small batches, as from many targets, so that what the sender's side holds does not blur the figures.
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a measuring program")]

use br_env::sim::Sim;
use br_model::{Labels, MetricBatch, Sample, SeriesSamples, TenantId};
use br_std::{Error, Nanos, Result};
use br_storage::JournalPosition;
use br_tsdb::{Tsdb, TsdbOptions};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use std::sync::Arc;

const TENANT: TenantId = TenantId(0);
const T0: i64 = 1_700_006_400_000;
const SERIES_PER_TARGET: usize = 500;

fn main() -> Result<()> {
    let series = std::env::args().nth(1).map_or(Ok(200_000), |text| text.parse::<usize>());
    let series = series.map_err(|error| Error::fix_request(error.to_string()))?.max(SERIES_PER_TARGET);
    let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let tsdb = Tsdb::open(Vec::new(), objects.clone(), Sim::new(1).rng, TsdbOptions::default());
    let before = resident_bytes();
    let (mut position, mut file_bytes) = (0, 0);
    for scrape in 0..8i64 {
        let now_ms = T0 + scrape * 15_000;
        for target in 0..series / SERIES_PER_TARGET {
            position += 1;
            let batch = scrape_of(target, scrape, now_ms);
            tsdb.append(TENANT, JournalPosition(position), &batch, Nanos::from_millis(now_ms))?;
        }
        let stats = tsdb.tenant_stats(TENANT, 0);
        let per_series = |bytes: u64| bytes / series as u64;
        println!(
            "scrape {scrape}: resident {} B/series; counted: registry {}, open samples {}, samples kept after their flush {}",
            per_series(resident_bytes().saturating_sub(before + file_bytes)),
            per_series(stats.registry_bytes),
            per_series(stats.unflushed_bytes),
            per_series(stats.retained_bytes),
        );
        if scrape % 4 == 3
            && let Some(sealed) = tsdb.seal(JournalPosition(position))
        {
            let files = sealed.write(&objects)?;
            file_bytes += files.iter().map(|file| file.size_bytes).sum::<u64>();
            tsdb.publish(sealed, &files);
        }
    }
    Ok(())
}

fn scrape_of(target: usize, scrape: i64, now_ms: i64) -> MetricBatch {
    let series = (0..SERIES_PER_TARGET).map(|at| {
        let pairs = [
            ("__name__", format!("metric_{}", at / 10)),
            ("instance", format!("10.0.{}.{}:8000", target / 250, target % 250)),
            ("job", "web".to_owned()),
            ("service_name", format!("service-{}", target / 10)),
            ("namespace", "production".to_owned()),
            ("cluster", "eu-west-1".to_owned()),
            ("pod", format!("web-{target:08x}")),
            ("method", "GET".to_owned()),
            ("path", format!("/api/v1/items/{}", at % 10)),
            ("status", "200".to_owned()),
        ];
        let value = if at % 5 == 0 { (scrape * 500) as f64 } else { at as f64 };
        SeriesSamples { labels: Labels::from_pairs(pairs), samples: vec![Sample::float(now_ms, value)], exemplars: Vec::new() }
    });
    MetricBatch { series: series.collect(), metadata: Vec::new() }
}

/// What the process has in memory, as Linux counts it; 0 elsewhere.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}
