//! OTLP/JSON: hexadecimal ids, enums as numbers, 64-bit integers as strings or numbers, unknown fields ignored.
//!
//! Fields may have the names of the `.proto` files, `time_unix_nano` beside `timeUnixNano`: protobuf's JSON mapping asks parsers to
//! take both.
//!
//! What the generated types refuse but senders do write is put right first: names of enums, `null`, NaN as text, ids in
//! base64, unknown fields inside a value. A record that cannot be read even then is left out, and told.

use crate::{Limits, Result, WireError, amount};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::trace::v1::Span;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::fmt::Write as _;

/// What could be read, and what is wrong with the rest.
pub(super) fn decode<M: DeserializeOwned>(body: &[u8], limits: &Limits) -> Result<(M, Vec<Complaint>)> {
    let malformed = |error: serde_json::Error| WireError::Malformed(format!("OTLP JSON: {error}"));
    // The generated types know one name of each field; by the other one they would take it for unknown.
    if has_proto_names(body) {
        amount::check_json(body, limits)?;
        let mut value = serde_json::from_slice(body).map_err(malformed)?;
        rename(&mut value);
        return salvaged(value).map_err(malformed);
    }
    let error = match serde_json::from_slice(body) {
        Ok(message) => return Ok((message, Vec::new())),
        Err(error) => malformed(error),
    };
    amount::check_json(body, limits)?;
    let Ok(value) = serde_json::from_slice::<Value>(body) else { return Err(error) };
    salvaged(value).map_err(|_| error)
}

fn salvaged<M: DeserializeOwned>(mut value: Value) -> serde_json::Result<(M, Vec<Complaint>)> {
    normalise(&mut value);
    let mut salvage = Salvage::default();
    salvage.walk(&mut value, &mut String::new());
    Ok((serde_json::from_value(value)?, salvage.complaints))
}

/// The longest name of a field that is looked for, and more.
const NAME_BYTES_MAX: usize = 64;

/// Whether some field has a name with an underscore. Names and texts that users choose are never names of fields in OTLP.
fn has_proto_names(body: &[u8]) -> bool {
    let is_of_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let mut rest = 0;
    while let Some(found) = memchr::memchr(b'_', &body[rest..]) {
        let at = rest + found;
        let before = body[..at].iter().rev().take(NAME_BYTES_MAX).find(|byte| !is_of_name(**byte));
        let length = body[at..].iter().take(NAME_BYTES_MAX).take_while(|byte| is_of_name(**byte)).count();
        let behind = &body[at + length..];
        if before == Some(&b'"')
            && let Some(behind) = behind.strip_prefix(b"\"")
            && behind.trim_ascii_start().first() == Some(&b':')
        {
            return true;
        }
        rest = at + length;
    }
    false
}

/// Gives fields the names that the generated types know. Where a field is there by both, that one stays.
fn rename(value: &mut Value) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(rename),
        Value::Object(map) => {
            map.values_mut().for_each(rename);
            let names: Vec<String> = map.keys().filter(|name| name.contains('_')).cloned().collect();
            for name in names {
                let Some(inner) = map.remove(&name) else { continue };
                map.entry(lower_camel(&name)).or_insert(inner);
            }
        }
        _ => {}
    }
}

/// `time_unix_nano` is `timeUnixNano`.
fn lower_camel(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut is_start = false;
    for character in name.chars() {
        match character {
            '_' => is_start = true,
            _ if is_start => {
                out.push(character.to_ascii_uppercase());
                is_start = false;
            }
            _ => out.push(character),
        }
    }
    out
}

/// What is wrong in one place of a body that can be read otherwise.
pub(super) struct Complaint {
    /// The number of the record in its request.
    pub(super) index: usize,
    /// Whether the record was left out; else only the part that is wrong.
    pub(super) is_rejected: bool,
    pub(super) reason: String,
}

/// Takes out the records that cannot be read, so that the others can.
#[derive(Default)]
struct Salvage {
    index: usize,
    complaints: Vec<Complaint>,
}

impl Salvage {
    /// `path` says where `value` stands, such as `resourceLogs[0].scopeLogs[0]`.
    fn walk(&mut self, value: &mut Value, path: &mut String) {
        let Value::Object(map) = value else { return };
        for (key, inner) in map.iter_mut() {
            let Value::Array(items) = inner else { continue };
            let base = path.len();
            let _ = write!(path, "{}{key}", if base == 0 { "" } else { "." });
            if matches!(key.as_str(), "spans" | "logRecords" | "metrics") {
                self.records(key, items, path);
            } else {
                for (at, item) in items.iter_mut().enumerate() {
                    let inside = path.len();
                    let _ = write!(path, "[{at}]");
                    self.walk(item, path);
                    path.truncate(inside);
                }
            }
            path.truncate(base);
        }
    }

