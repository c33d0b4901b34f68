//! By which number error events are gathered into issues, and why: the algorithm `br1`.
//!
//! In this order the first that tells something decides: the sender's fingerprint, the chain of exceptions with the places
//! that they came through, the message. `docs/grouping.md` says it for people. The number is a pure function of the event, so
//! that a replay of the journal and a reading of stored events find the same.

mod message;
mod place;
mod rules;

use crate::{ErrorEvent, Exception, Frame};
use br_std::hash::hash64;
use message::parameterised;
use std::collections::BTreeSet;
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
    Grouping { hash: hash64(format!("{ALGORITHM}\u{1e}{text}").as_bytes()), explanation }
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
#[derive(PartialEq, Eq, PartialOrd, Ord)]
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
    let is_group = |exception: &&Exception| is_exception_group(exception);
    let (groups, others): (Vec<&Exception>, Vec<&Exception>) = event.exceptions.iter().partition(is_group);
    if groups.is_empty() {
        // A retry that fails again and again makes a chain of one link.
        let mut chain: Vec<Key> = others.into_iter().map(exception_key).collect();
        chain.dedup_by(|one, other| one.text == other.text);
        return joined(&chain, " then ");
    }
    // How many members of a kind there are, and in which order they ended, is chance.
    let members: BTreeSet<Key> = others.into_iter().map(exception_key).collect();
    let mut groups: Vec<Key> = groups.into_iter().map(exception_key).collect();
    groups.dedup_by(|one, other| one.text == other.text);
    let (groups, members) = (joined(&groups, " in "), joined(&members.into_iter().collect::<Vec<_>>(), " and "));
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

fn exception_key(exception: &Exception) -> Key {
    let exception_type = &exception.exception_type;
    let path = contributing(exception);
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

/// One frame, as far as it tells one fault from another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Step {
    place: String,
    function: String,
}

struct CallPath {
    /// Outermost first.
    steps: Vec<Step>,
    left_out: [(usize, &'static str); 4],
}

/// The frames that count: the service's own below the framework, or where there are none all of the libraries'.
fn contributing(exception: &Exception) -> CallPath {
    let frames: Vec<&Frame> = exception.frames.iter().filter(|frame| !rules::is_comprehension(&frame.function)).collect();
    let is_own = |frame: &Frame| frame.in_app && !place::is_standard_library(frame);
    let step = |frame: &&Frame| Step { place: place::place(frame), function: function_name(frame) };
    let all: Vec<(Step, bool)> =
        frames.iter().map(|frame| (step(frame), is_own(frame))).filter(|(step, _)| !step.is_blank()).collect();
    let has_own = all.iter().any(|(_, is_own)| *is_own);
    let innermost_own = all.iter().rposition(|(_, is_own)| *is_own).unwrap_or(0);
    let handed_over = all[..innermost_own].iter().rposition(|(step, is_own)| !is_own && rules::is_dispatcher(&step.place));
    let (outside, inside) = all.split_at(handed_over.unwrap_or(0));
    let middleware = outside.iter().filter(|(_, is_own)| *is_own).count();
    let mut steps: Vec<Step> = inside.iter().filter(|(_, is_own)| *is_own == has_own).map(|(step, _)| step.clone()).collect();
    let libraries = all.len() - steps.len() - middleware;
    let before = steps.len();
    drop_wrappers(&mut steps, has_own);
    let wrappers = before - steps.len();
    let before = steps.len();
    let steps = without_recursion(steps, exception.exception_type == "RecursionError");
    let recursive = before - steps.len();
    let left_out = [
        (libraries, "of libraries"),
        (middleware, "outside the framework"),
        (wrappers, "that only wrap"),
        (recursive, "of recursion"),
    ];
    CallPath { steps, left_out }
}

impl Step {
    fn is_blank(&self) -> bool {
        self.place.is_empty() && self.function.is_empty()
    }
}

/// The innermost frame stays whatever it is: there it happened.
fn drop_wrappers(steps: &mut Vec<Step>, is_own: bool) {
    let Some(innermost) = steps.pop() else { return };
    if is_own {
        steps.retain(|step| !rules::is_wrapper_function(&step.function));
        // Where a program starts does not tell one fault from another: a span within `main` does not even see it.
        let entry = steps.iter().take_while(|step| step.function == "<module>").count();
        steps.drain(..entry);
    } else {
        steps.retain(|step| !rules::is_wrapper(&step.place));
    }
    steps.push(innermost);
}

/// Cycles longer than this are not looked for.
const CYCLE_MAX: usize = 8;

/// A cycle of calls counts once, however often it was gone through. Where the stack ran out, only the cycle counts: at which of
/// its functions that happens is chance.
fn without_recursion(steps: Vec<Step>, has_run_out: bool) -> Vec<Step> {
    if has_run_out {
        let mut sorted = steps.clone();
        sorted.sort();
        let often = sorted.chunk_by(|one, other| one == other).filter(|same| same.len() >= 3).map(|same| same[0].clone());
        let cycle: Vec<Step> = often.collect();
        if !cycle.is_empty() {
            return cycle;
        }
    }
    let mut folded: Vec<Step> = Vec::with_capacity(steps.len());
    for step in steps {
        folded.push(step);
        let is_repeated = |length: &usize| {
            let (before, last) = folded.split_at(folded.len() - length);
            before.ends_with(last)
        };
        if let Some(length) = (1..=CYCLE_MAX.min(folded.len() / 2)).find(is_repeated) {
            folded.truncate(folded.len() - length);
        }
    }
    folded
}

/// Without class and enclosing functions, which few senders tell.
fn function_name(frame: &Frame) -> String {
    let function = frame.function.trim();
    let bare = match function.rsplit_once('.') {
        Some((_, name)) if !name.is_empty() && !function.starts_with('<') => name,
        _ => function,
    };
    bare.to_owned()
}

#[cfg(test)]
mod tests;
