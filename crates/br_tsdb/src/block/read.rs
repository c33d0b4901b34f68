//! Reading columns of a file: ranges of rows for its sections, single rows for chunks.

use super::io::{IntoStoreError, guard, wait};
use super::reader::BlockReader;
use super::row::{Aggregates, ChunkKind, ChunkRow, RowHead};
use arrow::array::{Array, AsArray, BinaryArray, MapArray, RecordBatch, StringArray};
use arrow::datatypes::{Float64Type, TimestampMillisecondType, UInt8Type, UInt32Type};
use br_model::labels::METRIC_NAME;
use br_std::{Error, Result};
use futures::StreamExt;
use futures::executor::block_on;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, RowSelection};
use parquet::arrow::async_reader::{ParquetRecordBatchStream, ParquetRecordBatchStreamBuilder};
use parquet::file::metadata::PageIndexPolicy;
use std::ops::Range;
use std::sync::Arc;

pub(crate) type BatchStream = ParquetRecordBatchStream<BlockReader>;

/// Rows that are decoded at a time.
const BATCH_ROWS: usize = 2048;

/// A file with its footer read.
#[derive(Clone)]
pub(crate) struct OpenBlock {
    pub(crate) path: String,
    pub(super) reader: BlockReader,
    pub(super) metadata: ArrowReaderMetadata,
}

impl OpenBlock {
    pub(crate) fn open(store: Arc<dyn ObjectStore>, path: &str, size_bytes: u64) -> Result<Self> {
        guard(path, || {
            let mut reader = object_reader(&store, path, size_bytes)?;
            let object = wait(store.head(&reader.location), path)?;
            if object.size != size_bytes {
                return Err(Error::corrupt(format!("{path}: has {} bytes instead of {size_bytes}", object.size)));
            }
            let options = ArrowReaderOptions::new().with_offset_index_policy(PageIndexPolicy::Required);
            let metadata = wait(ArrowReaderMetadata::load_async(&mut reader, options), path)?;
            let expected = super::schema::schema();
            if metadata.schema().fields() != expected.fields() {
                return Err(Error::corrupt(format!("{path}: its columns are not those of a metrics file")));
            }
            Ok(Self { path: path.to_owned(), reader, metadata })
        })
    }

    /// A value of the footer.
    pub(crate) fn footer_text(&self, key: &str) -> Option<&str> {
        let pairs = self.metadata.metadata().file_metadata().key_value_metadata()?;
        pairs.iter().find(|pair| pair.key == key)?.value.as_deref()
    }

    pub(crate) fn row_count(&self) -> u64 {
        u64::try_from(self.metadata.metadata().file_metadata().num_rows()).unwrap_or(0)
    }

    /// About what the footer takes in memory.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.metadata.metadata().memory_size()
    }

    /// All rows, with all columns.
    pub(crate) fn stream_all(&self) -> Result<BatchStream> {
        self.stream(super::schema::column::ALL, None)
    }

    /// Ranges of rows (ascending), with the columns at these positions of the schema.
    pub(crate) fn stream_ranges(&self, columns: Range<usize>, ranges: impl Iterator<Item = Range<usize>>) -> Result<BatchStream> {
        let row_count = usize::try_from(self.row_count()).unwrap_or(usize::MAX);
        self.stream(columns, Some(RowSelection::from_consecutive_ranges(ranges, row_count)))
    }

    fn stream(&self, columns: Range<usize>, selection: Option<RowSelection>) -> Result<BatchStream> {
        let mut builder = ParquetRecordBatchStreamBuilder::new_with_metadata(self.reader.clone(), self.metadata.clone());
        let mask = ProjectionMask::roots(builder.parquet_schema(), columns);
        builder = builder.with_projection(mask).with_batch_size(BATCH_ROWS);
        if let Some(selection) = selection {
            builder = builder.with_row_selection(selection);
        }
        builder.build().map_err(|error| error.into_store_error(&self.path))
    }
}

pub(crate) fn next_batch(stream: &mut BatchStream, path: &str) -> Result<Option<RecordBatch>> {
    block_on(stream.next()).transpose().map_err(|error| error.into_store_error(path))
}

fn object_reader(store: &Arc<dyn ObjectStore>, path: &str, size_bytes: u64) -> Result<BlockReader> {
    let location = Path::parse(path).map_err(|error| Error::fix_request(format!("not a path of an object: {error}")))?;
    Ok(BlockReader { store: store.clone(), location, size_bytes })
}

/// Whose the rows are.
pub(crate) struct IdentityColumns<'a> {
    metric: &'a StringArray,
    labels: &'a MapArray,
    names: &'a StringArray,
    values: &'a StringArray,
}

/// Kind, times and count of rows.
pub(crate) struct HeadColumns<'a> {
    kind: &'a [u8],
    min_time: &'a [i64],
    max_time: &'a [i64],
    count: &'a [u32],
}

impl<'a> IdentityColumns<'a> {
    pub(crate) fn of(batch: &'a RecordBatch, path: &str) -> Result<Self> {
        let labels = find(batch, "labels", path)?.as_map_opt().ok_or_else(|| wrong_column("labels", path))?;
        let text = |array: &'a dyn Array| array.as_string_opt::<i32>().ok_or_else(|| wrong_column("labels", path));
        Ok(Self {
            metric: text(find(batch, "metric", path)?)?,
            labels,
            names: text(labels.keys().as_ref())?,
            values: text(labels.values().as_ref())?,
        })
    }

