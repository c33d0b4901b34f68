//! A closed head on its way into files.

use crate::object::{put_new, wait};
use crate::options::EventOptions;
use crate::writer::{MADE_OF_KEY, POSITIONS_KEY, write_file};
use arrow::array::RecordBatch;
use br_model::TenantId;
use br_std::{Error, Nanos, Result};
use br_storage::{FileEntry, JournalPosition, Table};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use std::sync::Arc;

/// One file is made of batches up to this size in memory: offsets of texts are 32-bit.
const FILE_MEMORY_BYTES_MAX: usize = 512 << 20;

/// Everything that the heads held when they were closed. Cheap to clone.
#[derive(Clone)]
pub struct SealedEvents(Arc<Sealed>);

struct Sealed {
    /// The first and the last record of the journal that may be in here.
    positions: (JournalPosition, JournalPosition),
    parts: Vec<SealedPart>,
    bytes: usize,
    options: EventOptions,
}

pub(crate) struct SealedPart {
    pub(crate) tenant: TenantId,
    pub(crate) table: Table,
    pub(crate) window: Nanos,
    pub(crate) batches: Vec<RecordBatch>,
}

impl SealedEvents {
    pub(crate) fn new(
        positions: (JournalPosition, JournalPosition),
        parts: Vec<SealedPart>,
        bytes: usize,
        options: EventOptions,
    ) -> Self {
        Self(Arc::new(Sealed { positions, parts, bytes, options }))
    }

    /// The last position of the journal that is in here.
    pub fn position(&self) -> JournalPosition {
        self.0.positions.1
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        self.0.bytes
    }

    pub(crate) fn part_count(&self) -> usize {
        self.0.parts.len()
    }

    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(crate) fn batches(&self, tenant: TenantId, table: Table) -> impl Iterator<Item = RecordBatch> {
        let mine = self.0.parts.iter().filter(move |part| part.tenant == tenant && part.table == table);
        mine.flat_map(|part| part.batches.iter().cloned())
    }

    /// Writes one file or more for each tenant, table and window. May be called again after a failure: names are new each time,
    /// and a file that no catalog entry names does not count.
    pub fn write(&self, store: &Arc<dyn ObjectStore>) -> Result<Vec<FileEntry>> {
        let mut files = Vec::new();
        for part in &self.0.parts {
            let origin = Origin { positions: Some(self.0.positions), made_of: Vec::new() };
            let place = Place { tenant: part.tenant, table: part.table, window: part.window, level: 0, origin };
            if let Err(error) = write_files(&place, &part.batches, &self.0.options, store, &mut files) {
                remove_files(store, &files);
                return Err(error);
            }
        }
        Ok(files)
    }
}

/// Takes back what a failed try has written: on a full disk each try would leave more. What cannot be removed, nobody names.
pub(crate) fn remove_files(store: &Arc<dyn ObjectStore>, files: &[FileEntry]) {
    for file in files {
        let _ = wait(store.delete(&Path::from(file.path.as_str())));
    }
}

/// Where files belong.
pub(crate) struct Place {
    pub(crate) tenant: TenantId,
    pub(crate) table: Table,
    pub(crate) window: Nanos,
    pub(crate) level: u16,
    pub(crate) origin: Origin,
}

/// What a file came from.
pub(crate) struct Origin {
    pub(crate) positions: Option<(JournalPosition, JournalPosition)>,
    /// Paths of the files that it is merged from.
    pub(crate) made_of: Vec<String>,
}

impl Origin {
    fn footer(&self) -> Vec<(&'static str, String)> {
        let positions = self.positions.map(|positions| (POSITIONS_KEY, JournalPosition::format_range(positions)));
        let made_of = (MADE_OF_KEY, serde_json::Value::from(self.made_of.clone()).to_string());
        positions.into_iter().chain([made_of]).collect()
    }
}

/// Writes narrow batches as files within the limits on rows and memory.
pub(crate) fn write_files(
    place: &Place,
    batches: &[RecordBatch],
    options: &EventOptions,
    store: &Arc<dyn ObjectStore>,
    files: &mut Vec<FileEntry>,
) -> Result<()> {
    let (mut from, mut rows, mut bytes) = (0, 0, 0);
    for (at, batch) in batches.iter().enumerate() {
        let batch_bytes = batch.get_array_memory_size();
        let is_full = rows + batch.num_rows() > options.file_rows_max || bytes + batch_bytes > FILE_MEMORY_BYTES_MAX;
        if is_full && at > from {
            files.push(write_one(place, &batches[from..at], options, store)?);
            (from, rows, bytes) = (at, 0, 0);
        }
        rows += batch.num_rows();
        bytes += batch_bytes;
    }
    if rows > 0 {
        files.push(write_one(place, &batches[from..], options, store)?);
    }
    Ok(())
}

fn write_one(place: &Place, batches: &[RecordBatch], options: &EventOptions, store: &Arc<dyn ObjectStore>) -> Result<FileEntry> {
    let written = write_file(place.table, batches, options.promoted_columns_max, &place.origin.footer())?;
    let (tenant, table) = (place.tenant.0, place.table.as_str());
    let name = (options.rng.next_u64(), options.rng.next_u64());
    let path = format!("events/{tenant}/{table}/{}/{:016x}{:016x}.parquet", place.window.as_secs(), name.0, name.1);
    let stats = serde_json::to_string(&written.stats).map_err(|error| Error::corrupt(format!("file statistics: {error}")))?;
    let size_bytes = written.bytes.len() as u64;
    put_new(store, &path, written.bytes)?;
    Ok(FileEntry {
        id: 0,
        tenant: place.tenant,
        table: place.table,
        path,
        window: place.window,
        window_secs: u32::try_from(options.window.as_secs()).unwrap_or(u32::MAX),
        level: place.level,
        size_bytes,
        rows: written.rows as u64,
        min_time: Nanos(written.min_ts),
        max_time: Nanos(written.max_ts),
        stats,
    })
}
