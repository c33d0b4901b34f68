//! A line of output that is a JSON object, as structlog, python-json-logger, loguru and hand-made formatters write it.

use crate::json::{attributes, text, time};
use crate::traceback;
use br_model::{ErrorEvent, Exception, Frame, LogKind, LogRecord, Severity, SpanId, TraceId};
use br_std::Nanos;
use br_std::hash::hash128;
use serde_json::{Map, Value};

/// The keys under which loggers put what a record has a field for; the first that is there counts.
pub(crate) const BODY: [&str; 7] = ["message", "event", "msg", "body", "log", "@message", "text"];
const LEVEL: [&str; 9] =
    ["level", "severity", "levelname", "log.level", "log_level", "lvl", "level_name", "severity_text", "levelno"];
pub(crate) const TIME: [&str; 10] =
    ["timestamp", "@timestamp", "time", "ts", "asctime", "datetime", "date", "created", "eventTime", "t"];
const TRACE: [&str; 6] = ["trace_id", "traceId", "trace.id", "otelTraceID", "traceID", "dd.trace_id"];
const SPAN: [&str; 6] = ["span_id", "spanId", "span.id", "otelSpanID", "spanID", "dd.span_id"];
const EXCEPTION: [&str; 8] =
    ["exception", "exc_info", "exc_text", "traceback", "stack_trace", "error.stack_trace", "exception.stacktrace", "stacktrace"];

/// Makes a record of a line, with every key that has no field of its own as an attribute.
/// `None` when the line is no JSON object. `at` is the time of a record that does not tell its own.
pub fn parse(line: &str, at: Nanos) -> Option<LogRecord> {
    let trimmed = line.trim();
    if !trimmed.starts_with('{') || !trimmed.ends_with('}') {
        return None;
    }
    Some(record(object(trimmed).ok()?, trimmed, &Names::default(), at))
}

/// The object that a line is, or why it is none.
pub(crate) fn object(line: &str) -> Result<Map<String, Value>, serde_json::Error> {
    let map = serde_json::from_str(line).or_else(|error| match with_words_for_numbers(line) {
        // Python's `json` writes numbers that JSON does not have.
        Some(mended) => serde_json::from_str(&mended),
        None => Err(error),
    });
    map.map(from_loguru)
}

/// The text with `NaN`, `Infinity`, `-Infinity` and numbers beyond a double (`1e400`) in quotes, where they are values; `None` when
/// there are none.
fn with_words_for_numbers(line: &str) -> Option<String> {
    let mut out = String::with_capacity(line.len() + 16);
    let (mut rest, mut found) = (line, false);
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' => string_length(rest)?,
            '-' | '+' | '.' | '0'..='9' | 'a'..='z' | 'A'..='Z' => {
                let is_of_word = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '+' | '.');
                let length = rest.find(|character| !is_of_word(character)).unwrap_or(rest.len());
                let word = &rest[..length];
                let is_infinite_number = || {
                    let digits = word.strip_prefix('-').unwrap_or(word);
                    digits.starts_with(|digit: char| digit.is_ascii_digit()) && word.parse::<f64>().is_ok_and(f64::is_infinite)
                };
                if matches!(word, "NaN" | "Infinity" | "-Infinity") || is_infinite_number() {
                    found = true;
                    out.push('"');
                    out.push_str(word);
                    out.push('"');
                    rest = &rest[length..];
                    continue;
                }
                length
            }
            other => other.len_utf8(),
        };
        out.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    found.then_some(out)
}

/// Of the string at the beginning, with both of its quotes; `None` when it does not end.
fn string_length(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            b'"' if !is_escaped => return Some(at + 1),
            b'\\' => is_escaped = !is_escaped,
            _ => is_escaped = false,
        }
    }
    None
}

/// The keys under which a record's time and body are looked for; the first that is there counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Names<'a> {
    pub(crate) time: &'a [&'a str],
    pub(crate) body: &'a [&'a str],
}

impl Default for Names<'_> {
    fn default() -> Self {
        Self { time: &TIME, body: &BODY }
    }
}

