//! Remote write 1.0: `prometheus.WriteRequest`.

use super::histogram::{self, Rooms};
use super::series::{EXEMPLAR_LABELS_MAX, LABELS_READ_MAX, series_labels};
use crate::amount::Room;
use crate::protobuf::Reader;
use crate::{Decoded, Limits, Result, WireError};
use br_model::{
    Exemplar, KnownSample, KnownSeries, Label, Labels, Metadata, MetricBatch, MetricType, Sample, SeriesHandle, SeriesSamples,
    Value,
};
use br_std::hash::hash128;
use br_std::varint;
use std::collections::HashMap;
use std::sync::Arc;

/// A request of which only the labels of new series were read.
#[derive(Debug)]
pub struct Request {
    pub decoded: Decoded<MetricBatch>,
    /// For each series of `decoded` the hash of its labels as they were sent; zero where they stand as no sender writes them.
    pub identities: Vec<u128>,
    /// Samples of series that are known.
    pub known: Vec<KnownSample>,
}

/// Reads an uncompressed message. An error means that the bytes are no such message; a series that makes no sense is
/// rejected with its index.
pub fn decode(message: &[u8], limits: &Limits) -> Result<Decoded<MetricBatch>> {
    decode_with(message, limits, &mut ()).map(|request| request.decoded)
}

/// The same, without reading the labels of series that are known: nine parts in ten of a steady sender's request.
pub fn decode_with(message: &[u8], limits: &Limits, directory: &mut dyn KnownSeries) -> Result<Request> {
    let mut decoded = Decoded::new(MetricBatch::default());
    let (mut identities, mut known) = (Vec::new(), Vec::new());
    let mut texts = Interner::default();
    let mut rooms = Rooms::new(limits);
    let mut index = 0;
    let mut reader = Reader::new(message);
    while let Some((number, field)) = reader.next()? {
        match number {
            1 => {
                let bytes = field.bytes()?;
                let within = |error: WireError| error.context(format!("series {index}"));
                let (identity, handle) = identify(bytes, directory).map_err(within)?;
                let taken = match handle {
                    Some((series, labels)) => {
                        known_samples(&bytes[labels..], series, &mut known, &mut rooms.samples).map_err(within)?
                    }
                    None => false,
                };
                if !taken {
                    let raw = timeseries(bytes, &mut texts, &mut rooms).map_err(within)?;
                    accept(&mut decoded, index, raw, limits);
                    identities.resize(decoded.value.series.len(), identity);
                }
                index += 1;
            }
            3 => {
                rooms.samples.take(1)?;
                decoded.value.metadata.push(metadata(field.bytes()?)?);
            }
            _ => {}
        }
    }
    Ok(Request { decoded, identities, known })
}

/// The samples of a request in which nothing stands but one sample each of series that are known, written as all senders write them: there
/// is no text in it that was not seen before. `None` for any other.
pub fn known_alone(message: &[u8], limits: &Limits, directory: &mut dyn KnownSeries) -> Option<Vec<KnownSample>> {
    let mut known = Vec::new();
    let mut reader = Reader::new(message);
    while let Some((number, field)) = reader.next().ok()? {
        let bytes = field.bytes().ok().filter(|_| number == 1 && known.len() < limits.records_max)?;
        let (series, labels) = identify(bytes, directory).ok()?.1?;
        let (timestamp_ms, value) = one_sample(&bytes[labels..])?;
        known.push(KnownSample { series, timestamp_ms, value });
    }
    Some(known)
}

/// Looks a series up by its labels; when it is known, it comes with the bytes that these take. Zero is the identity of no labels.
#[inline]
fn identify(bytes: &[u8], directory: &mut dyn KnownSeries) -> Result<(u128, Option<(SeriesHandle, usize)>)> {
    let expected = directory.expected_bytes();
    // The hash of all labels and nothing else is found only where the labels end: where that is need not be looked for.
    if let Some(labels) = bytes.get(..expected).filter(|labels| !labels.is_empty())
        && let Some(handle) = directory.find_expected(hash128(labels))
    {
        return Ok((0, Some((handle, expected))));
    }
    let Some(labels) = label_part(bytes)? else { return Ok((0, None)) };
    let identity = hash128(&bytes[..labels]);
    Ok((identity, directory.find(identity).map(|handle| (handle, labels))))
}

