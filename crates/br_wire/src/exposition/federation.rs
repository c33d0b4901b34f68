//! Federation's answer: the latest sample of each series, in the form that the reader asks for.
//!
//! Source: Prometheus' `web/federate.go`; content negotiation and escaping are those of "Exposition formats" and "UTF-8 in Prometheus".

use super::write::{number, push, quote};
use crate::protobuf::{put_bytes, put_f64, put_f64_always, put_int, put_message, put_packed_f64};
use br_model::labels::{METRIC_NAME, is_legacy_label_name, is_legacy_metric_name};
use br_model::{BucketSpan, CounterResetHint, FloatHistogram, Labels, Value};
use br_std::varint;
use std::collections::BTreeMap;
use std::fmt::Write;

/// How names that are no identifiers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escaping {
    AllowUtf8,
    Underscores,
    Dots,
    Values,
}

impl Escaping {
    const ALL: [Self; 4] = [Self::AllowUtf8, Self::Underscores, Self::Dots, Self::Values];

    fn as_str(self) -> &'static str {
        match self {
            Self::AllowUtf8 => "allow-utf-8",
            Self::Underscores => "underscores",
            Self::Dots => "dots",
            Self::Values => "values",
        }
    }

    /// The name of a metric or a label as it is written.
    pub fn escape(self, name: &str) -> String {
        let is_kept =
            |at: usize, one: char| one.is_ascii_alphabetic() || one == '_' || one == ':' || (at > 0 && one.is_ascii_digit());
        let is_whole = name.chars().enumerate().all(|(at, one)| is_kept(at, one));
        if self == Self::AllowUtf8 || (is_whole && self != Self::Dots) {
            return name.to_owned();
        }
        let mut out = String::from(if self == Self::Values { "U__" } else { "" });
        for (at, one) in name.chars().enumerate() {
            match self {
                Self::Dots | Self::Values if one == '_' => out.push_str("__"),
                _ if is_kept(at, one) => out.push(one),
                Self::Dots => out.push_str(if one == '.' { "_dot_" } else { "__" }),
                Self::Values => push(&mut out, format_args!("_{:x}_", u32::from(one))),
                Self::Underscores | Self::AllowUtf8 => out.push('_'),
            }
        }
        out
    }
}

/// What the reader takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Delimited protobuf, the only form with native histograms; else text.
    pub is_protobuf: bool,
    /// Of text: 1.0.0, else 0.0.4.
    pub is_version_1: bool,
    pub escaping: Escaping,
}

impl Accepted {
    /// From an `Accept` header: the best of what there is here, text 0.0.4 where nothing fits.
    pub fn from_header(accept: &str) -> Self {
        let mut ranges: Vec<(f64, Parameters, String)> = Vec::new();
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let media_type = parts.next().unwrap_or_default().to_ascii_lowercase();
            let pair = |part: &str| part.split_once('=').map(|(name, value)| (name.trim().to_ascii_lowercase(), unquoted(value)));
            let parameters: Parameters = parts.filter_map(pair).collect();
            let weight = value_of(&parameters, "q").and_then(|weight| weight.parse().ok()).unwrap_or(1.0);
            ranges.push((weight, parameters, media_type));
        }
        ranges.sort_by(|one, other| other.0.total_cmp(&one.0));
        let mut accepted = Self { is_protobuf: false, is_version_1: false, escaping: Escaping::Underscores };
        for (_, parameters, media_type) in ranges {
            let value = |name| value_of(&parameters, name).unwrap_or_default();
            let escaping = Escaping::ALL.into_iter().find(|escaping| escaping.as_str() == value("escaping"));
            accepted.escaping = escaping.unwrap_or(accepted.escaping);
            match (media_type.as_str(), value("version")) {
                ("application/vnd.google.protobuf", _)
                    if value("proto") == "io.prometheus.client.MetricFamily" && value("encoding") == "delimited" =>
                {
                    return Self { is_protobuf: true, ..accepted };
                }
                ("text/plain", "1.0.0") => return Self { is_version_1: true, ..accepted },
                ("text/plain", "" | "0.0.4") => return accepted,
                _ => {}
            }
        }
        accepted
    }

    pub fn content_type(self) -> String {
        let escaping = self.escaping.as_str();
        if self.is_protobuf {
            return format!(
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited; escaping={escaping}"
            );
        }
        let version = if self.is_version_1 { "1.0.0" } else { "0.0.4" };
        format!("text/plain; version={version}; charset=utf-8; escaping={escaping}")
    }
}

type Parameters = Vec<(String, String)>;

fn unquoted(value: &str) -> String {
    value.trim().trim_matches('"').to_owned()
}

fn value_of<'a>(parameters: &'a [(String, String)], name: &str) -> Option<&'a str> {
    parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// The latest sample of a series.
#[derive(Clone, Debug, PartialEq)]
pub struct Latest {
    pub labels: Labels,
    pub timestamp_ms: i64,
    pub value: Value,
}