/// Makes a record of an object; `line` is how it came.
pub(crate) fn record(mut map: Map<String, Value>, line: &str, names: &Names<'_>, at: Nanos) -> LogRecord {
    let timestamp = take_if(&mut map, names.time, time).unwrap_or(at);
    // pino and bunyan count in tens from another beginning, and always name the process and the host.
    let level_of_number = if map.contains_key("pid") && map.contains_key("hostname") { pino_level } else { python_level };
    let (severity, severity_text) = take_if(&mut map, &LEVEL, |value| level(value, level_of_number)).unwrap_or_default();
    let trace_id = take_if(&mut map, &TRACE, |value| hex_id(value, 32).and_then(TraceId::from_hex)).unwrap_or_default();
    let span_id = take_if(&mut map, &SPAN, |value| hex_id(value, 16).and_then(SpanId::from_hex)).unwrap_or_default();
    let body = take_if(&mut map, names.body, |value| match value {
        Value::String(body) => Some(body.clone()),
        _ => None,
    });
    let body = body.unwrap_or_else(|| line.to_owned());
    let exceptions = EXCEPTION.iter().find_map(|key| exceptions(map.get(*key)?)).unwrap_or_default();
    let mut log = LogRecord {
        timestamp,
        observed: at,
        severity,
        severity_text,
        body,
        attributes: attributes(map),
        trace_id,
        span_id,
        ..LogRecord::default()
    };
    if !exceptions.is_empty() {
        make_error(&mut log, exceptions, line);
    }
    log
}

/// Takes the first of `keys` whose value `read` understands; one that it does not understand stays an attribute.
fn take_if<T>(map: &mut Map<String, Value>, keys: &[&str], read: impl Fn(&Value) -> Option<T>) -> Option<T> {
    for key in keys {
        if let Some(taken) = map.get(*key).and_then(&read) {
            map.remove(*key);
            return Some(taken);
        }
    }
    None
}

/// A level's word, or a logger's number for it.
fn level(value: &Value, level_of_number: fn(i64) -> Severity) -> Option<(Severity, String)> {
    match value {
        Value::String(word) => match word.trim().parse::<i64>() {
            Ok(number) => Some((level_of_number(number), word.clone())),
            Err(_) => Some((Severity::from_text(word.trim()), word.clone())),
        },
        Value::Number(number) => number.as_i64().map(|number| (level_of_number(number), number.to_string())),
        _ => None,
    }
}

/// The severity that a logger means by a number.
pub(crate) fn severity_of_number(number: i64, is_pino: bool) -> Severity {
    if is_pino { pino_level(number) } else { python_level(number) }
}

fn pino_level(number: i64) -> Severity {
    match number {
        i64::MIN..=0 => Severity::UNSPECIFIED,
        1..20 => Severity::TRACE,
        20..30 => Severity::DEBUG,
        30..40 => Severity::INFO,
        40..50 => Severity::WARN,
        50..60 => Severity::ERROR,
        _ => Severity::FATAL,
    }
}

fn python_level(number: i64) -> Severity {
    match number {
        i64::MIN..=0 => Severity::UNSPECIFIED,
        1..10 => Severity::TRACE,
        10..20 => Severity::DEBUG,
        20..30 => Severity::INFO,
        30..40 => Severity::WARN,
        40..50 => Severity::ERROR,
        _ => Severity::FATAL,
    }
}

/// Hexadecimal digits of at most `digits`; `0` is what OpenTelemetry's logging writes outside a span.
fn hex_id(value: &Value, digits: usize) -> Option<&str> {
    value.as_str().filter(|text| text.len() <= digits && (text.len() >= 16 || *text == "0"))
}

/// The exceptions in a field: a traceback's text, structlog's `dict_tracebacks`, or loguru's type and value.
fn exceptions(value: &Value) -> Option<Vec<Exception>> {
    let found = match value {
        Value::String(text) => traceback::parse(text),
        Value::Array(values) => {
            // structlog puts the exception that was raised last first.
            values.iter().rev().filter_map(structured_exception).collect()
        }
        Value::Object(map) => structured_exception(value).into_iter().chain(loguru_exception(map)).take(1).collect(),
        _ => Vec::new(),
    };
    (!found.is_empty()).then_some(found)
}

