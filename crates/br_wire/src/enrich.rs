//! What a log line says of itself and its sender did not: fields of a JSON line, the ids of a trace, the time.
//!
//! Nothing of this is done unless it is asked for. What a sender gives is never replaced, but for the time, which shippers set to when
//! they read the line.

use crate::amount::Memory;
use crate::json_line::{self, BODY, Names, TIME};
use crate::{Limits, Result, document, logfmt, marks};
use br_model::{LogBatch, LogKind, LogRecord, Severity, SpanId, TraceId};
use br_std::Nanos;
use serde_json::{Map, Value};

/// What is to be looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EnrichPolicy {
    /// A line that is a JSON object becomes its message, its other fields attributes.
    pub json: bool,
    /// The same for a line that is nothing but pairs, `key=value`.
    pub logfmt: bool,
    /// Ids of a trace and a span that stand in the line, where the record has none.
    pub trace_ids: bool,
    /// The time that begins the line, or stands in its JSON, instead of the record's.
    pub time: bool,
}

impl EnrichPolicy {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// As a journal's context keeps it.
    pub fn to_text(&self) -> String {
        let parts = [(self.json, "json"), (self.logfmt, "logfmt"), (self.trace_ids, "trace_ids"), (self.time, "time")];
        parts.into_iter().filter(|(is_on, _)| *is_on).map(|(_, name)| name).collect::<Vec<_>>().join(",")
    }

    pub fn of_text(text: &str) -> Self {
        let has = |name| text.split(',').any(|part| part == name);
        Self { json: has("json"), logfmt: has("logfmt"), trace_ids: has("trace_ids"), time: has("time") }
    }
}

/// Looks for what the policy asks for in each log line; errors and events tell it all themselves.
pub fn enrich(batch: &mut LogBatch, policy: EnrichPolicy, limits: &Limits) -> Result<()> {
    let mut memory = Memory::new(limits);
    let records = batch.groups.iter_mut().flat_map(|group| &mut group.records);
    for record in records.filter(|record| record.kind == LogKind::Log) {
        if policy.trace_ids && record.trace_id.is_none() {
            (record.trace_id, record.span_id) = ids(&record.body, record.span_id);
        }
        if policy.time
            && let Some(time) = time_at_start(&record.body)
        {
            record.timestamp = time;
        }
        let is_object = record.body.trim_start().starts_with('{');
        if policy.json && is_object {
            from_json(record, policy, &mut memory, limits)?;
        } else if policy.logfmt && !is_object {
            from_logfmt(record, policy, &mut memory, limits)?;
        }
    }
    Ok(())
}

fn from_json(record: &mut LogRecord, policy: EnrichPolicy, memory: &mut Memory, limits: &Limits) -> Result<()> {
    let line = record.body.trim();
    if !line.starts_with('{') || !line.ends_with('}') {
        return Ok(());
    }
    memory.take(line.len().saturating_mul(4))?;
    let Ok(map) = json_line::object(line) else { return Ok(()) };
    let map = document::flat(map, memory, limits)?;
    let told = record_of(map, line, policy, record.timestamp);
    take(record, told, policy, limits);
    Ok(())
}

/// What a pair takes beside its text.
const PAIR_BYTES: usize = 160;

fn from_logfmt(record: &mut LogRecord, policy: EnrichPolicy, memory: &mut Memory, limits: &Limits) -> Result<()> {
    let pairs = memchr::memchr_iter(b'=', record.body.as_bytes()).count();
    memory.take(pairs.saturating_mul(PAIR_BYTES).saturating_add(record.body.len()))?;
    let Some(map) = logfmt::object(&record.body) else { return Ok(()) };
    let mut told = record_of(map, &record.body, policy, record.timestamp);
    logfmt::type_values(&mut told.attributes);
    take(record, told, policy, limits);
    Ok(())
}

fn record_of(map: Map<String, Value>, line: &str, policy: EnrichPolicy, at: Nanos) -> LogRecord {
    let time: &[&str] = if policy.time { &TIME } else { &[] };
    json_line::record(map, line, &Names { time, body: &BODY }, at)
}

