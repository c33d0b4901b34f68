//! Measures the journal on a real folder: `cargo run --release -p br_journal --example throughput -- FOLDER`.
//!
//! Each row: senders that append and wait, one after the other, bodies of one size; for two seconds.
#![allow(clippy::disallowed_methods, reason = "measures the real disk by the real clock")]

use br_env::real;
use br_journal::{Journal, Options, Protocol, Record};
use br_model::TenantId;
use br_std::Nanos;
use bytes::Bytes;
use std::error::Error;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const MEASURED_FOR: Duration = Duration::from_secs(2);

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args_os().nth(1).map(PathBuf::from).ok_or("name a folder on the disk to measure")?;
    writeln!(io::stdout(), "senders  body_bytes  records/s     MB/s  records/sync  p50_ms  p99_ms")?;
    for (senders, body_bytes) in [(1, 4 << 10), (16, 4 << 10), (128, 4 << 10), (1, 1 << 20), (16, 1 << 20)] {
        measure(&folder.join(format!("{senders}-{body_bytes}")), senders, body_bytes)?;
    }
    Ok(())
}

fn measure(folder: &Path, senders: usize, body_bytes: usize) -> Result<(), Box<dyn Error>> {
    let (journal, _) = Journal::open(real::env(folder)?, Options { ballast_bytes: 0, ..Options::default() })?;
    let started = Instant::now();
    let mut latencies: Vec<Duration> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..senders).map(|_| scope.spawn(|| send(&journal, body_bytes, started))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect()
    });
    let seconds = started.elapsed().as_secs_f64();
    latencies.sort_unstable();
    let quantile = |share: usize| latencies.get(latencies.len() * share / 100).map_or(0.0, Duration::as_secs_f64) * 1e3;
    let (rate, status) = (latencies.len() as f64 / seconds, journal.status());
    writeln!(
        io::stdout(),
        "{senders:7} {body_bytes:11} {rate:10.0} {:8.1} {:13.1} {:7.2} {:7.2}",
        rate * body_bytes as f64 / 1e6,
        status.records_written as f64 / status.groups_written.max(1) as f64,
        quantile(50),
        quantile(99)
    )?;
    Ok(())
}

/// The latency of each acknowledgement. Bodies are already compressed, as most senders do it.
fn send(journal: &Journal, body_bytes: usize, started: Instant) -> Vec<Duration> {
    let body = Bytes::from(vec![0x5a; body_bytes]);
    let (tenant, protocol, received) = (TenantId(1), Protocol::OTLP_LOGS, Nanos(0));
    let record = Record { tenant, protocol, received, context: Vec::new(), body, is_compressed: true };
    let mut latencies = Vec::new();
    while started.elapsed() < MEASURED_FOR {
        let asked = Instant::now();
        if journal.append(&record).and_then(|ticket| ticket.wait()).is_ok() {
            latencies.push(asked.elapsed());
        }
    }
    latencies
}
