//! Batches to one Parquet file: sorted, pages of equal rows in all columns, filters and summary inside.
//!
//! Settings by measurement: exactly [`PAGE_ROWS`] rows for each `write`, no dictionary where values hardly repeat,
//! zstd-1 (docs/format/event-file.md).

use crate::attributes::AttributesReader;
use crate::origin::{Interned, resources};
use crate::promote::Promotion;
use crate::schema::{
    ATTRIBUTES, BODY, DURATION, KIND, NAME, RESOURCE, SERVICE, SEVERITY, STATUS, STREAM, TRACE_ID, TS, column, damaged,
};
use crate::summary::{FORMAT, FileStats, NAMES_MAX, PAGE_ROWS, PageSummary, StreamSummary, Summary, checksums, encode_tail};
use crate::{attributes, filter, logs_codec, terms};
use arrow::array::{
    Array, DictionaryArray, FixedSizeBinaryArray, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray, UInt8Array,
    UInt64Array,
};
use arrow::compute::{SortColumn, concat_batches, lexsort_to_indices, take_record_batch};
use arrow::datatypes::{Int32Type, Schema};
use br_model::{Resource, Severity};
use br_std::Result;
use br_storage::Table;
use hashbrown::HashSet;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use std::collections::{BTreeMap, BTreeSet};

/// The key in Parquet's metadata under which the place of the summary stands.
pub(crate) const SUMMARY_KEY: &str = "bellrock.summary";
/// Where the file came from, for the day when the catalog is gone.
pub(crate) const POSITIONS_KEY: &str = "bellrock.positions";
pub(crate) const MADE_OF_KEY: &str = "bellrock.made_of";

const DICTIONARY_BYTES_MAX: usize = 4 << 20;

/// A file's bytes and what the catalog keeps of it.
pub(crate) struct Written {
    pub(crate) bytes: Vec<u8>,
    pub(crate) stats: FileStats,
    pub(crate) rows: usize,
    pub(crate) min_ts: i64,
    pub(crate) max_ts: i64,
}

/// Writes narrow batches, at least one row in all, as one file. `origin` are keys and values for its footer.
pub(crate) fn write_file(
    table: Table,
    batches: &[RecordBatch],
    promoted_max: usize,
    origin: &[(&str, String)],
) -> Result<Written> {
    let promotion = Promotion::choose(batches, promoted_max)?;
    let sorted = sort(table, batches)?;
    let mut summary = describe(table, &sorted)?;
    let schema = promotion.schema(sorted.schema_ref());
    let mut writer = ArrowWriter::try_new(Vec::new(), schema.clone(), Some(properties(&schema)?)).map_err(damaged)?;
    let mut page_terms = Vec::new();
    let mut stats = FileStats { format: FORMAT, streams: summary.streams.len() as u64, ..FileStats::default() };
    for from in (0..sorted.num_rows()).step_by(PAGE_ROWS) {
        let page = sorted.slice(from, PAGE_ROWS.min(sorted.num_rows() - from));
        summary.pages.push(page_summary(table, &page, &summary)?);
        page_terms.push(terms_of(&page)?);
        count_levels(table, &page, &mut stats)?;
        writer.write(&promotion.widen(&page)?).map_err(damaged)?;
    }
    writer.flush().map_err(damaged)?;
    summary.filter_offset = writer.bytes_written() as u64;
    let (filters, blocks) = filter::build(&page_terms);
    summary.filter_blocks = blocks;
    writer.write_all(&filters)?;
    writer.sync()?;
    let tail = encode_tail(&summary, &checksums(writer.inner()))?;
    stats.tail_offset = writer.bytes_written() as u64;
    writer.write_all(&tail)?;
    let place = format!("{},{}", stats.tail_offset, tail.len());
    writer.append_key_value_metadata(KeyValue::new(SUMMARY_KEY.to_owned(), place));
    for (key, value) in origin {
        writer.append_key_value_metadata(KeyValue::new((*key).to_owned(), value.clone()));
    }
    let bytes = writer.into_inner().map_err(damaged)?;
    stats.tail_crc = crc32fast::hash(bytes.get(stats.tail_offset as usize..).unwrap_or_default());
    complete(&mut stats, &summary, &schema)?;
    let min_ts = summary.pages.iter().map(|page| page.min_ts).min().unwrap_or(0);
    let max_ts = summary.pages.iter().map(|page| page.max_ts).max().unwrap_or(0);
    Ok(Written { bytes, stats, rows: sorted.num_rows(), min_ts, max_ts })
}

