//! By which number error events are gathered into issues, and why: the algorithm `br1`.
//!
//! In this order the first that tells something decides: the sender's fingerprint, the chain of exceptions with the places
//! that they came through, the message. `docs/grouping.md` says it for people. The number is a pure function of the event, so
//! that a replay of the journal and a reading of stored events find the same.

mod call_path;
mod message;
mod place;
mod rules;

use crate::{ErrorEvent, Exception};
use br_std::hash::hash64;
use call_path::{CallPath, function_name, has_own_frames};
use message::parameterised;
use std::fmt::Write;

/// Goes into every hash: another algorithm must not find these issues by chance.
const ALGORITHM: &str = "br1";
/// An explanation is for people: of a long stack its inner end.
const PLACES_SHOWN_MAX: usize = 12;
const EXPLANATION_BYTES_MAX: usize = 2000;
/// Frames that tell one raise from another; see [`raise_stack`].
const RAISE_FRAMES_MAX: usize = 64;

/// What an event is gathered by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grouping {
    pub hash: u64,
    /// `br1: KeyError in shop.three.from_web → shop.three.need; left out: 2 of libraries`
    pub explanation: String,
    /// The sender's fingerprint decided, or took part.
    pub is_custom: bool,
}

/// The grouping of an event.
pub fn group(event: &ErrorEvent) -> Grouping {
    let default = default_key(event);
    let parts: Vec<&str> = event.fingerprint.iter().map(|part| part.trim()).filter(|part| !part.is_empty()).collect();
    let is_default = parts.iter().all(|part| variable(part) == Some("default"));
    let (text, why) = if is_default {
        (default.text, default.why)
    } else {
        let values: Vec<String> = parts.iter().map(|part| fingerprint_part(part, event, &default.text)).collect();
        let mut why = format!("fingerprint of the sender: {}", parts.join(", "));
        if parts.iter().any(|part| variable(part) == Some("default")) {
            let _ = write!(why, "; default: {}", default.why);
        }
        (format!("fingerprint\u{1e}{}", values.join("\u{1f}")), why)
    };
    let mut explanation = format!("{ALGORITHM}: {why}");
    explanation.truncate(explanation.floor_char_boundary(EXPLANATION_BYTES_MAX));
    Grouping { hash: hash64(format!("{ALGORITHM}\u{1e}{text}").as_bytes()), explanation, is_custom: !is_default }
}

/// Tells whether two reports are of the same raise, though one may have been made further out: the stack of the outer one
/// then ends as that of the inner one. One hash for each frame from the innermost outwards, over it and all further in, with
/// lines and without wrappers. Empty when the event has no frames.
pub fn raise_stack(event: &ErrorEvent) -> Vec<u64> {
    let Some(exception) = event.primary() else { return Vec::new() };
    let mut stack = Vec::new();
    let mut so_far = hash64(exception.exception_type.as_bytes());
    for (at, frame) in exception.frames.iter().rev().enumerate() {
        if at > 0 && rules::is_wrapper(&place::place(frame)) {
            continue;
        }
        let key = format!("{so_far:x}\u{1f}{}\u{1f}{}\u{1f}{}", place::file_stem(frame), function_name(frame), frame.line);
        so_far = hash64(key.as_bytes());
        stack.push(so_far);
        if stack.len() == RAISE_FRAMES_MAX {
            break;
        }
    }
    stack
}

/// What is hashed, and how a person reads it.
struct Key {
    text: String,
    why: String,
}

/// `default` of `{{ default }}`.
fn variable(part: &str) -> Option<&str> {
    Some(part.strip_prefix("{{")?.strip_suffix("}}")?.trim())
}