fn structured_exception(value: &Value) -> Option<Exception> {
    let (module, exception_type) = traceback::split_type(value.get("exc_type")?.as_str()?);
    let frames = value.get("frames").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    Some(Exception {
        exception_type: exception_type.to_owned(),
        value: text(value.get("exc_value").unwrap_or(&Value::Null)),
        module: module.to_owned(),
        frames: frames.iter().map(structured_frame).collect(),
        ..Exception::default()
    })
}

fn structured_frame(frame: &Value) -> Frame {
    let filename = crate::json::string(frame, "filename");
    let line = frame.get("lineno").and_then(Value::as_u64).and_then(|line| u32::try_from(line).ok());
    Frame {
        function: crate::json::string(frame, "name").to_owned(),
        module: traceback::module_of(filename),
        filename: filename.to_owned(),
        path: String::new(),
        line: line.unwrap_or(0),
        in_app: traceback::is_in_app(filename),
        context_line: crate::json::string(frame, "line").trim().to_owned(),
    }
}

fn loguru_exception(map: &Map<String, Value>) -> Option<Exception> {
    let exception_type = map.get("type")?.as_str()?.to_owned();
    Some(Exception { exception_type, value: text(map.get("value")?), ..Exception::default() })
}

/// Makes a record an error: the exceptions that came with it become an event of their own kind.
pub(crate) fn make_error(log: &mut LogRecord, exceptions: Vec<Exception>, raw: &str) {
    log.kind = LogKind::Error;
    if log.severity == Severity::UNSPECIFIED {
        log.severity = Severity::ERROR;
    }
    let identity = format!("{}\u{1f}{}\u{1f}{}\u{1f}{raw}", log.trace_id, log.span_id, log.timestamp);
    log.error = Some(Box::new(ErrorEvent {
        event_id: format!("{:032x}", hash128(identity.as_bytes())),
        exceptions,
        message: log.body.clone(),
        platform: "python".into(),
        handled: Some(true),
        raw: raw.to_owned(),
        ..ErrorEvent::default()
    }));
}