/// What follows from the summary and the columns.
pub(crate) fn complete(stats: &mut FileStats, summary: &Summary, schema: &Schema) -> Result<()> {
    if summary.services.len() <= NAMES_MAX {
        stats.services.clone_from(&summary.services);
    }
    let mut keys = BTreeSet::new();
    for stream in &summary.streams {
        let resource = crate::json::decode_resource(&stream.resource)?;
        keys.extend(resource.attributes.0.into_iter().map(|(key, _)| key));
    }
    stats.resource_keys = keys.into_iter().take(NAMES_MAX).collect();
    let promoted = schema.fields().iter().filter_map(|field| attributes::parse_promoted(field.name()));
    stats.attributes = promoted.map(|(key, letter)| (key.to_owned(), char::from(letter))).collect();
    Ok(())
}

/// One batch in the order of the file: (service, stream, time) for logs, (service, name, time) for spans.
fn sort(table: Table, batches: &[RecordBatch]) -> Result<RecordBatch> {
    let Some(first) = batches.first() else {
        return Err(br_std::Error::corrupt("a file without rows"));
    };
    let all = concat_batches(first.schema_ref(), batches).map_err(damaged)?;
    let second = if table == Table::Spans { NAME } else { STREAM };
    let keys: Vec<SortColumn> = [SERVICE, second, TS]
        .into_iter()
        .filter_map(|name| all.column_by_name(name))
        .map(|values| SortColumn { values: values.clone(), options: None })
        .collect();
    let order = lexsort_to_indices(&keys, None).map_err(damaged)?;
    take_record_batch(&all, &order).map_err(damaged)
}

fn properties(schema: &Schema) -> Result<WriterProperties> {
    let path = |name: &str| ColumnPath::from(name.to_owned());
    let mut builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1).map_err(damaged)?))
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_data_page_size_limit(1 << 30)
        .set_write_batch_size(PAGE_ROWS)
        .set_max_row_group_row_count(None)
        .set_dictionary_page_size_limit(DICTIONARY_BYTES_MAX)
        .set_statistics_enabled(EnabledStatistics::Chunk);
    for name in [BODY, TRACE_ID, "span_id", "parent_span_id", "error", "events", "links"] {
        builder = builder.set_column_dictionary_enabled(path(name), false);
        builder = builder.set_column_statistics_enabled(path(name), EnabledStatistics::None);
    }
    for name in [TS, "observed", "end_ts", DURATION] {
        builder = builder.set_column_dictionary_enabled(path(name), false);
        builder = builder.set_column_encoding(path(name), Encoding::DELTA_BINARY_PACKED);
    }
    let map_values = ColumnPath::new(vec![ATTRIBUTES.into(), "entries".into(), "value".into()]);
    builder = builder.set_column_dictionary_enabled(map_values, false);
    let promoted = schema.fields().iter().filter(|field| attributes::parse_promoted(field.name()).is_some());
    for field in promoted {
        let column = ColumnPath::new(vec![field.name().clone()]);
        builder = builder.set_column_statistics_enabled(column, EnabledStatistics::Chunk);
    }
    Ok(builder.build())
}

/// Services, streams and operations of the whole file.
fn describe(table: Table, batch: &RecordBatch) -> Result<Summary> {
    let services: &StringArray = column(batch, SERVICE)?;
    let streams: &UInt64Array = column(batch, STREAM)?;
    let times: &TimestampNanosecondArray = column(batch, TS)?;
    let resources: &DictionaryArray<Int32Type> = column(batch, RESOURCE)?;
    let resource_texts = resources.downcast_dict::<StringArray>();
    let names: Option<&StringArray> = (table == Table::Spans).then(|| column(batch, NAME)).transpose()?;
    let mut by_stream: BTreeMap<(&str, u64), StreamSummary> = BTreeMap::new();
    let mut operations: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for row in 0..batch.num_rows() {
        let time = times.value(row);
        let stream = by_stream.entry((services.value(row), streams.value(row))).or_insert_with(|| {
            let resource = resource_texts.as_ref().map_or("{}", |texts| arrow::array::ArrayAccessor::value(texts, row));
            StreamSummary { id: streams.value(row), resource: resource.to_owned(), min_ts: time, max_ts: time }
        });
        stream.min_ts = stream.min_ts.min(time);
        stream.max_ts = stream.max_ts.max(time);
        if let Some(names) = names {
            let known = operations.entry(services.value(row).to_owned()).or_default();
            if known.len() < NAMES_MAX {
                known.insert(names.value(row));
            }
        }
    }
    let mut services: Vec<String> = by_stream.keys().map(|(service, _)| (*service).to_owned()).collect();
    services.dedup();
    let owned = |names: BTreeSet<&str>| names.into_iter().map(str::to_owned).collect();
    Ok(Summary {
        format: FORMAT,
        services,
        streams: by_stream.into_values().collect(),
        operations: operations.into_iter().map(|(service, names)| (service, owned(names))).collect(),
        ..Summary::default()
    })
}

