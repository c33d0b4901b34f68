//! Masks what comes in before it is journaled: no secret that the policy names reaches the disk.
//!
//! A body without any goes on as it came. One that had some is journaled masked and without its compression: masks keep lengths, so
//! it is read by the decoder of its protocol, now and when the journal is read back.

use crate::decode::remote_write_type;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use br_journal::{Protocol, Record};
use br_model::{KnownSample, Labels, MetricBatch};
use br_redact::{Redactor, Shape};
use br_wire::decompress::{self, Encoding};
use br_wire::{Limits, Result, WireError, otlp, remote_write};
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What is masked; nothing where there is no redactor.
#[derive(Debug, Default)]
pub struct RedactionOptions {
    pub redactor: Option<Redactor>,
    /// Values are counted and left as they are.
    pub is_dry_run: bool,
    /// Given as it takes effect; see [`RedactionOptions::policy`].
    number: u16,
}

impl RedactionOptions {
    pub fn new(redactor: Option<Redactor>, is_dry_run: bool) -> Self {
        Self { redactor, is_dry_run, number: 0 }
    }

    /// By this a store remembers which series came under the policy, and are not looked at again. Zero where nothing is masked, and in a
    /// dry run, which counts each time.
    pub(crate) fn policy(&self) -> u16 {
        if self.redactor.is_some() && !self.is_dry_run { self.number } else { 0 }
    }
}

/// The policy in force, and what it has found.
#[derive(Debug, Default)]
pub struct Redaction {
    options: RwLock<Arc<RedactionOptions>>,
    counts: Mutex<BTreeMap<String, u64>>,
    /// Bodies and batches in which there was something.
    pub bodies: AtomicU64,
}

/// Values that were found, by rule.
pub(crate) type Found = Vec<(String, u64)>;

impl Redaction {
    /// Takes effect with the next body.
    pub fn set(&self, mut options: RedactionOptions) {
        if let Some(redactor) = &options.redactor {
            let mut counts = self.counts.lock();
            for name in redactor.active_rules() {
                counts.entry(name.to_owned()).or_default();
            }
        }
        let mut in_force = self.options.write();
        options.number = in_force.number.checked_add(1).unwrap_or(1);
        *in_force = Arc::new(options);
    }

    /// Values found so far, by rule. Rules that apply are there from the start.
    pub fn counts(&self) -> Vec<(String, u64)> {
        self.counts.lock().iter().map(|(rule, count)| (rule.clone(), *count)).collect()
    }

    pub fn is_dry_run(&self) -> bool {
        self.options.read().is_dry_run
    }

    pub(crate) fn options(&self) -> Arc<RedactionOptions> {
        self.options.read().clone()
    }

    pub(crate) fn count(&self, found: &Found) {
        if found.is_empty() {
            return;
        }
        self.bodies.fetch_add(1, Ordering::Relaxed);
        let mut counts = self.counts.lock();
        for (rule, count) in found {
            *counts.entry(rule.clone()).or_default() += count;
        }
    }

    /// Masks labels, exemplars and help texts of samples that did not come as a body.
    pub(crate) fn redact_batch(&self, batch: &mut MetricBatch) {
        let options = self.options();
        let Some(redactor) = &options.redactor else { return };
        let mut found = Found::new();
        let mut bytes = Vec::new();
        for series in &mut batch.series {
            let hash = series.labels.hash128_with(&mut bytes) as u64;
            if !redactor.knows_clean(hash) {
                match labels(redactor, &series.labels, &mut found) {
                    None => redactor.learn_clean(hash),
                    Some(masked) if !options.is_dry_run => series.labels = masked,
                    Some(_) => {}
                }
            }
            for exemplar in &mut series.exemplars {
                if let Some(masked) = labels(redactor, &exemplar.labels, &mut found).filter(|_| !options.is_dry_run) {
                    exemplar.labels = masked;
                }
            }
        }
        for (_, metadata) in &mut batch.metadata {
            if let Some(masked) = text(redactor, "", &metadata.help, &mut found).filter(|_| !options.is_dry_run) {
                metadata.help = masked;
            }
        }
        self.count(&found);
    }

    /// The same labels, masked.
    pub(crate) fn redact_labels(&self, set: &Labels) -> Labels {
        let options = self.options();
        let Some(redactor) = options.redactor.as_ref().filter(|_| !options.is_dry_run) else { return set.clone() };
        labels(redactor, set, &mut Found::new()).unwrap_or_else(|| set.clone())
    }
}

