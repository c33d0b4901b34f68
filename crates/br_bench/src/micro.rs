//! The steps of the metrics engine one by one, in one thread, without HTTP, journal and disk: nanoseconds for each sample.
//!
//! Beside each figure stands the sketch: what the step has to touch at the least, at 10 GB/s for what streams by and 80 ns for
//! memory that nothing has announced.

use crate::fleet::Fleet;
use crate::row::{Row, median};
use anyhow::{Context, Result};
use br_env::sim::Sim;
use br_model::{KnownSample, KnownSeries, TenantId};
use br_std::Nanos;
use br_std::hash::hash128;
use br_storage::{Budget, FileEntry, JournalPosition, MatchOp, Matcher, SeriesQuery};
use br_tsdb::{Tsdb, TsdbOptions};
use br_wire::remote_write::v1;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use std::sync::Arc;
use std::time::Instant;

const TENANT: TenantId = TenantId(0);
/// Start of a window of two hours.
const START_MS: i64 = 1_700_006_400_000;
const INTERVAL_MS: i64 = 15_000;
/// Scrapes between two flushes: a minute.
const SCRAPES_PER_FLUSH: usize = 4;

/// Measures over so many series, each step `rounds` times; the figures are medians.
pub(crate) fn run(series: usize, rounds: usize) -> Result<Vec<Row>> {
    let mut bench = Bench::new(series)?;
    let mut rows = bench.decode(rounds)?;
    rows.extend(bench.append(rounds)?);
    rows.extend(bench.encode(rounds)?);
    rows.extend(bench.read(rounds)?);
    rows.extend(crate::redaction::run(rounds));
    println!("hash of all that was read: {:032x}", hash128(&bench.digest));
    Ok(rows)
}

struct Bench {
    fleet: Fleet,
    tsdb: Tsdb,
    objects: Arc<dyn ObjectStore>,
    files: Vec<FileEntry>,
    scrapes: usize,
    position: u64,
    /// What was measured did what it should: it ends up in here.
    digest: Vec<u8>,
}

impl Bench {
    fn new(series: usize) -> Result<Self> {
        let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let options = TsdbOptions { retained_bytes_max: 0, ..TsdbOptions::default() };
        let tsdb = Tsdb::open(Vec::new(), objects.clone(), Sim::new(1).rng, options);
        let (fleet, files, digest) = (Fleet::new(series), Vec::new(), Vec::new());
        let mut bench = Self { fleet, tsdb, objects, files, scrapes: 0, position: 0, digest };
        // All series are registered.
        for message in bench.scrape()? {
            bench.take_whole(&message)?;
        }
        Ok(bench)
    }

    fn series(&self) -> f64 {
        self.fleet.series_count() as f64
    }

    fn now(&self) -> Nanos {
        Nanos::from_millis(START_MS + self.scrapes as i64 * INTERVAL_MS)
    }

    /// Plain messages of one more scrape.
    fn scrape(&mut self) -> Result<Vec<Vec<u8>>> {
        let requests = self.compressed();
        requests.iter().map(|request| Ok(snap::raw::Decoder::new().decompress_vec(request)?)).collect()
    }

    fn compressed(&mut self) -> Vec<Vec<u8>> {
        self.scrapes += 1;
        self.fleet.scrape(START_MS + self.scrapes as i64 * INTERVAL_MS)
    }

    fn next_position(&mut self) -> JournalPosition {
        self.position += 1;
        JournalPosition(self.position)
    }

    fn take_whole(&mut self, message: &[u8]) -> Result<()> {
        let position = self.next_position();
        let read = v1::decode(message, &br_wire::Limits::default())?;
        self.tsdb.append(TENANT, position, &read.value, self.now())?;
        Ok(())
    }

    fn known(&self, messages: &[Vec<u8>]) -> Result<Vec<Vec<KnownSample>>> {
        let decoded = messages.iter().map(|message| {
            let mut cursor = self.tsdb.known_series(TENANT);
            let request = v1::decode_with(message, &br_wire::Limits::default(), &mut cursor.look())?;
            Ok(request.known)
        });
        decoded.collect()
    }

