//! Remote write 2.0: `io.prometheus.write.v2.Request`, with its symbol table. Bellrock journals scrapes in it too.
//!
//! The experimental `created_timestamp` of a series and the `start_timestamp` of a sample both become `Sample::start_ms`.

use super::histogram::{self, Rooms};
use super::series::{EXEMPLAR_LABELS_MAX, LABELS_READ_MAX, series_labels};
use super::v1::metric_type;
use crate::amount::Room;
use crate::protobuf::{Field, Reader, put_bytes, put_f64, put_int, put_message, put_packed_varint, put_varint};
use crate::{Decoded, Limits, Result, WireError};
use br_model::{Exemplar, Label, Labels, Metadata, MetricBatch, MetricType, Sample, SeriesSamples, Value};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// For the `Content-Type` header of what [`encode`] makes; its `Content-Encoding` is `snappy`.
pub const CONTENT_TYPE: &str = "application/x-protobuf;proto=io.prometheus.write.v2.Request";

/// Reads an uncompressed message. An error means that the bytes are no such message; a series that makes no sense is
/// rejected with its index.
pub fn decode(message: &[u8], limits: &Limits) -> Result<Decoded<MetricBatch>> {
    let symbols = symbols(message, limits)?;
    let mut decoded = Decoded::new(MetricBatch::default());
    let mut metadata = BTreeMap::new();
    let mut rooms = Rooms::new(limits);
    let mut index = 0;
    let mut reader = Reader::new(message);
    while let Some((number, field)) = reader.next()? {
        if number != 5 {
            continue;
        }
        let raw = timeseries(field.bytes()?, &symbols, &mut rooms).map_err(|error| error.context(format!("series {index}")))?;
        accept(&mut decoded, &mut metadata, index, raw, limits);
        index += 1;
    }
    decoded.value.metadata = metadata.into_iter().collect();
    Ok(decoded)
}

/// A help text may be as long as so many labels.
const METADATA_TEXTS: usize = 8;

/// A symbol is `None` when it is not UTF-8: only the series that use it suffer.
type Symbols = Vec<Option<Arc<str>>>;

/// A sample with labels of its own alone needs no more.
const SYMBOLS_PER_RECORD: usize = 4;

fn symbols(message: &[u8], limits: &Limits) -> Result<Symbols> {
    let mut room = Room::new(limits.records_max.saturating_mul(SYMBOLS_PER_RECORD), "symbols");
    let mut symbols = Symbols::new();
    let mut reader = Reader::new(message);
    while let Some((number, field)) = reader.next()? {
        if number == 4 {
            room.take(1)?;
            symbols.push(std::str::from_utf8(field.bytes()?).ok().map(Arc::from));
        }
    }
    match symbols.first() {
        Some(Some(first)) if !first.is_empty() => Err(WireError::malformed("the first symbol must be the empty string")),
        _ => Ok(symbols),
    }
}

#[derive(Default)]
struct RawSeries {
    labels: Vec<Label>,
    samples: Vec<Sample>,
    exemplars: Vec<Exemplar>,
    metadata: Metadata,
    created_ms: i64,
    /// Parts that make no sense: how many samples each costs, and why.
    faults: Vec<(usize, String)>,
    labels_fault: Option<String>,
}

fn accept(
    decoded: &mut Decoded<MetricBatch>,
    families: &mut BTreeMap<String, Metadata>,
    index: usize,
    mut raw: RawSeries,
    limits: &Limits,
) {
    let records = raw.samples.len() + raw.faults.iter().map(|(records, _)| records).sum::<usize>();
    if let Some(reason) = raw.labels_fault {
        return decoded.reject(index, records.max(1), reason);
    }
    let labels = match series_labels(raw.labels, limits) {
        Ok(labels) => labels,
        Err(reason) => return decoded.reject(index, records.max(1), reason),
    };
    for (records, reason) in raw.faults {
        decoded.reject(index, records, reason);
    }
    if raw.created_ms != 0 {
        raw.samples.iter_mut().for_each(|sample| sample.start_ms = sample.start_ms.or(Some(raw.created_ms)));
    }
    if raw.metadata != Metadata::default() {
        let family = family_name(labels.metric_name(), raw.metadata.metric_type);
        families.entry(family.to_owned()).or_insert(raw.metadata);
    }
    if !raw.samples.is_empty() || !raw.exemplars.is_empty() {
        decoded.value.series.push(SeriesSamples { labels, samples: raw.samples, exemplars: raw.exemplars });
    }
}

/// Metadata comes with each series; the family of a classic histogram or a summary is named without its suffix.
fn family_name(name: &str, metric_type: MetricType) -> &str {
    let suffixes: &[&str] = match metric_type {
        MetricType::Histogram | MetricType::GaugeHistogram => &["_bucket", "_count", "_sum", "_gcount", "_gsum"],
        MetricType::Summary => &["_count", "_sum"],
        _ => &[],
    };
    suffixes.iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name)
}