/// How many bytes of a series are its labels: all that stands before the first sample. `None` when it has no labels there.
fn label_part(bytes: &[u8]) -> Result<Option<usize>> {
    let mut reader = Reader::new(bytes);
    let mut end = 0;
    while let Some((1, _)) = reader.next()? {
        end = bytes.len() - reader.rest_bytes();
    }
    Ok((end > 0).then_some(end))
}

/// Reads what stands behind the labels, when it is float samples alone. Otherwise it takes nothing and says so.
fn known_samples(bytes: &[u8], series: SeriesHandle, known: &mut Vec<KnownSample>, room: &mut Room) -> Result<bool> {
    if let Some((timestamp_ms, value)) = one_sample(bytes) {
        room.take(1)?;
        known.push(KnownSample { series, timestamp_ms, value });
        return Ok(true);
    }
    let before = known.len();
    let mut reader = Reader::new(bytes);
    while let Some((number, field)) = reader.next()? {
        if number != 2 {
            known.truncate(before);
            return Ok(false);
        }
        room.take(1)?;
        let (timestamp_ms, value) = stamped(field.bytes()?)?;
        known.push(KnownSample { series, timestamp_ms, value });
    }
    Ok(true)
}

/// The rest of a series as every sender writes it who sends a sample at a time: field 2 with value and time, and nothing else.
#[inline]
fn one_sample(bytes: &[u8]) -> Option<(i64, f64)> {
    let (&[0x12, length, 0x09], rest) = bytes.split_first_chunk()? else { return None };
    let (value, rest) = rest.split_first_chunk()?;
    let (0x10, mut time) = rest.split_first()? else { return None };
    let timestamp_ms = varint::take_u64(&mut time)? as i64;
    (time.is_empty() && usize::from(length) + 2 == bytes.len() && length < 0x80)
        .then_some((timestamp_ms, f64::from_le_bytes(*value)))
}

fn accept(decoded: &mut Decoded<MetricBatch>, index: usize, raw: RawSeries, limits: &Limits) {
    let records = raw.samples.len() + raw.bad_histograms.len();
    if raw.has_invalid_utf8 {
        return decoded.reject(index, records.max(1), "a label is not valid UTF-8");
    }
    for reason in &raw.bad_histograms {
        decoded.reject(index, 1, format!("histogram: {reason}"));
    }
    match series_labels(raw.labels, limits) {
        Ok(_) if raw.samples.is_empty() && raw.exemplars.is_empty() => {}
        Ok(labels) => decoded.value.series.push(SeriesSamples { labels, samples: raw.samples, exemplars: raw.exemplars }),
        Err(reason) => decoded.reject(index, raw.samples.len().max(1), reason),
    }
}

#[derive(Default)]
struct RawSeries {
    labels: Vec<Label>,
    has_invalid_utf8: bool,
    samples: Vec<Sample>,
    exemplars: Vec<Exemplar>,
    bad_histograms: Vec<String>,
}

/// Label names and values come again and again in one request: each is allocated once.
#[derive(Default)]
struct Interner<'a> {
    texts: HashMap<&'a [u8], Arc<str>, foldhash::fast::RandomState>,
}

impl<'a> Interner<'a> {
    /// `None` when the bytes are not UTF-8.
    fn intern(&mut self, bytes: &'a [u8]) -> Option<Arc<str>> {
        if let Some(text) = self.texts.get(bytes) {
            return Some(text.clone());
        }
        let text: Arc<str> = std::str::from_utf8(bytes).ok()?.into();
        self.texts.insert(bytes, text.clone());
        Some(text)
    }
}

