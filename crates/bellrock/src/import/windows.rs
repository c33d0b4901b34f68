//! Series into files, one window of time after the other.

use super::destination::Destination;
use anyhow::Result;
use br_model::{Exemplar, Labels, Metadata};
use br_storage::Points;
use br_tsdb::{DAY_SECS, ImportSpec, ImportWriter, WINDOW_SECS, import_window_ms};
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A window of time, and the part of it that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) start_ms: i64,
    pub(super) secs: u32,
    /// Both included.
    pub(super) from_ms: i64,
    pub(super) to_ms: i64,
}

/// A block that is longer than this becomes files of whole days; shorter ones stay apart until the store merges them.
const SHORT_BLOCK_MS: i64 = 6 * 3600 * 1000;

/// The windows over a range of time, both ends included, without those that lie before `cutoff_ms` as a whole.
pub(super) fn of_range(from_ms: i64, to_ms: i64, cutoff_ms: i64) -> Vec<Window> {
    let secs = if to_ms.saturating_sub(from_ms) > SHORT_BLOCK_MS { DAY_SECS } else { WINDOW_SECS };
    let width = i64::from(secs) * 1000;
    // The cut falls between two windows of the shorter kind, so that a second run a moment later cuts at the same place.
    let cutoff_ms = import_window_ms(cutoff_ms, WINDOW_SECS);
    let from_ms = from_ms.max(cutoff_ms);
    let mut windows = Vec::new();
    let mut start_ms = import_window_ms(from_ms, secs);
    while start_ms <= to_ms {
        let end_ms = start_ms.saturating_add(width - 1);
        windows.push(Window { start_ms, secs, from_ms: from_ms.max(start_ms), to_ms: to_ms.min(end_ms) });
        start_ms = start_ms.saturating_add(width);
    }
    windows
}

#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    pub(super) series: u64,
    pub(super) samples: u64,
    pub(super) times_ms: Option<(i64, i64)>,
}

/// A file is sent when it has about this size; it is held in memory until then.
const FILE_BYTES: u64 = 32 << 20;

/// Writes files and sends each as it is full.
pub(super) struct Sink<'a> {
    destination: &'a Destination,
    runtime: &'a tokio::runtime::Handle,
    window: Option<Window>,
    open: Option<(ImportWriter, Arc<InMemory>)>,
    next_file: u128,
    paths: Vec<String>,
    series: BTreeSet<u128>,
    counts: Counts,
}

impl<'a> Sink<'a> {
    pub(super) fn new(destination: &'a Destination, runtime: &'a tokio::runtime::Handle) -> Self {
        Self {
            destination,
            runtime,
            window: None,
            open: None,
            next_file: 0,
            paths: Vec::new(),
            series: BTreeSet::new(),
            counts: Counts::default(),
        }
    }

    pub(super) fn begin(&mut self, window: Window) -> Result<()> {
        self.end(&BTreeMap::new())?;
        self.window = Some(window);
        Ok(())
    }

    /// Adds a series; they come in the order of [`ImportWriter::order`].
    pub(super) fn push(&mut self, labels: &Labels, parts: Vec<Points>, exemplars: &[Exemplar]) -> Result<()> {
        let Some(window) = self.window else { return Ok(()) };
        let times: Vec<i64> =
            parts.iter().flat_map(|part| [part.timestamps_ms.first(), part.timestamps_ms.last()]).flatten().copied().collect();
        let (Some(first), Some(last)) = (times.iter().min(), times.iter().max()) else { return Ok(()) };
        let writer = self.writer(window)?;
        let samples = writer.push(labels, parts, exemplars)?;
        let is_full = writer.size_bytes() >= FILE_BYTES;
        if samples > 0 {
            self.counts.samples += samples;
            self.series.insert(labels.hash128());
            let (min, max) = self.counts.times_ms.unwrap_or((*first, *last));
            self.counts.times_ms = Some((min.min(*first), max.max(*last)));
        }
        if is_full { self.send(&BTreeMap::new()) } else { Ok(()) }
    }

    fn writer(&mut self, window: Window) -> Result<&mut ImportWriter> {
        let (writer, store) = if let Some(open) = self.open.take() {
            open
        } else {
            let store = Arc::new(InMemory::new());
            self.next_file += 1;
            let spec = ImportSpec {
                tenant: self.destination.tenant(),
                window_ms: window.start_ms,
                window_secs: window.secs,
                nonce: self.next_file,
            };
            (ImportWriter::new(store.clone(), spec)?, store)
        };
        Ok(&mut self.open.insert((writer, store)).0)
    }

    /// Sends what was written of the window.
    pub(super) fn end(&mut self, metadata: &BTreeMap<String, Metadata>) -> Result<()> {
        let sent = self.send(metadata);
        self.window = None;
        sent
    }

    fn send(&mut self, metadata: &BTreeMap<String, Metadata>) -> Result<()> {
        let (Some(window), Some((writer, store))) = (self.window, self.open.take()) else { return Ok(()) };
        let entry = writer.finish(metadata)?;
        if entry.rows == 0 {
            return Ok(());
        }
        let path = Path::from(entry.path.as_str());
        let path = self.runtime.block_on(async {
            let bytes = store.get(&path).await?.bytes().await?;
            self.destination.put(window, bytes).await
        })?;
        self.paths.push(path);
        Ok(())
    }

    pub(super) fn finish(mut self) -> (Vec<String>, Counts) {
        self.counts.series = self.series.len() as u64;
        (self.paths, self.counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_blocks_stay_in_small_windows_and_long_ones_become_days() {
        const HOUR: i64 = 3_600_000;
        let starts = |windows: Vec<Window>| -> Vec<i64> { windows.iter().map(|window| window.start_ms / HOUR).collect() };
        assert_eq!(starts(of_range(10 * HOUR, 12 * HOUR - 1, 0)), [10]);
        assert_eq!(starts(of_range(11 * HOUR, 13 * HOUR - 1, 0)), [10, 12]);
        assert_eq!(starts(of_range(20 * HOUR, 50 * HOUR, 0)), [0, 24, 48]);
        assert_eq!(starts(of_range(20 * HOUR, 50 * HOUR, 25 * HOUR)), [24, 48]);
        let cut = of_range(20 * HOUR, 50 * HOUR, 25 * HOUR)[0];
        assert_eq!((cut.from_ms, cut.to_ms), (24 * HOUR, 48 * HOUR - 1));
        assert!(of_range(0, HOUR, 25 * HOUR).is_empty());
    }
}