fn timeseries(bytes: &[u8], symbols: &Symbols, rooms: &mut Rooms) -> Result<RawSeries> {
    let mut series = RawSeries::default();
    let mut references = Vec::new();
    let mut reader = Reader::new(bytes);
    while let Some((number, field)) = reader.next()? {
        if matches!(number, 2..=4) {
            rooms.samples.take(1)?;
        }
        match number {
            1 => field.each_varint(|reference| keep_reference(&mut references, reference))?,
            2 => series.samples.push(sample(field.bytes()?)?),
            3 => series.add_histogram(field.bytes()?, rooms)?,
            4 => match exemplar(field.bytes()?, symbols, rooms)? {
                Ok(exemplar) => series.exemplars.push(exemplar),
                Err(reason) => series.faults.push((0, format!("exemplar: {reason}"))),
            },
            5 => match metadata(field, symbols, rooms)? {
                Ok(metadata) => series.metadata = metadata,
                Err(reason) => series.faults.push((0, format!("metadata: {reason}"))),
            },
            6 => series.created_ms = field.i64()?,
            _ => {}
        }
    }
    if references.len() > 2 * LABELS_READ_MAX {
        return Err(WireError::TooLarge(format!("more than {LABELS_READ_MAX} labels of a series")));
    }
    match labels(&references, symbols) {
        Ok(labels) => series.labels = labels,
        Err(reason) => series.labels_fault = Some(reason),
    }
    Ok(series)
}

/// One more than are taken is enough to tell that they are too many.
fn keep_reference(references: &mut Vec<u64>, reference: u64) {
    if references.len() <= 2 * LABELS_READ_MAX {
        references.push(reference);
    }
}

impl RawSeries {
    fn add_histogram(&mut self, bytes: &[u8], rooms: &mut Rooms) -> Result<()> {
        match histogram::decode(bytes, rooms)? {
            Ok(stamped) => self.samples.push(Sample {
                timestamp_ms: stamped.timestamp_ms,
                value: Value::Histogram(Arc::new(stamped.histogram)),
                start_ms: (stamped.start_ms != 0).then_some(stamped.start_ms),
            }),
            Err(reason) => self.faults.push((1, format!("histogram: {reason}"))),
        }
        Ok(())
    }
}

fn symbol(symbols: &Symbols, reference: u64) -> Result<Arc<str>, String> {
    let at = usize::try_from(reference).ok().and_then(|at| symbols.get(at));
    match at {
        Some(Some(text)) => Ok(text.clone()),
        Some(None) => Err(format!("symbol {reference} is not valid UTF-8")),
        None => Err(format!("symbol {reference} is not in the table of {}", symbols.len())),
    }
}

fn labels(references: &[u64], symbols: &Symbols) -> Result<Vec<Label>, String> {
    let (pairs, rest) = references.as_chunks::<2>();
    if !rest.is_empty() {
        return Err("an odd number of label references".into());
    }
    pairs.iter().map(|[name, value]| Ok(Label { name: symbol(symbols, *name)?, value: symbol(symbols, *value)? })).collect()
}

fn sample(bytes: &[u8]) -> Result<Sample> {
    let (mut value, mut timestamp_ms, mut start_ms) = (0.0, 0, 0);
    let mut reader = Reader::new(bytes);
    while let Some((number, field)) = reader.next()? {
        match number {
            1 => value = field.f64()?,
            2 => timestamp_ms = field.i64()?,
            3 => start_ms = field.i64()?,
            _ => {}
        }
    }
    Ok(Sample { timestamp_ms, value: Value::Float(value), start_ms: (start_ms != 0).then_some(start_ms) })
}

fn exemplar(bytes: &[u8], symbols: &Symbols, rooms: &mut Rooms) -> Result<Result<Exemplar, String>> {
    let (mut value, mut timestamp_ms) = (0.0, 0);
    let mut references = Vec::new();
    let mut reader = Reader::new(bytes);
    while let Some((number, field)) = reader.next()? {
        match number {
            1 => field.each_varint(|reference| keep_reference(&mut references, reference))?,
            2 => value = field.f64()?,
            3 => timestamp_ms = field.i64()?,
            _ => {}
        }
    }
    if references.len() > 2 * EXEMPLAR_LABELS_MAX {
        return Ok(Err(format!("more than {EXEMPLAR_LABELS_MAX} labels")));
    }
    let labels = match labels(&references, symbols) {
        Ok(labels) => labels,
        Err(reason) => return Ok(Err(reason)),
    };
    let bytes = labels.iter().map(|label| label.name.len() + label.value.len()).sum();
    Ok(rooms.copy(bytes, labels.len())?.map(|()| Exemplar {
        labels: Labels::from_pairs(labels.iter().map(|label| (&label.name, &label.value))),
        value,
        timestamp_ms,
    }))
}