    fn records(&mut self, kind: &str, items: &mut Vec<Value>, path: &str) {
        let mut at = 0;
        items.retain_mut(|record| {
            let place = format!("{path}[{at}]");
            let index = self.index;
            at += 1;
            self.index += 1;
            // A span is nothing without its ids; a line or a sample is worth keeping without its trace.
            if kind != "spans" {
                for reason in drop_wrong_ids(record) {
                    self.complaints.push(Complaint {
                        index,
                        is_rejected: false,
                        reason: format!("{place}: {reason}; kept without it"),
                    });
                }
            }
            let Err(error) = read_record(kind, record) else { return true };
            let ids = wrong_ids(record).join(", ");
            let reason = if ids.is_empty() { error.to_string() } else { ids };
            self.complaints.push(Complaint { index, is_rejected: true, reason: format!("{place}: {reason}") });
            false
        });
    }
}

fn read_record(kind: &str, record: &Value) -> serde_json::Result<()> {
    match kind {
        "spans" => Span::deserialize(record).map(drop),
        "logRecords" => LogRecord::deserialize(record).map(drop),
        _ => Metric::deserialize(record).map(drop),
    }
}

const IDS: [&str; 3] = ["traceId", "spanId", "parentSpanId"];

/// The ids of a record, not those inside it, that are not hexadecimal.
fn wrong_ids(record: &Value) -> Vec<String> {
    let texts = IDS.into_iter().filter_map(|key| Some((key, record.get(key)?.as_str()?)));
    let wrong = texts.filter(|(_, text)| hex::decode(text).is_err());
    wrong.map(|(key, text)| format!("{key} {text:?} is not hexadecimal")).collect()
}

/// Takes ids that are not hexadecimal out of a record and of what is inside it, such as exemplars.
fn drop_wrong_ids(value: &mut Value) -> Vec<String> {
    let mut reasons = wrong_ids(value);
    match value {
        Value::Object(map) => {
            map.retain(|key, value| !IDS.contains(&key.as_str()) || value.as_str().is_none_or(|text| hex::decode(text).is_ok()));
            reasons.extend(map.values_mut().flat_map(drop_wrong_ids));
        }
        Value::Array(values) => reasons.extend(values.iter_mut().flat_map(drop_wrong_ids)),
        _ => {}
    }
    reasons
}

fn normalise(value: &mut Value) {
    match value {
        Value::Array(values) => {
            values.retain(|value| !value.is_null());
            values.iter_mut().for_each(normalise);
        }
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            if let Some(any_value) = map.get_mut("value").and_then(Value::as_object_mut) {
                keep_known_value(any_value);
            }
            for (key, value) in map.iter_mut() {
                normalise(value);
                normalise_field(key, value);
            }
        }
        _ => {}
    }
}

/// The members of an `AnyValue`; a double may be written as text, an integer as a float.
fn keep_known_value(map: &mut Map<String, Value>) {
    const KNOWN: [&str; 7] = ["stringValue", "boolValue", "intValue", "doubleValue", "arrayValue", "kvlistValue", "bytesValue"];
    map.retain(|key, value| KNOWN.contains(&key.as_str()) && !value.is_null());
}

fn normalise_field(key: &str, value: &mut Value) {
    match (key, &*value) {
        ("kind" | "code" | "severityNumber" | "aggregationTemporality", Value::String(name)) => {
            if let Some(number) = enum_number(key, name) {
                *value = number.into();
            }
        }
        ("doubleValue" | "asDouble", Value::String(text)) => {
            // JSON has no NaN: it becomes text, which is how it was written.
            if let Some(number) = text.parse().ok().and_then(serde_json::Number::from_f64) {
                *value = Value::Number(number);
            }
        }
        (key, Value::String(text)) if IDS.contains(&key) => {
            if let Some(id) = from_base64(text) {
                *value = id.into();
            }
        }
        ("asInt" | "intValue", Value::Number(number)) => {
            if let Some(whole) = number.as_f64().filter(|number| number.fract() == 0.0 && number.abs() < 9e15) {
                *value = (whole as i64).to_string().into();
            }
        }
        _ => {}
    }
}

/// An id in base64, as protobuf's own JSON mapping has bytes and Tempo writes them. None of these is hexadecimal as well: they end in
/// an equals sign.
fn from_base64(text: &str) -> Option<String> {
    let bytes = STANDARD.decode(text).ok().filter(|bytes| text.ends_with('=') && matches!(bytes.len(), 8 | 16))?;
    Some(hex::encode(bytes))
}