/// Families by name, their samples in the order in which they are given. Text has no native histograms: they are left out of it.
pub fn write_federation(samples: &[Latest], accepted: Accepted) -> Vec<u8> {
    let mut families: BTreeMap<(String, Option<bool>), Vec<&Latest>> = BTreeMap::new();
    for sample in samples {
        let Some(name) = sample.labels.get(METRIC_NAME) else { continue };
        let kind = match &sample.value {
            Value::Float(_) => None,
            Value::Histogram(histogram) => Some(histogram.counter_reset_hint == CounterResetHint::Gauge),
        };
        if accepted.is_protobuf || kind.is_none() {
            families.entry((accepted.escaping.escape(name), kind)).or_default().push(sample);
        }
    }
    let mut out = Vec::new();
    for ((name, kind), samples) in families {
        if accepted.is_protobuf {
            protobuf_family(&mut out, &name, kind, &samples, accepted.escaping);
        } else {
            text_family(&mut out, &name, &samples, accepted.escaping);
        }
    }
    out
}

/// A series without `instance` says so: the reader must not put its own target's address there.
fn labels_of(labels: &Labels, escaping: Escaping) -> Vec<(String, &str)> {
    let named = labels.iter().filter(|(name, _)| *name != METRIC_NAME);
    let mut pairs: Vec<_> = named.map(|(name, value)| (escaping.escape(name), value)).collect();
    if labels.get("instance").is_none() {
        pairs.push(("instance".to_owned(), ""));
    }
    pairs
}

fn text_family(out: &mut Vec<u8>, name: &str, samples: &[&Latest], escaping: Escaping) {
    let is_bare = is_legacy_metric_name(name);
    let shown = if is_bare { name.to_owned() } else { quote(name) };
    let mut text = format!("# TYPE {shown} untyped\n");
    for sample in samples {
        let Value::Float(value) = &sample.value else { continue };
        let mut parts: Vec<String> = if is_bare { Vec::new() } else { vec![shown.clone()] };
        for (label, value) in labels_of(&sample.labels, escaping) {
            let label = if is_legacy_label_name(&label) { label } else { quote(&label) };
            parts.push(format!("{label}={}", quote(value)));
        }
        let front = if is_bare { name } else { "" };
        let _ = writeln!(text, "{front}{{{}}} {} {}", parts.join(","), number(*value), sample.timestamp_ms);
    }
    out.extend_from_slice(text.as_bytes());
}

const UNTYPED: i64 = 3;
const HISTOGRAM: i64 = 4;
const GAUGE_HISTOGRAM: i64 = 5;

fn protobuf_family(out: &mut Vec<u8>, name: &str, kind: Option<bool>, samples: &[&Latest], escaping: Escaping) {
    let mut family = Vec::new();
    put_bytes(&mut family, 1, name.as_bytes());
    put_int(
        &mut family,
        3,
        match kind {
            None => UNTYPED,
            Some(false) => HISTOGRAM,
            Some(true) => GAUGE_HISTOGRAM,
        },
    );
    for sample in samples {
        put_message(&mut family, 4, |metric| {
            for (name, value) in labels_of(&sample.labels, escaping) {
                put_message(metric, 1, |pair| {
                    put_bytes(pair, 1, name.as_bytes());
                    put_bytes(pair, 2, value.as_bytes());
                });
            }
            match &sample.value {
                Value::Float(value) => put_message(metric, 5, |untyped| put_f64_always(untyped, 1, *value)),
                Value::Histogram(histogram) => put_message(metric, 7, |out| put_histogram(out, histogram)),
            }
            put_int(metric, 6, sample.timestamp_ms);
        });
    }
    varint::put_u64(out, family.len() as u64);
    out.extend_from_slice(&family);
}

/// With counts that are floats. Custom buckets have no form of their own and go as classic ones.
fn put_histogram(out: &mut Vec<u8>, histogram: &FloatHistogram) {
    put_f64(out, 2, histogram.sum);
    put_f64_always(out, 4, histogram.count);
    if histogram.uses_custom_buckets() {
        return put_classic_buckets(out, histogram);
    }
    varint::put_u64(out, 5 << 3);
    varint::put_i64(out, i64::from(histogram.schema));
    put_f64_always(out, 6, histogram.zero_threshold);
    put_f64_always(out, 8, histogram.zero_count);
    put_spans(out, 9, &histogram.negative_spans);
    put_packed_f64(out, 11, &histogram.negative_buckets);
    put_spans(out, 12, &histogram.positive_spans);
    put_packed_f64(out, 14, &histogram.positive_buckets);
}

fn put_spans(out: &mut Vec<u8>, field: u32, spans: &[BucketSpan]) {
    for span in spans {
        put_message(out, field, |out| {
            varint::put_u64(out, 1 << 3);
            varint::put_i64(out, i64::from(span.offset));
            put_int(out, 2, i64::from(span.length));
        });
    }
}

