//! Samples as rows of a Parquet file.

use anyhow::{Context, Result};
use arrow::array::{
    ArrayRef, Float64Builder, MapBuilder, MapFieldNames, RecordBatch, StringBuilder, TimestampMillisecondBuilder,
};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use br_model::labels::METRIC_NAME;
use br_model::{FloatHistogram, Labels};
use br_query::sql::histogram_json;
use br_wire::prometheus_tsdb::chunk::{ChunkSamples, ChunkValues};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Rows between two hand-overs to the Parquet writer.
const BATCH_ROWS: usize = 8192;
/// A row group is written when it takes about this much memory.
const GROUP_BYTES: usize = 32 << 20;

pub(super) struct RowWriter {
    path: PathBuf,
    /// Written first; it takes the place of `path` when it is whole.
    part: PathBuf,
    writer: ArrowWriter<File>,
    schema: SchemaRef,
    columns: Columns,
    rows: u64,
}

struct Columns {
    rows: usize,
    metric: StringBuilder,
    labels: MapBuilder<StringBuilder, StringBuilder>,
    timestamp: TimestampMillisecondBuilder,
    value: Float64Builder,
    histogram: StringBuilder,
}

fn schema() -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    let entry = Field::new("key_value", DataType::Struct(Fields::from(vec![text("key"), text("value")])), false);
    Arc::new(Schema::new(vec![
        text("metric"),
        Field::new("labels", DataType::Map(Arc::new(entry), false), false),
        Field::new("timestamp", DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), false),
        Field::new("value", DataType::Float64, true),
        Field::new("histogram", DataType::Utf8, true),
    ]))
}

impl Columns {
    fn new() -> Self {
        let names = MapFieldNames { entry: "key_value".into(), key: "key".into(), value: "value".into() };
        let text = |name| Field::new(name, DataType::Utf8, false);
        let labels = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new());
        Self {
            rows: 0,
            metric: StringBuilder::new(),
            labels: labels.with_keys_field(text("key")).with_values_field(text("value")),
            timestamp: TimestampMillisecondBuilder::new().with_timezone("UTC"),
            value: Float64Builder::new(),
            histogram: StringBuilder::new(),
        }
    }

    fn push(&mut self, labels: &Labels, time_ms: i64, value: Option<f64>, histogram: Option<&FloatHistogram>) -> Result<()> {
        self.rows += 1;
        self.metric.append_value(labels.metric_name());
        for (name, value) in labels.iter().filter(|(name, _)| *name != METRIC_NAME) {
            self.labels.keys().append_value(name);
            self.labels.values().append_value(value);
        }
        self.labels.append(true)?;
        self.timestamp.append_value(time_ms);
        self.value.append_option(value);
        self.histogram.append_option(histogram.map(histogram_json));
        Ok(())
    }

    fn take(&mut self, schema: &SchemaRef) -> Result<RecordBatch> {
        self.rows = 0;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.metric.finish()),
            Arc::new(self.labels.finish()),
            Arc::new(self.timestamp.finish()),
            Arc::new(self.value.finish()),
            Arc::new(self.histogram.finish()),
        ];
        Ok(RecordBatch::try_new(schema.clone(), columns)?)
    }
}

#[allow(clippy::disallowed_methods, reason = "a file that the user names, outside the data directory")]
impl RowWriter {
    pub(super) fn create(path: &Path) -> Result<Self> {
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        let file = File::create(&part).with_context(|| format!("cannot write {}", part.display()))?;
        let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?)).build();
        let schema = schema();
        let writer = ArrowWriter::try_new(file, schema.clone(), Some(properties))?;
        Ok(Self { path: path.to_owned(), part, writer, schema, columns: Columns::new(), rows: 0 })
    }

    /// Writes the samples within a range, both ends included.
    pub(super) fn write(&mut self, labels: &Labels, samples: &ChunkSamples, (from_ms, to_ms): (i64, i64)) -> Result<()> {
        for (at, time_ms) in samples.times_ms.iter().enumerate().filter(|(_, time)| (from_ms..=to_ms).contains(*time)) {
            let (value, histogram) = match &samples.values {
                ChunkValues::Floats(values) => (Some(values[at]), None),
                ChunkValues::Histograms(values) => (None, Some(&*values[at])),
            };
            self.columns.push(labels, *time_ms, value, histogram)?;
            self.rows += 1;
            if self.columns.rows >= BATCH_ROWS {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        if self.columns.rows > 0 {
            self.writer.write(&self.columns.take(&self.schema)?)?;
        }
        if self.writer.in_progress_size() >= GROUP_BYTES {
            self.writer.flush()?;
        }
        Ok(())
    }

    /// Gives the number of rows, and where they are.
    pub(super) fn finish(mut self) -> Result<(u64, PathBuf)> {
        self.flush()?;
        let file = self.writer.into_inner()?;
        file.sync_all()?;
        std::fs::rename(&self.part, &self.path).with_context(|| format!("cannot write {}", self.path.display()))?;
        Ok((self.rows, self.path))
    }

    /// Gives up, and leaves nothing behind.
    pub(super) fn abort(self) {
        let _ = std::fs::remove_file(&self.part);
    }
}
