//! What the metrics engine does beside the request: sealing, writing files, keeping what was written, merging. In CPU time, so that
//! the figures hold on a machine that is busy with other things.

use crate::fleet::Fleet;
use crate::row::Row;
use anyhow::{Context, Result};
use br_env::sim::Sim;
use br_model::TenantId;
use br_std::Nanos;
use br_storage::{FileEntry, JournalPosition};
use br_tsdb::{Tsdb, TsdbOptions};
use br_wire::remote_write::v1;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use std::sync::Arc;

const TENANT: TenantId = TenantId(0);
/// Start of a window of two hours.
const START_MS: i64 = 1_700_006_400_000;
const INTERVAL_MS: i64 = 15_000;
/// The thread that does the work, for `perf report --comm`.
const THREAD: &str = "background";

/// Sends so many scrapes and flushes after each `per_flush`, merging whenever there is something to merge.
pub(crate) fn run(series: usize, scrapes: usize, per_flush: usize) -> Result<Vec<Row>> {
    let mut bench = Bench::new(series);
    for at in 1..=scrapes {
        bench.scrape()?;
        if at.is_multiple_of(per_flush) || at == scrapes {
            bench.flush_and_merge()?;
        }
    }
    Ok(bench.rows(scrapes, per_flush))
}

struct Bench {
    fleet: Fleet,
    tsdb: Tsdb,
    objects: Arc<dyn ObjectStore>,
    files: Vec<FileEntry>,
    scrapes: usize,
    position: u64,
    spent: Spent,
}

/// Nanoseconds of each step, and how often samples were merged.
#[derive(Clone, Copy, Default)]
struct Spent {
    seal: u64,
    write: u64,
    publish: u64,
    merge: u64,
    merges: u64,
    merged_samples: u64,
}

impl Bench {
    fn new(series: usize) -> Self {
        let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let tsdb = Tsdb::open(Vec::new(), objects.clone(), Sim::new(1).rng, TsdbOptions::default());
        let (fleet, spent) = (Fleet::new(series), Spent::default());
        Self { fleet, tsdb, objects, files: Vec::new(), scrapes: 0, position: 0, spent }
    }

    fn scrape(&mut self) -> Result<()> {
        self.scrapes += 1;
        let at_ms = START_MS + self.scrapes as i64 * INTERVAL_MS;
        for request in self.fleet.scrape(at_ms) {
            let message = snap::raw::Decoder::new().decompress_vec(&request)?;
            self.position += 1;
            let (position, now) = (JournalPosition(self.position), Nanos::from_millis(at_ms));
            let mut cursor = self.tsdb.known_series(TENANT);
            let request = v1::decode_with(&message, &br_wire::Limits::default(), &mut cursor.look())?;
            let outcome = self.tsdb.append_known(TENANT, position, &request.known, now)?;
            outcome.context("a known series is kept")?;
            if !request.decoded.value.series.is_empty() {
                self.tsdb.append(TENANT, position, &request.decoded.value, now)?;
            }
        }
        Ok(())
    }

    fn flush_and_merge(&mut self) -> Result<()> {
        let worker = std::thread::Builder::new().name(THREAD.to_owned());
        std::thread::scope(|scope| {
            let work = worker.spawn_scoped(scope, || {
                self.flush()?;
                self.merge()
            })?;
            work.join().map_err(|_| anyhow::anyhow!("the work in the background failed inside"))?
        })
    }

    fn flush(&mut self) -> Result<()> {
        let started = cpu_ns();
        let sealed = self.tsdb.seal(JournalPosition(self.position)).context("samples wait for a flush")?;
        let is_sealed = cpu_ns();
        let files = sealed.write(&self.objects)?;
        let is_written = cpu_ns();
        self.tsdb.publish(sealed, &files);
        self.spent.seal += is_sealed - started;
        self.spent.write += is_written - is_sealed;
        self.spent.publish += cpu_ns() - is_written;
        self.files.extend(files);
        Ok(())
    }

    fn merge(&mut self) -> Result<()> {
        let started = cpu_ns();
        while let Some(job) = self.tsdb.plan_compaction(Nanos::MAX) {
            let outputs = self.tsdb.compact(&job)?;
            self.tsdb.replace(&job.inputs, &outputs);
            self.files.retain(|file| !job.inputs.iter().any(|input| input.path == file.path));
            self.spent.merges += 1;
            self.spent.merged_samples += outputs.iter().map(samples_of).sum::<u64>();
            self.files.extend(outputs);
        }
        self.spent.merge += cpu_ns() - started;
        Ok(())
    }

    fn rows(&self, scrapes: usize, per_flush: usize) -> Vec<Row> {
        let samples = (self.fleet.series_count() * scrapes) as f64;
        let Spent { seal, write, publish, merge, merges, merged_samples } = self.spent;
        let row = |name: &str, nanoseconds: u64| {
            Row::new(format!("{name}, {per_flush} scrapes a flush"), "ns/sample", nanoseconds as f64 / samples)
        };
        let bytes: u64 = self.files.iter().map(|file| file.size_bytes).sum();
        let often = merged_samples as f64 / samples;
        vec![
            row("seal", seal),
            row("write files", write),
            row("keep what was written", publish),
            row(&format!("merge ({merges} jobs, each sample {often:.2} times)"), merge),
            row("all in the background", seal + write + publish + merge),
            Row::new(format!("in files, {per_flush} scrapes a flush"), "B/sample", bytes as f64 / samples),
        ]
    }
}

fn samples_of(file: &FileEntry) -> u64 {
    let stats: serde_json::Value = serde_json::from_str(&file.stats).unwrap_or_default();
    stats["samples"].as_u64().unwrap_or(0)
}

/// CPU time of this thread so far.
fn cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_step_runs_and_takes_its_time() {
        let rows = super::run(5000, 34, 2).expect("every step runs");
        assert!(rows.iter().all(|row| row.ours > 0.0), "{rows:?}");
        assert!(rows.iter().any(|row| row.name.contains("5 jobs")), "{rows:?}");
    }
}