fn metadata(field: Field<'_>, symbols: &Symbols, rooms: &mut Rooms) -> Result<Result<Metadata, String>> {
    let mut family = Metadata::default();
    let (mut help, mut unit) = (0, 0);
    let mut reader = Reader::new(field.bytes()?);
    while let Some((number, field)) = reader.next()? {
        match number {
            1 => family.metric_type = metric_type(field.u64()?),
            3 => help = field.u64()?,
            4 => unit = field.u64()?,
            _ => {}
        }
    }
    let text = |reference| if reference == 0 { Ok(Arc::from("")) } else { symbol(symbols, reference) };
    let (help, unit) = match text(help).and_then(|help| Ok((help, text(unit)?))) {
        Ok(texts) => texts,
        Err(reason) => return Ok(Err(reason)),
    };
    Ok(rooms.copy(help.len() + unit.len(), METADATA_TEXTS)?.map(|()| {
        (family.help, family.unit) = (help.to_string(), unit.to_string());
        family
    }))
}

/// Writes a batch as a request body, compressed with snappy. Nothing is lost but the order of metadata, which is by name;
/// metadata of a family without series in the batch has no place in the message and is left out.
pub fn encode(batch: &MetricBatch) -> Vec<u8> {
    let message = encode_message(batch);
    // Snappy refuses only input of 4 GiB and more; the model of such a batch would not fit in memory beside it.
    snap::raw::Encoder::new().compress_vec(&message).expect("a batch in memory is below snappy's 4 GiB")
}

/// [`encode`] without the compression.
pub fn encode_message(batch: &MetricBatch) -> Vec<u8> {
    let families: HashMap<&str, &Metadata> = batch.metadata.iter().map(|(name, family)| (name.as_str(), family)).collect();
    let mut table = Table::default();
    table.reference("");
    let mut body = Vec::new();
    let mut message = Vec::new();
    for series in &batch.series {
        message.clear();
        encode_series(&mut message, series, &families, &mut table);
        put_bytes(&mut body, 5, &message);
    }
    let mut request = Vec::with_capacity(body.len() + table.bytes);
    table.texts.iter().for_each(|text| put_bytes(&mut request, 4, text.as_bytes()));
    request.extend_from_slice(&body);
    request
}

/// The symbols in the order of their first use; 0 is the empty string.
#[derive(Default)]
struct Table<'a> {
    references: HashMap<&'a str, u64, foldhash::fast::RandomState>,
    texts: Vec<&'a str>,
    bytes: usize,
}

impl<'a> Table<'a> {
    fn reference(&mut self, text: &'a str) -> u64 {
        *self.references.entry(text).or_insert_with(|| {
            self.texts.push(text);
            self.bytes += text.len() + 6;
            self.texts.len() as u64 - 1
        })
    }

    fn labels(&mut self, labels: &'a Labels) -> Vec<u64> {
        labels.iter().flat_map(|(name, value)| [name, value]).map(|text| self.reference(text)).collect()
    }
}

fn encode_series<'a>(
    out: &mut Vec<u8>,
    series: &'a SeriesSamples,
    families: &HashMap<&str, &'a Metadata>,
    table: &mut Table<'a>,
) {
    put_packed_varint(out, 1, table.labels(&series.labels).into_iter());
    for sample in &series.samples {
        let start_ms = sample.start_ms.unwrap_or(0);
        match &sample.value {
            Value::Float(value) => put_message(out, 2, |out| {
                put_f64(out, 1, *value);
                put_int(out, 2, sample.timestamp_ms);
                put_int(out, 3, start_ms);
            }),
            Value::Histogram(histogram) => {
                put_message(out, 3, |out| histogram::encode(out, histogram, sample.timestamp_ms, start_ms));
            }
        }
    }
    for exemplar in &series.exemplars {
        let labels = table.labels(&exemplar.labels);
        put_message(out, 4, |out| {
            put_packed_varint(out, 1, labels.into_iter());
            put_f64(out, 2, exemplar.value);
            put_int(out, 3, exemplar.timestamp_ms);
        });
    }
    if let Some(family) = family_of(series.labels.metric_name(), families) {
        let (help, unit) = (table.reference(&family.help), table.reference(&family.unit));
        put_message(out, 5, |out| {
            put_varint(out, 1, type_number(family.metric_type));
            put_varint(out, 3, help);
            put_varint(out, 4, unit);
        });
    }
}

/// The metadata that [`decode`] gives back to the same family.
fn family_of<'a>(name: &str, families: &HashMap<&str, &'a Metadata>) -> Option<&'a Metadata> {
    let bases = ["", "_bucket", "_count", "_sum", "_gcount", "_gsum"].iter().filter_map(|suffix| name.strip_suffix(suffix));
    let mut found = bases.filter_map(|base| families.get(base).map(|family| (base, *family)));
    found.find(|(base, family)| family_name(name, family.metric_type) == *base).map(|(_, family)| family)
}

fn type_number(metric_type: MetricType) -> u64 {
    match metric_type {
        MetricType::Unknown => 0,
        MetricType::Counter => 1,
        MetricType::Gauge => 2,
        MetricType::Histogram => 3,
        MetricType::GaugeHistogram => 4,
        MetricType::Summary => 5,
        MetricType::Info => 6,
        MetricType::StateSet => 7,
    }
}