/// `None` where there is nothing to mask.
fn labels(redactor: &Redactor, labels: &Labels, found: &mut Found) -> Option<Labels> {
    let mut builder = None;
    for (name, value) in labels.iter() {
        if let Some(masked) = text(redactor, name, value, found) {
            builder.get_or_insert_with(|| labels.to_builder()).set(name, &masked);
        }
    }
    builder.map(br_model::LabelsBuilder::build)
}

fn text(redactor: &Redactor, name: &str, value: &str, found: &mut Found) -> Option<String> {
    let redacted = redactor.redact_label(name, value);
    found.extend(redacted.counts);
    // Masks are ASCII and never cut a letter in two.
    redacted.body.and_then(|body| String::from_utf8(body).ok())
}

/// A record that may be journaled.
pub(crate) struct Clean {
    pub(crate) record: Record,
    /// The same with its body unpacked, where that was done anyway: it need not be done again to decode it.
    pub(crate) unpacked: Option<Record>,
    pub(crate) found: Found,
    /// The samples of a body that has nothing else than series which came before: it was not looked at.
    pub(crate) known: Option<Vec<KnownSample>>,
}

impl Clean {
    fn as_it_was(record: Record) -> Self {
        Self { record, unpacked: None, found: Found::new(), known: None }
    }
}

/// The samples of an unpacked remote-write 1.0 request of which all else is known; see [`remote_write::v1::known_alone`].
pub(crate) type KnownAlone<'a> = &'a dyn Fn(&[u8]) -> Option<Vec<KnownSample>>;

/// Masks a record's body. An error says, as the decoder would, why it cannot be read; the record comes back as it was.
pub(crate) fn redact(
    record: Record,
    options: &RedactionOptions,
    limits: &Limits,
    known_alone: KnownAlone<'_>,
) -> std::result::Result<Clean, Box<(Record, WireError)>> {
    let Some(redactor) = &options.redactor else { return Ok(Clean::as_it_was(record)) };
    let outcome = shape(&record).and_then(|shape| match shape {
        Some(shape) => Ok(Some((shape, plain(&record, limits)?))),
        None => Ok(None),
    });
    let (shape, plain) = match outcome {
        Ok(Some(found)) => found,
        Ok(None) => return Ok(Clean::as_it_was(record)),
        Err(error) => return Err(Box::new((record, error))),
    };
    if shape == Shape::RemoteWrite1
        && options.policy() != 0
        && let Some(known) = known_alone(&plain)
    {
        return Ok(Clean { known: Some(known), ..Clean::as_it_was(record) });
    }
    let redacted = redactor.redact(&plain, shape);
    let found = redacted.counts;
    let unpacked = match plain {
        // A push in protobuf is read as it came, or not at all.
        Cow::Owned(plain) if shape != Shape::LokiPush => Some(plain),
        _ => None,
    };
    let Some(masked) = redacted.body.filter(|_| !options.is_dry_run) else {
        let unpacked = unpacked.map(|plain| in_the_clear(&record, plain));
        return Ok(Clean { record, unpacked, found, known: None });
    };
    drop(unpacked);
    match packed(&record, masked, limits) {
        Ok(record) => Ok(Clean { found, ..Clean::as_it_was(record) }),
        Err(error) => Err(Box::new((record, error))),
    }
}

/// How the decoder will read a body; `None` for what Bellrock tells itself.
fn shape(record: &Record) -> Result<Option<Shape>> {
    let content_type = record.context_value("content-type").unwrap_or("");
    let media_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let by_encoding = |protobuf, json| {
        let encoding = otlp::Encoding::from_content_type(content_type)?;
        Ok(Some(if encoding == otlp::Encoding::Json { json } else { protobuf }))
    };
    Ok(Some(match record.protocol {
        Protocol::REMOTE_WRITE_1 | Protocol::REMOTE_WRITE_2 => {
            match remote_write::Version::from_content_type(remote_write_type(record, content_type))? {
                remote_write::Version::V1 => Shape::RemoteWrite1,
                remote_write::Version::V2 => Shape::RemoteWrite2,
            }
        }
        Protocol::OTLP_METRICS => return by_encoding(Shape::OtlpMetrics, Shape::JsonMetrics),
        Protocol::OTLP_LOGS => return by_encoding(Shape::OtlpLogs, Shape::Json),
        Protocol::OTLP_TRACES => return by_encoding(Shape::OtlpTraces, Shape::Json),
        Protocol::LOKI_PUSH if media_type == "application/json" => Shape::Json,
        Protocol::LOKI_PUSH => Shape::LokiPush,
        Protocol::ZIPKIN_2 if matches!(media_type.as_str(), "application/x-protobuf" | "application/protobuf") => {
            Shape::ZipkinProtobuf
        }
        Protocol::ZIPKIN_2 | Protocol::SENTRY_STORE => Shape::Json,
        Protocol::JAEGER_THRIFT => Shape::JaegerThrift,
        Protocol::SENTRY_ENVELOPE => Shape::SentryEnvelope,
        Protocol::NATIVE | Protocol::DELETE_SERIES => return Ok(None),
        // Lines of a protocol that is new: better looked at as text than not at all.
        _ => Shape::Text,
    }))
}