    fn decode(&mut self, rounds: usize) -> Result<Vec<Row>> {
        let (mut unpacking, mut whole, mut known, mut resolving) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut bytes = 0;
        for _ in 0..rounds {
            let requests = self.compressed();
            let mut messages = Vec::new();
            unpacking.push(self.timed(|_| {
                for request in &requests {
                    messages.push(snap::raw::Decoder::new().decompress_vec(request)?);
                }
                Ok(())
            })?);
            bytes = messages.iter().map(Vec::len).sum();
            whole.push(self.timed(|bench| {
                for message in &messages {
                    let read = v1::decode(message, &br_wire::Limits::default())?;
                    bench.digest.push(read.value.series.len() as u8);
                }
                Ok(())
            })?);
            let mut samples = Vec::new();
            known.push(self.timed(|bench| {
                samples = bench.known(&messages)?;
                Ok(())
            })?);
            let identities = identities(&messages)?;
            resolving.push(self.timed(|bench| {
                let mut cursor = bench.tsdb.known_series(TENANT);
                let mut look = cursor.look();
                let found = identities.iter().filter(|identity| look.find(**identity).is_some()).count();
                bench.digest.push(found as u8);
                Ok(())
            })?);
            for message in &messages {
                self.take_whole(message)?;
            }
        }
        let each = bytes as f64 / self.series();
        let streamed = each / 10.0;
        Ok(vec![
            row(&format!("unpack snappy ({each:.0} B each)"), unpacking, 2.0 * streamed),
            row("decode, all labels read", whole, streamed + 80.0),
            row("decode and resolve, series known", known, streamed),
            row("resolve, in the sender's order", resolving, 1.6),
        ])
    }

    fn append(&mut self, rounds: usize) -> Result<Vec<Row>> {
        let mut times = Vec::new();
        for _ in 0..rounds {
            let messages = self.scrape()?;
            let known = self.known(&messages)?;
            times.push(self.timed(|bench| {
                for samples in &known {
                    let (position, now) = (bench.next_position(), bench.now());
                    let outcome = bench.tsdb.append_known(TENANT, position, samples, now)?;
                    bench.digest.push(outcome.context("a known series is kept")?.accepted as u8);
                }
                Ok(())
            })?);
            // What a deploy made anew.
            for message in &messages {
                self.take_whole(message)?;
            }
        }
        // A line of the series' own, and one of its strip.
        Ok(vec![row("append, series known", times, 2.0 * 6.4)])
    }

    fn encode(&mut self, rounds: usize) -> Result<Vec<Row>> {
        let (mut sealing, mut writing) = (Vec::new(), Vec::new());
        self.flush(&mut Vec::new(), &mut Vec::new())?;
        self.files.clear();
        for _ in 0..rounds {
            for _ in 0..SCRAPES_PER_FLUSH {
                for message in self.scrape()? {
                    self.take_whole(&message)?;
                }
            }
            self.flush(&mut sealing, &mut writing)?;
        }
        let samples = self.series() * (rounds * SCRAPES_PER_FLUSH) as f64;
        let bytes: u64 = self.files.iter().map(|file| file.size_bytes).sum();
        let per_sample = |times: Vec<f64>| times.into_iter().map(|time| time / SCRAPES_PER_FLUSH as f64).collect();
        let mut rows = vec![
            row("seal", per_sample(sealing), 6.4 / SCRAPES_PER_FLUSH as f64),
            row("encode and write a block", per_sample(writing), 25.0),
        ];
        rows.push(Row::new("a minute's block, labels and all", "B/sample", bytes as f64 / samples));
        rows.extend(self.compact(samples)?);
        Ok(rows)
    }

    fn flush(&mut self, sealing: &mut Vec<f64>, writing: &mut Vec<f64>) -> Result<()> {
        let mut sealed = None;
        sealing.push(self.timed(|bench| {
            sealed = bench.tsdb.seal(JournalPosition(bench.position));
            Ok(())
        })?);
        let Some(sealed) = sealed else { return Ok(()) };
        let mut files = Vec::new();
        writing.push(self.timed(|bench| {
            files = sealed.write(&bench.objects)?;
            Ok(())
        })?);
        self.tsdb.publish(sealed, &files);
        self.files.extend(files);
        Ok(())
    }

