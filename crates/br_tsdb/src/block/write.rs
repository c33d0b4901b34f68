//! Writing a file, row by row, in parts: what is held in memory is one row group and one part.

use super::directory::DirectoryBuilder;
use super::io::{IntoStoreError, PART_BYTES, Upload};
use super::row::{ChunkKind, ChunkRow, HeadsChecksum, RowHead};
use super::schema::{
    self, FORMAT, FORMAT_ROLLUP, KEY_FORMAT, KEY_INDEX_CRC32, KEY_INTERVAL, KEY_MADE_OF, KEY_METADATA, KEY_METADATA_CRC32,
    KEY_POSITIONS, KEY_SECTIONS, KEY_SECTIONS_CRC32,
};
use super::stats::BlockStats;
use crate::rollup::RollupOf;
use arrow::array::{
    ArrayRef, BinaryBuilder, Float64Builder, MapBuilder, MapFieldNames, RecordBatch, StringBuilder, TimestampMillisecondBuilder,
    UInt8Builder, UInt32Builder,
};
use br_model::labels::METRIC_NAME;
use br_model::{Labels, Metadata, TenantId};
use br_std::{Error, Nanos, Result};
use br_storage::{FileEntry, JournalPosition, Table};
use object_store::ObjectStore;
use parking_lot::Mutex;
use parquet::arrow::ArrowWriter;
use parquet::file::metadata::KeyValue;
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

/// What a new file is.
#[derive(Clone, Debug)]
pub(crate) struct BlockSpec {
    pub(crate) tenant: TenantId,
    pub(crate) window_ms: i64,
    pub(crate) window_secs: u32,
    pub(crate) level: u16,
    /// The records of the journal that may be in it, first and last.
    pub(crate) positions: (JournalPosition, JournalPosition),
    /// Deletions up to this record of the journal were carried out on it.
    pub(crate) deleted_to: JournalPosition,
    /// Of raw samples, or of which rollup.
    pub(crate) rollup: RollupOf,
    /// Paths of the files that it is merged from.
    pub(crate) made_of: Vec<String>,
    /// Makes the path one that was never used.
    pub(crate) nonce: u128,
}

impl BlockSpec {
    pub(crate) fn path(&self) -> String {
        let Self { tenant, window_ms, window_secs, level, nonce, .. } = self;
        let window_start_secs = window_ms.div_euclid(1000);
        format!("metrics/{}/{window_secs}/{window_start_secs}/{level}-{nonce:032x}.parquet", tenant.0)
    }
}

/// Rows between two hand-overs to the Parquet writer.
const BATCH_ROWS: usize = 2048;

pub(crate) struct BlockWriter {
    spec: BlockSpec,
    path: String,
    store: Arc<dyn ObjectStore>,
    upload: Upload,
    written: WrittenBytes,
    writer: ArrowWriter<WrittenBytes>,
    columns: Columns,
    index_crc32: HeadsChecksum,
    directory: DirectoryBuilder,
    rows: u64,
    series: u64,
    samples: u64,
    times: Option<(i64, i64)>,
    has_histograms: bool,
}

impl BlockWriter {
    pub(crate) fn new(store: Arc<dyn ObjectStore>, spec: BlockSpec) -> Result<Self> {
        let path = spec.path();
        let written = WrittenBytes::default();
        let writer = ArrowWriter::try_new(written.clone(), schema::schema(), Some(schema::properties(spec.level)))
            .map_err(|error| error.into_store_error(&path))?;
        let upload = Upload::new(&path)?;
        Ok(Self {
            spec,
            path,
            store,
            upload,
            written,
            writer,
            columns: Columns::default(),
            index_crc32: HeadsChecksum::default(),
            directory: DirectoryBuilder::default(),
            rows: 0,
            series: 0,
            samples: 0,
            times: None,
            has_histograms: false,
        })
    }

    /// Adds all rows of one series. Series come in the order of [`super::row::order`], their rows in time order.
    pub(crate) fn push<B: AsRef<[u8]>>(&mut self, labels: &Labels, hash: u128, rows: &[ChunkRow<B>]) -> Result<()> {
        self.push_texts(labels.metric_name(), labels.iter(), hash, rows)
    }