fn put_classic_buckets(out: &mut Vec<u8>, histogram: &FloatHistogram) {
    let mut counts = vec![0.0; histogram.custom_values.len() + 1];
    let (mut index, mut given) = (0_i64, histogram.positive_buckets.iter());
    for span in &histogram.positive_spans {
        index += i64::from(span.offset);
        for count in given.by_ref().take(span.length as usize) {
            if let Some(slot) = usize::try_from(index).ok().and_then(|at| counts.get_mut(at)) {
                *slot = *count;
            }
            index += 1;
        }
    }
    let mut cumulative = 0.0;
    for (upper, count) in histogram.custom_values.iter().copied().chain([f64::INFINITY]).zip(counts) {
        cumulative += count;
        put_message(out, 3, |bucket| {
            put_f64_always(bucket, 2, upper);
            put_f64_always(bucket, 4, cumulative);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn sample(pairs: &[(&str, &str)], timestamp_ms: i64, value: Value) -> Latest {
        Latest { labels: Labels::from_pairs(pairs.iter().copied()), timestamp_ms, value }
    }

    #[test]
    fn the_reader_chooses() {
        for (accept, content_type) in [
            ("", "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"),
            ("*/*", "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"),
            (
                "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.5",
                "text/plain; version=1.0.0; charset=utf-8; escaping=allow-utf-8",
            ),
            (
                "text/plain;version=0.0.4;q=0.3,text/plain;version=1.0.0;escaping=\"dots\";q=0.6",
                "text/plain; version=1.0.0; charset=utf-8; escaping=dots",
            ),
            (
                "application/openmetrics-text;version=1.0.0;escaping=values;q=0.9,text/plain;q=0.1",
                "text/plain; version=0.0.4; charset=utf-8; escaping=values",
            ),
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.7,text/plain;q=0.6",
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited; escaping=underscores",
            ),
        ] {
            assert_eq!(Accepted::from_header(accept).content_type(), content_type, "{accept}");
        }
    }

    #[test]
    fn names_are_escaped() {
        for (name, underscores, dots, values) in [
            ("http_ok", "http_ok", "http__ok", "http_ok"),
            ("http.status:sum", "http_status:sum", "http_dot_status:sum", "U__http_2e_status:sum"),
            ("ütf.8", "_tf_8", "__tf_dot_8", "U___fc_tf_2e_8"),
            ("1a_b", "_a_b", "__a__b", "U___31_a__b"),
        ] {
            let escape = |escaping: Escaping| escaping.escape(name);
            assert_eq!(escape(Escaping::Underscores), underscores);
            assert_eq!(escape(Escaping::Dots), dots);
            assert_eq!(escape(Escaping::Values), values);
            assert_eq!(escape(Escaping::AllowUtf8), name);
        }
    }

    #[test]
    fn text() {
        let samples = [
            sample(&[(METRIC_NAME, "up"), ("instance", "a:1"), ("job", "x\"y")], 1500, Value::Float(1.0)),
            sample(&[(METRIC_NAME, "a.b"), ("ö", "z")], 2500, Value::Float(f64::INFINITY)),
            sample(&[(METRIC_NAME, "nh")], 1, Value::Histogram(Arc::default())),
        ];
        let text = |accept: &str| String::from_utf8(write_federation(&samples, Accepted::from_header(accept))).expect("text");
        let up = "# TYPE up untyped\nup{instance=\"a:1\",job=\"x\\\"y\"} 1 1500\n";
        assert_eq!(text(""), format!("# TYPE a_b untyped\na_b{{_=\"z\",instance=\"\"}} +Inf 2500\n{up}"));
        let utf8 = format!("# TYPE \"a.b\" untyped\n{{\"a.b\",\"ö\"=\"z\",instance=\"\"}} +Inf 2500\n{up}");
        assert_eq!(text("text/plain;version=1.0.0;escaping=allow-utf-8"), utf8);
    }

    #[test]
    fn native_histograms_come_back_from_protobuf() {
        let span = |offset, length| vec![BucketSpan { offset, length }];
        let histogram = FloatHistogram {
            schema: 2,
            zero_threshold: 0.001,
            zero_count: 1.0,
            count: 7.5,
            sum: -3.0,
            positive_spans: span(-4, 2),
            positive_buckets: vec![1.5, 2.0],
            negative_spans: span(3, 1),
            negative_buckets: vec![3.0],
            ..FloatHistogram::default()
        };
        let samples = [
            sample(&[(METRIC_NAME, "nh"), ("instance", "a")], 1500, Value::Histogram(Arc::new(histogram.clone()))),
            sample(&[(METRIC_NAME, "up"), ("instance", "a")], 2500, Value::Float(0.0)),
        ];
        let accept = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
        let accepted = Accepted::from_header(accept);
        let batch = super::super::parse(
            &write_federation(&samples, accepted),
            &accepted.content_type(),
            false,
            &crate::Limits::default(),
        )
        .expect("our own");
        let found = |name: &str| {
            let series = batch.series.iter().find(|series| series.labels.metric_name() == name).expect("there");
            (series.samples[0].timestamp_ms, series.samples[0].value.clone())
        };
        assert_eq!(found("up"), (2500, Value::Float(0.0)));
        let (timestamp_ms, Value::Histogram(back)) = found("nh") else { panic!("a histogram") };
        assert_eq!(
            (timestamp_ms, FloatHistogram { counter_reset_hint: histogram.counter_reset_hint, ..(*back).clone() }),
            (1500, histogram)
        );
    }
}
