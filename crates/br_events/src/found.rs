//! A file without its entry in the catalog: what it says of itself is read back from it.

use crate::object::get_range;
use crate::options::EventOptions;
use crate::schema::damaged;
use crate::summary::{FileStats, decode_tail};
use crate::writer::{ERASED_TO_KEY, MADE_OF_KEY, POSITIONS_KEY, SUMMARY_KEY};
use br_model::TenantId;
use br_std::{Error, Nanos, Result};
use br_storage::{FileEntry, FoundFile, JournalPosition, Table};
use bytes::Bytes;
use object_store::ObjectStore;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Reads the tail of the file. Blocks on the object store.
pub fn describe(store: &Arc<dyn ObjectStore>, path: &str, size_bytes: u64, options: &EventOptions) -> Result<FoundFile> {
    let bytes = get_range(store, path, 0..size_bytes)?;
    let described = catch_unwind(AssertUnwindSafe(|| describe_bytes(path, &bytes, options)));
    described.unwrap_or_else(|_| Err(Error::corrupt("the decoder stopped at damaged bytes"))).map_err(|error| error.context(path))
}

fn describe_bytes(path: &str, bytes: &Bytes, options: &EventOptions) -> Result<FoundFile> {
    let mut entry = entry_of_path(path, bytes.len() as u64, options)?;
    let metadata = ArrowReaderMetadata::load(bytes, ArrowReaderOptions::new()).map_err(damaged)?;
    let file = metadata.metadata().file_metadata();
    let text = |key: &str| {
        let pairs = file.key_value_metadata()?;
        pairs.iter().find(|pair| pair.key == key)?.value.as_deref()
    };
    let offset = text(SUMMARY_KEY).and_then(|place| place.split(',').next()?.parse::<u64>().ok());
    let tail = offset.and_then(|offset| bytes.get(usize::try_from(offset).ok()?..));
    let (Some(tail_offset), Some(tail)) = (offset, tail) else {
        return Err(Error::corrupt("the place of the summary is not in the footer"));
    };
    let (summary, _) = decode_tail(tail)?;
    let positions = text(POSITIONS_KEY).and_then(JournalPosition::parse_range);
    let mut stats = FileStats::new(&summary, tail_offset, crc32fast::hash(tail))?;
    stats.last_record = positions.map(|(_, last)| last.0).unwrap_or_default();
    stats.erased_to = text(ERASED_TO_KEY).and_then(|text| text.parse().ok()).unwrap_or(0);
    entry.rows = u64::try_from(file.num_rows()).unwrap_or(0);
    entry.min_time = Nanos(summary.pages.iter().map(|page| page.min_ts).min().unwrap_or(0));
    entry.max_time = Nanos(summary.pages.iter().map(|page| page.max_ts).max().unwrap_or(0));
    entry.stats = serde_json::to_string(&stats).map_err(|error| Error::corrupt(format!("file statistics: {error}")))?;
    let made_of = text(MADE_OF_KEY).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    Ok(FoundFile { entry, positions, made_of })
}

/// `events/<tenant>/<table>/<start of the window in seconds>/<nonce>.parquet`
fn entry_of_path(path: &str, size_bytes: u64, options: &EventOptions) -> Result<FileEntry> {
    let unknown = || Error::corrupt("not the name of an event file");
    let parts: Vec<&str> = path.split('/').collect();
    let ["events", tenant, table, window_start, _] = parts[..] else { return Err(unknown()) };
    let window = Nanos(window_start.parse::<i64>().map_err(|_| unknown())?.saturating_mul(1_000_000_000));
    Ok(FileEntry {
        id: 0,
        tenant: TenantId(tenant.parse().map_err(|_| unknown())?),
        table: Table::from_name(table).ok_or_else(unknown)?,
        path: path.to_owned(),
        window,
        window_secs: u32::try_from(options.window.as_secs()).unwrap_or(u32::MAX),
        level: 0,
        size_bytes,
        rows: 0,
        min_time: window,
        max_time: window,
        stats: String::new(),
    })
}
