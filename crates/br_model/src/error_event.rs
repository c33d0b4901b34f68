//! Exceptions that services report, from Sentry SDKs or from OpenTelemetry span events.

use br_std::hash::hash64;

/// One reported exception, with what is needed to group and to read it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ErrorEvent {
    /// 32 hexadecimal digits; made by the sender, or from trace, span and position where the sender has none.
    pub event_id: String,
    /// The chain of exceptions, the one that was raised last at the end, as Sentry orders it. Empty for a plain message.
    pub exceptions: Vec<Exception>,
    /// The message of an event without an exception.
    pub message: String,
    /// Grouping keys that the sender sets itself; `{{ default }}` stands for our own.
    pub fingerprint: Vec<String>,
    /// The function, view or task in which it happened.
    pub transaction: String,
    pub release: String,
    pub environment: String,
    pub platform: String,
    /// The SDK that sent it, such as `sentry.python 2.40.0`.
    pub sdk: String,
    /// Whether the program handled it itself; unknown when absent.
    pub handled: Option<bool>,
    /// The whole event as JSON, for reading it again with more knowledge.
    pub raw: String,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Exception {
    /// `ValueError`
    pub exception_type: String,
    pub value: String,
    pub module: String,
    /// Outermost call first, as Sentry orders them.
    pub frames: Vec<Frame>,
    /// The stack as text, where the sender has only that (OpenTelemetry).
    pub stacktrace_text: String,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Frame {
    pub function: String,
    pub module: String,
    pub filename: String,
    pub line: u32,
    /// Code of the service itself, not of a library.
    pub in_app: bool,
    /// The line of source that was running.
    pub context_line: String,
}

impl ErrorEvent {
    /// The exception that names the event: the last of the chain.
    pub fn primary(&self) -> Option<&Exception> {
        self.exceptions.last()
    }

    /// `ValueError: bad input`, or the message.
    pub fn title(&self) -> String {
        match self.primary() {
            Some(exception) if exception.value.is_empty() => exception.exception_type.clone(),
            Some(exception) => format!("{}: {}", exception.exception_type, exception.value),
            None => self.message.clone(),
        }
    }

    /// Where it happened: the innermost frame of the service's own code, else the innermost frame.
    pub fn culprit(&self) -> Option<&Frame> {
        let frames = &self.primary()?.frames;
        frames.iter().rev().find(|frame| frame.in_app).or(frames.last())
    }

    /// The number by which events are gathered into issues: the sender's fingerprint, else the types of the chain with
    /// module and function of their in-app frames (of all frames where none is in-app), else the message without its numbers.
    pub fn grouping_hash(&self) -> u64 {
        let custom: Vec<&str> = self.fingerprint.iter().map(String::as_str).filter(|part| !part.contains("{{")).collect();
        let has_default = self.fingerprint.is_empty() || custom.len() < self.fingerprint.len();
        let mut key = custom.join("\u{1f}");
        if has_default {
            key.push('\u{1e}');
            key.push_str(&self.default_grouping_key());
        }
        hash64(key.as_bytes())
    }

    fn default_grouping_key(&self) -> String {
        if self.exceptions.is_empty() {
            return without_numbers(&self.message);
        }
        let mut key = String::new();
        for exception in &self.exceptions {
            key.push_str(&exception.exception_type);
            let any_in_app = exception.frames.iter().any(|frame| frame.in_app);
            for frame in exception.frames.iter().filter(|frame| frame.in_app || !any_in_app) {
                key.push('\u{1f}');
                key.push_str(if frame.module.is_empty() { &frame.filename } else { &frame.module });
                key.push('\u{1f}');
                key.push_str(&frame.function);
            }
            if exception.frames.is_empty() {
                key.push('\u{1f}');
                key.push_str(&without_numbers(&exception.value));
            }
            key.push('\u{1d}');
        }
        key
    }
}

/// Replaces each word that holds a digit by `#`, so that "order 17 failed" and "order 18 failed" are one.
fn without_numbers(text: &str) -> String {
    let words = text.split_whitespace().map(|word| if word.bytes().any(|byte| byte.is_ascii_digit()) { "#" } else { word });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(line: u32, value: &str) -> ErrorEvent {
        let frame =
            |module: &str, line, in_app| Frame { function: "f".into(), module: module.into(), line, in_app, ..Frame::default() };
        let frames = vec![frame("shop.pay", line, true), frame("requests.api", 9, false)];
        let exception = Exception { exception_type: "Timeout".into(), value: value.into(), frames, ..Exception::default() };
        ErrorEvent { exceptions: vec![exception], ..ErrorEvent::default() }
    }

    #[test]
    fn line_numbers_and_values_do_not_split_an_issue_but_functions_do() {
        let one = event(10, "after 3 s");
        assert_eq!(one.grouping_hash(), event(12, "after 5 s").grouping_hash());
        let mut other = event(10, "after 3 s");
        other.exceptions[0].frames[0].function = "g".into();
        assert_ne!(one.grouping_hash(), other.grouping_hash());
        assert_eq!(one.culprit().map(|frame| frame.module.as_str()), Some("shop.pay"));
    }

    #[test]
    fn the_senders_fingerprint_wins() {
        let mut one = event(1, "a");
        let mut two = ErrorEvent { message: "else".into(), ..ErrorEvent::default() };
        one.fingerprint = vec!["payments".into()];
        two.fingerprint = vec!["payments".into()];
        assert_eq!(one.grouping_hash(), two.grouping_hash());
        two.fingerprint.push("{{ default }}".into());
        assert_ne!(one.grouping_hash(), two.grouping_hash());
    }
}
