//! How fast a steady load is appended, flushed, compacted and read: `append_bench [series] [scrapes]`.
//!
//! Series look like those of web services: ten labels, counters, gauges and classic histograms that are scraped every 15 s.
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a measuring program")]

use br_env::sim::Sim;
use br_model::{Labels, MetricBatch, Sample, SeriesSamples, TenantId};
use br_std::{Error, Nanos, Result};
use br_storage::{Budget, FileEntry, JournalPosition, Matcher, SeriesQuery};
use br_tsdb::{Tsdb, TsdbOptions};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use std::sync::Arc;
use std::time::Instant;

const TENANT: TenantId = TenantId(0);
const T0: i64 = 1_700_006_400_000;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<usize>());
    let mut argument = |default| arguments.next().unwrap_or(Ok(default)).map_err(|error| Error::fix_request(error.to_string()));
    let (series, scrapes) = (argument(50_000)?, argument(40)?);
    let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let tsdb = Tsdb::open(Vec::new(), objects.clone(), Sim::new(1).rng, TsdbOptions::default());
    let mut batch = first_batch(series);
    let (mut position, mut append_seconds, mut flush_seconds) = (0, 0.0, 0.0);
    let mut bytes: Vec<u64> = Vec::new();
    let mut files: Vec<FileEntry> = Vec::new();
    for scrape in 0..scrapes {
        step(&mut batch, scrape);
        let now = Nanos::from_millis(T0 + scrape as i64 * 15_000);
        position += 1;
        let start = Instant::now();
        let outcome = tsdb.append(TENANT, JournalPosition(position), &batch, now)?;
        let seconds = start.elapsed().as_secs_f64();
        assert_eq!(outcome.accepted as usize, series);
        if scrape == 0 {
            println!("first scrape: {:.2} M samples/s (registers {series} series)", series as f64 / seconds / 1e6);
        } else {
            append_seconds += seconds;
        }
        if scrape % 4 == 3 {
            let start = Instant::now();
            let flushed = flush(&tsdb, &objects, position)?;
            flush_seconds += start.elapsed().as_secs_f64();
            bytes.push(flushed.iter().map(|file| file.size_bytes).sum());
            files.extend(flushed);
        }
    }
    let steady = (scrapes.saturating_sub(1) * series) as f64;
    println!("steady: {:.2} M samples/s", steady / append_seconds / 1e6);
    println!("flushes: {:.2} s each, {:?} B", flush_seconds / bytes.len().max(1) as f64, bytes.last());
    drop(batch);
    let stats = tsdb.tenant_stats(TENANT, 1);
    let per_series = |bytes: u64| bytes / series as u64;
    println!(
        "registry: {} B/series; samples kept after their flush: {} B/series",
        per_series(stats.registry_bytes),
        per_series(stats.retained_bytes)
    );
    let object_bytes: u64 = bytes.iter().sum();
    println!("resident: {} MiB, of it {} MiB of objects", resident_bytes() >> 20, object_bytes >> 20);
    query(&tsdb, "in memory")?;
    read_files(&files, &objects, "flushed")?;
    let start = Instant::now();
    while let Some(job) = tsdb.plan_compaction() {
        let outputs = tsdb.compact(&job)?;
        tsdb.replace(&job.inputs, &outputs);
        files.retain(|file| !job.inputs.contains(file));
        files.extend(outputs);
    }
    let (size, count) = (files.iter().map(|file| file.size_bytes).sum::<u64>(), files.len());
    println!("compaction: {:.2} s; {count} files of {size} B are left", start.elapsed().as_secs_f64());
    read_files(&files, &objects, "compacted")
}

/// Asks a store that was just opened.
fn read_files(files: &[FileEntry], objects: &Arc<dyn ObjectStore>, what: &str) -> Result<()> {
    let tsdb = Tsdb::open(files.to_vec(), objects.clone(), Sim::new(2).rng, TsdbOptions::default());
    query(&tsdb, what)?;
    println!("{what}: {} KiB of footers and series are cached", tsdb.stats().index_cache_bytes >> 10);
    Ok(())
}

/// What the process has in memory, as Linux counts it; 0 elsewhere.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}

fn flush(tsdb: &Tsdb, objects: &Arc<dyn ObjectStore>, position: u64) -> Result<Vec<FileEntry>> {
    let Some(sealed) = tsdb.seal(JournalPosition(position)) else { return Ok(Vec::new()) };
    let files = sealed.write(objects)?;
    tsdb.publish(sealed, &files);
    Ok(files)
}

fn query(tsdb: &Tsdb, what: &str) -> Result<()> {
    for (name, matcher) in
        [("one metric", Matcher::equal("__name__", "metric_3")), ("one series", Matcher::equal("instance", "10.0.0.3:8000"))]
    {
        for round in ["cold", "warm"] {
            let start = Instant::now();
            let source = tsdb.source(TENANT);
            let budget = Budget::unlimited();
            let query = SeriesQuery { matchers: vec![matcher.clone()], from_ms: T0, to_ms: i64::MAX };
            let mut cursor = source.select(&query, &budget)?;
            let (mut series, mut samples) = (0, 0);
            while let Some(batch) = cursor.next_batch()? {
                series += batch.len();
                samples += batch.iter().map(|series| series.points.len()).sum::<usize>();
            }
            let seconds = start.elapsed().as_secs_f64();
            println!("{what}, {name}, {round}: {series} series, {samples} samples in {:.1} ms", seconds * 1e3);
        }
        let start = Instant::now();
        let query = SeriesQuery { matchers: vec![matcher], from_ms: T0, to_ms: i64::MAX };
        let pods = tsdb.source(TENANT).label_values("pod", &query, &Budget::unlimited())?.len();
        println!("{what}, {name}, values of a label: {pods} in {:.1} ms", start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(())
}

fn first_batch(series: usize) -> MetricBatch {
    let series = (0..series).map(|at| {
        let pairs = [
            ("__name__", format!("metric_{}", at % 50)),
            ("instance", format!("10.0.{}.{}:8000", at / 50 / 250, at / 50 % 250)),
            ("job", "web".to_owned()),
            ("service_name", format!("service-{}", at / 500)),
            ("namespace", "production".to_owned()),
            ("cluster", "eu-west-1".to_owned()),
            ("pod", format!("web-{:08x}", at / 50)),
            ("method", "GET".to_owned()),
            ("path", "/api/v1/items/{item_id}".to_owned()),
            ("status", "200".to_owned()),
        ];
        SeriesSamples { labels: Labels::from_pairs(pairs), samples: vec![Sample::float(0, 0.0)], exemplars: Vec::new() }
    });
    MetricBatch { series: series.collect(), metadata: Vec::new() }
}

/// A fifth of the series are active counters, a tenth gauges with decimals, the rest rarely changes.
fn step(batch: &mut MetricBatch, scrape: usize) {
    for (at, series) in batch.series.iter_mut().enumerate() {
        let noise = (at * 2_654_435_761 + scrape * 40_503) % 1000;
        let value = match at % 10 {
            0 | 1 => (scrape * 500 + noise) as f64,
            2 => noise as f64 / 100.0,
            _ => (at + scrape / 20) as f64,
        };
        series.samples[0] = Sample::float(T0 + scrape as i64 * 15_000, value);
    }
}
