//! Measures the catalog on a real folder: `cargo run --release -p br_catalog --example timing -- FOLDER`.
//!
//! A flush of two files, with few and with 10 000 files in the manifest; loading those; a ledger entry with its message.
#![allow(clippy::disallowed_methods, reason = "measures the real disk by the real clock")]

use br_catalog::{Catalog, NewLedgerEntry, NewOutboxItem, Store};
use br_model::TenantId;
use br_std::Nanos;
use br_storage::{FileEntry, JournalPosition, Table};
use std::error::Error;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args_os().nth(1).map(PathBuf::from).ok_or("name a folder on the disk to measure")?;
    let catalog = Catalog::open(folder.join("catalog-timing.db")).await?;
    let now = Nanos::from_secs(1);
    let lease =
        catalog.acquire_lease("writer", "timing", now, Duration::from_hours(1)).await?.ok_or("somebody holds the lease")?;
    let mut at = catalog.progress(Store::Events).await?;
    for name in ["flush, few files", "flush, 10 000 files"] {
        let mut times = Vec::new();
        for _ in 0..200 {
            let files = [file(at, 0), file(at, 1)];
            let asked = Instant::now();
            catalog.commit_flush(Store::Events, &lease, at, at.next(), &files).await?;
            times.push(asked.elapsed());
            at = at.next();
        }
        print(name, &mut times)?;
        let files: Vec<FileEntry> = (0..10_000).map(|number| file(at, number)).collect();
        catalog.commit_flush(Store::Events, &lease, at, at.next(), &files).await?;
        at = at.next();
    }
    let mut times = Vec::new();
    for _ in 0..10 {
        let asked = Instant::now();
        let count = catalog.files(Table::Logs).await?.len();
        times.push(asked.elapsed().mul_f64(10_000.0 / count as f64));
    }
    print("load, per 10 000 files", &mut times)?;
    let mut times = Vec::new();
    for number in 0..200 {
        let entry = NewLedgerEntry { at: now, kind: "alert.fired".into(), subject: "a".into(), body: "{}".into() };
        let dedup_key = format!("{}-{number}", at.0);
        let message = NewOutboxItem { dedup_key, channel: "c".into(), payload: "{}".into(), not_before: now };
        let asked = Instant::now();
        catalog.append_ledger(TenantId(1), &[entry], &[message], now).await?;
        times.push(asked.elapsed());
    }
    print("ledger entry and message", &mut times)?;
    Ok(())
}

fn file(at: JournalPosition, number: u32) -> FileEntry {
    FileEntry {
        id: 0,
        tenant: TenantId(1),
        table: Table::Logs,
        path: format!("1/logs/{}-{number}.parquet", at.0),
        window: Nanos::from_secs(3600),
        window_secs: 3600,
        level: 0,
        size_bytes: 1 << 20,
        rows: 100_000,
        min_time: Nanos::from_secs(3600),
        max_time: Nanos::from_secs(7199),
        stats: r#"{"services":["checkout","payments"],"severities":{"info":90000,"error":10000}}"#.into(),
    }
}

fn print(name: &str, times: &mut [Duration]) -> io::Result<()> {
    times.sort_unstable();
    let quantile = |share: usize| times.get(times.len() * share / 100).map_or(0.0, Duration::as_secs_f64) * 1e3;
    writeln!(io::stdout(), "{name:26} p50 {:7.2} ms, p95 {:7.2} ms", quantile(50), quantile(95))
}
