//! Events: exceptions and messages.

use super::Context;
use crate::json::{attribute_value, string, text, time};
use crate::{Limits, traceback};
use br_model::{Attributes, ErrorEvent, Exception, Frame, LogKind, LogRecord, Resource, Severity, SpanId, TraceId};
use br_std::hash::hash128;
use serde_json::{Map, Value};

/// Frames kept of one exception, those in the middle go first; and exceptions of one event.
const FRAMES_MAX: usize = 512;
const EXCEPTIONS_MAX: usize = 64;

pub(super) fn record(mut event: Value, context: Context<'_>, limits: &Limits) -> (Resource, LogRecord) {
    let resource = resource(&event, context);
    if let Some(map) = event.as_object_mut() {
        // The list of installed packages is the larger half of an event and the same in all of them.
        map.remove("modules");
    }
    let (trace_id, span_id) = trace_ids(&event);
    let level = string(&event, "level");
    let severity = match Severity::from_text(level) {
        Severity::UNSPECIFIED => Severity::ERROR,
        severity => severity,
    };
    let error = error_event(&event);
    let timestamp = event.get("timestamp").and_then(time).unwrap_or(context.received);
    let mut record = LogRecord {
        timestamp,
        observed: context.received,
        kind: LogKind::Error,
        severity,
        severity_text: if level.is_empty() { "error".into() } else { level.to_owned() },
        body: error.title(),
        attributes: attributes(&event, &error, limits),
        trace_id,
        span_id,
        error: Some(Box::new(error)),
    };
    crate::marks::finish(&mut record, limits);
    (resource, record)
}

/// The ids in `contexts.trace`.
pub(super) fn trace_ids(event: &Value) -> (TraceId, SpanId) {
    let trace = event.pointer("/contexts/trace").unwrap_or(&Value::Null);
    let trace_id = TraceId::from_hex(string(trace, "trace_id")).unwrap_or_default();
    (trace_id, SpanId::from_hex(string(trace, "span_id")).unwrap_or_default())
}

/// Tags come as an object, or as pairs from older SDKs.
pub(super) fn tags(event: &Value) -> Vec<(&str, &Value)> {
    match event.get("tags") {
        Some(Value::Object(map)) => map.iter().map(|(key, value)| (key.as_str(), value)).collect(),
        Some(Value::Array(pairs)) => pairs.iter().filter_map(|pair| Some((pair.get(0)?.as_str()?, pair.get(1)?))).collect(),
        _ => Vec::new(),
    }
}

pub(super) fn resource(event: &Value, context: Context<'_>) -> Resource {
    let tag = |name: &str| tags(event).into_iter().find(|(key, _)| *key == name).map(|(_, value)| text(value));
    let release = string(event, "release");
    let (package, version) = release.split_once('@').unwrap_or(("", release));
    let told = event.pointer("/contexts/otel/resource/service.name").and_then(Value::as_str).map(str::to_owned);
    let service = told.or_else(|| tag("service.name")).or_else(|| tag("service")).filter(|name| !name.is_empty());
    let service = service.unwrap_or_else(|| if package.is_empty() { context.service } else { package }.to_owned());
    let sdk = event.get("sdk").unwrap_or(&Value::Null);
    let mut attributes = Attributes::default();
    for (key, value) in [
        ("service.name", service.as_str()),
        ("service.version", version),
        ("deployment.environment.name", string(event, "environment")),
        ("host.name", string(event, "server_name")),
        ("telemetry.sdk.name", string(sdk, "name")),
        ("telemetry.sdk.version", string(sdk, "version")),
        ("telemetry.sdk.language", string(event, "platform")),
    ] {
        if !value.is_empty() {
            attributes.push(key, value);
        }
    }
    Resource { attributes }
}

fn error_event(event: &Value) -> ErrorEvent {
    let sdk = event.get("sdk").unwrap_or(&Value::Null);
    let exceptions = exceptions(event);
    let given_id = string(event, "event_id").replace('-', "");
    let raw = event.to_string();
    let mechanisms = values_of(event.get("exception"));
    let handled = mechanisms.iter().rev().find_map(|exception| exception.pointer("/mechanism/handled")?.as_bool());
    let fingerprint = event.get("fingerprint").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    ErrorEvent {
        event_id: if given_id.is_empty() { format!("{:032x}", hash128(raw.as_bytes())) } else { given_id },
        exceptions,
        message: message(event),
        message_template: message_template(event),
        fingerprint: fingerprint.iter().map(text).collect(),
        transaction: string(event, "transaction").to_owned(),
        release: string(event, "release").to_owned(),
        environment: string(event, "environment").to_owned(),
        platform: string(event, "platform").to_owned(),
        sdk: format!("{} {}", string(sdk, "name"), string(sdk, "version")).trim().to_owned(),
        handled,
        raw,
    }
}

/// `logentry`, which SDKs of all ages also call `message`, as text or with parameters.
fn message(event: &Value) -> String {
    let entries = [event.get("logentry"), event.get("sentry.interfaces.Message"), event.get("message")];
    let texts = entries.into_iter().flatten().map(|entry| match entry {
        Value::Object(_) => {
            let formatted = string(entry, "formatted");
            if formatted.is_empty() { formatted_message(entry) } else { formatted.to_owned() }
        }
        other => text(other),
    });
    texts.into_iter().find(|text| !text.is_empty()).unwrap_or_default()
}

