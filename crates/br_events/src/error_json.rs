//! An error event as JSON text, in the typed form of [`crate::json`].

use crate::json::{decode_attributes, encode_attributes, text_of};
use br_model::{AttributeValue, Attributes, ErrorEvent, Exception, Frame};
use br_std::Result;

pub(crate) fn encode_error(event: &ErrorEvent) -> String {
    let mut object = Attributes::default();
    object.push("event_id", event.event_id.clone());
    object.push("exceptions", AttributeValue::Array(event.exceptions.iter().map(exception_value).collect()));
    object.push("message", event.message.clone());
    object.push("message_template", event.message_template.clone());
    object.push("fingerprint", AttributeValue::Array(event.fingerprint.iter().map(|part| part.clone().into()).collect()));
    object.push("transaction", event.transaction.clone());
    object.push("release", event.release.clone());
    object.push("environment", event.environment.clone());
    object.push("platform", event.platform.clone());
    object.push("sdk", event.sdk.clone());
    if let Some(handled) = event.handled {
        object.push("handled", handled);
    }
    object.push("raw", event.raw.clone());
    encode_attributes(&object)
}

fn exception_value(exception: &Exception) -> AttributeValue {
    let mut object = Attributes::default();
    object.push("type", exception.exception_type.clone());
    object.push("value", exception.value.clone());
    object.push("module", exception.module.clone());
    object.push("frames", AttributeValue::Array(exception.frames.iter().map(frame_value).collect()));
    object.push("stacktrace", exception.stacktrace_text.clone());
    object.push("is_group", exception.is_group);
    AttributeValue::Map(object)
}

fn frame_value(frame: &Frame) -> AttributeValue {
    let mut object = Attributes::default();
    object.push("function", frame.function.clone());
    object.push("module", frame.module.clone());
    object.push("filename", frame.filename.clone());
    object.push("path", frame.path.clone());
    object.push("line", i64::from(frame.line));
    object.push("in_app", frame.in_app);
    object.push("context_line", frame.context_line.clone());
    AttributeValue::Map(object)
}

pub(crate) fn decode_error(text: &str) -> Result<ErrorEvent> {
    let object = decode_attributes(text)?;
    Ok(ErrorEvent {
        event_id: text_of(&object, "event_id"),
        exceptions: objects_of(&object, "exceptions").map(exception_of).collect(),
        message: text_of(&object, "message"),
        message_template: text_of(&object, "message_template"),
        fingerprint: array_of(&object, "fingerprint").iter().filter_map(|part| part.as_str().map(str::to_owned)).collect(),
        transaction: text_of(&object, "transaction"),
        release: text_of(&object, "release"),
        environment: text_of(&object, "environment"),
        platform: text_of(&object, "platform"),
        sdk: text_of(&object, "sdk"),
        handled: bool_of(&object, "handled"),
        raw: text_of(&object, "raw"),
    })
}

fn exception_of(object: &Attributes) -> Exception {
    Exception {
        exception_type: text_of(object, "type"),
        value: text_of(object, "value"),
        module: text_of(object, "module"),
        frames: objects_of(object, "frames").map(frame_of).collect(),
        stacktrace_text: text_of(object, "stacktrace"),
        is_group: bool_of(object, "is_group").unwrap_or(false),
    }
}

fn frame_of(object: &Attributes) -> Frame {
    let line = match object.get("line") {
        Some(AttributeValue::Int(line)) => u32::try_from(*line).unwrap_or(0),
        _ => 0,
    };
    Frame {
        function: text_of(object, "function"),
        module: text_of(object, "module"),
        filename: text_of(object, "filename"),
        path: text_of(object, "path"),
        line,
        in_app: bool_of(object, "in_app").unwrap_or(false),
        context_line: text_of(object, "context_line"),
    }
}

fn bool_of(object: &Attributes, key: &str) -> Option<bool> {
    match object.get(key) {
        Some(AttributeValue::Bool(value)) => Some(*value),
        _ => None,
    }
}

fn array_of<'a>(object: &'a Attributes, key: &str) -> &'a [AttributeValue] {
    match object.get(key) {
        Some(AttributeValue::Array(values)) => values,
        _ => &[],
    }
}

/// The objects in an array; what is not an object is left out.
pub(crate) fn objects_of<'a>(object: &'a Attributes, key: &str) -> impl Iterator<Item = &'a Attributes> {
    array_of(object, key).iter().filter_map(|value| match value {
        AttributeValue::Map(attributes) => Some(attributes),
        _ => None,
    })
}