/// The body without its compression.
fn plain<'a>(record: &'a Record, limits: &Limits) -> Result<Cow<'a, [u8]>> {
    let header = record.context_value("content-encoding").unwrap_or("");
    let encoding = match record.protocol {
        Protocol::REMOTE_WRITE_1 | Protocol::REMOTE_WRITE_2 if header.trim().is_empty() => Encoding::Snappy,
        Protocol::LOKI_PUSH if !is_json(record) => Encoding::Snappy,
        _ => Encoding::from_header(header)?,
    };
    let plain = decompress::decompress(&record.body, encoding, limits)?;
    if record.protocol == Protocol::SENTRY_STORE && plain.trim_ascii_start().first() != Some(&b'{') {
        // As very old SDKs wrap it. What is neither is refused by the decoder.
        if let Ok(bytes) = STANDARD.decode(plain.trim_ascii()) {
            return Ok(Cow::Owned(decompress::decompress(&bytes, Encoding::Deflate, limits)?.into_owned()));
        }
    }
    Ok(plain)
}

fn is_json(record: &Record) -> bool {
    let media_type = record.context_value("content-type").unwrap_or("").split(';').next().unwrap_or("");
    media_type.trim().eq_ignore_ascii_case("application/json")
}

fn in_the_clear(record: &Record, body: Vec<u8>) -> Record {
    with_encoding(record, Bytes::from(body), "identity")
}

fn with_encoding(record: &Record, body: Bytes, encoding: &str) -> Record {
    let mut context: Vec<(String, String)> =
        record.context.iter().filter(|(name, _)| name != "content-encoding").cloned().collect();
    context.push(("content-encoding".to_owned(), encoding.to_owned()));
    Record { context, body, is_compressed: encoding != "identity", ..record.clone() }
}