    fn compact(&mut self, samples: f64) -> Result<Vec<Row>> {
        let started = Instant::now();
        let mut jobs = 0;
        while let Some(job) = self.tsdb.plan_compaction(Nanos::MAX) {
            let outputs = self.tsdb.compact(&job)?;
            self.tsdb.replace(&job.inputs, &outputs);
            self.files.retain(|file| !job.inputs.iter().any(|input| input.path == file.path));
            self.files.extend(outputs);
            jobs += 1;
        }
        if jobs == 0 {
            return Ok(Vec::new());
        }
        let nanoseconds = started.elapsed().as_nanos() as f64 / samples;
        let bytes: u64 = self.files.iter().map(|file| file.size_bytes).sum();
        Ok(vec![
            Row::new(format!("compact ({jobs} jobs)"), "ns/sample", nanoseconds),
            Row::new("blocks after compaction", "B/sample", bytes as f64 / samples),
        ])
    }

    fn read(&mut self, rounds: usize) -> Result<Vec<Row>> {
        let wide = vec![Matcher::equal("__name__", "http_requests_total")];
        let narrow = vec![
            Matcher::equal("__name__", "http_requests_total"),
            Matcher::equal("instance", "10.1.0.1:8000"),
            Matcher::new(MatchOp::Regex, "handler", "/api/v1/resource/1.?")?,
            Matcher::new(MatchOp::NotEqual, "code", "200")?,
        ];
        let (mut decoding, mut finding) = (Vec::new(), Vec::new());
        let to_ms = self.now().as_millis();
        for _ in 0..rounds {
            let query = SeriesQuery { matchers: wide.clone(), from_ms: START_MS, to_ms };
            let started = Instant::now();
            let samples = self.count(&query)?;
            decoding.push(started.elapsed().as_nanos() as f64 / samples.max(1.0));
            let query = SeriesQuery { matchers: narrow.clone(), from_ms: to_ms - 60_000, to_ms };
            let started = Instant::now();
            let found = self.tsdb.source(TENANT).series(&[query], &Budget::unlimited())?;
            finding.push(started.elapsed().as_nanos() as f64);
            self.digest.push(found.len() as u8);
        }
        Ok(vec![
            row("decode chunks of files", decoding, 1.6),
            Row::new("postings: four matchers, one target's series", "ns", median(finding)),
        ])
    }

    fn count(&mut self, query: &SeriesQuery) -> Result<f64> {
        let (source, budget) = (self.tsdb.source(TENANT), Budget::unlimited());
        let mut cursor = source.select(query, &budget)?;
        let mut samples = 0;
        while let Some(batch) = cursor.next_batch()? {
            samples += batch.iter().map(|series| series.points.timestamps_ms.len()).sum::<usize>();
        }
        self.digest.extend(samples.to_le_bytes());
        Ok(samples as f64)
    }

    /// Nanoseconds for each series of the fleet.
    fn timed(&mut self, step: impl FnOnce(&mut Self) -> Result<()>) -> Result<f64> {
        let started = Instant::now();
        step(self)?;
        Ok(started.elapsed().as_nanos() as f64 / self.series())
    }
}

fn row(name: &str, times: Vec<f64>, sketch: f64) -> Row {
    Row::new(name, "ns/sample", median(times)).beside_sketch(sketch)
}

/// The hashes of all label sets in the order of the messages.
fn identities(messages: &[Vec<u8>]) -> Result<Vec<u128>> {
    #[derive(Default)]
    struct Listening(Vec<u128>);
    impl KnownSeries for Listening {
        fn find(&mut self, identity: u128) -> Option<br_model::SeriesHandle> {
            self.0.push(identity);
            None
        }
    }
    let mut listening = Listening::default();
    for message in messages {
        v1::decode_with(message, &br_wire::Limits::default(), &mut listening)?;
    }
    Ok(listening.0)
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_step_runs_and_finds_what_it_should() {
        let rows = super::run(5000, 2).expect("every step runs");
        assert!(rows.len() >= 10, "{rows:?}");
        assert!(rows.iter().all(|row| row.ours > 0.0), "{rows:?}");
    }
}