/// What the program wrote before values were put in; empty where there is no sign that any were.
fn message_template(event: &Value) -> String {
    let entries = [event.get("logentry"), event.get("sentry.interfaces.Message"), event.get("message")];
    let entry = entries.into_iter().flatten().find(|entry| entry.is_object()).unwrap_or(&Value::Null);
    let template = string(entry, "message");
    let has_params = match entry.get("params") {
        Some(Value::Array(params)) => !params.is_empty(),
        Some(Value::Object(params)) => !params.is_empty(),
        _ => false,
    };
    let formatted = string(entry, "formatted");
    if has_params || !formatted.is_empty() && formatted != template { template.to_owned() } else { String::new() }
}

/// `quota for %s exceeded` with its parameters put in, where each `%s` has one.
fn formatted_message(entry: &Value) -> String {
    let template = string(entry, "message");
    let Some(params) = entry.get("params").and_then(Value::as_array) else { return template.to_owned() };
    let mut parts = template.split("%s");
    let mut message = parts.next().unwrap_or_default().to_owned();
    let mut params = params.iter();
    for part in parts {
        message.push_str(&params.next().map_or_else(|| "%s".to_owned(), text));
        message.push_str(part);
    }
    message
}

/// `{"values": […]}`, the bare list, or one exception alone: SDKs have sent all three.
fn values_of(field: Option<&Value>) -> Vec<&Value> {
    match field {
        Some(Value::Array(values)) => values.iter().collect(),
        Some(Value::Object(map)) => match map.get("values") {
            Some(Value::Array(values)) => values.iter().collect(),
            _ => field.into_iter().collect(),
        },
        _ => Vec::new(),
    }
}

fn exceptions(event: &Value) -> Vec<Exception> {
    let field = event.get("exception").or_else(|| event.get("sentry.interfaces.Exception"));
    let values = values_of(field).into_iter().filter(|value| value.is_object());
    let mut exceptions: Vec<Exception> = values.map(exception).collect();
    let surplus = exceptions.len().saturating_sub(EXCEPTIONS_MAX);
    exceptions.drain(..surplus);
    exceptions
}

fn exception(value: &Value) -> Exception {
    let mut frames: Vec<Frame> = value
        .pointer("/stacktrace/frames")
        .and_then(Value::as_array)
        .map(|frames| frames.iter().filter(|frame| frame.is_object()).map(frame).collect())
        .unwrap_or_default();
    if frames.len() > FRAMES_MAX {
        // Recursion fills the middle; where it began and where it ended tells more.
        let surplus = frames.len() - FRAMES_MAX;
        frames.drain(FRAMES_MAX / 2..FRAMES_MAX / 2 + surplus);
    }
    Exception {
        exception_type: string(value, "type").to_owned(),
        value: value.get("value").map(text).unwrap_or_default(),
        module: string(value, "module").to_owned(),
        frames,
        stacktrace_text: String::new(),
        is_group: value.pointer("/mechanism/is_exception_group").and_then(Value::as_bool).unwrap_or(false),
    }
}

fn frame(value: &Value) -> Frame {
    let path = match string(value, "abs_path") {
        "" => string(value, "filename"),
        path => path,
    };
    let line = value.get("lineno").and_then(Value::as_u64).and_then(|line| u32::try_from(line).ok());
    Frame {
        function: string(value, "function").to_owned(),
        module: string(value, "module").to_owned(),
        filename: match string(value, "filename") {
            "" => path.to_owned(),
            filename => filename.to_owned(),
        },
        path: if path == string(value, "filename") { String::new() } else { path.to_owned() },
        line: line.unwrap_or(0),
        in_app: value.get("in_app").and_then(Value::as_bool).unwrap_or_else(|| traceback::is_in_app(path)),
        context_line: string(value, "context_line").trim().to_owned(),
    }
}

/// What a person filters by: tags, user, request, logger. The rest stays in the raw event.
fn attributes(event: &Value, error: &ErrorEvent, limits: &Limits) -> Attributes {
    let mut attributes = Attributes::default();
    if let Some(primary) = error.primary() {
        attributes.push("exception.type", primary.exception_type.clone());
        attributes.push("exception.message", primary.value.clone());
    }
    let request = event.get("request").unwrap_or(&Value::Null);
    for (key, value) in [
        ("logger.name", string(event, "logger")),
        ("transaction", string(event, "transaction")),
        ("http.request.method", string(request, "method")),
        ("url.full", string(request, "url")),
    ] {
        if !value.is_empty() {
            attributes.push(key, value);
        }
    }
    if let Some(Value::Object(user)) = event.get("user") {
        add_all(&mut attributes, "user.", user, limits);
    }
    for (key, value) in tags(event) {
        if attributes.len() < limits.attributes_max && attributes.get(key).is_none() {
            attributes.push(key, attribute_value(value.clone()));
        }
    }
    attributes
}

pub(super) fn add_all(attributes: &mut Attributes, prefix: &str, map: &Map<String, Value>, limits: &Limits) {
    for (key, value) in map.iter().filter(|(_, value)| !value.is_null()) {
        if attributes.len() < limits.attributes_max {
            attributes.push(format!("{prefix}{key}"), attribute_value(value.clone()));
        }
    }
}