fn timeseries<'a>(bytes: &'a [u8], texts: &mut Interner<'a>, rooms: &mut Rooms) -> Result<RawSeries> {
    let mut series = RawSeries::default();
    let mut label_room = Room::new(LABELS_READ_MAX, "labels of a series");
    let mut reader = Reader::new(bytes);
    while let Some((number, field)) = reader.next()? {
        match number {
            1 => label_room.take(1)?,
            2..=4 => rooms.samples.take(1)?,
            _ => {}
        }
        match number {
            1 => match label(field.bytes()?, texts)? {
                Some(label) => series.labels.push(label),
                None => series.has_invalid_utf8 = true,
            },
            2 => series.samples.push(sample(field.bytes()?)?),
            3 => match exemplar(field.bytes()?, texts)? {
                Some(exemplar) => series.exemplars.push(exemplar),
                None => series.has_invalid_utf8 = true,
            },
            4 => match histogram::decode(field.bytes()?, rooms)? {
                Ok(stamped) => series.samples.push(Sample {
                    timestamp_ms: stamped.timestamp_ms,
                    value: Value::Histogram(Arc::new(stamped.histogram)),
                    start_ms: None,
                }),
                Err(reason) => series.bad_histograms.push(reason),
            },
            _ => {}
        }
    }
    Ok(series)
}

fn label<'a>(bytes: &'a [u8], texts: &mut Interner<'a>) -> Result<Option<Label>> {
    let (mut name, mut value) = (&[][..], &[][..]);
    let mut reader = Reader::new(bytes);
    while let Some((number, field)) = reader.next()? {
        match number {
            1 => name = field.bytes()?,
            2 => value = field.bytes()?,
            _ => {}
        }
    }
    Ok(texts.intern(name).zip(texts.intern(value)).map(|(name, value)| Label { name, value }))
}

fn sample(bytes: &[u8]) -> Result<Sample> {
    stamped(bytes).map(|(timestamp_ms, value)| Sample::float(timestamp_ms, value))
}

fn stamped(bytes: &[u8]) -> Result<(i64, f64)> {
    let (mut value, mut timestamp_ms) = (0.0, 0);
    let mut reader = Reader::new(bytes);
    while let Some((number, field)) = reader.next()? {
        match number {
            1 => value = field.f64()?,
            2 => timestamp_ms = field.i64()?,
            _ => {}
        }
    }
    Ok((timestamp_ms, value))
}

fn exemplar<'a>(bytes: &'a [u8], texts: &mut Interner<'a>) -> Result<Option<Exemplar>> {
    let (mut value, mut timestamp_ms) = (0.0, 0);
    let mut labels = Vec::new();
    let mut reader = Reader::new(bytes);
    while let Some((number, field)) = reader.next()? {
        match number {
            1 if labels.len() == EXEMPLAR_LABELS_MAX => {
                return Err(WireError::Malformed(format!("an exemplar with more than {EXEMPLAR_LABELS_MAX} labels")));
            }
            1 => labels.push(label(field.bytes()?, texts)?),
            2 => value = field.f64()?,
            3 => timestamp_ms = field.i64()?,
            _ => {}
        }
    }
    let labels: Option<Vec<Label>> = labels.into_iter().collect();
    let labels = labels.map(|labels| Labels::from_pairs(labels.iter().map(|label| (&label.name, &label.value))));
    Ok(labels.map(|labels| Exemplar { labels, value, timestamp_ms }))
}

fn metadata(bytes: &[u8]) -> Result<(String, Metadata)> {
    let mut name = String::new();
    let mut family = Metadata::default();
    let mut reader = Reader::new(bytes);
    while let Some((number, field)) = reader.next()? {
        match number {
            1 => family.metric_type = metric_type(field.u64()?),
            2 => field.text()?.clone_into(&mut name),
            4 => field.text()?.clone_into(&mut family.help),
            5 => field.text()?.clone_into(&mut family.unit),
            _ => {}
        }
    }
    Ok((name, family))
}

/// Numbered alike in both versions, and in Prometheus' write-ahead log.
pub(crate) fn metric_type(number: u64) -> MetricType {
    match number {
        1 => MetricType::Counter,
        2 => MetricType::Gauge,
        3 => MetricType::Histogram,
        4 => MetricType::GaugeHistogram,
        5 => MetricType::Summary,
        6 => MetricType::Info,
        7 => MetricType::StateSet,
        _ => MetricType::Unknown,
    }
}
