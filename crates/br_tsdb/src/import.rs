//! Files from elsewhere: written series by series out of another store's data, and verified whole before the catalog lists them.

use crate::block::row::{self, rows_of};
use crate::block::scan::BlockScan;
use crate::block::write::{BlockSpec, BlockWriter};
use crate::compact::{EXEMPLAR_BYTES_MAX, tidy_exemplars};
use crate::found;
use crate::options::{DAY_SECS, WINDOW_SECS};
use crate::points;
use crate::rollup::RollupOf;
use br_model::{Exemplar, Labels, Metadata, TenantId};
use br_std::{Error, Result};
use br_storage::{FileEntry, JournalPosition, Points};
use object_store::ObjectStore;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What an imported file is to be.
#[derive(Clone, Copy, Debug)]
pub struct ImportSpec {
    pub tenant: TenantId,
    /// Start of the window, in milliseconds: a multiple of its length.
    pub window_ms: i64,
    /// [`WINDOW_SECS`] or [`DAY_SECS`].
    pub window_secs: u32,
    /// Makes the path one that was never used.
    pub nonce: u128,
}

/// Writes one file. It holds no record of the journal, and so says that its records are those before the first.
pub struct ImportWriter {
    spec: ImportSpec,
    writer: BlockWriter,
    last: Option<Labels>,
}

impl ImportWriter {
    pub fn new(store: Arc<dyn ObjectStore>, spec: ImportSpec) -> Result<Self> {
        Ok(Self { spec, writer: BlockWriter::new(store, block_spec(spec))?, last: None })
    }

    /// The order in which series have to come: by metric, then by labels.
    pub fn order(one: &Labels, other: &Labels) -> std::cmp::Ordering {
        row::order(one, other)
    }

    /// Adds a series. Its parts may overlap: where two have a sample of the same time, the first of them counts.
    /// What lies outside the window is left out. Gives the number of samples that were written.
    pub fn push(&mut self, labels: &Labels, parts: Vec<Points>, exemplars: &[Exemplar]) -> Result<u64> {
        if self.last.as_ref().is_some_and(|last| row::order(last, labels).is_ge()) {
            return Err(Error::fix_request(format!("the series {labels} does not come in order")));
        }
        let (from_ms, to_ms) = (self.spec.window_ms, window_end_ms(&self.spec) - 1);
        let parts = parts.into_iter().map(|part| points::cut(part, from_ms, to_ms)).collect();
        let mut exemplars: Vec<Exemplar> = exemplars.to_vec();
        exemplars.retain(|exemplar| (from_ms..=to_ms).contains(&exemplar.timestamp_ms));
        tidy_exemplars(&mut exemplars, EXEMPLAR_BYTES_MAX);
        let samples = points::merge(parts);
        let count = samples.as_ref().map_or(0, |samples| samples.len() as u64);
        self.writer.push(labels, labels.hash128(), &rows_of(samples, &exemplars, true))?;
        self.last = Some(labels.clone());
        Ok(count)
    }

    /// Bytes that the file has taken so far, about.
    pub fn size_bytes(&self) -> u64 {
        self.writer.size_bytes()
    }

    pub fn finish(self, metadata: &BTreeMap<String, Metadata>) -> Result<FileEntry> {
        self.writer.finish(metadata)
    }

    /// Gives up; nothing becomes visible.
    pub fn abort(self) -> Result<()> {
        self.writer.abort()
    }
}

fn window_end_ms(spec: &ImportSpec) -> i64 {
    spec.window_ms.saturating_add(i64::from(spec.window_secs) * 1000)
}

/// Reads a file that somebody sent, whole, and makes its entry. Refused is whatever the store's own writer would not have written:
/// a wrong checksum, series out of order, samples outside the window or out of order. Blocks on the object store.
pub fn inspect_import(store: &Arc<dyn ObjectStore>, path: &str, size_bytes: u64) -> Result<FileEntry> {
    let found = found::describe(store, path, size_bytes)?;
    let wrong = |what: String| Error::fix_request(format!("{path}: {what}"));
    if found.positions != Some((JournalPosition(0), JournalPosition(0))) || !found.made_of.is_empty() {
        return Err(wrong("this file is not from an import".to_owned()));
    }
    let entry = found.entry;
    let width = i64::from(entry.window_secs) * 1000;
    let from_ms = entry.window.as_millis();
    if !matches!(entry.window_secs, WINDOW_SECS | DAY_SECS) || from_ms.rem_euclid(width) != 0 {
        return Err(wrong(format!("no window of {} s begins at {from_ms} ms", entry.window_secs)));
    }
    let mut scan = BlockScan::new(store.clone(), &entry)?;
    let mut last: Option<Labels> = None;
    while let Some((hash, texts)) = scan.peek_texts()? {
        let labels = texts.labels()?;
        if last.is_some_and(|last| row::order(&last, &labels).is_ge()) {
            return Err(wrong(format!("the series {labels} does not come in order")));
        }
        let mut before_ms = from_ms - 1;
        while let Some(row) = scan.next_row_of(hash)? {
            row.exemplars()?;
            let Some(points) = row.points()? else { continue };
            let times = &points.timestamps_ms;
            let is_ascending = times.is_sorted_by(|one, next| one < next);
            let (Some(first), Some(end)) = (times.first(), times.last()) else { continue };
            if !is_ascending || *first <= before_ms || *end >= from_ms.saturating_add(width) {
                return Err(wrong(format!("samples of {labels} are out of order or outside the window")));
            }
            if (*first, *end) != (row.head.min_ms, row.head.max_ms) {
                return Err(wrong(format!("the times of a chunk of {labels} are not those that it says")));
            }
            before_ms = *end;
        }
        last = Some(labels);
    }
    Ok(entry)
}

/// Where a file of an import goes, as [`ImportWriter`] names it.
pub fn import_path(spec: &ImportSpec) -> String {
    block_spec(*spec).path()
}

/// The samples never were in the journal: deletions that are not carried out yet are for them too.
fn block_spec(spec: ImportSpec) -> BlockSpec {
    let ImportSpec { tenant, window_ms, window_secs, nonce } = spec;
    let none = JournalPosition(0);
    BlockSpec {
        tenant,
        window_ms,
        window_secs,
        level: 0,
        positions: (none, none),
        deleted_to: none,
        rollup: RollupOf::default(),
        made_of: Vec::new(),
        nonce,
    }
}

/// Start of the window that a time falls into, in milliseconds.
pub fn import_window_ms(timestamp_ms: i64, window_secs: u32) -> i64 {
    let width = i64::from(window_secs) * 1000;
    timestamp_ms.div_euclid(width).saturating_mul(width)
}