/// loguru's `serialize=True` wraps the record; its parts come up here under the names of OpenTelemetry.
fn from_loguru(mut map: Map<String, Value>) -> Map<String, Value> {
    let is_loguru = map.contains_key("text") && map.get("record").is_some_and(|record| record.get("level").is_some());
    if !is_loguru {
        return map;
    }
    let text = map.remove("text");
    let Some(Value::Object(mut record)) = map.remove("record") else { return map };
    let inner = |value: Option<&Value>, key: &str| value.and_then(|value| value.get(key)).cloned();
    for (to, value) in [
        ("level", inner(record.get("level"), "name")),
        ("timestamp", inner(record.get("time"), "timestamp")),
        ("message", record.remove("message")),
        ("code.function.name", record.remove("function")),
        ("code.line.number", record.remove("line")),
        ("code.file.path", inner(record.get("file"), "path")),
        ("logger.name", record.remove("name")),
        ("process.pid", inner(record.get("process"), "id")),
        ("thread.name", inner(record.get("thread"), "name")),
    ] {
        if let Some(value) = value.filter(|value| !value.is_null()) {
            map.insert(to.to_owned(), value);
        }
    }
    if let Some(exception) = record.remove("exception").filter(|exception| !exception.is_null()) {
        // The text holds the traceback, the record only type and value.
        let has_traceback = text.as_ref().and_then(Value::as_str).is_some_and(|text| text.contains("Traceback (most recent"));
        map.insert("exception".into(), if has_traceback { text.unwrap_or(exception) } else { exception });
    }
    if let Some(Value::Object(extra)) = record.remove("extra") {
        map.extend(extra);
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, body: &str, severity: Severity, attributes: &[&str]) -> LogRecord {
        let record = parse(line, Nanos(7)).expect("a JSON object");
        assert_eq!((record.body.as_str(), record.severity), (body, severity), "{line}");
        let keys: Vec<&str> = record.attributes.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, attributes, "{line}");
        record
    }

    #[test]
    fn loggers_of_python() {
        let structlog =
            r#"{"order": 7, "event": "paid", "level": "warning", "timestamp": "2026-01-02T10:00:00.5Z", "logger": "shop"}"#;
        assert_eq!(check(structlog, "paid", Severity::WARN, &["logger", "order"]).timestamp, Nanos(1_767_348_000_500_000_000));
        let json_logger = r#"{"asctime": "2026-01-02 10:00:00,500", "levelname": "ERROR", "message": "no", "otelTraceID": "0af7651916cd43dd8448eb211c80319c", "otelSpanID": "b7ad6b7169203331"}"#;
        let record = check(json_logger, "no", Severity::ERROR, &[]);
        assert_eq!(record.trace_id.to_string(), "0af7651916cd43dd8448eb211c80319c");
        check(r#"{"levelno": 40, "msg": "x", "otelTraceID": "0"}"#, "x", Severity::ERROR, &[]);
        let loguru = r#"{"text": "t\n", "record": {"level": {"name": "INFO", "no": 20}, "message": "hello", "time": {"timestamp": 1767348000.5}, "extra": {"user": 1}, "exception": null, "function": "f", "line": 3}}"#;
        let record = check(loguru, "hello", Severity::INFO, &["code.function.name", "code.line.number", "user"]);
        assert_eq!(record.timestamp, Nanos(1_767_348_000_500_000_000));
    }

    #[test]
    fn a_traceback_makes_an_error() {
        let line = r#"{"event": "failed", "level": "error", "exception": "Traceback (most recent call last):\n  File \"a.py\", line 1, in f\nValueError: bad"}"#;
        let record = check(line, "failed", Severity::ERROR, &["exception"]);
        assert_eq!(record.error.map(|error| error.title()).as_deref(), Some("ValueError: bad"));
        let line = r#"{"event": "failed", "exception": [{"exc_type": "KeyError", "exc_value": "'a'", "frames": [{"filename": "/srv/a.py", "lineno": 4, "name": "g"}]}]}"#;
        let record = parse(line, Nanos(7)).expect("a JSON object");
        let error = record.error.expect("an error");
        assert_eq!((error.title().as_str(), error.exceptions[0].frames[0].line), ("KeyError: 'a'", 4));
    }

    #[test]
    fn numbers_that_json_does_not_have() {
        let line =
            r#"{"event": "NaN, \"Infinity\" \\", "level": "info", "a": NaN, "b": [-Infinity, 1e400], "c": Infinity, "d": 1.5}"#;
        let record = check(line, "NaN, \"Infinity\" \\", Severity::INFO, &["a", "b", "c", "d"]);
        let shown = |key: &str| record.attributes.get(key).map(ToString::to_string);
        assert_eq!(
            ["a", "c", "d"].map(shown).map(Option::unwrap_or_default),
            ["NaN".to_owned(), "Infinity".to_owned(), "1.5".to_owned()]
        );
        for line in ["{NaN}", r#"{"a": NaNs}"#, r#"{"a": "NaN}"#, r#"{"a": NaN"b}"#] {
            assert_eq!(parse(line, Nanos(0)), None, "{line}");
        }
    }

    #[test]
    fn levels_as_numbers() {
        for (line, severity) in [
            (r#"{"msg": "x", "level": 30}"#, Severity::WARN),
            (r#"{"msg": "x", "level": 50}"#, Severity::FATAL),
            (r#"{"msg": "x", "level": 30, "pid": 7, "hostname": "h"}"#, Severity::INFO),
            (r#"{"msg": "x", "level": 50, "pid": 7, "hostname": "h"}"#, Severity::ERROR),
            (r#"{"msg": "x", "level": 60, "pid": 7, "hostname": "h"}"#, Severity::FATAL),
        ] {
            assert_eq!(parse(line, Nanos(0)).map(|record| record.severity), Some(severity), "{line}");
        }
    }

    #[test]
    fn other_lines_are_left_alone() {
        for line in ["", "{", "{not json}", "[1]", "plain {text}", "12"] {
            assert_eq!(parse(line, Nanos(0)), None, "{line}");
        }
        let record = parse(r#"{"a": 1, "time": "soon", "level": null}"#, Nanos(9)).expect("a JSON object");
        assert_eq!((record.timestamp, record.body.as_str()), (Nanos(9), r#"{"a": 1, "time": "soon", "level": null}"#));
        assert_eq!(record.attributes.len(), 3);
    }
}
