//! Exceptions that services report, from Sentry SDKs or from OpenTelemetry span events.

use crate::grouping::{self, Grouping};

/// One reported exception, with what is needed to group and to read it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ErrorEvent {
    /// 32 hexadecimal digits; made by the sender, or from trace, span and position where the sender has none.
    pub event_id: String,
    /// The chain of exceptions, the one that was raised last at the end, as Sentry orders it. Empty for a plain message.
    pub exceptions: Vec<Exception>,
    /// The message of an event without an exception.
    pub message: String,
    /// The message before its values were put in, such as `user %s failed to pay`; empty where the sender has none.
    pub message_template: String,
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
    /// It holds other exceptions, which stand before it in the chain.
    pub is_group: bool,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Frame {
    pub function: String,
    pub module: String,
    pub filename: String,
    /// The absolute path, where the sender tells it apart from the file's name.
    pub path: String,
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

    /// The number by which events are gathered into issues.
    pub fn grouping_hash(&self) -> u64 {
        self.grouping().hash
    }

    /// The number by which events are gathered into issues, and why.
    pub fn grouping(&self) -> Grouping {
        grouping::group(self)
    }

    /// Tells reports of the same raise; see [`grouping::raise_stack`].
    pub fn raise_stack(&self) -> Vec<u64> {
        grouping::raise_stack(self)
    }
}
