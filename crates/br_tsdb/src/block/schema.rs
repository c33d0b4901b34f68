//! The columns of a file.

use arrow::datatypes::{DataType, Field, Fields, Schema, TimeUnit};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use std::sync::Arc;

/// In the footer, under [`KEY_FORMAT`].
pub(crate) const FORMAT: &str = "metrics-1";
/// The same for a rollup: who does not know of these must not take them for raw samples.
pub(crate) const FORMAT_ROLLUP: &str = "metrics-rollup-1";
pub(crate) const KEY_FORMAT: &str = "bellrock.format";
/// CRC-32 over identity and head of all rows, in hexadecimal.
pub(crate) const KEY_INDEX_CRC32: &str = "bellrock.index_crc32";
/// Where the metrics stand ([`super::directory`]), as JSON, and the CRC-32 of that text.
pub(crate) const KEY_SECTIONS: &str = "bellrock.sections";
pub(crate) const KEY_SECTIONS_CRC32: &str = "bellrock.sections_crc32";
/// Metadata of metric families, as JSON, and the CRC-32 of that text.
pub(crate) const KEY_METADATA: &str = "bellrock.metadata";
pub(crate) const KEY_METADATA_CRC32: &str = "bellrock.metadata_crc32";
/// The first and the last record of the journal that may be in the file, and the paths of the files that it was merged from, as JSON:
/// for the day when the catalog is gone.
pub(crate) const KEY_POSITIONS: &str = "bellrock.positions";
/// Of a rollup: the length of its intervals in milliseconds.
pub(crate) const KEY_INTERVAL: &str = "bellrock.interval_ms";
pub(crate) const KEY_MADE_OF: &str = "bellrock.made_of";

/// Groups of columns by their positions in [`schema`].
pub(crate) mod column {
    use std::ops::Range;

    /// Whose a row is.
    pub(crate) const OF_IDENTITY: Range<usize> = 0..2;
    /// Kind, times and count of a row.
    pub(crate) const OF_HEAD: Range<usize> = 2..6;
    /// What a chunk is made of beside its head, counted among the leaves of the schema: the labels are two.
    pub(crate) const CHUNK_LEAVES: Range<usize> = 7..15;
    /// Among these.
    pub(crate) const VALUES: usize = 4;
    pub(crate) const ALL: Range<usize> = 0..14;
}

pub(crate) fn schema() -> Arc<Schema> {
    let time = || DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    let pair = Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Utf8, false)]);
    let entries = Field::new("key_value", DataType::Struct(pair), false);
    Arc::new(Schema::new(vec![
        Field::new("metric", DataType::Utf8, false),
        Field::new("labels", DataType::Map(Arc::new(entries), false), false),
        Field::new("kind", DataType::UInt8, false),
        Field::new("min_time", time(), false),
        Field::new("max_time", time(), false),
        Field::new("count", DataType::UInt32, false),
        Field::new("min", DataType::Float64, true),
        Field::new("max", DataType::Float64, true),
        Field::new("sum", DataType::Float64, true),
        Field::new("timestamps", DataType::Binary, false),
        Field::new("values", DataType::Binary, false),
        Field::new("starts", DataType::Binary, true),
        Field::new("exemplars", DataType::Binary, true),
        Field::new("crc32", DataType::UInt32, false),
    ]))
}

/// Rows of a row group: what the writer holds in memory, and what a reader prunes by.
const ROW_GROUP_ROWS: usize = 64 << 10;
/// A query for one series decompresses a page of each column.
const PAGE_BYTES: usize = 64 << 10;
const PAGE_ROWS: usize = 2048;

/// Files that wait for compaction are compressed lightly, those that stay with more effort.
pub(crate) fn properties(level: u16) -> WriterProperties {
    let effort = ZstdLevel::try_new(if level == 0 { 1 } else { 3 }).unwrap_or_default();
    let path = |name: &str| ColumnPath::from(name);
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(effort))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_data_page_size_limit(PAGE_BYTES)
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_column_statistics_enabled(path("metric"), EnabledStatistics::Chunk)
        .set_column_statistics_enabled(path("min_time"), EnabledStatistics::Chunk)
        .set_column_statistics_enabled(path("max_time"), EnabledStatistics::Chunk)
        .set_created_by("bellrock".to_owned());
    for name in ["values", "starts", "exemplars", "crc32", "min", "max", "sum"] {
        properties = properties.set_column_dictionary_enabled(path(name), false);
    }
    // Most files have none of these in most row groups; a reader that knows so asks for no page of them.
    for name in ["starts", "exemplars", "min", "max", "sum"] {
        properties = properties.set_column_statistics_enabled(path(name), EnabledStatistics::Chunk);
    }
    for name in ["values", "starts", "exemplars"] {
        properties = properties.set_column_encoding(path(name), Encoding::DELTA_LENGTH_BYTE_ARRAY);
    }
    properties.build()
}