fn fingerprint_part(part: &str, event: &ErrorEvent, default: &str) -> String {
    let primary = event.primary();
    let culprit = event.culprit();
    match variable(part) {
        Some("default") => default.to_owned(),
        Some("type" | "error.type") => primary.map(|exception| exception.exception_type.clone()).unwrap_or_default(),
        Some("value" | "error.value") => primary.map(|exception| exception.value.clone()).unwrap_or_default(),
        Some("message") => event.title(),
        Some("transaction") => event.transaction.clone(),
        Some("function" | "stack.function") => culprit.map(|frame| frame.function.clone()).unwrap_or_default(),
        Some("module" | "stack.module") => culprit.map(place::place).unwrap_or_default(),
        _ => part.to_owned(),
    }
}

fn default_key(event: &ErrorEvent) -> Key {
    if event.exceptions.is_empty() {
        let template = if event.message_template.is_empty() { &event.message } else { &event.message_template };
        let text = parameterised(template);
        return Key { why: format!("message \"{text}\""), text: format!("message\u{1e}{text}") };
    }
    // What a library does within itself changes with its version: only where the service's own code is nowhere it must do.
    let is_of_libraries = !event.exceptions.iter().any(has_own_frames);
    let keys_of = |exceptions: Vec<&Exception>| -> Vec<Key> {
        let mut keys: Vec<Key> = exceptions.into_iter().map(|exception| exception_key(exception, is_of_libraries)).collect();
        // A retry that fails again and again makes a chain of one link.
        keys.dedup_by(|one, other| one.text == other.text);
        keys
    };
    let (groups, others): (Vec<&Exception>, Vec<&Exception>) =
        event.exceptions.iter().partition(|exception| is_exception_group(exception));
    let mut members = keys_of(others);
    if groups.is_empty() {
        return joined(&members, " then ");
    }
    // How many members of a kind there are, and in which order they ended, is chance.
    members.sort_by(|one, other| one.text.cmp(&other.text));
    members.dedup_by(|one, other| one.text == other.text);
    let (groups, members) = (joined(&keys_of(groups), " in "), joined(&members, " and "));
    Key { text: format!("{}\u{1c}{}", groups.text, members.text), why: format!("{} of {}", groups.why, members.why) }
}

fn joined(keys: &[Key], between: &str) -> Key {
    let texts: Vec<&str> = keys.iter().map(|key| key.text.as_str()).collect();
    let whys: Vec<&str> = keys.iter().map(|key| key.why.as_str()).collect();
    Key { text: texts.join("\u{1d}"), why: whys.join(between) }
}

fn is_exception_group(exception: &Exception) -> bool {
    exception.is_group || matches!(exception.exception_type.as_str(), "ExceptionGroup" | "BaseExceptionGroup")
}

fn exception_key(exception: &Exception, is_of_libraries: bool) -> Key {
    let exception_type = &exception.exception_type;
    if !is_of_libraries && !exception.frames.is_empty() && !has_own_frames(exception) {
        return Key { text: exception_type.clone(), why: format!("{exception_type} in libraries") };
    }
    let path = CallPath::of(exception);
    if path.steps.is_empty() {
        let value = parameterised(&exception.value);
        let why = format!("{exception_type} \"{value}\"");
        return Key { text: format!("{exception_type}\u{1e}value\u{1f}{value}"), why };
    }
    let steps: Vec<String> = path.steps.iter().map(|step| format!("{}\u{1f}{}", step.place, step.function)).collect();
    let inner = path.steps.len().saturating_sub(PLACES_SHOWN_MAX);
    let shown: Vec<String> = path.steps[inner..].iter().map(|step| format!("{}.{}", step.place, step.function)).collect();
    let mut why = format!("{exception_type} in {}{}", if inner > 0 { "… → " } else { "" }, shown.join(" → "));
    let left_out: Vec<String> =
        path.left_out.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    if !left_out.is_empty() {
        let _ = write!(why, " (left out: {})", left_out.join(", "));
    }
    Key { text: format!("{exception_type}\u{1e}{}", steps.join("\u{1d}")), why }
}

#[cfg(test)]
mod tests;