fn enum_number(field: &str, name: &str) -> Option<i64> {
    if let Ok(number) = name.parse() {
        return Some(number);
    }
    let names: &[&str] = match field {
        "kind" => &["UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"],
        "code" => &["UNSET", "OK", "ERROR"],
        "aggregationTemporality" => &["UNSPECIFIED", "DELTA", "CUMULATIVE"],
        _ => return severity_number(name),
    };
    names.iter().position(|known| name.ends_with(&format!("_{known}")) || name == *known).map(|at| at as i64)
}

/// `SEVERITY_NUMBER_WARN3` is 15.
fn severity_number(name: &str) -> Option<i64> {
    let name = name.strip_prefix("SEVERITY_NUMBER_").unwrap_or(name);
    let step = name.bytes().last().filter(|byte| (b'2'..=b'4').contains(byte)).map_or(0, |byte| i64::from(byte - b'1'));
    let word = name.trim_end_matches(['2', '3', '4']);
    let first = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"].iter().position(|known| *known == word)?;
    Some(first as i64 * 4 + 1 + step)
}

#[cfg(test)]
mod tests {
    use super::super::{Encoding, MetricOptions, decode_logs, decode_metrics, decode_traces};
    use super::has_proto_names;
    use crate::Limits;
    use br_model::{LogBatch, Severity, SpanBatch};
    use br_std::Nanos;