    /// The same, of a series whose labels are at hand one by one, that of the metric's name among them.
    pub(crate) fn push_texts<'l, B: AsRef<[u8]>>(
        &mut self,
        metric: &str,
        labels: impl Iterator<Item = (&'l str, &'l str)> + Clone,
        hash: u128,
        rows: &[ChunkRow<B>],
    ) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        self.directory.push(metric, hash, rows.iter().map(|row| row.head))?;
        self.series += 1;
        for row in rows {
            self.columns.push(metric, labels.clone(), row, row.crc32(hash));
            self.index_crc32.add(row.head, hash);
            self.count(row.head);
            if self.columns.rows >= BATCH_ROWS {
                self.flush_columns()?;
            }
        }
        Ok(())
    }

    /// Bytes that the file has taken so far, about.
    pub(crate) fn size_bytes(&self) -> u64 {
        (self.writer.bytes_written() + self.writer.in_progress_size()) as u64
    }

    /// Writes the footer and makes the object visible.
    pub(crate) fn finish(mut self, metadata: &BTreeMap<String, Metadata>) -> Result<FileEntry> {
        self.flush_columns()?;
        let is_raw = self.spec.rollup.is_raw();
        let metadata = metadata_json(metadata);
        let metadata_crc32 = crc32fast::hash(metadata.as_bytes());
        let index_crc32 = self.index_crc32.finalize();
        let sections = self.directory.finish().to_json();
        let sections_crc32 = crc32fast::hash(sections.as_bytes());
        for (key, value) in [
            (KEY_FORMAT, if is_raw { FORMAT } else { FORMAT_ROLLUP }.to_owned()),
            (KEY_INTERVAL, self.spec.rollup.interval_ms.to_string()),
            (KEY_INDEX_CRC32, format!("{index_crc32:08x}")),
            (KEY_SECTIONS, sections),
            (KEY_SECTIONS_CRC32, format!("{sections_crc32:08x}")),
            (KEY_METADATA, metadata),
            (KEY_METADATA_CRC32, format!("{metadata_crc32:08x}")),
            (KEY_POSITIONS, JournalPosition::format_range(self.spec.positions)),
            (KEY_MADE_OF, serde_json::Value::from(self.spec.made_of.clone()).to_string()),
        ] {
            self.writer.append_key_value_metadata(KeyValue::new(key.to_owned(), value));
        }
        self.writer.close().map_err(|error| error.into_store_error(&self.path))?;
        let (size_bytes, crc32) = self.upload.finish(&*self.store, self.written.take())?;
        let BlockSpec { tenant, window_ms, window_secs, level, positions, deleted_to, rollup, .. } = self.spec;
        let (min_ms, max_ms) = self.times.unwrap_or((window_ms, window_ms));
        let stats = BlockStats {
            series: self.series,
            samples: self.samples,
            from_position: positions.0.0,
            to_position: positions.1.0,
            crc32,
            deleted_to: deleted_to.0,
            interval_ms: rollup.interval_ms,
            sources: rollup.sources,
            has_histograms: !is_raw && self.has_histograms,
        };
        Ok(FileEntry {
            id: 0,
            tenant,
            table: Table::Metrics,
            path: self.path,
            window: Nanos::from_millis(window_ms),
            window_secs,
            level,
            size_bytes,
            rows: self.rows,
            min_time: Nanos::from_millis(min_ms),
            max_time: Nanos::from_millis(max_ms),
            stats: stats.to_json(),
        })
    }

    /// Gives up; nothing becomes visible.
    pub(crate) fn abort(self) -> Result<()> {
        self.upload.abort()
    }

    fn count(&mut self, head: RowHead) {
        self.rows += 1;
        self.has_histograms |= head.kind == ChunkKind::WeightedHistograms;
        self.samples += u64::from(head.count);
        let (min_ms, max_ms) = self.times.unwrap_or((head.min_ms, head.max_ms));
        self.times = Some((min_ms.min(head.min_ms), max_ms.max(head.max_ms)));
    }

    fn flush_columns(&mut self) -> Result<()> {
        if self.columns.rows == 0 {
            return Ok(());
        }
        let batch = self.columns.finish().map_err(|error| Error::corrupt(format!("{}: {error}", self.path)))?;
        self.writer.write(&batch).map_err(|error| error.into_store_error(&self.path))?;
        if self.written.len() >= PART_BYTES {
            self.upload.put_part(&*self.store, self.written.take())?;
        }
        Ok(())
    }
}

/// What the Parquet writer has put out and nobody has sent yet.
#[derive(Clone, Default)]
struct WrittenBytes(Arc<Mutex<Vec<u8>>>);

