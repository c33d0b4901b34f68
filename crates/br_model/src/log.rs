//! Log records. Errors and wide events are log records of their own kind.

use crate::{Attributes, ErrorEvent, Resource, Scope, SpanId, TraceId};
use br_std::Nanos;
use std::sync::Arc;

/// What a record in the `logs` table is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum LogKind {
    #[default]
    Log = 0,
    /// An exception that a service reported.
    Error = 1,
    /// A wide (analytics) event.
    Event = 2,
}

/// OpenTelemetry's severity number, 1..=24; 0 is unspecified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Severity(pub u8);

impl Severity {
    pub const UNSPECIFIED: Self = Self(0);
    pub const TRACE: Self = Self(1);
    pub const DEBUG: Self = Self(5);
    pub const INFO: Self = Self(9);
    pub const WARN: Self = Self(13);
    pub const ERROR: Self = Self(17);
    pub const FATAL: Self = Self(21);

    /// The word for the range that the number lies in; empty when unspecified.
    pub fn as_str(self) -> &'static str {
        match self.0 {
            1..=4 => "trace",
            5..=8 => "debug",
            9..=12 => "info",
            13..=16 => "warn",
            17..=20 => "error",
            21..=24 => "fatal",
            _ => "",
        }
    }

    /// Reads the words that loggers write, in any case: `WARNING`, `critical`, `err` …
    pub fn from_text(text: &str) -> Self {
        match text.to_ascii_lowercase().as_str() {
            "trace" => Self::TRACE,
            "debug" => Self::DEBUG,
            "info" | "information" | "informational" | "notice" => Self::INFO,
            "warn" | "warning" => Self::WARN,
            "error" | "err" | "exception" => Self::ERROR,
            "fatal" | "critical" | "crit" | "alert" | "emergency" | "emerg" | "panic" => Self::FATAL,
            _ => Self::UNSPECIFIED,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogRecord {
    /// When it happened; where the sender does not say, when it was observed.
    pub timestamp: Nanos,
    pub observed: Nanos,
    pub kind: LogKind,
    pub severity: Severity,
    /// The sender's own word for the severity.
    pub severity_text: String,
    pub body: String,
    pub attributes: Attributes,
    pub trace_id: TraceId,
    pub span_id: SpanId,
    /// For [`LogKind::Error`].
    pub error: Option<Box<ErrorEvent>>,
}

/// Records of one resource and scope.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ResourceLogs {
    pub resource: Arc<Resource>,
    pub scope: Arc<Scope>,
    pub records: Vec<LogRecord>,
}

/// What one request brings.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogBatch {
    pub groups: Vec<ResourceLogs>,
}

impl LogBatch {
    pub fn record_count(&self) -> usize {
        self.groups.iter().map(|group| group.records.len()).sum()
    }
}