fn page_summary(table: Table, page: &RecordBatch, summary: &Summary) -> Result<PageSummary> {
    let times: &TimestampNanosecondArray = column(page, TS)?;
    let services: &StringArray = column(page, SERVICE)?;
    let streams: &UInt64Array = column(page, STREAM)?;
    let last = page.num_rows() - 1; // a page has at least one row
    let service_at = |row: usize| summary.services.partition_point(|service| service.as_str() < services.value(row));
    let stream_at = |row: usize| summary.streams.iter().position(|stream| stream.id == streams.value(row)).unwrap_or(0);
    let (low, high, errors, stream_range) = if table == Table::Spans {
        let durations: &Int64Array = column(page, DURATION)?;
        let statuses: &StringArray = column(page, STATUS)?;
        let low = arrow::compute::min(durations).unwrap_or(0);
        let high = arrow::compute::max(durations).unwrap_or(0);
        (low, high, statuses.iter().any(|status| status == Some("error")), (0, summary.streams.len() - 1))
    } else {
        let severities: &UInt8Array = column(page, SEVERITY)?;
        let kinds: &StringArray = column(page, KIND)?;
        let low = i64::from(arrow::compute::min(severities).unwrap_or(0));
        let high = i64::from(arrow::compute::max(severities).unwrap_or(0));
        (low, high, kinds.iter().any(|kind| kind == Some("error")), (stream_at(0), stream_at(last)))
    };
    Ok(PageSummary {
        min_ts: times.values().iter().copied().min().unwrap_or(0),
        max_ts: times.values().iter().copied().max().unwrap_or(0),
        services: (service_at(0), service_at(last)),
        streams: stream_range,
        low,
        high,
        errors,
    })
}

fn count_levels(table: Table, page: &RecordBatch, stats: &mut FileStats) -> Result<()> {
    if table == Table::Spans {
        let statuses: &StringArray = column(page, STATUS)?;
        for status in statuses.iter().flatten() {
            count(&mut stats.levels, status);
            stats.errors += u64::from(status == "error");
        }
        return Ok(());
    }
    let severities: &UInt8Array = column(page, SEVERITY)?;
    let kinds: &StringArray = column(page, KIND)?;
    for (severity, kind) in severities.iter().zip(kinds) {
        count(&mut stats.levels, Severity(severity.unwrap_or(0)).as_str());
        stats.errors += u64::from(kind == Some("error"));
    }
    Ok(())
}

fn count(levels: &mut BTreeMap<String, u64>, level: &str) {
    match levels.get_mut(level) {
        Some(count) => *count += 1,
        None => drop(levels.insert(level.to_owned(), 1)),
    }
}

/// The terms of a page's rows: words of bodies and names, attributes of record and resource, trace ids.
fn terms_of(page: &RecordBatch) -> Result<HashSet<u64>> {
    let mut terms = HashSet::new();
    if page.column_by_name(BODY).is_some() {
        let bodies: &StringArray = column(page, BODY)?;
        bodies.iter().flatten().for_each(|body| terms.extend(terms::body_terms(body)));
    }
    if page.column_by_name(NAME).is_some() {
        let names: &StringArray = column(page, NAME)?;
        terms.extend(names.iter().flatten().filter_map(|name| terms::pair_term(NAME, name)));
    }
    let trace_ids: &FixedSizeBinaryArray = column(page, TRACE_ID)?;
    if page.column_by_name("error_group").is_some() {
        let groups: &StringArray = column(page, "error_group")?;
        terms.extend(groups.iter().flatten().filter_map(|group| terms::pair_term("error_group", group)));
    }
    let reader = AttributesReader::new(page)?;
    let mut resources: Interned<'_, Resource> = resources(page)?;
    let mut last_resource = None;
    for row in 0..page.num_rows() {
        if !trace_ids.is_null(row) {
            terms.insert(terms::trace_term(logs_codec::trace_id(trace_ids, row)));
        }
        for entry in reader.entries(row)? {
            terms.extend(terms::pair_term(entry.key, &attributes::shown(&entry)?));
        }
        let resource = resources.get(row)?;
        if last_resource.as_ref().is_none_or(|last| !std::sync::Arc::ptr_eq(last, &resource)) {
            terms.extend(resource.attributes.iter().filter_map(|(key, value)| terms::pair_term(key, &value.to_string())));
            last_resource = Some(resource);
        }
    }
    Ok(terms)
}
