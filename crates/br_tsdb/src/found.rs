//! A file without its entry in the catalog: what it says of itself is read back from it.

use crate::block::footer::check_format;
use crate::block::io::{guard, wait};
use crate::block::read::OpenBlock;
use crate::block::scan::BlockScan;
use crate::block::schema::{KEY_INTERVAL, KEY_MADE_OF, KEY_POSITIONS};
use crate::block::stats::BlockStats;
use br_model::TenantId;
use br_std::{Error, Nanos, Result};
use br_storage::{FileEntry, FoundFile, JournalPosition, Table};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use std::sync::Arc;

/// Reads the whole file, and with it verifies it. Blocks on the object store.
pub fn describe(store: &Arc<dyn ObjectStore>, path: &str, size_bytes: u64) -> Result<FoundFile> {
    let mut entry = entry_of_path(path, size_bytes)?;
    let block = OpenBlock::open(store.clone(), path, size_bytes)?;
    check_format(&block)?;
    entry.rows = block.row_count();
    let positions = block.footer_text(KEY_POSITIONS).and_then(JournalPosition::parse_range);
    let made_of = block.footer_text(KEY_MADE_OF).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let (from, to) = positions.unwrap_or_default();
    let interval_ms = block.footer_text(KEY_INTERVAL).and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut stats = BlockStats {
        series: 0,
        samples: 0,
        from_position: from.0,
        to_position: to.0,
        crc32: 0,
        deleted_to: 0,
        interval_ms,
        sources: Vec::new(),
        has_histograms: interval_ms != 0,
    };
    let times = guard(path, || scan(store, &entry, &mut stats))?;
    if let Some((min_ms, max_ms)) = times {
        (entry.min_time, entry.max_time) = (Nanos::from_millis(min_ms), Nanos::from_millis(max_ms));
    }
    stats.crc32 = crc32fast::hash(&wait(async { store.get(&Path::from(path)).await?.bytes().await }, path)?);
    entry.stats = stats.to_json();
    Ok(FoundFile { entry, positions, made_of })
}

/// `metrics/<tenant>/<window in seconds>/<start of the window>/<level>-<nonce>.parquet`
fn entry_of_path(path: &str, size_bytes: u64) -> Result<FileEntry> {
    let unknown = || Error::corrupt(format!("{path}: not the name of a metrics file"));
    let parts: Vec<&str> = path.split('/').collect();
    let ["metrics", tenant, window_secs, window_start, name] = parts[..] else { return Err(unknown()) };
    let window = Nanos::from_millis(window_start.parse::<i64>().map_err(|_| unknown())?.saturating_mul(1000));
    let level = name.split('-').next().and_then(|level| level.parse().ok()).ok_or_else(unknown)?;
    Ok(FileEntry {
        id: 0,
        tenant: TenantId(tenant.parse().map_err(|_| unknown())?),
        table: Table::Metrics,
        path: path.to_owned(),
        window,
        window_secs: window_secs.parse().map_err(|_| unknown())?,
        level,
        size_bytes,
        rows: 0,
        min_time: window,
        max_time: window,
        stats: String::new(),
    })
}

/// Counts series and samples; first and last time.
fn scan(store: &Arc<dyn ObjectStore>, entry: &FileEntry, stats: &mut BlockStats) -> Result<Option<(i64, i64)>> {
    let mut scan = BlockScan::new(store.clone(), entry)?;
    let mut times: Option<(i64, i64)> = None;
    while let Some(hash) = scan.peek_hash()? {
        stats.series += 1;
        while let Some(row) = scan.next_row_of(hash)? {
            stats.samples += u64::from(row.head.count);
            let (min_ms, max_ms) = times.unwrap_or((row.head.min_ms, row.head.max_ms));
            times = Some((min_ms.min(row.head.min_ms), max_ms.max(row.head.max_ms)));
        }
    }
    Ok(times)
}