impl WrittenBytes {
    fn len(&self) -> usize {
        self.0.lock().len()
    }

    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock())
    }
}

impl Write for WrittenBytes {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Rows by column, in the order of the schema.
struct Columns {
    rows: usize,
    metric: StringBuilder,
    labels: MapBuilder<StringBuilder, StringBuilder>,
    kind: UInt8Builder,
    min_time: TimestampMillisecondBuilder,
    max_time: TimestampMillisecondBuilder,
    count: UInt32Builder,
    aggregates: [Float64Builder; 3],
    timestamps: BinaryBuilder,
    values: BinaryBuilder,
    starts: BinaryBuilder,
    exemplars: BinaryBuilder,
    crc32: UInt32Builder,
}

impl Default for Columns {
    fn default() -> Self {
        let names = MapFieldNames { entry: "key_value".into(), key: "key".into(), value: "value".into() };
        let text_field = |name| arrow::datatypes::Field::new(name, arrow::datatypes::DataType::Utf8, false);
        Self {
            rows: 0,
            metric: StringBuilder::new(),
            labels: MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new())
                .with_keys_field(text_field("key"))
                .with_values_field(text_field("value")),
            kind: UInt8Builder::new(),
            min_time: TimestampMillisecondBuilder::new().with_timezone("UTC"),
            max_time: TimestampMillisecondBuilder::new().with_timezone("UTC"),
            count: UInt32Builder::new(),
            aggregates: [Float64Builder::new(), Float64Builder::new(), Float64Builder::new()],
            timestamps: BinaryBuilder::new(),
            values: BinaryBuilder::new(),
            starts: BinaryBuilder::new(),
            exemplars: BinaryBuilder::new(),
            crc32: UInt32Builder::new(),
        }
    }
}

impl Columns {
    fn push<'l, B: AsRef<[u8]>>(
        &mut self,
        metric: &str,
        labels: impl Iterator<Item = (&'l str, &'l str)>,
        row: &ChunkRow<B>,
        crc32: u32,
    ) {
        self.rows += 1;
        self.metric.append_value(metric);
        for (name, value) in labels.filter(|(name, _)| *name != METRIC_NAME) {
            self.labels.keys().append_value(name);
            self.labels.values().append_value(value);
        }
        // Keys and values were appended in pairs, which is all that this checks.
        let is_paired = self.labels.append(true);
        debug_assert!(is_paired.is_ok());
        self.kind.append_value(row.head.kind as u8);
        self.min_time.append_value(row.head.min_ms);
        self.max_time.append_value(row.head.max_ms);
        self.count.append_value(row.head.count);
        let aggregates = row.aggregates.map(|aggregates| [aggregates.min, aggregates.max, aggregates.sum]);
        for (at, column) in self.aggregates.iter_mut().enumerate() {
            column.append_option(aggregates.map(|aggregates| aggregates[at]));
        }
        self.timestamps.append_value(row.timestamps.as_ref());
        self.values.append_value(row.values.as_ref());
        self.starts.append_option(row.starts.as_ref());
        self.exemplars.append_option(row.exemplars.as_ref());
        self.crc32.append_value(crc32);
    }

    fn finish(&mut self) -> arrow::error::Result<RecordBatch> {
        self.rows = 0;
        let [min, max, sum] = &mut self.aggregates;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.metric.finish()),
            Arc::new(self.labels.finish()),
            Arc::new(self.kind.finish()),
            Arc::new(self.min_time.finish()),
            Arc::new(self.max_time.finish()),
            Arc::new(self.count.finish()),
            Arc::new(min.finish()),
            Arc::new(max.finish()),
            Arc::new(sum.finish()),
            Arc::new(self.timestamps.finish()),
            Arc::new(self.values.finish()),
            Arc::new(self.starts.finish()),
            Arc::new(self.exemplars.finish()),
            Arc::new(self.crc32.finish()),
        ];
        RecordBatch::try_new(schema::schema(), columns)
    }
}

/// `{"family": {"type": "counter", "help": "…", "unit": "…"}}`
fn metadata_json(metadata: &BTreeMap<String, Metadata>) -> String {
    let families: serde_json::Map<String, serde_json::Value> = metadata
        .iter()
        .map(|(family, metadata)| {
            let Metadata { metric_type, help, unit } = metadata;
            (family.clone(), serde_json::json!({ "type": metric_type.as_str(), "help": help, "unit": unit }))
        })
        .collect();
    serde_json::Value::Object(families).to_string()
}