    #[test]
    fn one_bad_record_loses_nothing_of_the_others() {
        let good = r#"{"traceId":"0102030405060708090a0b0c0d0e0f10","spanId":"0102030405060708","name":"good"}"#;
        let spans = format!(
            r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"traceId":"zz","spanId":"0102030405060708","name":"bad"}},{good}]}}]}}]}}"#
        );
        let decoded = decode_traces(spans.as_bytes(), Encoding::Json, Nanos(1), &Limits::default()).expect("the good part");
        assert_eq!((decoded.rejected_count, decoded.value.groups[0].spans[0].name.as_str()), (1, "good"));
        assert_eq!(decoded.message(), r#"0: resourceSpans[0].scopeSpans[0].spans[0]: traceId "zz" is not hexadecimal"#);

        let logs = r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[
            {"traceId":"zz","body":{"stringValue":"kept"}},{"timeUnixNano":"soon","body":{"stringValue":"lost"}},{"body":{"stringValue":"good"}}]}]}]}"#;
        let decoded = decode_logs(logs.as_bytes(), Encoding::Json, Nanos(1), &Limits::default()).expect("the good part");
        let lines: Vec<&str> = decoded.value.groups[0].records.iter().map(|record| record.body.as_str()).collect();
        assert_eq!((decoded.rejected_count, lines), (1, vec!["kept", "good"]));
        assert!(decoded.message().starts_with(
            r#"0: resourceLogs[0].scopeLogs[0].logRecords[0]: traceId "zz" is not hexadecimal; kept without it; 1: "#
        ));
    }

    fn logs(body: &str) -> LogBatch {
        decode_logs(body.as_bytes(), Encoding::Json, Nanos(1), &Limits::default()).expect("logs").value
    }

    fn spans(body: &str) -> SpanBatch {
        decode_traces(body.as_bytes(), Encoding::Json, Nanos(1), &Limits::default()).expect("traces").value
    }

    /// As another parser of the same messages names the fields.
    fn with_proto_names(body: &str) -> String {
        let mut out = String::new();
        for (at, part) in body.split('"').enumerate() {
            let is_name = at % 2 == 1 && part.starts_with(|first: char| first.is_ascii_lowercase()) && !part.contains([' ', '.']);
            if at > 0 {
                out.push('"');
            }
            for character in part.chars() {
                if is_name && character.is_ascii_uppercase() {
                    out.push('_');
                    out.push(character.to_ascii_lowercase());
                } else {
                    out.push(character);
                }
            }
        }
        out
    }

    #[test]
    fn fields_go_by_both_of_their_names() {
        let body = r#"{"resourceLogs":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"my shop"}}]},
            "scopeLogs":[{"logRecords":[{"timeUnixNano":"7","observedTimeUnixNano":"8","severityNumber":"SEVERITY_NUMBER_WARN2",
            "traceId":"0102030405060708090a0b0c0d0e0f10","spanId":"0102030405060708","body":{"kvlistValue":{"values":[
            {"key":"user_id","value":{"intValue":3}},{"key":"parts","value":{"arrayValue":{"values":[{"boolValue":true}]}}}]}},
            "attributes":[{"key":"a_b","value":{"doubleValue":1.5}},{"key":"raw","value":{"bytesValue":"AQI="}}]}]}]}]}"#;
        let expect = logs(body);
        assert_eq!((expect.groups[0].records[0].severity, expect.groups[0].records[0].timestamp), (Severity(14), Nanos(7)));
        let proto = with_proto_names(body);
        assert!(has_proto_names(proto.as_bytes()) && !has_proto_names(body.as_bytes()), "{proto}");
        assert_eq!(logs(&proto), expect);

        let body = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"0102030405060708090a0b0c0d0e0f10","spanId":"0102030405060708",
            "parentSpanId":"0102030405060709","traceState":"a=b","name":"pay","kind":2,"startTimeUnixNano":"5","endTimeUnixNano":"9",
            "events":[{"timeUnixNano":"6","name":"retry"}],"links":[{"traceId":"0102030405060708090a0b0c0d0e0f11","spanId":"0102030405060708"}],
            "status":{"code":2,"message":"no"}}]}]}]}"#;
        assert_eq!(spans(&with_proto_names(body)), spans(body));

        let body = r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[
            {"name":"sold","sum":{"aggregationTemporality":2,"isMonotonic":true,"dataPoints":[{"asInt":"7","timeUnixNano":"9000000"}]}},
            {"name":"took","histogram":{"aggregationTemporality":2,"dataPoints":[{"timeUnixNano":"9000000","count":"3","sum":4.5,
            "bucketCounts":["1","2"],"explicitBounds":[2.5]}]}},
            {"name":"size","exponentialHistogram":{"aggregationTemporality":2,"dataPoints":[{"timeUnixNano":"9000000","count":"3","sum":4.5,
            "scale":1,"zeroCount":"1","positive":{"offset":0,"bucketCounts":["2"]}}]}},
            {"name":"old","summary":{"dataPoints":[{"timeUnixNano":"9000000","count":"3","sum":4.5,"quantileValues":[{"quantile":0.5,"value":1.5}]}]}}]}]}]}"#;
        let metrics = |body: &str| {
            let options = MetricOptions::default();
            decode_metrics(body.as_bytes(), Encoding::Json, Nanos(1), &options, &Limits::default())
                .expect("metrics")
                .value
                .cumulative
        };
        assert!(metrics(body).sample_count() > 5, "each of the four kinds is there");
        assert_eq!(metrics(&with_proto_names(body)), metrics(body));
    }

    #[test]
    fn ids_may_be_in_base64() {
        let body = |ids: &str| format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{{ids},"name":"a"}}]}}]}}]}}"#);
        let hexadecimal = body(
            r#""traceId":"314919 5ffb0bec05347b48efe8ecc1b0","spanId":"4b23de25d1fb6641","parentSpanId":"3ef58fd67f3c3c44""#,
        );
        let base64 = body(r#""traceId":"MUkZX/sL7AU0e0jv6OzBsA==","spanId":"SyPeJdH7ZkE=","parentSpanId":"PvWP1n88PEQ=""#);
        assert_eq!(spans(&base64), spans(&hexadecimal.replace(' ', "")));
        let short = body(r#""traceId":"MUkZXw==","spanId":"SyPeJdH7ZkE=""#);
        let decoded = decode_traces(short.as_bytes(), Encoding::Json, Nanos(1), &Limits::default()).expect("a complaint");
        assert!(decoded.rejected_count == 1 && decoded.message().contains("MUkZXw=="), "{}", decoded.message());
    }

    #[test]
    fn only_names_of_fields_are_renamed() {
        let body = r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"severityText":"one","severity_text":"two",
            "body":{"string_value":"{\"user_id\": \"a_b\"}"},"attributes":[{"key":"user_id","value":{"string_value":"c_d"}}]}]}]}]}"#;
        let record = &logs(body).groups[0].records[0];
        assert_eq!((record.severity_text.as_str(), record.body.as_str()), ("one", r#"{"user_id": "a_b"}"#));
        assert_eq!(record.attributes.get_str("user_id"), Some("c_d"));
        let texts = br#"{"key":"user_id","value":{"stringValue":"{\"user_id\":1} a_b\":"},"x":"a_b" , "y":["a_b"]}"#;
        assert!(!has_proto_names(texts), "these are texts");
        assert!(has_proto_names(br#"{"trace_id" : "00"}"#) && has_proto_names(br#"{"a_b_c":1}"#));
        assert!(!has_proto_names(b"_") && !has_proto_names(b"\"_") && !has_proto_names(b"_\":"));
    }

    #[test]
    fn what_is_wrong_is_told_for_both_names() {
        let body = r#"{"resource_spans":[{"scope_spans":[{"spans":[{"trace_id":"zz","span_id":"0102030405060708"}]}]}]}"#;
        let decoded =
            decode_traces(body.as_bytes(), Encoding::Json, Nanos(1), &Limits::default()).expect("nothing but complaints");
        assert_eq!((decoded.rejected_count, decoded.value.span_count()), (1, 0));
        let error = decode_traces(br#"{"resource_spans":7}"#, Encoding::Json, Nanos(1), &Limits::default()).expect_err("no list");
        assert!(error.to_string().contains("OTLP JSON"), "{error}");
    }
}
