//! What a target does to the others that makes new series without end: `series_bomb [series of the bomb] [series of the others]`.
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a measuring program")]

use br_env::sim::Sim;
use br_model::{Labels, MetricBatch, Sample, SeriesSamples, TenantId};
use br_std::{Error, Nanos, Result};
use br_storage::JournalPosition;
use br_tsdb::{Tsdb, TsdbOptions};
use object_store::memory::InMemory;
use std::sync::Arc;
use std::time::{Duration, Instant};

const TENANT: TenantId = TenantId(0);
const T0: i64 = 1_700_006_400_000;
/// Scrapes over which the bomb is spread, and between which the others send.
const SCRAPES: usize = 40;
const SERIES_PER_TARGET: usize = 500;

fn main() -> Result<()> {
    let argument = |at, default: usize| {
        let text = std::env::args().nth(at);
        text.map_or(Ok(default), |text| text.parse().map_err(|error| Error::fix_request(format!("{text}: {error}"))))
    };
    let (bomb, others): (usize, usize) = (argument(1, 2_000_000)?, argument(2, 50_000)?);
    let tsdb = Tsdb::open(Vec::new(), Arc::new(InMemory::new()), Sim::new(1).rng, TsdbOptions::default());
    let (mut position, mut accepted, mut kept) = (0, 0, 0);
    let (mut of_bomb, mut of_others) = (Duration::ZERO, Duration::ZERO);
    let mut example = String::new();
    let mut append = |batch: MetricBatch, now_ms: i64| {
        position += 1;
        let begun = Instant::now();
        let outcome = tsdb.append(TENANT, JournalPosition(position), &batch, Nanos::from_millis(now_ms));
        outcome.map(|outcome| (outcome, begun.elapsed()))
    };
    for scrape in 0..SCRAPES {
        let now_ms = T0 + scrape as i64 * 15_000;
        for target in 0..others / SERIES_PER_TARGET {
            let (outcome, took) = append(scrape_of(&format!("10.0.0.{target}"), 0..SERIES_PER_TARGET, now_ms), now_ms)?;
            of_others += took;
            kept += outcome.accepted;
        }
        let share = bomb / SCRAPES;
        for part in (scrape * share..(scrape + 1) * share).step_by(10_000) {
            let numbers = part..(part + 10_000).min((scrape + 1) * share);
            let (outcome, took) = append(scrape_of("10.6.6.6", numbers, now_ms), now_ms)?;
            of_bomb += took;
            accepted += outcome.accepted;
            example = outcome.rejected.into_iter().next().map_or(example, |rejection| rejection.example);
        }
        if scrape % 8 == 7 {
            let stats = tsdb.tenant_stats(TENANT, 1);
            let (series, registry) = (stats.series, stats.registry_bytes >> 20);
            println!("scrape {scrape}: {series} series, registry {registry} MiB, resident {} MiB", resident_bytes() >> 20);
        }
    }
    println!("of the bomb's {bomb} series {accepted} were taken, {:?} for each", of_bomb / bomb as u32);
    println!(
        "of the others' {} samples {kept} were taken, {:?} for each",
        others * SCRAPES,
        of_others / (others * SCRAPES) as u32
    );
    println!("the sender is told: {example}");
    Ok(())
}

fn scrape_of(instance: &str, numbers: std::ops::Range<usize>, now_ms: i64) -> MetricBatch {
    let series = numbers.map(|number| {
        let pairs = [
            ("__name__", format!("requests_{}_total", number % 20)),
            ("instance", format!("{instance}:8000")),
            ("job", format!("web-{}", instance.len())),
            ("user", format!("user-{number:09}")),
            ("path", "/api/v1/items".to_owned()),
            ("status", "200".to_owned()),
        ];
        SeriesSamples { labels: Labels::from_pairs(pairs), samples: vec![Sample::float(now_ms, 1.0)], exemplars: Vec::new() }
    });
    MetricBatch { series: series.collect(), metadata: Vec::new() }
}

/// What the process has in memory, as Linux counts it; 0 elsewhere.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}