/// Gives the record what its line tells.
fn take(record: &mut LogRecord, told: LogRecord, policy: EnrichPolicy, limits: &Limits) {
    let mut fields = told.attributes;
    if record.trace_id.is_none() {
        record.trace_id = told.trace_id;
    }
    if record.span_id.is_none() {
        record.span_id = told.span_id;
    }
    if record.severity == Severity::UNSPECIFIED {
        (record.severity, record.severity_text) = (told.severity, told.severity_text);
    } else if !told.severity_text.is_empty() && told.severity != record.severity {
        fields.push("level", told.severity_text);
    }
    if told.error.is_some() {
        (record.kind, record.error) = (told.kind, told.error);
    }
    if policy.time {
        record.timestamp = told.timestamp;
    }
    record.body = told.body;
    marks::add(&mut record.attributes, fields, limits);
}

/// A time is looked for no further into a line.
const TIME_BYTES_MAX: usize = 40;

/// `2026-11-27T03:03:03.5Z`, `2026-11-27 03:03:03,500`, also in brackets; without a zone it is UTC.
fn time_at_start(line: &str) -> Option<Nanos> {
    let line = line.trim_start_matches(['[', ' ', '(']);
    let is_date = |bytes: &[u8]| {
        bytes.len() > 10 && bytes[..4].iter().all(u8::is_ascii_digit) && bytes[4] == b'-' && matches!(bytes[10], b'T' | b' ')
    };
    if !is_date(line.as_bytes()) {
        return None;
    }
    let head = &line[..line.floor_char_boundary(TIME_BYTES_MAX)];
    let is_of_time = |character: char| character.is_ascii_digit() || matches!(character, ':' | '.' | ',' | '+' | '-' | 'Z');
    let end = head[11..].find(|character| !is_of_time(character)).map_or(head.len(), |end| 11 + end);
    // A comma or a dash may as well stand behind the time.
    let text = head[..end].trim_end_matches([',', '-', ':', '.', '+']);
    crate::json::time(&Value::from(text))
}

/// Ids are looked for no further into a line.
const IDS_BYTES_MAX: usize = 4096;

/// `trace_id=…`, `"traceId": "…"`, `trace.id: …`, `traceparent=00-…-…-01`; and of the span.
fn ids(line: &str, span_id: SpanId) -> (TraceId, SpanId) {
    let head = &line[..line.floor_char_boundary(IDS_BYTES_MAX)];
    if let Some(parent) = value_behind(head, "race", &["parent"], 55) {
        let mut parts = parent.split('-').skip(1);
        let trace = parts.next().filter(|id| id.len() == 32).and_then(TraceId::from_hex);
        if let Some(trace) = trace {
            let span = parts.next().filter(|id| id.len() == 16).and_then(SpanId::from_hex);
            return (trace, span.unwrap_or(span_id));
        }
    }
    let trace = value_behind(head, "race", &ID_WORDS, 32).and_then(TraceId::from_hex);
    let Some(trace) = trace else { return (TraceId::default(), span_id) };
    let span = if span_id.is_none() { value_behind(head, "pan", &ID_WORDS, 16).and_then(SpanId::from_hex) } else { None };
    (trace, span.unwrap_or(span_id))
}

const ID_WORDS: [&str; 5] = ["id", "_id", ".id", "-id", " id"];

