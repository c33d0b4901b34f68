//! What is wrong with a rule file, and where.

use std::fmt;

/// A place in a text; both count from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    pub line: u32,
    pub column: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The rule or group cannot be used; Prometheus refuses the whole file.
    Error,
    /// Worth a look: something is not what it seems.
    Warning,
    /// The same rule twice: it may be meant, and whoever checks files may want to hear nothing of it.
    Duplicate,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    pub position: Position,
    pub severity: Severity,
    pub message: String,
}

impl Complaint {
    pub fn error(position: Position, message: impl Into<String>) -> Self {
        Self { position, severity: Severity::Error, message: message.into() }
    }

    pub fn duplicate(position: Position, message: impl Into<String>) -> Self {
        Self { position, severity: Severity::Duplicate, message: message.into() }
    }

    pub fn warning(position: Position, message: impl Into<String>) -> Self {
        Self { position, severity: Severity::Warning, message: message.into() }
    }
}

/// `12:5: unknown field "exprs"`.
impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = if self.severity == Severity::Error { "" } else { "warning: " };
        write!(f, "{}:{}: {prefix}{}", self.position.line, self.position.column, self.message)
    }
}