/// A masked body as it can be journaled and read again: as it is, unless it is larger than a request may be.
fn packed(record: &Record, masked: Vec<u8>, limits: &Limits) -> Result<Record> {
    let broken = |error: &dyn std::fmt::Display| WireError::Malformed(format!("the masked body cannot be packed: {error}"));
    if record.protocol == Protocol::LOKI_PUSH && !is_json(record) {
        let packed = snap::raw::Encoder::new().compress_vec(&masked).map_err(|error| broken(&error))?;
        return Ok(Record { body: Bytes::from(packed), is_compressed: true, ..record.clone() });
    }
    if masked.len() <= limits.body_bytes_max {
        return Ok(in_the_clear(record, masked));
    }
    let packed = zstd::bulk::compress(&masked, 3).map_err(|error| broken(&error))?;
    if packed.len() > limits.body_bytes_max {
        let told = format!("the masked body takes {} bytes; at most {} are taken", packed.len(), limits.body_bytes_max);
        return Err(WireError::TooLarge(told));
    }
    Ok(with_encoding(record, Bytes::from(packed), "zstd"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::{DecodeLimits, decode};
    use br_model::{SeriesSamples, TenantId};
    use br_std::Nanos;
    use std::io::Write;

    const NOW: Nanos = Nanos::from_millis(1_764_237_600_000);

    fn options(is_dry_run: bool) -> RedactionOptions {
        RedactionOptions::new(Some(Redactor::default()), is_dry_run)
    }

    fn record(protocol: Protocol, content_type: &str, encoding: &str, body: Vec<u8>) -> Record {
        let context = [("content-type", content_type), ("content-encoding", encoding)];
        let context = context.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Record { tenant: TenantId(1), protocol, received: NOW, is_compressed: !encoding.is_empty(), context, body: body.into() }
    }

    fn redacted(record: &Record, options: &RedactionOptions, limits: &Limits) -> Clean {
        redact(record.clone(), options, limits, &|_| None).unwrap_or_else(|refused| panic!("{}", refused.1))
    }

    fn bodies(record: &Record) -> Vec<String> {
        let decoded = decode(record, &DecodeLimits::default()).expect("readable");
        decoded.logs.groups.iter().flat_map(|group| group.records.iter().map(|record| record.body.clone())).collect()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).expect("in memory");
        encoder.finish().expect("in memory")
    }

    fn logs(lines: &[&str]) -> Vec<u8> {
        let record = |line: &&str| serde_json::json!({ "timeUnixNano": NOW.0.to_string(), "body": { "stringValue": line } });
        let records: Vec<_> = lines.iter().map(record).collect();
        serde_json::json!({ "resourceLogs": [{ "scopeLogs": [{ "logRecords": records }] }] }).to_string().into_bytes()
    }

    #[test]
    fn what_is_clean_is_kept_as_it_came_and_what_is_not_is_kept_masked() {
        let (json, limits) = ("application/json", Limits::default());
        let clean = record(Protocol::OTLP_LOGS, json, "gzip", gzip(&logs(&["all is well"])));
        let outcome = redacted(&clean, &options(false), &limits);
        assert_eq!((outcome.record, outcome.found), (clean, Vec::new()));
        assert_eq!(bodies(&outcome.unpacked.expect("unpacked once")), ["all is well"]);

        let dirty = record(Protocol::OTLP_LOGS, json, "gzip", gzip(&logs(&["all is well", "to ann@example.com"])));
        let outcome = redacted(&dirty, &options(false), &limits);
        assert_eq!(bodies(&outcome.record), ["all is well", "to [email********]"]);
        assert_eq!((outcome.found, outcome.record.is_compressed), (vec![("email".to_owned(), 1)], false));
        let dry = redacted(&dirty, &options(true), &limits);
        assert_eq!((dry.record, dry.found), (dirty.clone(), vec![("email".to_owned(), 1)]));
        let off = redacted(&dirty, &RedactionOptions::default(), &limits);
        assert_eq!((off.record, off.unpacked), (dirty.clone(), None));

        // In the clear it is larger than a body may be: it is packed again.
        let small = Limits { body_bytes_max: dirty.body.len(), ..limits };
        let outcome = redacted(&dirty, &options(false), &small);
        assert_eq!(outcome.record.context_value("content-encoding"), Some("zstd"));
        assert_eq!(bodies(&outcome.record), ["all is well", "to [email********]"]);
    }

    #[test]
    fn every_wrapping_is_taken_off() {
        let limits = Limits::default();
        let event = serde_json::json!({ "message": "to ann@example.com" }).to_string();
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        zlib.write_all(event.as_bytes()).expect("in memory");
        let wrapped = STANDARD.encode(zlib.finish().expect("in memory")).into_bytes();
        let store = redacted(&record(Protocol::SENTRY_STORE, "", "", wrapped), &options(false), &limits).record;
        assert_eq!(bodies(&store), ["to [email********]"]);

        let entry = |line: &str| {
            let field = |number: u8, bytes: &[u8]| [&[number << 3 | 2, bytes.len() as u8][..], bytes].concat();
            field(1, &[field(1, b"{app=\"a\"}"), field(2, &field(2, line.as_bytes()))].concat())
        };
        let push = snap::raw::Encoder::new().compress_vec(&entry("to ann@example.com")).expect("in memory");
        let push = redacted(&record(Protocol::LOKI_PUSH, "application/x-protobuf", "", push), &options(false), &limits).record;
        let plain = decompress::decompress(&push.body, Encoding::Snappy, &limits).expect("still snappy");
        assert_eq!(plain.as_ref(), entry("to [email********]"));

        let refused = redact(record(Protocol::OTLP_LOGS, "text/plain", "", Vec::new()), &options(false), &limits, &|_| None);
        assert_eq!(refused.err().map(|refused| refused.1.http_status()), Some(415));
    }

    #[test]
    fn batches() {
        let labels = Labels::from_pairs([("__name__", "up"), ("user", "ann@example.com"), ("secret", "tls")]);
        let series = SeriesSamples { labels, ..SeriesSamples::default() };
        let mut batch = MetricBatch { series: vec![series.clone(), series], ..MetricBatch::default() };
        let redaction = Redaction::default();
        redaction.set(options(false));
        redaction.redact_batch(&mut batch);
        let shown = batch.series[1].labels.to_string();
        assert_eq!(shown, r#"up{secret="tls", user="[email********]"}"#);
        assert_eq!(redaction.counts().into_iter().find(|(rule, _)| rule == "email"), Some(("email".to_owned(), 2)));
        redaction.redact_batch(&mut batch);
        assert_eq!(redaction.bodies.load(Ordering::Relaxed), 1);
    }
}