    /// Names and values of the labels, sorted by name, with the metric's name among them. `at` is below the row count.
    pub(crate) fn labels_at(&self, at: usize, pairs: &mut Vec<(&'a str, &'a str)>) {
        pairs.clear();
        let offsets = self.labels.value_offsets();
        let metric = Some(self.metric.value(at)).filter(|metric| !metric.is_empty()).map(|metric| (METRIC_NAME, metric));
        let mut metric = metric;
        for entry in offsets[at] as usize..offsets[at + 1] as usize {
            let pair = (self.names.value(entry), self.values.value(entry));
            if let Some(before) = metric.take_if(|metric| metric.0 < pair.0) {
                pairs.push(before);
            }
            pairs.push(pair);
        }
        pairs.extend(metric);
    }
}

impl<'a> HeadColumns<'a> {
    pub(crate) fn of(batch: &'a RecordBatch, path: &str) -> Result<Self> {
        Ok(Self {
            kind: find(batch, "kind", path)?.as_primitive_opt::<UInt8Type>().ok_or_else(|| wrong_column("kind", path))?.values(),
            min_time: times(batch, "min_time", path)?,
            max_time: times(batch, "max_time", path)?,
            count: counts(batch, "count", path)?,
        })
    }

    /// `at` is below the row count.
    pub(crate) fn head(&self, at: usize, path: &str) -> Result<RowHead> {
        let kind = ChunkKind::from_code(self.kind[at]);
        let kind = kind.ok_or_else(|| Error::corrupt(format!("{path}: row of unknown kind {}", self.kind[at])))?;
        Ok(RowHead { kind, min_ms: self.min_time[at], max_ms: self.max_time[at], count: self.count[at] })
    }
}

/// Everything of a row but its identity and its head.
pub(crate) struct ChunkColumns<'a> {
    aggregates: [&'a arrow::array::Float64Array; 3],
    timestamps: &'a BinaryArray,
    values: &'a BinaryArray,
    starts: &'a BinaryArray,
    exemplars: &'a BinaryArray,
    crc32: &'a [u32],
}

impl<'a> ChunkColumns<'a> {
    /// Of a batch with all columns.
    pub(crate) fn of(batch: &'a RecordBatch, path: &str) -> Result<Self> {
        let column = |at: usize| batch.columns().get(at).map(|column| &**column);
        let floats = |at, name| {
            let column = column(at).and_then(|column| column.as_primitive_opt::<Float64Type>());
            column.ok_or_else(|| wrong_column(name, path))
        };
        let bytes =
            |at, name| column(at).and_then(|column| column.as_binary_opt::<i32>()).ok_or_else(|| wrong_column(name, path));
        let crc32 = column(13).and_then(|column| column.as_primitive_opt::<UInt32Type>());
        Ok(Self {
            aggregates: [floats(6, "min")?, floats(7, "max")?, floats(8, "sum")?],
            timestamps: bytes(9, "timestamps")?,
            values: bytes(10, "values")?,
            starts: bytes(11, "starts")?,
            exemplars: bytes(12, "exemplars")?,
            crc32: crc32.ok_or_else(|| wrong_column("crc32", path))?.values(),
        })
    }

    /// The row and the checksum that the file has for it. `at` is below the row count.
    pub(crate) fn row(&self, at: usize, head: RowHead) -> (ChunkRow<&'a [u8]>, u32) {
        let optional = |array: &'a BinaryArray| array.is_valid(at).then(|| array.value(at));
        let [min, max, sum] = self.aggregates;
        let has_aggregates = min.is_valid(at) && max.is_valid(at) && sum.is_valid(at);
        let row = ChunkRow {
            head,
            aggregates: has_aggregates.then(|| Aggregates { min: min.value(at), max: max.value(at), sum: sum.value(at) }),
            timestamps: self.timestamps.value(at),
            values: self.values.value(at),
            starts: optional(self.starts),
            exemplars: optional(self.exemplars),
        };
        (row, self.crc32[at])
    }
}

fn find<'a>(batch: &'a RecordBatch, name: &str, path: &str) -> Result<&'a dyn Array> {
    batch.column_by_name(name).map(|column| &**column).ok_or_else(|| wrong_column(name, path))
}

fn times<'a>(batch: &'a RecordBatch, name: &str, path: &str) -> Result<&'a [i64]> {
    let array = find(batch, name, path)?.as_primitive_opt::<TimestampMillisecondType>();
    Ok(array.ok_or_else(|| wrong_column(name, path))?.values())
}

fn counts<'a>(batch: &'a RecordBatch, name: &str, path: &str) -> Result<&'a [u32]> {
    let array = find(batch, name, path)?.as_primitive_opt::<UInt32Type>();
    Ok(array.ok_or_else(|| wrong_column(name, path))?.values())
}

fn wrong_column(name: &str, path: &str) -> Error {
    Error::corrupt(format!("{path}: column {name:?} is missing or of another type"))
}