/// The hexadecimal digits and dashes, `length` of them, behind a word of `stem` and one of `endings` in any case.
fn value_behind<'t>(text: &'t str, stem: &str, endings: &[&str], length: usize) -> Option<&'t str> {
    memchr::memmem::find_iter(text.as_bytes(), stem.as_bytes()).find_map(|at| {
        let rest = &text[at + stem.len()..];
        let begins = |ending: &&&str| rest.get(..ending.len()).is_some_and(|start| start.eq_ignore_ascii_case(ending));
        let ending = endings.iter().find(begins)?;
        let rest = rest[ending.len()..].trim_start_matches(['"', '\'', ' ']);
        let rest = rest.strip_prefix([':', '='])?.trim_start_matches(['"', '\'', ' ']);
        let end = rest.find(|character: char| !character.is_ascii_hexdigit() && character != '-').unwrap_or(rest.len());
        (end == length).then(|| &rest[..end])
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use br_model::{AttributeValue, Attributes, ResourceLogs};

    const ALL: EnrichPolicy = EnrichPolicy { json: true, logfmt: true, trace_ids: true, time: true };
    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    fn enriched(body: &str, policy: EnrichPolicy) -> LogRecord {
        let attributes: Attributes = [("order", 1_i64)].into_iter().collect();
        let record = LogRecord { timestamp: Nanos(7), body: body.into(), attributes, ..LogRecord::default() };
        let mut batch = LogBatch { groups: vec![ResourceLogs { records: vec![record], ..ResourceLogs::default() }] };
        enrich(&mut batch, policy, &Limits::default()).expect("small");
        batch.groups.remove(0).records.remove(0)
    }

    #[test]
    fn json_becomes_fields() {
        let line = format!(
            r#"{{"message": "paid", "level": "warning", "order": 2, "user": {{"id": 9}}, "trace_id": "{TRACE}", "time": "2026-01-02T10:00:00.5Z"}}"#
        );
        let record = enriched(&line, ALL);
        let shown: Vec<String> = record.attributes.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(shown, ["order=1", "user.id=9"], "the sender's own stay");
        assert_eq!((record.body.as_str(), record.severity), ("paid", Severity::WARN));
        assert_eq!((record.trace_id.to_string().as_str(), record.timestamp.0), (TRACE, 1_767_348_000_500_000_000));
        let record = enriched(&line, EnrichPolicy { json: true, ..EnrichPolicy::default() });
        assert_eq!((record.timestamp, record.attributes.get_str("time")), (Nanos(7), Some("2026-01-02T10:00:00.5Z")));
        let record = enriched(
            r#"{"message": "no", "exception": "Traceback (most recent call last):\n  File \"a.py\", line 1, in f\nE: x"}"#,
            ALL,
        );
        assert_eq!((record.kind, record.error.map(|error| error.title()).as_deref()), (LogKind::Error, Some("E: x")));
        assert_eq!(enriched(&line, EnrichPolicy::default()).body, line);
        for other in ["{broken", "[1]", "plain"] {
            assert_eq!(enriched(other, ALL).body, other);
        }
    }

    #[test]
    fn pairs_become_fields() {
        let line = format!(r#"ts=2026-01-02T10:00:00.5Z level=warn msg="no stock" left=0 sku=007 trace_id={TRACE}"#);
        let record = enriched(&line, ALL);
        let shown: Vec<String> = record.attributes.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(shown, ["order=1", "left=0", "sku=007"]);
        assert_eq!(record.attributes.get("left"), Some(&AttributeValue::Int(0)));
        assert_eq!((record.body.as_str(), record.severity), ("no stock", Severity::WARN));
        assert_eq!((record.trace_id.to_string().as_str(), record.timestamp.0), (TRACE, 1_767_348_000_500_000_000));
        for other in ["state=ok then what", "{\"a\": 1} b=2 c=3"] {
            assert_eq!(enriched(other, ALL).body, other);
        }
    }

    #[test]
    fn ids_in_lines() {
        for (line, has_span) in [
            (format!("INFO [trace_id={TRACE} span_id={SPAN}] paid"), true),
            (format!(r#"paid {{"traceId": "{TRACE}", "spanId":"{SPAN}"}}"#), true),
            (format!("trace.id: {TRACE}"), false),
            (format!("otelTraceID={TRACE} otelSpanID={SPAN}"), true),
            (format!("traceparent=00-{TRACE}-{SPAN}-01"), true),
            (format!("trace-id=short Trace-ID='{TRACE}'"), false),
        ] {
            let record = enriched(&line, ALL);
            assert_eq!(record.trace_id.to_string(), TRACE, "{line}");
            assert_eq!(record.span_id == SpanId::from_hex(SPAN).expect("16 digits"), has_span, "{line}");
        }
        for line in [format!("race {TRACE}"), format!("trace_id={TRACE}0"), format!("grace_id é {TRACE}"), "trace_id=".to_owned()]
        {
            assert!(enriched(&line, ALL).trace_id.is_none(), "{line}");
        }
    }

    #[test]
    fn times_at_the_beginning() {
        for line in [
            "2026-01-02T10:00:00.5Z INFO x",
            "[2026-01-02 10:00:00,500] x",
            "2026-01-02 10:00:00,500 - shop - INFO",
            "2026-01-02T11:00:00.500+01:00: x",
            "2026-01-02T10:00:00.5",
        ] {
            assert_eq!(enriched(line, ALL).timestamp.0, 1_767_348_000_500_000_000, "{line}");
        }
        for line in ["2026-13-02T10:00:00Z x", "2026-01-02", "é026-01-02T10:00:00Z", "order 2026-01-02T10:00:00Z", "12"] {
            assert_eq!(enriched(line, ALL).timestamp, Nanos(7), "{line}");
        }
    }

    #[test]
    fn a_policy_is_kept_as_text() {
        for text in ["", "json", "trace_ids,time", "json,logfmt,trace_ids,time"] {
            assert_eq!(EnrichPolicy::of_text(text).to_text(), text);
        }
        assert!(EnrichPolicy::of_text("").is_empty() && !ALL.is_empty());
    }
}
