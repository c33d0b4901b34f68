//! A closed head on its way into files.

use crate::object::{put_new, wait};
use crate::options::EventOptions;
use crate::order::Ordered;
use crate::promote::{Promotion, Widener, count_keys};
use crate::writer::{ERASED_TO_KEY, FileWriter, MADE_OF_KEY, POSITIONS_KEY};
use arrow::array::RecordBatch;
use br_model::TenantId;
use br_std::{Error, Nanos, Result};
use br_storage::{FileEntry, JournalPosition, Table};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parking_lot::RwLock;
use std::sync::Arc;

/// Everything that the heads held when they were closed. Cheap to clone.
#[derive(Clone)]
pub struct SealedEvents(Arc<Sealed>);

struct Sealed {
    /// The first and the last record of the journal that may be in here.
    positions: (JournalPosition, JournalPosition),
    parts: RwLock<Vec<SealedPart>>,
    bytes: usize,
    options: EventOptions,
}

#[derive(Clone)]
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
        Self(Arc::new(Sealed { positions, parts: RwLock::new(parts), bytes, options }))
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
        self.0.parts.read().len()
    }

    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(crate) fn batches(&self, tenant: TenantId, table: Table) -> Vec<RecordBatch> {
        let parts = self.0.parts.read();
        let mine = parts.iter().filter(|part| part.tenant == tenant && part.table == table);
        mine.flat_map(|part| part.batches.iter().cloned()).collect()
    }

    /// Puts others in the place of the batches, for what is not written yet and for who asks from now on.
    pub(crate) fn replace(&self, replaced: impl Fn(TenantId, Table, &RecordBatch) -> Result<RecordBatch>) -> Result<()> {
        let mut parts = self.0.parts.read().clone();
        for part in &mut parts {
            for batch in &mut part.batches {
                *batch = replaced(part.tenant, part.table, batch)?;
            }
            part.batches.retain(|batch| batch.num_rows() > 0);
        }
        *self.0.parts.write() = parts;
        Ok(())
    }

    /// Writes one file or more for each tenant, table and window. May be called again after a failure: names are new each time,
    /// and a file that no catalog entry names does not count.
    pub fn write(&self, store: &Arc<dyn ObjectStore>) -> Result<Vec<FileEntry>> {
        let mut files = Vec::new();
        let parts = self.0.parts.read().clone();
        for part in parts.iter().filter(|part| !part.batches.is_empty()) {
            let origin = Origin { positions: Some(self.0.positions), ..Origin::default() };
            let place = Place { tenant: part.tenant, table: part.table, window: part.window, level: 0, origin };
            if let Err(error) = write_part(&place, &part.batches, &self.0.options, store, &mut files) {
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
#[derive(Default)]
pub(crate) struct Origin {
    pub(crate) positions: Option<(JournalPosition, JournalPosition)>,
    /// Erasures up to this record of the journal were carried out on it.
    pub(crate) erased_to: JournalPosition,
    /// Paths of the files that it is merged from.
    pub(crate) made_of: Vec<String>,
}

impl Origin {
    fn footer(&self) -> Vec<(&'static str, String)> {
        let positions = self.positions.map(|positions| (POSITIONS_KEY, JournalPosition::format_range(positions)));
        let made_of = (MADE_OF_KEY, serde_json::Value::from(self.made_of.clone()).to_string());
        let erased_to = (ERASED_TO_KEY, self.erased_to.0.to_string());
        positions.into_iter().chain([made_of, erased_to]).collect()
    }
}

/// Writes the rows of a sealed head.
fn write_part(
    place: &Place,
    batches: &[RecordBatch],
    options: &EventOptions,
    store: &Arc<dyn ObjectStore>,
    files: &mut Vec<FileEntry>,
) -> Result<()> {
    let mut ordered = Ordered::new(place.table, batches)?;
    let promotion = Promotion::choose(&count_keys(batches)?, ordered.row_count(), options.promoted_columns_max);
    let mut widener = Widener::new(promotion.clone());
    let next_page = || ordered.next_page()?.map(|page| widener.widen(&page)).transpose();
    write_files(place, &promotion, next_page, options, store, files)
}

/// Writes pages of the columns of `promotion`, in the order of a file, as files within the limits on rows and bytes.
pub(crate) fn write_files(
    place: &Place,
    promotion: &Promotion,
    mut next_page: impl FnMut() -> Result<Option<RecordBatch>>,
    options: &EventOptions,
    store: &Arc<dyn ObjectStore>,
    files: &mut Vec<FileEntry>,
) -> Result<()> {
    let mut writer = FileWriter::new(place.table, promotion.clone());
    while let Some(page) = next_page()? {
        writer.push(&page)?;
        if writer.rows() >= options.file_rows_max || writer.bytes() >= options.file_bytes_max {
            let full = std::mem::replace(&mut writer, FileWriter::new(place.table, promotion.clone()));
            files.push(put_file(place, full, options, store)?);
        }
    }
    if writer.rows() > 0 {
        files.push(put_file(place, writer, options, store)?);
    }
    Ok(())
}

fn put_file(place: &Place, writer: FileWriter, options: &EventOptions, store: &Arc<dyn ObjectStore>) -> Result<FileEntry> {
    let mut written = writer.finish(&place.origin.footer())?;
    written.stats.last_record = place.origin.positions.map(|(_, last)| last.0).unwrap_or_default();
    written.stats.erased_to = place.origin.erased_to.0;
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
