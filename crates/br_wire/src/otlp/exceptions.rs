//! Exceptions that OpenTelemetry carries as attributes: `exception.type`, `exception.message`, `exception.stacktrace`.
//!
//! Source: OpenTelemetry semantic conventions, "Exceptions".

use crate::traceback;
use br_model::{
    AttributeValue, Attributes, ErrorEvent, Exception, LogBatch, LogKind, LogRecord, Resource, ResourceLogs, ResourceSpans,
    Severity, Span, SpanBatch, SpanEvent,
};
use br_std::hash::hash128;
use std::fmt::Write;

const TYPE_KEY: &str = "exception.type";
const MESSAGE_KEY: &str = "exception.message";
const STACKTRACE_KEY: &str = "exception.stacktrace";

/// An error record for each span event named `exception`, with the span's ids.
pub fn errors_of_spans(batch: &SpanBatch) -> LogBatch {
    let groups = batch.groups.iter().filter_map(resource_errors);
    LogBatch { groups: groups.collect() }
}

/// [`errors_of_spans`] for one resource; `None` when it has none.
pub fn resource_errors(group: &ResourceSpans) -> Option<ResourceLogs> {
    let mut records = Vec::new();
    for span in &group.spans {
        let exceptions = span.events.iter().enumerate().filter(|(_, event)| event.name == "exception");
        records.extend(exceptions.filter_map(|(at, event)| record(span, at, event, &group.resource)));
    }
    (!records.is_empty()).then(|| ResourceLogs { resource: group.resource.clone(), scope: group.scope.clone(), records })
}

fn record(span: &Span, at: usize, event: &SpanEvent, resource: &Resource) -> Option<LogRecord> {
    let exceptions = exceptions_of(&event.attributes)?;
    let mut error = error_event(exceptions, &event.attributes, resource);
    error.event_id = event_id(&[&span.trace_id.0, &span.span_id.0, &(at as u64).to_le_bytes()]);
    span.name.clone_into(&mut error.transaction);
    let mut attributes = event.attributes.clone();
    attributes.push("span.name", span.name.clone());
    Some(LogRecord {
        timestamp: event.timestamp,
        observed: event.timestamp,
        kind: LogKind::Error,
        severity: Severity::ERROR,
        severity_text: "ERROR".into(),
        body: error.title(),
        attributes,
        trace_id: span.trace_id,
        span_id: span.span_id,
        error: Some(Box::new(error)),
    })
}

/// Makes a log record with an exception an error, as Python's logging handler sends them.
pub(crate) fn error_of_log(record: &mut LogRecord, resource: &Resource) {
    let Some(exceptions) = exceptions_of(&record.attributes) else { return };
    let mut error = error_event(exceptions, &record.attributes, resource);
    let time = record.timestamp.0.to_le_bytes();
    error.event_id = event_id(&[&record.trace_id.0, &record.span_id.0, &time, record.body.as_bytes(), error.title().as_bytes()]);
    record.body.clone_into(&mut error.message);
    if record.severity == Severity::UNSPECIFIED {
        record.severity = Severity::ERROR;
    }
    record.kind = LogKind::Error;
    record.error = Some(Box::new(error));
}

/// Adds the attributes from which [`error_of_log`] makes the exceptions again, where the record has none of its own.
pub(super) fn add_exception_attributes(record: &LogRecord, attributes: &mut Attributes) {
    let Some(exception) = record.error.as_ref().and_then(|error| error.primary()) else { return };
    if attributes.get(TYPE_KEY).is_some() || attributes.get(STACKTRACE_KEY).is_some() {
        return;
    }
    let dot = if exception.module.is_empty() { "" } else { "." };
    attributes.push(TYPE_KEY, format!("{}{dot}{}", exception.module, exception.exception_type));
    attributes.push(MESSAGE_KEY, exception.value.clone());
    let stacktrace = match record.error.as_ref() {
        Some(error) if exception.stacktrace_text.is_empty() => traceback_text(&error.exceptions),
        _ => exception.stacktrace_text.clone(),
    };
    attributes.push(STACKTRACE_KEY, stacktrace);
}

/// A chain as Python writes it.
fn traceback_text(exceptions: &[Exception]) -> String {
    let mut text = String::new();
    for (at, exception) in exceptions.iter().enumerate() {
        if at > 0 {
            text.push_str("\nDuring handling of the above exception, another exception occurred:\n\n");
        }
        if exception.is_group {
            text.push_str("Exception Group ");
        }
        text.push_str("Traceback (most recent call last):\n");
        for frame in &exception.frames {
            let path = if frame.path.is_empty() { &frame.filename } else { &frame.path };
            // Writing to a String cannot fail.
            let _ = writeln!(text, "  File \"{path}\", line {}, in {}", frame.line, frame.function);
            if !frame.context_line.is_empty() {
                let _ = writeln!(text, "    {}", frame.context_line);
            }
        }
        let dot = if exception.module.is_empty() { "" } else { "." };
        let _ = writeln!(text, "{}{dot}{}: {}", exception.module, exception.exception_type, exception.value);
    }
    text
}

fn exceptions_of(attributes: &Attributes) -> Option<Vec<Exception>> {
    let text = |key| attributes.get(key).and_then(AttributeValue::as_str).unwrap_or_default();
    let (qualified, message, stacktrace) = (text(TYPE_KEY), text(MESSAGE_KEY), text(STACKTRACE_KEY));
    if qualified.is_empty() && stacktrace.is_empty() {
        return None;
    }
    let mut exceptions = traceback::parse(stacktrace);
    if exceptions.is_empty() {
        exceptions.push(Exception::default());
    }
    // The list has one entry at least: it was pushed above.
    let last = exceptions.last_mut()?;
    if !qualified.is_empty() {
        let (module, exception_type) = traceback::split_type(qualified);
        module.clone_into(&mut last.module);
        exception_type.clone_into(&mut last.exception_type);
    }
    if !message.is_empty() {
        message.clone_into(&mut last.value);
    }
    if last.frames.is_empty() {
        stacktrace.clone_into(&mut last.stacktrace_text);
    }
    Some(exceptions)
}

fn error_event(exceptions: Vec<Exception>, attributes: &Attributes, resource: &Resource) -> ErrorEvent {
    let of_resource = |key: &str| resource.attributes.get_str(key).unwrap_or_default().to_owned();
    let escaped = attributes.get("exception.escaped").map(|value| value.to_string().eq_ignore_ascii_case("true"));
    let environment = match of_resource("deployment.environment.name") {
        name if name.is_empty() => of_resource("deployment.environment"),
        name => name,
    };
    let sdk = format!("{} {}", of_resource("telemetry.sdk.name"), of_resource("telemetry.sdk.version"));
    let mut raw = String::new();
    // Writing to a String cannot fail.
    let _ = AttributeValue::Map(attributes.clone()).write_json(&mut raw);
    ErrorEvent {
        exceptions,
        release: of_resource("service.version"),
        environment,
        platform: of_resource("telemetry.sdk.language"),
        sdk: sdk.trim().to_owned(),
        handled: escaped.map(|escaped| !escaped),
        raw,
        ..ErrorEvent::default()
    }
}

fn event_id(parts: &[&[u8]]) -> String {
    format!("{:032x}", hash128(&parts.join(&0xff_u8)))
}
